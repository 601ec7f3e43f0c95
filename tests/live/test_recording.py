"""Recordings: what was shown, with its sound, playable, and marked as generated for machines."""

import struct
import threading
from functools import partial
from xml.etree import ElementTree

import av
import numpy as np
import pytest

from knot_core.media import open_writer
from knot_core.media.generated_mark import GENERATED
from knot_live import controls, recording
from knot_live.events import Cut, Recorded, Refused
from knot_live.recording import Recording, Shown

from .simulated import FPS, Scene

SAMPLES = 960  # a frame


def pictures(numbers, size=32):
    return np.stack([np.full((size, size, 3), number, dtype=np.uint8) for number in numbers])


def sound(numbers):
    return np.repeat(np.float32(numbers) / 256, SAMPLES)


def shown(pieces):
    frames = [int(frame[0, 0, 0]) for frames, _ in pieces for frame in frames]
    heard = np.concatenate([np.zeros(0), *(samples for _, samples in pieces)]).reshape(-1, SAMPLES)
    assert (heard == heard[:, :1]).all()
    assert len(heard) == len(frames)
    return frames, [round(256 * float(value)) for value in heard[:, 0]]


def recorded(tmp_path, pieces):
    ended, path = [], tmp_path / "recording.mp4"
    writing = Recording(path, FPS, lambda *told: ended.append(told))
    for frames, samples in pieces:
        writing.write(frames, samples)
    writing.close()
    writing.join()
    assert ended == [(path, "")]
    return path


def boxes(path):
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        found.append((data[place + 4 : place + 8], data[place + 8 : place + size]))
        place += size
    assert place == len(data)
    return found


def test_what_is_shown_leaves_and_what_is_cut_does_not():
    line = Shown(FPS)
    line.add(0, pictures(range(9)), sound(range(9)))
    line.add(9, pictures(range(9, 21)), sound(range(9, 21)))
    assert shown(line.take(5)) == ([*range(5)], [*range(5)])
    line.add(12, pictures(range(112, 121)), sound(range(112, 121)))
    assert shown(line.take(100)) == ([*range(5, 12), *range(112, 121)], [*range(5, 12), *range(112, 121)])
    assert line.take(100) == []


def test_what_was_not_heard_is_silent():
    line = Shown(FPS)
    mine = sound(range(1, 21))
    line.add(0, pictures(range(1, 10)), mine[: 9 * SAMPLES])
    line.add(9, pictures(range(10, 21)), mine[9 * SAMPLES :])
    line.silence(5)
    assert shown(line.take(20)) == ([*range(1, 21)], [*range(1, 6), *[0] * 15])
    assert mine.all()  # the sound that viewers are sent is another


def test_pictures_and_sound_come_back_in_step(tmp_path):
    loud = [0.5 * (20 <= frame < 40) for frame in range(75)]
    tone = np.concatenate([level * np.sin(np.arange(SAMPLES) * 0.2) for level in loud]).astype(np.float32)
    pieces = [(pictures(range(at, at + 25)), tone[at * SAMPLES : (at + 25) * SAMPLES]) for at in (0, 25, 50)]
    path = recorded(tmp_path, pieces)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    assert np.abs(np.subtract(frames, range(75))).max() < 4
    seconds = np.flatnonzero(np.abs(heard) > 0.1) / rate
    assert abs(seconds[0] - 20 / FPS) < 0.03
    assert abs(seconds[-1] - 40 / FPS) < 0.03


def test_the_file_says_to_machines_that_it_is_generated(tmp_path):
    path = recorded(tmp_path, [(pictures(range(25)), sound([0] * 25))])
    found = boxes(path)
    (content,) = [content for kind, content in found if kind == b"uuid"]
    assert content[:16].hex().upper() == "BE7ACFCB97A942E89C71999491E3AFAC"
    root = ElementTree.fromstring(content[16:].decode())
    names = {element.tag.split("}")[1]: element.text for element in root.iter()}
    assert names["DigitalSourceType"] == GENERATED
    assert found[-1][0] == b"mfra"  # players look for it at the end
    (size,) = struct.unpack(">I", path.read_bytes()[-4:])
    assert size == 8 + len(found[-1][1])
    with av.open(str(path), options={"export_xmp": "1"}) as container:
        assert GENERATED in container.metadata["xmp"]
        assert container.metadata["digital_source_type"] == GENERATED


def test_it_can_be_sought_in_as_before(tmp_path):
    path = recorded(tmp_path, [(pictures(range(at, at + 25)), sound([0] * 25)) for at in range(0, 150, 25)])
    with av.open(str(path)) as container:
        container.seek(4 * av.time_base)
        first = next(container.decode(video=0))
    assert 2.9 <= first.time <= 4
    assert abs(first.to_ndarray(format="rgb24").mean() - first.time * FPS) < 4


def test_what_cannot_be_written_ends_with_a_sentence(tmp_path):
    ended = []
    writing = Recording(tmp_path / "is a file" / "x.mp4", FPS, lambda *told: ended.append(told))
    (tmp_path / "is a file").write_text("")
    writing.write(pictures(range(5)), sound(range(5)))
    writing.close()
    writing.join()
    ((_, message),) = ended
    assert "broke off" in message


def test_a_host_opens_files_of_other_formats(tmp_path):
    ended, path = [], tmp_path / "recording.webm"
    opened = partial(open_writer, video_format="vp9-webm")
    writing = Recording(path, FPS, lambda *told: ended.append(told), opened)
    writing.write(pictures(range(9)), sound(range(9)))
    writing.close()
    writing.join()
    assert ended == [(path, "")]
    with av.open(str(path)) as container:
        assert container.metadata["DIGITAL_SOURCE_TYPE"] == GENERATED
        assert sum(1 for _ in container.decode(video=0)) == 9


def test_a_disc_that_is_too_slow_ends_it_and_memory_is_bounded(tmp_path):
    ended, go_on = [], threading.Event()

    class Slow(recording.VideoWriter):
        def write(self, pixel_frames):
            go_on.wait()
            super().write(pixel_frames)

    writing = Recording(tmp_path / "x.mp4", FPS, lambda *told: ended.append(told), Slow)
    for _ in range(100):
        writing.write(pictures([7] * 12), sound([0] * 12))
    assert len(writing._waiting) * 12 <= 11 * FPS
    go_on.set()
    writing.join()
    ((path, message),) = ended
    assert "longer than the pictures last" in message
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 12


@pytest.fixture
def scene(monkeypatch):
    return lambda **options: Scene(monkeypatch, **options)


def in_file(path):
    """Pictures by their level, and how loud each frame's sound is."""
    with av.open(str(path)) as container:
        levels = [round(float(frame.to_ndarray(format="rgb24").mean())) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    return levels, [float(np.abs(part).max(initial=0)) for part in np.array_split(heard, len(heard) * FPS // rate)]


def test_a_session_records_what_was_shown_from_the_asking_to_the_end(scene, tmp_path):
    here = scene(seconds=0.1, record_to=lambda: tmp_path / "shown.mp4")
    marks = []
    here.clock.at(4.0, lambda: (marks.append(here.viewer.next), here.session.apply(controls.StartRecording())))
    here.at(5.0, controls.SetControls({"yaw": 60}))
    here.clock.at(8.0, lambda: (marks.append(here.viewer.next), here.session.apply(controls.StopRecording())))
    here.run(seconds=10)
    assert here.told(Recorded) == [Recorded(tmp_path / "shown.mp4")]
    levels, _ = in_file(tmp_path / "shown.mp4")
    begin, end = marks
    shown = list(here.viewer.shown)[begin:end]
    assert abs(len(levels) - len(shown)) <= 2  # of a viewer who is believed to play on between acknowledgements
    changes = [next(place for place, value in enumerate(found) if value > 30) for found in (levels, shown)]
    assert abs(changes[0] - changes[1]) <= 2


def test_what_a_barge_in_cut_is_not_in_the_recording_and_nothing_is_heard_behind_it(scene, tmp_path):
    here = scene(seconds=0.1, record_to=lambda: tmp_path / "cut.mp4")
    here.session.apply(controls.StartRecording())
    here.at(2.0, controls.Speech(np.zeros(5 * 16_000, dtype=np.int16), 16_000))
    interrupted = []
    here.clock.at(4.0, lambda: interrupted.append(here.viewer.next))
    here.clock.at(4.0, lambda: here.session.apply(controls.Cancel(here.viewer.next - 1)))
    here.run(seconds=7)
    cut = here.told(Cut)[-1]  # the speech itself may have cut silence short
    assert cut.first_frame < max(
        chunk.first_frame + len(chunk.frames) for chunk in here.chunks if chunk.epoch == cut.epoch - 1
    )
    levels, loud = in_file(tmp_path / "cut.mp4")
    shown = list(here.viewer.shown)
    assert [level > 50 for level in levels[: len(shown)]] == [value > 50 for value in shown]
    assert len(levels) == max(chunk.first_frame + len(chunk.frames) for chunk in here.chunks)
    assert levels[cut.first_frame - 1] > 50 > levels[cut.first_frame]
    assert max(loud[interrupted[0] + 3 :]) < 0.01
    assert min(loud[interrupted[0] - 20 : interrupted[0] - 3]) > 0.1


def test_recordings_follow_one_another_and_two_at_once_are_refused(scene, tmp_path):
    names = iter("abc")
    here = scene(record_to=lambda: tmp_path / f"{next(names)}.mp4")
    for time, control in ((1, controls.StopRecording()), (2, controls.StartRecording()), (3, controls.StartRecording()),
                          (4, controls.StopRecording()), (5, controls.StartRecording())):  # fmt: skip
        here.at(time, control)
    here.run(seconds=7)
    assert [event.number for event in here.told(Refused)] == [1, 3]
    assert sorted(event.path.name for event in here.told(Recorded)) == ["a.mp4", "b.mp4"]
    assert all(event.message == "" for event in here.told(Recorded))


def test_a_session_without_a_place_for_recordings_refuses(scene):
    here = scene()
    here.session.apply(controls.StartRecording())
    here.run(seconds=1)
    assert "no place for recordings" in here.told(Refused)[0].message
