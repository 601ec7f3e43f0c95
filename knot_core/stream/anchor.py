"""The anchor: what every chunk sees of the reference, wherever in time it stands.

Shapes: B batch, F latent frames, T text tokens, D text dim, L tokens, N heads, K head dim, C channels, H W latent size.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingsError
from ..wan.rope import rotate_time
from .denoise import Denoiser, capture
from .model import StreamModel, fingerprint, latent_dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """Immutable: never write into its tensors. Equal and hashed by what it was made of."""

    reference_BFCHW: Tensor  # one clean latent frame
    text_BTD: Tensor  # the prompt; one zero token where there is none
    # At time 0, where RoPE in time turns nothing: so these are the keys before it, and `at` puts them anywhere.
    keys: tuple[Tensor, ...]  # per layer [B, L, N, K]
    values: tuple[Tensor, ...]
    model: str  # fingerprint of the model that encoded it
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def latent_size(self) -> tuple[int, int]:
        """Latent height and width."""
        height, width = self.reference_BFCHW.shape[-2:]
        return height, width

    def at(self, position: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys as if encoded at `position`, and values, layer by layer."""
        for keys, values in zip(self.keys, self.values, strict=True):
            yield rotate_time(keys, position), values


@torch.no_grad()
def encode_anchor(model: StreamModel, reference_BFCHW: Tensor, text_BTD: Tensor | None = None) -> Anchor:
    """Run the clean reference latent through the network once, at timestep 0, seeing only itself."""
    wanted = (1, 1, model.config.out_channels)
    if reference_BFCHW.dim() != 5 or tuple(reference_BFCHW.shape[:3]) != wanted:
        raise SettingsError(
            f"the reference latent has shape {tuple(reference_BFCHW.shape)}, wanted [1, 1, {wanted[2]}, h, w]; "
            "encode one picture"
        )
    reference = reference_BFCHW.to(model.device, latent_dtype(model), copy=True)
    text = torch.zeros(1, 1, model.config.text_dim) if text_BTD is None else text_BTD
    text = text.to(model.device, latent_dtype(model), copy=True)
    keys, values = zip(*capture(Denoiser.of(model, text), reference), strict=True)
    made_by = fingerprint(model)
    return Anchor(
        reference_BFCHW=reference,
        text_BTD=text,
        keys=keys,
        values=values,
        model=made_by,
        digest=_digest(made_by, reference, text),
    )


def _digest(made_by: str, *tensors: Tensor) -> str:
    digest = hashlib.sha256(made_by.encode())
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
