"""Which slot of a window holds which frame: integers only."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SlotRun:
    """`length` frames in a row: from frame `source` to frame-slot `slot`."""

    source: int
    slot: int
    length: int


@dataclass(frozen=True)
class Place:
    """The place where passes that write in place put a chunk: `length` frames from frame-slot `slot` on, of `num_valid`
    held.
    """

    slot: int
    length: int
    num_valid: int


@dataclass(frozen=True, kw_only=True)
class CacheIndex:
    """Which slot holds which committed frame. Integers only.

    The first `num_sinks` frames stay in the slots of their own numbers; behind them a ring of `capacity` slots is
    filled from the left, and then over and over. Attention does not see the order of keys, so nothing moves.
    """

    capacity: int
    num_sinks: int = 0
    num_committed: int = 0

    @property
    def num_valid(self) -> int:
        """Frames held: slots 0 .. num_valid-1."""
        return min(self.num_committed, self.num_sinks + self.capacity)

    def slot(self, frame: int) -> int:
        """The slot of a committed frame."""
        return frame if frame < self.num_sinks else self.num_sinks + (frame - self.num_sinks) % self.capacity

    def frames(self) -> tuple[int, ...]:
        """Which committed frame each valid slot holds."""
        last, sinks = self.num_committed - 1, self.num_sinks
        in_ring = (last - (last - slot) % self.capacity for slot in range(sinks, self.num_valid))
        return (*range(min(self.num_committed, sinks)), *in_ring)

    def runs(self, num_frames: int) -> tuple[SlotRun, ...]:
        """The slots of the next `num_frames` frames; frames that are neither sinks nor fit into the ring get none."""
        first, stop = self.num_committed, self.num_committed + num_frames
        sinks = range(first, min(stop, self.num_sinks))
        ring = range(max(first, self.num_sinks, stop - self.capacity), stop)
        before_wrap = min(len(ring), self.num_sinks + self.capacity - self.slot(ring.start)) if ring else 0
        parts = (sinks, ring[:before_wrap], ring[before_wrap:])
        return tuple(SlotRun(part.start - first, self.slot(part.start), len(part)) for part in parts if part)

    def leaving(self, num_frames: int) -> tuple[SlotRun, ...]:
        """Which frames leave the ring, or pass it by, when `num_frames` more come: `source`, their number; `slot`, the
        sink that each joins, which is its number modulo the sinks. Frames of one run lie side by side.
        """
        runs, frame = [], max(self.num_sinks, self.num_committed - self.capacity)
        stop = max(self.num_sinks, self.num_committed + num_frames - self.capacity)
        while frame < stop and self.num_sinks:
            sink = frame % self.num_sinks
            length = min(stop - frame, self.num_sinks - sink)
            if frame < self.num_committed:
                before_wrap = self.num_sinks + self.capacity - self.slot(frame)
                length = min(length, before_wrap, self.num_committed - frame)
            runs.append(SlotRun(frame, sink, length))
            frame += length
        return tuple(runs)

    def advance(self, num_frames: int) -> "CacheIndex":
        """The index after `num_frames` more frames are committed."""
        return replace(self, num_committed=self.num_committed + num_frames)
