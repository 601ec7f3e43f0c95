"""The loss of landmarks that latents tell by their code counts pixels, parts in themselves, and motion in steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from knot_core.codec.landmark_code import LandmarkCode, token_means, with_means
from knot_core.media.landmark_names import LANDMARKS
from knot_lab.training.landmark_code_fit import fitted
from knot_lab.training.landmark_judge import landmarks_apart

_FRAMES = 3


@pytest.fixture(scope="module")
def code() -> LandmarkCode:
    """The code of motion in which every landmark goes its own way, at its own speed."""
    rng = np.random.default_rng(0)
    basis = rng.normal(0, 0.02, (40, 4, len(LANDMARKS), 2))
    return fitted(np.tensordot(rng.normal(0, 1, (400, 40)), basis, 1).astype(np.float32), channels=16)


def latents_of(code: LandmarkCode, moved_NTL2: Tensor) -> Tensor:
    """Latents [1, N, C, 8, 8] that tell this motion, with other numbers in single tokens."""
    plain = torch.randn(len(moved_NTL2), 16, 8, 8, generator=torch.Generator().manual_seed(len(moved_NTL2)))
    return with_means(plain, code.written(moved_NTL2))[None]


def told(code: LandmarkCode, latents: Tensor) -> Tensor:
    """The motion [N, T, L, 2] that latents tell from a reference whose means are zero."""
    return (token_means(latents.flatten(0, 1)) @ code.reads.flatten(1)).unflatten(1, code.reads.shape[1:])


def test_landmarks_as_in_the_truth_are_not_apart_whatever_else_the_tokens_say(code: LandmarkCode) -> None:
    moved = torch.zeros(_FRAMES, 4, len(LANDMARKS), 2)
    one = latents_of(code, moved)
    other = with_means(torch.randn(_FRAMES, 16, 8, 8), token_means(one[0]))[None]
    assert landmarks_apart(code, other, one) < 1e-3


def test_the_loss_leads_to_the_true_motion(code: LandmarkCode) -> None:
    truth = latents_of(code, 0.02 * torch.randn(_FRAMES, 4, len(LANDMARKS), 2))
    x0 = (truth + 0.3 * torch.randn_like(truth)).requires_grad_()
    first, away = landmarks_apart(code, x0, truth), (told(code, x0) - told(code, truth)).abs().mean()
    optimizer = torch.optim.Adam([x0], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        landmarks_apart(code, x0, truth).backward()
        optimizer.step()
    assert landmarks_apart(code, x0, truth) < 0.1 * first
    assert (told(code, x0) - told(code, truth)).abs().mean() < 0.2 * away


def test_motion_in_steps_counts_more_than_as_much_of_a_shift() -> None:
    """A shift of all pictures against one as large in the mean that goes forward and back in every latent frame."""
    still = torch.zeros(_FRAMES, 4, len(LANDMARKS), 2)
    wave = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None].expand(4, len(LANDMARKS), 2)
    both = torch.stack([torch.ones_like(wave), wave])
    free = fitted((torch.randn(200, 2) @ both.flatten(1)).unflatten(1, both.shape[1:]).numpy() * 0.02, channels=16)
    shifted, stepped = (latents_of(free, still + 0.01 * part) for part in both)
    truth = latents_of(free, still)
    assert landmarks_apart(free, stepped, truth) > 2 * landmarks_apart(free, shifted, truth) > 0
