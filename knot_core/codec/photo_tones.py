"""Grey and brown photos: what is painted into them has their tone.

What the decoder paints, above all the inside of a mouth, has the colours of training, and was red in grey photos.
"""

import torch
from torch import Tensor
from torch.nn import functional as fn

_TONED, _COLOURED = 0.025, 0.055  # how far colours stray from one tone, over the brightness: of twelve photos the three
# old or grey ones have at most 0.02, the others at least 0.068


def tone_matrix(pixels_B3HW: Tensor, weight_HW: Tensor) -> Tensor:
    """The matrix [B, 3, 3] that brings colours to the tone of pictures that have but one, and leaves those of others.

    `weight_HW`: what a pixel counts.
    """
    pixels, weight = pixels_B3HW.float(), weight_HW.float() / weight_HW.float().sum().clamp_min(1e-6)
    means = (pixels * weight).sum(dim=(2, 3))
    brightness = means.mean(dim=1, keepdim=True).clamp_min(1e-3)
    tone = means / brightness
    apart = pixels - pixels.mean(dim=1, keepdim=True) * tone[..., None, None]
    strays = (apart.square().mean(dim=1) * weight).sum(dim=(1, 2)).sqrt() / brightness[:, 0]
    coloured = fn.hardtanh((strays - _TONED) / (_COLOURED - _TONED), 0.0, 1.0)[:, None, None]
    own = torch.eye(3, device=pixels.device)
    return torch.lerp((tone / 3)[:, :, None].expand(-1, -1, 3), own.expand(len(tone), -1, -1), coloured)


def in_tone(painted_N3HW: Tensor, matrix_B33: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] in the tone of their references: of each of the B references N / B in a row."""
    matrix = matrix_B33.repeat_interleave(len(painted_N3HW) // len(matrix_B33), dim=0).to(painted_N3HW)
    return torch.einsum("nij,njhw->nihw", matrix, painted_N3HW).to(painted_N3HW.dtype)  # autocast has its own
