"""A code in the means of latents, which tells how landmarks move.

An encoder of pictures sees lids and lips less exactly than a network knows, from what drives it, how they move. So that
motion has numbers of its own in latents: each channel's mean over the picture, by itself for the four places of a
token. They are the reference's where no landmark moves; the difference of both is the code. As every token carries it,
what a prediction is off in single tokens cancels out.

Shapes: ``N`` latent frames, ``C`` channels, ``h w`` latent size (H/16, W/16), ``K`` = 4 C numbers of the code, ``L``
landmarks; T = 4 pixel frames of a latent frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..geometry import PATCH, TEMPORAL


class LandmarkCode(nn.Module):
    """A linear code, fitted to rendered heads: the motion from the reference of L landmarks in T pixel frames."""

    reads: Tensor  # [K, T, L, 2]: sides of the picture (x, y) for a number that is 1
    writes: Tensor  # [T, L, 2, K]

    def __init__(self, channels: int, points: int) -> None:
        super().__init__()
        numbers = PATCH * PATCH * channels
        self.register_buffer("reads", torch.zeros(numbers, TEMPORAL, points, 2))
        self.register_buffer("writes", torch.zeros(TEMPORAL, points, 2, numbers))

    def read(self, latents_NChw: Tensor, still_NChw: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and the reference's -> the motion of the landmarks of N T pixel frames, [N T, L, 2] in sides of the
        picture, and the latents with the reference's means.
        """
        own, still = token_means(latents_NChw), token_means(still_NChw)
        moved = (own - still) @ self.reads.to(own).flatten(1)
        return moved.reshape(-1, *self.reads.shape[2:]), _with_more(latents_NChw, still - own)

    def written(self, moved_NTL2: Tensor) -> Tensor:
        """Landmarks' motion, in sides of the picture -> the code [N, K]."""
        return moved_NTL2.flatten(1) @ self.writes.to(moved_NTL2).flatten(0, 2)


def token_means(latents_NChw: Tensor) -> Tensor:
    """[N, C, h, w] -> the mean of each place of a token over all tokens [N, K], at least in float32."""
    precise = latents_NChw.to(torch.promote_types(latents_NChw.dtype, torch.float32))
    places = [precise[..., row::PATCH, column::PATCH] for row in range(PATCH) for column in range(PATCH)]
    return torch.stack([place.mean(dim=(-2, -1)) for place in places], dim=-1).flatten(1)


def with_means(latents_NChw: Tensor, means_NK: Tensor) -> Tensor:
    """The latents with other means, [N, K], as `token_means` gives them."""
    return _with_more(latents_NChw, means_NK - token_means(latents_NChw))


def _with_more(latents_NChw: Tensor, apart_NK: Tensor) -> Tensor:
    """The latents with so much more, [N, K], at each place of every token."""
    height, width = latents_NChw.shape[-2:]
    apart = apart_NK.unflatten(1, (-1, PATCH, PATCH))
    spread = apart.repeat(1, 1, -(-height // PATCH), -(-width // PATCH))[..., :height, :width]
    return latents_NChw + spread.to(latents_NChw.dtype)
