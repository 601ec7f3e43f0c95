"""Fragmented MP4 for Media Source Extensions: H.264 and Opus that are encoded already, a fragment for each chunk.

Boxes are those of ISO/IEC 14496-12 and 14496-15, and of "Encapsulation of Opus in ISO Base Media File Format". FFmpeg's
muxer is not used because it would need the encoders' own streams, and keeps its own time across a cut.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

VIDEO_TRACK, SOUND_TRACK = 1, 2
OPUS_SCALE = 48_000  # Hz: what Opus counts in, whatever goes into it
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # 1, in 16.16 and 2.30
_KEY, _NOT_KEY = 0x02000000, 0x01010000  # sample flags: depends on no other, and does
_BASE_IS_MOOF, _DATA_OFFSET = 0x020000, 0x000001
_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS = 0x000100, 0x000200, 0x000400


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Parameters of the two tracks; `sps` and `pps` without start codes, `pre_skip` samples at 48 kHz."""

    width: int
    height: int
    fps: int
    sps: bytes
    pps: bytes
    pre_skip: int | None  # None: there is no sound


@dataclass(frozen=True)
class Sample:
    """One picture as Annex B, or one packet of sound; `duration` in its track's scale."""

    data: bytes
    duration: int
    key: bool = True


def header(tracks: Tracks) -> bytes:
    """The initialisation segment."""
    sound = tracks.pre_skip is not None
    numbers = (VIDEO_TRACK, SOUND_TRACK)[: 1 + sound]
    extends = b"".join(_full("trex", struct.pack(">5I", number, 1, 0, 0, 0)) for number in numbers)
    movie = struct.pack(">4IIH10x", 0, 0, 1000, 0, 0x10000, 0x100) + _MATRIX + bytes(24) + _word(len(numbers) + 1)
    content = _full("mvhd", movie) + _video(tracks) + (_sound(tracks) if sound else b"") + _box("mvex", extends)
    return _box("ftyp", b"iso6" + _word(0) + b"iso6mp41") + _box("moov", content)


def fragment(number: int, pictures: tuple[int, Sequence[Sample]], sound: tuple[int, Sequence[Sample]] | None) -> bytes:
    """A media segment; of each track when it begins, in its own scale, and its samples."""
    runs = [(VIDEO_TRACK, pictures[0], [Sample(_avc(one.data), one.duration, one.key) for one in pictures[1]])]
    if sound is not None and sound[1]:
        runs.append((SOUND_TRACK, *sound))
    offset = 8 + len(_moof(number, runs, 0))
    data = b"".join(sample.data for _, _, samples in runs for sample in samples)
    return _moof(number, runs, offset) + _box("mdat", data)


def nal_units(access_unit: bytes) -> list[bytes]:
    """The NAL units between the start codes of Annex B."""
    units = access_unit.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [unit for unit in units if unit]


def _avc(access_unit: bytes) -> bytes:
    """Annex B to units behind their lengths."""
    return b"".join(_word(len(unit)) + unit for unit in nal_units(access_unit))


def _moof(number: int, runs: Sequence[tuple[int, int, Sequence[Sample]]], offset: int) -> bytes:
    content = _full("mfhd", _word(number))
    for track, begins, samples in runs:
        rows = b"".join(struct.pack(">3I", one.duration, len(one.data), _KEY if one.key else _NOT_KEY)
                        for one in samples)  # fmt: skip
        run = _word(len(samples)) + _word(offset) + rows
        flags = _DATA_OFFSET | _EACH_DURATION | _EACH_SIZE | _EACH_FLAGS
        content += _box("traf", _full("tfhd", _word(track), flags=_BASE_IS_MOOF)
                        + _full("tfdt", struct.pack(">Q", begins), version=1)
                        + _full("trun", run, flags=flags))  # fmt: skip
        offset += sum(len(one.data) for one in samples)
    return _box("moof", content)


def _video(tracks: Tracks) -> bytes:
    size = struct.pack(">2H", tracks.width, tracks.height)
    avc = b"\1" + tracks.sps[1:4] + b"\xff\xe1" + _sized(tracks.sps) + b"\1" + _sized(tracks.pps)
    entry = (
        bytes(6) + struct.pack(">H", 1) + bytes(16) + size + struct.pack(">3IH32xHh", 0x480000, 0x480000, 0, 1, 24, -1)
    )
    kind = _box("avc1", entry + _box("avcC", avc))
    media = _full("vmhd", bytes(8), flags=1)
    return _track(
        VIDEO_TRACK, struct.pack(">2I", tracks.width << 16, tracks.height << 16), tracks.fps, "vide", media, kind
    )


def _sound(tracks: Tracks) -> bytes:
    entry = bytes(6) + struct.pack(">H8x2H4xI", 1, 1, 16, OPUS_SCALE << 16)
    opus = struct.pack(">BBHIHB", 0, 1, tracks.pre_skip, OPUS_SCALE, 0, 0)
    kind = _box("Opus", entry + _box("dOps", opus))
    return _track(SOUND_TRACK, bytes(8), OPUS_SCALE, "soun", _full("smhd", bytes(4)), kind)


def _track(number: int, size: bytes, scale: int, handler: str, media: bytes, kind: bytes) -> bytes:
    volume = 0x100 if handler == "soun" else 0
    head = struct.pack(">5I8x3H2x", 0, 0, number, 0, 0, 0, 0, volume) + _MATRIX + size
    tables = b"".join(_full(name, bytes(4)) for name in ("stts", "stsc", "stco")) + _full("stsz", bytes(8))
    described = _box("stbl", _full("stsd", _word(1) + kind) + tables)
    reference = _box("dinf", _full("dref", _word(1) + _full("url ", b"", flags=1)))
    inside = (
        _full("mdhd", struct.pack(">4I2H", 0, 0, scale, 0, 0x55C4, 0))  # the language: und
        + _full("hdlr", bytes(4) + handler.encode() + bytes(12) + b"\0")
        + _box("minf", media + reference + described)
    )
    return _box("trak", _full("tkhd", head, flags=3) + _box("mdia", inside))


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _word(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _full(kind: str, content: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, bytes([version]) + flags.to_bytes(3, "big") + content)


def _box(kind: str, content: bytes) -> bytes:
    return _word(8 + len(content)) + kind.encode() + content
