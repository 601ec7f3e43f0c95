"""The time of each packet of a sound file that consists of packets only, such as MP3 and raw AAC."""

import os
from contextlib import suppress

import av

from .containers import Source
from .skipped_bytes import SkippedBytes
from .tags import tag_in


class ByteClock:
    """The clock of files that have none: what lies between two packets that decode counts as sound that is lost."""

    def __init__(self, skipping: Source | None) -> None:
        """`skipping`: a file whose reader leaves bytes out."""
        self.seconds = 0.0
        self._skipped = None
        if isinstance(skipping, str | os.PathLike):  # of what is no file nobody can know
            with suppress(OSError):
                self._skipped = SkippedBytes(skipping)
        self._num_bytes, self._heard = 0, 0.0  # of what was decoded
        self._end: int | None = None  # of the last packet that decoded
        self._num_tag_bytes, self._tag_end = 0, 0  # behind it

    def in_tag(self, packet: av.Packet) -> bool:
        """Whether it begins within a tag, where a picture may look like sound."""
        if packet.pos is None or packet.pos >= self._tag_end:
            return False
        beyond = max(0, packet.pos + packet.size - self._tag_end)  # what was taken with it is no sound of its own
        self._num_tag_bytes, self._tag_end = self._num_tag_bytes + beyond, self._tag_end + beyond
        return True

    def failed(self, packet: av.Packet) -> bool:
        """Whether a packet that does not decode is lost sound, as opposed to a metadata tag."""
        tag = tag_in(bytes(packet)) if packet.pos is not None else None
        if tag is not None:
            begin, length = tag
            self._tag_end = packet.pos + max(begin + length, packet.size)
            self._num_tag_bytes += self._tag_end - packet.pos - begin
        return tag is None

    def decoded(self, packet: av.Packet, seconds: float) -> bool:
        """Whether at least one frame is missing before a packet that decoded to `seconds` of sound."""
        if packet.pos is None or not packet.size:
            return False
        lost = 0 if self._end is None else packet.pos - self._end - self._num_tag_bytes
        if self._skipped is not None:
            left_out = self._skipped.before(packet)
            tag = tag_in(left_out)
            lost += len(left_out) if tag is None else tag[0] + max(0, len(left_out) - sum(tag))
        self._num_bytes, self._heard = self._num_bytes + packet.size, self._heard + seconds
        self._end, self._num_tag_bytes = packet.pos + packet.size, 0
        if lost <= packet.size / 2:
            return False
        self.seconds += lost * self._heard / self._num_bytes
        return True

    def close(self) -> None:
        if self._skipped is not None:
            self._skipped.close()
