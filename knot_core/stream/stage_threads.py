"""Work in stages, each on a thread of its own, with room for one piece between two of them.

Pieces keep their order. An error in any stage arrives once, after the pieces before it, and ends all; whoever stops
asking ends all as well. No thread outlives the iteration.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

_SECONDS_BETWEEN_LOOKS = 0.02  # of who waits for a piece: how soon `wait` is called again, and Ctrl-C is heard

Source = Callable[[Callable[[], bool]], Iterator[Any]]  # is told how to ask whether nobody wants more


class _Closed(Exception):  # noqa: N818 - not an error
    """Nobody wants what comes next."""


@dataclass(frozen=True)
class _Piece:
    value: Any


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class _Room:
    """A place for one piece between two threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._piece: _Piece | _End | None = None
        self.closed = False

    def put(self, piece: _Piece | _End) -> None:
        """Wait until there is room; `_Closed` if nobody wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._piece is None)
            self._require_open()
            self._piece = piece
            self._changed.notify_all()

    def take(self) -> _Piece | _End:
        """Wait for the next piece; `_Closed` if nobody wants it."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._piece is not None)
            self._require_open()
            piece, self._piece = self._piece, None
            self._changed.notify_all()
            return piece

    def filled(self, seconds: float) -> bool:
        """Whether a piece is here, at the latest after so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._piece is not None, seconds)

    def close(self) -> None:
        with self._changed:
            self.closed, self._piece = True, None
            self._changed.notify_all()

    def _require_open(self) -> None:
        if self.closed:
            raise _Closed


def staged(
    source: Source,
    stages: Sequence[Callable[[Any], Any]],
    *,
    around: Callable[[], AbstractContextManager[Any]],
    wait: Callable[[], None] = lambda: None,
) -> Iterator[Any]:
    """The source's values after each of the stages in turn; the source and every stage run on threads of their own.

    Threads work within `around()`, which is entered in each, and see the caller's context variables: a host knows by
    them whose work it is. `wait` is called again and again in the caller's thread
    while that waits; what it raises ends all.
    """
    rooms = [_Room() for _ in range(len(stages) + 1)]
    works = [partial(_feed, source, rooms[0]), *map(partial, [_apply] * len(stages), stages, rooms, rooms[1:])]
    threads = [
        threading.Thread(target=copy_context().run, args=(_work, work, around, rooms[-1]), daemon=True)
        for work in works
    ]
    try:
        for thread in threads:
            thread.start()
        yield from _pieces(rooms[-1], wait)
    finally:
        for room in rooms:
            room.close()
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()


def _pieces(room: _Room, wait: Callable[[], None]) -> Iterator[Any]:
    while True:
        wait()
        if not room.filled(_SECONDS_BETWEEN_LOOKS):
            continue
        piece = room.take()
        if isinstance(piece, _Piece):
            yield piece.value
        elif piece.error is not None:
            raise piece.error
        else:
            return


def _work(work: Callable[[], None], around: Callable[[], AbstractContextManager[Any]], last: _Room) -> None:
    """A thread's whole life."""
    with suppress(_Closed):
        try:
            with around():
                work()
        except _Closed:
            raise
        except BaseException as error:
            last.put(_End(error))


def _feed(source: Source, into: _Room) -> None:
    with closing(source(lambda: into.closed)) as values:
        end = _End()
        try:
            for value in values:
                into.put(_Piece(value))
        except _Closed:
            raise
        except BaseException as error:
            end = _End(error)
        into.put(end)


def _apply(stage: Callable[[Any], Any], before: _Room, after: _Room) -> None:
    piece: _Piece | _End = _Piece(None)
    while isinstance(piece, _Piece):
        piece = before.take()
        if isinstance(piece, _Piece):
            try:
                piece = _Piece(stage(piece.value))
            except BaseException as error:
                piece = _End(error)
        after.put(piece)
