"""The face codec's elementwise losses, each with its gradient made in one go.

On a processor with matrix units convolutions are cheap, and what autograd keeps of elementwise losses costs more than
the network. So their gradients are computed in the forward pass, in place.
Shapes: N pictures, C channels, H W pixels.
"""

from typing import Any

import torch
from torch import Tensor

from .losses import CHARBONNIER_SCALE


def weighted_charbonnier(error_NCHW: Tensor, weight_N1HW: Tensor) -> Tensor:
    """mean of weight * (sqrt(error^2 + scale^2) - scale), []; the weight gets no gradient."""
    return _WithGradient.apply(error_NCHW, *_charbonnier(error_NCHW.detach(), weight_N1HW))


def edge_loss(error_NCHW: Tensor, weight_N1HW: Tensor) -> Tensor:
    """The same of the differences of neighbours across, plus that of those down, []: each counts as its second one."""
    error = error_NCHW.detach()
    slopes, loss = torch.zeros_like(error), error.new_zeros(())
    for dim in (-1, -2):
        length = error.shape[dim] - 1
        later, sooner = (slopes.narrow(dim, first, length) for first in (1, 0))
        part, slope = _charbonnier(error.diff(dim=dim), weight_N1HW.narrow(dim, 1, length))
        later += slope
        sooner -= slope
        loss += part
    return _WithGradient.apply(error_NCHW, loss, slopes)


class _WithGradient(torch.autograd.Function):
    """A loss of an error, whose gradient is known."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.clone()  # what comes in does not go out

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None


def _charbonnier(error: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean, and its gradient in the error."""
    root = error.square().add_(CHARBONNIER_SCALE**2).sqrt_()
    slope = (error / root).mul_(weight).div_(error.numel())
    return root.sub_(CHARBONNIER_SCALE).mul_(weight).mean(), slope
