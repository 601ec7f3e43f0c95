import math

import pytest
import torch

from knot_core.wan.rope import axis_dims, rope_table, rotate, rotate_time

HEAD_DIM, GRID = 128, (2, 3)
FAR = 3_000_000


def tokens(num_frames, seed=0, dtype=torch.float32):
    shape = (1, num_frames * math.prod(GRID), 2, HEAD_DIM)
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def scores(q, k, q_positions, k_positions):
    q = rotate(q, rope_table(q_positions, GRID, HEAD_DIM))
    k = rotate(k, rope_table(k_positions, GRID, HEAD_DIM))
    return torch.einsum("blnk,bsnk->bnls", q, k)


def test_wan_splits_a_head_of_128_into_22_21_21_pairs():
    assert axis_dims(128) == (44, 42, 42)


@pytest.mark.parametrize("position", [0, 7, FAR])
def test_each_pair_turns_by_the_equation(position):
    """Against Python's own cosine and sine, pair by pair."""
    x = tokens(1, dtype=torch.float64)
    turned = rotate(x, rope_table([position], GRID, HEAD_DIM, dtype=torch.complex128))
    for token, (row, column) in enumerate((r, c) for r in range(GRID[0]) for c in range(GRID[1])):
        pair = 0
        for dim, place in zip(axis_dims(HEAD_DIM), (position, row, column), strict=True):
            for j in range(dim // 2):
                angle = place / 10000 ** (2 * j / dim)
                a, b = x[0, token, 0, 2 * pair : 2 * pair + 2].tolist()
                want = (a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle))
                assert turned[0, token, 0, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(want, abs=1e-8)
                pair += 1


def test_only_distances_count_however_far():
    q, k = tokens(2, 1), tokens(3, 2)
    near = scores(q, k, [5, 6], [0, 1, 9])
    far = scores(q, k, [FAR + 5, FAR + 6], [FAR, FAR + 1, FAR + 9])
    torch.testing.assert_close(far, near, atol=1e-4, rtol=0)


@pytest.mark.parametrize("position", [0, 1, 8, FAR])
def test_moving_keys_from_time_0_equals_encoding_them_there(position):
    k = tokens(1, 3)
    at_zero = rotate(k, rope_table([0], GRID, HEAD_DIM))
    there = rotate(k, rope_table([position], GRID, HEAD_DIM))
    torch.testing.assert_close(rotate_time(at_zero, position), there, atol=1e-5, rtol=0)


def test_clips_of_a_batch_may_stand_at_different_positions():
    q = tokens(2, 4).repeat(2, 1, 1, 1)
    together = rotate(q, rope_table(torch.tensor([[0, 1], [40, 44]]), GRID, HEAD_DIM))
    torch.testing.assert_close(together[1:], rotate(q[1:], rope_table([40, 44], GRID, HEAD_DIM)))
    moved = rotate_time(q, torch.tensor([3, 9]))
    torch.testing.assert_close(moved[1:], rotate_time(q[1:], 9))


def test_the_first_tokens_of_a_table_are_the_table_of_the_first_frames():
    whole, part = (rope_table(range(4, stop), GRID, HEAD_DIM) for stop in (8, 7))
    assert torch.equal(whole.first(3 * math.prod(GRID)).turns_L1P, part.turns_L1P)
