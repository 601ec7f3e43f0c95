"""Landmarks go on from one latent frame to the next at their speed, and parts of a face keep their shape."""

import torch
from torch import Tensor

from knot_core.codec.landmark_motion import continued
from knot_core.media.landmark_names import LANDMARKS, PARTS

_COUNT = len(LANDMARKS)


def turning(num_latents: int, speed: float = 0.01) -> Tensor:
    """All landmarks go on evenly: [1, 4 F, L, 2]."""
    return (speed * torch.arange(4.0 * num_latents))[None, :, None, None].expand(1, -1, _COUNT, 2).clone()


def changes(moved: Tensor) -> Tensor:
    return moved.diff(dim=1).norm(dim=-1).mean(dim=(0, 2))


def test_even_motion_stays_as_it_is() -> None:
    shown, _ = continued(turning(4), None)
    assert torch.allclose(shown, turning(4), atol=1e-6)


def test_latent_frames_that_are_off_by_themselves_make_no_steps() -> None:
    off = 0.02 * torch.randn(1, 6, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    told = turning(6) + off.expand(1, 6, 4, _COUNT, 2).flatten(1, 2)
    shown, _ = continued(told, None)
    assert changes(told)[3::4].mean() > 2 * changes(told).mean()
    assert changes(shown)[3::4].mean() < 1.3 * changes(shown).mean()
    assert torch.allclose(shown[:, 3::4], told[:, 3::4]), "the last picture of each is where it is predicted"


def test_motion_that_is_too_small_within_latent_frames_becomes_even() -> None:
    """What is missing within is made up for between them."""
    wanted = turning(8)
    middle = wanted.unflatten(1, (8, 4)).mean(dim=2, keepdim=True)
    told = (middle + 0.7 * (wanted.unflatten(1, (8, 4)) - middle)).flatten(1, 2)
    shown, _ = continued(told, None)
    uneven = [float(changes(part)[4:].std() / changes(part)[4:].mean()) for part in (told, shown)]
    assert uneven[1] < 0.5 * uneven[0]


def test_lids_and_lips_do_within_their_part_what_is_predicted() -> None:
    told = turning(3)
    lid = LANDMARKS.index("left_lid_upper")
    told[:, 4:8, lid, 1] += 0.03  # it shuts from one picture to the next
    shown, _ = continued(told, None)
    part = next(part for part in PARTS if lid in part)
    own = [moved[:, :, part] - moved[:, :, part].mean(dim=2, keepdim=True) for moved in (told, shown)]
    assert torch.allclose(*own, atol=1e-6)


def test_it_goes_on_in_chunks_as_at_once() -> None:
    told = torch.randn(2, 12, 6, 2)  # of other landmarks than a face's
    whole, after = continued(told, None)
    first, between = continued(told[:, :8], None)
    second, last = continued(told[:, 8:], between)
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert torch.equal(last, after)
    assert between.shape == (2, 2, 6, 2)
