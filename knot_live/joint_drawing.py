"""Chunks that are drawn by themselves, or several sessions' in one, and what is done around each of them."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from .engine import Chunk, LateChunk, LateDecoder, Stream, next_chunks

_T = TypeVar("_T")
Outcome = Chunk | LateChunk | None
# What is done around a chunk: asks for one from a stream, is sent it or None, and returns what was made of it.
Steps = Generator[Stream | LateDecoder, Outcome, _T]


def alone(steps: Steps[_T]) -> _T:
    """Draw the chunk that they ask for, if they do, by itself; what they return."""
    try:
        drawn = next(steps)
    except StopIteration as end:
        return end.value
    try:
        outcome = drawn.next_chunk() if isinstance(drawn, LateDecoder) else next(drawn, None)
    except BaseException as problem:
        steps.throw(problem)
        raise
    return _ended(steps, outcome)


def together(many: Sequence[Steps[_T]]) -> list[_T | Exception]:
    """Draw the chunks that they ask for in one; what each returns, or the error that keeps it from that."""
    asked = [_attempt(next, steps) for steps in many]
    outcomes = iter(next_chunks([one for one in asked if not isinstance(one, Exception)]))
    found = []
    for steps, one in zip(many, asked, strict=True):
        if isinstance(one, StopIteration):  # it needs no chunk
            found.append(one.value)
        else:
            found.append(one if isinstance(one, Exception) else _attempt(_ended, steps, next(outcomes)))
    return found


def _ended(steps: Steps[_T], outcome: Outcome | Exception) -> _T:
    try:
        steps.throw(outcome) if isinstance(outcome, Exception) else steps.send(outcome)
    except StopIteration as end:
        return end.value
    raise AssertionError("they ask for one chunk")


def _attempt(function: Callable[..., _T], *arguments: Any) -> _T | Exception:
    try:
        return function(*arguments)
    except Exception as problem:
        return problem
