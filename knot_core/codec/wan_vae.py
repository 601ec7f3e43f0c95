"""The Wan 2.1 VAE as a stream, over whichever module tree holds its weights.

ComfyUI's `WanVAE` and diffusers' `AutoencoderKLWan` have the same decoder: causal convolutions that keep the last two
frames they saw in a list of caches, which a caller may hand in. Both forget it after every clip; here it is the
stream's `memory`. Latent frame 0 gives one pixel frame, every later one four.

Here everything is given one latent frame at a time, whatever the chunks are, so that the same frames meet the same
operations: decoding in chunks equals decoding in one go bit for bit. The libraries' own `decode` differs from it in the
last bits (5e-6 on random weights), because they convolve the latents of the whole clip at once before the decoder.

Shapes: B batch, F latent frames, T pixel frames, C channels, H W height and width.
"""

import inspect
from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import CheckpointError
from ..geometry import SPATIAL, TEMPORAL
from .latents import WAN_MEAN, denormalise, normalise

Memory = tuple[Tensor, ...]
Cache = list[Tensor | str | None]  # one entry a causal convolution, in the order in which the decoder meets them

_NOT_YET = "Rep"  # what both trees put where a temporal enlargement has met only latent frame 0
_CACHED_FRAMES = 2  # of a causal convolution three frames long


class WanVideoCodec(nn.Module):
    """Encodes and decodes normalised latents and pixels in 0..1, without moving or changing the module tree."""

    spatial = SPATIAL

    def __init__(self, tree: nn.Module) -> None:
        """Wrap ComfyUI's WanVAE or diffusers' AutoencoderKLWan.

        Raises:
            CheckpointError: the module is no Wan 2.1 VAE.
        """
        super().__init__()
        self.tree = tree
        if not isinstance(self._before_decoder, nn.Module) or not isinstance(getattr(tree, "decoder", None), nn.Module):
            raise CheckpointError(
                f"a {type(tree).__name__} is no Wan 2.1 VAE: it lacks a decoder, or conv2 (post_quant_conv) before it; "
                "give ComfyUI's WanVAE or diffusers' AutoencoderKLWan"
            )
        channels = next(self._before_decoder.parameters()).shape[0]
        if channels != len(WAN_MEAN):
            raise CheckpointError(
                f"this VAE has latents of {channels} channels, the networks here have {len(WAN_MEAN)}; "
                "give a Wan 2.1 VAE"
            )
        self._says_first = "first_chunk" in inspect.signature(tree.decoder.forward).parameters
        self._num_caches = sum(isinstance(module, nn.Conv3d) for module in tree.decoder.modules())

    @property
    def _before_decoder(self) -> nn.Module | None:
        return getattr(self.tree, "post_quant_conv", None) or getattr(self.tree, "conv2", None)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return next(self._before_decoder.parameters()).dtype

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels [B, T, 3, H, W] in 0..1, T = 1 + 4 (F - 1) -> normalised latents [B, F, 16, H/8, W/8].

        Raises:
            ValueError: T is not 1, 5, 9, ..., or a side is not a multiple of 8.
        """
        num_frames, _, *size = pixels.shape[1:]
        if num_frames % TEMPORAL != 1 or any(side % SPATIAL for side in size):
            raise ValueError(f"cannot encode {num_frames} pixel frames of {tuple(size)}; give 1, 5, 9, ... of them, "
                             f"both sides multiples of {SPATIAL}")  # fmt: skip
        found = self.tree.encode(rearrange(2 * pixels - 1, "b t c h w -> b c t h w").to(self.dtype))
        found = getattr(found, "latent_dist", found)
        latents = found if isinstance(found, Tensor) else found.mode()
        return normalise(rearrange(latents, "b c f h w -> b f c h w"))

    def decode(self, latents: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """normalised latents [B, F, 16, h, w] -> pixels [B, T, 3, 8h, 8w] in 0..1, and the memory for the next call.

        Without memory the first latent is the stream's first: it gives one pixel frame, all others give four.
        """
        cache = [None] * self._num_caches if memory is None else _unpack(memory, self._num_caches)
        parts = []
        for number, frame in enumerate(_frames(denormalise(latents).to(self.dtype))):
            pixels, cache = self._decode_frame(frame, cache, first=memory is None and number == 0)
            parts.append(pixels)
        pixels = rearrange(torch.cat(parts, dim=2), "b c t h w -> b t c h w")
        return (pixels.clamp(-1, 1) + 1) / 2, _pack(cache)

    def _decode_frame(self, latent_BC1HW: Tensor, cache: Cache, *, first: bool) -> tuple[Tensor, Cache]:
        after = list(cache)
        more = {"first_chunk": first} if self._says_first else {}
        pixels = self.tree.decoder(self._before_decoder(latent_BC1HW), feat_cache=after, feat_idx=[0], **more)
        pixels = pixels if isinstance(pixels, Tensor) else torch.cat(pixels, dim=2)  # newer hosts return a list
        return pixels, [_topped_up(before, now) for before, now in zip(cache, after, strict=True)]


def _frames(latents_BFCHW: Tensor) -> Iterator[Tensor]:
    """[B, C, 1, H, W], one by one."""
    return iter(rearrange(latents_BFCHW, "b f c h w -> b c f h w").split(1, dim=2))


def _topped_up(before: Tensor | str | None, now: Tensor | str | None) -> Tensor | str | None:
    """Two frames in every cache. Newer hosts keep of a call of one latent frame only that frame, so that the next call
    would see a black frame before it; older hosts and diffusers put the one of the call before in front, as here.
    """
    if not isinstance(now, Tensor) or not isinstance(before, Tensor) or now.shape[2] >= _CACHED_FRAMES:
        return now
    return torch.cat([before[:, :, -1:], now], dim=2)


def _pack(cache: Cache) -> Memory:
    """Tensors only, so that a stream's state can keep them; an empty one where there was only latent frame 0."""
    used = [entry for entry in cache if entry is not None]
    assert all(entry is None for entry in cache[len(used) :]), "a cache in the middle was not used"
    some = next(entry for entry in used if isinstance(entry, Tensor))
    return tuple(some.new_zeros(0) if isinstance(entry, str) else _own(entry) for entry in used)


def _own(entry: Tensor) -> Tensor:
    """A view would keep the activations alive that it is a part of."""
    return entry.clone() if entry.untyped_storage().nbytes() > entry.nbytes else entry


def _unpack(memory: Memory, num_caches: int) -> Cache:
    used: Cache = [entry if entry.numel() else _NOT_YET for entry in memory]
    return used + [None] * (num_caches - len(used))
