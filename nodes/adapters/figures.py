"""A stream's figures as ComfyUI's values."""

import numpy as np
import torch
from torch import Tensor

from ...knot_core import StreamStats


def stats_json(stats: StreamStats) -> str:
    return stats.to_json()


def stats_plot(stats: StreamStats) -> Tensor:
    """[1, H, W, 3] in 0..1"""
    return torch.from_numpy(np.array(stats.plot())).float()[None] / 255
