"""The loss of landmarks whose motion predicted latents tell by their code (`knot_core/codec/landmark_code.py`).

A regression of latents weighs all numbers alike. Where the code's differ little, from one picture of a latent frame to
the next, the regression brings them out too small, and heads go on in steps; here they count by pixels.

Shapes: B clips, F latent frames, C channels, h w latent size, L landmarks; T = 4 pixel frames of a latent frame.
"""

import torch
from torch import Tensor

from knot_core.codec.landmark_code import LandmarkCode, token_means
from knot_core.media.face_places import SIDE

from .latent_reader import distances

_OFTEN = 4.0  # how often eyes and mouth in themselves count
_GOES_ON = 4.0  # how often the motion from one picture to the next counts


def landmarks_apart(code: LandmarkCode, x0_BFChw: Tensor, truth_BFChw: Tensor) -> Tensor:
    """The mean distance, in pixels of training's pictures, of landmarks that predicted latents tell from those of the
    true ones, [B, F, C, h, w] each; eyes and mouth in themselves, and how all go on, count more. []
    """
    means = [token_means(latents.flatten(0, 1)) for latents in (x0_BFChw, truth_BFChw)]
    apart = SIDE * (means[0] - means[1]) @ code.reads.to(means[0]).flatten(1)  # [B F, 2 T L]
    error = apart.unflatten(1, code.reads.shape[1:]).unflatten(0, x0_BFChw.shape[:2]).flatten(1, 2)  # [B, F T, L, 2]
    whole = error.flatten(0, 1)
    known = torch.ones_like(whole[..., 0])
    return distances(whole, known, _OFTEN) / known.sum() + _GOES_ON * error.diff(dim=1).abs().sum(dim=-1).mean()
