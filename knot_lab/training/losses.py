"""The losses from teacher to student, as equations.

x = (1 - sigma) * x0 + sigma * noise; a network predicts the velocity `noise - x0`, so x0 = x - sigma * velocity.
Shapes: B clips, F latent frames, C channels, H W latent size.
"""

import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.flow import to_velocity

CHARBONNIER_SCALE = 0.02  # of pixel values: smaller errors count as their square


def flow_matching_loss(velocity: Tensor, x0: Tensor, noise: Tensor, weight: Tensor | None = None) -> Tensor:
    """mean of weight * |velocity - (noise - x0)|^2 (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003)

    All are [B, F, C, H, W], the weight may broadcast. The critic's loss is the same with x0 = what the student has
    made: DMD, arXiv 2311.18828, eq. 6, whose weighting sigma^2 / alpha^2 turns the score matching loss into exactly
    this one (alpha = 1 - sigma).
    """
    squared = (velocity.float() - to_velocity(x0, noise).float()).square()
    return squared.mean() if weight is None else (squared * weight).mean() / weight.expand_as(squared).mean()


def inpainting_loss(velocity: Tensor, x0: Tensor, noise: Tensor, learns_BF: Tensor) -> Tensor:
    """Flow matching, [B, F, C, H, W], over the frames to predict: learns = 0 for those that the layout pins to the
    truth.

    Masked inpainting, image to video: known frames are given in the network's input (Wan, arXiv 2503.20314, sec. 5.1;
    Knot Forcing, arXiv 2512.21734). Where they stand beside noise that is to be denoised, they are learnt as well,
    for there the prediction is fused with the knot.
    """
    return flow_matching_loss(velocity, x0, noise, learns_BF[..., None, None, None].to(x0.dtype))


def ode_regression_loss(x0: Tensor, teacher_x0: Tensor) -> Tensor:
    """mean of |G(x_sigma) - x_0|^2, with x_sigma and x_0, [B, F, C, H, W], on one path of the teacher's ODE

    (CausVid, arXiv 2412.07772, eq. 5.)
    """
    return (x0.float() - teacher_x0.float()).square().mean()


def dmd_gradient(x0: Tensor, critic_x0: Tensor, teacher_x0: Tensor) -> Tensor:
    """(critic_x0 - teacher_x0) / mean |x0 - teacher_x0|, [B, F, C, H, W], the mean over each clip: the gradient of the
    KL divergence between the student's distribution and the teacher's, at one noise level.

    DMD, arXiv 2311.18828, eqs. 7 and 8: w * alpha * (score_fake - score_real), with score = (alpha * x0 - x) / sigma^2,
    alpha = 1 - sigma, and w = sigma^2 / alpha^2 / mean |x0 - teacher_x0|, so that no level counts more than another.
    `critic_x0` and `teacher_x0` are both networks' views of (1 - sigma) * x0 + sigma * noise; no gradient goes through
    any of the three.
    """
    x0, critic_x0, teacher_x0 = (x.detach().float() for x in (x0, critic_x0, teacher_x0))
    size = (x0 - teacher_x0).abs().mean(dim=tuple(range(1, x0.dim())), keepdim=True)
    return (critic_x0 - teacher_x0) / size.clamp_min(torch.finfo(torch.float32).tiny)


def dmd_loss(x0: Tensor, gradient: Tensor) -> Tensor:
    """mean of |x0 - stop(x0 - gradient)|^2 / 2, [B, F, C, H, W]: its gradient in x0 is `gradient`, over the number of
    elements

    (DMD2, arXiv 2405.14867, sec. 4; Self Forcing, arXiv 2506.08009, sec. 3.3: x0 is the student's own stream.)
    """
    return 0.5 * (x0.float() - (x0.detach().float() - gradient)).square().mean()


def guide(given: Tensor, not_given: Tensor, scale: float) -> Tensor:
    """not_given + scale * (given - not_given), [B, F, C, H, W]: classifier-free guidance (arXiv 2207.12598)"""
    return torch.lerp(not_given, given, scale)


def charbonnier(x: Tensor, scale: float = CHARBONNIER_SCALE) -> Tensor:
    """sqrt(x^2 + scale^2) - scale, elementwise on [...]: squared for small errors, absolute for large ones"""
    return (x.square() + scale**2).sqrt() - scale


def edges_of(x: Tensor, weight: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Differences of neighbours across and down of [B, F, C, H, W], each with what it counts of [B, F, 1, H, W]."""
    across, down = x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]
    return (across, weight[..., :, 1:]), (down, weight[..., 1:, :])


def contrast_loss(x: Tensor, truth: Tensor, weight: Tensor, near: int) -> Tensor:
    """How far the strength of edges [B, F, C, H, W] is from the truth's over neighbourhoods of `near` x `near`.

    Strength is the root of the mean square. A regression draws an edge that it is not sure of too faintly, for one
    beside its place costs it twice what none costs; this loss cares how strong it is more than where.
    """
    loss = x.new_zeros(())
    for (edges, counts), (true_edges, _) in zip(edges_of(x, weight), edges_of(truth, weight), strict=True):
        error = _strength(edges, near) - _strength(true_edges, near)
        loss = loss + (charbonnier(error) * fn.avg_pool2d(counts.flatten(0, 1), near, near // 2)).mean()
    return loss


def _strength(edges: Tensor, near: int) -> Tensor:
    """Over neighbourhoods that overlap by half: [B F, C, h, w]."""
    return (fn.avg_pool2d(edges.flatten(0, 1).square(), near, near // 2) + 1e-5).sqrt()
