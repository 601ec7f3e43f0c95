"""Video out as a folder of pictures, with the sound beside them: nothing is lossy, and nothing has to be ended.

Shapes: T pixel frames, H W height and width, C channels, S samples.
"""

import logging
import os
import wave
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..errors import MediaError
from .formats import PICTURES, format_of
from .generated_mark import PNG_KEYWORD, XMP
from .output_tracks import SoundTrack, sound_between
from .video import VideoWriter, check_pixel_frames, why

logger = logging.getLogger(__name__)

_MOST_BYTES = 2**32 - 64  # of a WAV file's samples, whose sizes have 32 bits
_FAST = 1  # of zlib's levels; the higher ones take ten times as long for a tenth less


class Writer(Protocol):
    """The interface of writers of a stream."""

    path: Path
    num_bytes: int

    @property
    def num_pixel_frames(self) -> int:
        """The number of pixel frames written so far."""

    def write(self, pixel_frames: Tensor) -> None:
        """Append uint8 [T, H, W, 3], and the sound that belongs to them."""

    def close(self) -> None:
        """Complete the output; calling it again has no effect."""

    def __enter__(self) -> "Writer": ...

    def __exit__(self, *error: object) -> None: ...


def open_writer(  # noqa: PLR0913 - the public door
    path: str | os.PathLike[str],
    *,
    width: int,
    height: int,
    fps: int = 25,
    audio: SoundTrack | None = None,
    video_format: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Writer:
    """Open a video file, or a folder of pictures. `video_format` None: the one that the path's suffix names."""
    video_format = format_of(path) if video_format is None else video_format
    if video_format == PICTURES:
        return PictureFolder(path, width=width, height=height, fps=fps, audio=audio, metadata=metadata)
    return VideoWriter(path, width=width, height=height, fps=fps, audio=audio, video_format=video_format,
                       metadata=metadata)  # fmt: skip


class PictureFolder:
    """Writes 000000.png, 000001.png ... and sound.wav. `metadata` goes into the first picture; each says that it is
    generated.
    """

    num_bytes = 0  # nothing here plays as it grows

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        fps: int = 25,
        audio: SoundTrack | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Make the folder for frames of `width` x `height` pixels.

        Raises:
            MediaError: the folder is not empty, or cannot be written.
        """
        self.path, self.fps, self.num_pixel_frames = Path(path), fps, 0
        self._size, self._audio, self._num_samples = (height, width), audio, 0
        self._metadata, self._sound = metadata or {}, None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise MediaError(f"the folder {self.path} is not empty; name a new one for the pictures")
            self._sound = None if audio is None else _open_wave(self.path / "sound.wav", audio)
        except OSError as problem:
            raise MediaError(
                f"the folder {self.path} cannot be written ({problem.strerror}); choose another place"
            ) from problem

    def write(self, pixel_frames: Tensor) -> None:
        """Append uint8 [T, H, W, 3], and the sound that belongs to them.

        Raises:
            MediaError: the frames have another dtype or shape, or cannot be written.
        """
        check_pixel_frames(pixel_frames, self._size)
        try:
            for picture in pixel_frames.cpu().numpy():
                info = PngInfo()
                info.add_itxt(PNG_KEYWORD, XMP)
                for key, value in self._metadata.items() if self.num_pixel_frames == 0 else ():
                    info.add_text(key, value)
                place = self.path / f"{self.num_pixel_frames:06}.png"
                Image.fromarray(picture).save(place, pnginfo=info, compress_level=_FAST)
                self.num_pixel_frames += 1
            self._write_sound()
        except OSError as problem:
            raise MediaError(why(problem, self.path, self.num_pixel_frames / self.fps)) from problem

    def close(self) -> None:
        """Finish the sound; calling it again has no effect.

        Raises:
            MediaError: the sound cannot be completed.
        """
        try:
            self._end_sound()
        except OSError as problem:
            raise MediaError(why(problem, self.path, self.num_pixel_frames / self.fps)) from problem

    def __enter__(self) -> "PictureFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _end_sound(self) -> None:
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.close()

    def _write_sound(self) -> None:
        audio = self._audio
        if audio is None or self._sound is None:
            return
        wanted = round(Fraction(self.num_pixel_frames, self.fps) * audio.sample_rate)
        stop = min(wanted, _MOST_BYTES // (2 * audio.num_channels))
        samples = sound_between(audio, self._num_samples, stop)
        self._num_samples = stop
        self._sound.writeframes((samples.T * 32767).round().short().numpy().tobytes())  # mends the header each time
        if stop < wanted:
            self._end_sound()
            logger.warning("sound.wav is as long as a WAV file can be, %.1f hours; the pictures go on without sound",
                           stop / audio.sample_rate / 3600)  # fmt: skip


def _open_wave(path: Path, audio: SoundTrack) -> wave.Wave_write:
    sound = wave.open(str(path), "wb")  # noqa: SIM115 - closed with the folder
    sound.setparams((audio.num_channels, 2, audio.sample_rate, 0, "NONE", ""))
    return sound
