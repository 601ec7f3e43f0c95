"""State files of released versions, in tests/fixtures/VERSION/states, and the tiny models that they belong to.

Beside each `NAME.safetensors` lies `NAME.next.safetensors`: the latents of the chunk that comes after it. What is there
is never written again. A version that writes another kind of file adds a folder of its own:
`write_states(Path("tests/fixtures/vN/states"))`.

Shapes: B batch, T text or image tokens, D text dim, E image dim, F latent frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.config import AdapterConfig, AudioCrossConfig, NetworkConfig, StreamSettings
from knot_core.stream import Stream, encode_latent_anchor, open_stream
from knot_core.wan.network import WanNetwork

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SIZES = {"dim": 24, "ffn_dim": 32, "num_heads": 1, "num_layers": 2, "text_dim": 8, "freq_dim": 8}
LATENT_SIZE = (2, 2)  # one token


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """What a stream asks of a model, of weights that are the same bits on every machine."""

    network: nn.Module
    config: NetworkConfig
    codec: nn.Module
    device: torch.device
    dtype: torch.dtype


def counted(*shape: int, scale: float = 1.0) -> Tensor:
    """Numbers from -1 to 1 that a random generator of another machine could not change, times a power of two."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 37 + 11 * len(shape)) % 127 - 63).view(shape) / 64 * scale


@torch.no_grad()
def with_counted_weights(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        parameter.copy_(counted(*parameter.shape, scale=2.0 ** -max(2, fan_in.bit_length() // 2)))
    for part in module.modules():
        if isinstance(part, nn.LayerNorm | nn.RMSNorm) and part.weight is not None:
            part.weight.add_(1.0)
    return module.eval()


def stored_model(**changes: object) -> StoredModel:
    config = NetworkConfig(**SIZES, in_channels=36, layout="inpaint36", **changes)
    codec = TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(4, 4, 4, 4)))
    return StoredModel(
        network=with_counted_weights(WanNetwork(config)),
        config=config,
        codec=with_counted_weights(codec),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


@dataclass(frozen=True)
class Counting:
    """A driving without end."""

    entries: int
    width: int
    num_pixel_frames: None = None

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        numbers = torch.arange(first_latent, first_latent + num_latents)[:, None, None] * 5
        places = torch.arange(self.entries * self.width).view(self.entries, self.width)
        return ((numbers + 3 * places) % 17 - 8).float() / 8


@dataclass(frozen=True)
class Case:
    """One state: of which model, driven by what, and how a stream comes there."""

    model: Callable[[], StoredModel]
    driving: Counting
    stream: Callable[[StoredModel, Counting], Stream]  # where it is saved
    since: int = 1  # the version of the files that hold all of it


def _plain() -> StoredModel:
    return stored_model(adapter=AdapterConfig(signal_dim=5, hidden_dim=8, blocks=(0, 1)))


def _plain_stream(model: StoredModel, driving: Counting) -> Stream:
    """No prompt."""
    anchor = encode_latent_anchor(model, counted(1, 1, 16, *LATENT_SIZE))
    return _after(3, open_stream(model, anchor, StreamSettings(steps=2, num_window_frames=4), driving, seed=3))


def _prompted() -> StoredModel:
    return stored_model(adapter=AdapterConfig(signal_dim=5, hidden_dim=8, blocks=(1,)), image_dim=6)


def _prompted_stream(model: StoredModel, driving: Counting) -> Stream:
    """A prompt that was changed on the way, one that guidance leads away from, CLIP tokens, sinks that follow, another
    driving, and a window that is still to be computed again.
    """
    text, negative = counted(1, 5, SIZES["text_dim"]), counted(1, 5, SIZES["text_dim"], scale=0.5)
    anchor = encode_latent_anchor(model, counted(1, 1, 16, *LATENT_SIZE), text, counted(1, 3, 6), negative_BTD=negative)
    settings = StreamSettings(
        steps=2, num_window_frames=4, num_sink_frames=3, rope_positions="window", text_guidance=2.0
    )
    stream = _after(2, open_stream(model, anchor, settings, driving, seed=4))
    stream.set_driving(driving)
    stream = _after(1, stream)
    stream.set_text(text.flip(1), recache=True)
    return stream


def _heard() -> StoredModel:
    sound = AudioCrossConfig(signal_dim=6, num_packed=8, num_first=5, hidden_dim=8, num_tokens=2, token_dim=8)
    return stored_model(adapter=sound, unknown_frames="grey", known_in_x=True)


def _heard_stream(model: StoredModel, driving: Counting) -> Stream:
    """As InfiniteTalk: sound is attended to, the stream begins at the picture, with grey latents behind it."""
    reference, grey = counted(1, 1, 16, *LATENT_SIZE), counted(1, 4, 16, *LATENT_SIZE, scale=0.5)
    anchor = encode_latent_anchor(model, reference, counted(1, 4, SIZES["text_dim"]), grey_BGCHW=grey)
    settings = StreamSettings(steps=1, num_window_frames=3, start_from_reference=True, use_anchor=False)
    return _after(2, open_stream(model, anchor, settings, driving, seed=5))


def _shown() -> StoredModel:
    """A codec that copies pixels from the reference."""
    codec = WarpingCodec(WarpingConfig(encoder=(4, 4, 4, 4), decoder=(4, 4, 4), reference=4))
    return replace(_plain(), codec=with_counted_weights(codec))


def _shown_stream(model: StoredModel, driving: Counting) -> Stream:
    """Another reference has been set, and is not shown yet."""
    pictures = [((torch.arange(32 * 32 * 3) * step) % 256).to(torch.uint8).view(32, 32, 3) for step in (7, 13)]
    references = [counted(1, 1, 16, *LATENT_SIZE, scale=scale) for scale in (0.5, 1.0)]
    anchors = [encode_latent_anchor(model, *given, picture_HWC=picture)
               for *given, picture in zip(references, pictures, strict=True)]  # fmt: skip
    settings = StreamSettings(steps=2, num_window_frames=4)
    stream = _after(2, open_stream(model, anchors[0], settings, driving, seed=6))
    stream.set_anchor(anchors[1])
    return stream


def _after(chunks: int, stream: Stream) -> Stream:
    for _ in range(chunks):
        next(stream)
    return stream


CASES: Mapping[str, Case] = {
    "plain": Case(_plain, Counting(4, 5), _plain_stream),
    "prompted": Case(_prompted, Counting(4, 5), _prompted_stream),
    "heard": Case(_heard, Counting(8, 6), _heard_stream),
    "shown": Case(_shown, Counting(4, 5), _shown_stream, since=4),
}


def write_states(folder: Path) -> None:
    """All cases, by the code as it is."""
    folder.mkdir(parents=True)
    for name, case in CASES.items():
        stream = case.stream(case.model(), case.driving)
        stream.save(folder / f"{name}.safetensors")
        save_file({"latents": next(stream).latents}, folder / f"{name}.next.safetensors")
