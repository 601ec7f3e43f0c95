"""A file whose data survives a crash: unbuffered, and synchronised to the disk every second."""

import os
from pathlib import Path
from time import monotonic

from ..errors import MediaError

_SECONDS_BETWEEN_SYNCS = 1.0


class DurableFile:
    """Unbuffered, so that a full disk shows at once; every write is whole or raises, which PyAV relies on."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._raw = path.open("wb", buffering=0)
        except OSError as problem:
            raise MediaError(
                f"the video {path} cannot be written ({problem.strerror}); choose another place"
            ) from problem
        self._is_file, self._synced = path.is_file(), monotonic()
        self.close, self.seek, self.tell = self._raw.close, self._raw.seek, self._raw.tell
        self.truncate = self._raw.truncate

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[self._raw.write(rest) :]
        return len(data)

    def cut(self, size: int) -> None:
        """Take away what a failed write left behind `size` bytes; a device keeps it."""
        if self._is_file:
            self._raw.truncate(size)

    def sync(self, *, now: bool = False) -> None:
        """Ask the system for what was written to be on the disk, at most once a second: a power cut takes the rest."""
        if self._is_file and (now or monotonic() >= self._synced + _SECONDS_BETWEEN_SYNCS):
            os.fsync(self._raw.fileno())
            self._synced = monotonic()
