"""The formulas are what torch counts."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from knot_core.cli.bench.plain_loop import PlainLoop
from knot_core.cli.bench.random_models import Hum, network_config
from knot_core.codec.codec_flops import decode_flops, up_flops
from knot_core.codec.taehv import TAEHV, CodecConfig, UpConv
from knot_core.config import AudioCrossConfig, StreamSettings
from knot_core.stream import encode_latent_anchor, open_stream
from knot_core.wan.network_flops import Tokens, chunk_flops, pass_flops, plain_flops

TOKENS = 6  # of conftest's latent size
SETTINGS = StreamSettings(steps=2, num_window_frames=4)


class NoCodec:
    """Pictures for nothing."""

    def decode(self, latents, memory):  # noqa: ARG002
        return torch.zeros(1, 12, 3, 8, 8), ()


def counted(compute):
    # the fused kernel of CPUs is not counted, the one of plain products is
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        compute()
    return counter.get_total_flops()


@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
@pytest.mark.parametrize("text_tokens", [1, 5])
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, num_knot_frames=0),
        replace(SETTINGS, num_window_frames=0),
        replace(SETTINGS, use_anchor=False, num_chunk_frames=2),
        replace(SETTINGS, num_sink_frames=2, timesteps=(1000, 700, 400)),
    ],
)
def test_a_warm_chunk_takes_the_operations_that_the_formula_says(make_model, waves, layout, text_tokens, settings):
    model = replace(make_model(layout), codec=NoCodec())
    anchor = model.anchor(text=torch.randn(1, text_tokens, model.config.text_dim))
    stream = open_stream(model, anchor, settings, waves())
    for _ in range(3):
        next(stream)
    flops = chunk_flops(model.config, settings, Tokens(frame=TOKENS, text=text_tokens))
    assert counted(lambda: next(stream)) == flops.total


@pytest.mark.parametrize("text_tokens", [1, 5])
def test_sound_and_image_tokens_that_are_attended_to_are_counted(make_model, text_tokens):
    adapter = AudioCrossConfig(signal_dim=6, hidden_dim=8, num_tokens=3, token_dim=8)
    model = replace(make_model(adapter=adapter, image_dim=12), codec=NoCodec())
    text, image = torch.randn(1, text_tokens, model.config.text_dim), torch.randn(1, 7, 12)
    stream = open_stream(
        model, encode_latent_anchor(model, torch.randn(1, 1, 16, 4, 6), text, image), SETTINGS, Hum(model.config)
    )
    for _ in range(3):
        next(stream)
    flops = chunk_flops(model.config, SETTINGS, Tokens(frame=TOKENS, text=text_tokens, image=7))
    assert counted(lambda: next(stream)) == flops.total


def test_the_plain_loop_takes_the_operations_that_the_formula_says(make_model, waves):
    model = make_model()
    text = torch.randn(1, 5, model.config.text_dim)
    loop = PlainLoop(model, model.anchor(text=text), SETTINGS, waves())
    flops = plain_flops(model.config, SETTINGS, Tokens(frame=TOKENS, text=5))
    assert counted(loop.denoise) == flops


def test_decoding_takes_the_operations_that_the_formula_says():
    config = CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 6, 4, 2))
    codec = TAEHV(config)
    latents = torch.randn(1, 3, 16, 4, 6)
    _, memory = codec.decode(latents)
    summing = sum(counted(lambda part=part: part.eval()(torch.zeros(1, part.in_channels, 1, 1))) - up_once(part)
                  for part in codec.decoder if isinstance(part, UpConv))  # fmt: skip
    assert counted(lambda: codec.decode(latents, memory)) - summing == decode_flops(config, 3, (4, 6))


def up_once(part: UpConv) -> int:
    """The convolution of one pixel: `up_flops` without the 1x1 convolution; the rest is what its kernel costs."""
    return up_flops(part.in_channels, part.out_channels, 1, (1, 1)) - 2 * part.in_channels**2


@pytest.mark.parametrize(("name", "billions"), [("wan-1.3b", 1.419), ("wan-14b", 14.288)])
def test_a_token_costs_two_operations_per_weight_of_the_large_networks(name, billions):
    """With nothing to attend to but itself, and all the text but one token left out."""
    config = network_config(name)
    each = pass_flops(config, Tokens(frame=100_000, text=2), num_frames=1, num_keys=0) / 100_000
    # cross-attention's keys and values, the time and text embeddings are not run for every token
    per_layer = 2 * config.dim**2
    once = config.num_layers * per_layer + (config.text_dim + config.dim) * config.dim
    once += (config.freq_dim + 7 * config.dim) * config.dim
    assert each / 2 == pytest.approx(1e9 * billions - once, rel=0.005)


def test_depth_multiplies_all_but_the_edges():
    config = network_config("wan-1.3b")
    one, two, three = (
        pass_flops(replace(config, num_layers=layers), Tokens(frame=10, text=8), num_frames=4, num_keys=90)
        for layers in (1, 2, 3)
    )
    assert three - two == two - one > one / 2
