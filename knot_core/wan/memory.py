"""How many bytes a stream takes, from sizes alone: formulas, in bytes.

Letters: P tokens of a latent frame, F latent frames of a pass (chunk and knot), L = F P tokens of a pass, S keys that
it attends to, T text tokens, D model dim, I feed-forward dim, N layers, H heads, b bytes of a number in `dtype`.
Weights, cache and anchor are exact; activations and decoder are what a pass has alive at its worst moment, within a
third of what is measured, and a device's allocator and kernels want some more on top.
"""

from dataclasses import dataclass, fields

import torch

from ..config import NetworkConfig, StreamSettings
from ..errors import SettingsError
from ..geometry import SPATIAL, TEMPORAL, latent_size, num_tokens
from ..text import NUM_TEXT_TOKENS
from .branches import branches
from .network import WanNetwork, cast_weights

NUM_IMAGE_TOKENS = 257  # of a CLIP picture
_FLOAT32 = 4
_DECODER_WIDTH = 64  # channels of the public tiny decoders at full size
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """The memory that one stream needs, in bytes."""

    weights: int
    cache: int  # sinks, window, anchor and the chunk at hand
    anchor: int  # the anchor as it is kept, before it is placed; and sinks that move, as they were
    text: int  # cross-attention's keys and values
    activations: int
    decoder: int  # of a tiny decoder

    @property
    def certain(self) -> int:
        """Bytes that are in use from the first chunk to the last."""
        return self.weights + self.cache + self.anchor + self.text

    @property
    def least(self) -> int:
        """Bytes in use at the peak at the least: activations and decoder are estimated within a third."""
        return self.certain + max(self.activations, self.decoder) * 2 // 3

    @property
    def total(self) -> int:
        """Bytes in use at the peak; network and decoder do not run at the same time."""
        return self.certain + max(self.activations, self.decoder)

    def to_dict(self) -> dict[str, int]:
        """Bytes of each part, and their `total`."""
        return {part.name: getattr(self, part.name) for part in fields(self)} | {"total": self.total}

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in self.to_dict().items() if name != "total")
        return f"{self.total / _GIB:.2f} GiB ({parts})"


def memory_needed(  # noqa: PLR0913 - the last three may be left out
    config: NetworkConfig,
    settings: StreamSettings,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    has_text: bool = True,
    weights: int | None = None,
    spatial: int = SPATIAL,
) -> MemoryNeed:
    """The bytes that a stream of `size` (height, width) pixels needs; `weights`: bytes of weights that a host has
    loaded; `spatial`: the codec's stride.
    """
    tokens, passes = num_tokens(*latent_size(*size, spatial)), branches(settings, config)
    prompts = len({branch.negative for branch in passes})
    return MemoryNeed(
        weights=weight_bytes(config, dtype) if weights is None else weights,
        cache=cache_bytes(config, settings, tokens, dtype) * len(passes),
        anchor=frame_bytes(config, tokens, dtype) * prompts
        + sink_copy_bytes(config, settings, tokens, dtype) * len(passes),
        text=text_bytes(config, dtype) * prompts if has_text else 0,
        activations=activation_bytes(config, settings, tokens, dtype),
        decoder=decoder_bytes(settings, size, dtype, spatial),
    )


def check_memory(need: MemoryNeed, free: int, where: str) -> None:
    """Refuse a stream that does not fit into the `free` bytes of a device; `where` names the device.

    Raises:
        SettingsError: it needs more.
    """
    if need.certain > free:
        raise SettingsError(
            f"this stream needs {need} and {where} has {free / _GIB:.2f} GiB free; take a smaller size, fewer "
            "num_window_frames, bfloat16, or a smaller model"
        )


def weight_bytes(config: NetworkConfig, dtype: torch.dtype) -> int:
    """Every tensor in the dtype that it is kept in: matrices in `dtype`, norms, modulation and time in float32."""
    with torch.device("meta"):
        tensors = cast_weights(WanNetwork(config), dtype).state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def frame_bytes(config: NetworkConfig, tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of one latent frame's self-attention: N * 2 * P * D * b"""
    return config.num_layers * 2 * tokens * config.dim * dtype.itemsize


def cache_bytes(config: NetworkConfig, settings: StreamSettings, tokens: int, dtype: torch.dtype) -> int:
    """One buffer per layer for everything that a pass attends to: (chunk + knot + anchor + sinks + window) frames"""
    return frame_bytes(config, tokens, dtype) * _num_cache_frames(settings)


def sink_copy_bytes(config: NetworkConfig, settings: StreamSettings, tokens: int, dtype: torch.dtype) -> int:
    """Sinks that follow the window keep their keys as committed, half a frame each; those that fade, keys and values
    in at least float32."""
    frames = settings.num_sink_frames
    if settings.sink_decay < 1:
        return frames * frame_bytes(config, tokens, torch.promote_types(dtype, torch.float32))
    return frames * frame_bytes(config, tokens, dtype) // 2 if settings.rope_positions == "window" else 0


def text_bytes(config: NetworkConfig, dtype: torch.dtype) -> int:
    """Cross-attention's keys and values of a prompt, and of a picture where the network takes one: N * 2 * T * D * b"""
    tokens = NUM_TEXT_TOKENS + (NUM_IMAGE_TOKENS if config.image_dim is not None else 0)
    return config.num_layers * 2 * tokens * config.dim * dtype.itemsize


def activation_bytes(
    config: NetworkConfig, settings: StreamSettings, tokens: int, dtype: torch.dtype, *, keeps_logits: bool = False
) -> int:
    """The residual stream in float32 and a block's input, L D (4 + b); beside them the larger of
    the feed-forward's two hidden layers, 2 L I b, and the attention's q, k, v with one of them in float32 before and
    after its norm and its rotation, L D (3 b + 16). Attention by plain products (bfloat16 on a CPU) also keeps two
    tables of logits, 2 H L S b.
    """
    num_frames = settings.num_chunk_frames + settings.num_knot_frames
    length, b = num_frames * tokens, dtype.itemsize
    keys = _num_cache_frames(settings) * tokens
    stream = length * config.dim * (_FLOAT32 + b)
    feed_forward = 2 * length * config.ffn_dim * b
    attention = length * config.dim * (3 * b + 4 * _FLOAT32)
    logits = 2 * config.num_heads * length * keys * b if keeps_logits else 0
    return stream + max(feed_forward, attention, logits)


def decoder_bytes(settings: StreamSettings, size: tuple[int, int], dtype: torch.dtype, spatial: int = SPATIAL) -> int:
    """A chunk's pixel frames at a tiny decoder's last stage, before and after it is enlarged: 2 * 4 c * 64 h w b"""
    height, width = (spatial * length for length in latent_size(*size, spatial))
    return 2 * TEMPORAL * settings.num_chunk_frames * _DECODER_WIDTH * height * width * dtype.itemsize


def _num_cache_frames(settings: StreamSettings) -> int:
    behind = settings.num_sink_frames + settings.num_ring_frames + int(settings.use_anchor)
    return settings.num_pass_frames + behind
