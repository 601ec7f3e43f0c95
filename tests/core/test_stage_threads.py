"""Work in stages: order, errors and ends, whoever they come from; and no thread is left."""

import contextlib
import contextvars
import threading
import time

import pytest

from knot_core.stream.stage_threads import staged


def numbers(count=None, *, seen=None):
    """A source of 0, 1, 2 ... that writes down what it began."""

    def source(stopped):
        number = 0
        while number != count and not stopped():
            if seen is not None:
                seen.append(number)
            yield number
            number += 1

    return source


def run(source, stages, **options):
    return staged(source, stages, around=contextlib.nullcontext, **options)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("num_stages", [0, 1, 3])
def test_pieces_pass_every_stage_in_order(num_stages):
    assert list(run(numbers(20), [lambda x: 2 * x] * num_stages)) == [2**num_stages * x for x in range(20)]


def test_every_stage_has_a_thread_of_its_own_and_works_within_what_is_around_it():
    entered, where = set(), [set(), set()]

    @contextlib.contextmanager
    def around():
        entered.add(threading.get_ident())
        yield
        entered.remove(threading.get_ident())

    def note(place):
        def stage(piece):
            assert threading.get_ident() in entered
            where[place].add(threading.get_ident())
            return piece

        return stage

    list(staged(numbers(5), [note(0), note(1)], around=around))
    assert [len(threads) for threads in where] == [1, 1]
    assert where[0] != where[1]
    assert not entered


def test_every_thread_sees_the_callers_context_variables():
    node = contextvars.ContextVar("node", default=None)

    def source(_stopped):
        yield [node.get()]

    token = node.set("7")
    try:
        assert list(run(source, [lambda seen: [*seen, node.get()]] * 2)) == [["7"] * 3]
    finally:
        node.reset(token)


@pytest.mark.parametrize("failing", ["source", "first", "last", "around"])
def test_an_error_comes_once_after_the_pieces_before_it_and_ends_all(failing):
    def fail_at_3(here):
        def stage(number):
            if failing == here and number == 3:
                raise OSError(here)
            return number

        return stage

    def source(_stopped):
        for number in range(1000):
            yield fail_at_3("source")(number)

    def around():
        if failing == "around":
            raise OSError("around")
        return contextlib.nullcontext()

    found, pieces = [], staged(source, [fail_at_3("first"), fail_at_3("last")], around=around)
    with pytest.raises(OSError, match=failing):
        found.extend(pieces)
    assert found == ([] if failing == "around" else [0, 1, 2])
    assert list(pieces) == []


def test_who_breaks_off_leaves_no_thread_and_the_source_is_closed():
    closed = []

    def source(_stopped):
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread())

    for number in run(source, [lambda x: x]):
        if number == 2:
            break
    assert len(closed) == 1
    assert closed[0] is not threading.current_thread()


def test_a_source_is_told_that_nobody_wants_more():
    def source(stopped):
        yield 0
        while not stopped():
            time.sleep(0.001)

    pieces = run(source, [])
    next(pieces)
    pieces.close()


def test_a_slow_consumer_holds_the_source_back():
    seen, pieces = [], None
    pieces = run(numbers(seen=seen), [lambda x: x, lambda x: x])
    for number in pieces:
        time.sleep(0.05)
        # one in the source's hands, one in each stage's, one in each of three rooms
        assert len(seen) - (number + 1) <= 6
        if number == 5:
            break
    assert number == 5


def test_what_wait_raises_ends_all_while_a_stage_is_busy():
    asked = []

    def wait():
        asked.append(threading.current_thread())
        if len(asked) == 3:
            raise InterruptedError

    release = threading.Event()
    timer = threading.Timer(0.3, release.set)
    timer.start()
    with pytest.raises(InterruptedError):
        list(run(numbers(3), [lambda _: release.wait()], wait=wait))
    assert set(asked) == {threading.current_thread()}
    timer.join()


def test_nothing_is_computed_before_the_first_piece_is_asked_for():
    seen = []
    pieces = run(numbers(3, seen=seen), [])
    assert not seen
    del pieces
