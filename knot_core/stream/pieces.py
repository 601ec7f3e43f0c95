"""A computation in pieces: it asks for what is to be computed next, is given it, and goes on.

A chunk is written once, as a generator of such requests. `alone` computes each by itself, at once; together.py computes
those of several streams in one.
"""

from collections.abc import Callable, Generator, Hashable, Sequence
from functools import partial, wraps
from typing import Any, ParamSpec, Protocol, TypeVar

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class Request(Protocol):
    """Something to be computed, by itself or with others of its kind."""

    @property
    def joins(self) -> Hashable:
        """Requests of which this is equal can be computed together."""

    def compute(self) -> Any:
        """The result, computed by itself."""

    def compute_with(self, others: "Sequence[Any]") -> list[Any]:
        """The results of this one and of the others, in this order, computed together."""


Pieces = Generator[Sequence[Request], list[Any], Result]  # several requests at once do not depend on each other


def alone(asked: Pieces[Result]) -> Result:
    """The result of the whole, every request computed by itself; an error of one is raised where it was asked for."""
    go_on: Callable[[], Sequence[Request]] = partial(next, asked)
    while True:
        try:
            requests = go_on()
        except StopIteration as end:
            return end.value
        try:
            go_on = partial(asked.send, [request.compute() for request in requests])
        except BaseException as problem:
            go_on = partial(asked.throw, problem)


def at_once(pieces: Callable[Arguments, Pieces[Result]]) -> Callable[Arguments, Result]:
    """The function that computes at once what `pieces` asks for piece by piece."""

    @wraps(pieces)
    def compute(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return alone(pieces(*args, **kwargs))

    return compute
