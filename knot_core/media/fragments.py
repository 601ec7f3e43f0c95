"""Fragmented MP4, cut by us: one fragment for every chunk, whole as soon as the chunk is.

FFmpeg's muxer ends a fragment when the next packet comes, which is a chunk too late. So each chunk has a muxer of its
own, and of what that writes only the fragment is kept; the header is the first chunk's. A file is then
[header | fragment | fragment ... | index], and players may be given any part of it that begins with the header.
"""

import io
from array import array
from collections.abc import Iterator, Mapping

import av

from .containers import PYAV
from .formats import VideoFormat
from .output_tracks import Tracks
from .priority import priority_kept

# empty_moov: the header stands first and is final. frag_custom: fragments end where we say. default_base_moof:
# fragments do not refer to places in the file. delay_moov: the header waits for the first fragment, so that it can say
# how many samples of encoder delay the player must skip; without it lips and sound part. frag_discont: a fragment
# keeps its own time. use_metadata_tags: any metadata key, not only those that Apple knows.
_FIRST = "frag_custom+empty_moov+default_base_moof+delay_moov+use_metadata_tags"
_LATER = "frag_custom+empty_moov+default_base_moof+delay_moov+frag_discont"
_HEADER, _FRAGMENT = (b"ftyp", b"moov"), (b"moof", b"mdat")


class Fragments:
    """Packets of one video to pieces of an MP4 file."""

    def __init__(self, form: VideoFormat, tracks: Tracks, metadata: Mapping[str, str]) -> None:
        self._container, self._tracks, self._metadata = form.container, tracks, metadata
        self._num_written, self._offset, self._waiting = 0, 0, []
        self._starts: dict[object, int] = {}  # timestamp of each track's first packet: an encoder's delay is below 0
        self._times, self._offsets = array("Q"), array("Q")  # of fragments that begin with a key frame; 16 bytes each
        self._timescale = 1
        self.num_header_bytes = 0  # known once there is a fragment

    @property
    def last_key(self) -> int:
        """Byte at which the last fragment that begins with a key frame begins: a player may join there."""
        return self._offsets[-1] if self._offsets else self.num_header_bytes

    def cut(self, packets: list[av.Packet], *, last: bool = False) -> bytes:
        """The next fragment, with the header before the first. Nothing as long as a track has no packets at all yet:
        the header must know where each begins.
        """
        self._waiting += packets
        missing = len({packet.stream for packet in self._waiting}) < len(self._all_tracks)
        first = self._num_written == 0
        if not self._waiting or (first and missing and not last):
            return b""
        packets, self._waiting = self._waiting, []
        begins = self._begins_with_key_frame(packets)
        boxes = dict(self._mux(packets, first=first))
        header = b"".join(boxes[kind] for kind in _HEADER) if first else b""
        self.num_header_bytes = self.num_header_bytes or len(header)
        if begins is not None:
            self._times.append(begins)
            self._offsets.append(self._offset + len(header))
        piece = header + b"".join(boxes[kind] for kind in _FRAGMENT)
        self._num_written += 1
        self._offset += len(piece)
        return piece

    def index(self) -> bytes:
        """The places of the fragments that begin with a key frame: `mfra` of ISO/IEC 14496-12, 8.8.9."""
        entries = b"".join(
            time.to_bytes(8, "big") + offset.to_bytes(8, "big") + b"\x01\x01\x01"
            for time, offset in zip(self._times, self._offsets, strict=True)
        )  # track fragment 1, run 1, sample 1, a byte each
        version_1 = b"\x01\x00\x00\x00"
        table = _box(b"tfra", version_1 + _word(1) + _word(0) + _word(len(self._times)) + entries)
        size = 8 + len(table) + 16
        return _box(b"mfra", table + _box(b"mfro", _word(0) + _word(size)))

    @property
    def _all_tracks(self) -> list[av.VideoStream | av.AudioStream]:
        return [track for track in (self._tracks.video, self._tracks.sound) if track is not None]

    def _begins_with_key_frame(self, packets: list[av.Packet]) -> int | None:
        """When, in the track's own time."""
        pictures = [packet for packet in packets if packet.stream is self._tracks.video]
        if not pictures or not pictures[0].is_keyframe:
            return None
        return round(pictures[0].pts * pictures[0].time_base * self._timescale)

    def _mux(self, packets: list[av.Packet], *, first: bool) -> Iterator[tuple[bytes, bytes]]:
        """(kind, box) of a file of these packets alone."""
        file = io.BytesIO()
        options = {"movflags": _FIRST if first else _LATER, "fragment_index": str(self._num_written + 1)}
        with av.open(file, "w", format=self._container, options=options) as container:
            if first:
                container.metadata.update(self._metadata)
            streams = {track: _stream_for_packets_of(track, container) for track in self._all_tracks}
            for packet in packets:
                self._starts.setdefault(packet.stream, min(0, packet.dts))
                if not first:  # the first muxer begins its tracks' own time at 0 itself
                    start = self._starts[packet.stream]
                    packet.pts, packet.dts = packet.pts - start, packet.dts - start
                packet.stream = streams[packet.stream]
                container.mux(packet)
            self._timescale = streams[self._tracks.video].time_base.denominator
        yield from _boxes(file.getvalue())


def _stream_for_packets_of(
    track: av.VideoStream | av.AudioStream, container: av.container.OutputContainer
) -> av.VideoStream | av.AudioStream:
    """PyAV before 17 opens another encoder for it, with default settings: the packets need the header of their own."""
    stream = container.add_stream_from_template(track)
    if PYAV < 17:
        context = stream.codec_context
        context.thread_count = 1  # it encodes nothing
        with priority_kept():
            context.open()
        context.extradata = track.codec_context.extradata
    return stream


def _boxes(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(file):
        size = int.from_bytes(file[place : place + 4], "big")
        yield file[place + 4 : place + 8], file[place : place + size]
        place += size


def _box(kind: bytes, content: bytes) -> bytes:
    return _word(8 + len(content)) + kind + content


def _word(value: int) -> bytes:
    return value.to_bytes(4, "big")
