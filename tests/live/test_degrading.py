"""What gives way in a running session whose chunks come late, that it is said, and that it comes back."""

import io
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from knot_live import controls
from knot_live.adapting import Adapting
from knot_live.control_log import LogEntry
from knot_live.engine import StreamSettings
from knot_live.events import Applied, Degraded, MediaChunk
from knot_live.media_encoder import ChunkEncoder
from knot_live.messages import unpack
from knot_live.pacing import Span

from .simulated import FPS, Scene

SETTINGS = StreamSettings(steps=4)


@pytest.fixture
def busy(monkeypatch):
    """A session of four steps, which take `step(now)` seconds for each of three latent frames; the rest takes 0.02."""

    def made(step, **options):
        here = None

        def seconds():
            return 3 * (0.02 + step(here.clock.now()) * here.stream.settings.steps)

        here = Scene(monkeypatch, seconds=seconds, settings=SETTINGS, degrades=True, **options)
        return here

    return made


def test_steps_are_lowered_before_the_viewer_waits_for_long_and_raised_again(busy):
    here = busy(lambda now: 0.06 if 20 < now < 60 else 0.01)  # 0.24 and more of 0.16 s for each latent frame
    here.run(120)
    told = here.told(Degraded)
    assert [event.settings["steps"] for event in told] == [2, 4]
    assert "2 denoising steps of 4" in told[0].message
    assert "room again" in told[1].message
    first, last = (here.viewer.times[event.frame][0] for event in told)
    assert 20 < first < 30
    assert 60 < last < 90
    late = [time for time in here.viewer.stalled_at if time > first + 1]
    assert late == []
    assert here.stream.settings.steps == 4


def test_it_takes_hold_with_the_chunk_that_it_says_and_is_in_the_log(busy):
    here = busy(lambda now: 0.06 if now > 5 else 0.01).run(40)
    told = here.told(Degraded)
    entries = [entry for entry in here.session.log if isinstance(entry.control, controls.Degrade)]
    assert [(entry.number, entry.control.rung, entry.chunk, entry.frame) for entry in entries] == [
        (0, event.rung, event.chunk, event.frame) for event in told
    ]
    assert [LogEntry.of_json(entry.to_json()) for entry in entries] == entries
    assert 0 not in [number for chunk in here.chunks for number in chunk.applied]
    assert all(here.chunks[event.chunk].first_frame == event.frame for event in told)


def test_a_session_that_shall_not_degrade_stays_as_it_is(busy):
    here = busy(lambda _: 0.06)
    here.session.degrades = False
    here.run(40)
    assert here.told(Degraded) == []
    assert here.stream.settings == SETTINGS


def test_where_fewer_steps_do_not_help_pictures_are_left_out(busy):
    here = busy(lambda _: 0.3).run(80)
    assert [event.settings for event in here.told(Degraded)] == [
        {"steps": 2, "num_chunk_frames": 3, "every": 1},
        {"steps": 1, "num_chunk_frames": 3, "every": 1},
        {"steps": 1, "num_chunk_frames": 3, "every": 2},
    ]
    last = here.told(Degraded)[-1].chunk
    assert [chunk.every for chunk in here.chunks[last - 1 : last + 1]] == [1, 2]


def test_what_is_asked_meanwhile_is_asked_of_what_was_asked_before(busy):
    here = busy(lambda _: 0.06)
    here.at(30, controls.Settings({"fusion": 0.25}))
    here.at(60, controls.Settings({"steps": 3}))
    here.run(61)
    assert here.told(Degraded)[-1].settings["steps"] < 4
    assert here.told(Applied)[0].number == 1
    assert here.stream.settings == replace(SETTINGS, fusion=0.25, steps=3)


@pytest.mark.parametrize("rung", [0, 1, 2, 99])
def test_a_log_that_is_replayed_stands_on_the_same_rungs(busy, rung):
    here = busy(lambda _: 0.001)
    here.session.degrades = False
    here.session.apply(controls.Degrade(rung))
    here.run(2)
    assert here.stream.settings.steps == {0: 4, 1: 2}.get(rung, 1)


def test_how_far_it_went_is_kept_with_a_state():
    adapting = Adapting(SETTINGS, 3)
    for _ in range(6):
        adapting.judge(1.5, {})
    drawn = adapting.drawn_by()
    again = Adapting.from_state(adapting.to_state(), drawn, 3)
    assert (again.asked, again.drawn_by(), again.to_state()) == (SETTINGS, drawn, adapting.to_state())
    assert again.told(Span(0, 0, 0, 9)).settings["steps"] == 2
    assert Adapting.from_state({}, drawn, 3).asked == drawn


def test_models_keep_the_noise_levels_that_they_were_trained_for():
    adapting = Adapting(replace(SETTINGS, timesteps=(1000.0, 500.0), num_chunk_frames=1), 3)
    for _ in range(40):
        adapting.judge(1.5, {})
    assert adapting.drawn_by() == replace(adapting.asked, num_chunk_frames=3)
    assert adapting.rung.every == 2


@pytest.mark.parametrize("wanted", ["h264", "fmp4"])
def test_every_second_picture_is_sent_with_its_own_time(wanted):
    encoder = ChunkEncoder(64, 64, FPS)
    encoder.wanted.add(wanted)
    pictures = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    chunk = MediaChunk(epoch=0, chunk=1, first_frame=9, frames=pictures, sound=np.zeros(12 * 960, np.float32),
                       applied=(), seconds={}, buffer=0.0, every=2)  # fmt: skip
    encoded = encoder.encode(chunk)
    assert (encoded.first_frame, encoded.end) == (9, 21)
    positions = [unpack(message)[0].position for message in encoded.media["h264"]]
    assert positions == [9, 10, 12, 14, 16, 18, 20]
    if wanted == "fmp4":
        whole = b"".join(message[16:] for message in (encoder.formats.initialisation, *encoded.media["fmp4"]))
        with av.open(io.BytesIO(whole)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.pts * packet.time_base * FPS for packet in packets] == [Fraction(one) for one in positions]
        assert packets[-1].duration * packets[-1].time_base * FPS == 1
