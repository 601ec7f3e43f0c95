"""Several sessions of one process, drawn by few threads: those first whose viewers run out of pictures first."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import copy_context
from math import inf
from threading import Condition, Lock, Thread
from typing import NamedTuple, Protocol

from .clock import Clock
from .events import MediaChunk
from .joint_drawing import Steps, together
from .scheduling import (
    FIRST,
    LEAD,
    ROOM,
    Admit,
    Costs,
    Refuse,
    Rung,
    Running,
    Shape,
    Waiting,
    decide,
    next_group,
    planned,
)

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 0.05  # seconds, between two looks at sessions whose time passes by another clock
_AHEAD = 2.0  # seconds of pictures by which a session may be ahead of its own pace while others are shown at theirs
_WATCHED = 3.0  # seconds after its last chunk in which a session counts as watched
_LASTING = 60.0  # seconds that a session is expected to last, before some have ended
_WEIGHT = 0.2  # of the last one that ended, in the seconds that the next ones are expected to last


class Adaptable(Protocol):
    """The rungs that a session can be drawn on, and how far ahead it is drawn."""

    ladder: Sequence[Rung]
    floor: int
    shared_lead: float

    @property
    def rung(self) -> Rung: ...


class Drawable(Protocol):
    """A session as a ticker needs it: `Session`, with the ticker's `changed`."""

    @property
    def unplayed(self) -> float: ...

    @property
    def adapting(self) -> Adaptable: ...

    def running(self): ...  # noqa: ANN201 - a context manager

    def until_due(self) -> float | None: ...

    def rest(self) -> float: ...

    def step(self, waited: float = 0.0) -> MediaChunk | None: ...

    def steps(self, waited: float = 0.0) -> Steps[MediaChunk | None]: ...


class _Task:
    """A session with whom it is shown to. It is in the hands of one thread at a time, which sets `drawn`."""

    def __init__(
        self, session: Drawable, show: Callable[[MediaChunk], None], ended: Callable[[Exception | None], None]
    ) -> None:
        self.session, self.show, self._ended = session, show, ended
        self.drawn = False
        self.held = 0.0  # until then it is not drawn, so that others have the processors
        self.began = self.drawn_at = self._dry = 0.0
        self._first: tuple[float, int] | None = None  # when the first pictures were there, and their number
        self._last = 0  # pictures are shown up to here
        self._running = ExitStack()
        self._context = copy_context()  # what is logged of the session, names it

    def begin(self, now: float) -> None:
        self.began = self.drawn_at = now
        self._dry = now + FIRST
        self._running.enter_context(self.session.running())

    @property
    def least(self) -> Shape:
        """The shape down to which it may give way before pictures are left out."""
        return least_of(self.session.adapting.ladder)

    def waiting(self, number: int, due: float, now: float, fps: int) -> Waiting:
        """The wait as of now, when its next chunk is due in so many seconds. A viewer who waits goes on waiting: he has
        run dry when he did, and the longer ago that was, the less slack there is. Who says that he has shown everything
        at once is believed, and has the slack of one who shows it at its pace: nobody waits for him.
        """
        shape, unplayed = self.session.adapting.rung.shape, self.session.unplayed
        if unplayed > 0:
            self._dry = now + unplayed
        if self._first is None:
            return Waiting(number, shape, self._dry, now)
        ready = now + due if unplayed > 0 else min(self._dry, now) + due
        self._dry = min(self._dry, now + unplayed)
        return Waiting(number, shape, max(self._dry, now + self.ahead(now, fps)), ready)

    def ahead(self, now: float, fps: int) -> float:
        """Seconds of pictures beyond what a viewer who shows them at their pace has shown by now."""
        if self._first is None:
            return 0.0
        since, first = self._first
        return since + (self._last - first) / fps - now

    def keeps_pace(self, now: float, fps: int) -> bool:
        """Whether it is watched, by somebody who shows pictures at their pace."""
        return now - self.drawn_at < _WATCHED and self.ahead(now, fps) <= _AHEAD

    def hand_on(self, result: MediaChunk | Exception | None, now: float) -> None:
        if isinstance(result, Exception):
            raise result
        if result is not None:
            self.drawn_at, self._first = now, self._first or (now, result.first_frame)
            self._last = result.first_frame + len(result.frames)
            self._context.run(self.show, result)

    def end(self, problem: Exception | None) -> None:
        self._context.run(self._end, problem)

    def _end(self, problem: Exception | None) -> None:
        if problem is not None:
            logger.error("a session ends", exc_info=problem)
        try:
            self._running.__exit__(type(problem) if problem else None, problem, None)
        except Exception as found:  # a session raises what broke it
            problem = found
        self._ended(problem)


def least_of(ladder: Sequence[Rung]) -> Shape:
    """The shape of the last rung on which every picture is shown."""
    return [rung for rung in ladder if rung.every == 1][-1].shape


class _Chosen(NamedTuple):
    """A session that is drawn now, and the seconds since that was due."""

    number: int
    task: _Task
    waited: float


def _results(chosen: Sequence[_Chosen]) -> list[MediaChunk | Exception | None]:
    """Their chunks, drawn in one pass where there are several."""
    if len(chosen) > 1:
        return together([one.task.session.steps(one.waited) for one in chosen])
    try:
        return [chosen[0].task.session.step(chosen[0].waited)]
    except Exception as problem:
        return [problem]


class Ticker:
    """Draws sessions in `lanes` threads, with the least slack first; several in one pass where that was measured to be
    cheaper.

    Sessions share `changed`. What makes one fail ends that one alone. As long as each has a lane of its own, each is
    drawn as if it were alone. Beyond that all are drawn a little further ahead; and where there are more than can be
    drawn as they were asked for, all that may (`Session(degrades=True)`) give way alike.
    """

    def __init__(self, costs: Costs, lanes: int = 1, clock: Clock | None = None) -> None:
        self.costs, self.changed, self._clock = costs, Condition(), clock or Clock()
        self._tasks: dict[int, _Task] = {}
        self._choosing = Lock()  # one thread at a time looks at the sessions
        self._closing, self._number, self._floor, self._lasting = False, 0, 0, _LASTING
        self._lanes = lanes
        self._threads = [Thread(target=self._run, name=f"knot-live-lane-{lane}", daemon=True) for lane in range(lanes)]
        for thread in self._threads:
            thread.start()

    def add(
        self, session: Drawable, show: Callable[[MediaChunk], None], ended: Callable[[Exception | None], None]
    ) -> None:
        """Draw it, too. `show` gets its chunks and `ended` what broke it, or None, on a thread of the ticker."""
        task = _Task(session, show, ended)
        task.begin(self._clock.now())
        with self.changed:
            self._number += 1
            self._tasks[self._number] = task
            self._plan()
            self.changed.notify_all()

    def admit(self, ladder: Sequence[Rung]) -> Admit | Refuse:
        """Whether one more session with that ladder fits beside those that are watched, each with all steps given up
        that may be. The only one is never refused.
        """
        now = self._clock.now()
        with self.changed:
            watched = [task for task in self._tasks.values() if now - task.drawn_at < _WATCHED]
            running = [Running(task.least, max(1.0, self._lasting - (now - task.began))) for task in watched]
        answer = decide(self.costs, running, least_of(ladder))
        return answer if running or isinstance(answer, Admit) else Admit(1.0)

    @property
    def strained(self) -> bool:
        """Whether sessions give way, because there is no time for all of them as they were asked for."""
        with self.changed:
            return any(task.session.adapting.rung != task.session.adapting.ladder[0] for task in self._tasks.values())

    def close(self) -> None:
        """End the threads and all sessions; waits for the chunks under way."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        for thread in self._threads:
            thread.join()
        for number in list(self._tasks):
            self._end(number, None)

    def _run(self) -> None:
        while not self._closing:
            chosen = self._choose()
            if chosen:
                self._draw(chosen)
            else:
                self._sleep()

    def _choose(self) -> list[_Chosen]:
        """The sessions to draw now, all in one; they are this thread's until they are drawn."""
        with self._choosing:
            now, waiting = self._clock.now(), {}
            self._hold(now)
            for number, task in self._free():
                due = self._until_due(number, task)
                if due is not None and due < inf and task.held <= now:
                    waiting[number] = task.waiting(number, due, now, self.costs.fps)
            group = next_group(waiting.values(), now, self.costs)
            numbers = () if group is None else group.keys
            chosen = [_Chosen(number, self._tasks[number], now - waiting[number].ready) for number in numbers]
            for one in chosen:
                one.task.drawn = True
            return chosen

    def _hold(self, now: float) -> None:
        """Let those wait who are far ahead of their pace while others are shown at theirs: whoever says that he has
        shown everything at once would be drawn and encoded without a pause, on the processors that others need.
        """
        fps = self.costs.fps
        with self.changed:
            tasks = list(self._tasks.values())
        paced = sum(task.keeps_pace(now, fps) for task in tasks)
        for task in tasks:
            others = paced - task.keeps_pace(now, fps)
            task.held = now + task.ahead(now, fps) - _AHEAD if others else 0.0

    def _draw(self, chosen: Sequence[_Chosen]) -> None:
        try:
            for one, result in zip(chosen, _results(chosen), strict=True):
                self._hand_on(one, result)
        finally:
            with self.changed:
                for one in chosen:
                    one.task.drawn = False
                self.changed.notify_all()

    def _hand_on(self, one: _Chosen, result: MediaChunk | Exception | None) -> None:
        try:
            one.task.hand_on(result, self._clock.now())
        except Exception as problem:
            self._end(one.number, problem)

    def _until_due(self, number: int, task: _Task) -> float | None:
        try:
            due = task.session.until_due()
        except Exception as problem:
            self._end(number, problem)
            return None
        if due is None:
            self._end(number, None)
        return due

    def _end(self, number: int, problem: Exception | None) -> None:
        with self.changed:
            task = self._tasks.pop(number)
            self._lasting += _WEIGHT * (self._clock.now() - task.began - self._lasting)
            self._plan()
        task.end(problem)

    def _plan(self) -> None:
        """Sessions come and go: all give way as far as is needed so that there is time for each."""
        sessions = [task.session.adapting for task in self._tasks.values()]
        shared = len(sessions) > self._lanes
        self._floor = planned(self.costs, [one.ladder for one in sessions], self._floor, ROOM) if shared else 0
        for one in sessions:
            one.floor, one.shared_lead = self._floor, LEAD if shared else 0.0

    def _free(self) -> list[tuple[int, _Task]]:
        with self.changed:
            return [(number, task) for number, task in self._tasks.items() if not task.drawn]

    def _sleep(self) -> None:
        """Until a session is due that nobody draws, or something is asked."""
        with self.changed:
            now = self._clock.now()
            rests = (max(task.session.rest(), task.held - now) for _, task in self._free())
            seconds = min([_LONGEST_WAIT, *rests])
            if seconds > 0 and not self._closing:
                self._clock.wait(self.changed, seconds)
