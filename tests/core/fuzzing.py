"""What the fuzz tests share: how long they run, and what a clear error is.

`pytest` runs a few fixed examples of each. `KNOT_FUZZ=20000 pytest tests/core -k fuzz` runs that many new ones.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from knot_core.errors import KnotError

SECONDS = 20  # that no example may take, on a slow and busy machine
LONGEST = 700  # characters of a message, a path of a temporary folder included
_EXAMPLES = os.environ.get("KNOT_FUZZ")


def fuzzed(examples: int) -> settings:
    """So many fixed examples; where KNOT_FUZZ is set, that many new ones."""
    return settings(
        max_examples=int(_EXAMPLES or examples),
        derandomize=_EXAMPLES is None,
        deadline=1000 * SECONDS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def clear_errors_only() -> Iterator[None]:
    """What is not refused by a `KnotError` of one sentence must work; any other exception fails the test."""
    try:
        yield
    except KnotError as error:
        check_sentence(str(error))


def check_sentence(text: str) -> None:
    """One line: what was got, what is wanted or to be done; not too long to read, and no insides of ours."""
    assert text.strip() == text != "", text
    assert "\n" not in text, text
    assert len(text) <= LONGEST, text
    assert re.search(r"[;:,(] ?\w", text), f"what is to be done? {text}"
    assert not re.search(r"Traceback|object at 0x|<class |errno", text, re.IGNORECASE), text


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with bits flipped, bytes overwritten, a part doubled or taken away, or cut off."""
    place = st.integers(0, len(whole) - 1)
    near = st.integers(0, min(len(whole), 400) - 1)  # headers stand at the beginning
    somewhere = near | place
    flips = st.lists(st.tuples(somewhere, st.integers(1, 255)), min_size=1, max_size=12).map(
        lambda all_of: _flipped(whole, all_of)
    )
    overwritten = st.tuples(somewhere, st.binary(min_size=1, max_size=9)).map(
        lambda found: whole[: found[0]] + found[1] + whole[found[0] + len(found[1]) :]
    )
    cut = place.map(lambda at: whole[:at])
    lost = st.tuples(somewhere, st.integers(1, 200)).map(lambda found: whole[: found[0]] + whole[sum(found) :])
    doubled = st.tuples(somewhere, st.integers(1, 200)).map(lambda found: whole[: sum(found)] + whole[found[0] :])
    return flips | overwritten | cut | lost | doubled


def _flipped(whole: bytes, flips: list[tuple[int, int]]) -> bytes:
    found = bytearray(whole)
    for place, bits in flips:
        found[place] ^= bits
    return bytes(found)


# JSON of any form; `names` are what the reader looks for
def json_values(*names: str) -> st.SearchStrategy:
    numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10**400, 1e308, -1e308, 2**63, float("nan")])
    return st.recursive(
        st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(names),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.sampled_from(names), inner, max_size=5)
            | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=25,
    )
