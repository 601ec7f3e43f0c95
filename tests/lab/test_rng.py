"""A step's dice: the same for a clip wherever it is trained, and never the same twice."""

import torch

from knot_lab.rng import Dice


def test_a_clip_has_the_same_numbers_in_whatever_company():
    whole, part = Dice(3, 5, range(4)), Dice(3, 5, range(2, 4))
    assert torch.equal(whole.normal(2, 3)[2:], part.normal(2, 3))
    assert whole.below(1000)[2:] == part.below(1000)
    assert whole.shared_uniform() == part.shared_uniform()
    one, other = Dice(3, 5, ()).of(range(4)), Dice(3, 5, range(4))
    assert torch.equal(one.uniform(7), other.uniform(7))


def test_another_seed_step_or_part_has_other_numbers():
    drawn = [Dice(*key[:2], range(2), key[2]).uniform(3) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == 4


def test_what_all_share_goes_on_with_other_clips():
    lots = Dice(3, 5, ())
    first = lots.shared_uniform()
    dice = lots.of(range(2))
    assert [first, dice.shared_uniform()] == [twin.shared_uniform() for twin in [Dice(3, 5, ())] for _ in range(2)]


def test_the_frames_of_a_clip_have_numbers_of_their_own():
    clips = Dice(3, 5, range(2))
    frames = clips.spread(3)
    drawn = torch.cat([frames.uniform(4), Dice(3, 5, range(6)).uniform(4)])
    assert len(drawn.unique(dim=0)) == 12
    part = Dice(3, 5, range(1, 2)).spread(3)
    assert torch.equal(Dice(3, 5, range(2)).spread(3).normal(5)[3:], part.normal(5))


def test_numpy_s_generators_follow_the_clips():
    whole, part = (Dice(3, 5, rows).numpy() for rows in (range(3), range(1, 3)))
    assert [rng.random() for rng in whole[1:]] == [rng.random() for rng in part]
