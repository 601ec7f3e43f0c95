"""The landmark network's training: augmentation moves points with what they mark, and training goes on."""

import json

import numpy as np
import pytest
import torch

from knot_core.media.face_points import WINDOW, FacePointsNet, load_face_points
from knot_core.media.landmark_names import LANDMARKS
from knot_lab.training.face_points_training import PointPictures, _mirrored, augmented, loss_of, train_face_points

SIDE = 256


def dots(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures [count, 256, 256, 3] with a white square at each of 22 points [count, 22, 2]."""
    points = rng.uniform(70, 186, (count, len(LANDMARKS) + 2, 2)).astype(np.float32)
    pictures = np.full((count, SIDE, SIDE, 3), 90, np.uint8)
    for picture, places in zip(pictures, points, strict=True):
        for x, y in places.round().astype(int):
            picture[y - 4 : y + 4, x - 4 : x + 4] = 255
    return pictures, points


def stored(folder, files: int):
    """Files with two more points than are wanted, in another order."""
    rng, names = np.random.default_rng(0), [*reversed(LANDMARKS), "left_ear", "right_ear"]
    folder.mkdir()
    for number in range(files):
        pictures, points = dots(rng, 4)
        np.savez(folder / f"{number}.npz", pictures=pictures, points=points, names=np.array(names))
    return folder


def test_points_come_by_their_names_and_files_are_held_out_whole(tmp_path):
    folder = stored(tmp_path / "pictures", 3)
    seen, unseen = (PointPictures(folder, held_out=held_out) for held_out in (False, True))
    assert (seen.refresh(), unseen.refresh()) == (8, 4)
    with np.load(folder / "0.npz") as file:
        by_name = dict(zip(file["names"].tolist(), file["points"][0], strict=True))
    assert np.allclose(unseen.points[0], [by_name[name] / 2 for name in LANDMARKS])
    assert unseen.pictures.shape == (4, WINDOW, WINDOW, 3)
    np.savez(folder / "-1.npz", **np.load(folder / "1.npz"))  # lies before all others
    assert (seen.refresh(), unseen.refresh()) == (12, 4)


def test_a_picture_in_the_mirror_has_its_left_points_where_its_right_ones_were():
    points = torch.rand(1, len(LANDMARKS), 2) * WINDOW
    rng = np.random.default_rng(1)
    picture = torch.rand(1, 3, 8, WINDOW)
    for _ in range(20):
        other, moved = _mirrored(rng, picture, points)
        if not torch.equal(other, picture):
            break
    assert torch.equal(other, picture.flip(-1))
    left, right = LANDMARKS.index("left_eye_outer"), LANDMARKS.index("right_eye_outer")
    assert torch.allclose(moved[0, left], torch.tensor([WINDOW, 0.0]) + points[0, right] * torch.tensor([-1.0, 1.0]))
    nose = LANDMARKS.index("nose_tip")
    assert torch.allclose(moved[0, nose, 1], points[0, nose, 1])


def test_augmented_points_still_lie_on_what_they_mark():
    """By colour: of all light and grain, the white squares stay the brightest around."""
    pictures, points = dots(np.random.default_rng(3), 32)
    small = torch.nn.functional.interpolate(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, WINDOW)
    halved = torch.from_numpy(points[:, : len(LANDMARKS)]) / 2
    windows, moved, face = augmented(np.random.default_rng(4), small, halved)
    assert 0.5 < face.mean() < 1
    brighter = []
    for window, places, filled in zip(windows.mean(dim=1), moved, face, strict=True):
        for x, y in places[places.gt(2).all(dim=1) & places.lt(WINDOW - 2).all(dim=1)].round().long().tolist():
            if filled:
                brighter.append(float(window[y - 1 : y + 1, x - 1 : x + 1].mean() > window.median() + 0.05))
    assert len(brighter) > 200
    assert np.mean(brighter) > 0.75  # the others are covered by something, or nearly white all over


def test_clips_of_something_else_show_what_is_no_face(tmp_path):
    folder = stored(tmp_path / "pictures", 1)
    np.savez(folder / "natural.npz", frames=np.zeros((17, SIDE, SIDE, 3), np.uint8))
    (folder / "0.npz").rename(folder / "1.npz")
    pictures = PointPictures(folder, held_out=True)
    assert pictures.refresh() == 9
    windows, points, face = augmented(np.random.default_rng(0), *pictures.draw(np.random.default_rng(0), 8))
    assert face.sum() == 0
    seen = FacePointsNet()(windows)
    loss_of(seen, points, face).backward()
    assert float(loss_of(seen, points, face).detach()) == pytest.approx(float(seen.face.detach().exp().log1p().mean()))


def test_training_writes_weights_that_load_and_goes_on_where_it_stopped(tmp_path):
    pictures, folder = stored(tmp_path / "pictures", 3), tmp_path / "run"
    path = train_face_points(folder, pictures, steps=2)
    assert path.stat().st_size < 1.5e6
    assert load_face_points(path) is not None
    train_face_points(folder, pictures, steps=3)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    assert all(np.isfinite(line["loss"]) and line["off"] > 0 for line in lines)
