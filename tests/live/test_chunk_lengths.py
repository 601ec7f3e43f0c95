"""Chunks are shorter where a whole one would come late, and only as long as that is so."""

import random
from itertools import pairwise

import numpy as np
import pytest

from knot_live import controls
from knot_live.chunk_lengths import NOTHING, Lengths, TakenBack, Times
from knot_live.engine import StreamSettings, first_pixel_frame
from knot_live.events import Applied
from knot_live.pacing import TRANSPORT, Span

from .simulated import FPS, Scene

EACH = 4 / FPS
KNOT_TINY = Lengths({1: 0.11, 2: 0.205, 3: 0.30}, EACH)
DRAWN = 0.3  # seconds of a chunk of three latent frames


@pytest.fixture
def scene(monkeypatch):
    return lambda **options: Scene(monkeypatch, **{"seconds": DRAWN, **options})


def spans(count):
    return [Span.of_latents(number, 3 * number, 3) for number in range(count)]


def plays_on(lengths, unplayed, num_latents):
    """Whether the viewer has something to show until a whole chunk is drawn, if each chunk is the one `next` says."""
    for _ in range(100):
        unplayed -= lengths.seconds[num_latents]
        if unplayed < (0.0 if num_latents == lengths.asked else TRANSPORT) - 0.0101:  # it begins 0.01 s late at most
            return False
        unplayed += num_latents * lengths.each
        if num_latents == lengths.asked:
            return True
        num_latents = lengths.next(unplayed)
    return False


def test_a_chunk_in_place_of_another_leaves_the_viewer_always_something_to_show():
    rng, found = random.Random(1), []
    for _ in range(3000):
        asked, whole, aside = rng.randrange(1, 5), rng.uniform(0.02, 0.3), rng.uniform(0, 2)
        seconds = {count: whole * (count + aside) * rng.uniform(0.9, 1.1) / 3 for count in range(1, asked + 1)}
        lengths, unplayed = Lengths(seconds, EACH), rng.uniform(0, 0.7)
        again = lengths.again(unplayed)
        found.append(again)
        assert again is None or plays_on(lengths, unplayed, again)
    assert set(found) == {None, 1, 2, 3, 4}


def test_a_whole_chunk_is_drawn_where_there_is_time_and_where_shorter_ones_do_not_help():
    assert [KNOT_TINY.next(unplayed) for unplayed in (0.56, 0.38, 0.32, 0.25, 0.20)] == [3, 3, 2, 1, 1]
    assert KNOT_TINY.next(0.1) == 3, "even the shortest would be late: the viewer waits once, not again and again"
    slow = Lengths({1: 0.17, 2: 0.33, 3: 0.42}, EACH)  # shorter chunks fall behind
    assert [slow.next(unplayed) for unplayed in (0.5, 0.4, 0.3)] == [3, 3, 3]
    assert slow.again(0.3) is None


def test_shorter_chunks_take_their_share_until_they_are_measured_and_never_less():
    times = Times()
    for seconds in (0.3, 0.32, 0.34):
        times.add(3, seconds, asked=3)
    lengths = Lengths.expected(times, 3, 0.32, FPS)
    assert lengths.seconds == {1: pytest.approx(0.12), 2: pytest.approx(0.22), 3: 0.32}
    times.add(1, 0.15, asked=3)
    times.add(2, 0.1, asked=3)
    lengths = Lengths.expected(times, 3, 0.32, FPS)
    assert lengths.seconds == {1: 0.15, 2: pytest.approx(0.22), 3: 0.32}
    assert lengths.only_asked().next(0.2) == 3


def test_a_cut_takes_back_what_can_be_replaced_soonest_without_a_stall():
    quick = Lengths({3: 0.1}, EACH)
    made = spans(4)  # up to frame 45
    assert quick.cut(made, position=10, fps=FPS) == (TakenBack(3, knot=True), 3)
    assert quick.cut(made, position=37, fps=FPS) == (TakenBack(1, knot=True), 3)
    assert quick.cut([], position=37, fps=FPS) == (NOTHING, None)
    assert Lengths({3: 0.2}, EACH).cut(made, position=37, fps=FPS) == (NOTHING, None)
    made = spans(2)[1:]  # from frame 9 to 21
    assert KNOT_TINY.cut(made, position=7, fps=FPS) == (TakenBack(1, knot=True), 3), "0.56 s lie ready: its last third"
    assert KNOT_TINY.cut(made, position=11, fps=FPS) == (NOTHING, None)


def test_inside_a_chunk_what_is_shown_already_stays_and_the_rest_is_drawn_anew():
    made = spans(3)[1:]  # frames 9 to 33
    cuts = [KNOT_TINY.cut(made, position=position, fps=FPS, inside=True) for position in (7, 11, 15, 19, 23, 27)]
    assert cuts[:4] == [
        (TakenBack(1, stay=1, knot=True), 1),  # frame 13 on, 0.24 s ahead, with a short chunk
        (TakenBack(1, stay=2, knot=True), 1),
        (TakenBack(1, knot=True), 1),
        (TakenBack(0, stay=1, knot=True), 1),
    ]
    assert cuts[4] == (TakenBack(0, stay=2, knot=True), 1)
    assert cuts[5] == (NOTHING, None), "the last third is shown before a short chunk is there"


def test_from_whatever_place_inside_a_chunk_what_is_drawn_anew_is_there_in_time():
    rng, found = random.Random(2), 0
    for _ in range(2000):
        whole, aside, position = rng.uniform(0.1, 0.35), rng.uniform(0, 1), rng.uniform(9, 33)
        lengths = Lengths({count: whole * (count + aside) / (3 + aside) for count in (1, 2, 3)}, EACH)
        what, length = lengths.cut(spans(3)[1:], position, FPS, inside=True)
        if what == NOTHING:
            continue
        found += 1
        last = spans(3)[3 - what.chunks - (what.stay > 0)]
        begins = (last.first_latents(what.stay).end - position) / FPS
        assert what.stay < 3
        assert (33 - position) / FPS > max(begins, lengths.seconds[length] + TRANSPORT), "sooner than what lies ready"
        unplayed = begins + length * EACH - lengths.seconds[length]  # until then the replaced ones are shown
        assert plays_on(lengths, unplayed, lengths.next(unplayed))
    assert found > 500


def lengths_of(here):
    return here.stream.lengths[1:]


def in_flight(here, control, times):
    """Ask for it a moment after a chunk has begun, the first time behind each of `times`."""
    left = list(times)

    def begun(_):
        if left and here.clock.now() > left[0]:
            left.pop(0)
            here.at(here.clock.now() + 0.07, control())

    here.on_begin = begun


EVENTS = [3.0 + 3.07 * number for number in range(12)]


def word():
    return controls.Speech(np.zeros(16 * 640, dtype=np.int16), 16_000)


@pytest.mark.parametrize("control", [word, lambda: controls.SetControls({"yaw": random.randrange(90)})])
def test_what_is_urgent_is_in_a_shorter_chunk_and_then_chunks_are_whole_again(scene, control):
    here = scene()
    in_flight(here, control, EVENTS)
    here.at(1, controls.CommitSpeech())
    here.run(seconds=42)
    assert here.stream.given_up == len(EVENTS)
    short = [place for place, length in enumerate(lengths_of(here)) if length < 3]
    begins = [place for place in short if place - 1 not in short]
    assert len(begins) == len(EVENTS)
    assert len(short) <= 5 * len(EVENTS), "within some tenths of a second"
    ends = [chunk.first_frame + len(chunk.frames) for chunk in here.chunks]
    assert [chunk.first_frame for chunk in here.chunks] == [0, *ends[:-1]]
    assert here.viewer.stalls == 0
    assert here.stream.settings.num_chunk_frames == 3


def test_a_slider_that_is_dragged_gives_up_no_two_chunks_in_a_row(scene):
    here, begun = scene(), []
    here.on_begin = begun.append
    here.clock.every(0.03, lambda: here.session.apply(controls.SetControls({"yaw": random.randrange(90)})))
    here.run(seconds=60)
    given_up = [place for place, (one, other) in enumerate(pairwise(begun)) if one == other]
    assert len(given_up) == here.stream.given_up > 10
    assert min(np.diff(given_up)) > 2
    assert here.viewer.stalls == 0


def test_the_sound_stays_that_which_moved_the_frames(scene):
    here = scene()
    in_flight(here, word, EVENTS)
    here.run(seconds=42)
    spoken = np.concatenate([chunk.frames[:, 0, 0, 0] for chunk in here.chunks]) >= 100
    sound = np.concatenate([chunk.sound for chunk in here.chunks]).reshape(-1, 960)
    assert spoken.sum() == 16 * len(EVENTS)
    assert np.array_equal(spoken, (sound > 0).all(axis=1))
    assert not sound[~spoken].any()


@pytest.mark.parametrize(
    "options",
    [{"settings": StreamSettings(timesteps=(1000.0, 500.0))},
     {"settings": StreamSettings(commit="in_place", num_sink_frames=3)}],
)  # fmt: skip
def test_chunks_keep_their_length_where_a_model_was_trained_for_it(scene, options):
    here = scene(**options)
    in_flight(here, lambda: controls.SetControls({"yaw": 3}), EVENTS)
    here.run(seconds=42)
    assert set(lengths_of(here)) == {3}


def test_chunks_keep_their_length_where_others_are_drawn_in_turn(scene):
    here = scene()
    here.session.adapting.shared_lead = 0.48
    in_flight(here, lambda: controls.SetControls({"yaw": 3}), EVENTS)
    here.run(seconds=42)
    assert set(lengths_of(here)) == {3}


def test_a_microphones_voice_keeps_its_distance(scene):
    here = scene()
    here.driving.mirrors = True
    in_flight(here, lambda: controls.SetControls({"yaw": 3}), EVENTS)
    here.run(seconds=42)
    assert set(lengths_of(here)) == {3}


def test_what_is_asked_of_the_settings_meanwhile_holds(scene):
    here = scene()
    in_flight(here, lambda: controls.SetControls({"yaw": 3}), [3.0])
    here.at(3.9, controls.Settings({"num_chunk_frames": 2, "fusion": 0.25}))
    here.run(seconds=12)
    asked = here.told(Applied)[1]
    assert min(lengths_of(here)[: asked.chunk]) < 3
    assert set(lengths_of(here)[asked.chunk + 8 :]) == {2}
    assert (here.stream.settings.fusion, here.stream.settings.num_chunk_frames) == (0.25, 2)


def test_frames_are_counted_by_latent_frames_whatever_the_lengths(scene):
    here = scene()
    in_flight(here, lambda: controls.SetControls({"yaw": 3}), EVENTS)
    here.run(seconds=42)
    ends = [chunk.first_frame + len(chunk.frames) for chunk in here.chunks]
    assert set(np.diff(ends)) == {4, 8, 12}
    assert set(ends) <= {first_pixel_frame(latent) for latent in range(3, 300)}
    begun = [(chunk.epoch, chunk.first_frame) for chunk in here.chunks]
    for end, (epoch, _), (next_epoch, first) in zip(ends, begun, begun[1:], strict=False):
        assert first == end or (next_epoch > epoch and first < end)


def test_the_log_says_how_long_chunks_were(scene):
    here = scene()
    in_flight(here, lambda: controls.SetControls({"yaw": 3}), EVENTS)
    here.run(seconds=42)
    said = {entry.chunk: entry.control.num_latents for entry in here.session.log
            if isinstance(entry.control, controls.ChunkLength)}  # fmt: skip
    assert len(said) >= 2 * len(EVENTS)
    length = 3
    for place, drawn in enumerate(lengths_of(here), start=1):
        length = said.get(place, length)
        assert length == drawn


def test_an_interruption_drops_the_knot_also_where_all_that_lies_ready_is_shown(scene):
    here = scene(settings=StreamSettings(num_chunk_frames=1))
    times = [3 + 2.53 * number for number in range(8)]
    for time in times:
        here.at(time - 1, controls.Speech(np.zeros(16 * 2400, dtype=np.int16), 16_000))
        here.clock.at(time, lambda: here.session.apply(controls.Cancel(here.viewer.next - 1)))
    here.run(seconds=24)
    cuts = [entry for entry in here.session.log if isinstance(entry.control, controls.Cancel)]
    assert len(cuts) == len(times)
    assert any(not (entry.taken_back or entry.stay) for entry in cuts), "nothing that was made is replaced"
    assert all(entry.knot for entry in cuts)
    assert here.stream.knots_dropped >= len(times)
