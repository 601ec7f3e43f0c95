"""The memory that is foretold is the memory that is used: caches to the byte, working memory within a third."""

import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from knot_core.cache import CacheShape, KVCache
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import NetworkConfig, StreamSettings
from knot_core.errors import SettingsError
from knot_core.stream import open_stream
from knot_core.stream.denoise import Denoiser, Frames
from knot_core.wan.families import PRESETS
from knot_core.wan.memory import (
    activation_bytes,
    cache_bytes,
    check_memory,
    decoder_bytes,
    frame_bytes,
    memory_needed,
    weight_bytes,
)
from knot_core.wan.network import WanNetwork, cast_weights

SIZES = {"in_channels": 16, "layout": "t2v16"}
SMALL = NetworkConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, **SIZES)
LARGE = NetworkConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40, **SIZES)
TOKENS = 1560  # of 832x480


def network_config(**changes) -> NetworkConfig:
    return NetworkConfig(**{"dim": 256, "ffn_dim": 1024, "num_heads": 2, "num_layers": 2, "text_dim": 8, **SIZES,
                            **changes})  # fmt: skip


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors made under it and still alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._counted: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {
            tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), known)
        return out

    def _count(self, storage, known):
        key, size = storage._cdata, storage.nbytes()
        if key not in known and key not in self._counted:
            self._counted.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        self._counted.discard(key)
        self.live -= size


def test_published_sizes_take_what_is_known_of_them():
    """1.3B at 832x480: 287.5 MB of keys and values per latent frame; window 12: 3.45 GB. LiveTalk: 188.7 MB."""
    assert frame_bytes(SMALL, TOKENS, torch.bfloat16) == 30 * 2 * TOKENS * 1536 * 2 == 287_539_200
    assert 12 * frame_bytes(SMALL, TOKENS, torch.bfloat16) == pytest.approx(3.45e9, rel=0.001)
    assert frame_bytes(SMALL, 1024, torch.bfloat16) == pytest.approx(188.7e6, rel=0.001)
    assert weight_bytes(SMALL, torch.float32) == 4 * 1_418_996_800
    in_bfloat16 = weight_bytes(LARGE, torch.bfloat16)
    assert 28e9 < in_bfloat16 < 30e9, "norms, modulation and time stay in float32"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("layout", "changes"), [
    ("t2v16", {}),
    ("t2v16", {"num_sink_frames": 2, "rope_positions": "window"}),
    ("t2v16", {"num_sink_frames": 2, "sink_decay": 0.9}),
    ("inpaint36", {"use_anchor": False, "num_knot_frames": 0}),
])  # fmt: skip
def test_a_stream_holds_what_was_foretold(make_model, waves, layout, changes, dtype):
    model = make_model(layout, dtype=dtype)
    settings = replace(StreamSettings(num_window_frames=3), **changes)
    anchor = model.anchor()
    stream = open_stream(model, anchor, settings, waves(4))
    latent_height, latent_width = anchor.latent_size
    need = memory_needed(model.config, settings, (8 * latent_height, 8 * latent_width), dtype)
    kept = sum(tensor.numel() * tensor.element_size() for tensor in (*anchor.keys, *anchor.values))
    assert need.cache + need.anchor == stream.num_cache_bytes + kept
    held = sum(tensor.numel() * tensor.element_size() for tensor in model.network.state_dict().values())
    assert need.weights == held


@pytest.mark.parametrize("ffn_dim", [256, 1024, 1536])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pass_uses_about_what_was_foretold(dtype, ffn_dim):
    config, settings = network_config(ffn_dim=ffn_dim), StreamSettings(num_window_frames=2)
    network = cast_weights(WanNetwork(config), dtype).eval().requires_grad_(False)
    model = SimpleNamespace(network=network, config=config, device=torch.device("cpu"), dtype=dtype)
    size, tokens, num_frames = (16, 16), 64, 4
    cache = KVCache(
        CacheShape(num_layers=2, batch=1, num_tokens=tokens, num_heads=2, head_dim=128, num_window_frames=2,
                   num_anchor_frames=1, num_pass_frames=num_frames), dtype=dtype, device="cpu")  # fmt: skip
    cache.index = cache.index.advance(2)
    with torch.no_grad():
        denoiser = Denoiser.of(model, torch.randn(1, 512, 8))
        frames = Frames(
            x_BFCHW=torch.randn(1, num_frames, 16, *size),
            sigma_BF=torch.ones(1, num_frames),
            known_BMCHW=None,
            rope=denoiser.rope(range(num_frames), size),
            driving=denoiser.no_signal(num_frames),
        )
        with LiveBytes() as used:
            denoiser.velocity(frames, cache)
    keeps_logits = dtype == torch.bfloat16  # how a processor attends in bfloat16
    foretold = activation_bytes(config, settings, tokens, dtype, keeps_logits=keeps_logits)
    assert used.peak / 1.33 < foretold < used.peak * 1.33


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tiny_decoder_uses_about_what_was_foretold(dtype):
    settings, codec = StreamSettings(), TAEHV(CodecConfig()).eval().requires_grad_(False).to(dtype)
    with torch.no_grad():
        _, memory = codec.decode(torch.zeros(1, 3, 16, 8, 12).to(dtype), None)
        with LiveBytes() as used:
            codec.decode(torch.zeros(1, 3, 16, 8, 12).to(dtype), memory)
    assert used.peak / 1.5 < decoder_bytes(settings, (64, 96), dtype) < used.peak * 1.5


def test_what_does_not_fit_is_refused_with_what_would():
    settings = PRESETS["self-forcing"].settings
    need = memory_needed(SMALL, settings, (480, 832), torch.bfloat16)
    assert need.total == need.certain + max(need.activations, need.decoder)
    assert need.to_dict()["total"] == need.total
    check_memory(need, need.certain, "cuda")
    with pytest.raises(SettingsError, match=r"needs .* GiB \(weights 2\.\d+, cache 6\.16.* and cuda has .* GiB free; "
                                            "take a smaller size, fewer num_window_frames"):  # fmt: skip
        check_memory(need, need.certain - 1, "cuda")
    wider = memory_needed(SMALL, replace(settings, num_window_frames=19), (480, 832), torch.bfloat16)
    assert wider.cache - need.cache == frame_bytes(SMALL, TOKENS, torch.bfloat16)
    assert cache_bytes(SMALL, settings, TOKENS, torch.bfloat16) == need.cache
    hosts = memory_needed(SMALL, settings, (480, 832), torch.bfloat16, weights=5)
    assert hosts.weights == 5
