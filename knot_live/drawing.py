"""A stream and its driving in step: chunks with their sound, how long they take, and the way back.

All of it is the drawing thread's.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from statistics import median
from typing import Any

from . import pacing
from .adapting import Adapting
from .chunk_lengths import NOTHING, Lengths, TakenBack, Times
from .clock import Clock
from .drawn_chunks import DrawnChunk, MadeChunk, is_decoded, pictures_of
from .engine import Chunk, LateChunk, LateDecoder, LateMemory, Stream, StreamSettings
from .joint_drawing import Steps
from .journal import Begun, GivenUp, Journal, Kept, digest
from .pacing import Span
from .speed import changed_settings

Changed = Callable[[StreamSettings, Mapping[str, Any]], StreamSettings]

_JUDGED = 2.0  # seconds of pictures by which it is judged whether chunks come late


class Drawing:
    """`driving` is a `LiveDriving`, and moves the stream. The last `keep` chunks can be taken back.

    Within its `with` block, chunks are decoded on a thread of their own, unless `decode_beside` is off: then in the
    drawing thread, as a host wants it that holds the model.
    """

    def __init__(  # noqa: PLR0913 - two are for tests and for hosts
        self,
        stream: Stream,
        driving: Any,
        fps: int,
        clock: Clock,
        keep: int,
        *,
        decode_beside: bool = True,
        changed: Changed = changed_settings,
        adapting: Adapting | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.stream, self.driving, self._fps, self._clock = stream, driving, fps, clock
        self._changed, self._journal = changed, journal or Journal()
        self.adapting = adapting or Adapting(stream.settings, stream.settings.num_chunk_frames)
        self._made: deque[MadeChunk] = deque(maxlen=keep)
        self._times = Times()
        self._in_place: int | None = None  # latent frames of the next chunk, which is drawn in place of others
        self._hurries = False  # whether less than usual lies ready, since a chunk was drawn in place of others
        self._cut: list[MadeChunk] = []  # shown until what replaces them is there
        self._late = LateDecoder(stream, threads=stream.threads) if decode_beside else None

    def __enter__(self) -> "Drawing":
        if self._late is not None:
            self._late.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._late is not None:
            self._late.__exit__(*error)

    @property
    def next(self) -> Span:
        """The chunk that comes next, or is under way."""
        plan = self.stream.plan
        return Span.of_latents(plan.chunk, plan.start, plan.num_frames)

    def lead(self, transport: float) -> float:
        """Seconds of pictures that must lie ready when the next chunk begins, if they need `transport` seconds to be
        shown.
        """
        length = self.next.length / self._fps
        shared = self.adapting.shared_lead
        return max(length, shared) if shared else pacing.lead(self._taken, length, transport)

    @property
    def _asked(self) -> int:
        """Latent frames of a chunk, where nothing makes it shorter."""
        return self.adapting.rung.shape.num_chunk_frames

    @property
    def _taken(self) -> Sequence[float]:
        """Seconds until the first pictures of such chunks were there."""
        return self._times.of(self._asked)

    def _lengths(self, transport: float, taken: float | None = None) -> Lengths | None:
        """The chunks that can be drawn, where a whole one takes so long; by what half of them take at most. None as
        long as nothing was measured. `transport`: seconds until the viewer can show what was drawn.

        They are of one length where several sessions are drawn together, where the model was trained for certain
        settings, and for a microphone's voice, which is as late as the chunks are long with which it began.
        """
        if taken is None and not self._taken:
            return None
        lengths = Lengths.expected(self._times, self._asked, taken or median(self._taken), self._fps, transport)
        settings = self.stream.settings
        fixed = self.adapting.shared_lead or settings.timesteps or settings.commit == "in_place" or self.driving.mirrors
        return lengths.only_asked() if fixed else lengths

    def _set_length(self, num_latents: int) -> None:
        settings = self.stream.settings
        if settings.num_chunk_frames != num_latents:
            self.stream.set_settings(replace(settings, num_chunk_frames=num_latents))

    def draw(self, unplayed: float, transport: float, waited: float = 0.0) -> Steps[DrawnChunk | None]:
        """The next chunk, due `waited` seconds ago; None where it was given up, which leaves all as it was.

        In place of others, and until as much lies ready as usual, it has as many latent frames as can be drawn while
        `unplayed` seconds of pictures last, if they need `transport` seconds to be shown.
        """
        lengths, in_place = self._lengths(transport) if self._hurries else None, self._in_place
        self.begin(in_place or (self._asked if lengths is None else lengths.next(unplayed)))
        self._hurries = in_place is not None or self.stream.plan.num_frames < self._asked
        return (yield from self.finish(waited))

    def begin(self, num_latents: int) -> None:
        """Freeze what the next chunk is drawn under, and how many latent frames it has."""
        self._in_place = None
        self._set_length(num_latents)
        self.driving.begin_chunk(self.stream.plan)
        self._journal.write(Begun(self._journal.at, num_latents))

    def give_up(self) -> None:
        """The chunk that was begun is not drawn: the driving stands where the stream does."""
        self._set_length(self._asked)
        self.driving.take_back(self.stream.plan.start)
        self._journal.write(GivenUp())

    def finish(self, waited: float = 0.0) -> Steps[DrawnChunk | None]:
        """Draw the chunk that was begun, due `waited` seconds ago; None where it was given up."""
        plan, since = self.stream.plan, self._clock.now()
        chunk = None
        try:
            chunk = yield self.stream if self._late is None else self._late
        finally:
            if chunk is None:  # given up, or an error
                self.give_up()
        if chunk is None:
            return None
        self._journal.write(Kept(chunk.index, digest(chunk.latents)))
        sound, seconds, first = self.driving.end_chunk(), self._clock.now() - since, chunk.first_pixel_frame
        frames = pictures_of(chunk)
        span = Span(chunk.index, chunk.start_frame, first, first + len(frames))
        if plan.chunk > 0:  # the first one also warms up
            self._times.add(plan.num_frames, waited + seconds + self._undecoded(chunk), asked=self._asked)
        self._set_length(self._asked)
        self._made.append(MadeChunk(span, chunk, self.driving.spoken > 0))
        return DrawnChunk(span, frames, sound, self.driving.spoken, {**chunk.seconds, "chunk": seconds})

    @property
    def undecoded(self) -> float:
        """Seconds until the first pictures of the chunk that was just drawn are there; 0 where decoding is part of
        drawing.
        """
        return self._undecoded(self._made[-1].chunk) if self._made else 0.0

    def _undecoded(self, chunk: Chunk | LateChunk) -> float:
        """Decoding them begins when the chunk is drawn, and goes on while it is committed."""
        last = next((made.chunk for made in reversed(self._made) if is_decoded(made.chunk)), None)
        decoding = 0.0 if last is None else last.frames.seconds / last.frames.num_decoded
        return max(0.0, decoding - chunk.seconds.get("commit", 0.0))

    def change(self, settings: Mapping[str, Any]) -> None:
        """Other settings from the next chunk on; the rest stay.

        Raises:
            SettingsError: one of them cannot be, or cannot change while a stream runs.
        """
        self.ask(self._changed(self.adapting.asked, settings))

    def ask(self, settings: StreamSettings) -> None:
        """These settings from the next chunk on, as far as nothing has to give way."""
        self._set(self.adapting.ask(settings))

    def degrade(self, rung: int) -> None:
        """Be drawn as that rung of the ladder says, from the next chunk on."""
        self._set(self.adapting.stand_on(rung))

    def other_rung(self, drawn: DrawnChunk) -> int | None:
        """The new rung where chunks come late, or there is room again; asked once after each chunk."""
        length, slowest = self.next.length / self._fps, pacing.slowest(self._taken)
        shared = self.adapting.shared_lead
        if not shared and len(self._taken) * length < _JUDGED:
            return None  # the first chunks are slow, and those after a change
        if shared:
            load = slowest / (max(length, shared) - pacing.TRANSPORT)
        else:  # what lies ready outlasts a slow chunk now and then, but not the usual ones
            load = max(pacing.usual(self._taken) / length, slowest / (length + pacing.TRANSPORT))
        return self.adapting.judge(load, drawn.seconds)

    def _set(self, settings: StreamSettings) -> None:
        self.stream.set_settings(settings)
        self._times.clear()  # chunks may take longer now

    def soonest_cut(self, position: float, transport: float) -> TakenBack:
        """Choose the part of the last chunks that is taken back, to be shown otherwise as soon as may be; what is drawn
        next is as long as it then must be. `position` frames are shown; `transport` seconds pass until others can be.
        """
        what, length = self._cut_of(self._made, position, transport, self.soon)
        self._in_place = length or self._in_place
        return what._replace(knot=True)  # also where all that lies ready is shown

    def speech_begins(self, position: float, transport: float, *, committed: bool) -> TakenBack:
        """The same for silent chunks, where speech begins behind them; `committed`: no more of it comes."""
        silent = self._silent
        if not silent:
            return NOTHING
        slowest = max(self._taken)  # or the first words would be lost
        what, length = self._cut_of(silent, position, transport, slowest, whole=True)
        in_place = length or self._in_place
        if not self.would_speak(in_place or self._asked, committed=committed):
            return NOTHING
        self._in_place = in_place
        return what._replace(knot=True)

    def moves(self, position: float, transport: float) -> TakenBack:
        """The same for silent chunks, where the portrait is moved: it goes on from where it is, with the knot."""
        silent = self._silent
        if not silent:
            return NOTHING
        what, length = self._cut_of(silent, position, transport, self.soon)
        self._in_place = length or self._in_place
        return what._replace(knot=what.stay > 0)

    @property
    def _silent(self) -> Sequence[MadeChunk]:
        """The last chunks, as far as they are silent; none while less than usual lies ready."""
        if self._hurries or self.driving.mirrors or not self._taken:
            return ()
        return list(takewhile(lambda given: not given.speaks, reversed(self._made)))[::-1]

    def _cut_of(
        self, given: Sequence[MadeChunk], position: float, transport: float, taken: float, *, whole: bool = False
    ) -> tuple[TakenBack, int | None]:
        """See `Lengths.cut`."""
        spans = [one.span for one in given]
        return self._lengths(transport, taken).cut(spans, position, self._fps, inside=self.cuts_short, whole=whole)

    @property
    def cuts_short(self) -> bool:
        """Whether a chunk can be cut short at once: its decoder's memory behind each latent frame is there, and the
        model was not trained for chunks of one length.
        """
        return self._late is not None and self.stream.cuts_short and not self.stream.settings.timesteps

    def take_back(self, what: TakenBack, played_frame: int | None) -> None:
        """Take back the last chunks, and cut short the one before them; `played_frame` was shown last, and behind it
        nothing more is said in the chunk that is drawn in their place; None: they were silent.

        That chunk begins without the knot where `what` says so: it was drawn under what holds no longer.
        """
        self._cut += [self._made.pop() for _ in range(what.chunks)]
        if what.chunks:
            self.stream.take_back(what.chunks)
        if what.stay:
            last = self._made.pop()
            memory = LateMemory(last.chunk.frames, what.stay) if isinstance(last.chunk, LateChunk) else None
            self.stream.cut_short(what.stay, memory)
            self._made.append(last._replace(span=last.span.first_latents(what.stay)))
            self._cut.append(last)
        if what.knot:
            self.stream.drop_knot()
        if what.is_cut:
            first = self.next
            heard_until = None if played_frame is None else max(played_frame + 1, first.first)
            self.driving.take_back(first.start, heard_until=heard_until)

    @property
    def soon(self) -> float:
        """Seconds within which the next chunk is drawn, also where it is a whole one."""
        return pacing.drawn_within(self._taken, self.next.length / self._fps)

    def want_until(self, frame: int) -> None:
        """Decode nothing of the chunks that were taken back from that frame on: the next chunk waits for it."""
        for span, chunk, _ in self._cut:
            if isinstance(chunk, LateChunk):
                chunk.frames.cancel(max(0, frame - span.first))

    def replace_from(self, first_frame: int) -> None:
        """Show nothing of the chunks that were taken back from that frame on."""
        self.want_until(first_frame)
        self._cut = []

    def again(self, unplayed: float, transport: float) -> int | None:
        """The latent frames of a chunk that can be drawn in place of the one under way while `unplayed` seconds of
        pictures last; None: there is no time for it.
        """
        lengths = self._lengths(transport)
        return None if lengths is None else lengths.again(unplayed)

    def draw_in_place(self, num_latents: int) -> None:
        """The chunk under way is given up; the next one has so many latent frames."""
        self._in_place = num_latents

    def would_speak(self, num_latents: int, *, committed: bool) -> bool:
        """Whether the chunk under way is silent, and one of so many latent frames would not be if it began now;
        `committed`: no more speech comes.
        """
        if self.driving.speaking:
            return False
        plan, waiting = self.stream.plan, self.driving.speech_waiting
        heard = Span.of_latents(plan.chunk, plan.start, num_latents + plan.num_knot_frames).length / self._fps
        return waiting > (0 if committed else heard)
