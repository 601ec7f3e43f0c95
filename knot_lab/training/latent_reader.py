"""The loss of landmarks that the face codec reads from latents.

It teaches latents, too, where eyes, lids and lips lie, whoever the person is, so that they carry geometry before flow
and pictures can teach it.

Shapes: N pixel frames, L landmarks, c = h w latent cells.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.heat_maps import mean_places
from knot_core.media.landmark_names import PARTS

_SCALAR = "decoder.sharpness"
_SPREAD = 0.7  # of a landmark's likelihood, in latent cells
_OFTEN = 8.0  # how often places of eyes and mouth count beside what a part has in common: lids move by half a cell


class ReadCodec(WarpingCodec):
    """The codec as it is trained on several devices: FSDP2 shards no scalar."""

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__(config)
        self.decoder.sharpness = nn.Parameter(self.decoder.sharpness.detach()[None])

    @staticmethod
    def of_engine(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The engine's weights as this codec has them."""
        return {name: tensor[None] if name == _SCALAR else tensor for name, tensor in state.items()}

    @staticmethod
    def for_engine(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights as the engine has them."""
        return {
            name: tensor[0] if name == _SCALAR and tensor.ndim else tensor.contiguous()
            for name, tensor in state.items()
        }


def inside(places_NL2: Tensor) -> Tensor:
    """Whether landmarks, in sides of the picture, are known and lie in it: [N, L]."""
    return ((places_NL2 > 0) & (places_NL2 < 1)).all(dim=-1)


def landmark_loss(maps_NLc: Tensor, size: tuple[int, int], landmarks_NL2: Tensor) -> Tensor:
    """Cross entropy of the maps, whose last value means nowhere, with a Gaussian about each landmark, and the mean
    place's distance in latent cells; in eyes and mouth also the distance less what a part has in common.

    Landmarks [N, L, 2] are in sides of the picture; those outside of it are nowhere, and those that are no number do
    not count.
    """
    height, width = size
    told = landmarks_NL2.isfinite().all(dim=-1)
    known = inside(landmarks_NL2)
    cells = torch.tensor([width, height], dtype=maps_NLc.dtype, device=maps_NLc.device)
    places = landmarks_NL2.nan_to_num(0.5).clamp(0, 1) * cells
    x, y = torch.arange(width).to(cells) + 0.5, torch.arange(height).to(cells) + 0.5
    away = (x - places[..., :1]).square()[..., None, :] + (y - places[..., 1:]).square()[..., :, None]
    near = fn.softmax(away.flatten(2) / (-2 * _SPREAD**2), dim=-1) * known[..., None]
    wanted = torch.cat([near, (~known[..., None]).to(near)], dim=-1)
    likely = fn.log_softmax(maps_NLc, dim=-1)
    error = (mean_places(likely[..., :-1].exp().unflatten(-1, size)) * cells - places) * known[..., None]
    unlike = (wanted * (wanted.clamp_min(1e-9).log() - likely)).sum(dim=-1) * told
    return (unlike.sum() + distances(error, known, _OFTEN)) / told.sum().clamp_min(1)


def distances(error_NL2: Tensor, known_NL: Tensor, often: float) -> Tensor:
    """The sum of all errors, and `often` times those of eyes and mouth less what a part has in common; []"""
    parts = sum(own.abs().sum() for own in errors_in_parts(error_NL2, known_NL))
    return error_NL2.abs().sum() + often * parts


def errors_in_parts(error_NL2: Tensor, known_NL: Tensor) -> Iterator[Tensor]:
    """For eyes and mouth, in the order of `PARTS`, the errors less what a part's known ones have in common, [N, P, 2].

    Errors that are not known are zero.
    """
    for part in PARTS:
        own, known = error_NL2[:, part], known_NL[:, part, None]
        mean = own.sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp_min(1)
        yield (own - mean) * known
