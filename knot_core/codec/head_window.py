"""The part of a picture in which a head moves whose face lies where faces lie in training; about it all stands still.

Shapes: H W picture.
"""

import torch
from torch import Tensor

# In sides of the square of training: the middle of the ellipse in which heads with their hair lie, and half its axes.
CENTRE, HALF_AXES = (0.5, 0.48), (0.40, 0.52)  # x, y
_FADES = 0.75  # of the way from the middle to the edge: from there on motion becomes less, so that necks bend


def head_distance(height: int, width: int) -> Tensor:
    """[height, width]: how far a pixel lies from the middle of the ellipse; 1 on its edge.

    In a picture that is not square, the square of training is in the middle.
    """
    side = min(height, width)
    across, down = (
        (torch.arange(length) + 0.5 - length / 2 + (0.5 - middle) * side) / (half * side)
        for length, middle, half in zip((width, height), CENTRE, HALF_AXES, strict=True)
    )
    return (across.square() + down.square()[:, None]).sqrt()


def head_window(height: int, width: int) -> Tensor:
    """[height, width]: 1 where the head moves with its whole motion, 0 outside of the ellipse, smooth between them."""
    left = ((1 - head_distance(height, width)) / (1 - _FADES)).clamp(0, 1)
    return left.square() * (3 - 2 * left)
