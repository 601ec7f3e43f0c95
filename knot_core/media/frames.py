"""Video in, one picture at a time: a driving clip may be long, and is never held whole.

Shapes: H W height and width of a picture.
"""

import logging
import math
from collections.abc import Iterator

import av
import numpy as np

from ..errors import MediaError
from .containers import UNREADABLE, Source, name_of, open_container, packets_past_errors, reason
from .decoding import clip_start, moving_pictures

logger = logging.getLogger(__name__)

_ROUNDED = 1e-6  # seconds: a time is a fraction, and became a float
_EARLY = 0.4  # of a picture's time: so 30 a second stay 30 where 25 are wanted, and 50 become 25


def read_frames(
    source: Source, most_per_second: float, *, start: float = 0.0, length: float = math.inf
) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, uint8 [H, W, 3]) of a video, upright, thinned where more come in a second; `length` seconds of it.

    Second 0 is that of `open_audio`, where sound and pictures together begin, or `start` seconds behind it. Damaged
    pictures are left out, and a warning says where.

    Raises:
        MediaError: the source cannot be read, or holds no pictures that can be decoded.
    """
    name = name_of(source, "the video")
    try:
        container = open_container(source)
    except UNREADABLE as problem:
        raise MediaError(
            f"the video {name} cannot be read ({reason(problem)}); give an MP4, WebM or the like"
        ) from problem
    with container:
        streams = moving_pictures(container)
        if not streams:
            raise MediaError(f"{name} has no pictures in it; give a video")
        if streams[0].codec_context is None:
            raise MediaError(f"{name} holds pictures of a kind that is not known here; give an MP4, WebM or the like")
        decoder = _FrameDecoder(container, streams[0], name)
        yield from _thinned(decoder.frames(float(streams[0].average_rate or most_per_second)), most_per_second,
                            start, length)  # fmt: skip


def _thinned(
    frames: Iterator[tuple[float, av.VideoFrame]], most_per_second: float, start: float, length: float
) -> Iterator[tuple[float, np.ndarray]]:
    due = 0.0
    for seconds, frame in frames:
        at = seconds - start
        if at >= length - _ROUNDED:
            return
        if at >= -_ROUNDED and at >= due - _EARLY / most_per_second:
            due = at + 1 / most_per_second
            yield max(0.0, at), _upright(frame)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [H, W, 3], turned as the video says that its camera was held."""
    picture = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture


class _FrameDecoder:
    """Reads a video stream to its end, past what is damaged."""

    def __init__(self, container: av.container.InputContainer, stream: av.video.stream.VideoStream, name: str) -> None:
        self._container, self._stream, self._name = container, stream, name
        self._at, self._number = 0.0, 0
        self._damage: list[tuple[float, str]] = []  # seconds at which something could not be read, and why

    def frames(self, rate: float) -> Iterator[tuple[float, av.VideoFrame]]:
        """(seconds, frame); `rate`, frames per second, gives those a time that have none."""
        begin = clip_start(self._container)
        for frame in self._decoded():
            self._at = self._number / rate if frame.time is None else max(0.0, float(frame.time) - begin)
            self._number += 1
            yield self._at, frame
        self._say()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        for packet in packets_past_errors(self._container, self._stream, self._skipped):
            try:
                frames = packet.decode()
            except UNREADABLE as problem:
                self._skipped(problem)
                continue
            yield from frames

    def _skipped(self, problem: Exception) -> None:
        self._damage.append((self._at, reason(problem)))

    def _say(self) -> None:
        if not self._damage:
            return
        at, why = self._damage[0]
        if self._number == 0:
            raise MediaError(f"the video {self._name} is damaged ({why}); give another file")
        places = "" if len(self._damage) == 1 else f", the first of {len(self._damage)} places"
        logger.warning("the video %s is damaged (%s) behind %.2f s%s: pictures there are left out", self._name, why, at,
                       places)  # fmt: skip
