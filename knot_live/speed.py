"""Chunk costs on this machine, measured at the start, and how many denoising steps a live stream can afford, by a rule.

Fewer steps cost a few-step student little of its picture and make every answer sooner. A session that comes late
stalls, so the most steps are taken for which there is time to spare, for the encoder, the browser and others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from .engine import Anchor, Driving, Model, StreamSettings, larger_groups, num_processors, open_stream
from .scheduling import Costs, Measured

_DRAWING = 0.25  # of a chunk's length: the most that drawing it may take; what a person does waits for it
_ALL = 0.55  # of all processors: the most that drawing and decoding may take together; a browser may share them
_CHUNKS = 2  # that are measured, behind one that warms up
_GROUPS = (2, 4, 8)  # numbers of sessions in one pass that are tried


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that the stages of a chunk take, which lasts `length` seconds."""

    length: float
    step: float  # one denoising step
    commit: float
    decode: float


def measure(model: Model, anchor: Anchor, settings: StreamSettings) -> Speed:
    """Draw a few chunks that nobody sees."""
    stream = open_stream(model, anchor, settings, Driving.none())
    stream.threads = model.threads_for(settings, anchor.latent_size)
    next(stream)
    drawn = [next(stream) for _ in range(_CHUNKS)]
    seconds = {name: median(chunk.seconds[name] for chunk in drawn) for name in ("denoise", "commit", "decode")}
    return Speed(
        length=len(drawn[0].pixel_frames) / model.fps,
        step=seconds["denoise"] / len(stream.plan.sigmas),
        commit=seconds["commit"],
        decode=seconds["decode"],
    )


def most_steps(speed: Speed, most: int, processors: int) -> int:
    """From 1 to `most`: s with s * step + commit <= 0.25 length, and with decoding <= 0.55 of all processors."""
    on_one = (_DRAWING * speed.length - speed.commit) / speed.step
    on_all = (_ALL * processors * speed.length - speed.commit - speed.decode) / speed.step
    return max(1, min(most, int(on_one + 1e-9), int(on_all + 1e-9)))


def measure_together(
    model: Model, anchor: Anchor, settings: StreamSettings, alone: Measured, counts: Sequence[int] = _GROUPS
) -> list[Measured]:
    """Draw chunks of several streams in one pass, of more and more as long as that draws more in the same time.

    Steps and the rest are told apart in the proportion in which they are `alone`.
    """
    by_itself = settings.steps * alone.step + alone.rest
    rates = larger_groups(model, settings, anchor, counts=counts, before=1 / by_itself, num_rounds=_CHUNKS)
    return [
        Measured(alone.num_chunk_frames, rate.streams, *(part * rate.seconds / by_itself for part in alone[2:]))
        for rate in rates
    ]


class Steps:
    """The steps to take by the number of a chunk's latent frames, and what chunks cost: measured for the model's own
    length, and for chunks of one latent frame.

    Models that were trained for certain noise levels keep those, and their own length is measured alone. Several
    sessions in one pass are measured on a GPU; on a CPU each is drawn by itself, since a pass over several gained
    nothing there (docs/scale.md).
    """

    def __init__(self, model: Model, anchor: Anchor) -> None:
        own, measured = model.settings, []
        self._found = {own.num_chunk_frames: own.steps}
        self.chosen_for = set() if own.timesteps else {own.num_chunk_frames, 1}
        for chunk in sorted({own.num_chunk_frames, *self.chosen_for}):
            settings = replace(own, num_chunk_frames=chunk)
            speed = measure(model, anchor, settings)
            measured.append(Measured(chunk, 1, speed.step, speed.commit + speed.decode))
            if model.device.type != "cpu":
                measured += measure_together(model, anchor, settings, measured[-1])
            if chunk in self.chosen_for:
                self._found[chunk] = most_steps(speed, own.steps, num_processors())
        self.costs = Costs(tuple(measured), fps=model.fps, lanes=num_lanes(model, anchor))

    def suit(self, settings: StreamSettings) -> StreamSettings:
        """These settings, with as many steps as can be afforded."""
        if settings.timesteps or not self.chosen_for:
            return settings
        chunk = settings.num_chunk_frames
        return replace(settings, steps=self._found.get(chunk, min(self._found.values())))

    def change(self, settings: StreamSettings, changes: Mapping[str, Any]) -> StreamSettings:
        """Other settings; where a chunk's length changes and the steps are not named, as many as can be afforded then.

        Raises:
            SettingsError: one of them cannot be.
        """
        changed = changed_settings(settings, changes)
        follows = "num_chunk_frames" in changes and not {"steps", "timesteps"} & set(changes)
        return self.suit(changed) if follows else changed


def num_lanes(model: Model, anchor: Anchor) -> int:
    """How many sessions this process draws at a time: on a CPU as many as have their threads, on a GPU one."""
    if model.device.type != "cpu":
        return 1
    return max(1, num_processors() // (model.threads_for(model.settings, anchor.latent_size) or 1))


def changed_settings(settings: StreamSettings, changes: Mapping[str, Any]) -> StreamSettings:
    """These settings with some changed.

    Raises:
        SettingsError: one of them cannot be.
    """
    return StreamSettings.from_dict(settings.to_dict() | dict(changes))
