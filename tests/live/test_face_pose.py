"""Pictures of a browser's camera as controls: their limits, what is neutral, and the real library where it is."""

import io
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from knot_core.driving.expression_controls import CONTROLS
from knot_core.errors import DrivingError
from knot_lab.synthetic.avatars import identity, render_clip
from knot_live import face_pose
from knot_live.face_pose import MOST_BYTES, CameraError, FacePose, read_jpeg

from ..core.test_pose import finder_of, head


def jpeg(width=64, height=48, **options) -> bytes:
    file = io.BytesIO()
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(file, "JPEG", **options)
    return file.getvalue()


def of_size(width, height) -> bytes:
    """A JPEG whose header claims another size than it has."""
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


class Camera:
    """Faces seen one after the other, 15 a second."""

    def __init__(self, faces, **options) -> None:
        self.seconds, self.count = 0.0, len(faces)
        self.pose = FacePose(finder=finder_of(faces), clock=lambda: self.seconds, **options)

    def next(self):
        self.seconds += 1 / 15
        return self.pose.controls(jpeg())


def after_calibration(face, neutral=None, **options):
    """Controls of a face that has come to rest, after somebody else's second of calibration."""
    camera = Camera([head(neutral or {})] * 20 + [head(face)] * 40, **options)
    return [camera.next() for _ in range(60)]


def test_a_picture_is_read():
    assert read_jpeg(jpeg()).shape == (48, 64, 3)
    assert read_jpeg(jpeg(progressive=True)).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JPEG that can be read"),
        (b"nothing", "no JPEG that can be read"),
        (jpeg()[:400], "no JPEG that can be read"),
        (jpeg() + bytes(MOST_BYTES), "send at most 400000"),
        (of_size(4000, 3000), "is 4000x3000; send at most 921600 pixels"),
        (of_size(65535, 65535), "no JPEG that can be read"),
        (jpeg() + b"\xff\xda" * 40, "more than 16 scans"),
    ],
)
def test_what_is_too_large_or_no_picture_is_refused_before_it_is_decoded(data, says, monkeypatch):
    if "no JPEG" not in says:
        monkeypatch.setattr(Image.Image, "convert", None)  # it would fail in another way
    with pytest.raises(CameraError, match=says):
        read_jpeg(data)


def test_other_formats_are_not_even_tried():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    with pytest.raises(CameraError, match="no JPEG"):
        read_jpeg(file.getvalue())


def test_the_first_second_is_neutral_wherever_the_camera_stands():
    aside = {"yaw": 0.4, "roll": -0.2, "pitch": 0.3, "brow": 0.2}
    values = after_calibration(aside, neutral=aside)
    assert all(set(one) == set(CONTROLS) for one in values)
    assert values[0] == dict.fromkeys(CONTROLS, 0.0)
    assert values[-1] == pytest.approx(dict.fromkeys(CONTROLS, 0.0), abs=0.05)


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_comes_as_a_mirror_shows_it(name):
    values, as_filmed = (after_calibration({name: 0.6}, mirror=mirror)[-1] for mirror in (True, False))
    sign = -1 if name in {"yaw", "roll", "gaze"} else 1
    assert values[name] == pytest.approx(sign * 0.6, abs=0.05)
    assert as_filmed[name] == pytest.approx(0.6, abs=0.05)
    assert max(abs(values[other]) for other in set(CONTROLS) - {name}) < 0.12


def test_a_tremble_is_smoothed_and_a_jump_is_followed_within_a_fifth_of_a_second():
    rng = np.random.default_rng(0)
    faces = [head({})] * 20 + [head({"pitch": 0.3 + 0.1 * rng.uniform(-1, 1)}) for _ in range(60)]
    camera = Camera(faces)
    pitch = np.array([camera.next()["pitch"] for _ in range(80)])[40:]
    assert pitch.mean() == pytest.approx(0.3, abs=0.03)
    assert pitch.std() < 0.75 * 0.1 / 3**0.5
    jump = [one["pitch"] for one in after_calibration({"pitch": 0.8})]
    first = next(number for number, value in enumerate(jump) if value > 0.1)
    assert jump[first + 2] > 0.8 * 0.8


def test_recentre_takes_the_next_second_for_neutral():
    camera = Camera([head({"yaw": 0.2})] * 60)
    for _ in range(20):
        camera.next()
    camera.pose.recentre()
    assert camera.next()["yaw"] == 0
    assert [camera.next() for _ in range(30)][-1]["yaw"] == pytest.approx(0, abs=0.01)


def test_where_no_face_is_seen_there_are_no_controls():
    camera = Camera([None, head({}), head({}) * np.nan])
    assert camera.next() is None
    assert camera.next() == dict.fromkeys(CONTROLS, 0.0)
    assert camera.next() is None


def test_without_mediapipe_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    assert 'pip install "mediapipe<0.10.30"' in face_pose.missing()
    with pytest.raises(DrivingError, match="needs MediaPipe"):
        FacePose()


def test_mediapipe_sees_the_faces_of_this_project():
    """The real library on rendered portraits, where the truth is known."""
    mediapipe = pytest.importorskip("mediapipe", reason='needs the extra "pose": pip install mediapipe')
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this mediapipe comes without its face model")
    truth = torch.zeros(36, 8)
    truth[18:, CONTROLS.index("yaw")] = 0.6
    clip = render_clip(torch.from_numpy(identity(5, "eval").values), truth, 128).numpy()
    seconds, found = [0.0], []
    pose = FacePose(mirror=False, clock=lambda: seconds[0])
    for picture in clip:
        seconds[0] += 1 / 15
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85)
        found.append(pose.controls(file.getvalue())["yaw"])
    pose.close()
    assert found[0] == 0
    assert found[17] == pytest.approx(0, abs=0.1)
    assert found[-1] == pytest.approx(0.6, abs=0.25)
