"""Sound and video files, opened: as files alone, whatever they or their names say."""

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

import av

from ..errors import short

PYAV = int(av.__version__.partition(".")[0])  # its major version: the API differs from one to the next
Source = str | os.PathLike[str] | BinaryIO
# A name such as http://host/x, or a playlist under the name of a sound, would have FFmpeg fetch it.
_FILES_ALONE = {"protocol_whitelist": "file"}
_MOST_ERRORS = 1000  # of a container, one behind the other, before nothing more is expected of it
# Titles and the like need not be UTF-8: nobody looks at them here. PyAV 19 replaces what is not by itself.
_ANY_TITLES = {"metadata_errors": "replace"} if PYAV < 19 else {}


def open_container(source: Source) -> av.container.InputContainer:
    """To read; raises what `UNREADABLE` names."""
    if isinstance(source, str | os.PathLike) and os.fspath(source):
        source = os.path.abspath(source)  # else FFmpeg takes "10:30 talk.wav" for the address of a protocol, 10
    return av.open(source, options=dict(_FILES_ALONE), **_ANY_TITLES)


UNREADABLE = (av.error.FFmpegError, OSError, ValueError, OverflowError)


def packets_past_errors(
    container: av.container.InputContainer, stream: av.stream.Stream, tell: Callable[[Exception], None]
) -> Iterator[av.Packet]:
    """The packets of a stream; errors of the container are told and skipped as long as further packets follow."""
    errors, packets = 0, container.demux(stream)
    while errors < _MOST_ERRORS:
        try:
            packet = next(packets, None)
        except UNREADABLE as problem:
            tell(problem)
            errors, packets = errors + 1, container.demux(stream)
            continue
        if packet is None:
            return
        errors = 0
        yield packet


def name_of(source: Source, otherwise: str) -> str:
    """The name of a file for error messages: a path as it was given, with its folder."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", otherwise))


def reason(problem: Exception) -> str:
    """The first line of a library's error message."""
    return getattr(problem, "strerror", None) or short(problem, str)
