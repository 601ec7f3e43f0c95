"""A stream until its end: how long it lasts, how it gets into a file, and what it costs."""

from .length import Length, length_of
from .stream_stats import StreamLog, StreamStats
from .write_loop import LateFile, Run, write_chunks

__all__ = ["LateFile", "Length", "Run", "StreamLog", "StreamStats", "length_of", "write_chunks"]
