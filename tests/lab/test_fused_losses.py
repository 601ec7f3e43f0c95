"""The losses whose gradients are made at once are those that autograd makes of their plain form."""

import torch

from knot_lab.training.fused_losses import edge_loss, weighted_charbonnier
from knot_lab.training.losses import charbonnier, edges_of


def test_fused_losses_are_the_plain_ones_with_their_gradients():
    torch.manual_seed(0)
    error, weight = 0.05 * torch.randn(2, 3, 6, 8), torch.rand(2, 1, 6, 8)
    error.requires_grad_(True)
    for fused, make in (
        (weighted_charbonnier, (charbonnier(error) * weight).mean),
        (edge_loss, lambda: sum((charbonnier(e) * w).mean() for e, w in edges_of(error[None], weight[None]))),
    ):
        wanted, found = make(), fused(error, weight)
        slopes = [torch.autograd.grad(3 * loss, error)[0] for loss in (wanted, found)]
        assert torch.allclose(found, wanted)
        assert torch.allclose(*slopes, atol=1e-8)
