"""A discriminator of latent frames: what the regression leaves blurred, it tells from the truth.

Where the student cannot tell exactly where an edge is, the square loss answers with the mean of all places. The
adversarial term of few-step distillation (DMD2, arXiv 2405.14867, sec. 4.3) asks for latents that look like the truth's
instead. Both sides get the same noise, so that it cannot live from the last digit.

Shapes: N latent frames, C channels, H W latent size.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as fn
from torch.nn.utils.parametrizations import spectral_norm

from ..precision import mixed_precision
from ..rng import Dice

_WIDTH = 64
_RATE = 1e-3
_MOST = 32  # latent frames looked at in a step
_NOISE = 0.2  # standard deviation of what both sides get added


class Discriminator(nn.Module):
    """Latent frames [N, C, H, W] -> how real each place looks [N, 1, H, W]; each place sees 9 x 9 latent pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, _WIDTH, _WIDTH, _WIDTH)
        self.inner = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 3, padding=1)) for before, after in pairwise(widths)
        )
        self.last = spectral_norm(nn.Conv2d(_WIDTH, 1, 3, padding=1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        for layer in self.inner:
            x_NCHW = fn.leaky_relu(layer(x_NCHW), 0.2)
        return self.last(x_NCHW)


class Adversary:
    """A discriminator that learns beside the student and pulls it towards what looks real.

    `share`: how strongly, as a share of the regression's gradient.
    """

    def __init__(self, channels: int, share: float, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = Discriminator(channels).to(device)
        self._optimizer = torch.optim.AdamW(self.net.parameters(), lr=_RATE, betas=(0.5, 0.99))
        self._share = share

    def opposed(self, regression: Tensor, x0: Tensor, truth: Tensor, weight: Tensor, dice: Dice) -> Tensor:
        """The student's loss: the regression, and -mean(weight D(x0 + noise)) scaled so that its gradient in x0 is
        `share` of the regression's. The discriminator learns first.

        x0 and truth [..., C, H, W]; weight [..., 1, H, W], of mean 1. Of many frames some are looked at.
        """
        frames, truth, weight = (part.flatten(0, -4) for part in (x0, truth, weight))
        rows = dice.shared_order(len(frames))[:_MOST]
        frames, truth, weight = frames[rows], truth[rows], weight[rows]
        self.learn(frames.detach(), truth, weight, dice)
        self.net.requires_grad_(False)
        score = -(self._judge(frames, dice) * weight).mean()
        ours, theirs = (torch.autograd.grad(part, x0, retain_graph=True)[0] for part in (score, regression))
        return regression + score * (self._share * theirs.norm() / ours.norm().clamp_min(1e-12))

    def learn(self, fake_NCHW: Tensor, real_NCHW: Tensor, weight: Tensor, dice: Dice) -> float:
        """One update by the hinge loss, weighted by [N, 1, H, W]; returns it. At 2 it cannot tell them apart."""
        self.net.requires_grad_(True)
        real, fake = self._judge(real_NCHW, dice), self._judge(fake_NCHW, dice)
        loss = ((fn.relu(1 - real) + fn.relu(1 + fake)) * weight).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def state_dict(self) -> dict:
        return {"net": self.net.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _judge(self, x_NCHW: Tensor, dice: Dice) -> Tensor:
        noisy = x_NCHW + _NOISE * dice.shared_normal(*x_NCHW.shape).to(x_NCHW)
        with mixed_precision(x_NCHW.device):
            return self.net(noisy).float()
