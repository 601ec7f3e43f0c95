"""Jobs are shared out to machines; what fails is tried again, and what a machine leaves goes to another."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import queue
from .jobs import DONE, FAILED, RUNNING, WAITING, Job, Journal
from .machines import BusyError, Machine, Order, StoppedError

LONGEST_WAIT = 60.0  # seconds between two tries
TOLD_EVERY = 10.0  # seconds between two lines about the progress of one job


@dataclass(eq=False)
class Work:
    """A job that is not done yet."""

    job: Job
    tries: int = 0
    not_before: float = 0.0  # monotonic seconds
    refused: dict[str, str] = field(default_factory=dict)  # by machine: why it cannot do that job
    failed_on: set[str] = field(default_factory=set)
    left: tuple[str, str] | None = None  # machine, and by what that one knows it


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Seconds, and how often a job is tried."""

    tries: int = 3
    backoff: float = 2.0  # before a second try; doubled for each later one
    give_up: float = 300.0  # without an answer, after which a machine is written off
    longest: float = 3600.0  # that one job may take


def backoff(first: float, times: int) -> float:
    """Seconds before the next try, after so many failures; spread, so that not all come back at once."""
    return min(LONGEST_WAIT, first * 2.0 ** min(times - 1, 16)) * random.uniform(0.8, 1.2)


class Farm:
    """Jobs, and the machines that they are shared out to, each on threads of its own."""

    def __init__(self, works: list[Work], machines: list[Machine], journal: Journal, out: Path, rules: Rules) -> None:
        self._waiting, self._running, self._num_jobs = works, [], len(works)
        self._machines, self._journal, self._out, self._rules = machines, journal, out, rules
        self._changed, self._leaving, self._stop = threading.Condition(), False, threading.Event()
        self._broken: OSError | None = None
        self._living = {machine.name for machine in machines}
        self.figures = {name: Counter(done=0, failed=0, silent=0, busy_seconds=0) for name in sorted(self._living)}

    def run(self) -> bool:
        """Until nothing more can be done; whether it was stopped before. `machines` with one name work side by side."""
        threads = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in self._machines]
        with queue.CtrlC() as ctrl_c:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                next(thread for thread in threads if thread.is_alive()).join(0.2)
                self._heed(ctrl_c.presses)
        if self._broken is not None:
            raise self._broken
        return self._leaving

    def written_off(self) -> list[str]:
        return sorted(self.figures.keys() - self._living)

    def _heed(self, presses: int) -> None:
        if presses and not self._leaving:
            queue.say("no more jobs are begun; Ctrl-C again stops those that run")
            with self._changed:
                self._leaving = True
                self._changed.notify_all()
        if presses > 1:
            self._stop.set()

    def _work(self, machine: Machine) -> None:
        """On a thread of its own; where the journal cannot be written, all of them end."""
        try:
            self._serve(machine)
        except OSError as problem:
            self._broken = problem
            self._stop.set()
            with self._changed:
                self._leaving = True
                self._changed.notify_all()

    def _serve(self, machine: Machine) -> None:
        failures = 0  # one after the other: a machine on which everything fails should not get every job
        while (work := self._take(machine)) is not None:
            began = time.monotonic()
            try:
                files = machine.perform(self._order(work, machine))
            except Exception as problem:  # whatever it is, the job must not be lost
                failures = self._went_wrong(work, machine, problem, failures)
            else:
                failures = 0
                self._done(work, machine, files, time.monotonic() - began)

    def _order(self, work: Work, machine: Machine) -> Order:
        name, told = work.job.name, [time.monotonic()]
        left = work.left[1] if work.left is not None and work.left[0] == machine.name else None

        def tell(line: object) -> None:
            if time.monotonic() > told[0] + TOLD_EVERY:
                told[0] = time.monotonic()
                queue.say(f"  {name}: {line}")

        def begun(known_as: str) -> None:
            self._journal.note(name, state=RUNNING, machine=machine.name, known_as=known_as)

        return Order(job=work.job, folder=self._out / name, stop=self._stop, tell=tell, begun=begun, left=left,
                     deadline=time.monotonic() + self._rules.longest)  # fmt: skip

    def _take(self, machine: Machine) -> Work | None:
        """The next job for that machine, waited for; None: there will be none."""
        with self._changed:
            while not self._leaving and machine.name in self._living:
                now = time.monotonic()
                suited = [work for work in self._waiting if self._suits(work, machine)]
                due = next((work for work in suited if work.not_before <= now), None)
                if due is not None:
                    self._waiting.remove(due)
                    self._running.append(due)
                    return due
                if not any(machine.name not in work.refused for work in self._waiting + self._running):
                    return None
                self._changed.wait(min((work.not_before - now for work in suited), default=1.0))
        return None

    def _suits(self, work: Work, machine: Machine) -> bool:
        """Not refused there; where it failed, only if it failed everywhere; what was left somewhere is there still."""
        if work.left is not None and work.left[0] in self._living:
            return work.left[0] == machine.name
        others = self._living - work.failed_on - work.refused.keys()
        return machine.name not in work.refused and (machine.name not in work.failed_on or not others)

    def _done(self, work: Work, machine: Machine, files: list[Path], seconds: float) -> None:
        names = [path.relative_to(self._out).as_posix() for path in files]
        self._journal.note(work.job.name, state=DONE, machine=machine.name, tries=work.tries + 1, reason="",
                           seconds=round(seconds, 2), files=names)  # fmt: skip
        with self._changed:
            self._running.remove(work)
            self.figures[machine.name].update(done=1, busy_seconds=seconds)
            left = len(self._waiting) + len(self._running)
            self._changed.notify_all()
        queue.say(f"[{self._num_jobs - left}/{self._num_jobs}] {work.job.name}: {seconds:.1f} s on {machine.name}")

    def _went_wrong(self, work: Work, machine: Machine, problem: Exception, failures: int) -> int:
        """Give the job back, or give it up; how often in a row this machine has failed now."""
        name, why = machine.name, queue.one_line(problem) or type(problem).__name__
        queue.say(f"{work.job.name} on {name}: {why}")
        if isinstance(problem, StoppedError):
            self._give_back(work, machine, why, tries=0)
            return 0
        if isinstance(problem, BusyError):
            self._give_back(work, machine, why, tries=0)
            self._stop.wait(backoff(self._rules.backoff, 1))
            return 0
        if isinstance(problem, queue.RefusedError):
            work.refused[name] = why
            self._give_back(work, machine, why, tries=0)
            return failures
        if isinstance(problem, queue.SilentError):
            self.figures[name].update(silent=1)
            self._give_back(work, machine, why, tries=1)
            self._wait_for(machine)
            return 0
        self.figures[name].update(failed=1)
        work.failed_on.add(name)
        self._give_back(work, machine, why, tries=1)
        if failures and len(self._living) > 1:  # the others should get the next ones
            self._stop.wait(backoff(self._rules.backoff, min(failures, 3)))
        return failures + 1

    def _give_back(self, work: Work, machine: Machine, why: str, *, tries: int) -> None:
        work.tries, work.left = work.tries + tries, None
        if tries:
            work.not_before = time.monotonic() + backoff(self._rules.backoff, work.tries)
        with self._changed:
            self._running.remove(work)
            self._journal.note(work.job.name, state=WAITING, machine=machine.name, reason=why, tries=work.tries)
            self._waiting.append(work)
            self._give_up_hopeless()
            self._changed.notify_all()

    def _give_up_hopeless(self) -> None:
        """Jobs that were tried often enough, or that every machine refuses."""
        for work in list(self._waiting):
            refused = bool(self._living) and self._living <= work.refused.keys()
            if refused or work.tries >= self._rules.tries:
                self._waiting.remove(work)
                self._journal.note(work.job.name, state=FAILED, tries=work.tries)
                queue.say(f"{work.job.name}: given up")

    def _wait_for(self, machine: Machine) -> None:
        """Until it answers again; a machine that does not in time is written off."""
        silent_since, times = time.monotonic(), 0
        while not self._stop.is_set() and not self._leaving and machine.name in self._living:
            try:
                machine.ask()
            except queue.FailedError:
                times += 1
            else:
                return
            if not self._waiting + self._running:
                return
            if time.monotonic() - silent_since > self._rules.give_up:
                break
            self._stop.wait(min(backoff(self._rules.backoff, times), self._rules.give_up))
        with self._changed:
            if machine.name in self._living and not self._leaving:
                queue.say(f"{machine.name} is written off: no answer in {time.monotonic() - silent_since:.0f} s")
            self._living.discard(machine.name)
            self._give_up_hopeless()
            self._changed.notify_all()


def to_do(jobs: Iterable[Job], journal: Journal, out: Path) -> list[Work]:
    """What is not done yet: all but what the journal and the disc both say is there."""
    works = []
    for job in jobs:
        entry = journal.begin(job)
        if entry["state"] == DONE and all((out / name).is_file() for name in entry["files"]):
            continue
        left = (entry["machine"], entry["known_as"]) if entry["state"] == RUNNING else None
        entry["state"] = RUNNING if left else WAITING
        works.append(Work(job, left=left))
    return works
