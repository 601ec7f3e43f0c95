"""How many denoising steps a live stream can afford on this machine: measured at the start, chosen by a rule.

Fewer steps cost a few-step student little of its picture and make every answer sooner. A session that comes late
stalls, so the most steps are taken for which there is time to spare, for the encoder, the browser and others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from .engine import Anchor, Driving, Model, StreamSettings, num_processors, open_stream

_DRAWING = 0.45  # of a chunk's length: the most that drawing it may take; what a person does waits for it
_ALL = 0.55  # of all processors: the most that drawing and decoding may take together; a browser may share them
_CHUNKS = 2  # that are measured, behind one that warms up


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
    """From 1 to `most`: s with s * step + commit <= 0.45 length, and with decoding <= 0.55 of all processors."""
    on_one = (_DRAWING * speed.length - speed.commit) / speed.step
    on_all = (_ALL * processors * speed.length - speed.commit - speed.decode) / speed.step
    return max(1, min(most, int(on_one + 1e-9), int(on_all + 1e-9)))


class Steps:
    """The steps to take by the number of a chunk's latent frames: measured for the model's own, and for one alone.

    Models that were trained for certain noise levels keep those.
    """

    def __init__(self, model: Model, anchor: Anchor) -> None:
        own = model.settings
        self._found = {own.num_chunk_frames: own.steps}
        self.chosen_for = set() if own.timesteps else {own.num_chunk_frames, 1}
        for chunk in sorted(self.chosen_for):
            speed = measure(model, anchor, replace(own, num_chunk_frames=chunk))
            self._found[chunk] = most_steps(speed, own.steps, num_processors())

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


def changed_settings(settings: StreamSettings, changes: Mapping[str, Any]) -> StreamSettings:
    """These settings with some changed.

    Raises:
        SettingsError: one of them cannot be.
    """
    return StreamSettings.from_dict(settings.to_dict() | dict(changes))
