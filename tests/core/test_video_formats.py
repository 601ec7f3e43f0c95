"""Every format that can be written: it plays, its sound is in step, and nothing but the last moment can be lost."""

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from knot_core.errors import MediaError, SettingsError
from knot_core.media import (
    FORMAT_NAMES,
    FORMATS,
    Audio,
    AudioFile,
    VideoWriter,
    folder,
    formats,
    open_audio,
    open_writer,
)
from knot_core.media.output_tracks import Tracks

RATE = 22_050  # Opus cannot, so it is resampled there
FRAGMENTED = [name for name, form in FORMATS.items() if form.fragmented]
LOSSLESS_ENOUGH = 25.0  # dB; what is written here is soft, and every encoder is far better


def soft_frames(count: int, size: int = 64, first: int = 0) -> Tensor:
    """Soft stripes that move; frame `first` comes first."""
    time, place = torch.arange(first, first + count).view(-1, 1, 1), torch.arange(size)
    wave = torch.sin(0.2 * time + 0.1 * place.view(1, -1, 1) + 0.05 * place.view(1, 1, -1))
    return (127 + 100 * wave).round().to(torch.uint8)[..., None].expand(-1, -1, -1, 3).contiguous()


def clicks(seconds: int, at: tuple[int, ...]) -> Audio:
    samples = torch.zeros(2, RATE * seconds)
    for second in at:
        samples[:, RATE * second : RATE * second + 50] = 0.9
    return Audio(samples=samples, sample_rate=RATE)


def psnr(some: Tensor, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((some.numpy().astype(float) - other) ** 2)))


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [
            frame.reformat(format="rgb24", src_colorspace="itu709").to_ndarray() for frame in container.decode(video=0)
        ]


def writes(writer, frames: Tensor) -> None:
    """As a stream does: 9 pixel frames, then 12, 12 ..."""
    writer.write(frames[:9])
    for start in range(9, len(frames), 12):
        writer.write(frames[start : start + 12])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_plays_with_its_sound_in_step(tmp_path, name):
    seconds, at = 5, (1, 2, 4)
    frames = soft_frames(25 * seconds)
    for second in at:
        frames[25 * second] = 255
    path = tmp_path / f"v{FORMATS[name].suffix}"
    with VideoWriter(path, width=64, height=64, audio=clicks(seconds, at), video_format=name) as writer:
        writes(writer, frames)
    pictures = decoded(path)
    assert len(pictures) == len(frames)
    assert psnr(frames[5], pictures[5]) > LOSSLESS_ENOUGH
    with av.open(str(path)) as container:
        seen = [frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 200]
    to_float = av.AudioResampler(format="fltp")
    with av.open(str(path)) as container:
        heard = [
            frame.time + place / frame.sample_rate
            for packed in container.decode(audio=0)
            for frame in to_float.resample(packed)
            for place in np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.3)
        ]
    assert seen == pytest.approx(list(at), abs=2e-3)
    assert [min(time for time in heard if abs(time - second) < 0.1) for second in at] == pytest.approx(at, abs=8e-3)


@pytest.mark.parametrize("name", FORMATS)
def test_length_is_known_and_any_second_is_found(tmp_path, name):
    path = tmp_path / f"v{FORMATS[name].suffix}"
    frames = soft_frames(25 * 6)
    with VideoWriter(path, width=64, height=64, video_format=name) as writer:
        writes(writer, frames)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(6, abs=0.05)
        assert container.streams.video[0].average_rate == 25
        container.seek(4_000_000)
        found = next(frame for frame in container.decode(video=0) if frame.time >= 4 - 1e-3)
    assert psnr(frames[100], found.reformat(format="rgb24", src_colorspace="itu709").to_ndarray()) > LOSSLESS_ENOUGH


def test_a_video_is_not_written_over_the_sound_that_is_read_for_it(tmp_path):
    path, link = tmp_path / "talk.mp4", tmp_path / "link.mp4"
    with open_writer(path, width=64, height=64, audio=clicks(1, (0,))) as writer:
        writer.write(soft_frames(25))
    link.symlink_to(path)
    before = path.read_bytes()
    for target in (path, link):
        with pytest.raises(SettingsError, match="would be written over its sound"):
            open_writer(target, width=64, height=64, audio=AudioFile(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", FRAGMENTED)
def test_every_write_is_whole_in_the_file_at_once(tmp_path, name):
    """An AV1 encoder may keep pictures back; the others give each as it comes."""
    writer = VideoWriter(tmp_path / "v.mp4", width=64, height=64, audio=clicks(4, (1,)), video_format=name)
    frames, kept_back = soft_frames(69), 16 if name == "av1-mp4" else 0
    for start, stop in ((0, 9), (9, 21), (21, 33), (33, 45), (45, 57), (57, 69)):
        writer.write(frames[start:stop])
        assert (tmp_path / "v.mp4").stat().st_size == writer.num_bytes
        shutil.copy(tmp_path / "v.mp4", tmp_path / "cut.mp4")
        if stop > kept_back:
            assert len(decoded(tmp_path / "cut.mp4")) >= stop - kept_back
    writer.close()


KILLED = """
    import sys, time, torch
    from knot_core.media import Audio, open_writer
    frames = (torch.arange(12 * 64 * 64 * 3) % 251).to(torch.uint8).view(12, 64, 64, 3)
    audio = Audio(samples=torch.zeros(1, 16000), sample_rate=16000)
    writer = open_writer(sys.argv[1], width=64, height=64, audio=audio, video_format=sys.argv[2])
    for chunk in range(12):
        writer.write(frames.roll(chunk, 1))
        print(chunk, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="WINDOWS HAS NO SIGKILL: a killed writer is not tested")
@pytest.mark.parametrize("name", ["h264-mp4", "vp9-webm", "prores-mov", "png-folder"])
def test_a_killed_process_leaves_what_it_wrote(tmp_path, name):
    path = tmp_path / f"v{FORMATS[name].suffix if name in FORMATS else ''}"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(path), name], stdout=subprocess.PIPE)
    for line in process.stdout:
        if line == b"11\n":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if name == "png-folder":
        assert len(list(path.glob("*.png"))) == 144
        assert open_audio(path / "sound.wav").seconds == pytest.approx(144 / 25)
        return
    pictures = decoded(path)
    assert len(pictures) == 144 if FORMATS[name].fragmented else 144 - 25 <= len(pictures) <= 144
    assert open_audio(path).seconds == pytest.approx(len(pictures) / 25, abs=0.5)


@pytest.mark.parametrize("name", ["h264-mp4", "vp9-webm", "png-folder"])
def test_what_the_header_is_told_stands_in_it(tmp_path, name):
    told = {"workflow": '{"nodes": [1, 2], "text": "Grüße"}', "prompt": '{"a": {}}'}
    path = tmp_path / f"v{FORMATS[name].suffix if name in FORMATS else ''}"
    with open_writer(path, width=64, height=64, video_format=name, metadata=told) as writer:
        writes(writer, soft_frames(33))
    if name == "png-folder":
        found = Image.open(path / "000000.png").text
    else:
        with av.open(str(path)) as container:
            found = {key.lower(): value for key, value in container.metadata.items()}
    assert told.items() <= found.items()


def test_a_folder_of_pictures_holds_the_very_pixels(tmp_path):
    frames = soft_frames(21)
    with open_writer(
        tmp_path / "shots", width=64, height=64, audio=clicks(1, (0,)), video_format="png-folder"
    ) as writer:
        writes(writer, frames)
        assert writer.num_pixel_frames == 21
    for number, frame in enumerate(frames):
        assert np.array_equal(np.array(Image.open(tmp_path / "shots" / f"{number:06}.png")), frame.numpy())
    sound = open_audio(tmp_path / "shots" / "sound.wav")
    assert sound.samples.shape == (2, round(Fraction(21, 25) * RATE))
    with pytest.raises(MediaError, match="not empty"):
        open_writer(tmp_path / "shots", width=64, height=64, video_format="png-folder")


def test_a_folders_sound_ends_before_a_wav_file_is_too_long(tmp_path, monkeypatch, caplog):
    """After 6 hours of stereo at 48 kHz; here after a tenth of a second."""
    monkeypatch.setattr(folder, "_MOST_BYTES", 2 * 2 * RATE // 10)
    with open_writer(
        tmp_path / "shots", width=64, height=64, audio=clicks(1, (0,)), video_format="png-folder"
    ) as writer:
        writes(writer, soft_frames(21))
    assert len(list((tmp_path / "shots").glob("*.png"))) == 21
    assert open_audio(tmp_path / "shots" / "sound.wav").samples.shape == (2, RATE // 10)
    assert caplog.text.count("go on without sound") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="THIS SYSTEM HAS NO /dev/full: a full disc is not tested")
def test_a_full_disc_under_a_folders_sound_is_said(tmp_path):
    writer = open_writer(tmp_path / "shots", width=64, height=64, audio=clicks(1, (0,)), video_format="png-folder")
    writer._sound._file.close()
    writer._sound._file = writer._sound._i_opened_the_file = open("/dev/full", "wb")  # noqa: SIM115
    with pytest.raises(MediaError, match="disk is full"), writer:
        writer.write(soft_frames(21))


def test_a_player_is_told_what_comes(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", width=64, height=64, audio=clicks(1, (0,))) as writer:
        writer.write(soft_frames(9))
        assert writer.mime.startswith('video/mp4; codecs="avc1.')
        assert writer.mime.endswith(', mp4a.40.2"')
        assert len(writer.mime.split("avc1.")[1].split(",")[0]) == 6


def test_formats_that_are_not_there_are_named(tmp_path, monkeypatch):
    with pytest.raises(MediaError, match="'mpeg'; choose one of h264-mp4"):
        VideoWriter(tmp_path / "v", width=64, height=64, video_format="mpeg")
    monkeypatch.setattr(formats, "has_encoder", lambda name: name != "libx265")
    with pytest.raises(MediaError, match=r"no encoder libx265 for h265-mp4 .*choose one of h264-mp4, av1"):
        VideoWriter(tmp_path / "v", width=64, height=64, video_format="h265-mp4")
    assert not list(tmp_path.iterdir())
    assert set(FORMAT_NAMES) == {*FORMATS, "png-folder"}


@pytest.mark.parametrize("start_at", [0.0, 0.7])
def test_a_file_read_piece_by_piece_is_the_file(tmp_path, start_at):
    frames = soft_frames(50)
    noise = torch.rand(2, RATE * 2, generator=torch.Generator().manual_seed(0)) - 0.5
    with VideoWriter(tmp_path / "v.mp4", width=64, height=64, audio=Audio(samples=noise, sample_rate=RATE)) as writer:
        writes(writer, frames)
    whole = open_audio(tmp_path / "v.mp4").starting_at(start_at)
    pieces = AudioFile(tmp_path / "v.mp4", seconds=start_at)
    assert (pieces.sample_rate, pieces.num_channels) == (whole.sample_rate, whole.num_channels)
    edges = [0, 1, 1, 500, 5000, 5001, 30_000, 60_000, 70_000]
    for start, stop in itertools.pairwise(edges):
        assert torch.equal(pieces.read(start, stop), whole.read(start, stop))
    with pytest.raises(MediaError, match="open it again"):
        pieces.read(0, 10)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="NO /proc: memory is not measured")
def test_memory_does_not_grow_with_the_video(tmp_path):
    """Half an hour of the smallest pictures, with sound read from a file: less than 1 % of the process."""
    with VideoWriter(tmp_path / "s.mp4", width=16, height=16, audio=clicks(60, (1,))) as writer:
        for _ in range(60):
            writer.write(soft_frames(25, 16))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    chunk = soft_frames(12, 32)
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32, audio=AudioFile(tmp_path / "s.mp4")) as writer:
        for _ in range(125):  # a minute
            writer.write(chunk)
        before = resident()
        for _ in range(29 * 125):
            writer.write(chunk)
        assert resident() < 1.01 * before


@pytest.mark.parametrize("name", FORMATS)
def test_an_encoder_that_errs_in_its_times_spoils_no_video(tmp_path, monkeypatch, name):
    """Muxers refuse a picture that is no later than the one before it."""
    numbered = Tracks._numbered

    def numbered_wrongly(tracks: Tracks, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.pts = packet.dts = 3
        return numbered(tracks, packets)

    monkeypatch.setattr(Tracks, "_numbered", numbered_wrongly)
    path = tmp_path / "video"
    with open_writer(path, width=64, height=64, fps=25, video_format=name) as writer:
        writes(writer, soft_frames(33))
    with av.open(str(path)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(33)], abs=0.001)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="NO /proc: threads are not counted")
@pytest.mark.parametrize("name", FORMATS)
def test_an_encoders_threads_end_with_its_writer(tmp_path, name):
    """Without waiting for the garbage collector, which a host that streams has little reason to run."""
    frames = soft_frames(21)  # torch starts threads of its own
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/task"))
        with open_writer(tmp_path / "video", width=64, height=64, fps=25, video_format=name) as writer:
            writes(writer, frames)
        del writer
        assert len(os.listdir("/proc/self/task")) <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("name", FORMATS)
def test_a_writer_that_nobody_closed_is_no_danger(tmp_path, name):
    """PyAV 14 crashes where the garbage collector closes a file that was being written: so it is never left to it."""
    code = f"""
        import gc, torch
        from knot_core.media import open_writer
        writer = open_writer({str(tmp_path / "video")!r}, width=64, height=64, fps=25, video_format={name!r})
        writer.write(torch.zeros(9, 64, 64, 3, dtype=torch.uint8))
        circle = [writer]
        circle.append(circle)
        del writer, circle
        gc.collect()
        open_writer({str(tmp_path / "other")!r}, width=64, height=64, fps=25, video_format={name!r})
        print("fine")
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "fine"), ran.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="NOT TESTED here: threads have no such priority")
@pytest.mark.parametrize("name", FORMATS)
def test_no_thread_gets_another_priority(tmp_path, name):
    """As root SVT-AV1 takes the highest for the thread that opens it, and for its own."""

    def priorities() -> set[tuple[int, int]]:
        found = set()
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it has ended
                found.add((os.sched_getscheduler(int(thread.name)), os.sched_getparam(int(thread.name)).sched_priority))
        return found

    before = priorities()
    with open_writer(tmp_path / "video", width=64, height=64, fps=25, video_format=name) as writer:
        writes(writer, soft_frames(21))
        during = priorities()
    assert during == before == priorities()
