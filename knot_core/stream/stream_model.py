"""The protocols of a model, its codec and a driving that a stream needs, and the digest that tells two models apart.

Shapes: B batch (of one), F latent frames, T pixel frames, C channels, h w latent size, H W pixel size.
"""

import hashlib
import json
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from ..geometry import SPATIAL

DecoderMemory = tuple[Tensor, ...]

_NUM_SAMPLES = (
    64  # elements looked at per tensor: a finetune differs everywhere, and 14 B weights take too long to read
)


class StreamCodec(Protocol):
    """A video autoencoder that decodes piece by piece.

    One may have a stride of its own in space (`spatial`, else 8), and may copy pixels from the reference picture
    (`wants_reference`): then it has `read_reference`, and `decode` takes what that made of the picture as a third
    argument. Where it also reads `num_points` landmarks from latents, `read_reference` may be told the picture's.
    """

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, T, 3, H, W] in 0..1 -> [B, F, C, h, w]."""

    def decode(self, latents: Tensor, memory: DecoderMemory | None) -> tuple[Tensor, DecoderMemory]:
        """[B, F, C, h, w] -> [B, T, 3, H, W] in 0..1, and the decoder's memory; None at the stream's beginning.

        Latents are normalised, as networks have them, in float32: scale and dtype are the codec's own matter.
        """


class StreamModel(Protocol):
    """A network that streams, with what belongs to it."""

    network: nn.Module  # its matrices in `dtype`
    config: NetworkConfig
    codec: StreamCodec
    device: torch.device
    dtype: torch.dtype  # of matrices and attention


class StreamDriving(Protocol):
    """Signals over time, in latent frames of their own time."""

    @property
    def num_pixel_frames(self) -> int | None:
        """Its length; None if it never ends."""

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        """float32 [F, packed pixel frames, signal dim]; any latent frame, also past the end."""


def spatial_of(codec: StreamCodec) -> int:
    """Pixels per latent cell, each way."""
    return getattr(codec, "spatial", SPATIAL)


def wants_reference(codec: StreamCodec) -> bool:
    """Whether the codec decodes with the reference picture at hand."""
    return getattr(codec, "wants_reference", False)


def num_points(codec: StreamCodec) -> int:
    """Landmarks that the codec reads from latents, and may be told of a reference."""
    return getattr(codec, "num_points", 0)


def driven(model: StreamModel, driving: StreamDriving) -> StreamDriving:
    """The driving, told of the model's adapter; `DrivingError` where such a model is not moved by it.

    Of one that has no `for_adapter`, only its signal's shape is held against the model, at its use.
    """
    for_adapter = getattr(driving, "for_adapter", None)
    return driving if for_adapter is None else for_adapter(model.config.adapter)


def latent_dtype(model: StreamModel) -> torch.dtype:
    """Dtype of latents, signals and the residual stream: float32, or float64 if the model computes in float64."""
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def fingerprint(model: StreamModel) -> str:
    """Tells models apart: a hash of sizes, dtype, and some elements of every weight of network and codec.

    A model that has an `identity` is asked for that instead: a host may keep weights where they cannot be looked at.
    """
    identity: str | None = getattr(model, "identity", None)
    if identity is not None:
        return identity
    digest = hashlib.sha256(json.dumps([model.config.identity(), str(model.dtype)], sort_keys=True).encode())
    for part in (model.network, model.codec):
        if isinstance(part, nn.Module):  # a host's codec need not be one
            digest.update(sampled_weights(part))
    return digest.hexdigest()[:32]


def sampled_weights(part: nn.Module) -> bytes:
    """Names, shapes and some elements of every weight: what tells it from another."""
    tensors = part.state_dict()
    names = "".join(f"{name} {tuple(tensor.shape)}\n" for name, tensor in tensors.items()).encode()
    if not tensors:
        return names
    return names + torch.cat([_some(tensor) for tensor in tensors.values()]).cpu().numpy().tobytes()


def _some(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _NUM_SAMPLES)].float()
