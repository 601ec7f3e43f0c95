"""How long a run lasts: from where a state stands, as long as its driving, or as long as was asked for."""

from dataclasses import dataclass
from math import isinf

from ..driving import Driving
from ..errors import KnotError
from ..stream import Snapshot, driving_played

_WITHOUT_END = 10**9  # pixel frames: more than a year


@dataclass(frozen=True, kw_only=True)
class Length:
    """The driving of a run until its end, and the number of pixel frames that it makes."""

    driving: Driving
    num_pixel_frames: int | None  # None: without end, or known only once a sound file has been read to its end


def length_of(
    saved: Snapshot,
    driving: Driving,
    fps: int,
    seconds: float | None,
    *,
    whole_chunks: bool = False,
    remedy: str = "give seconds",
) -> Length:
    """The length of a run that starts from `saved`.

    `seconds` None: until the driving ends; infinity: without end; else at least one pixel frame. `whole_chunks` extends
    the run to the end of its last chunk, so that a saved state continues where the video ends.

    Raises:
        KnotError: the driving ends before the run starts; the message ends in `remedy`.
    """
    played = driving_played(saved)
    if seconds is None:
        end = driving.end_within(max(0, played))
        if end is not None and end <= played:
            raise KnotError(
                f"the driving ends at {end / fps:.2f} s and the state stands at {played / fps:.2f} s: {remedy}"
            )
    else:
        wanted = _WITHOUT_END if isinf(seconds) else max(1, round(seconds * fps))
        driving = driving.lasting(max(1, played + wanted))
    if whole_chunks:
        start = saved.state.clock.start - saved.state.driving_origin
        driving = driving.in_whole_chunks(start, saved.settings.num_chunk_frames)
    end = driving.num_pixel_frames
    return Length(driving=driving, num_pixel_frames=None if end is None else end - played)
