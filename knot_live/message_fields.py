"""Fields of a message: what each must be, and the error where one is not. A check gives the value as it is used."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

LARGEST = 2**53 - 1  # what JavaScript counts exactly
MOST_NAME = 128  # characters


class ProtocolError(Exception):
    """A message that is not as the protocol says: a code for programs, a sentence for people, the event it was."""

    def __init__(self, code: str, sentence: str, event_id: str | None = None) -> None:
        super().__init__(sentence)
        self.code, self.event_id = code, event_id

    def __reduce__(self) -> tuple[type, tuple[str, str, str | None]]:  # it comes from other processes, too
        return type(self), (self.code, str(self), self.event_id)


Check = Callable[[Any], Any]  # the value as it is used; ValueError with what was wanted


class Needed(NamedTuple):
    """A field that must be there."""

    check: Check


Shape = Mapping[str, Check | Needed]


def checked(kind: str, event_id: str | None, fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    unknown = fields.keys() - shape.keys()
    if unknown:
        name = min(unknown)
        raise ProtocolError("unknown_field", f"{kind} has no field {name!r:.80}; it has {listed(shape)}", event_id)
    checked = {}
    for name, check in shape.items():
        if fields.get(name) is None:
            if isinstance(check, Needed):
                raise ProtocolError("missing_field", f"{kind} needs the field {name}", event_id)
            continue
        try:
            checked[name] = (check.check if isinstance(check, Needed) else check)(fields[name])
        except ValueError as problem:
            raise ProtocolError("bad_value", f"{name} of {kind} must be {problem}", event_id) from None
    return checked


def listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


def text(longest: int, *, empty: bool = False) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not (empty or value.strip()):
            raise ValueError(f"a text of {'0' if empty else '1'} to {longest} characters")
        if any(0xD800 <= ord(letter) < 0xE000 for letter in value):  # JSON can name halves of a character
            raise ValueError("a text of whole characters")
        return value

    return check


def number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # nor is NaN
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def whole(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return check


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def choice(names: tuple[str, ...]) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"one of {', '.join(names) or 'none, there are none'}")
        return value

    return check


def values(ranges: Mapping[str, tuple[float, float]], *, given_back: bool) -> Check:
    """Name -> number; with `given_back` also null."""

    def check(value: Any) -> dict[str, float | None]:
        if not isinstance(value, dict) or not value or value.keys() - ranges.keys():
            raise ValueError(f"an object of some of {', '.join(ranges)}")
        return {name: _control(name, number, ranges[name], given_back) for name, number in value.items()}

    return check


def _control(name: str, value: Any, bounds: tuple[float, float], given_back: bool) -> float | None:
    if value is None and given_back:
        return None
    try:
        return number(*bounds)(value)
    except ValueError as problem:
        raise ValueError(f"an object whose {name} is {problem}") from None


def inner(shape: Shape) -> Check:
    """An object with fields of its own."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"an object with {listed(shape)}")
        try:
            return checked("it", None, value, shape)
        except ProtocolError as problem:
            raise ValueError(f"an object with {listed(shape)} ({problem})") from None

    return check


def numbers(low: float, high: float, most: int) -> Check:
    """A list of at most `most` numbers, as a tuple."""
    one = number(low, high)

    def check(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"a list of at most {most} numbers from {low:g} to {high:g}")
        return tuple(map(one, value))

    return check
