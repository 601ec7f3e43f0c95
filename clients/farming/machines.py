"""Machines that do jobs: ComfyUIs and live servers."""

import argparse
import asyncio
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import queue
from .jobs import Job, Json

_OF_THE_MACHINE = {"unreachable", "connection_lost", "timeout", "internal"}  # codes of a live server
_OF_THE_JOB = {"bad_value", "unauthorized", "too_large", "bad_picture", "refused", "unknown_field"}
_FULL = {"server_full", "full"}


class BusyError(queue.FailedError):
    """The machine has no room now; the job loses no try by it."""


class StoppedError(queue.FailedError):
    """Whoever runs this asked for it."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job as a machine gets it."""

    job: Job
    folder: Path  # for what comes back
    stop: threading.Event
    deadline: float  # monotonic seconds
    tell: Callable[[object], None]  # of its progress
    begun: Callable[[str], None]  # note by what the machine knows it
    left: str | None  # by what it knew it, when this program ended before it

    def check(self) -> None:
        if self.stop.is_set():
            raise StoppedError("it was stopped")
        if time.monotonic() > self.deadline:
            raise queue.FailedError("it took longer than --longest")


class Machine(Protocol):
    name: str

    def ask(self) -> None:
        """Return if it answers, else raise a SilentError."""

    def perform(self, order: Order) -> list[Path]:
        """Do it; the files that were made."""


class ComfyMachine:
    """A ComfyUI; one job at a time, as its queue goes."""

    def __init__(self, name: str, workflow: Json) -> None:
        self.name, self._workflow = name, workflow

    def ask(self) -> None:
        queue.Comfy(self.name).socket.close()

    def perform(self, order: Order) -> list[Path]:
        comfy = queue.Comfy(self.name)
        try:
            run = self._left(comfy, order) or self._queued(comfy, order)
            self._follow(comfy, run, order)
            if run.state != "success":
                raise queue.FailedError(run.reason or "somebody stopped it on that machine")
            return [comfy.fetch(place, order.folder) for place in queue.results(comfy, run)]
        finally:
            comfy.socket.close()

    def _left(self, comfy: Any, order: Order) -> Any:
        """What it was queued as before, if it runs, waits or succeeded."""
        if order.left is None:
            return None
        run = queue.Run(order.left, self._workflow, tell=order.tell)
        status = comfy.ask(f"/history/{order.left}").get(order.left, {}).get("status") or {}
        return run if comfy.knows(order.left) or status.get("status_str") == "success" else None

    def _queued(self, comfy: Any, order: Order) -> Any:
        job, prompt = order.job, json.loads(json.dumps(self._workflow))
        if job.text:
            raise queue.RefusedError("a ComfyUI speaks no text; give a sound, or a live server")
        wishes = argparse.Namespace(reference=job.reference, audio=job.audio, seed=job.seed, seconds=job.seconds,
                                    set=job.settings)  # fmt: skip
        queue.prepare(comfy, prompt, wishes)
        run = queue.Run(comfy.queue(prompt), prompt, tell=order.tell)
        order.begun(run.prompt_id)
        return run

    @staticmethod
    def _follow(comfy: Any, run: Any, order: Order) -> None:
        def stopping() -> bool:
            order.check()
            return False

        try:
            queue.follow(comfy, run, stopping)
        except queue.SilentError:
            raise
        except queue.FailedError:
            comfy.stop(run.prompt_id)
            raise


class LiveMachine:
    """A live server, or a cluster's gateway: a job is a session that says something."""

    def __init__(self, name: str, token: str | None) -> None:
        try:
            from knot_live import client, talk
        except ImportError as problem:
            raise queue.FailedError(f'for --live, install this pack: pip install -e ".[live]" ({problem})') from problem
        self.name, self._token, self._talk, self._error = name, token, talk, client.LiveError

    def ask(self) -> None:
        try:
            urllib.request.urlopen(f"{self.name.rstrip('/')}/v1/info", timeout=queue.PATIENCE).close()
        except (OSError, ValueError) as problem:
            raise queue.SilentError(f"no live server answers at {self.name} ({problem})") from problem

    def perform(self, order: Order) -> list[Path]:
        job = order.job
        if job.settings or job.seconds is not None or not (job.audio or job.text):
            raise queue.RefusedError("a live server takes reference, audio, text, voice and seed; give audio or text")
        order.folder.mkdir(parents=True, exist_ok=True)
        target = order.folder / f"{job.name}.mp4"
        part = target.with_name(f"{target.name}.part")
        try:
            asyncio.run(self._say(order, part))
            os.replace(part, target)
        except self._error as problem:
            raise _of_code(problem.code)(str(problem)) from problem
        finally:
            part.unlink(missing_ok=True)
        return [target]

    async def _say(self, order: Order, part: Path) -> None:
        job, talk = order.job, self._talk
        samples, rate = (None, 24_000) if job.audio is None else talk.sound_of(job.audio)
        what = talk.Talk(samples, rate, job.text or None, job.voice)
        reference = "ada" if job.reference is None else str(job.reference)
        saying = asyncio.create_task(talk.talk(self.name, reference, what, part, self._token, seed=job.seed or 0))
        try:
            while not (await asyncio.wait([saying], timeout=queue.QUIET))[0]:
                order.check()
        finally:
            saying.cancel()
        saying.result()


def _of_code(code: str) -> type[Exception]:
    """What a live server's refusal is here."""
    for codes, kind in ((_OF_THE_MACHINE, queue.SilentError), (_OF_THE_JOB, queue.RefusedError), (_FULL, BusyError)):
        if code in codes:
            return kind
    return queue.FailedError
