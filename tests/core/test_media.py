"""Pictures, sound and video: anything sensible is read, everything written plays, bad input gets one sentence."""

import logging
import shutil
import struct
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from knot_core.errors import MediaError
from knot_core.media import Audio, AudioFile, VideoWriter, fit_image, open_audio, open_image, save_contact_sheet

HALF = 0.5**0.5  # the weight of a channel above, behind, or on both sides


def quadrants(height: int, width: int, maximum: int = 255, dtype: type = np.uint8) -> np.ndarray:
    """Grey quarters of a different shade each, to tell which way up a picture is."""
    picture = np.zeros((height, width), dtype=dtype)
    shades = (0.2, 0.4, 0.6, 0.8)
    half_height, half_width = height // 2, width // 2
    for shade, rows, columns in zip(
        shades,
        (slice(half_height), slice(half_height), slice(half_height, None), slice(half_height, None)),
        (slice(half_width), slice(half_width, None)) * 2,
        strict=True,
    ):
        picture[rows, columns] = round(shade * maximum)
    return picture


def assert_quadrants(image: Tensor) -> None:
    corners = image[[4, 4, 27, 27], [4, 43, 4, 43]].mean(dim=1)
    torch.testing.assert_close(corners, torch.tensor([0.2, 0.4, 0.6, 0.8]), atol=0.03, rtol=0)


def save_sound(path: Path, waveform: np.ndarray, rate: int, codec: str = "pcm_s16le", layout: str = "mono") -> Path:
    """waveform float32 [C, S]"""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform, np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tone(rate: int, seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate), (channels, 1))


def random_frames(count: int, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def decode_video(path: Path, *, cut: bool = False) -> list[np.ndarray]:
    """All pictures; of a `cut` file, those before the picture that is cut through."""
    pictures = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                pictures.append(frame.to_ndarray(format="rgb24"))
        except av.error.InvalidDataError:
            assert cut
    return pictures


# pictures


STORED = {
    "png": ("RGB", "L", "P", "1", "RGBA", "LA", "I;16"),
    "tif": ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16"),
    "jpg": ("RGB", "L", "CMYK"),
    "webp": ("RGB", "L", "RGBA"),
    "gif": ("L", "P"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in STORED for mode in STORED[suffix]])
def test_every_mode_reads_upright_in_zero_to_one(tmp_path, suffix, mode):
    path = tmp_path / f"picture.{suffix}"
    if mode == "I;16":
        Image.fromarray(quadrants(32, 48, 65535, np.uint16)).save(path)
    else:
        Image.fromarray(quadrants(32, 48)).convert(mode).save(path)
    image = open_image(path)
    assert image.shape == (32, 48, 3)
    assert image.dtype == torch.float32
    if mode != "1":  # black and white has no shades
        assert_quadrants(image)


def test_values_above_white_are_white_and_said(tmp_path, caplog):
    """Pictures of floats go to 1, or some programs' to 255, which nobody can tell."""
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "one.tif")
    assert torch.equal(open_image(tmp_path / "one.tif")[..., 0], torch.from_numpy(values))
    assert not caplog.messages
    values[0, 0], values[0, 1] = np.nan, np.inf
    Image.fromarray(255 * values).save(tmp_path / "many.tif")
    found = open_image(tmp_path / "many.tif")
    assert found[0, 0, 0] == 0
    assert found.flatten()[3:].min() == 1
    assert caplog.messages == [f"{tmp_path / 'many.tif'} holds values up to 255, where white is 1: all above it are "
                               "white"]  # fmt: skip


@pytest.mark.parametrize("suffix", ["webp", "gif", "png", "tif"])
def test_of_several_pictures_in_a_file_the_first_is_taken_and_it_is_said(tmp_path, caplog, suffix):
    caplog.set_level(logging.INFO)
    first, *others = (Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in (255, 100, 0))
    first.save(tmp_path / f"some.{suffix}", save_all=True, append_images=others)
    assert open_image(tmp_path / f"some.{suffix}").min() > 0.98
    assert f"{tmp_path / 'some'}.{suffix} holds 3 pictures: the first one is taken" in caplog.messages
    first.save(tmp_path / "one.png")
    caplog.clear()
    open_image(tmp_path / "one.png")
    assert not caplog.messages


def test_colour_of_16_bits_is_read(tmp_path):
    deep = np.repeat(quadrants(32, 48, 65535, np.uint16)[..., None], 3, axis=2)
    with av.open(str(tmp_path / "deep.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "rgb48be"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(deep, format="rgb48le")))
        container.mux(stream.encode(None))
    assert_quadrants(open_image(tmp_path / "deep.png"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.fromarray(quadrants(32, 48)).convert("RGB")
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(open_image(tmp_path / "turned.png"), torch.from_numpy(np.array(upright)).float() / 255)


def test_transparency_shows_white(tmp_path, caplog):
    rgba = np.zeros((8, 8, 4), dtype=np.uint8)
    rgba[:, 4:, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "cutout.png")
    with caplog.at_level(logging.INFO):
        image = open_image(str(tmp_path / "cutout.png"))
    assert (image[:, :4] == 1).all()
    assert (image[:, 4:] == 0).all()
    assert "transparent" in caplog.text


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (64, 64), (333, 77), (100, 301), (2000, 31)])
def test_any_size_fits(fit, height, width):
    image = fit_image(torch.full((height, width, 4), 0.5), 64, 48, fit)
    assert image.shape == (64, 48, 3)
    if fit == "crop":
        torch.testing.assert_close(image, torch.full((64, 48, 3), 0.5), atol=1e-5, rtol=0)


def test_crop_takes_the_centre_and_letterbox_keeps_all():
    wide = torch.zeros(64, 128, 3)
    wide[:, 32:96] = 1
    assert (fit_image(wide, 64, 64, "crop") == 1).all()
    boxed = fit_image(wide, 64, 64, "letterbox")
    assert (boxed[:16] == 0).all()
    assert (boxed[48:] == 0).all()
    assert boxed[32, 32].eq(1).all()


def test_what_was_done_to_a_picture_is_said(caplog):
    with caplog.at_level(logging.INFO):
        fit_image(torch.zeros(64, 64, 3), 64, 64)
    assert not caplog.text
    with caplog.at_level(logging.INFO):
        fit_image(torch.zeros(64, 100, 3), 128, 128, "crop")
        fit_image(torch.zeros(64, 100, 3), 128, 128, "letterbox")
    assert "100x64" in caplog.text
    assert "cropped" in caplog.text
    assert "letterboxed" in caplog.text


def test_no_picture_gets_one_sentence(tmp_path):
    (tmp_path / "note.png").write_text("this is a letter")
    with pytest.raises(MediaError, match=r"note\.png is no picture"):
        open_image(tmp_path / "note.png")
    Image.fromarray(quadrants(64, 64)).save(tmp_path / "half.png")
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"half\.png"):
        open_image(tmp_path / "half.png")
    with pytest.raises(MediaError, match=r"nowhere\.png cannot be read"):
        open_image(tmp_path / "nowhere.png")
    with pytest.raises(MediaError, match="cannot be read"):
        open_image(tmp_path)
    with pytest.raises(MediaError, match="NaN"):
        fit_image(torch.full((4, 4, 3), torch.nan), 16, 16)
    with pytest.raises(MediaError, match="shape"):
        fit_image(torch.zeros(4, 4), 16, 16)
    with pytest.raises(MediaError, match="fit is 'squash'"):
        fit_image(torch.zeros(4, 4, 3), 16, 16, "squash")


# sound


@pytest.mark.parametrize(("suffix", "codec"), [
    ("wav", "pcm_s16le"), ("wav", "pcm_s24le"), ("wav", "pcm_f32le"), ("wav", "pcm_u8"), ("flac", "flac"),
    ("m4a", "aac"), ("mp4", "aac"), ("mkv", "pcm_s16le")])  # fmt: skip
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_sound_of_any_format_keeps_its_rate_and_level(tmp_path, suffix, codec, rate, channels):
    layout = "mono" if channels == 1 else "stereo"
    audio = open_audio(save_sound(tmp_path / f"sound.{suffix}", tone(rate, 0.5, channels), rate, codec, layout))
    assert audio.sample_rate == rate
    assert audio.samples.shape[0] == channels
    assert audio.seconds == pytest.approx(0.5, abs=0.1)
    assert audio.samples.abs().max().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 96_000, 192_000])
def test_any_rate(tmp_path, rate):
    assert open_audio(save_sound(tmp_path / "s.wav", tone(rate), rate)).sample_rate == rate


def test_surround_becomes_stereo_and_many_channels_their_mean(tmp_path):
    surround = save_sound(tmp_path / "s.wav", tone(48_000, 0.1, 6), 48_000, layout="5.1")
    assert open_audio(surround).samples.shape == (2, 4800)
    assert Audio(samples=torch.ones(6, 10), sample_rate=8000).samples.shape == (1, 10)


@pytest.mark.parametrize("layout", ["2.1", "quad", "5.1", "7.1"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le"])
def test_loud_channels_stay_within_full_scale_when_they_are_mixed_down(tmp_path, layout, codec):
    """And soft ones keep their proportions: the mix is linear."""
    channels = av.AudioLayout(layout).nb_channels
    found = {}
    for level in (1.0, 0.25):
        path = tmp_path / f"{level}.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=48_000)
            stream.layout = layout
            packed = np.full((1, channels * 4800), level, np.float32)
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=48_000)
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
        found[level] = open_audio(path).samples
        assert found[level].shape == (2, 4800)
    assert 0.9 < found[1.0].max() <= 1.0001
    assert torch.allclose(found[0.25], 0.25 * found[1.0], atol=2e-4)


@pytest.mark.parametrize(("mask", "left", "right"), [
    (0x001 + 0x020 + 0x800, 1 + 3 * HALF, 2 * HALF + 3 * HALF),  # front left, back right, above
    (0x001 + 0x002 + 0x008 + 0x1000, 1 + 4 * HALF, 2),  # front left and right, bass, above on the left
    (0x100 + 0x200 + 0x400, HALF + 2 * HALF, HALF + 3 * HALF),  # behind, left and right
    (0x03F, 1 + 3 * HALF + 5 * HALF, 2 + 3 * HALF + 6 * HALF),  # 5.1
])  # fmt: skip
def test_channels_of_any_layout_are_heard_on_their_sides(tmp_path, mask, left, right):
    """FFmpeg refuses some, which it has no rule to mix. The levels of the channels are 1, 2, 3 ... of 100."""
    count, rate = mask.bit_count(), 48_000
    samples = np.tile(np.arange(1, count + 1, dtype="<f4") / 100, rate).tobytes()
    form = struct.pack("<HHIIHHHHI", 0xFFFE, count, rate, 4 * count * rate, 4 * count, 32, 22, 32, mask)
    form += bytes.fromhex("0300000000001000800000aa00389b71")  # floats
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(samples)) + samples
    (tmp_path / "s.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    mixed = 100 * open_audio(tmp_path / "s.wav").samples.mean(dim=1)
    assert mixed[1] / mixed[0] == pytest.approx(right / left, rel=1e-3)
    assert left / 4 < mixed[0] <= left * 1.001


@pytest.mark.parametrize(("suffix", "layout"), [("mkv", "5.1"), ("wav", "5.1"), ("mkv", "4.0"), ("wav", "quad")])
@pytest.mark.parametrize("signs", [(1, -1, 0, 0), (1, 1, -1, 0), (1, -1, 1, -1), (0, 0, 1, -1)])
def test_a_voice_in_opposite_phase_is_heard_however_many_channels_there_are(tmp_path, suffix, layout, signs):
    """Matroska does not say which channel is which: all of them are on both sides then, where they may cancel."""
    count = av.AudioLayout(layout).nb_channels
    signs = np.float32([*signs[:2], *([0, 0] if count == 6 else []), *signs[2:]])
    voice = tone(48_000, 2.5)[0] * 0.25
    loudest = []
    for name, channels in (("both", signs), ("one", np.maximum(signs, 0))):
        path = save_sound(tmp_path / f"{name}.{suffix}", channels[:, None] * voice, 48_000, "pcm_f32le", layout=layout)
        whole, file = open_audio(path).samples, AudioFile(path)
        assert whole.shape == (2, voice.size)
        pieces = [file.read(at, at + 30_000) for at in range(0, voice.size, 30_000)]
        assert torch.equal(torch.cat(pieces, dim=1), whole)
        loudest.append(float(whole.square().mean(dim=1).max()))
    assert loudest[0] > 0.1 * loudest[1] > 1e-6


def test_silence_and_a_single_sample_are_sound(tmp_path):
    assert not open_audio(save_sound(tmp_path / "s.wav", np.zeros((1, 800)), 16_000)).samples.any()
    assert open_audio(save_sound(tmp_path / "1.wav", np.ones((1, 1)), 16_000)).samples.shape == (1, 1)


def test_the_sound_of_a_video_is_read(tmp_path):
    with VideoWriter(
        tmp_path / "v.mp4", width=32, height=32, audio=Audio(samples=torch.from_numpy(tone(16_000)), sample_rate=16_000)
    ) as writer:
        writer.write(random_frames(25))
    assert open_audio(tmp_path / "v.mp4").seconds == pytest.approx(1.0, abs=0.1)


def test_no_sound_gets_one_sentence(tmp_path):
    (tmp_path / "note.wav").write_text("this is a letter")
    with pytest.raises(MediaError, match=r"note\.wav cannot be read"):
        open_audio(tmp_path / "note.wav")
    with pytest.raises(MediaError, match="cannot be read"):
        open_audio(tmp_path / "nowhere.wav")
    with VideoWriter(tmp_path / "mute.mp4", width=32, height=32) as writer:
        writer.write(random_frames(5))
    with pytest.raises(MediaError, match="no audio stream"):
        open_audio(tmp_path / "mute.mp4")
    save_sound(tmp_path / "empty.wav", tone(16_000), 16_000)
    (tmp_path / "empty.wav").write_bytes((tmp_path / "empty.wav").read_bytes()[:78])  # the header alone
    with pytest.raises(MediaError, match=r"empty\.wav"):
        open_audio(tmp_path / "empty.wav")
    with pytest.raises(MediaError, match="NaN"):
        Audio(samples=torch.full((1, 5), torch.nan), sample_rate=16_000)
    with pytest.raises(MediaError, match="sample rate is 0"):
        Audio(samples=torch.zeros(1, 5), sample_rate=0)


# video


def test_pictures_and_sound_come_back_in_step(tmp_path):
    """A white picture and a click at the same moments, to 5 ms."""
    rate, seconds = 44_100, (1, 2, 4)
    pictures = torch.zeros(25 * 5, 32, 32, 3, dtype=torch.uint8)
    samples = torch.zeros(2, rate * 5)
    for second in seconds:
        pictures[25 * second] = 255
        samples[:, rate * second : rate * second + 50] = 0.9
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32, audio=Audio(samples=samples, sample_rate=rate)) as writer:
        for start in (0, 9, 21, 33):
            writer.write(pictures[start : {0: 9, 9: 21, 21: 33, 33: 125}[start]])
    with av.open(str(tmp_path / "v.mp4")) as container:
        video, sound = container.streams
        assert (video.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert (video.pix_fmt, video.average_rate, video.width, video.height) == ("yuv420p", 25, 32, 32)
        seen = [frame.time for frame in container.decode(video) if frame.to_ndarray(format="gray").mean() > 128]
        container.seek(0)
        heard = [
            frame.time + place / rate
            for frame in container.decode(sound)
            for place in np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.5)
        ]
    assert seen == pytest.approx(list(seconds))
    first_of_click = [min(time for time in heard if abs(time - second) < 0.1) for second in seconds]
    assert first_of_click == pytest.approx(list(seconds), abs=5e-3)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 96_000])
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_sound_of_any_rate_and_length_is_as_long_as_the_pictures(tmp_path, rate, seconds):
    audio = Audio(samples=torch.from_numpy(tone(rate, seconds)), sample_rate=rate)
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32, audio=audio) as writer:
        writer.write(random_frames(50))
    written = open_audio(tmp_path / "v.mp4")
    assert written.seconds == pytest.approx(2.0, abs=0.1)
    early = written.samples[:, : int(0.4 * written.sample_rate)]
    assert early.abs().max().item() == pytest.approx(0.5, abs=0.1)


def test_colours_survive(tmp_path):
    colours = torch.tensor([[200, 40, 40], [40, 200, 40], [40, 40, 200], [230, 190, 160]], dtype=torch.uint8)
    pictures = colours[:, None, None].expand(4, 32, 32, 3).contiguous()
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32) as writer:
        writer.write(pictures)
    with av.open(str(tmp_path / "v.mp4")) as container:
        for frame, colour in zip(container.decode(video=0), colours, strict=True):
            assert (frame.colorspace, frame.color_range) == (1, 1), "BT.709, limited range"
            # PyAV 14 converts by BT.601 where it is asked for no other matrix than the frame's own
            back = frame.reformat(format="rgb24", src_colorspace="itu709", dst_colorspace="default")
            back = back.to_ndarray().reshape(-1, 3).mean(0)
            np.testing.assert_allclose(back, colour, atol=4)


def test_a_file_that_was_never_closed_plays(tmp_path):
    writer = VideoWriter(
        tmp_path / "v.mp4", width=32, height=32, audio=Audio(samples=torch.zeros(1, 16_000 * 9), sample_rate=16_000)
    )
    for second in range(1, 7):
        writer.write(random_frames(25))
        shutil.copy(tmp_path / "v.mp4", tmp_path / "cut.mp4")  # what a killed process leaves
        assert len(decode_video(tmp_path / "cut.mp4")) == 25 * second
    cut = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: int(len(cut) * 0.7)])
    assert len(decode_video(tmp_path / "cut.mp4", cut=True)) >= 25 * 2
    writer.close()
    writer.close()
    assert len(decode_video(tmp_path / "v.mp4")) == 150


def test_a_writer_in_trouble_ends_its_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "v.mp4", width=32, height=32) as writer:  # noqa: PT012
        writer.write(random_frames(30))
        raise KeyboardInterrupt
    assert len(decode_video(tmp_path / "v.mp4")) == 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="THIS SYSTEM HAS NO /dev/full: a full disc is not tested")
def test_a_full_disc_gets_one_sentence():
    with pytest.raises(MediaError, match="disk is full"), VideoWriter("/dev/full", width=64, height=64) as writer:  # noqa: PT012
        for _ in range(20):
            writer.write(random_frames(25, 64))


@pytest.mark.skipif(sys.platform == "win32", reason="WINDOWS HAS NO FILE SIZE LIMIT: a full disc is not tested")
def test_what_was_made_before_the_disc_was_full_plays(tmp_path):
    code = """
        import resource, signal, sys, torch
        from knot_core.errors import MediaError
        from knot_core.media import VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        frames = torch.randint(0, 256, (25, 64, 64, 3), dtype=torch.uint8)
        try:
            with VideoWriter(sys.argv[1], width=64, height=64) as writer:
                for _ in range(40):
                    writer.write(frames)
        except MediaError as problem:
            print(problem)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "v.mp4")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be written" in ran.stdout
    assert not ran.stderr
    assert (tmp_path / "v.mp4").stat().st_size <= 400_000
    assert len(decode_video(tmp_path / "v.mp4")) >= 25


def test_a_bad_video_gets_one_sentence(tmp_path):
    with pytest.raises(MediaError, match="must be even"):
        VideoWriter(tmp_path / "v.mp4", width=33, height=32)
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "v.mp4", width=32, height=32)
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32) as writer:
        with pytest.raises(MediaError, match=r"takes uint8 \[T, 32, 32, 3\]"):
            writer.write(random_frames(1, 64))
        writer.write(random_frames(3))
    assert len(decode_video(tmp_path / "v.mp4")) == 3


def test_contact_sheet_shows_every_picture(tmp_path):
    pictures = [(f"{i / 2:.1f} s", torch.full((32, 32, 3), 20 * i, dtype=torch.uint8)) for i in range(8)]
    save_contact_sheet(tmp_path / "new" / "sheet.png", pictures, columns=3)
    sheet = np.array(Image.open(tmp_path / "new" / "sheet.png"))
    for place in range(8):
        row, column = divmod(place, 3)
        assert (sheet[4 + row * 50 + 30, 4 + column * 36 + 16] == 20 * place).all()
