"""Video in, one picture at a time: a driving clip may be long, and is never held whole.

Shapes: H W height and width of a picture.
"""

from collections.abc import Iterator

import av
import numpy as np

from ..errors import MediaError
from .containers import UNREADABLE, Source, name_of, open_container, reason
from .decoding import clip_start

_EARLY = 0.4  # of a picture's time: so 30 a second stay 30 where 25 are wanted, and 50 become 25


def read_frames(source: Source, most_per_second: float) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, uint8 [H, W, 3]) of a video, thinned where more come in a second.

    Second 0 is that of `open_audio`, where sound and pictures together begin.
    """
    name = name_of(source, "the video")
    try:
        container = open_container(source)
    except UNREADABLE as problem:
        raise MediaError(
            f"the video {name} cannot be read ({reason(problem)}); give an MP4, WebM or the like"
        ) from problem
    with container:
        if not container.streams.video:
            raise MediaError(f"{name} has no pictures in it; give a video")
        if container.streams.video[0].codec_context is None:
            raise MediaError(f"{name} holds pictures of a kind that is not known here; give an MP4, WebM or the like")
        yield from _thinned(container, name, most_per_second)


def _thinned(
    container: av.container.InputContainer, name: str, most_per_second: float
) -> Iterator[tuple[float, np.ndarray]]:
    stream = container.streams.video[0]
    rate, begin = float(stream.average_rate or most_per_second), clip_start(container)
    at, due, number = 0.0, 0.0, 0
    try:
        for frame in container.decode(stream):
            at = number / rate if frame.time is None else max(0.0, float(frame.time) - begin)
            number += 1
            if at >= due - _EARLY / most_per_second:
                due = at + 1 / most_per_second
                yield at, frame.to_ndarray(format="rgb24")
    except UNREADABLE as problem:
        if number == 0:
            raise MediaError(f"the video {name} is damaged ({reason(problem)}); give another file") from problem
        raise MediaError(
            f"the video {name} is damaged behind {at:.2f} s ({reason(problem)}); cut it there"
        ) from problem
