"""A gateway's record of a session, by which it goes on elsewhere when its worker is lost. No I/O."""

import time
from collections import deque
from dataclasses import dataclass, replace
from threading import Lock

from ..controls import CommitSpeech, Control, Reference, Say, StartRecording, StopRecording
from ..events import Applied, Cut, Event, Refused
from ..journal import Did, Kept, Step, TookBack
from ..media_encoder import EncodedChunk
from .checkpoints import Checkpoint, Parts, merged

_MOST_CHECKPOINTS = 4  # a cut may go back behind the newest ones
_MOST_CUTS = 16  # a checkpoint comes no later than so many behind it


@dataclass(frozen=True, kw_only=True, eq=False)
class Lost:
    """All that another worker needs. `checkpoint` None: the session had none, and begins anew with all `left`.

    `parts` are its tensors, whole. `left` are controls by their numbers that did not take hold. `num_steps`: of the
    whole journal.
    """

    checkpoint: Checkpoint | None
    parts: Parts
    steps: tuple[Step, ...]
    num_steps: int
    made: int
    epoch: int
    recording: bool
    reference: str
    left: tuple[tuple[int, Control], ...]


@dataclass(frozen=True, eq=False)
class _Kept:
    checkpoint: Checkpoint
    parts: Parts


class SessionLog:
    """Checkpoints, the journal since, and controls that did not take hold yet. Any thread may call."""

    def __init__(self, reference: str) -> None:
        self._lock, self._reference = Lock(), reference
        self._checkpoints: deque[_Kept] = deque(maxlen=_MOST_CHECKPOINTS)
        self._parts: Parts = {}
        self._steps: deque[Step] = deque()
        self._first_step = 0  # the number of the first of them
        # the last cuts: steps up to each, and how many chunks it has left whole
        self._cuts: deque[tuple[int, int]] = deque(maxlen=_MOST_CUTS)
        self._next_chunk = 0
        self._left: dict[int, Control] = {}
        self._untold: set[int] = set()
        self._recording = False
        self.number, self.made, self.epoch, self._cut = 0, 0, 0, 0
        self.checkpointed = time.monotonic()  # when the newest one came

    @property
    def num_steps(self) -> int:
        """The length of the whole journal, as far as it is known here."""
        return self._first_step + len(self._steps)

    def ask(self, control: Control) -> int:
        """A control is asked for; its number."""
        with self._lock:
            self.number += 1
            self._left[self.number] = control
            self._untold.add(self.number)
            return self.number

    def go_on(self, number: int, epoch: int) -> None:
        """The session that is shown was asked for so many controls already, and that is its epoch."""
        with self._lock:
            self.number, self.epoch = max(self.number, number), max(self.epoch, epoch)

    def take_step(self, place: int, step: Step) -> None:
        """Step number `place` was done; one that is known already is left out."""
        with self._lock:
            if place < self.num_steps:
                return
            self._steps.append(step)
            if isinstance(step, Kept):
                self._next_chunk = step.chunk + 1
            elif isinstance(step, Did):
                self._settle(step)
            elif isinstance(step, TookBack):
                self._next_chunk -= step.what.chunks
                # of a chunk that was cut short, a checkpoint holds all
                self._cuts.append((self.num_steps, self._next_chunk - (step.what.stay > 0)))
                while self._checkpoints and self._is_cut(self._checkpoints[-1].checkpoint):
                    self._checkpoints.pop()

    def _settle(self, step: Did) -> None:
        asked = self._left.get(step.number)
        if isinstance(asked, Say) and not isinstance(step.control, CommitSpeech):
            self._left[step.number] = CommitSpeech()  # its sound is there; what is left is its end
        else:
            self._left.pop(step.number, None)
        if isinstance(step.control, Reference):
            self._reference = step.control.name
        elif isinstance(step.control, StartRecording | StopRecording):
            self._recording = isinstance(step.control, StartRecording)

    def take_checkpoint(self, checkpoint: Checkpoint) -> None:
        """The newest one; what lies before the oldest that is kept is forgotten."""
        with self._lock:
            if checkpoint.steps > self.num_steps:  # another gateway knew what was done before
                self._checkpoints.clear()
                self._steps.clear()
                self._first_step, self._next_chunk = checkpoint.steps, checkpoint.chunk
            self.checkpointed = time.monotonic()
            self._parts = merged({} if checkpoint.whole else self._parts, checkpoint.tensors)
            if not self._is_cut(checkpoint):
                self._checkpoints.append(_Kept(checkpoint, self._parts))
            self._forget()

    def _is_cut(self, checkpoint: Checkpoint) -> bool:
        """Whether it holds what was taken back since."""
        return any(checkpoint.steps < steps and checkpoint.chunk > chunk for steps, chunk in self._cuts)

    def _forget(self) -> None:
        oldest = self._checkpoints[0].checkpoint.steps if self._checkpoints else 0
        while self._steps and self._first_step < oldest:
            self._steps.popleft()
            self._first_step += 1

    def take_chunk(self, chunk: EncodedChunk) -> bool:
        """Whether it is new: after a connection was lost, some come again."""
        with self._lock:
            replaced = chunk.epoch < self.epoch and chunk.first_frame >= self._cut
            if replaced or chunk.end <= self.made:
                return False
            self.made = chunk.end
            return True

    def take_event(self, event: Event) -> bool:
        """Whether it is to be told: what was done again is told again."""
        with self._lock:
            if isinstance(event, Refused):
                self._left.pop(event.number, None)
            if isinstance(event, Applied | Refused):
                new = event.number in self._untold
                self._untold.discard(event.number)
                return new
            if isinstance(event, Cut):
                self.made, self.epoch, self._cut = min(self.made, event.first_frame), event.epoch, event.first_frame
            return True

    def left_behind(self, number: int) -> tuple[tuple[int, Control], ...]:
        """Controls with higher numbers that did not take hold."""
        with self._lock:
            return tuple(sorted(one for one in self._left.items() if one[0] > number))

    def lost(self) -> Lost:
        """The session's standing, for another worker."""
        with self._lock:
            newest = self._checkpoints[-1] if self._checkpoints else None
            steps = tuple(self._steps)
            behind = 0 if newest is None else newest.checkpoint.steps - self._first_step
            return Lost(
                checkpoint=None if newest is None else replace(newest.checkpoint, tensors={}),
                parts={} if newest is None else newest.parts,
                steps=steps[behind:],
                num_steps=self.num_steps,
                made=self.made,
                epoch=self.epoch,
                recording=self._recording,
                reference=self._reference,
                left=tuple(sorted(self._left.items())),
            )
