"""Sound and video files, opened: as files alone, whatever they or their names say."""

import os
from typing import BinaryIO

import av

from ..errors import short

Source = str | os.PathLike[str] | BinaryIO
# A name such as http://host/x, or a playlist under the name of a sound, would have FFmpeg fetch it.
_FILES_ALONE = {"protocol_whitelist": "file"}


def open_container(source: Source) -> av.container.InputContainer:
    """To read; raises what `UNREADABLE` names. Titles and the like need not be UTF-8: nobody looks at them here."""
    source = os.fspath(source) if isinstance(source, os.PathLike) else source
    return av.open(source, options=dict(_FILES_ALONE), metadata_errors="replace")


UNREADABLE = (av.error.FFmpegError, OSError, ValueError, OverflowError)


def name_of(source: Source, otherwise: str) -> str:
    """As an error names it."""
    return str(getattr(source, "name", None) or (source if isinstance(source, str | os.PathLike) else otherwise))


def reason(problem: Exception) -> str:
    """What a library says, in short."""
    return getattr(problem, "strerror", None) or short(problem, str)
