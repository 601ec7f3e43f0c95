"""Video out: H.264 and AAC in a fragmented MP4 that grows piece by piece and plays however early it is cut off.

Shapes: T pixel frames, H W height and width, C channels, S samples.
"""

import errno
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..errors import MediaError
from .sound import Audio

# empty_moov: the header stands first and is final. frag_keyframe: every key frame begins a fragment that is whole in
# itself. default_base_moof: fragments do not refer to places in the file. delay_moov: the header waits for the first
# fragment, so that it can say how many samples of encoder delay the player must skip; without it lips and sound part.
_FLAGS = "frag_keyframe+empty_moov+default_base_moof+delay_moov"
_AAC_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz
_AAC_BITS_PER_SECOND = 192_000
_BT709 = 1  # the number of ITU-R BT.709 in H.264's tables of matrices, primaries and transfer functions
_LIMITED = 1  # 16..235, what yuv420p players expect


class VideoWriter:
    """Write pixel frames as they come; sound, if there is any, is written beside them in step.

    What was written stays: `close` ends the file properly, also after an error, and a file that was never closed plays
    up to its last whole second. Sound longer than the pictures is cut off, shorter sound is followed by silence.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        fps: int = 25,
        audio: Audio | None = None,
        crf: int = 16,
    ) -> None:
        if width % 2 or height % 2 or min(width, height) < 2:
            raise MediaError(f"a video of {width}x{height} cannot be yuv420p; width and height must be even")
        self.path, self.fps, self.num_pixel_frames = Path(path), fps, 0
        self._size, self._audio, self._num_samples, self._broken = (height, width), audio, 0, False
        self._file = _File(self.path)
        try:
            self._container = av.open(self._file, "w", format="mp4", options={"movflags": _FLAGS})
            self._video = self._add_video(crf)
            self._sound = None if audio is None else self._add_sound(audio)
        except (av.error.FFmpegError, ValueError) as problem:
            self._file.close()
            raise MediaError(
                f"this PyAV cannot write H.264 with AAC ({problem}); "
                "install the av package as it comes from the package index"
            ) from problem

    def write(self, pixel_frames: Tensor) -> None:
        """Append uint8 [T, H, W, 3], and the sound that belongs to them."""
        if pixel_frames.dtype != torch.uint8 or tuple(pixel_frames.shape[1:]) != (*self._size, 3):
            raise MediaError(
                f"got pixel frames of {pixel_frames.dtype} {list(pixel_frames.shape)}; this video takes "
                f"uint8 [T, {self._size[0]}, {self._size[1]}, 3]"
            )
        try:
            for picture in pixel_frames.cpu().numpy():
                self._write_picture(picture)
                self._write_sound_until(Fraction(self.num_pixel_frames, self.fps))
        except (av.error.FFmpegError, OSError) as problem:
            self._broken = True
            raise MediaError(self._why(problem)) from problem

    def close(self) -> None:
        """End the file. After a failed write: leave it as it stands, which plays. Twice is once."""
        if self._file.closed:
            return
        try:
            if self._broken:
                self._file.cut_to_whole_fragments()
            else:
                self._finish()
        except (av.error.FFmpegError, OSError) as problem:
            raise MediaError(self._why(problem)) from problem
        finally:
            self._file.close()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _add_video(self, crf: int) -> av.VideoStream:
        stream = self._container.add_stream("h264", rate=self.fps, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size = self.fps  # a key frame, and so a fragment, every second
        context.max_b_frames = 0  # pictures leave in the order and at the time they come
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        return stream

    def _add_sound(self, audio: Audio) -> av.AudioStream:
        rate = audio.sample_rate if audio.sample_rate in _AAC_RATES else _AAC_RATES[-1]
        # noise substitution, on by default, makes audible bursts of a pure tone
        stream = self._container.add_stream("aac", rate=rate, options={"aac_pns": "0"})
        stream.layout, stream.bit_rate = _layout(audio), _AAC_BITS_PER_SECOND
        return stream

    def _write_picture(self, picture: np.ndarray) -> None:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = self.num_pixel_frames, Fraction(1, self.fps)
        self._container.mux(self._video.encode(frame))
        self.num_pixel_frames += 1

    def _write_sound_until(self, seconds: Fraction) -> None:
        audio = self._audio
        if audio is None:
            return
        stop = round(seconds * audio.sample_rate)
        samples = audio.samples[:, self._num_samples : stop]
        silence = stop - self._num_samples - samples.shape[1]
        samples = torch.nn.functional.pad(samples.clamp(-1, 1), (0, silence))
        frame = av.AudioFrame.from_ndarray(samples.contiguous().numpy(), format="fltp", layout=_layout(audio))
        frame.sample_rate, frame.time_base = audio.sample_rate, Fraction(1, audio.sample_rate)
        frame.pts, self._num_samples = self._num_samples, stop
        self._container.mux(self._sound.encode(frame))

    def _finish(self) -> None:
        for stream in self._container.streams:
            self._container.mux(stream.encode(None))
        self._container.close()

    def _why(self, problem: Exception) -> str:
        kept = f"{self.num_pixel_frames / self.fps:.1f} s were handed to it and what reached the disc plays"
        if getattr(problem, "errno", None) == errno.ENOSPC:
            return f"the disc is full while writing {self.path}: {kept}; free some room or choose another place"
        return f"{self.path} cannot be written ({getattr(problem, 'strerror', None) or problem}): {kept}"


class _File:
    """Unbuffered, so that a full disc shows at once; every write is whole or raises, which PyAV relies on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._raw = path.open("wb", buffering=0)
        except OSError as problem:
            raise MediaError(
                f"the video {path} cannot be written ({problem.strerror}); choose another place"
            ) from problem
        self.close = self._raw.close

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def cut_to_whole_fragments(self) -> None:
        """Take away the begun fragment at the end of an MP4, which players stumble over."""
        if not self._path.is_file():
            return  # a device
        with self._path.open("rb") as file:
            total = file.seek(0, os.SEEK_END)
            end = place = file.seek(0)
            while len(header := file.read(8)) == 8 and place + (size := int.from_bytes(header[:4], "big")) <= total:
                place = file.seek(place + size)
                end = place if header[4:] in (b"moov", b"mdat") else end
        self._raw.truncate(end)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[self._raw.write(rest) :]
        return len(data)


def _layout(audio: Audio) -> str:
    return "mono" if audio.samples.shape[0] == 1 else "stereo"
