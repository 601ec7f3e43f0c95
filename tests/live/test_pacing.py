"""When chunks are drawn: never far ahead of the viewer, in time for him, and not at all when he is gone."""

from itertools import pairwise
from math import inf

import pytest

from knot_live import controls, pacing
from knot_live.engine import StreamSettings
from knot_live.pacing import Playback, Span

from .simulated import FPS, Scene, irregular

CHUNK = 12 / FPS


@pytest.fixture
def scene(monkeypatch):
    return lambda **options: Scene(monkeypatch, **options)


def spans(count, length=12):
    return [Span(number, 3 * number, length * number, length * (number + 1)) for number in range(count)]


@pytest.mark.parametrize(("fps", "samples"), [(25, 960), (16, 1500), (24, 1000), (30, 800)])
def test_samples_of_frames_add_up(fps, samples):
    assert [pacing.first_sample(frame, fps) for frame in (0, 1, 10, 10**9)] == [
        0,
        samples,
        10 * samples,
        samples * 10**9,
    ]


def test_spans_are_those_of_latent_frames():
    assert [Span.of_latents(0, start, 3).length for start in (0, 3, 6)] == [9, 12, 12]
    assert Span.of_latents(2, 6, 3).first == 21


def test_the_lead_is_what_chunks_take_and_transport_but_never_more_than_a_chunk():
    assert pacing.lead([], CHUNK) == CHUNK
    assert pacing.lead([0.1] * 32, CHUNK) == pytest.approx(0.18)
    assert pacing.lead([0.1] * 30 + [0.3] * 2, CHUNK) == pytest.approx(0.38)  # two of 32 are more than 5 in 100
    assert pacing.lead([0.1] * 31 + [0.3], CHUNK) == pytest.approx(0.18)
    assert pacing.lead([0.9] * 4, CHUNK) == CHUNK
    assert pacing.lead([0.1] * 32, CHUNK, 0.04) == pytest.approx(0.18)
    assert pacing.lead([0.1] * 32, CHUNK, 0.2) == pytest.approx(0.3)


def test_between_acknowledgements_the_viewer_goes_on_but_not_for_long():
    playback = Playback.at(0, FPS, 12).with_made(9, 0.0)
    assert playback.position(5.0) == 0  # nothing was acknowledged: nothing is shown
    playback = playback.with_made(45, 0.3).with_acknowledged(4, 1.0)
    assert playback.position(1.2) == pytest.approx(10)
    assert playback.position(99) == 17
    assert playback.with_acknowledged(19, 1.6).position(1.6) == 20


def test_acknowledgements_are_believed_within_what_is_made_and_never_backwards():
    playback = Playback.at(0, FPS, 12).with_made(9, 0.0).with_acknowledged(700, 1.0)
    assert playback.position(1.0) == 9
    assert playback.with_acknowledged(3, 1.1).position(1.1) == 9


def test_without_a_viewer_the_clock_plays():
    playback = Playback.at(0, FPS, inf).with_made(9, 2.0).with_made(21, 2.1)
    assert playback.position(2.4) == pytest.approx(10)
    assert playback.unplayed(2.4) == pytest.approx(11 / FPS)
    assert playback.position(9.0) == 21


def test_a_stall_counts_and_a_pause_does_not():
    playback = Playback.at(0, FPS, inf).with_made(25, 0.0)
    assert playback.with_made(50, 1.5).ratio(2.5) == pytest.approx(2 / 2.5)
    assert playback.standing(1.5).with_made(50, 9.0).ratio(10.0) == 1
    assert playback.with_made(50, 0.9).ratio(2.0) == 1


def test_what_replaces_is_seen_in_time_or_where_pictures_run_out():
    playback = Playback.at(0, FPS, 12).with_made(21, 0.0).with_acknowledged(9, 1.0)
    assert pacing.first_replaced(playback, 1.0) == 12
    assert pacing.first_replaced(playback, 2.0) == 21


@pytest.mark.parametrize("between", [0.1, 0.6, 1.0])
def test_who_acknowledges_seldom_gains_no_time_by_it(between):
    playback = Playback.at(0, FPS, 12).with_made(10_000, 0.0).with_acknowledged(0, 0.0)
    for number in range(1, 61):
        playback = playback.with_acknowledged(round(FPS * number * between), number * between)
    assert playback.stalled == pytest.approx(0, abs=1 / FPS)
    late = playback.with_acknowledged(round(FPS * 60 * between), 60 * between + 1)  # he stood for a second
    assert late.stalled == pytest.approx(1, abs=1 / FPS)
    assert late.ratio(60 * between + 1) == pytest.approx(60 * between / (60 * between + 1), abs=0.002)


@pytest.mark.parametrize("seconds", [0.05, 0.2, irregular(3)])
def test_drawing_is_never_more_than_a_chunk_ahead_and_the_viewer_never_waits(scene, seconds):
    here = scene(seconds=seconds)
    ahead = []
    here.on_begin = lambda first: ahead.append(first - here.viewer.next)
    here.run(seconds=600)
    assert max(ahead[2:]) <= 13  # a chunk, and the frame that is being shown
    assert len(here.viewer.shown) > 595 * FPS
    assert here.viewer.stalls / len(here.viewer.shown) < 0.005
    assert here.session.play_ratio > 0.995


@pytest.mark.parametrize("length", [1, 2, 6])
def test_chunks_of_any_length_are_there_in_time_with_an_acknowledgement_every_0_4_s(scene, length):
    here = scene(seconds=0.05, settings=StreamSettings(num_chunk_frames=length), acknowledged_every=0.4).run(seconds=60)
    assert not [time for time in here.viewer.stalled_at if time > 1]  # before the first, nobody knows that he plays
    assert len(here.viewer.shown) > 58 * FPS


def test_control_takes_as_short_as_drawing_allows(scene):
    """A control that comes at any time is shown within a chunk, its drawing and transport."""
    here, changed = scene(seconds=0.1), []
    levels = iter(range(1, 200))

    def change():
        changed.append(here.clock.now())
        here.session.apply(controls.SetControls({"yaw": next(levels) % 100}))

    here.clock.every(2.113, change)
    here.run(seconds=300)
    firsts = [time for (_, before), (time, value) in pairwise(here.viewer.times) if value != before]
    delays = [shown - asked for asked, shown in zip(changed, firsts, strict=False)]  # the last may not be shown yet
    assert len(delays) > 100
    assert max(delays) < CHUNK + 2 * 0.1 + 2 * pacing.TRANSPORT
    assert sum(delays) / len(delays) < CHUNK / 2 + 0.1 + 2 * pacing.TRANSPORT


def test_a_viewer_who_is_gone_stops_the_stream_within_a_chunk_and_comes_back_to_it(scene):
    here = scene()
    begun = []
    here.on_begin = lambda first: begun.append((here.clock.now(), first - here.viewer.next))
    here.clock.at(20.3, lambda: setattr(here.viewer, "away", True))
    here.clock.at(80.0, lambda: setattr(here.viewer, "away", False))
    here.run(seconds=100)
    away = [time for time, _ in begun if 20.3 < time < 80]
    assert len(away) == 1  # he was believed to be there for the length of a chunk
    assert max(away) < 20.3 + CHUNK
    assert max(ahead for _, ahead in begun[2:]) <= 24
    assert len([time for time, _ in begun if time > 80.2]) > 38  # of 20 seconds
    assert len(here.viewer.shown) > 39 * FPS
    assert here.viewer.stalls == 0


def test_the_session_says_how_much_of_the_time_was_without_stall(scene):
    slow = scene(seconds=0.6).run(seconds=60)  # 0.48 s of pictures take 0.6 s
    shown = len(slow.viewer.shown)
    assert slow.session.play_ratio == pytest.approx(shown / (shown + slow.viewer.stalls), abs=0.03)
    assert 0.75 < slow.session.play_ratio < 0.85


def test_without_a_viewer_a_session_goes_as_fast_as_the_clock(scene):
    here = scene(viewer=False).run(seconds=100)
    frames = sum(len(chunk.frames) for chunk in here.chunks)
    assert 99 * FPS < frames < 102 * FPS
