"""One thread that draws chunks for many others, together: each asks for its stream's next chunk and waits."""

from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any

from ..errors import SettingsError
from .together import Drawable, Outcome, Together

_Asked = tuple[Drawable, "Future[Any]"]


class DrawingThread:
    """Draws together whatever is asked for at the same time, for servers with a thread for each session.

    A chunk that is asked for joins those under way with the next pass. The thread ends with the `with` block.
    """

    def __init__(self, *, most: int | None = None, threads: int | None = None) -> None:
        """`most` and `threads` as in `Together`."""
        self._together = Together(most=most, threads=threads)
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._waiting: dict[Drawable, Future[Any]] = {}
        self._closed = False
        self._thread = Thread(target=self._run, name="knot-drawing", daemon=True)

    def __enter__(self) -> "DrawingThread":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed = True
        self._asked.put(None)
        self._thread.join()
        self._refuse_the_rest()  # of who asked meanwhile

    def next_chunk(self, stream: Drawable) -> Any:
        """The stream's next chunk, as `next` or `LateDecoder.next_chunk` gives it; None where that would end.

        Raises:
            SettingsError: the thread has ended, or a chunk of this stream is under way.
            Exception: the error that drawing it came to.
        """
        if self._closed:
            raise SettingsError("the thread that draws has ended; ask within its with block")
        found: Future[Any] = Future()
        self._asked.put((stream, found))
        if self._closed and not self._thread.is_alive():  # it ended between the two
            self._refuse_the_rest()
        return found.result()

    def _run(self) -> None:
        try:
            with self._together:
                while self._take():
                    for stream, outcome in self._together.step():
                        self._answer(self._waiting.pop(stream), outcome)
        finally:
            self._refuse_the_rest()

    @staticmethod
    def _answer(found: "Future[Any]", outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            found.set_exception(outcome)
        else:
            found.set_result(outcome)

    def _take(self) -> bool:
        """Begin what was asked for; wait for it where nothing is under way. False: it is to end."""
        while True:
            try:
                asked = self._asked.get(block=not self._waiting)
            except Empty:
                return True
            if asked is None:
                return False
            stream, found = asked
            try:
                self._together.add(stream)
                self._waiting[stream] = found
            except SettingsError as problem:
                found.set_exception(problem)

    def _refuse_the_rest(self) -> None:
        """Tell whoever still waits that nothing more is drawn."""
        waiting, self._waiting = list(self._waiting.values()), {}
        while not self._asked.empty():
            asked = self._asked.get()
            if asked is not None:
                waiting.append(asked[1])
        for found in waiting:
            found.set_exception(SettingsError("the thread that draws has ended before this chunk; ask another one"))
