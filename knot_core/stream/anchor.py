"""The anchor: what every chunk sees of the reference, wherever in time it stands.

Shapes: B batch, F latent frames, T text or image tokens, D text dim, E image dim, L tokens, N heads, K head dim,
C channels, H W latent size.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import SettingsError
from ..wan.rope import rotate_time
from .denoise import Denoiser, capture
from .model import StreamModel, fingerprint, latent_dtype

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """Immutable: never write into its tensors. Equal and hashed by what it was made of."""

    reference_BFCHW: Tensor  # one clean latent frame
    text_BTD: Tensor  # the prompt; one zero token where there is none
    image_BTE: Tensor | None = None  # CLIP tokens of the reference, for I2V networks
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
def encode_anchor(
    model: StreamModel,
    reference_BFCHW: Tensor,
    text_BTD: Tensor | None = None,
    image_BTE: Tensor | None = None,
) -> Anchor:
    """Run the clean reference latent through the network once, at timestep 0, seeing only itself."""
    wanted = (1, 1, model.config.out_channels)
    if reference_BFCHW.dim() != 5 or tuple(reference_BFCHW.shape[:3]) != wanted:
        raise SettingsError(
            f"the reference latent has shape {tuple(reference_BFCHW.shape)}, wanted [1, 1, {wanted[2]}, h, w]; "
            "encode one picture"
        )
    _check_image(model, image_BTE)
    text_BTD = torch.zeros(1, 1, model.config.text_dim) if text_BTD is None else text_BTD
    reference, text, image = (
        None if given is None else given.to(model.device, latent_dtype(model), copy=True)
        for given in (reference_BFCHW, text_BTD, image_BTE)
    )
    denoiser = Denoiser.of(model, text, reference_B1CHW=reference, image_BTE=image)
    keys, values = zip(*capture(denoiser, reference), strict=True)
    made_by = fingerprint(model)
    return Anchor(
        reference_BFCHW=reference,
        text_BTD=text,
        image_BTE=image,
        keys=keys,
        values=values,
        model=made_by,
        digest=_digest(made_by, *(made_of for made_of in (reference, text, image) if made_of is not None)),
    )


def with_text(anchor: Anchor, model: StreamModel, text_BTD: Tensor) -> Anchor:
    """The same reference under another prompt; its keys and values stay those of the prompt it was encoded with."""
    if text_BTD.dim() != 3 or text_BTD.shape[0] != 1 or text_BTD.shape[2] != model.config.text_dim:
        raise SettingsError(
            f"the prompt has shape {tuple(text_BTD.shape)}, this model takes [1, tokens, {model.config.text_dim}]; "
            "encode it with the model's own text encoder"
        )
    return replace(anchor, text_BTD=text_BTD.to(model.device, latent_dtype(model), copy=True))


def _check_image(model: StreamModel, image_BTE: Tensor | None) -> None:
    wanted = model.config.image_dim
    if image_BTE is None:
        if wanted is not None:
            logger.warning("This network also looks at CLIP tokens of the reference, and has none; give them as image.")
    elif wanted is None or image_BTE.dim() != 3 or image_BTE.shape[-1] != wanted:
        takes = "no CLIP tokens; leave image out" if wanted is None else f"CLIP tokens of [1, number, {wanted}]"
        raise SettingsError(f"the image has shape {tuple(image_BTE.shape)}, but this network takes {takes}")


def _digest(made_by: str, *tensors: Tensor) -> str:
    digest = hashlib.sha256(made_by.encode())
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
