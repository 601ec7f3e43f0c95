"""The prompt timeline: `0:00 calm / 0:12 laughing`. Which prompt holds in which chunk, in integers.

A prompt changes where a chunk begins, never within one: with the first chunk that begins at its time or later.
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise

from ..errors import DrivingError
from ..files import without_mark
from ..geometry import TEMPORAL, first_pixel_frame
from .lengths import format_clock, parse_clock

MAX_BLEND = 1000  # chunks
# A slash or a line's end parts two prompts only where a time such as 0:12 follows: "and/or" is part of one.
_ENTRY = re.compile(r"(?:^|[/\n])[ \t]*(?P<time>\d+:(?:\d+:)?\d+(?:\.\d+)?)(?=\s|$)", re.ASCII)
_EXAMPLE = "0:00 a calm face / 0:12 laughing"


@dataclass(frozen=True, kw_only=True)
class PromptTimeline:
    """Prompts with the second from which each holds; `blend_chunks`: so many chunks lie between one and the next;
    `recache`: at every change, what the next chunk sees of those before it is computed again under the new prompt.
    """

    times: tuple[float, ...]
    prompts: tuple[str, ...]
    blend_chunks: int = 0
    recache: bool = False

    def __post_init__(self) -> None:
        if not self.prompts or len(self.times) != len(self.prompts):
            raise DrivingError(f"the prompt timeline has no prompt; write for example {_EXAMPLE}")
        if self.times[0] != 0:
            raise DrivingError(f"the first prompt begins at {format_clock(self.times[0])}; begin with one at 0:00")
        for before, after in pairwise(self.times):
            if after <= before:
                raise DrivingError(
                    f"the prompt at {format_clock(after)} comes after one at {format_clock(before)}; put them in order"
                )
        for time, prompt in zip(self.times, self.prompts, strict=True):
            if not prompt:
                raise DrivingError(f"the prompt at {format_clock(time)} has no words; write some behind its time")
        if not isinstance(self.blend_chunks, int) or not 0 <= self.blend_chunks <= MAX_BLEND:
            raise DrivingError(f"blend_chunks is {self.blend_chunks}; it must be a whole number from 0 to {MAX_BLEND}")

    def plan(self, num_chunk_frames: int, fps: int) -> "PromptPlan":
        """Over chunks of so many latent frames."""
        latents = tuple(_latent_at(time, fps) for time in self.times)
        return PromptPlan(latents=latents, num_chunk_frames=num_chunk_frames, blend_chunks=self.blend_chunks,
                          recache=self.recache)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PromptPlan:
    """The latent frame at which each prompt begins, and the length of the chunks that it was asked for."""

    latents: tuple[int, ...]
    num_chunk_frames: int
    blend_chunks: int
    recache: bool = False

    @property
    def starts(self) -> tuple[int, ...]:
        """The chunk with which each prompt begins, where all chunks are of that length."""
        return tuple(-(-latent // self.num_chunk_frames) for latent in self.latents)

    def weights(self, chunk: int) -> tuple[float, ...]:
        """`weights_at` that chunk, where all chunks are of the plan's length."""
        return self.weights_at(chunk * self.num_chunk_frames, self.num_chunk_frames)

    def weights_at(self, start: int, num_chunk_frames: int) -> tuple[float, ...]:
        """The weight of each prompt in the chunk that begins at latent frame `start`; they sum to 1.

        The n-th chunk of a prompt, from 1 on, has min(1, n / (blend_chunks + 1)) of it, and else what was before;
        where chunks were of another length before, they count as if they had been as long as this one.
        """
        begun = [max(0, (start - latent) // num_chunk_frames + 1) for latent in self.latents]
        weights = [1.0] + [0.0] * (len(begun) - 1)
        for number, (count, after) in enumerate(zip(begun, [*begun[1:], 0], strict=True)):
            if number and count > after:
                share = min(1.0, (count - after) / (self.blend_chunks + 1))
                weights = [(1 - share) * weight for weight in weights]
                weights[number] += share
        return tuple(weights)


def parse_prompts(text: str, blend_chunks: int = 0, *, recache: bool = False) -> PromptTimeline:
    """`time prompt / time prompt ...`, or one a line."""
    text = without_mark(text)
    found = list(_ENTRY.finditer(text))
    before = text[: found[0].start()] if found else text
    if before.strip():
        raise DrivingError(f"the prompt timeline begins with {_short(before)}, which has no time; write {_EXAMPLE}")
    ends = [*(entry.start() for entry in found[1:]), len(text)][: len(found)]
    prompts = [" ".join(text[entry.end() : end].split()) for entry, end in zip(found, ends, strict=True)]
    times = [parse_clock(entry["time"]) for entry in found]
    return PromptTimeline(times=tuple(times), prompts=tuple(prompts), blend_chunks=blend_chunks, recache=recache)


def describe(timeline: PromptTimeline, num_chunk_frames: int, fps: int) -> str:
    """One line a prompt: the chunk with which it begins, and where that lies."""
    starts = timeline.plan(num_chunk_frames, fps).starts
    seconds = [first_pixel_frame(start * num_chunk_frames) / fps for start in starts]
    rows = zip(starts, seconds, timeline.prompts, strict=True)
    return "\n".join(f"chunk {start} at {format_clock(second)}: {prompt}" for start, second, prompt in rows)


def _latent_at(seconds: float, fps: int) -> int:
    """The first latent frame whose first pixel frame lies there or later."""
    pixel_frame = math.ceil(seconds * fps - 1e-6)
    return 0 if pixel_frame <= 0 else -(-(pixel_frame + TEMPORAL - 1) // TEMPORAL)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= 40 else words[:37] + "...")
