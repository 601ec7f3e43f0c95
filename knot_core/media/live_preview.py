"""The part of a video that a player can already play while the video is still being written.

A fragmented MP4 grows by whole pieces, so a player needs nothing but their places in the file: the first piece brings
the header, each later one continues. Where the video itself is of another kind, an H.264 twin is written beside it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import MediaError
from .folder import Writer
from .formats import DEFAULT
from .output_tracks import SoundTrack
from .video import VideoWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes start .. stop-1 of a file, and the MIME type by which a browser tells whether it can play them.

    A player that joins later takes bytes 0 .. header-1, and then those from `key` on, where a key frame begins.
    """

    path: Path
    start: int
    stop: int
    header: int
    key: int
    mime: str


class LivePreview:
    """Follows a writer. A failure here never affects the video: it is logged once, and the preview ends."""

    def __init__(self, writer: Writer, twin: Callable[[], Path], *, fps: int, audio: SoundTrack | None = None) -> None:
        """`twin` names the file for the H.264 twin, and is asked only where one is needed; `audio` is for that too."""
        self._followed, self._own, self._twin = writer, None, twin
        self._fps, self._audio, self._shown, self._failed = fps, audio, 0, False

    @property
    def path(self) -> Path | None:
        """The path of the preview's own file; None where the output itself is shown."""
        return None if self._own is None else self._own.path

    def after(self, pixel_frames: Tensor) -> Piece | None:
        """The new bytes to play, if any. Call it once the writer has these frames, uint8 [T, H, W, 3]."""
        if self._failed:
            return None
        try:
            playing = self._followed if _plays(self._followed) else self._written_too(pixel_frames)
            header, key = playing.joins  # before the bytes: the writer may be in a thread of its own
            start, self._shown = self._shown, playing.num_bytes
            if self._shown == start:
                return None
            return Piece(path=playing.path, start=start, stop=self._shown, header=header, key=key, mime=playing.mime)
        except (MediaError, OSError, IndexError) as problem:
            self._failed = True
            logger.warning("there is no live preview (%s); the video is not affected", problem)
            return None

    def close(self) -> None:
        """Finish the preview's own file, if it has one. It stays where it is."""
        if self._own is None:
            return
        try:
            self._own.close()
        except MediaError as problem:
            logger.warning("the live preview was not ended (%s); the video is not affected", problem)

    def _written_too(self, pixel_frames: Tensor) -> VideoWriter:
        if self._own is None:
            height, width = pixel_frames.shape[1:3]
            self._own = VideoWriter(self._twin(), width=width, height=height, fps=self._fps, audio=self._audio)
        self._own.write(pixel_frames)
        return self._own


def _plays(writer: Writer) -> bool:
    return isinstance(writer, VideoWriter) and writer.video_format == DEFAULT
