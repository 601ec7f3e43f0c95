"""A stream with all that can be asked of it while it runs, and what is done of that between two chunks.

Any thread asks; what is asked waits in a list until the thread that draws stands between two chunks, so that asking
never waits for drawing.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf
from pathlib import Path
from threading import Condition, RLock
from typing import Any

from . import controls, events, pacing
from .adapting import Adapting
from .chunk_lengths import NOTHING, TakenBack
from .clock import Clock
from .controls import Control, DrivingControl
from .drawing import Changed, Drawing
from .engine import Anchor, Driving, Model, Snapshot, Stream, StreamSettings, VideoWriter, begin_stream, state_of
from .events import FINISHING, PAUSED, READY, RUNNING, Event
from .journal import Did, Journal, TookBack
from .live_driving import LiveDriving
from .pacing import Playback, Span
from .preparing import Speaker
from .receipts import Receipts
from .recording import OpenFile, Recorder
from .session_files import copied, open_at, save_session
from .speed import changed_settings
from .watching import Watching
from .wishes import Wishes


class Controlled(ABC):
    """A session's stream and all that is asked of it; `Session` draws that."""

    def __init__(  # noqa: PLR0913 - the public door; all but the first three may be left out
        self,
        model: Model,
        anchor: Anchor,
        settings: StreamSettings,
        *,
        seed: int = 0,
        beneath: Driving | None = None,
        driving: Any = None,
        encode_text: Callable[[str], Any] | None = None,
        anchor_of: Callable[[str], Anchor] | None = None,
        speak: Speaker | None = None,
        record_to: Callable[[], Path] | None = None,
        record_with: OpenFile = VideoWriter,
        before_chunk: Callable[[Stream], None] = lambda _: None,
        on_event: Callable[[Event], None] = lambda _: None,
        state_path: Path | None = None,
        longest: float = inf,
        viewer: bool = True,
        keep: int = 2,
        decode_beside: bool = True,
        change_settings: Changed = changed_settings,
        degrades: bool = False,
        adapting: Adapting | None = None,
        clock: Clock | None = None,
        changed: Condition | None = None,
        journal: Journal | None = None,
        at: Snapshot | None = None,
    ) -> None:
        """A session before its first chunk; nothing is drawn.

        `beneath` moves the portrait where nothing else does; `driving` takes the place of the usual `LiveDriving`, and
        has its methods. `encode_text` encodes a prompt, `anchor_of` a picture by its name, `speak` makes sound of a
        sentence; they are called on a thread of their own. `record_to` names the file of the next recording, which is
        opened by `record_with`. `before_chunk` is called in the thread that draws, of every chunk. `on_event` is called
        from any thread and must return at once. `longest` is in seconds of pictures. `viewer` off: nobody
        acknowledges, and the clock plays. `keep` chunks can be taken back. `decode_beside` off: chunks are decoded in
        the thread that draws. `change_settings` makes new settings of old ones and changes. `degrades`: where chunks
        come late it is drawn with fewer steps, longer chunks, fewer pictures, until there is room again; `adapting`
        says how far that went where `at` was made. `state_path` is where a session that breaks off leaves its state;
        `at` is a state to go on from. Where several are drawn in turn: `changed` is notified of all that is asked and
        acknowledged. `journal` is written what was done.
        """
        self.model, self.fps = model, model.fps
        self._tell, self._clock, self._state_path = on_event, clock or Clock(), state_path
        self._journal = journal or Journal(clock=self._clock.now)
        if driving is None:
            driving = LiveDriving(model, beneath=beneath, seed=seed, clock=self._journal.now)
        at = begin_stream(model, anchor, settings, seed) if at is None else at
        stream = open_at(model, at, driving, self._breaks_off, keep)
        adapting = adapting or Adapting(stream.settings, model.settings.num_chunk_frames)
        self._drawing = Drawing(stream, driving, self.fps, self._clock, keep, decode_beside=decode_beside,
                                changed=change_settings, adapting=adapting, journal=self._journal)  # fmt: skip
        self.degrades = degrades  # may be changed at any time: who replays a log decides nothing himself
        self._between = RLock()  # held while a chunk is drawn, or what it begins with is changed
        self._changed = changed or Condition()  # held for moments: of wishes and of the playback
        self._wishes = Wishes(
            self._changed, lambda number, why: self._tell(events.Refused(number, why)),
            encode_text=encode_text, anchor_of=anchor_of, speak=speak,
        )  # fmt: skip
        first = self._drawing.next.first
        self._last_frame = first + longest * self.fps
        patience = pacing.PATIENCE * self.fps if viewer else inf
        self._watching = Watching(Playback.at(first, self.fps, patience), self._clock, self._changed)
        self._state, self._epoch = READY, 0
        self._ending = "stopped", "the host has stopped the session"
        # the drawing thread's own
        self._recorder = Recorder(
            self.fps, record_to, lambda path, why: self._tell(events.Recorded(path, why)), record_with
        )
        self._wait: Callable[[], None] = lambda: None
        self._before_chunk = before_chunk
        self._host_stops = False
        self._receipts = Receipts(on_event, self._drawing.adapting.told)
        self.log = self._receipts.log
        # whether a cut is to be drawn, and up to which frame what it replaces is still decoded
        self._cutting, self._wanted = False, inf
        # the last chunk that was given up, and the last one for which something urgent was asked
        self._drawn_again = self._moved = -1

    @property
    def state(self) -> str:
        """`ready`, `running`, `paused`, `finishing` or `ended`."""
        return self._state

    @property
    def play_ratio(self) -> float:
        """The share without stall of the time in which it was shown, by acknowledgements and made frames."""
        return self._watching.ratio

    def apply(self, control: Control, number: int | None = None) -> int:
        """Ask for something; returns its number at once, which is `number` where somebody else counts. `Applied` or
        `Refused` is told of it later. `Degrade`, the session's own, has the number 0, and `Degraded` is told of it.
        """
        if isinstance(control, controls.Degrade):
            self._wishes.ask_itself(control)
            return 0
        return self._wishes.ask(control, number)

    def acknowledge(
        self,
        epoch: int,  # noqa: ARG002 - frames are counted on over epochs
        frame: int,
        transport: float | None = None,
    ) -> None:
        """The viewer has shown that pixel frame: drawing keeps in step with him.

        `transport`: seconds that a message takes him there and back, and a picture to be decoded.
        """
        self._watching.acknowledge(frame, transport)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what `resume` needs, of after the last chunk that was drawn; waits for one under way.

        What was asked and has not taken hold is not in it.

        Raises:
            StateError: the files cannot be written.
        """
        with self._between:
            save_session(path, self._drawing.stream, self._notes())

    def checkpoint(self) -> tuple[Snapshot, dict[str, Any]]:
        """Copies of where it stands, and of what the engine does not know of it; in the thread that draws."""
        return copied(self._drawing.stream), {**self._notes(), "state": self._state}

    def _notes(self) -> dict[str, Any]:
        return {"number": self._wishes.number, "epoch": self._epoch, "driving": self._drawing.driving.to_state(),
                "adapting": self.adapting.to_state()}  # fmt: skip

    def snapshot(self) -> Snapshot:
        """The stream after the last chunk that was drawn; waits for one under way."""
        with self._between:
            return state_of(self._drawing.stream)

    @property
    def unplayed(self) -> float:
        """Seconds until the viewer has shown all that is made for him."""
        return self._watching.unplayed

    @property
    def adapting(self) -> Adapting:
        """The session's ladder, and where it stands."""
        return self._drawing.adapting

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._tell(events.StateChanged(state))

    @abstractmethod
    def _breaks_off(self) -> bool:
        """Asked before each stage of a chunk: whether it is given up, to be drawn under what was asked meanwhile."""

    def _heed(self, kind: type[Control]) -> None:
        """Do what was asked, in its order, as far as it is of that kind."""
        while (wish := self._wishes.take(kind)) is not None:
            with self._between:
                try:
                    self._do(wish.control, wish.made)
                    asked = self._drawing.adapting.asked.to_dict() if wish.control.kind == "settings" else None
                    self._journal.write(Did(wish.number, wish.control, self._journal.at, asked))
                    is_cut = isinstance(wish.control, controls.Cancel)
                    self._receipts.heed(wish, self._cut(wish.control.played_frame) if is_cut else NOTHING)
                except ValueError as problem:
                    self._tell(events.Refused(wish.number, str(problem)))
        if kind is Control:
            self._answer()
            self._receipts.book(self._drawing.next)

    def _do(self, control: Control, made: Any) -> None:
        match control:
            case DrivingControl():
                control.drive(self._drawing.driving)
            case controls.Prompt():
                self._drawing.stream.set_text(made, recache=control.recache)
            case controls.Reference():
                self._drawing.stream.set_anchor(made, cut=control.cut)
            case controls.Settings():
                self._drawing.change(control.changes)
            case controls.Degrade():
                self._drawing.degrade(control.rung)
            case controls.Cancel():
                self._drawing.driving.clear_speech()
            case controls.Pause() if self._state == RUNNING:
                self._watching.stand()
                self._enter(PAUSED)
            case controls.GoOn() if self._state == PAUSED:
                self._watching.stand()
                self._enter(RUNNING)
            case controls.Finish():
                self._enter(FINISHING)
            case controls.StartRecording():
                self._recorder.hand_on(int(self._watching.position))
                self._recorder.start()
            case controls.StopRecording():
                self._recorder.hand_on(int(self._watching.position))
                self._recorder.stop()

    def _cut(self, played_frame: int) -> TakenBack:
        """Silence: go back to before the first frames that can be shown otherwise in time."""
        self._watching.acknowledge(played_frame)
        self._recorder.shown.silence(played_frame + 1)
        taken_back = self._drawing.soonest_cut(self._watching.position, self._watching.transport)
        self._take_back(taken_back, played_frame)
        if not self._cutting:
            self._begin_epoch(self._watching.made)
        return taken_back

    def _take_back(self, what: TakenBack, played_frame: int | None) -> None:
        if what != NOTHING:
            self._drawing.take_back(what, played_frame)
            self._journal.write(TookBack(what, played_frame))
            if what.is_cut:
                self._cutting = True
                soon = self._watching.first_replaced(self._drawing.soon)
                self._wanted = min(self._wanted, max(soon, self._drawing.next.first))
                self._drawing.want_until(int(self._wanted))

    def _answer(self) -> None:
        """Speech that begins while all is silent, and a movement that begins, come in place of pictures that are not
        shown yet. A movement that goes on does not: its chunks are there as soon as they can be.
        """
        begins = self._receipts.urgent and self._drawing.next.chunk > self._moved + 1
        if self._receipts.urgent:
            self._moved = self._drawing.next.chunk
        if self._state == RUNNING and not self._cutting and self._receipts.heeded:
            position, transport = self._watching.position, self._watching.transport
            what = self._drawing.speech_begins(position, transport, committed=self._receipts.committed)
            if what == NOTHING and begins:
                what = self._drawing.moves(position, transport)
            if what != NOTHING:
                self._take_back(what, None)
                self._receipts.take_back(what)

    def _book(self, drawn: Span) -> None:
        """A chunk was drawn; `_heed` says with which one it takes hold what was asked meanwhile."""
        asked = self.adapting.rung.shape.num_chunk_frames
        self._receipts.note_length(drawn, self._drawing.next.start - drawn.start, asked)

    def _begin_epoch(self, first_frame: int) -> None:
        self._epoch, self._cutting, self._wanted = self._epoch + 1, False, inf
        self._drawing.replace_from(first_frame)
        self._tell(events.Cut(self._epoch, first_frame))
