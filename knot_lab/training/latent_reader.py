"""A small network that reads landmarks from the face codec's latents alone, while those are trained.

Nothing but its loss is used: it makes latents tell where eyes, lids and lips lie, whoever the person is, so that they
carry geometry before flow and pictures can teach it. The engine never sees it.

Shapes: N latent frames, C channels, L landmarks, h w latent size.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig

from ..synthetic.heads.landmark_names import LANDMARKS, PARTS

_SCALAR = "decoder.sharpness"
READER = "reader."  # what its tensors' names begin with
_WIDTH = 64
_SPREAD = 0.7  # of a landmark's likelihood, in latent cells
_OFTEN = 8.0  # how often places of eyes and mouth count beside what a part has in common: lids move by half a cell


class LatentReader(nn.Module):
    """Maps of likelihood, [N, C, h, w] -> [N, L, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(_WIDTH, len(LANDMARKS), 1),
        )  # fmt: skip

    def forward(self, latents_NCHW: Tensor) -> Tensor:
        return self.layers(latents_NCHW).float()


class ReadCodec(WarpingCodec):
    """The codec with its reader beside it."""

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__(config)
        self.reader = LatentReader(config.latent_channels)
        self.decoder.sharpness = nn.Parameter(self.decoder.sharpness.detach()[None])  # FSDP2 shards no scalar

    @staticmethod
    def of_engine(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The engine's weights as this codec has them; those of the reader are not among them."""
        return {name: tensor[None] if name == _SCALAR else tensor for name, tensor in state.items()}

    @staticmethod
    def for_engine(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights that the engine has, as it has them."""
        return {
            name: tensor[0] if name == _SCALAR and tensor.ndim else tensor.contiguous()
            for name, tensor in state.items()
            if not name.startswith(READER)
        }


def landmark_loss(maps_NLhw: Tensor, landmarks_NL2: Tensor) -> Tensor:
    """Cross entropy of the maps with a Gaussian about each landmark, and the mean place's distance in latent cells; in
    eyes and mouth also the distance less what a part has in common.

    Landmarks [N, L, 2] are in sides of the picture; those outside of it, and those that are no number, do not count.
    """
    height, width = maps_NLhw.shape[-2:]
    known = ((landmarks_NL2 > 0) & (landmarks_NL2 < 1)).all(dim=-1)
    size = torch.tensor([width, height], dtype=maps_NLhw.dtype, device=maps_NLhw.device)
    places = landmarks_NL2.nan_to_num(0.5).clamp(0, 1) * size
    x, y = torch.arange(width).to(size) + 0.5, torch.arange(height).to(size) + 0.5
    away = (x - places[..., :1]).square()[..., None, :] + (y - places[..., 1:]).square()[..., :, None]
    wanted = fn.softmax(away.flatten(2) / (-2 * _SPREAD**2), dim=-1)
    likely = fn.log_softmax(maps_NLhw.flatten(2), dim=-1)
    shares = likely.exp().unflatten(-1, (height, width))
    found = torch.stack([(shares.sum(dim=-2) * x).sum(dim=-1), (shares.sum(dim=-1) * y).sum(dim=-1)], dim=-1)
    error = (found - places) * known[..., None]
    off = (wanted * (wanted.clamp_min(1e-9).log() - likely)).sum(dim=-1) * known + error.abs().sum(dim=-1)
    total = off.sum()
    for own in errors_in_parts(error, known):
        total = total + _OFTEN * own.abs().sum()
    return total / known.sum().clamp_min(1)


def errors_in_parts(error_NL2: Tensor, known_NL: Tensor) -> Iterator[Tensor]:
    """For eyes and mouth, in the order of `PARTS`, the errors less what a part's known ones have in common, [N, P, 2].

    Errors that are not known are zero.
    """
    for part in PARTS:
        own, known = error_NL2[:, part], known_NL[:, part, None]
        mean = own.sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp_min(1)
        yield (own - mean) * known
