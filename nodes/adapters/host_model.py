"""A model whose weights ComfyUI holds: it decides where they lie, and brings them in when they are to compute.

ComfyUI knows nothing of a stream's cache and activations, so they are said with every request for room.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import comfy.model_management as host
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...knot_core import Anchor, Model, StreamSettings
from ...knot_core.codec import WanVideoCodec
from ...knot_core.codec.latents import normalise

logger = logging.getLogger(__name__)

ROOM = 512 * 2**20  # bytes that ComfyUI is asked to free for a built-in model: weights, cache and decoder with room


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HostModel(Model):
    """Its `network` is a `HostTree` over the modules that ComfyUI loaded."""

    patchers: tuple[ModelPatcher, ...]  # of the network, then of its audio modules
    latent_format: Any  # ComfyUI's: to and from the scale of LATENT

    @property
    def identity(self) -> str:
        """Tells models apart, in place of a look at the weights: those of one patcher change only with its patches."""
        parts = [self.config.identity(), self.dtype, *(patcher.patches_uuid for patcher in self.patchers)]
        return sha256(repr(parts).encode()).hexdigest()[:32]

    def threads_for(
        self, settings: StreamSettings, latent_size: tuple[int, int], *, as_before: int | None = None
    ) -> int | None:
        """As many as ComfyUI has set, which None stands for, unless a state names another number."""
        del settings, latent_size
        return as_before

    def bring_in(self, num_bytes: int = 0) -> None:
        """Weights to where they compute, wholly or in part, with `num_bytes` of room beside them; cheap when there."""
        host.load_models_gpu(list(self.patchers), memory_required=num_bytes)


class HostVae:
    """ComfyUI's VAE as a stream's codec."""

    def __init__(self, vae: Any, beside: tuple[ModelPatcher, ...] = ()) -> None:
        """`beside`: what must be in memory again once the VAE has computed."""
        self._vae, self._beside = vae, beside
        self._codec = WanVideoCodec(vae.first_stage_model)

    def encode(self, pixels_BTCHW: Tensor) -> Tensor:
        """[1, T, 3, H, W] in 0..1 -> normalised latents [1, F, C, h, w]"""
        latents_BCFHW = self._vae.encode(pixels_BTCHW[0].movedim(1, -1))
        return normalise(latents_BCFHW.movedim(1, 2)).to(pixels_BTCHW.device)

    def decode(self, latents_BFCHW: Tensor, memory: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The reverse, piece by piece."""
        batch, frames, channels, height, width = latents_BFCHW.shape
        needed = self._vae.memory_used_decode((batch, channels, frames, height, width), self._vae.vae_dtype)
        host.load_models_gpu([self._vae.patcher, *self._beside], memory_required=needed)
        pixels, memory = self._codec.decode(latents_BFCHW.to(self._vae.device), memory)
        return pixels, memory


@contextmanager
def running(model: Model, num_bytes: int = 0) -> Iterator[None]:
    """Within it the model may compute; `num_bytes` of room are asked for first."""
    if not isinstance(model, HostModel):
        if model.device.type != "cpu":
            host.free_memory(num_bytes, model.device)
        yield
        return
    model.bring_in(num_bytes)
    network = model.patchers[0]
    network.pre_run()
    try:
        yield
    finally:
        network.cleanup()


def stored(anchor: Anchor) -> Anchor:
    """The anchor on the device where ComfyUI keeps values between nodes."""
    return anchor.on(host.intermediate_device())


def at_hand(anchor: Anchor, model: Model) -> Anchor:
    """The anchor on the model's device."""
    return anchor.on(model.device)


def to_host_latents(model: Model, latents_BCFHW: Tensor) -> Tensor:
    """Convert from the scale that the network uses to that of LATENT."""
    return model.latent_format.process_out(latents_BCFHW) if isinstance(model, HostModel) else latents_BCFHW
