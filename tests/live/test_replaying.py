"""A session that is lost within a chunk goes on elsewhere as the same stream, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from knot_live import controls
from knot_live.clock import Clock
from knot_live.drawing import Drawing
from knot_live.engine import StreamSettings
from knot_live.events import Cut
from knot_live.journal import Begun, Journal, Kept, TookBack
from knot_live.replaying import Resumed, Standing
from knot_live.session import Session

from .simulated import SimulatedClock

SETTINGS = StreamSettings(steps=1, num_window_frames=4)


def replay(session):
    """Until it draws what it did not draw before."""
    with session.running():
        while not session._goes_on:
            session.step()


@pytest.fixture(scope="module")
def anchors(encoded):
    return {name: encoded(seed, 32) for seed, name in enumerate(("one", "other"))}


def voice(seconds):
    return controls.Speech((8000 * np.sin(np.arange(int(seconds * 24_000)) / 20)).astype(np.int16), 24_000)


class Played:
    """A session's pictures by frame, its sound, and what a gateway would know of it; `asked` before chunks."""

    def __init__(self, session, clock, asked, *, checkpoint_at=(), steps=None):
        self.session, self.clock, self.asked = session, clock, asked
        self.steps = [] if steps is None else steps
        self.frames, self.events, self.checkpoints, self.made, self.epoch = {}, [], [], 0, 0
        self._at = checkpoint_at

    def run(self, last):
        """Up to that chunk, or until it is lost there, while it is drawn."""
        with self.session.running():
            while self.made == 0 or self.chunk < last:
                next_chunk = self.session._drawing.next.chunk
                if next_chunk in self._at and len(self.checkpoints) < len(self._at):
                    self.checkpoints.append((*self.session.checkpoint(), len(self.steps)))
                for control in self.asked.pop(next_chunk, ()):
                    self.session.apply(control() if callable(control) else control)
                assert self.session.until_due() is not None
                chunk = self.session.step()
                if chunk is not None:
                    self.take(chunk)
        return self

    def take(self, given):
        frames = np.asarray(given.frames)
        for place, frame in enumerate(frames):
            self.frames[given.first_frame + place] = frame
        self.clock.pass_until(self.clock.now() + len(frames) / 25)
        self.chunk, self.made, self.epoch = given.chunk, given.first_frame + len(frames), given.epoch
        self.session.acknowledge(given.epoch, self.made - 6)


def asked():
    return {
        1: [controls.SetControls({"yaw": 0.5}), voice(2.5), controls.CommitSpeech()],
        2: [controls.SetPose({"roll": 0.2}), controls.Gesture("nod")],
        3: [controls.Settings({"num_chunk_frames": 2}), controls.SetPose({"roll": -0.2})],
        4: [controls.Reference("other"), voice(0.2)],
        5: [controls.SetControls({"yaw": None}), voice(1.0)],
    }


def opened(model, anchors, clock, steps):
    return Session(
        model, anchors["one"], SETTINGS, seed=5, anchor_of=anchors.get, clock=clock, decode_beside=False,
        journal=Journal(steps.append, clock.now),
    )  # fmt: skip


@pytest.fixture
def at_once(monkeypatch):
    """Pictures are encoded at once, so that what is asked takes hold with the same chunk."""
    from knot_live import preparing

    from .simulated import AtOnce

    monkeypatch.setattr(preparing, "ThreadPoolExecutor", AtOnce)


def resumed(model, anchors, lost, *, made, clock, events, checkpoint=0):
    at, notes, count = lost.checkpoints[checkpoint]
    standing = Standing(at=at, notes=notes, steps=tuple(lost.steps[count:]), made=made, epoch=lost.epoch)
    steps = list(lost.steps)
    session = Resumed(model, standing, write=steps.append, clock=clock, anchor_of=anchors.get, decode_beside=False,
                      on_event=events.append)  # fmt: skip
    return session, steps


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("checkpoint", [0, 1])
def test_what_is_lost_goes_on_as_if_nothing_had_happened(model, anchors, checkpoint):
    clock, steps = SimulatedClock(), []
    whole = Played(opened(model, anchors, clock, steps), clock, asked(), steps=steps).run(8)
    clock, steps = SimulatedClock(), []
    lost = Played(opened(model, anchors, clock, steps), clock, asked(), steps=steps, checkpoint_at=(0, 3)).run(5)
    made = lost.made - 3  # of the last chunk that was drawn, three pictures never arrived
    other, events = SimulatedClock(), []
    other.time = 1000.0
    session, steps = resumed(model, anchors, lost, made=made, clock=other, events=events, checkpoint=checkpoint)
    again = Played(session, other, {}, steps=steps).run(8)
    assert session.differs == 0
    assert min(again.frames) == made
    assert [event for event in events if isinstance(event, Cut)] == [Cut(1, made)]
    frames = {**{frame: picture for frame, picture in lost.frames.items() if frame < made}, **again.frames}
    assert sorted(frames) == list(range(max(frames) + 1))
    differ = [frame for frame in sorted(frames) if not np.array_equal(frames[frame], whole.frames[frame])]
    assert differ == []


@pytest.mark.usefixtures("at_once")
def test_a_chunk_that_was_under_way_is_drawn_under_what_it_was_begun_with(model, anchors):
    clock, steps = SimulatedClock(), []
    lost = Played(opened(model, anchors, clock, steps), clock, asked(), steps=steps, checkpoint_at=(0,)).run(5)
    last = max(place for place, step in enumerate(steps) if isinstance(step, Begun))
    wanted, lost.steps = steps[last + 1 :], steps[: last + 1]
    assert isinstance(wanted[0], Kept)
    first = next(frame for frame in sorted(lost.frames) if frame >= lost.made - 8)
    session, steps = resumed(model, anchors, lost, made=first, clock=SimulatedClock(), events=[])
    replay(session)
    assert steps[last + 1 :] == wanted[:1]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("cuts_short", [False, True])
def test_a_cut_is_made_again_at_the_same_place(model, anchors, monkeypatch, cuts_short):
    monkeypatch.setattr(Drawing, "cuts_short", cuts_short)

    def cancelled():
        return controls.Cancel(played.made - 9)

    clock, steps = SimulatedClock(), []
    wishes = {1: [voice(3.0), controls.CommitSpeech()], 4: [cancelled]}
    played = Played(opened(model, anchors, clock, steps), clock, wishes, steps=steps, checkpoint_at=(0,))
    played.session._drawing._times.add(3, 0.01, asked=3)  # quick enough to take something back
    played.run(6)
    (cut,) = [step for step in steps if isinstance(step, TookBack) and step.played_frame is not None]
    assert cut.what.chunks > 0 or cut.what.stay > 0
    session, _ = resumed(model, anchors, played, made=played.made, clock=SimulatedClock(), events=[])
    replay(session)
    assert session.differs == 0
    assert session._drawing.next == played.session._drawing.next


@pytest.mark.usefixtures("at_once")
def test_what_comes_out_otherwise_is_noticed(model, anchors):
    clock, steps = SimulatedClock(), []
    lost = Played(opened(model, anchors, clock, steps), clock, {}, steps=steps, checkpoint_at=(0,)).run(2)
    lost.steps = [replace(step, digest=1) if isinstance(step, Kept) and step.chunk == 1 else step for step in steps]
    session, _ = resumed(model, anchors, lost, made=lost.made, clock=Clock(), events=[])
    replay(session)
    assert session.differs == 1


@pytest.mark.usefixtures("at_once")
def test_chunks_are_as_long_again_as_they_were(model, anchors):
    def lost(steps):
        clock = SimulatedClock()
        played = Played(opened(model, anchors, clock, steps), clock, asked(), steps=steps, checkpoint_at=(0,))
        for _ in range(9):  # chunks that take long: a whole one would come late where little is left to be shown
            played.session._drawing._times.add(3, 0.2, asked=3)
        return played.run(6)

    steps = []
    played = lost(steps)
    lengths = [step.num_latents for step in steps if isinstance(step, Begun)]
    assert min(lengths) < 3 == max(lengths)
    session, _ = resumed(model, anchors, played, made=played.made, clock=SimulatedClock(), events=[])
    replay(session)
    assert session.differs == 0
    assert session._drawing.next == played.session._drawing.next
