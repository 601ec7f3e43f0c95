"""Settings of a stream: frozen, and they check themselves."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .checks import require, require_choices, require_known_fields, require_switches
from .errors import SettingsError, short

ROPE_POSITIONS = ("absolute", "window")
SAMPLERS = ("renoise", "euler", "unipc")
COMMITS = ("clean", "none", "in_place", "recompute")
CHOICES: Mapping[str, tuple[str, ...]] = {"rope_positions": ROPE_POSITIONS, "commit": COMMITS, "sampler": SAMPLERS}


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Settings of one stream. Lengths and positions are in latent frames."""

    num_chunk_frames: int = 3  # c: committed together
    num_knot_frames: int = 1  # k: shared by two neighbouring chunks; 0 turns the knot off
    num_window_frames: int = 6  # L: committed frames a chunk may attend to, besides sinks; 0 leaves the anchor alone
    num_sink_frames: int = 0  # first committed frames that every chunk may attend to, for ever
    sink_decay: float = 1.0  # d: a sink becomes d * sink + (1 - d) * the frame that leaves the window; 1 freezes it
    rope_positions: str = "absolute"  # or "window": sinks stand just before the window, however far it has gone
    run_ahead_stride: int = 4  # s: how far the anchor jumps; 0 keeps it at position 0
    run_ahead_start: int = 8  # the anchor's first position n; not used with stride 0
    steps: int = 4  # denoising steps
    shift: float = 5.0  # of the noise schedule towards high noise
    timesteps: tuple[float, ...] = ()  # up to 1000, highest first: used instead of `steps` and `shift`
    first_timesteps: tuple[float, ...] = ()  # the same for the first chunk alone
    fusion: float = 0.5  # the knot's weight in the fused prediction: 0 keeps the new one, 1 the knot
    use_anchor: bool = True
    start_from_reference: bool = False  # the reference is the first frame: known from the beginning, as a knot is
    sigma_table: bool = False  # levels are of a table's row, nearest of 1000 at `shift`; the last timestep may be 0
    # What later chunks see of a settled one. "clean": keys and values of a pass over it. "none": what its last step
    # left. "in_place": as "none", but every step writes into the window's ring. "recompute": the window's are computed
    # anew from its latents after every chunk.
    commit: str = "clean"
    # From step to step: "renoise", noise anew, as few-step students learned it; or along the path, for networks of many
    # steps: "euler", or "unipc" of diffusers.
    sampler: str = "renoise"
    text_guidance: float = 1.0  # how far from what the negative prompt gives; 1 costs nothing
    sound_guidance: float = 1.0  # how far from what no sound gives

    def __post_init__(self) -> None:
        """Check the settings, each and together.

        Raises:
            SettingsError: a setting is out of range, or contradicts another.
        """
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            require(
                isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
                f"{name} is {short(value)}; it must be a whole number from {least} to {most}",
            )
        require(
            self.num_knot_frames <= self.num_chunk_frames,
            f"num_knot_frames is {self.num_knot_frames}, longer than a chunk of {self.num_chunk_frames}; "
            "shorten the knot or lengthen the chunk",
        )
        for name, (low, high) in _BETWEEN.items():
            value = getattr(self, name)
            require(
                isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
                f"{name} is {short(value)}; it must be a number between {low} and {high}",
            )
        require_switches(self, "use_anchor", "start_from_reference", "sigma_table")
        require_choices(self, CHOICES)
        require(
            self.sink_decay == 1 or self.num_sink_frames > 0,
            f"sink_decay is {self.sink_decay}, but there are no sinks; set num_sink_frames, or sink_decay to 1",
        )
        for name in ("timesteps", "first_timesteps"):
            object.__setattr__(self, name, _checked_timesteps(name, getattr(self, name)))
        require(
            self.sigma_table or 0 not in self.timesteps + self.first_timesteps,
            "timesteps end at 0, where no noise is left to take away; turn sigma_table on, whose lowest level is above "
            "0, or leave the 0 out",
        )
        self._check_commit()

    @property
    def num_ring_frames(self) -> int:
        """Slots of the window's ring; passes that write in place need some for the chunk at hand."""
        return self.num_window_frames + (self.num_chunk_frames if self.commit == "in_place" else 0)

    @property
    def num_pass_frames(self) -> int:
        """Slots for passes beside the ring."""
        if self.commit == "in_place":
            return self.num_knot_frames
        drawn = self.num_chunk_frames + self.num_knot_frames
        return max(drawn, self.num_window_frames) if self.commit == "recompute" else drawn

    def _check_commit(self) -> None:
        chunk, sinks, window = self.num_chunk_frames, self.num_sink_frames, self.num_window_frames
        require(
            self.commit != "in_place" or (sinks >= chunk and sinks % chunk == 0 and window % chunk == 0),
            f"commit is in_place, where whole chunks are written over and the first stays as sinks, but there are "
            f"{sinks} sinks and a window of {window} for chunks of {chunk}; make both multiples of {chunk}",
        )
        require(
            self.commit == "clean" or sinks == 0 or (self.rope_positions == "absolute" and self.sink_decay == 1),
            f"commit is {self.commit}, which has no sinks that follow or fade; set rope_positions to absolute and "
            "sink_decay to 1, or num_sink_frames to 0",
        )
        require(
            self.commit != "recompute" or sinks == 0,
            f"commit is recompute, which keeps no sinks, but num_sink_frames is {sinks}; set it to 0",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StreamSettings":
        """Read what `to_dict` gave; unknown fields are errors."""
        require_known_fields(cls, values)
        return cls(**values)


def check_setting(name: str, value: Any) -> None:
    """Refuse a value that one of `StreamSettings` cannot have, whatever the others are."""
    if name not in StreamSettings.__dataclass_fields__:
        known = ", ".join(StreamSettings.__dataclass_fields__)
        raise SettingsError(f"there is no setting {short(name, str)}; there are {known}")
    # what others must be so that it fits: a long chunk for a long knot, a sink for one that fades
    beside: dict[str, dict[str, Any]] = {
        "num_knot_frames": {"num_chunk_frames": _MOST_AT_ONCE},
        "sink_decay": {"num_sink_frames": 1},
        "timesteps": {"sigma_table": True},
        "first_timesteps": {"sigma_table": True},
        "commit": {"num_sink_frames": 3} if value == "in_place" else {},
    }
    StreamSettings(**beside.get(name, {}) | {name: value})


def _checked_timesteps(name: str, given: Any) -> tuple[float, ...]:
    """Check timesteps and return them as a tuple; JSON gives a list."""
    require(
        isinstance(given, tuple | list)
        and len(given) <= _MOST_STEPS
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in given)
        and all(0 <= number <= 1000 for number in given)
        and all(a > b for a, b in pairwise(given)),
        f"{name} are {short(given)}; they must be numbers from 0 to 1000, each lower than the one before, "
        f"at most {_MOST_STEPS} of them",
    )
    return tuple(float(value) for value in given)


_BETWEEN: Mapping[str, tuple[int, int]] = {"shift": (1, 100), "fusion": (0, 1), "sink_decay": (0, 1),
                                            "text_guidance": (0, 100), "sound_guidance": (0, 100)}  # fmt: skip
_MOST_STEPS = 1000  # as many as a network was trained to tell apart
_MOST_AT_ONCE = 1000  # latent frames of a chunk: 160 s at 25 a second
_MOST_FRAMES = 10**9  # latent frames of a window or a position: five years
_WHOLE: Mapping[str, tuple[int, int]] = {
    "num_chunk_frames": (1, _MOST_AT_ONCE),
    "num_knot_frames": (0, _MOST_AT_ONCE),
    "num_window_frames": (0, _MOST_FRAMES),
    "num_sink_frames": (0, _MOST_FRAMES),
    "run_ahead_stride": (0, _MOST_FRAMES),
    "run_ahead_start": (0, _MOST_FRAMES),
    "steps": (1, _MOST_STEPS),
}
