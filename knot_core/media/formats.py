"""The formats that a stream can be written in: containers, and the encoders that PyAV must have for them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from av.codec import Codec
from av.codec.codec import UnknownCodecError

from ..errors import MediaError

_AAC_RATES = (44_100, 48_000)  # Hz; at lower ones an encoder's block of 1024 samples lasts too long to play live
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True, kw_only=True)
class SoundEncoding:
    """An encoder of sound and its options; `rates` None: it takes any rate."""

    encoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    rates: tuple[int, ...] | None = None  # Hz, ascending
    bits_per_second: int | None = None

    def rate(self, wanted: int) -> int:
        """The rate itself where the encoder takes it, else the highest that it takes."""
        return wanted if self.rates is None or wanted in self.rates else self.rates[-1]


@dataclass(frozen=True, kw_only=True)
class VideoFormat:
    """One way to write pictures and sound.

    No encoder here looks ahead: a chunk's packets are there with the chunk, but for AV1's last dozen pictures.
    """

    title: str
    suffix: str
    container: str
    encoder: str
    options: Mapping[str, str]
    sound: SoundEncoding
    pixel_format: str = "yuv420p"
    tag: str | None = None  # where the container's usual one is not the one that players want
    fragmented: bool = False  # in fragments of our own cutting, one per chunk; else as FFmpeg's muxer cuts
    muxer_options: Mapping[str, str] = field(default_factory=dict)


# noise substitution, on by default, makes audible bursts of a pure tone
_AAC = SoundEncoding(encoder="aac", options={"aac_pns": "0"}, rates=_AAC_RATES, bits_per_second=192_000)
_OPUS = SoundEncoding(encoder="libopus", rates=_OPUS_RATES, bits_per_second=128_000)
_PCM = SoundEncoding(encoder="pcm_s16le")
_AT_ONCE = {"preset": "veryfast", "tune": "zerolatency"}

PICTURES = "png-folder"
DEFAULT = "h264-mp4"
FORMATS: Mapping[str, VideoFormat] = {
    DEFAULT: VideoFormat(
        title="H.264 and AAC in MP4",
        suffix=".mp4",
        container="mp4",
        encoder="libx264",
        options={"crf": "16", **_AT_ONCE},
        sound=_AAC,
        fragmented=True,
    ),
    "h265-mp4": VideoFormat(
        title="H.265 and AAC in MP4",
        suffix=".mp4",
        container="mp4",
        encoder="libx265",
        options={"crf": "19", "forced-idr": "1", "x265-params": "log-level=error", **_AT_ONCE},
        sound=_AAC,
        tag="hvc1",  # Apple's players open no other
        fragmented=True,
    ),
    "av1-mp4": VideoFormat(
        title="AV1 and AAC in MP4",
        suffix=".mp4",
        container="mp4",
        encoder="libsvtav1",
        # pred-struct=1 (low delay) keeps nothing back, but waits inside the call for every picture, now and then for
        # ever: seen within some ten videos on a busy processor, with SVT-AV1 3.0.0, 3.1.2 and 4.1.0
        options={"crf": "24", "preset": "10", "svtav1-params": "pred-struct=2:hierarchical-levels=2:lookahead=0"},
        sound=_AAC,
        fragmented=True,
    ),
    "vp9-webm": VideoFormat(
        title="VP9 and Opus in WebM",
        suffix=".webm",
        container="webm",
        encoder="libvpx-vp9",
        options={"crf": "22", "b": "0", "deadline": "realtime", "cpu-used": "5", "row-mt": "1", "lag-in-frames": "0"},
        sound=_OPUS,
        muxer_options={"cluster_time_limit": "250"},  # ms: what a power cut may take
    ),
    "prores-mov": VideoFormat(
        title="ProRes 422 HQ and PCM in MOV, for editing",
        suffix=".mov",
        container="mov",
        encoder="prores_ks",
        options={"profile": "3", "vendor": "apl0"},
        sound=_PCM,
        pixel_format="yuv422p10le",
        # fragments while it grows, and one ordinary table at the end: editors want it, though it grows with the length
        muxer_options={"movflags": "hybrid_fragmented+use_metadata_tags", "frag_duration": "250000"},  # us
    ),
}
PICTURE_FORMATS: Mapping[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
FORMAT_NAMES: tuple[str, ...] = (*FORMATS, PICTURES)


def format_named(name: str) -> VideoFormat:
    """The row of that name; `MediaError` if there is none, or if this PyAV has not its encoders."""
    if name not in FORMATS:
        raise MediaError(f"the video format is {name!r}; choose one of {', '.join(FORMAT_NAMES)}")
    found = FORMATS[name]
    missing = [encoder for encoder in (found.encoder, found.sound.encoder) if not has_encoder(encoder)]
    if missing:
        there = [other for other, row in FORMATS.items() if has_encoder(row.encoder) and has_encoder(row.sound.encoder)]
        raise MediaError(
            f"this PyAV has no encoder {' and no encoder '.join(missing)} for {name} ({found.title}); install the av "
            f"package as it comes from the package index, or choose one of {', '.join([*there, PICTURES])}"
        )
    return found


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a path's suffix names; a folder is for pictures, and a device takes the usual one.

    Raises:
        MediaError: the suffix names no video format.
    """
    place = Path(path)
    if place.is_dir() or str(path).endswith(("/", os.sep)):
        return PICTURES
    if place.exists() and not place.is_file():
        return DEFAULT
    found = next((name for name, row in FORMATS.items() if row.suffix == place.suffix.lower()), None)
    if found is None:
        suffixes = ", ".join(dict.fromkeys(row.suffix for row in FORMATS.values()))
        given = f"the suffix {place.suffix!r}, which is no video format here" if place.suffix else "no suffix"
        raise MediaError(f"the video {path} has {given}; name it {suffixes}, or choose the format yourself "
                         f"({', '.join(FORMAT_NAMES)})")  # fmt: skip
    return found


def picture_format(path: str | os.PathLike[str], what: str) -> str:
    """Pillow's name of the format that a picture's suffix names; `what` names the picture in an error.

    Raises:
        MediaError: the suffix names no image format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PICTURE_FORMATS:
        given = f"the suffix {suffix!r}, which is no format of pictures here" if suffix else "no suffix"
        raise MediaError(f"{what} {path} has {given}; name it {', '.join(PICTURE_FORMATS)}")
    return PICTURE_FORMATS[suffix]


def has_encoder(name: str) -> bool:
    try:
        Codec(name, "w")
    except UnknownCodecError:
        return False
    return True
