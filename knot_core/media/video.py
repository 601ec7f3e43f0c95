"""Video out, piece by piece: what was written plays, however early it is cut off, and memory does not grow.

Shapes: T pixel frames, H W height and width.
"""

import errno
import io
import os
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import av
import torch
from torch import Tensor

from ..errors import MediaError
from ..files import check_outputs
from .durable_file import DurableFile
from .formats import DEFAULT, format_named
from .fragments import Fragments
from .generated_mark import GENERATED_BOX, GENERATED_METADATA
from .output_tracks import SoundTrack, Tracks
from .priority import priority_kept

_MOST_FPS = 1000


class VideoWriter:
    """Write pixel frames as they come; sound, if there is any, is interleaved with them.

    `close` completes the file, also after an error. A file that was never closed plays up to the last `write` if it is
    an MP4, else up to its last whole second. Sound longer than the pictures is cut off, shorter sound is followed by
    silence. `metadata` goes into the container's header, and beside it that the video is generated.
    """

    def __init__(  # noqa: PLR0913 - the public door
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        fps: int = 25,
        audio: SoundTrack | None = None,
        video_format: str = DEFAULT,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Open the file for frames of `width` x `height` pixels, `fps` a second.

        Raises:
            MediaError: the size, frame rate or format cannot be written.
        """
        if width % 2 or height % 2 or min(width, height) < 2:
            raise MediaError(f"a video of {width}x{height} cannot be yuv420p; width and height must be even")
        if fps != int(fps) or not 1 <= fps <= _MOST_FPS:
            raise MediaError(f"a video cannot have {fps} pictures a second; give a whole number up to {_MOST_FPS}")
        form, metadata = format_named(video_format), {**(metadata or {}), **GENERATED_METADATA}
        check_outputs({"the video": path}, {"its sound": getattr(audio, "path", None)})
        self.path, self.fps, self.video_format = Path(path), fps, video_format
        self._size, self._broken = (height, width), False
        self._file = DurableFile(self.path)
        try:
            # of a fragmented file the container is there for its streams' sake, and nothing is ever muxed into it
            options = dict(form.muxer_options) | {"flush_packets": "1"}
            target = io.BytesIO() if form.fragmented else self._file
            self._container = av.open(target, "w", format=form.container, options=options)
            self._container.metadata.update(metadata)
            self._let_go = weakref.finalize(self, _close, self._container)
            self._tracks = Tracks(self._container, form, size=self._size, fps=fps, audio=audio)
            self._let_go.detach()
            self._let_go = weakref.finalize(self, _close, self._container, None if form.fragmented else self._tracks)
            with priority_kept():
                self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as problem:
            self._file.close()
            raise MediaError(f"{form.title} of {width}x{height} cannot be written by this PyAV ({problem}); "
                             f"choose another format") from problem  # fmt: skip
        self._fragments = Fragments(form, self._tracks, metadata) if form.fragmented else None
        self.num_bytes = 0  # of a fragmented file: what of it is whole, and plays
        # of such a file: the length of its header in bytes, and the byte from which on a player that comes late takes
        # everything behind that; within `num_bytes` for another thread that asks for this first
        self.joins = (0, 0)

    @property
    def num_pixel_frames(self) -> int:
        """The number of pixel frames written so far."""
        return self._tracks.num_pixel_frames

    def write(self, pixel_frames: Tensor) -> None:
        """Append uint8 [T, H, W, 3], and the sound that belongs to them.

        Raises:
            MediaError: the frames have another dtype or shape, or cannot be written.
        """
        check_pixel_frames(pixel_frames, self._size)
        try:
            self._put(self._tracks.encode(pixel_frames))
            self._file.sync()
        except (av.error.FFmpegError, OSError) as problem:
            self._broken = True
            raise MediaError(why(problem, self.path, self.num_pixel_frames / self.fps)) from problem

    def close(self) -> None:
        """End the file; after a failed write, leave the playable file as it is. Calling it again has no effect.

        Raises:
            MediaError: the file cannot be completed.
        """
        if self._file.closed:
            return
        try:
            if not self._broken:
                self._finish()
            elif self._fragments is not None:
                self._file.cut(self.num_bytes)
        except (av.error.FFmpegError, OSError) as problem:
            raise MediaError(why(problem, self.path, self.num_pixel_frames / self.fps)) from problem
        finally:
            if self._fragments is not None:
                self._let_go()  # else the encoders and their threads stay until a garbage collection
            self._file.close()
            self._let_go()  # of a broken file: past its end, so nothing more is written

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def mime(self) -> str:
        """The MIME type for a browser's Media Source Extensions (RFC 6381), for H.264: profile, constraints and
        level.
        """
        nal = bytes(self._tracks.video.codec_context.extradata).split(b"\x00\x00\x01", 1)[1]  # the SPS stands first
        sound = "" if self._tracks.sound is None else ", mp4a.40.2"
        return f'video/mp4; codecs="avc1.{nal[1:4].hex()}{sound}"'

    def _put(self, packets: list[av.Packet], *, last: bool = False) -> None:
        if self._fragments is None:
            self._container.mux(packets)
            return
        piece = self._fragments.cut(packets, last=last)
        self._file.write(piece)
        self.num_bytes += len(piece)
        self.joins = self._fragments.num_header_bytes, self._fragments.last_key

    def _finish(self) -> None:
        if _is_crashing(self._tracks):
            self._put(self._tracks.encode(_black(self._tracks)))
        self._put(self._tracks.flush(), last=True)
        if self._fragments is None:
            self._container.close()
        elif self.num_bytes:
            self._file.write(GENERATED_BOX + self._fragments.index())  # players look for the index at the end
        self._file.sync(now=True)


def _close(container: av.container.OutputContainer, tracks: Tracks | None = None) -> None:
    """Whatever became of its file. The garbage collector may not be left to do it: PyAV would write the file's end
    through a Python object that is gone by then, and PyAV 14 crashes the process.
    """
    with suppress(av.error.FFmpegError, OSError, ValueError):
        if tracks is not None and _is_crashing(tracks):
            container.mux([*tracks.encode(_black(tracks)), *tracks.flush()])
    with suppress(av.error.FFmpegError, OSError, ValueError):
        container.close()


def _is_crashing(tracks: Tracks) -> bool:
    """FFmpeg 8 crashes where it ends a MOV file of ProRes without a packet; so such a file gets a picture."""
    return tracks.video.codec_context.name.startswith("prores") and not tracks.num_pixel_frames


def _black(tracks: Tracks) -> Tensor:
    """One picture, uint8 [1, H, W, 3]."""
    return torch.zeros(1, tracks.video.height, tracks.video.width, 3, dtype=torch.uint8)


def check_pixel_frames(pixel_frames: Tensor, size: tuple[int, int]) -> None:
    """Refuse frames that are not uint8 [T, height, width, 3]; `size` is (height, width).

    Raises:
        MediaError: the dtype or the shape is another one.
    """
    if pixel_frames.dtype != torch.uint8 or tuple(pixel_frames.shape[1:]) != (*size, 3):
        raise MediaError(
            f"got pixel frames of {pixel_frames.dtype} {list(pixel_frames.shape)}; this video takes "
            f"uint8 [T, {size[0]}, {size[1]}, 3]"
        )


def why(problem: Exception, path: Path, seconds: float) -> str:
    kept = f"{seconds:.1f} s were written, and what is on the disk plays"
    if getattr(problem, "errno", None) == errno.ENOSPC:
        return f"the disk is full while writing {path}: {kept}; free some disk space or choose another place"
    return f"{path} cannot be written ({getattr(problem, 'strerror', None) or problem}): {kept}"
