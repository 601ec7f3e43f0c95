import itertools

import pytest
import torch

from knot_core.config import StreamSettings
from knot_core.flow import add_noise, fuse, noise_levels, schedule, timesteps, to_velocity, to_x0

SIGMA_BF = torch.tensor([[0.0, 0.3, 1.0], [0.9, 0.5, 0.0]], dtype=torch.float64)


def latents(seed):
    return torch.randn(2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [0.0, 0.625, 1.0, SIGMA_BF])
def test_the_true_velocity_leads_back_to_x0(sigma):
    x0, noise = latents(0), latents(1)
    x = add_noise(x0, noise, sigma)
    torch.testing.assert_close(to_x0(x, to_velocity(x0, noise), sigma), x0)


def test_sigma_zero_returns_x0_and_sigma_one_the_noise():
    x0, noise = latents(0), latents(1)
    assert torch.equal(add_noise(x0, noise, 0.0), x0)
    assert torch.equal(to_x0(x0, noise, 0.0), x0)
    assert torch.equal(add_noise(x0, noise, 1.0), noise)


def test_each_latent_frame_has_its_own_level():
    x = add_noise(latents(0), latents(1), SIGMA_BF)
    for clip, frame in ((0, 1), (1, 0), (1, 1)):
        alone = add_noise(latents(0)[clip, frame], latents(1)[clip, frame], float(SIGMA_BF[clip, frame]))
        torch.testing.assert_close(x[clip, frame], alone)


def test_schedule_of_self_forcing_and_livetalk():
    assert schedule(4, 5.0) == pytest.approx((1, 0.9375, 0.8333333, 0.625))


def test_timesteps_are_those_of_the_settings():
    """Steps and shift, unless timesteps are given; the first chunk may have its own; LiveTalk is fed rounded ones."""
    assert timesteps(StreamSettings()) == pytest.approx((1000, 937.5, 833.3333, 625))
    assert timesteps(StreamSettings(), dtype="bfloat16") == (1000, 936, 832, 624)
    causvid = StreamSettings(timesteps=(1000, 757, 522))
    assert timesteps(causvid) == timesteps(causvid, first_chunk=True) == pytest.approx((1000, 757, 522))
    two_step = StreamSettings(steps=2, first_timesteps=[1000, 500])
    assert timesteps(two_step) == pytest.approx((1000, 833.3333))
    assert timesteps(two_step, first_chunk=True) == (1000, 500)
    assert noise_levels(two_step, first_chunk=True) == (1.0, 0.5)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (2, 5.0), (8, 8.0), (1000, 3.0)])
def test_schedules_fall_from_one_and_never_reach_zero(steps, shift):
    sigmas = schedule(steps, shift)
    assert sigmas[0] == 1
    assert len(sigmas) == steps
    assert all(a > b > 0 for a, b in itertools.pairwise(sigmas))


def test_fusion_touches_the_knot_frames_only():
    knot, x0 = latents(2)[:, :1], latents(3)
    fused = fuse(knot, x0, 0.5)
    torch.testing.assert_close(fused[:, :1], (knot + x0[:, :1]) / 2)
    assert torch.equal(fused[:, 1:], x0[:, 1:])
    assert torch.equal(fuse(knot, x0, 0.0), x0)
    assert torch.equal(fuse(knot, x0, 1.0)[:, :1], knot)
