"""Sessions over the built-in model: what one was asked while it ran, its stream is driven by as if from the start."""

import math
import threading
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from knot_core import StateError, state_of
from knot_core.stream import begin_stream
from knot_live import controls
from knot_live.control_log import LogEntry
from knot_live.drawing import Drawing
from knot_live.engine import StreamSettings, first_pixel_frame
from knot_live.events import Applied, Cut, Recorded, Refused
from knot_live.live_driving import LiveDriving
from knot_live.session import Session
from knot_live.session_files import open_at

from .simulated import SimulatedClock, Viewer

SETTINGS = StreamSettings(steps=1, num_window_frames=4)
STAGE = 0.02  # simulated seconds between two looks at what was asked


@pytest.fixture(scope="module")
def anchors(encoded):
    return [encoded(seed, 64) for seed in (0, 1)]


def voice(seconds, pitch=220):
    time = np.arange(int(seconds * 16_000)) / 16_000
    return controls.Speech((8000 * np.sin(2 * math.pi * pitch * time)).astype(np.int16), 16_000)


class Real:
    """A session by a simulated clock, with a viewer; `opened` makes it of the session's options.

    `decode_beside`: then real time has a part in it, since sessions measure how long decoding takes.
    """

    def __init__(self, opened, *, decode_beside=False):
        self.clock, self.events, self.chunks, self.given = SimulatedClock(), [], [], []
        self.session = opened(clock=self.clock, on_event=self.events.append, decode_beside=decode_beside)
        self.viewer = Viewer(self.clock, self.session)

    def at(self, time, *asked):
        self.clock.at(time, lambda: [self.session.apply(control) for control in asked])

    def run(self, count):
        """Until so many chunks were given."""
        for number, _ in enumerate(self.chunks_given(), start=1):
            if number == count:
                self.session.apply(controls.Finish())
        return self

    def chunks_given(self):
        for given in self.session.chunks(lambda: self.clock.pass_until(self.clock.now() + STAGE)):
            self.given.append(given)
            chunk = replace(given, frames=np.asarray(given.frames))
            self.chunks.append(chunk)
            self.viewer.take(chunk)
            yield chunk

    @property
    def state(self):
        return state_of(self.session._drawing.stream)

    def told(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def same_state(mine, theirs):
    assert mine.state.clock == theirs.state.clock
    assert mine.window_index == theirs.window_index
    parts = [(*saved.window, saved.state.knot_BMCHW, saved.state.rng_state, *saved.state.decoder_memory)
             for saved in (mine, theirs)]  # fmt: skip
    assert all(torch.equal(one, other) for one, other in zip(*parts, strict=True))
    return True


class History:
    """What a log says that each chunk of the stream was drawn under, in the end: what was taken back is not in it."""

    def __init__(self, log, model, num_chunks):
        self.driving, self.chunks = LiveDriving(model, seed=5, clock=lambda: 0.0), []
        self.settings, self.person, self._knot = SETTINGS, None, True
        for entry in log:
            self._go_to(entry.chunk + entry.taken_back)
            self._take_back(entry)
            self._ask(entry)
        self._go_to(num_chunks)

    def _take_back(self, entry):
        """Chunks that were taken back for it, or cut short: as if they had been drawn so from the start."""
        if entry.taken_back or entry.stay:
            del self.chunks[entry.chunk :]
            if entry.stay:
                last = self.chunks[-1]
                last.stop, last.stay = last.start + entry.stay, entry.stay
            first = first_pixel_frame(self.chunks[-1].stop)
            is_cut = isinstance(entry.control, controls.Cancel)
            heard_until = max(entry.control.played_frame + 1, first) if is_cut else None
            self.driving.take_back(self.chunks[-1].stop, heard_until=heard_until)
        self._knot = self._knot and not entry.knot

    def _go_to(self, num_chunks):
        while len(self.chunks) < num_chunks:
            start = self.chunks[-1].stop if self.chunks else 0
            plan = SimpleNamespace(start=start, num_frames=self.settings.num_chunk_frames, num_knot_frames=1)
            self.driving.begin_chunk(plan)
            signal = self.driving.signal(start, plan.num_frames + 1)
            self.driving.end_chunk()
            self.chunks.append(
                SimpleNamespace(
                    start=start, stop=start + plan.num_frames, signal=signal, settings=self.settings,
                    person=self.person, stay=0, knot=self._knot,
                )
            )  # fmt: skip
            self._knot = True

    def _ask(self, entry):
        match entry.control:
            case controls.DrivingControl():
                entry.control.drive(self.driving)
            case controls.Settings():
                self.settings = StreamSettings.from_dict(self.settings.to_dict() | entry.control.changes)
            case controls.ChunkLength():
                self.settings = replace(self.settings, num_chunk_frames=entry.control.num_latents)
            case controls.Reference():
                self.person = entry.control
            case controls.Cancel():
                self.driving.clear_speech()

    def draw(self, model, anchors):
        """A stream that never knew another driving, with what it shows."""
        driving = AsRecorded()
        stream = open_at(model, begin_stream(model, anchors[0], SETTINGS, 5), driving, lambda: False, 1)
        shown, before = [], SimpleNamespace(settings=SETTINGS, person=None)
        for chunk in self.chunks:
            if chunk.settings != before.settings:
                stream.set_settings(chunk.settings)
            if chunk.person is not before.person:
                stream.set_anchor(anchors[1], cut=chunk.person.cut)
            driving.chunk, before = chunk, chunk
            if not chunk.knot:
                stream.drop_knot()
            shown.append(next(stream).pixel_frames.numpy())
            if chunk.stay:
                stream.cut_short(chunk.stay)
                shown[-1] = shown[-1][: first_pixel_frame(chunk.stop) - first_pixel_frame(chunk.start)]
        return stream, np.concatenate(shown)


class AsRecorded:
    """A driving that says for each chunk what it was drawn under."""

    num_pixel_frames = None

    def signal(self, first_latent, num_latents):
        first = first_latent - self.chunk.start
        return self.chunk.signal[first : first + num_latents]


def interrupted(model, anchors):
    """Somebody speaks, is interrupted twice, and much else is changed."""
    real = Real(
        lambda **options: Session(
            model, anchors[0], SETTINGS, seed=5, anchor_of={"other": anchors[1]}.get, keep=2, **options
        )
    )
    real.at(0.5, controls.SetControls({"yaw": 0.6}), voice(3.0), controls.CommitSpeech())
    real.at(1.3, controls.Gesture("nod"))

    def interrupt_inside_a_chunk():
        last, shown = real.chunks[-1], real.viewer.next - 1
        if real.clock.now() < 2.0 or not 0 < shown - last.first_frame <= len(last.frames) - 10:
            return True
        real.session.apply(controls.Cancel(shown))
        return False

    real.clock.every(0.01, interrupt_inside_a_chunk, first=0.6)
    real.at(2.3, voice(2.0, 150), controls.CommitSpeech(), controls.SetControls({"yaw": None, "roll": -0.3}))
    real.at(2.9, controls.Settings({"num_chunk_frames": 2}))
    real.at(3.2, controls.Reference("other"))
    real.clock.at(3.45, lambda: real.session.apply(controls.Cancel(real.viewer.next - 1)))
    real.at(4.0, controls.Settings({"seed": 3}), controls.SetControls({"nose": 1.0}))
    return real


@pytest.mark.parametrize("cuts_short", [False, True])
def test_a_session_s_stream_is_one_that_was_driven_so_from_the_start(model, anchors, monkeypatch, cuts_short):
    monkeypatch.setattr(Drawing, "cuts_short", cuts_short)  # what stays is decoded again, by the other stream too
    real = interrupted(model, anchors).run(20)
    cuts = [entry for entry in real.session.log if isinstance(entry.control, controls.Cancel)]
    others = [entry for entry in real.session.log if entry not in cuts]
    assert [entry.taken_back > 0 or entry.stay > 0 for entry in cuts] == [True, True]
    assert (cuts[0].frame < cuts[0].control.played_frame) != cuts_short  # a chunk is being shown
    assert len(real.told(Cut)) == 2 + sum(entry.taken_back > 0 or entry.stay > 0 for entry in others)
    assert any(entry.stay for entry in [*cuts, *others]) == cuts_short
    assert len(real.told(Refused)) == 2
    state = real.state
    log = [LogEntry.of_json(entry.to_json()) for entry in real.session.log]
    stream, shown = History(log, model, state.state.clock.chunk).draw(model, anchors)
    assert same_state(state, state_of(stream))
    # the pictures, too, but for those that were on their way when they were cut
    kept = {}
    for chunk in real.chunks:
        kept |= {chunk.first_frame + place: frame for place, frame in enumerate(chunk.frames)}
    cut_chunks = [event.first_frame for event in real.told(Cut)]
    differ = [number for number, frame in enumerate(shown) if not np.array_equal(kept[number], frame)]
    assert all(any(cut - 12 <= number < cut for cut in cut_chunks) for number in differ)
    assert len(differ) < 24


def test_a_saved_session_goes_on_bit_for_bit(model, anchors, tmp_path):
    def opened(**options):
        return Session(model, anchors[0], SETTINGS, seed=5, **options)

    def asked(real):
        real.at(0.5, controls.SetControls({"yaw": 0.6}), voice(3.5), controls.CommitSpeech())
        real.at(1.0, controls.Gesture("shake"))
        return real

    whole, broken = asked(Real(opened)).run(8), asked(Real(opened))
    path = tmp_path / "session.safetensors"
    for _ in zip(range(4), broken.chunks_given(), strict=False):
        pass
    broken.session.save(path)
    again = Real(lambda **options: Session.resume(path, model, **options)).run(4)
    assert again.told(Applied)[0].number == 5  # to finish; numbers go on
    for mine, theirs in zip(again.chunks, whole.chunks[4:], strict=True):
        assert (mine.chunk, mine.first_frame) == (theirs.chunk, theirs.first_frame)
        assert np.array_equal(mine.frames, theirs.frames)
        assert np.array_equal(mine.sound, theirs.sound)
    assert again.chunks[0].sound.any()


@pytest.mark.parametrize("decode_beside", [True, False])
def test_a_session_that_is_stopped_within_a_chunk_leaves_a_state_that_goes_on(model, anchors, tmp_path, decode_beside):
    path = tmp_path / "left.safetensors"

    def stops():
        if len(given) == 2 and session._drawing.driving._frozen is not None:  # while the third chunk is drawn
            raise KeyError("stop")

    session = Session(model, anchors[0], SETTINGS, seed=5, viewer=False, clock=SimulatedClock(), state_path=path,
                      decode_beside=decode_beside)  # fmt: skip
    session.apply(voice(3.0))
    given = []
    with pytest.raises(KeyError, match="stop"):
        given.extend(chunk for chunk in session.chunks(stops) if given.append(chunk))
    again = Session.resume(path, model, viewer=False, clock=SimulatedClock(), decode_beside=False)
    whole = Session(model, anchors[0], SETTINGS, seed=5, viewer=False, clock=SimulatedClock(), decode_beside=False)
    whole.apply(voice(3.0))
    mine, theirs = next(again.chunks()), list(islice(whole.chunks(), 3))[2]
    assert (mine.chunk, mine.first_frame) == (theirs.chunk, theirs.first_frame) == (2, 21)
    assert np.array_equal(mine.sound, theirs.sound)
    assert np.abs(np.asarray(mine.frames).astype(int) - np.asarray(theirs.frames)).max() <= 1


def test_a_session_s_files_must_belong_together(model, anchors, tmp_path):
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    real = Real(lambda **options: Session(model, anchors[0], SETTINGS, seed=5, **options))
    real.session.save(path)
    real.run(1).session.save(other)
    with pytest.raises(StateError, match="cannot read"):
        Session.resume(tmp_path / "none.safetensors", model)
    beside = tmp_path / "a.safetensors.json"
    beside.write_text(other.with_name("b.safetensors.json").read_text())
    with pytest.raises(StateError, match="another moment"):
        Session.resume(path, model)
    beside.write_text('{"version": 99, "start": 0}')
    with pytest.raises(StateError, match="version 99"):
        Session.resume(path, model)
    beside.write_text("[")
    with pytest.raises(StateError, match="cannot read"):
        Session.resume(path, model)


def test_decoding_beside_gives_the_same_in_pieces_of_a_latent_frame(model, anchors):
    def given(**options):
        session = Session(model, anchors[0], SETTINGS, seed=5, viewer=False, **options)
        session.apply(controls.SetControls({"yaw": 0.6}))
        return list(islice(session.chunks(), 3))

    beside = given()
    pieces = [piece for chunk in beside for piece in chunk.pieces(25)]
    assert [len(piece.frames) for piece in pieces] == [1, *[4] * 8]
    assert [piece.first_frame for piece in pieces] == [0, *range(1, 33, 4)]
    assert [piece.keyframe for piece in pieces] == [True, False, False] * 3
    assert [piece.applied for piece in pieces] == [(1,), *[()] * 8]
    assert np.array_equal(np.concatenate([piece.sound for piece in pieces]), np.concatenate([c.sound for c in beside]))
    for late, whole in zip(beside, given(decode_beside=False), strict=True):
        assert (late.chunk, late.first_frame, len(late.frames)) == (whole.chunk, whole.first_frame, len(whole.frames))
        assert np.abs(np.asarray(late.frames).astype(int) - np.asarray(whole.frames)).max() <= 1


def test_frames_that_are_shown_until_a_cut_come_although_the_rest_is_cancelled(model, anchors, tmp_path, monkeypatch):
    """Decoding is so slow that what is cut is not decoded when it is. The decoder leaves it at once, and what is drawn
    in its place begins with the first frame that nobody decodes any more at the latest.
    """
    left, replace_from = [], Drawing.replace_from

    def noting(drawing, first_frame):
        left.extend((span.first + chunk.frames._wanted, first_frame) for span, chunk, _ in drawing._cut)
        replace_from(drawing, first_frame)

    monkeypatch.setattr(Drawing, "replace_from", noting)
    gate, decode = threading.Event(), model.codec.decode
    slow = SimpleNamespace(decode=lambda *arguments: (gate.wait(60), decode(*arguments))[1], encode=model.codec.encode)
    slowly = replace(model, codec=slow)
    object.__setattr__(slowly, "identity", anchors[0].model)
    real = Real(
        lambda **options: Session(
            slowly, anchors[0], SETTINGS, seed=5, viewer=False, record_to=lambda: tmp_path / "cut.mp4", **options
        ),
        decode_beside=True,
    )
    real.session.apply(controls.StartRecording())
    real.at(0.1, voice(9.0), controls.CommitSpeech())

    def interrupt_inside_a_chunk():
        if real.clock.now() < 1.7 or not 9 < 25 * real.session._watching.unplayed < 11:
            return True
        real.session.apply(controls.Cancel(int(real.session._watching.position) - 1))
        return False

    real.clock.every(0.01, interrupt_inside_a_chunk)
    given = []
    for chunk in real.session.chunks(lambda: real.clock.pass_until(real.clock.now() + STAGE)):
        given.append(chunk)
        if len(given) == 8:
            gate.set()
            real.session.apply(controls.Finish())
    (cut,) = real.told(Cut)
    ends = [chunk.first_frame + len(chunk.frames) for chunk in given]
    replaced = [chunk for chunk, end in zip(given, ends, strict=True) if chunk.epoch == 0 and end > cut.first_frame]
    assert any(chunk.first_frame < cut.first_frame for chunk in replaced)
    last_replaced = max(end for chunk, end in zip(given, ends, strict=True) if chunk.epoch == 0)
    assert len(left) == len(replaced)
    assert all(first <= wanted < last_replaced for wanted, first in left)
    for chunk in replaced:
        wanted = chunk.frames[: max(0, cut.first_frame - chunk.first_frame)]
        assert len(np.asarray(wanted)) == len(wanted)
    assert real.told(Recorded) == [Recorded(tmp_path / "cut.mp4")]
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == max(ends)
