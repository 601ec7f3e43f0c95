"""Face units that were measured, beside the controls: who is moved by them, how they combine, what stays as it was."""

import sys
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from knot_core import Driving
from knot_core.config import UNITS_DIM, AdapterConfig
from knot_core.driving.audio import MEL_DIM
from knot_core.driving.combine import combine, layer
from knot_core.driving.expression import read_expression
from knot_core.driving.expression_controls import CONTROLS, MOUTH_CONTROLS
from knot_core.driving.face_units import CONTROL_OF_UNIT, UNITS, units_from_controls
from knot_core.driving.faces import pose_from_pictures
from knot_core.driving.landmarks import NUM_LANDMARKS, FaceSeen, open_finder
from knot_core.driving.lengths import without_end
from knot_core.driving.smoothing import smooth_poses
from knot_core.driving.tracks import Samples
from knot_core.media import Audio

from .test_pose import head, pictures

FACE = AdapterConfig(signal_dim=UNITS_DIM)
TINY = AdapterConfig()
FRAMES = np.arange(5)
# none, idle(3), two frames of controls, idle(3) with a timeline over it
DIGESTS = ["611da6c4a77d0de0", "a0f1390cbe09f93e", "03af3ddf7a2ce856", "0f1900554194313b"]
OF_MOUTH = np.array([control in MOUTH_CONTROLS for control in CONTROL_OF_UNIT])


def values(seed: int) -> np.ndarray:
    """Units [5, 52] of five pixel frames."""
    return np.random.default_rng(seed).uniform(0, 1, (len(FRAMES), len(UNITS))).astype(np.float32)


def controls(**given) -> dict[str, list[float]]:
    return {name: [value] * len(FRAMES) for name, value in given.items()}


def measured(seed: int | None, **given) -> Driving:
    """Controls, and units beside them unless the seed is None."""
    units = None if seed is None else Samples(values(seed))
    return replace(Driving.from_controls(controls(**given)), units=units)


def units_of(driving: Driving) -> np.ndarray:
    signal = driving.for_adapter(FACE).pixel_signal(FRAMES).numpy()
    assert signal.shape == (len(FRAMES), UNITS_DIM)
    return signal[:, MEL_DIM : MEL_DIM + len(UNITS)]


def test_without_units_drivings_are_what_they_were():
    """Their digests stand in states and logs."""
    motion = Driving.from_controls({"yaw": [0, 0.5], "mouth_open": [0.5, 0]})
    timeline = read_expression({"yaw": [[0, 0], [1, 0.5]]})
    found = [Driving.none(), Driving.idle(3), motion, combine(Driving.idle(3), timeline, head=1.0)]
    assert [driving.digest[:16] for driving in found] == DIGESTS
    assert [driving.given for driving in found[:3]] == [(), ("pose", "mouth"), ("pose", "mouth")]


def test_units_differ_from_none_and_from_others():
    assert len({measured(seed, yaw=0.1).digest for seed in (None, 0, 1)}) == 3
    assert measured(0, yaw=0.1).given == ("pose", "units")


def test_a_model_of_units_is_moved_by_them_where_their_group_is_given():
    whole = measured(0, yaw=0.5, blink=1.0, mouth_open=1.0)
    assert np.array_equal(units_of(whole), values(0))
    signal = whole.for_adapter(FACE).pixel_signal(FRAMES).numpy()
    assert np.allclose(np.degrees(signal[:, MEL_DIM + 52]), 15), "the pose is that of the controls"
    head_alone = measured(0, yaw=0.5)
    assert np.array_equal(units_of(head_alone)[:, ~OF_MOUTH], values(0)[:, ~OF_MOUTH])
    assert not units_of(head_alone)[:, OF_MOUTH].any()


def test_a_model_of_controls_is_moved_by_the_controls_that_were_measured_beside_them():
    plain, with_them = (measured(seed, yaw=0.5, blink=1.0, mouth_open=1.0) for seed in (None, 0))
    for adapter in (TINY, None):
        form = plain if adapter is None else plain.for_adapter(adapter)
        same = with_them if adapter is None else with_them.for_adapter(adapter)
        assert np.array_equal(form.pixel_signal(FRAMES).numpy(), same.pixel_signal(FRAMES).numpy())


def test_each_unit_belongs_to_one_control():
    owners = dict(zip(UNITS, CONTROL_OF_UNIT, strict=True))
    assert {owners[name] for name in UNITS} == set(CONTROLS) - {"yaw", "pitch", "roll"}
    for control in set(owners.values()):
        for sign in (1.0, -1.0):
            row = np.array([sign if name == control else 0.0 for name in CONTROLS], np.float32)
            assert {owners[name] for name, amount in zip(UNITS, units_from_controls(row), strict=True) if amount} <= {
                control
            }


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_two_drivings_mix_their_units_part_by_part(weight):
    first, second = measured(0, yaw=0.0, mouth_open=0.0), measured(1, yaw=1.0, mouth_open=1.0)
    mixed = units_of(combine(first, second, eyes=weight, mouth=1.0))
    eyes = np.array([control in ("blink", "gaze") for control in CONTROL_OF_UNIT])
    brow = np.array([control == "brow" for control in CONTROL_OF_UNIT])
    assert np.allclose(mixed[:, eyes], (1 - weight) * values(0)[:, eyes] + weight * values(1)[:, eyes], atol=1e-6)
    assert np.array_equal(mixed[:, brow], values(0)[:, brow])
    assert np.allclose(mixed[:, OF_MOUTH], values(1)[:, OF_MOUTH], atol=1e-6)


def test_controls_over_units_replace_what_they_move_and_nothing_else():
    timeline = read_expression({"blink": [[0, 1]], "seconds": 1})
    mixed = units_of(combine(measured(0, yaw=0.0, mouth_open=0.2), timeline, head=1, eyes=1, brow=1, mouth=1))
    lids = np.array([control == "blink" for control in CONTROL_OF_UNIT])
    assert np.array_equal(mixed[:, ~lids], values(0)[:, ~lids])
    assert np.allclose(mixed[:, lids], units_from_controls(np.eye(8, dtype=np.float32)[CONTROLS.index("blink")])[lids])


def test_units_over_controls_take_their_place():
    below = Driving.from_controls(controls(yaw=0.2, brow=-1.0, mouth_wide=0.5))
    mixed = units_of(combine(below, measured(1, yaw=0.0), head=1, eyes=1, brow=1, mouth=1))
    assert np.allclose(mixed[:, ~OF_MOUTH], values(1)[:, ~OF_MOUTH], atol=1e-6)
    kept = units_of(below)
    assert kept[:, OF_MOUTH].any()
    assert np.array_equal(mixed[:, OF_MOUTH], kept[:, OF_MOUTH])


def test_added_units_stay_within_their_range():
    both = units_of(layer(measured(0, yaw=0.0), measured(1, yaw=0.0), eyes=1, brow=1))
    added = np.clip(values(0) + values(1), 0, 1)
    assert np.allclose(both[:, ~OF_MOUTH], added[:, ~OF_MOUTH], atol=1e-6)


def test_drivings_without_units_mix_to_one_without():
    assert combine(Driving.idle(1), read_expression({"yaw": [[0, 1]]}), head=1).units is None
    assert combine(Driving.idle(1), measured(0, yaw=0.0)).units is None


def test_units_go_along_with_length_smoothing_and_speech():
    driving = measured(0, yaw=0.5)
    assert without_end(driving).num_pixel_frames is None
    assert np.array_equal(units_of(without_end(driving))[:, ~OF_MOUTH], values(0)[:, ~OF_MOUTH])
    calm = smooth_poses(driving, 0.4).units.at(np.array([2]))
    assert np.allclose(calm, smooth_poses(driving, 0.4).units.at(np.array([2, 3]))[:1])
    assert not np.allclose(calm, values(0)[2])
    spoken = Driving.from_audio(Audio(samples=np.zeros((1, 16_000), np.float32), sample_rate=16_000), pose=driving)
    assert spoken.units is driving.units


# measured by MediaPipe


@contextmanager
def finder_of(faces):
    rest = iter(faces)
    yield lambda _picture: next(rest)


def test_what_a_finder_measures_drives_a_model_of_units_and_the_mouth_if_asked_for():
    faces = [FaceSeen(head({"yaw": 0.4}), row) for row in values(0)]
    for mouth in (True, False):
        driving = pose_from_pictures(pictures(5), finder=finder_of(faces), smoothing=0, mouth=mouth)
        found = units_of(driving)
        assert np.allclose(found[:, ~OF_MOUTH], values(0)[:, ~OF_MOUTH], atol=1e-6)
        assert np.allclose(found[:, OF_MOUTH], values(0)[:, OF_MOUTH] if mouth else 0, atol=1e-6)
    without = pose_from_pictures(pictures(5), finder=finder_of([FaceSeen(head({}))] * 5), smoothing=0)
    assert without.units is None


def test_a_lost_face_is_joined_in_its_units_too():
    faces = [FaceSeen(head({}), values(0)[0]), None, FaceSeen(head({}), values(0)[1])]
    units = pose_from_pictures(pictures(3), finder=finder_of(faces), smoothing=0, mouth=True).units
    assert np.allclose(units.at(np.array([1])), values(0)[:2].mean(axis=0), atol=1e-6)


def mediapipe_with_tasks(asked: dict, scores: dict[str, float]) -> dict[str, ModuleType]:
    """Stand-ins of its modules; `asked` is what the landmarker was opened with."""
    points = [SimpleNamespace(x=0.5, y=0.5, z=0.0)] * NUM_LANDMARKS
    shapes = [SimpleNamespace(category_name=name, score=score) for name, score in scores.items()]

    class Landmarker:
        @classmethod
        @contextmanager
        def create_from_options(cls, options):
            asked.update(vars(options))
            yield cls()

        def detect(self, _image):
            return SimpleNamespace(face_landmarks=[points], face_blendshapes=[shapes])

    modules = {name: ModuleType(name) for name in ("mediapipe", "mediapipe.tasks", "mediapipe.tasks.python",
                                                   "mediapipe.tasks.python.vision")}  # fmt: skip
    modules["mediapipe"].Image = lambda **_: None
    modules["mediapipe"].ImageFormat = SimpleNamespace(SRGB=1)
    modules["mediapipe.tasks.python"].BaseOptions = dict
    vision = modules["mediapipe.tasks.python.vision"]
    vision.FaceLandmarker, vision.RunningMode = Landmarker, SimpleNamespace(IMAGE=1)
    vision.FaceLandmarkerOptions = SimpleNamespace
    return modules


@pytest.mark.parametrize("has_shapes", [True, False])
def test_a_model_file_with_blend_shapes_gives_units_by_name(has_shapes, tmp_path, monkeypatch):
    asked = {}
    scores = {"_neutral": 0.9, "jawOpen": 0.6, "browInnerUp": 0.2, "eyeBlinkRight": 1.0}
    for name, module in mediapipe_with_tasks(asked, scores).items():
        monkeypatch.setitem(sys.modules, name, module)
    with zipfile.ZipFile(tmp_path / "face_landmarker.task", "w") as file:
        file.writestr("face_landmarks_detector.tflite", b"")
        if has_shapes:
            file.writestr("face_blendshapes.tflite", b"")
    with open_finder(tmp_path / "face_landmarker.task") as find:
        seen = find(np.zeros((10, 20, 3), np.uint8))
    assert seen.landmarks[0].tolist() == [10, 5, 0]
    assert asked["output_face_blendshapes"] == has_shapes
    if not has_shapes:
        assert seen.units is None
        return
    found = {name: float(value) for name, value in zip(UNITS, seen.units, strict=True) if value}
    assert found == pytest.approx({"jawOpen": 0.6, "browInnerUp": 0.2, "eyeBlinkRight": 1.0})
