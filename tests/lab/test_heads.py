"""Rendered heads: what is known of a picture is true of it."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knot_core.driving.face_units import UNITS
from knot_core.errors import DrivingError
from knot_core.media.face_points import WINDOW
from knot_core.media.landmark_names import LANDMARKS
from knot_lab.synthetic.heads import compiled
from knot_lab.synthetic.heads.cameras import aligned_view, framed, on_screen, rotation, to_camera
from knot_lab.synthetic.heads.clips import draw_clip, idle_motion, lively, packed, sample_clip, unit_values
from knot_lab.synthetic.heads.face_speech import speech_units, units_of_letter
from knot_lab.synthetic.heads.head_bank import read_head_bank
from knot_lab.synthetic.heads.identity import HeadIdentity
from knot_lab.synthetic.heads.landmark_pictures import landmark_pictures
from knot_lab.synthetic.heads.natural_pictures import natural_clip, read_sources
from knot_lab.synthetic.heads.noise import NoiseBank
from knot_lab.synthetic.heads.photographic_skins import with_skins
from knot_lab.synthetic.heads.render import REST_POSE, projected_vertices, reference_of, render, seen_vertices
from knot_lab.synthetic.heads.skin import skin_map
from knot_lab.synthetic.visemes import Phoneme
from knot_lab.training.face_points_training import PointPictures

GEOMETRY = Path(os.environ.get("KNOT_HEADS", "heads.npz"))
drawn = pytest.mark.skipif(
    compiled.numba is None or not GEOMETRY.is_file(),
    reason="NO HEADS: needs numba and KNOT_HEADS, the file that knot_lab.synthetic.heads.export_anny writes",
)


@pytest.fixture(scope="module")
def bank():
    return read_head_bank(GEOMETRY)


@pytest.fixture(scope="module")
def plain(bank):
    """Somebody without hat, glasses or anything before the face."""
    for seed in range(60):
        identity = HeadIdentity.sample(bank, np.random.default_rng([seed, 9]))
        short = identity.kinds["hair"] in ("crop", "buzz", "side", "bald")
        if short and not {"hat", "glasses", "before", "scarf"} & set(identity.kinds):
            return identity.plain()
    raise AssertionError("nobody plain in 60")


def warped(picture, flow):
    """The reference [256, 256, 3] at where each label came from, [128, 128, 3]."""
    y, x = np.mgrid[:128, :128]
    sx, sy = ((2 * at + 0.5 + flow[..., axis]).clip(0, 254.999) for axis, at in ((0, x), (1, y)))
    x0, y0 = sx.astype(int), sy.astype(int)
    fx, fy = (sx - x0)[..., None], (sy - y0)[..., None]
    upper = picture[y0, x0] * (1 - fx) + picture[y0, x0 + 1] * fx
    return upper * (1 - fy) + (picture[y0 + 1, x0] * (1 - fx) + picture[y0 + 1, x0 + 1] * fx) * fy


def half(picture):
    """[256, 256, 3] at the labels' places, [128, 128, 3]."""
    return picture.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))


def steps_of(flow):
    """How far neighbouring labels' sources are apart beyond their own distance, [128, 128] pixels."""
    return np.max([np.abs(flow - np.roll(flow, s, a)).max(-1) for a in (0, 1) for s in (-1, 1)], axis=0)


@drawn
def test_the_reference_comes_from_itself(plain):
    still = reference_of(plain)
    assert np.abs(still.flow).max() < 0.01
    assert still.visible.mean() > 0.99  # but for edges of strands


@drawn
def test_the_flow_warps_the_reference_onto_the_frame(plain):
    evenly_lit = plain.shadowless()
    units = unit_values({"jawOpen": 0.2, "mouthSmile": 0.4, "browInnerUp": 0.5})
    frame = render(evenly_lit, units, np.array([0.25, 0.08, 0.05, 2, -1, 1.02], np.float32))
    reference = reference_of(evenly_lit).picture.astype(float)
    error = (warped(reference, frame.flow) - half(frame.picture.astype(float))) ** 2
    inside = frame.visible & (steps_of(frame.flow) < 1) & frame.face[::2, ::2]
    assert inside.sum() > 1500
    assert 10 * np.log10(255**2 / error[inside].mean()) > 36


@drawn
def test_the_flow_is_where_the_vertices_were(plain, bank):
    units, pose = unit_values({"jawOpen": 0.3, "mouthPucker": 0.4}), np.array([-0.2, 0.1, 0.05, 3, 2, 1.01], np.float32)
    frame = render(plain, units, pose)
    now = projected_vertices(plain, units, pose)
    before = projected_vertices(plain, plain.reference_units, plain.reference_pose)
    at = (now[: len(bank.template)] - 1) / 2  # labels stand at odd pixels
    x0, y0 = np.floor(at).astype(int).clip(0, 126).T
    fx, fy = (at - np.stack([x0, y0], axis=1)).T[..., None]
    corners = [frame.flow[y0 + j, x0 + i] for j in (0, 1) for i in (0, 1)]
    known = [frame.face[2 * (y0 + j), 2 * (x0 + i)] & frame.visible[y0 + j, x0 + i] for j in (0, 1) for i in (0, 1)]
    mean = (corners[0] * (1 - fx) + corners[1] * fx) * (1 - fy) + (corners[2] * (1 - fx) + corners[3] * fx) * fy
    smooth = np.all(known, axis=0) & (np.ptp(corners, axis=0).max(axis=1) < 0.6)
    front = seen_vertices(plain, units, pose)[: len(bank.template)] & (bank.template[:, 2] > 0.08)
    chosen = smooth & front
    error = np.abs(now[: len(front)] + mean - before[: len(front)]).max(axis=1)[chosen]
    assert chosen.sum() > 500
    assert np.median(error) < 0.05  # most of it is the bilinear reading between labels
    assert np.percentile(error, 90) < 0.12


@drawn
def test_a_face_lies_where_an_aligned_one_does(bank):
    landmarks = []
    for seed in range(6):
        person = HeadIdentity.sample(bank, np.random.default_rng([seed, 3])).plain()
        marks = dict(zip(bank.landmarks, render(person, np.zeros(52), REST_POSE, labels=False).landmarks, strict=True))
        landmarks.append((marks["right_pupil"], marks["left_pupil"], 0.5 * (marks["upper_lip"] + marks["lower_lip"])))
    right, left, mouth = np.mean(landmarks, axis=0)
    assert np.abs((right + left) / 2 - (128, 112)).max() < 8
    assert abs(left[0] - right[0] - 62) < 6
    assert abs(mouth[1] - 178) < 8


@drawn
def test_units_move_what_they_name(plain, bank):
    def opening(units):
        marks = dict(zip(bank.landmarks, render(plain, units, labels=False).landmarks, strict=True))
        return marks["lower_lip_inner"][1] - marks["upper_lip_inner"][1], (
            marks["right_lid_lower"][1] - marks["right_lid_upper"][1]
        )

    rest, jaw, blink = (opening(unit_values(values)) for values in ({}, {"jawOpen": 1.0}, {"eyeBlink": 1.0}))
    assert jaw[0] > rest[0] + 15
    assert blink[1] < 0.5 * rest[1]


@drawn
def test_a_clip_is_a_function_of_its_seed(bank):
    first, second = (packed(clip, *draw_clip(clip, 3)) for clip in (sample_clip(bank, 3, 2), sample_clip(bank, 3, 2)))
    assert set(first) == set(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["frames"].shape == (2, 256, 256, 3)
    assert first["flow"].shape == (2, 128, 128, 2)
    assert first["mel"].shape == (2, 64)


def test_missing_geometry_says_how_to_make_it(tmp_path):
    with pytest.raises(DrivingError, match="export_anny"):
        read_head_bank(tmp_path / "heads.npz")


def test_without_numba_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compiled, "numba", None)
    with pytest.raises(DrivingError, match=r"knot-forcing\[train\]"):
        compiled.compiled(lambda: 0)()


def test_turns_go_to_the_viewers_right_down_and_clockwise():
    nose, crown = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (rotation(0.3, 0, 0) @ nose)[0] > 0
    assert (rotation(0, 0.3, 0) @ nose)[1] < 0
    assert (rotation(0, 0, 0.3) @ crown)[0] > 0


def test_an_aligned_view_puts_eyes_and_mouth_in_their_places():
    eyes, mouth, middle = np.array([[-0.031, 0, 0], [0.031, 0, 0.0]]), np.array([0, -0.066, 0.0]), np.zeros(3)
    view = aligned_view(eyes, mouth, middle, 1.0)
    points = on_screen(to_camera(np.stack([*eyes, mouth]), view, middle), framed(view, (0, 0), 1.0))[:, :2] / 2
    np.testing.assert_allclose(points, [[97, 112], [159, 112], [128, 178]], atol=0.5)


def test_lips_close_for_p_and_round_for_u():
    units = speech_units([Phoneme(0.0, "a"), Phoneme(0.4, "p"), Phoneme(0.5, "u"), Phoneme(1.0, "")], 40)
    jaw, pucker = (units[:, UNITS.index(name)] for name in ("jawOpen", "mouthPucker"))
    assert jaw[5] > 0.4
    assert jaw[11] < 0.1
    assert pucker[18] > 0.3 > pucker[4]
    assert not units[:, : UNITS.index("jawForward")].any()  # eyes rest


def test_every_letter_stays_in_the_units_range():
    for letter in "apbmfvszʃθliueoɔ":
        units, dominance = units_of_letter(letter)
        assert ((units >= 0) & (units <= 1)).all()
        assert dominance > 0


@pytest.mark.parametrize("move", [lively, idle_motion])
def test_motion_is_smooth_and_in_range(move):
    for seed in range(5):
        units, pose = move(np.random.default_rng(seed), 50)
        assert units.shape == (50, 52)
        assert pose.shape == (50, 3)
        assert ((units >= 0) & (units <= 1)).all()
        assert np.abs(pose).max() < 1
        assert np.abs(np.diff(pose, axis=0)).max() < 0.2


def test_noise_is_of_unit_variance_and_repeats():
    noise = NoiseBank(64)
    piece = noise.cut(np.random.default_rng(1), 1.5, 64, 64)
    assert abs(piece.std() - 1) < 0.05
    tiled = noise.cut(np.random.default_rng(1), 1.5, 128, 64)
    np.testing.assert_array_equal(tiled[:64], tiled[64:])


def test_natural_pictures_are_where_their_flow_says():
    noise = NoiseBank(128)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picture = np.clip(128 + 40 * np.dstack([noise.cut(rng, 6, 300, 400) for _ in range(3)]), 0, 255).astype(
            np.uint8
        )
        clip = natural_clip(rng, [picture], noise, 3)
        assert clip["frames"].shape == (3, 256, 256, 3)
        assert clip["flow"].shape == (3, 128, 128, 2)
        assert clip["visible"].mean() > 0.3
        flow = clip["flow"][2].astype(float)
        error = warped(clip["reference"].astype(float), flow) - half(clip["frames"][2].astype(float))
        inside = clip["visible"][2] & (steps_of(flow) < 1)
        assert 10 * np.log10(255**2 / (error[inside] ** 2).mean()) > 26  # the camera's noise is in it


def test_a_folder_or_a_wheel_or_else():
    with pytest.raises(DrivingError, match="neither a folder"):
        read_sources(Path("pictures.zip"))
    assert read_sources(None) == []


@drawn
def test_landmarks_have_the_order_of_their_names(bank):
    assert tuple(bank.landmarks) == LANDMARKS


@drawn
def test_pictures_for_landmarks_hold_what_the_network_is_trained_on(bank, tmp_path):
    made = landmark_pictures(bank, 3)
    np.savez(tmp_path / "0.npz", **made)
    pictures = PointPictures(tmp_path, held_out=True)
    assert pictures.refresh() == len(made["pictures"])
    inside = (pictures.points > 0) & (pictures.points < WINDOW)
    assert inside.mean() > 0.9


@drawn
def test_a_picture_of_skin_lies_on_the_head_as_its_mesh_says(bank, tmp_path):
    with np.load(GEOMETRY) as stored:
        Image.fromarray(stored["mask_lips"]).convert("RGB").save(tmp_path / "lips.png")
    (skin,) = with_skins(bank, tmp_path).skins
    at = skin_map(bank)
    assert skin.shape == (*at.lips.shape, 3)
    assert np.corrcoef(skin[..., 0].ravel(), (at.lips > 0.5).ravel())[0, 1] > 0.8


@drawn
def test_some_people_have_a_photographed_skin_and_others_look_as_before(bank, tmp_path):
    Image.new("RGB", (2048, 2048), (40, 200, 40)).save(tmp_path / "green.png")
    green = with_skins(bank, tmp_path)
    cheek = lambda bank, seed: HeadIdentity.sample(bank, np.random.default_rng(seed)).surface[0][200, 410]  # noqa: E731
    greens = [cheek(green, seed)[1] > 2 * cheek(green, seed)[0] for seed in range(12)]
    assert 2 < sum(greens) < 12
    assert not any(cheek(bank, seed)[1] > cheek(bank, seed)[0] for seed in range(12))


@drawn
def test_a_folder_without_pictures_of_skin_is_refused(bank, tmp_path):
    with pytest.raises(DrivingError, match="no pictures of skin"):
        with_skins(bank, tmp_path)
