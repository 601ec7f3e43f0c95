"""Tags that stand between the packets of a sound file: titles and covers, which are no sound that is lost."""

_ID3_HEADER, _APE_HEADER, _ID3V1 = 10, 32, 128  # bytes


def tag_in(content: bytes) -> tuple[int, int] | None:
    """The position of a tag in a packet, and its length in bytes, which may exceed the packet."""
    found = []
    for mark, length_of in ((b"ID3", _id3), (b"APETAGEX", _ape), (b"TAG", _id3v1)):
        place = content.find(mark)
        if place >= 0 and (length := length_of(content[place:])):
            found.append((place, length))
    return min(found, default=None)


def _id3(head: bytes) -> int:
    if len(head) < _ID3_HEADER or head[3] > 4 or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return _ID3_HEADER + size + (_ID3_HEADER if head[5] & 0x10 else 0)


def _ape(head: bytes) -> int:
    """With its header, if the mark stands there; the size counts items and footer."""
    if len(head) < _APE_HEADER:
        return 0
    size, flags = int.from_bytes(head[12:16], "little"), int.from_bytes(head[20:24], "little")
    return size + _APE_HEADER if flags & 0x20000000 else _APE_HEADER


def _id3v1(head: bytes) -> int:
    return min(len(head), _ID3V1) if len(head) >= _ID3V1 or head[:3] == b"TAG" else 0
