"""Places of heat maps."""

import torch

from knot_core.heat_maps import mean_places


def test_the_mean_place_is_where_the_shares_are() -> None:
    shares = torch.zeros(1, 2, 6, 8)
    shares[0, 0, 3, 5] = 1.0
    shares[0, 1, 0, [0, 7]] = 0.25  # the other half of it is nowhere
    assert torch.allclose(mean_places(shares), torch.tensor([[[5.5 / 8, 3.5 / 6], [0.5, 0.5 / 6]]]))


def test_no_share_at_all_is_no_division_by_zero() -> None:
    assert mean_places(torch.zeros(1, 1, 4, 4)).isfinite().all()
