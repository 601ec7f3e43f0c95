"""Stand-ins by which hours of a session pass in seconds: a clock, a stream, a driving and a viewer.

The stream draws nothing: each pixel of a frame holds what the driving said for it. Time passes where a stage of a chunk
would take it, and where somebody waits.
"""

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import torch

from knot_live import controlled, controls, preparing
from knot_live.chunk_lengths import ASIDE
from knot_live.clock import Clock
from knot_live.drawing import Drawing
from knot_live.engine import Chunk, StreamSettings, first_pixel_frame
from knot_live.session import Session

FPS, RATE = 25, 24_000
STAGES = 6
MOST_SHOWN = 20_000  # frames that a viewer remembers


class SimulatedClock(Clock):
    """Jumps from one thing that is to happen to the next."""

    def __init__(self):
        self.time, self._coming, self._order = 0.0, [], itertools.count()

    def now(self):
        return self.time

    def at(self, time, happen):
        heapq.heappush(self._coming, (time, next(self._order), happen))

    def every(self, seconds, happen, first=0.0):
        """Until it returns False."""

        def again():
            if happen() is not False:
                self.at(self.time + seconds, again)

        self.at(first or self.time + seconds, again)

    def wait(self, changed, seconds):  # noqa: ARG002
        """Wakes early, as a notified thread does."""
        end = self.time + seconds
        if self._coming and self._coming[0][0] <= end:
            self.pass_until(self._coming[0][0])
        else:
            self.time = end

    def pass_until(self, end):
        while self._coming and self._coming[0][0] <= end:
            time, _, happen = heapq.heappop(self._coming)
            self.time = max(self.time, time)
            happen()
        self.time = max(self.time, end)


@dataclass
class FakeStream:
    """A stream whose chunk of three latent frames takes `seconds()` in stages, a shorter one its share.

    Frames show the driving's signal and the settings' steps.
    """

    settings: StreamSettings
    driving: "FakeDriving"
    should_stop: object
    clock: SimulatedClock
    seconds: object = lambda: 0.2
    plan: SimpleNamespace = None
    finished: bool = False
    kept: list = field(default_factory=list)
    num_kept: int = 2
    drawn: int = 0
    given_up: int = 0
    prompt: float = 0.0
    recached: bool = False
    person: float = 0.0
    knots_dropped: int = 0
    lengths: list = field(default_factory=list)  # latent frames of all chunks that were drawn
    on_begin: object = lambda _: None

    def __post_init__(self):
        self.plan = SimpleNamespace(chunk=0, start=0, num_frames=self.settings.num_chunk_frames, num_knot_frames=1)

    def __next__(self):
        took = self.seconds() * (self.plan.num_frames + ASIDE) / (3 + ASIDE)
        self.on_begin(first_pixel_frame(self.plan.start))
        for _ in range(STAGES):
            if self.should_stop():
                self.given_up += 1
                raise StopIteration
            self.clock.pass_until(self.clock.now() + took / STAGES)
        plan = self.plan
        first, end = first_pixel_frame(plan.start), first_pixel_frame(plan.start + plan.num_frames)
        values = self.driving.frames(first, end)
        frames = torch.from_numpy(np.broadcast_to(values[:, None, None, None], (end - first, 16, 16, 3)).copy())
        self.kept = [*self.kept, plan][-self.num_kept :]
        self.plan = replace_plan(plan, chunk=plan.chunk + 1, start=plan.start + plan.num_frames)
        self.drawn += 1
        self.lengths.append(plan.num_frames)
        latents = torch.zeros(plan.num_frames, 1, 1, 1)
        return Chunk(index=plan.chunk, start_frame=plan.start, latents=latents, pixel_frames=frames, seconds={})

    def take_back(self, count=1):
        assert 0 < count <= len(self.kept), "no such chunk is kept"
        self.plan = replace_plan(self.kept[-count], num_frames=self.settings.num_chunk_frames)
        self.kept = self.kept[:-count]

    cuts_short = True

    def cut_short(self, num_frames, memory=None):  # noqa: ARG002
        before = self.kept[-1]
        assert 0 < num_frames < self.plan.start - before.start, "some frames stay and some go"
        self.plan = replace_plan(self.plan, start=before.start + num_frames, num_frames=self.settings.num_chunk_frames)
        self.knots_dropped += 1

    def drop_knot(self):
        self.knots_dropped += 1

    def set_settings(self, settings):
        self.settings = settings
        self.plan = replace_plan(self.plan, num_frames=settings.num_chunk_frames)

    def set_text(self, text, *, recache=False):
        self.prompt, self.recached = text, recache

    def set_anchor(self, anchor, *, cut=False):
        self.person = (anchor, cut)


def replace_plan(plan, **changes):
    return SimpleNamespace(**(vars(plan) | changes))


class FakeDriving:
    """A level that is held, and speech that is a number of frames; speech frames show 100 more than the level."""

    def __init__(self):
        self.level, self.speech, self.speaking, self.spoken, self.calls = 0, 0, False, 0, []
        self.mirrors = False
        self._frozen = (0, 0, 0, 0)
        self._played = {}

    @property
    def speech_waiting(self):
        return self.speech / FPS

    def set_controls(self, values):
        if "yaw" not in values:
            raise ValueError(f"there is no control {next(iter(values))!r}; there is yaw")
        self.level = int(values["yaw"])

    def append_speech(self, samples, rate, mode):  # noqa: ARG002
        self.speech += round(samples.shape[-1] / rate * FPS)

    def commit_speech(self):
        self.calls.append("commit")

    def clear_speech(self):
        self.speech = 0

    def gesture(self, name, *, strength):
        self.calls.append((name, strength))

    def begin_chunk(self, plan):
        first, end = first_pixel_frame(plan.start), first_pixel_frame(plan.start + plan.num_frames)
        spoken = min(self.speech, end - first)
        self.speaking = spoken > 0
        self._frozen = (first, end, self.level, spoken)

    def frames(self, first, end):
        assert (first, end) == self._frozen[:2], "the chunk that is drawn is not the one that was begun"
        _, _, level, spoken = self._frozen
        return np.array([level + 100 * (frame < first + spoken) for frame in range(first, end)], dtype=np.uint8)

    def end_chunk(self):
        first, end, _, spoken = self._frozen
        self.speech -= spoken
        sound = np.zeros((end - first) * RATE // FPS, dtype=np.float32)
        self.spoken = spoken * RATE // FPS
        sound[: self.spoken] = 0.5
        return sound

    def to_state(self):
        return {"level": self.level}

    def take_back(self, start_latent, heard_until=None):
        if heard_until is not None:
            self.calls.append(("take_back", start_latent, heard_until))


class Viewer:
    """Plays what it is given, `delay` seconds later, by a clock of its own; acknowledges as it plays, and says that
    the way takes `transport` seconds, where that is given. `too_late` are frames that came in place of shown ones.

    `shown` are the frames as they were shown, `times` the same with when, of which the last are kept; `stalls`
    counts the frames for which there was nothing to show.
    """

    def __init__(self, clock, session, *, delay=0.04, every=0.1, transport=None):
        self.clock, self.session, self.delay, self.away = clock, session, delay, False
        self.transport, self.too_late = transport, 0
        self.held, self.shown, self.times = {}, deque(maxlen=MOST_SHOWN), deque(maxlen=MOST_SHOWN)
        self.stalled_at = deque(maxlen=MOST_SHOWN)
        self.next, self.stalls, self.epoch, self.began = 0, 0, 0, False
        clock.every(1 / FPS, self._tick)
        clock.every(every, self._acknowledge)

    def take(self, chunk):
        self.clock.at(self.clock.now() + self.delay, lambda: self._receive(chunk))

    def _receive(self, chunk):
        if chunk.epoch != self.epoch:
            self.epoch = chunk.epoch
            self.held = {frame: value for frame, value in self.held.items() if frame < chunk.first_frame}
            self.too_late += max(0, self.next - chunk.first_frame)
        if not self.began:
            self.next = min(self.held, default=chunk.first_frame)
        for place, frame in enumerate(chunk.frames):
            self.held[chunk.first_frame + place] = frame[0, 0, 0]

    def _tick(self):
        if self.away:
            return
        if self.next in self.held:
            value = int(self.held.pop(self.next))
            self.shown.append(value)
            self.times.append((self.clock.now(), value))
            self.next, self.began = self.next + 1, True
        elif self.began:
            self.stalls += 1
            self.stalled_at.append(self.clock.now())

    def _acknowledge(self):
        if self.began and not self.away:
            self.session.acknowledge(self.epoch, self.next - 1, self.transport)


def irregular(seed, *, usual=0.2, rare=0.3):
    """Seconds of a chunk: one in twenty takes longer."""
    rng = random.Random(seed)
    return lambda: rare if rng.random() < 0.05 else usual * rng.uniform(0.95, 1.05)


class AtOnce:
    """A pool of threads that does what it is given in the caller's."""

    def __init__(self, *_):
        self.submit = lambda work, *arguments: work(*arguments)

    def shutdown(self, **_):
        pass


class Scene:
    """A session over stand-ins, with everything that it told and gave."""

    def __init__(
        self, monkeypatch, *, seconds=0.2, settings=None, viewer=True, acknowledged_every=0.1, watched=(), **options
    ):
        """`driving`: what makes one of a clock, in place of the stand-in. `cuts_short`: whether chunks can be.

        `watched`: other values of the viewer.
        """
        self.clock, self.events, self.chunks = SimulatedClock(), [], []
        self.driving = options.pop("driving", lambda _: FakeDriving())(self.clock)
        cuts_short = options.pop("cuts_short", True)
        self.on_begin = lambda _: None
        taken = seconds if callable(seconds) else lambda: seconds

        def open_at(model, settings, driving, should_stop, keep):  # noqa: ARG001
            self.stream = FakeStream(settings, driving, should_stop, self.clock, taken, num_kept=keep)
            self.stream.on_begin = lambda first: self.on_begin(first)  # noqa: PLW0108 - it may be replaced
            return self.stream

        monkeypatch.setattr(controlled, "begin_stream", lambda model, anchor, settings, seed: settings)  # noqa: ARG005
        monkeypatch.setattr(controlled, "open_at", open_at)
        monkeypatch.setattr(preparing, "ThreadPoolExecutor", AtOnce)
        monkeypatch.setattr(Drawing, "cuts_short", cuts_short)  # as where chunks are decoded beside drawing
        self.session = Session(
            SimpleNamespace(fps=FPS, settings=StreamSettings()), None, settings or StreamSettings(),
            driving=self.driving, clock=self.clock, on_event=self._hear, viewer=viewer,
            **{"decode_beside": False, **options},
        )  # fmt: skip
        self.viewer = Viewer(self.clock, self.session, every=acknowledged_every, **dict(watched)) if viewer else None

    def _hear(self, event):
        self.events.append(event)

    def at(self, time, control):
        """Ask for it then."""
        self.clock.at(time, lambda: self.session.apply(control))

    def run(self, seconds, wait=None):
        """The session for so long, or until it ends; `chunks` keeps what it gave."""
        self.at(self.clock.now() + seconds, controls.Finish())
        for given in self.session.chunks(wait):
            chunk = replace(given, frames=np.asarray(given.frames))
            self.chunks.append(chunk)
            if self.viewer is not None:
                self.viewer.take(chunk)
        return self

    def told(self, kind):
        return [event for event in self.events if isinstance(event, kind)]
