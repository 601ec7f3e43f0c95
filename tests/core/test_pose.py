"""Controls from a driving clip. Only the library's call is replaced: by a head of points that is turned here."""

import math
import struct
import sys
from contextlib import contextmanager
from types import ModuleType

import av
import numpy as np
import pytest
import torch

from knot_core.driving.expression_controls import CONTROLS
from knot_core.driving.faces import pose_from_pictures
from knot_core.driving.landmarks import NUM_LANDMARKS, FaceSeen, open_finder
from knot_core.errors import DrivingError, MediaError
from knot_core.media.frames import read_frames
from knot_lab.synthetic.avatars import identity, render_clip

REST = dict.fromkeys(CONTROLS, 0.0)


def head(controls: dict[str, float]) -> np.ndarray:
    """Landmarks of a head of 300 pixels: x right, y down, z away; what no measure uses stays at its middle."""
    c = REST | controls
    points = np.zeros((NUM_LANDMARKS, 3))
    opening, brow = 14 * (1 - 0.65 * c["blink"]), 52 + 0.035 * 300 * c["brow"]
    for side, outer, inner, top, bottom, iris, above in (
        (-1, 33, 133, 159, 145, 468, 105), (1, 263, 362, 386, 374, 473, 334),
    ):  # fmt: skip
        points[outer], points[inner] = (side * 90, -40, 0), (side * 40, -40, 0)
        points[top], points[bottom] = (side * 65, -40 - opening, 0), (side * 65, -40 + opening, 0)
        points[iris] = (side * 65 + 0.16 * 50 * c["gaze"], -40, 0)
        points[above] = (side * 65, -40 - brow, 0)
    width, gap = 45 * (1 + 0.22 * c["mouth_wide"]), 0.12 * 300 * c["mouth_open"]
    points[[61, 291, 13, 14]] = [(-width, 70, 0), (width, 70, 0), (0, 70 - gap / 2, 0), (0, 70 + gap / 2, 0)]
    points[10], points[152] = (0, -150, 0), (0, 150, 0)
    angles = (math.radians(30) * c["yaw"], math.radians(14) * c["pitch"], math.radians(12) * c["roll"])
    return points @ rotation(*angles).T + (320, 240, 0)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """To the viewer's right, down, clockwise."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


@contextmanager
def finder_of(faces):
    """Finds these faces' landmarks, one after the other."""
    rest = iter(faces)

    def find(_picture):
        landmarks = next(rest)
        return None if landmarks is None else FaceSeen(landmarks)

    yield find


def pictures(count: int, fps: float = 25):
    return [(number / fps, np.zeros((4, 4, 3), np.uint8)) for number in range(count)]


def controls_of(faces, fps: float = 25, **options) -> dict[str, np.ndarray]:
    driving = pose_from_pictures(pictures(len(faces), fps), finder=finder_of(faces), smoothing=0, **options)
    signal = driving.pixel_signal(np.arange(driving.num_pixel_frames)).numpy()
    return {name: signal[:, 64 + number] for number, name in enumerate(CONTROLS)}


@pytest.mark.parametrize("name", CONTROLS)
def test_each_control_comes_back_as_it_was_made(name):
    low = 0.0 if name in {"blink", "mouth_open"} else -0.8
    wanted = np.concatenate([np.zeros(60), np.linspace(low, 0.8, 21), np.zeros(60)])
    found = controls_of([head({name: value}) for value in wanted], mouth=True)
    assert found[name] == pytest.approx(wanted, abs=0.03)
    for other in set(CONTROLS) - {name}:
        assert np.abs(found[other]).max() < 0.12, f"{other} stays where it is"


def test_the_mouth_is_left_alone_unless_asked_for():
    faces = [head({"mouth_open": 0.5})] * 5
    assert pose_from_pictures(pictures(5), finder=finder_of(faces)).mouth is None
    assert pose_from_pictures(pictures(5), finder=finder_of(faces), mouth=True).mouth is not None


def test_a_face_that_is_lost_for_a_while_is_joined():
    faces = [head({"yaw": 0.0}), None, None, None, head({"yaw": 0.8}), None]
    assert controls_of(faces)["yaw"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8], abs=0.01)


def test_other_frame_rates_become_25():
    faces = [head({"yaw": value}) for value in np.linspace(0, 0.8, 11)]
    found = controls_of(faces, fps=10)["yaw"]
    assert len(found) == 26
    assert found == pytest.approx(np.linspace(0, 0.8, 26), abs=0.02)


def test_smoothing_takes_the_tremble_out():
    faces = [head({"yaw": 0.3 + 0.2 * (-1) ** number}) for number in range(50)]
    calm = pose_from_pictures(pictures(50), finder=finder_of(faces), smoothing=0.4)
    yaw = calm.pixel_signal(np.arange(10, 40))[:, 64].numpy()
    assert yaw == pytest.approx(0.3, abs=0.03)


def test_no_face_at_all_is_said():
    with pytest.raises(DrivingError, match="no face is found in the 3 pictures"):
        pose_from_pictures(pictures(3), finder=finder_of([None] * 3))
    with pytest.raises(DrivingError, match="no face is found in the 0 pictures"):
        pose_from_pictures([], finder=finder_of([]))


def test_a_face_seen_seldom_is_said(caplog):
    pose_from_pictures(pictures(5), finder=finder_of([head({}), None, None, None, None]))
    assert "only 1 of 5 pictures" in caplog.text


# the library


def test_without_mediapipe_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(DrivingError, match=r"needs MediaPipe.*pip install"):
        open_finder()


def test_a_mediapipe_without_its_model_asks_for_the_file(monkeypatch, tmp_path):
    newer = ModuleType("mediapipe")
    newer.__version__ = "1.2.2"
    monkeypatch.setitem(sys.modules, "mediapipe", newer)
    with pytest.raises(DrivingError, match=r"MediaPipe 1\.2\.2 comes without its face model.*face_landmarker\.task"):
        open_finder()
    with pytest.raises(DrivingError, match="there is no face model"), open_finder(tmp_path / "face_landmarker.task"):
        pass


def test_mediapipe_finds_the_faces_of_this_project():
    """The real library on rendered portraits, where the truth is known."""
    mediapipe = pytest.importorskip("mediapipe", reason='needs the extra "pose": pip install mediapipe')
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this mediapipe comes without its face model")
    truth = torch.zeros(14, 8)
    truth[:7, CONTROLS.index("yaw")] = torch.linspace(-0.8, 0.8, 7)
    truth[7:, CONTROLS.index("roll")] = torch.linspace(-0.8, 0.8, 7)
    clip = render_clip(torch.from_numpy(identity(5, "eval").values), truth, 128).numpy()
    driving = pose_from_pictures([(number / 25, picture) for number, picture in enumerate(clip)], smoothing=0)
    found = driving.pixel_signal(np.arange(14))[:, 64:72].numpy()
    for name in ("yaw", "roll"):
        column = CONTROLS.index(name)
        assert np.corrcoef(found[:, column], truth[:, column])[0, 1] > 0.95
        assert np.abs(found[:, column] - truth[:, column].numpy()).max() < 0.35


# the clip


def write_clip(path, count: int, fps: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=fps)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            picture = np.full((32, 32, 3), 5 * number % 255, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(("fps", "kept"), [(10, 20), (25, 50), (30, 60), (50, 50)])
def test_clips_are_read_at_about_25_pictures_a_second(tmp_path, fps, kept):
    write_clip(tmp_path / "clip.mp4", 2 * fps, fps)
    read = list(read_frames(tmp_path / "clip.mp4", 25))
    assert len(read) == pytest.approx(kept, abs=1)
    assert read[0][0] == 0
    assert read[-1][0] == pytest.approx(2, abs=1.5 / min(fps, 25))
    assert read[0][1].shape == (32, 32, 3)


def test_what_is_no_clip_is_said(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be read"):
        list(read_frames(tmp_path / "a.mp4", 25))
    with pytest.raises(MediaError, match="cannot be read"):
        list(read_frames(tmp_path / "none.mp4", 25))


def write_marked_clip(path, codec: str = "ffv1", broken: int | None = None) -> None:
    """50 pictures at 25 a second, red at the top and black below; of the packet `broken` nothing is left."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:12] = (255, 0, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 1  # no picture needs another
        frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for _ in range(50)]
        packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
        if broken is not None:
            whole, packets[broken] = packets[broken], av.Packet(b"\xff" * 40)
            for name in ("stream", "pts", "dts", "time_base"):
                setattr(packets[broken], name, getattr(whole, name))
        container.mux(packets)


def lay_on_its_side(path, quarters: int) -> None:
    """The video says that it is to be shown turned clockwise, as a phone's does that was held upright."""
    content = bytearray(path.read_bytes())
    matrix = content.find(b"tkhd") + 44  # 4 of the name, 4 of version and flags, 20 of times, 16 of layers and volume
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    content[matrix : matrix + 20] = struct.pack(">5i", cos << 16, sin << 16, 0, -sin << 16, cos << 16)
    path.write_bytes(content)


@pytest.mark.parametrize(("quarters", "edge"), [(0, np.s_[4, 32]), (1, np.s_[32, -5]), (2, np.s_[-5, 32]),
                                                (3, np.s_[32, 4])])  # fmt: skip
def test_a_clip_from_a_phone_is_read_upright(tmp_path, quarters, edge):
    write_marked_clip(tmp_path / "clip.mp4", "h264")
    lay_on_its_side(tmp_path / "clip.mp4", quarters)
    _, picture = next(read_frames(tmp_path / "clip.mp4", 25))
    assert picture.shape == ((64, 48, 3) if quarters % 2 else (48, 64, 3))
    assert picture.flags.c_contiguous
    assert picture[edge][0] > 200


def test_a_damaged_picture_is_left_out_and_the_clip_goes_on_behind_it(tmp_path, caplog):
    write_marked_clip(tmp_path / "clip.mkv", broken=20)
    seconds = [at for at, _ in read_frames(tmp_path / "clip.mkv", 25)]
    assert seconds == pytest.approx([number / 25 for number in range(50) if number != 20])
    (warning,) = caplog.messages
    assert "damaged" in warning
    assert "behind 0.76 s" in warning


def test_a_part_of_a_clip_begins_at_zero(tmp_path):
    write_marked_clip(tmp_path / "clip.mkv")
    seconds = [at for at, _ in read_frames(tmp_path / "clip.mkv", 25, start=0.4, length=1.0)]
    assert seconds == pytest.approx([number / 25 for number in range(25)])


def test_the_cover_of_a_sound_is_no_clip(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value  # PyAV 14 takes no less
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode())
    with pytest.raises(MediaError, match="has no pictures in it"):
        next(read_frames(tmp_path / "song.mp4", 25))
