"""Quality of a running session by how late its chunks come: down its ladder before pictures stall, and up again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .engine import StreamSettings
from .events import Degraded
from .pacing import Span
from .scheduling import Level, Rung, Shape, ladder, step

_DENOISE = 0.5  # of a chunk's time, as long as it was not measured


class Adapting:
    """A session's ladder, and where it stands; the drawing thread's own.

    `asked` are the settings as they were asked for, `longest_chunk` the latent frames of the longest chunk that the
    model is used with.
    """

    def __init__(self, asked: StreamSettings, longest_chunk: int) -> None:
        self.asked, self._longest = asked, longest_chunk
        self._level, self.ladder = Level(), self._ladder()
        # both are set by any thread: rungs above it are not to be had, since others need the time; and seconds of
        # pictures that must lie ready when a chunk begins, where others share its thread (0: as few as suffice)
        self.floor, self.shared_lead = 0, 0.0

    @property
    def rung(self) -> Rung:
        return self.ladder[self._level.rung]

    def ask(self, settings: StreamSettings) -> StreamSettings:
        """Other settings are asked for; those to draw by. What gave way stays so unless the ladder is another now."""
        self.asked, before = settings, self.ladder
        self.ladder = self._ladder()
        if [rung.shape for rung in self.ladder] != [rung.shape for rung in before]:
            self._level = Level()
        return self.drawn_by()

    def stand_on(self, number: int) -> StreamSettings:
        """The settings to draw by on that rung, or on the last one."""
        number = min(max(number, 0), len(self.ladder) - 1)
        if number != self._level.rung:
            self._level = Level(number)
        return self.drawn_by()

    def drawn_by(self) -> StreamSettings:
        """The settings as they are asked for, but for what gives way."""
        shape = self.rung.shape
        if self.asked.timesteps:
            return replace(self.asked, num_chunk_frames=shape.num_chunk_frames)
        return replace(self.asked, steps=shape.steps, num_chunk_frames=shape.num_chunk_frames)

    def judge(self, load: float, seconds: Mapping[str, float]) -> int | None:
        """The rung for what comes, where it is another; asked after each chunk.

        `load`: see `scheduling.step`; `seconds`: what the stages of the chunk took.
        """
        before = self._level.rung
        self._level = step(self._level, load, self._costs(seconds), self.floor)
        return None if self._level.rung == before else self._level.rung

    def told(self, span: Span) -> Degraded:
        """The event that tells of the rung in force from that chunk on."""
        drawn = self.drawn_by()
        settings = {"steps": drawn.steps, "num_chunk_frames": drawn.num_chunk_frames, "every": self.rung.every}
        return Degraded(self._level.rung, span.chunk, span.first, settings, self.rung.sentence)

    def to_state(self) -> dict[str, Any]:
        """Plain values for `from_state`."""
        return {"asked": self.asked.to_dict(), "level": list(self._level)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], drawn: StreamSettings, longest_chunk: int) -> "Adapting":
        """The ladder as it stood; where nothing was kept of it, what is `drawn` was asked for."""
        asked = StreamSettings.from_dict(state["asked"]) if "asked" in state else drawn
        adapting = cls(asked, longest_chunk)
        adapting._level = Level(*state.get("level", ()))
        return adapting

    def _costs(self, seconds: Mapping[str, float]) -> list[float]:
        """The cost of a second of pictures on each rung, relative to this one: passes over the chunk and its
        knot, each in proportion to its steps, and the rest.
        """
        whole = seconds.get("chunk", 0.0)
        denoise = seconds["denoise"] / whole if whole > 0 and "denoise" in seconds else _DENOISE
        here = self._passes(self.rung.shape)
        return [1 - denoise + denoise * self._passes(rung.shape) / here for rung in self.ladder]

    def _passes(self, shape: Shape) -> float:
        knot = self.asked.num_knot_frames
        return shape.steps * (shape.num_chunk_frames + knot) / shape.num_chunk_frames

    def _ladder(self) -> tuple[Rung, ...]:
        shape = Shape(self.asked.steps, self.asked.num_chunk_frames)
        return ladder(shape, longest_chunk=self._longest, fixed_steps=bool(self.asked.timesteps))
