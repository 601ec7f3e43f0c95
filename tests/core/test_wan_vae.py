"""The Wan 2.1 VAE as a stream: chunks equal one shot, its memory can be saved, and every file finds its class."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from knot_core.codec import load_codec
from knot_core.codec.latents import WAN_MEAN, WAN_STD, denormalise, normalise
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.codec.wan_vae import WanVideoCodec
from knot_core.driving import Driving
from knot_core.errors import CheckpointError, SettingsError
from knot_core.stream import open_stream, resume_stream

diffusers = pytest.importorskip("diffusers", reason="DIFFUSERS DOES NOT IMPORT: the Wan VAE is not tested")


def tiny_tree(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return diffusers.AutoencoderKLWan(base_dim=4, z_dim=16).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def codec() -> WanVideoCodec:
    return WanVideoCodec(tiny_tree())


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(1, 7, 16, 2, 3, generator=torch.Generator().manual_seed(1))


def in_chunks(codec, latents: Tensor, lengths: tuple[int, ...]) -> Tensor:
    parts, memory = [], None
    for part in latents.split(lengths, dim=1):
        pixels, memory = codec.decode(part, memory)
        parts.append(pixels)
    return torch.cat(parts, dim=1)


class FrameByFrame(torch.nn.Module):
    """A convolution of one frame, given one frame at a time: a library's answer for a clip depends on its length."""

    def __init__(self, convolution: torch.nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.convolution(frame) for frame in x.split(1, dim=2)], dim=2)


@torch.no_grad()
def test_decoding_in_chunks_equals_decoding_at_once_bit_for_bit(codec, latents):
    whole = in_chunks(codec, latents, (7,))
    assert whole.shape == (1, 1 + 4 * 6, 3, 16, 24)
    for lengths in [(3, 3, 1), (1, 2, 4), (2, 5)]:
        assert torch.equal(in_chunks(codec, latents, lengths), whole)


@torch.no_grad()
def test_decoding_equals_the_library_decoding_the_clip(codec, latents):
    tree, got = tiny_tree(), in_chunks(codec, latents, (3, 3, 1))
    by_library = tree.decode(denormalise(latents).movedim(1, 2)).sample.movedim(2, 1)
    torch.testing.assert_close(got, (by_library + 1) / 2, atol=2e-5, rtol=0)
    tree.post_quant_conv = FrameByFrame(tree.post_quant_conv)
    by_library = tree.decode(denormalise(latents).movedim(1, 2)).sample.movedim(2, 1)
    assert torch.equal(got, (by_library + 1) / 2)


@torch.no_grad()
def test_the_memory_is_a_value_of_constant_size_that_may_be_used_twice(codec, latents):
    _, memory = codec.decode(latents[:, :3])
    kept = [tensor.clone() for tensor in memory]
    first, after = codec.decode(latents[:, 3:6], memory)
    assert torch.equal(first, codec.decode(latents[:, 3:6], memory)[0])
    assert all(torch.equal(a, b) for a, b in zip(kept, memory, strict=True))
    assert [tensor.shape for tensor in after] == [tensor.shape for tensor in memory]
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in after)


class NewerHost(torch.nn.Module):
    """A decoder as newer hosts have it: a list comes out, and a cache holds only frames of the call at hand."""

    def __init__(self, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, x: Tensor, feat_cache: list, feat_idx: list[int]) -> list[Tensor]:
        given = list(feat_cache)
        pixels = self.decoder(x, feat_cache=feat_cache, feat_idx=feat_idx)
        for number, entry in enumerate(feat_cache):
            topped_up = isinstance(entry, Tensor) and isinstance(given[number], Tensor) and entry.shape[2] == 2
            if topped_up and torch.equal(entry[:, :, :1], given[number][:, :, -1:]):
                feat_cache[number] = entry[:, :, 1:]
        return list(pixels.split(2, dim=2))


@torch.no_grad()
def test_a_decoder_that_forgets_the_frame_before_is_reminded_of_it(codec, latents):
    tree = tiny_tree()
    tree.decoder = NewerHost(tree.decoder)
    assert torch.equal(in_chunks(WanVideoCodec(tree), latents, (3, 3, 1)), in_chunks(codec, latents, (7,)))


@torch.no_grad()
def test_encoding_gives_normalised_latents(codec):
    pixels = torch.rand(1, 5, 3, 16, 24)
    expected = codec.tree.encode(2 * pixels.movedim(2, 1) - 1).latent_dist.mode().movedim(1, 2)
    mean, std = torch.tensor(WAN_MEAN)[:, None, None], torch.tensor(WAN_STD)[:, None, None]
    torch.testing.assert_close(codec.encode(pixels), (expected - mean) / std)
    with pytest.raises(ValueError, match="cannot encode 4 pixel frames"):
        codec.encode(pixels[:, :4])


def test_the_two_scales_of_latents_are_each_others_reverse(latents):
    torch.testing.assert_close(normalise(denormalise(latents.double())), latents.double())


def test_a_tree_that_is_no_wan_2_1_vae_is_refused():
    with pytest.raises(CheckpointError, match=r"Linear is no Wan 2\.1 VAE"):
        WanVideoCodec(torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="8 channels"):
        WanVideoCodec(diffusers.AutoencoderKLWan(base_dim=4, z_dim=8))


def test_a_saved_stream_goes_on_bit_for_bit_with_this_codec(make_model, tmp_path):
    from dataclasses import replace

    from knot_core.config import StreamSettings

    model = replace(make_model("t2v16", adapter=None), codec=WanVideoCodec(tiny_tree()))
    settings = StreamSettings(num_chunk_frames=2, num_window_frames=2, steps=1)
    stream = open_stream(model, model.anchor(), settings, Driving.none(), seed=3)
    next(stream)
    stream.save(tmp_path / "stream")
    expected = next(stream)
    resumed = next(resume_stream(model, tmp_path / "stream", Driving.none()))
    assert torch.equal(resumed.pixel_frames, expected.pixel_frames)
    assert torch.equal(resumed.latents, expected.latents)


def original_names(tree: torch.nn.Module) -> dict[str, Tensor]:
    """The tree's tensors under the names in which Wan publishes them: the reverse of diffusers' conversion."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    ours = {}
    for stage, places in (("encoder.downsamples", range(11)), ("decoder.upsamples", range(15))):
        for place in places:
            for part in ("residual.0.gamma", *(f"residual.{i}.{w}" for i in (2, 6) for w in ("weight", "bias"))):
                ours[f"{stage}.{place}.{part}"] = None
            ours[f"{stage}.{place}.residual.3.gamma"] = None
            for part in ("shortcut", "resample.1", "time_conv"):
                ours |= dict.fromkeys(f"{stage}.{place}.{part}.{w}" for w in ("weight", "bias"))
    for side in ("encoder", "decoder"):
        ours |= dict.fromkeys(f"{side}.{name}.{w}" for name in ("conv1", "head.2") for w in ("weight", "bias"))
        ours[f"{side}.head.0.gamma"] = ours[f"{side}.middle.1.norm.gamma"] = None
        ours |= dict.fromkeys(f"{side}.middle.1.{name}.{w}" for name in ("to_qkv", "proj") for w in ("weight", "bias"))
        for place in (0, 2):
            ours |= dict.fromkeys(f"{side}.middle.{place}.residual.{i}.gamma" for i in (0, 3))
            ours |= dict.fromkeys(f"{side}.middle.{place}.residual.{i}.{w}" for i in (2, 6) for w in ("weight", "bias"))
    ours |= dict.fromkeys(f"{name}.{w}" for name in ("conv1", "conv2") for w in ("weight", "bias"))
    state, named = tree.state_dict(), {name: name for name in ours}
    found = {original: state[name] for name, original in convert_wan_vae_to_diffusers(named).items() if name in state}
    assert len(found) == len(state), sorted(set(state) - set(convert_wan_vae_to_diffusers(named)))
    return found


@torch.no_grad()
def test_a_wan_vae_file_loads_under_either_set_of_names(codec, latents, tmp_path):
    expected, _ = codec.decode(latents[:, :2])
    save_file(original_names(codec.tree), tmp_path / "Wan2.1_VAE.safetensors")
    codec.tree.save_pretrained(tmp_path / "vae")
    for path in (tmp_path / "Wan2.1_VAE.safetensors", tmp_path / "vae", tmp_path):
        loaded = load_codec(path)
        assert isinstance(loaded, WanVideoCodec)
        assert torch.equal(loaded.decode(latents[:, :2])[0], expected)


@pytest.mark.parametrize(
    ("name", "kind", "dtype", "vae_latents"),
    [
        ("taew2_1.safetensors", "auto", torch.float16, False),
        ("taew2_1-bf16.safetensors", "auto", torch.bfloat16, False),
        ("lighttaew2_1.safetensors", "auto", torch.float16, True),
        ("mine.safetensors", "auto", torch.float32, False),
        ("mine.safetensors", "lighttaew2_1", torch.float32, True),
        ("lighttaew2_1.safetensors", "taew2_1", torch.float32, False),
    ],
)
def test_a_tiny_decoder_is_told_by_name_or_by_choice(tmp_path, name, kind, dtype, vae_latents):
    tiny = TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4)))
    save_file({key: tensor.to(dtype) for key, tensor in tiny.state_dict().items()}, tmp_path / name)
    assert load_codec(tmp_path / name, kind).config.vae_latents == vae_latents


@pytest.mark.parametrize(("dtype", "vae_latents"), [(torch.float16, False), (torch.bfloat16, True)])
def test_a_tiny_decoder_of_the_public_widths_without_a_telling_name_goes_by_its_numbers(
    tmp_path, caplog, dtype, vae_latents
):
    tiny = TAEHV(CodecConfig())
    save_file({key: tensor.to(dtype) for key, tensor in tiny.state_dict().items()}, tmp_path / "decoder.safetensors")
    assert load_codec(tmp_path / "decoder.safetensors").config.vae_latents == vae_latents
    assert "name the codec's kind" in caplog.text


@torch.no_grad()
def test_a_decoder_of_the_vaes_latents_is_fed_those(latents):
    state = TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))).state_dict()
    plain, scaled = TAEHV.from_state_dict(state), TAEHV.from_state_dict(state, vae_latents=True)
    whole, _ = plain.decode(denormalise(latents))
    assert torch.equal(scaled.decode(latents)[0], whole)
    torch.testing.assert_close(in_chunks(scaled, latents, (3, 3, 1)), whole)
    pixels = torch.rand(1, 5, 3, 16, 16)
    torch.testing.assert_close(denormalise(scaled.encode(pixels)), plain.encode(pixels))


@torch.no_grad()
def test_a_decoder_alone_decodes_and_refuses_to_encode(latents):
    state = TAEHV(CodecConfig(decoder=(8, 4, 4, 4))).state_dict()
    alone = TAEHV.from_state_dict({name: tensor for name, tensor in state.items() if name.startswith("decoder.")})
    assert alone.decode(latents)[0].shape == (1, 25, 3, 16, 24)
    with pytest.raises(CheckpointError, match="decoder alone"):
        alone.encode(torch.rand(1, 1, 3, 16, 16))


def test_other_files_and_kinds_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"no TAEHV autoencoder and no Wan 2\.1 VAE: it holds weight"):
        load_codec(tmp_path / "other.safetensors")
    with pytest.raises(SettingsError, match="kind is 'best'"):
        load_codec(tmp_path / "other.safetensors", "best")
    with pytest.raises(CheckpointError, match="holds no diffusion_pytorch_model"):
        load_codec(tmp_path)
