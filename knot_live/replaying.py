"""A session that goes on elsewhere: from a checkpoint, what was done since is done again, and then it goes on.

What its clients have is drawn, but not given again. The pictures are those of a session that was never interrupted, bit
for bit, where it is drawn on the same class of machine with as many threads.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import controls, pacing
from .chunk_lengths import TakenBack
from .clock import Clock
from .controls import DrivingControl
from .drawn_chunks import DrawnChunk
from .engine import Model, Snapshot, StreamSettings
from .events import FINISHING, PAUSED, RUNNING, MediaChunk
from .joint_drawing import Steps, alone
from .journal import Begun, Did, GivenUp, Journal, Kept, Step, TookBack
from .pacing import Playback
from .preparing import Wish
from .session import Session
from .session_files import restored
from .watching import Watching


@dataclass(frozen=True, kw_only=True, eq=False)
class Standing:
    """The position of a session when it was lost, or left its process."""

    at: Snapshot  # with `notes` what `Session.checkpoint` gave
    notes: Mapping[str, Any]
    steps: tuple[Step, ...]  # that were done since
    made: int  # its clients have the pixel frames up to here
    epoch: int  # of these
    recording: bool = False


class Resumed(Session):
    """A session that does again what was done, and goes on as the same. `differs`: chunks that came out otherwise."""

    def __init__(
        self, model: Model, standing: Standing, *, write: Callable[[Step], None], clock: Clock | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        """`write` is told the steps that are new; `options` are a `Session`'s."""
        notes, clock = standing.notes, clock or Clock()
        journal = Journal(write, clock.now)
        journal.hold(notes["driving"]["now"])
        options = restored(standing.at, notes, model, journal.now, options)
        super().__init__(model, standing.at.anchor, standing.at.settings, journal=journal, clock=clock, **options)
        self._wishes.number = notes["number"]
        self._encode_text, self._anchor_of = options.get("encode_text"), options.get("anchor_of")
        self._standing, self._left = standing, deque(standing.steps)
        self._begun, self._goes_on, self.differs = False, False, 0
        self._stood = notes["state"] if notes["state"] in (PAUSED, FINISHING) else RUNNING
        self._drawn: list[DrawnChunk] = []
        self._ready: deque[MediaChunk] = deque()

    @property
    def repeating(self) -> bool:
        """Whether it does again what was done, or gives what came of it."""
        return not self._goes_on or bool(self._ready)

    def until_due(self) -> float | None:
        """As `Session.until_due`: at once, as long as something is done again."""
        return 0.0 if self.repeating else super().until_due()

    def rest(self) -> float:
        """See `Session.rest`."""
        return 0.0 if self.repeating else super().rest()

    def steps(self, waited: float = 0.0) -> Steps[MediaChunk | None]:
        """As `Session.steps`; one chunk is drawn again, or what of it nobody has is given."""
        if not self._goes_on:
            with self._between:
                self._repeat()
                if not self._left:
                    self._go_on()
            return None
        return self._ready.popleft() if self._ready else (yield from super().steps(waited))

    def _breaks_off(self) -> bool:
        return super()._breaks_off() if self._goes_on else False

    def _repeat(self) -> None:
        """Steps up to the next chunk that was kept."""
        while self._left:
            match self._left.popleft():
                case Begun(at, num_latents):
                    self._journal.hold(at)
                    self._receipts.book(self._drawing.next)
                    self._drawing.begin(num_latents)
                    self._begun = True
                case GivenUp():
                    self._drawing.give_up()
                    self._begun = False
                case Did() as did:
                    self._journal.hold(did.at)
                    self._receipts.heed(Wish(did.number, did.control))
                    self._do_again(did)
                case TookBack(what, played_frame):
                    self._drawing.take_back(what, played_frame)
                    self._forget(what)
                    self._cutting = True
                case Kept() as kept:
                    self._finish_chunk()
                    self.differs += self._journal.repeated != kept
                    return

    def _finish_chunk(self) -> None:
        """Draw the chunk that was begun."""
        self._drawn.append(alone(self._drawing.finish()))
        self._book(self._drawn[-1].span)
        self._begun = self._cutting = False

    def _forget(self, what: TakenBack) -> None:
        """Drop the part of what was drawn again that is taken back."""
        del self._drawn[len(self._drawn) - what.chunks :]
        if what.stay and self._drawn:
            self._drawn[-1] = self._drawn[-1].cut_short(what.stay, self.fps)

    def _do_again(self, did: Did) -> None:
        match did.control:
            case DrivingControl():
                did.control.drive(self._drawing.driving)
            case controls.Cancel():
                self._drawing.driving.clear_speech()
            case controls.Settings():
                self._drawing.ask(StreamSettings.from_dict(did.settings))
            case controls.Degrade():
                self._drawing.degrade(did.control.rung)
            case controls.Prompt():
                self._do(did.control, self._encode_text(did.control.text))
            case controls.Reference():
                self._do(did.control, self._anchor_of(did.control.name))
            case controls.Pause():
                self._stood = PAUSED
            case controls.GoOn():
                self._stood = RUNNING
            case controls.Finish():
                self._stood = FINISHING

    def _go_on(self) -> None:
        """All is as it was; what nobody has of what was drawn is given in an epoch of its own."""
        self._journal.release()
        if self._begun:  # it was under way: what it is drawn under is known
            self._finish_chunk()
        standing, cutting = self._standing, self._cutting
        patience = pacing.PATIENCE * self.fps
        self._watching = Watching(Playback.at(standing.made, self.fps, patience), self._clock, self._changed)
        self._epoch = standing.epoch
        self._begin_epoch(standing.made)
        self._cutting, self._goes_on = cutting, True
        for drawn in self._drawn:
            if drawn.span.end > standing.made:
                self._watching.add(drawn.span.end)
                self._ready.append(self._shown(drawn, max(drawn.span.first, standing.made), 0.0))
        self._drawn = []
        if standing.recording:
            self._recorder.start()
        self._enter(self._stood)
