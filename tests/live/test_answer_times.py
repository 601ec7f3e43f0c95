"""How long somebody waits for the face, by a simulated clock: the session's own part of it, without a browser's.

A chunk takes as long as knot-tiny's on two cores; a frame is seen when the viewer shows it. What is measured in a real
browser stands in docs/live.md.
"""

from itertools import pairwise

import numpy as np
import pytest

from knot_live import controls
from knot_live.engine import StreamSettings
from knot_live.live_driving import LiveDriving
from knot_live.pacing import TRANSPORT
from knot_live.speech_queue import AHEAD, SOUND_RATE

from .playing import Portrait
from .simulated import FPS, Scene

PIECE = SOUND_RATE // 50
EVENTS = 24
SPEAKS = 64 + 8  # of a signal: whether somebody does
YAW = 64


class Speaking(LiveDriving):
    """A live driving whose frames show whether somebody speaks in them."""

    channel, above = SPEAKS, 0.0

    def frames(self, first, end):
        """uint8 [P]"""
        start = (first + 3) // 4
        told = self.signal(start, (end + 3) // 4 - start).numpy()[:, :, self.channel].reshape(-1)
        return (200 * (told[-(end - first) :] > self.above)).astype(np.uint8)


class Turning(Speaking):
    """The same, of whether the head is turned in them."""

    channel, above = YAW, 0.4


def voice(seconds):
    return (9000 * np.sin(np.arange(round(seconds * SOUND_RATE)) / 20)).astype(np.int16)


def waits(monkeypatch, chunk, ask, *, shows=200, smooth=True, kind=Speaking, **watched):
    """Median and 95th percentile of the seconds from an event until the viewer shows it, and that viewer.

    `ask(scene, time)` asks at that time, and every 3 s again.
    """
    settings = StreamSettings(num_chunk_frames=chunk)
    here = Scene(monkeypatch, seconds=0.3, settings=settings, watched=watched,
                 driving=lambda clock: kind(Portrait(), clock=clock.now))  # fmt: skip
    times = [3 + 3 * number + 0.48 * number / EVENTS for number in range(EVENTS)]
    for time in times:
        ask(here, time)
    here.run(seconds=3 * (EVENTS + 1) + 1)
    changes = [at for (_, before), (at, now) in pairwise(here.viewer.times) if before != now and now == shows]
    assert not smooth or here.viewer.stalls <= 0.005 * FPS * here.clock.now(), "a play ratio of 0.995"
    found = [next(at for at in changes if at >= time) - time for time in times]
    return np.percentile(found, 50), np.percentile(found, 95), here.viewer


def mirrored(here, time):
    """A microphone gives a word from then on, in pieces of 20 ms."""
    said = voice(0.9)
    for place in range(0, len(said), PIECE):
        piece = controls.Speech(said[place : place + PIECE], SOUND_RATE, "mirror")
        here.at(time + (place + PIECE) / SOUND_RATE, piece)
    here.at(time + 0.92, controls.CommitSpeech())


def replied(here, time):
    """An agent sends a word faster than real time."""
    here.at(time, controls.Speech(voice(0.9), SOUND_RATE))
    here.at(time, controls.CommitSpeech())


def turned(here, time):
    """Somebody moves a slider, and a second later back again."""
    here.at(time, controls.SetControls({"yaw": 0.8}))
    here.at(time + 1, controls.SetControls({"yaw": 0.0}))


def interrupted(here, time):
    """An agent speaks for long, and is told to be silent."""
    here.at(time - 1.6, controls.Speech(voice(4), SOUND_RATE))
    here.clock.at(time, lambda: here.session.apply(controls.Cancel(here.viewer.next - 1)))


CASES = {3: 0.30, 1: 0.1125}  # latent frames of a chunk, and the seconds in which it is drawn
HELD = 8 / FPS  # seconds for which somebody is still taken to speak


@pytest.mark.parametrize("chunk", CASES)
def test_a_mirrored_voice_waits_for_a_chunk_of_it_and_for_what_lies_ready_alone(monkeypatch, chunk):
    usual, most, _ = waits(monkeypatch, chunk, mirrored)
    lead = min(4 * chunk / FPS, CASES[chunk] + TRANSPORT)
    heard = 4 * chunk / FPS + AHEAD / SOUND_RATE
    assert usual <= heard + lead + 0.01
    assert most <= heard + lead + 0.06, "wherever between two chunks it began"


@pytest.mark.parametrize(("chunk", "usual", "most"), [(3, 0.35, 0.43), (1, 0.28, 0.35)])
def test_a_reply_waits_for_what_lies_ready_and_for_a_chunk_for_which_it_comes_too_late(monkeypatch, chunk, usual, most):
    found = waits(monkeypatch, chunk, replied)
    assert found[0] <= usual
    assert found[1] <= most


@pytest.mark.parametrize(("chunk", "usual", "most"), [(3, 0.32, 0.41), (1, 0.32, 0.41)])
def test_an_interruption_waits_for_the_same(monkeypatch, chunk, usual, most):
    found = waits(monkeypatch, chunk, interrupted, shows=0)
    assert found[0] - HELD <= usual
    assert found[1] - HELD <= most


@pytest.mark.parametrize(("chunk", "usual", "most"), [(3, 0.36, 0.46), (1, 0.31, 0.38)])
def test_a_slider_waits_for_the_same_and_until_the_head_has_turned_half_way(monkeypatch, chunk, usual, most):
    found = waits(monkeypatch, chunk, turned, kind=Turning)
    assert found[0] <= usual
    assert found[1] <= most


@pytest.mark.parametrize(("ask", "shows"), [(replied, 200), (interrupted, 0)])
def test_near_by_it_is_sooner_and_far_away_what_is_replaced_still_comes_in_time(monkeypatch, ask, shows):
    unknown = waits(monkeypatch, 3, ask, shows=shows, delay=0.01)
    near = waits(monkeypatch, 3, ask, shows=shows, delay=0.01, transport=0.01)
    assert near[0] < unknown[0] - 0.015
    assert near[1] < unknown[1]
    assert near[2].too_late == 0
    unknown, known = (waits(monkeypatch, 3, ask, shows=shows, smooth=transport is not None, delay=0.13,
                            transport=transport)[2] for transport in (None, 0.12))  # fmt: skip
    assert unknown.too_late > 0
    assert unknown.stalls > known.stalls
    assert known.too_late == 0
