"""Pause, go on, finish: heeded between two chunks, asked from another thread."""

import threading
import time

import pytest

from knot_core.stream import FINISH, GO_ON, PAUSE, StreamControl


def nothing():
    pass


def test_it_goes_on_until_it_is_asked_to_finish():
    control = StreamControl()
    assert control.goes_on(nothing)
    assert control.ask(FINISH) == "finishing"
    assert not control.goes_on(nothing)
    assert control.ask(GO_ON) == control.ask(PAUSE) == "finishing", "which is never taken back"


@pytest.mark.parametrize(("action", "goes_on"), [(GO_ON, True), (FINISH, False)])
def test_a_pause_ends_when_another_thread_asks_for_it(action, goes_on):
    control, looks, answers = StreamControl(), [], []
    control.ask(PAUSE)
    waiting = threading.Thread(target=lambda: answers.append(control.goes_on(lambda: looks.append(1))))
    waiting.start()
    while len(looks) < 3:  # it looks at the host meanwhile
        time.sleep(0.01)
    assert not answers
    control.ask(action)
    waiting.join(timeout=10)
    assert answers == [goes_on]


def test_a_hosts_stop_ends_a_pause():
    control = StreamControl()
    control.ask(PAUSE)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        control.goes_on(stop)


def test_a_pause_costs_little():
    control = StreamControl()
    control.ask(PAUSE)
    threading.Timer(0.5, control.ask, [GO_ON]).start()
    before = time.process_time()
    assert control.goes_on(nothing)
    assert time.process_time() - before < 0.2
