"""Tuning the decoder on what the student streams: true pictures beside its latents, an encoder that stays."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as fn

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.train import avatars, decoder
from knot_core.train.common import load_checkpoint, save_checkpoint
from knot_core.train.export import export
from knot_core.train.rollout import StudentRecipe
from knot_core.train.streams import StreamRecipe, Streams, load_streams, prepare_streams
from knot_core.wan.model import WanNetwork, init_weights

NETWORK = NetworkConfig(
    dim=72, ffn_dim=32, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
)  # fmt: skip
STUDENT = StudentRecipe(network=NETWORK, settings=StreamSettings(steps=1))
SMALL = CodecConfig(encoder=(8, 8, 8, 8), decoder=(8, 8, 8, 8))
STREAMED = StreamRecipe(shard=3, latent_frames=6, size=32, speaking=0.0)
RECIPE = decoder.DecoderRecipe(
    codec=SMALL, size=32, crop=16, clips=2, streams=2, groups=2, steps=6, warmup=1, save_every=3, lr=1e-3, muon_lr=1e-3
)


def small_codec() -> TAEHV:
    torch.manual_seed(0)
    return TAEHV(SMALL)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Streams:
    network = init_weights(WanNetwork(NETWORK), torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **_: function)
        folder = tmp_path_factory.mktemp("streams")
        paths = prepare_streams(small_codec(), network, STREAMED, STUDENT, 2, folder)
        before = [path.read_bytes() for path in paths]
        paths[1].unlink()  # a run that was cut off
        prepare_streams(small_codec(), network, STREAMED, STUDENT, 2, folder)
    assert [path.read_bytes() for path in paths] == before
    return load_streams(paths)


def test_streams_come_with_what_they_should_have_been(streams: Streams) -> None:
    assert streams.latents.shape == (6, 6, 16, 4, 4)
    assert streams.controls.shape == (6, 21, 8)
    assert streams.identities.tolist() == list(range(2_000_000, 2_000_006))
    latents, controls, seeds = streams.window(torch.tensor([1, 4]), torch.tensor([0, 3]), 2)
    assert torch.equal(latents[1], streams.latents[4, 3:5].float())
    assert torch.equal(controls[0, :4], streams.controls[1, :1].expand(4, 8))  # latent frame 0 shows one picture
    assert torch.equal(controls[1], streams.controls[4, 9:17])  # latent frame 3 shows pictures 9 to 12
    assert seeds.tolist() == [2_000_001, 2_000_004]


def test_a_batch_is_cut_where_its_pictures_are(streams: Streams) -> None:
    """Latents that are their own truth's small pictures must lie on the crops that they come with."""
    values = avatars.stack_identities([avatars.identity(int(seed)) for seed in streams.identities])
    truth = avatars.render(values, streams.controls, 32)
    small = fn.avg_pool2d(truth.flatten(0, 1), 8).unflatten(0, truth.shape[:2])[:, ::4]
    marked = Streams(latents=small, controls=streams.controls, identities=streams.identities)
    for step in range(4):
        rng = torch.Generator().manual_seed(step)
        latents, pixels, weight = decoder.draw_batch(RECIPE, marked, step, avatars.paint, rng)
        shown = fn.avg_pool2d(pixels[RECIPE.clips :].flatten(0, 1), 8).unflatten(0, (RECIPE.streams, -1))
        assert torch.allclose(latents, shown[:, 3::4], atol=1e-5)
        assert weight.mean().item() == pytest.approx(1)
        assert (weight[: RECIPE.clips] > 0).all()


def test_the_first_latent_of_a_part_counts_only_where_the_stream_starts(streams: Streams) -> None:
    counted = set()
    for step in range(12):
        rng = torch.Generator().manual_seed(step)
        torch.randint(len(streams.latents), (RECIPE.streams,), generator=rng)
        starts = torch.randint(streams.latents.shape[1] - RECIPE.groups + 1, (RECIPE.streams,), generator=rng)
        _, _, weight = decoder.draw_batch(RECIPE, streams, step, avatars.paint, torch.Generator().manual_seed(step))
        for start, one in zip(starts.tolist(), weight[RECIPE.clips :], strict=True):
            assert bool(one[:4].any()) == (start == 0)
            assert one[4:].any()
            counted.add(start == 0)
    assert counted == {True, False}


def test_the_discriminator_sees_four_pictures_in_a_row() -> None:
    pictures = torch.arange(8.0)[None, :, None, None, None].expand(1, 8, 3, 8, 8)
    assert decoder.in_a_row(pictures, 0).shape == (2, 192, 2, 2)
    seen = decoder.in_a_row(pictures, 3)
    assert seen.shape == (1, 192, 2, 2)
    assert seen[0, :, 0, 0].unique().tolist() == [3, 4, 5, 6]
    one = torch.rand(1, 4, 3, 8, 8)
    tinted = one + torch.tensor([0.1, -0.2, 0.3])[:, None, None]
    assert torch.allclose(decoder.detail(tinted, 0), decoder.detail(one, 0), atol=1e-6), "no colour to pull at"
    assert not torch.allclose(decoder.detail(one.flip(1), 0), decoder.detail(one, 0), atol=1e-2)
    assert torch.equal(decoder.in_a_row(one, 0)[0, :48, 1, 1].reshape(3, 4, 4), one[0, 0, :, 4:, 4:])


def test_tuning_learns_keeps_the_encoder_and_resumes_bit_for_bit(streams: Streams, tmp_path: Path) -> None:
    start = {name: tensor.clone() for name, tensor in small_codec().state_dict().items()}
    whole = decoder.train(RECIPE, small_codec(), streams, tmp_path / "whole").state_dict()
    changed = {name.split(".")[0] for name, tensor in whole.items() if not torch.equal(tensor, start[name])}
    assert changed == {"decoder"}
    folder = tmp_path / "parts"
    made = 0

    def losses_until_killed(*args: object) -> dict[str, torch.Tensor]:
        nonlocal made
        made += 1
        if made == 5:
            raise KeyboardInterrupt
        return losses(*args)

    losses = decoder._losses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "_losses", losses_until_killed)
        with pytest.raises(KeyboardInterrupt):
            decoder.train(RECIPE, small_codec(), streams, folder)
    assert load_checkpoint(folder / "decoder.ckpt")["step"] == 3
    parts = decoder.train(RECIPE, small_codec(), streams, folder).state_dict()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_latents_that_are_blurred_come_out_sharper(tmp_path: Path) -> None:
    """What it is for: latents that are weaker than the encoder's, and a decoder that learns to make up for it."""
    codec, seeds = small_codec(), torch.arange(4)
    controls = torch.zeros(4, 9, 8)
    truth = avatars.render(avatars.stack_identities([avatars.identity(int(seed)) for seed in seeds]), controls, 32)
    with torch.no_grad():
        latents = codec.encode(truth) * 0.7
    streams = Streams(latents=latents.half(), controls=controls, identities=seeds)

    def error() -> float:
        with torch.no_grad():
            return float((codec.decode(latents)[0] - truth).square().mean())

    before = error()
    recipe = replace(RECIPE, steps=60, lr=3e-3, muon_lr=3e-3, adversarial=0.2, face_crops=0.0)
    decoder.train(recipe, codec, streams, tmp_path)
    assert error() < 0.5 * before


def test_what_ships_has_the_tuned_decoder(streams: Streams, tmp_path: Path) -> None:
    tuned = decoder.train(replace(RECIPE, steps=1), small_codec(), streams, tmp_path)
    save_checkpoint(tmp_path / "codec.ckpt", {"codec": small_codec().state_dict(), "step": 1})
    assert list(export(tmp_path, tmp_path / "assets")) == ["knot-tiny-codec.safetensors"], "no student was trained"
    shipped = load_file(tmp_path / "assets" / "knot-tiny-codec.safetensors")
    assert all(torch.equal(shipped[name], tensor.half()) for name, tensor in tuned.state_dict().items())
