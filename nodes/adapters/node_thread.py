"""Work for the thread in which ComfyUI executes a node: other threads ask, and it does all of it when it can."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Any


class NodeThreadQueue:
    """What fails there ends the node, as anywhere in its thread: it may be ComfyUI's stop."""

    def __init__(self) -> None:
        self._asked: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._closed, self._lock = False, Lock()

    def ask(self, work: Callable[[], Any]) -> "Future[Any]":
        """The call's result, later; cancelled where the node ends first."""
        answer: Future[Any] = Future()
        with self._lock:
            if self._closed:
                answer.cancel()
            else:
                self._asked.append((work, answer))
        return answer

    def do(self) -> None:
        """Everything that was asked; called in that thread."""
        asked = self._take(closed=False)
        try:
            for work, answer in asked:
                answer.set_result(work())
        finally:
            for _, answer in asked:
                answer.cancel()  # of what has a result, that stays

    def close(self) -> None:
        """Nothing is done any more."""
        for _, answer in self._take(closed=True):
            answer.cancel()

    def _take(self, *, closed: bool) -> list[tuple[Callable[[], Any], "Future[Any]"]]:
        with self._lock:
            self._closed, asked, self._asked = self._closed or closed, self._asked, []
        return asked
