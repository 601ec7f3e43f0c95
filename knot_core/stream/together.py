"""Chunks of several streams of one model, drawn together: one pass over the network for the frames of all.

Each stream asks for what it needs next (pieces.py), and what can be computed together is: passes over one network, of
one latent size, and chunks to decode. Streams may stand anywhere, with windows filled differently, with and without a
knot, with chunks of any length and any number of steps, under different prompts, anchors, drivings and settings. Each
attends to its own cache, of which nothing is copied. A stream's numbers are those that it has alone, but for the
rounding of matrix products, whose order of sums depends on their size.
"""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import torch

from ..errors import SettingsError
from ..threads import threads_inside
from .chunk_stages import Chunk
from .pieces import Pieces, Request

logger = logging.getLogger(__name__)

Outcome = Any  # what a stream's next chunk came to: the chunk; None, where `next` would end; or the error, not raised


class Drawable(Protocol):
    """A `Stream`, or a `LateDecoder`, which gives chunks whose frames are decoded later."""

    @property
    def threads(self) -> int | None:
        """Inside the operations that drew it so far; None: any number gives the same."""

    def pieces(self) -> Pieces[Any]:
        """The next chunk, piece by piece."""


@dataclass(frozen=True)
class _Failed:
    error: Exception


@dataclass(eq=False)
class _Chunk:
    """A chunk under way."""

    stream: Drawable
    pieces: Pieces[Any]
    requests: Sequence[Request] = field(default=())
    ended: bool = False
    outcome: Outcome = None

    def go_on(self, found: Sequence[Any] | None) -> None:
        """With what was asked for, or None at the beginning, until it asks for more or has ended."""
        failed = next((result for result in found or () if isinstance(result, _Failed)), None)
        try:
            if failed is not None:
                self.requests = self.pieces.throw(failed.error)
            else:
                self.requests = next(self.pieces) if found is None else self.pieces.send(list(found))
        except StopIteration as end:
            self._end(end.value)
        except Exception as problem:
            self._end(problem)

    def _end(self, outcome: Outcome) -> None:
        self.requests, self.ended, self.outcome = (), True, outcome


class Together:
    """Draws chunks of streams together, one computation after another; streams come and go between any two of them.

    All of it happens in the thread that calls it. A chunk either happens wholly or not at all: what is under way when
    the `with` block ends has not happened. Meanwhile each stream may be changed and saved as ever.
    """

    def __init__(self, *, most: int | None = None, threads: int | None = None) -> None:
        """`most` passes are computed in one; None: all. `threads` inside operations; None: as many as the streams were
        drawn with so far, else as the calling thread uses.
        """
        self._most, self._threads = most, threads
        self._chunks: list[_Chunk] = []

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for chunk in self._chunks:
            chunk.pieces.close()
        self._chunks = []

    def __len__(self) -> int:
        """How many chunks are under way."""
        return len(self._chunks)

    def add(self, stream: Drawable) -> None:
        """Begin the stream's next chunk with the next step.

        Raises:
            SettingsError: a chunk of this stream is under way here.
        """
        if any(chunk.stream is stream for chunk in self._chunks):
            raise SettingsError("a chunk of this stream is under way; add it again once that has ended")
        self._chunks.append(_Chunk(stream, stream.pieces()))

    @torch.no_grad()
    def step(self) -> list[tuple[Drawable, Outcome]]:
        """Compute what every stream needs next, and go on with it; which chunks have ended, and what each came to.

        The outcome is the chunk; None, where `next(stream)` would end; or the error that it would raise, which leaves
        the other streams, and where this one stands, as they are.
        """
        with threads_inside(self._threads or self._threads_before()):
            for chunk in self._chunks:
                if not chunk.requests:
                    chunk.go_on(None)
            results = iter(_computed([request for chunk in self._chunks for request in chunk.requests], self._most))
            for chunk in self._chunks:
                if not chunk.ended:
                    chunk.go_on([next(results) for _ in chunk.requests])
        ended = [(chunk.stream, chunk.outcome) for chunk in self._chunks if chunk.ended]
        self._chunks = [chunk for chunk in self._chunks if not chunk.ended]
        return ended

    def _threads_before(self) -> int | None:
        return max((chunk.stream.threads or 0 for chunk in self._chunks), default=0) or None


def next_chunks(
    streams: Sequence[Drawable], *, most: int | None = None, threads: int | None = None
) -> list[Chunk | Exception | None]:
    """The next chunk of each stream, drawn together.

    In a chunk's place stands None where `next(stream)` would end, and the error that it would raise where drawing it
    failed: it is not raised, since the others have their chunks. `most` and `threads` as in `Together`.

    Raises:
        SettingsError: one stream is given twice.
    """
    outcomes: dict[int, Outcome] = {}
    with Together(most=most, threads=threads) as together:
        for stream in streams:
            together.add(stream)
        while len(together):
            outcomes |= {id(stream): outcome for stream, outcome in together.step()}
    return [outcomes[id(stream)] for stream in streams]


def _computed(requests: Sequence[Request], most: int | None) -> list[Any]:
    """The result of each, or `_Failed`; at most so many in one computation."""
    kinds: dict[Hashable, list[int]] = {}
    for place, request in enumerate(requests):
        kinds.setdefault(request.joins, []).append(place)
    results: list[Any] = [None] * len(requests)
    for places in kinds.values():
        most_here = most or len(places)
        for first in range(0, len(places), most_here):
            some = places[first : first + most_here]
            for place, result in zip(some, _computed_together([requests[place] for place in some]), strict=True):
                results[place] = result
    return results


def _computed_together(requests: Sequence[Request]) -> list[Any]:
    """Each by itself where together it fails, so that the error meets the one that it belongs to."""
    if len(requests) > 1:
        try:
            return requests[0].compute_with(requests[1:])
        except Exception as problem:
            logger.warning(
                "%d streams could not be computed together (%s); one after the other", len(requests), problem
            )
    return [_computed_alone(request) for request in requests]


def _computed_alone(request: Request) -> Any:
    try:
        return request.compute()
    except Exception as problem:
        return _Failed(problem)
