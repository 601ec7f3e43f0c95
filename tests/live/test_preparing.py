"""What takes long before it takes hold, and sentences that nobody wants to hear any more."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from knot_live import controls
from knot_live.wishes import Wishes

SOUND = np.zeros(240, dtype=np.float32), 24_000


def wishes(speak):
    """Wishes whose sentences `speak` makes; those that were refused, by number."""
    refused = {}
    return Wishes(threading.Condition(), refused.__setitem__, speak=speak, encode_text=None, anchor_of=None), refused


def taken(found):
    kinds = []
    while (wish := found.take(controls.Control)) is not None:
        kinds.append((wish.number, type(wish.control)))
    return kinds


@pytest.mark.parametrize("cancel", [controls.CancelReply(), controls.Cancel(3)])
def test_a_reply_that_is_cancelled_takes_its_sentences_along_and_what_is_said_next_is_spoken(cancel):
    begun, goes_on, spoken = threading.Event(), threading.Event(), []

    def speak(text, _):
        begun.set()
        assert goes_on.wait(20)
        spoken.append(text)
        return SOUND

    found, refused = wishes(speak)
    for text in ("one", "two"):
        found.ask(controls.Say(text))
    assert begun.wait(20)
    number = found.ask(cancel)
    last = found.ask(controls.Say("three"))
    goes_on.set()
    found._preparing._pool.shutdown(wait=True)
    assert spoken == ["one", "three"], "two was never begun"
    assert refused == dict.fromkeys((1, 2), "it was cancelled before it was spoken")
    assert taken(found) == [(number, type(cancel)), (last, controls.Speech), (last, controls.CommitSpeech)]


def test_sound_that_is_forgotten_leaves_sentences_alone():
    found, refused = wishes(lambda *_: SOUND)
    found.ask(controls.Say("one"))
    found.ask(controls.ClearSpeech())
    found._preparing._pool.shutdown(wait=True)
    assert not refused
    assert {kind for _, kind in taken(found)} == {controls.Speech, controls.CommitSpeech, controls.ClearSpeech}


def test_a_cancelled_reply_is_forgotten_by_the_driving():
    calls = []
    controls.CancelReply().drive(SimpleNamespace(clear_speech=lambda: calls.append("cleared")))
    assert calls == ["cleared"]
