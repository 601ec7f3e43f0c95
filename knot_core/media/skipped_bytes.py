"""The bytes that FFmpeg's reader of raw AAC skips silently: it searches for the next header, and counts on as
before.
"""

import os

import av

_HEAD = 9  # bytes of a packet that tell it from others, well enough to notice
_SEARCHED = 2**20  # bytes behind which nothing is looked for


class SkippedBytes:
    """Compares packets with the file that they come from."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises `OSError` where the file cannot be opened."""
        self._skipped = 0
        self._file = open(path, "rb", buffering=_SEARCHED // 8)  # noqa: SIM115 - closed with the decoder

    def before(self, packet: av.Packet) -> bytes:
        """The bytes that were skipped between the previous packet and this one."""
        content = bytes(packet)
        place = packet.pos + self._skipped
        self._file.seek(place)
        if self._file.read(len(content[:_HEAD])) == content[:_HEAD]:
            return b""
        self._file.seek(place)
        behind = self._file.read(_SEARCHED)
        length = behind.find(content)
        if length <= 0:
            return b""
        self._skipped += length
        return behind[:length]

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
