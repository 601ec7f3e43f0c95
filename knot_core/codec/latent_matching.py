"""Latents found again in the latents of another picture by their likeness, first in whole cells, then in parts of one.

Shapes: ``N`` pictures, ``C`` channels, ``H W`` picture, ``h w`` latent size, ``D`` offsets.
"""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as fn

_REACH = 2  # latent cells each way where what a cell shows is looked for in the reference
FAR = (2 * _REACH + 1) ** 2  # distances of whole cells
NEAR = 9  # distances of half cells about the match


def warp(picture_NCHW: Tensor, flow_N2HW: Tensor, scale: float, mode: str = "bilinear") -> Tensor:
    """Fetch each pixel [N, C, H, W] from where the flow points; beyond the edge the edge is repeated. Between pixels it
    is taken bilinearly, or with `mode` "bicubic", which keeps what is fine and may go beyond the picture's values.

    `flow`: in pixels `scale` times as small as the picture's. A flow of zero gives the picture:
    bit for bit where the sides are powers of two, to a hundred-thousandth else.
    """
    height, width = picture_NCHW.shape[-2:]
    precise = torch.promote_types(flow_N2HW.dtype, torch.float32)  # in bfloat16, places near 256 are whole pixels apart
    flow = flow_N2HW.to(precise)
    y, x = (torch.arange(side, device=flow.device, dtype=precise) for side in (height, width))
    across = (x + 0.5 + flow[:, 0] / scale) * (2 / width) - 1
    down = (y[:, None] + 0.5 + flow[:, 1] / scale) * (2 / height) - 1
    grid = torch.stack([across, down], dim=-1)
    sampled = fn.grid_sample(picture_NCHW.to(precise), grid, mode, padding_mode="border", align_corners=False)
    return sampled.to(picture_NCHW.dtype)


def distances(own_NCHW: Tensor, still_NCHW: Tensor) -> Tensor:
    """mean over c of (own[c, y, x] - still[c, y + dy, x + dx])^2 for each offset within reach: [N, 25, h, w]

    (A cost volume of optical flow, as PWC-Net's, arXiv 1709.02371, but of distances, to which a mean is nothing.)
    """
    height, width = own_NCHW.shape[2:]
    padded = fn.pad(still_NCHW, (_REACH,) * 4, mode="replicate")
    offsets = product(range(2 * _REACH + 1), repeat=2)
    near = (padded[:, :, down : down + height, across : across + width] for down, across in offsets)
    return torch.stack([(own_NCHW - shifted).square().mean(dim=1) for shifted in near], dim=1)


def matches(distances_NDHW: Tensor, sharpness: Tensor) -> Tensor:
    """sum over d of softmax(-sharpness * distance)[d] * offset[d]: [N, 2, h, w], in latent cells (x, y)

    The flow that the latents' likeness alone tells: so the encoder learns latents that can be found again.
    """
    reach = torch.arange(-_REACH, _REACH + 1, device=distances_NDHW.device, dtype=distances_NDHW.dtype)
    down, across = torch.meshgrid(reach, reach, indexing="ij")
    offsets = torch.stack([across.flatten(), down.flatten()])
    return torch.einsum("ndhw,kd->nkhw", torch.softmax(-sharpness * distances_NDHW, dim=1), offsets)


def aligned_distances(own_NCHW: Tensor, still_NCHW: Tensor, matched_N2HW: Tensor) -> tuple[Tensor, Tensor]:
    """still[c, place + matched], [N, C, h, w], and own's mean square distance over c from it and from what lies half a
    cell about it: [N, 9, h, w]

    (The second look of PWC-Net, arXiv 1709.02371: what is left of the motion is small, and told by small differences.)
    """
    about = list(product((-0.5, 0.0, 0.5), repeat=2))
    offsets = torch.tensor(about, device=own_NCHW.device, dtype=matched_N2HW.dtype).flip(-1)[:, :, None, None]
    found = [warp(still_NCHW, matched_N2HW + offset, 1) for offset in offsets]
    near = torch.stack([(own_NCHW - part).square().mean(dim=1) for part in found], dim=1)
    return found[len(about) // 2], near
