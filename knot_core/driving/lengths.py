"""Endless drivings, and times as people write them."""

import re
from dataclasses import dataclass, replace

from ..errors import DrivingError, short
from .timeline import Driving
from .tracks import FrameNumbers, Track, Values

CLOCK = r"(?:\d+:)?(?:\d+:)?\d+(?:\.\d+)?"  # 12  12.5  0:12  1:02:03.5
_MAX_DIGITS = 9


def parse_clock(text: str) -> float:
    """Seconds of 12, 12.5, 0:12 or 1:02:03.5; after a colon up to 59."""
    words = text.strip()
    if not re.fullmatch(CLOCK, words, re.ASCII) or max(map(len, re.split(r"[:.]", words))) > _MAX_DIGITS:
        raise DrivingError(
            f"the time is {short(text)}; write seconds, minutes:seconds or hours:minutes:seconds, as 1:02.5"
        )
    first, *later = (float(part) for part in words.split(":"))
    if any(part >= 60 for part in later):
        raise DrivingError(f"the time is {short(text)}; behind a colon there may be at most 59")
    seconds = first
    for part in later:
        seconds = 60 * seconds + part
    return seconds


def format_clock(seconds: float) -> str:
    """1:02, or 1:02.5 where it is no whole second; with hours from an hour on."""
    hundredths = round(seconds * 100)
    whole, rest = divmod(hundredths, 100)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    tail = f".{rest:02}".rstrip("0") if rest else ""
    return (f"{hours}:{minute:02}" if hours else f"{minute}") + f":{second:02}{tail}"


@dataclass(frozen=True)
class Unending:
    """A track without an end of its own: past it, its values are those that it always has there."""

    track: Track
    num_pixel_frames: None = None

    @property
    def num_ready(self) -> int | None:
        return self.track.num_ready

    def at(self, frames: FrameNumbers) -> Values:
        return self.track.at(frames)

    def content(self) -> bytes:
        return b"unending " + self.track.content()


def without_end(driving: Driving) -> Driving:
    """The same driving without end: past its own end speech is silent and poses hold; idle motion continues."""
    driving.require_controls("a driving of wav2vec2 features cannot be endless; set the stream's seconds")
    tracks = {name: getattr(driving, name) for name in ("speech", "pose", "mouth", "units")}
    unending = {name: None if track is None else Unending(track) for name, track in tracks.items()}
    return replace(driving, length=None, chunks=None, **unending)
