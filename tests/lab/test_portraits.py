"""Procedural portraits: functions of a seed and of the controls, the same whole and in part."""

import numpy as np
import pytest
import torch

from knot_lab.data import clip_shards
from knot_lab.recipes import KNOT_TINY
from knot_lab.synthetic import avatars


def _people(count: int, split: str = "train") -> torch.Tensor:
    return avatars.stack_identities([avatars.identity(i, split) for i in range(count)])


def test_an_identity_is_a_function_of_seed_and_split() -> None:
    assert np.array_equal(avatars.identity(3).values, avatars.identity(3).values)
    train = {avatars.identity(i).values.tobytes() for i in range(200)}
    held_out = {avatars.identity(i, "eval").values.tobytes() for i in range(200)}
    assert len(train | held_out) == 400
    with pytest.raises(ValueError, match="train, eval"):
        avatars.identity(0, "test")


def test_a_frame_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    people, controls = _people(3), torch.rand(3, 2, 8)
    together = avatars.render(people, controls, size=32)
    alone = avatars.render(people[1:2], controls[1:2, 1:], size=32)
    assert together.shape == (3, 2, 3, 32, 32)
    assert together.min() >= 0
    assert together.max() <= 1
    assert torch.allclose(together[1:2, 1:], alone, atol=1e-6)


def test_a_part_is_cut_from_the_whole() -> None:
    people, controls = _people(2), torch.rand(2, 1, 8)
    corners = torch.tensor([[3, 10], [12, 0]])
    whole, part = avatars.render(people, controls, 32), avatars.render(people, controls, 32, crop=(corners, 16))
    for i, (top, left) in enumerate(corners.tolist()):
        assert torch.allclose(part[i], whole[i, :, :, top : top + 16, left : left + 16], atol=1e-5)


@pytest.mark.parametrize("control", range(8))
def test_every_control_is_seen(control: int) -> None:
    controls = torch.zeros(4, 2, 8)
    controls[:, 1, control] = 0.8
    frames = avatars.render(_people(4), controls, 64)
    assert (frames[:, 0] - frames[:, 1]).abs().amax(dim=(1, 2, 3)).median() > 0.05


def test_regions_share_out_every_pixel() -> None:
    _, regions = avatars.render(_people(4), torch.zeros(4, 1, 8), 32, regions=True)
    assert regions.shape == (4, 1, len(avatars.REGIONS), 32, 32)
    assert torch.allclose(regions.sum(dim=2), torch.ones(4, 1, 32, 32), atol=1e-5)


def test_the_mouth_moves_inside_the_mouth_box_and_the_face_box() -> None:
    people, controls = _people(8), torch.zeros(8, 2, 8)
    controls[:, 1, 5] = 1.0
    shut, opened = avatars.render(people, controls, 128).unbind(dim=1)
    change = (opened - shut).abs().sum(dim=1)
    for boxes in (avatars.mouth_box(people, controls[:, 0]), avatars.face_box(people, controls[:, 0])):
        assert len(boxes) == 8
        for one, (top, left, bottom, right) in zip(change, boxes.tolist(), strict=True):
            assert one[top:bottom, left:right].sum() > 0.97 * one.sum()


def test_boxes_keep_their_size_and_stay_inside() -> None:
    people, controls = _people(16), torch.rand(16, 8) * 2 - 1
    for boxes in (avatars.face_box(people, controls), avatars.eye_boxes(people, controls).flatten(0, 1)):
        assert len({(b - t, r - left) for t, left, b, r in boxes.tolist()}) == 1
        assert boxes.min() >= 0
        assert boxes.max() <= 128


def test_shards_are_written_once_and_read_as_they_were_whatever_codec_they_are_of(tmp_path, monkeypatch) -> None:
    """Those of a codec that has no code for landmarks hold none."""
    made = []

    def drawn(*_: object) -> clip_shards.Clips:
        made.append(_some_clips(len(made)))
        return made[-1]

    monkeypatch.setattr(clip_shards, "make_shard", drawn)
    monkeypatch.setattr(clip_shards.avatars, "compiled_draw", lambda: None)
    paths = clip_shards.prepare(None, KNOT_TINY.clips, 2, tmp_path)
    assert clip_shards.prepare(None, KNOT_TINY.clips, 2, tmp_path) == paths
    assert len(made) == 2
    read = clip_shards.load(paths)
    assert torch.equal(read.latents, torch.cat([clips.latents for clips in made]))
    assert read.code is None


def _some_clips(seed: int) -> clip_shards.Clips:
    draw = torch.Generator().manual_seed(seed)
    some = {name: torch.rand(2, 3, generator=draw) for name in
            ("references", "reference_controls", "reference_face", "mel", "controls", "face", "speaking")}  # fmt: skip
    return clip_shards.Clips(latents=torch.rand(2, 3, generator=draw), **some)
