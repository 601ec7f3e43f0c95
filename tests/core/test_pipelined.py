"""A stream whose chunks are drawn ahead is the same stream: its bits, its states, its errors, its ends."""

import threading
import time
from contextlib import closing

import pytest
import torch

from knot_core import SettingsError, pipelined
from knot_core.config import StreamSettings
from knot_core.stream import continue_stream, open_stream, resume_stream, state_of
from knot_core.stream.reference_pictures import ChunkDecoding
from knot_core.threads import threads_inside

from .compared_chunks import same, take

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
VARIANTS = {
    "window": SETTINGS,
    "sinks that fade": StreamSettings(
        steps=1, num_window_frames=4, num_sink_frames=2, sink_decay=0.9, rope_positions="window"
    ),
    "no knot, no window": StreamSettings(steps=1, num_knot_frames=0, num_window_frames=0),
    "from the reference": StreamSettings(steps=2, start_from_reference=True, first_timesteps=(1000.0, 700.0, 300.0)),
}


@pytest.fixture(autouse=True)
def _no_thread_is_left_and_counts_are_as_before():
    threads, count = set(threading.enumerate()), torch.get_num_threads()
    yield
    assert set(threading.enumerate()) <= threads
    found = []
    fresh = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert (torch.get_num_threads(), found) == (count, [count])


def equal_states(one, other):
    assert (one.state.clock, one.state.driving_origin) == (other.state.clock, other.state.driving_origin)
    assert one.window_index == other.window_index
    tensors = ((*s.window, *s.sinks, *(s.state.decoder_memory or ()), s.state.rng_state) for s in (one, other))
    return all(torch.equal(mine, theirs) for mine, theirs in zip(*tensors, strict=True))


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_bits_are_those_of_the_stream_by_itself(model, anchor, waves, name, beside):
    plain = open_stream(model, anchor, VARIANTS[name], waves(97), seed=3)
    ahead = open_stream(model, anchor, VARIANTS[name], waves(97), seed=3)
    mine, theirs = list(pipelined(ahead, decode_beside=beside)), list(plain)
    assert same(mine, theirs)
    assert sum(len(chunk.pixel_frames) for chunk in mine) == 97
    assert all(set(chunk.seconds) == {"denoise", "decode", "commit"} for chunk in mine)
    assert ahead.finished
    assert equal_states(ahead.snapshot(), plain.snapshot())


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("num_given", [1, 4])
def test_breaking_off_leaves_the_stream_behind_the_last_chunk_that_was_given(model, anchor, waves, name, num_given):
    plain = open_stream(model, anchor, VARIANTS[name], waves(), seed=3)
    ahead = open_stream(model, anchor, VARIANTS[name], waves(), seed=3)
    theirs = take(plain, num_given)
    mine = []
    for chunk in pipelined(ahead):
        mine.append(chunk)
        if len(mine) == num_given:
            time.sleep(0.05)  # so that something is drawn ahead
            break
    assert same(mine, theirs)
    assert equal_states(ahead.snapshot(), plain.snapshot())
    assert same(take(ahead, 2) + take(pipelined(ahead), 2), take(plain, 4))


def test_a_state_saved_meanwhile_is_that_of_the_last_chunk_given(model, anchor, waves, tmp_path):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 9)
    ahead = open_stream(model, anchor, SETTINGS, waves())
    with closing(pipelined(ahead)) as chunks:
        for chunk in chunks:
            if chunk.index in (0, 3):
                time.sleep(0.05)
                ahead.save(tmp_path / f"{chunk.index}")
                twin = ahead.fork()
                assert same(take(twin, 2), whole[chunk.index + 1 : chunk.index + 3])
            if chunk.index == 4:
                break
    for number in (0, 3):
        resumed = resume_stream(model, tmp_path / f"{number}", waves())
        assert same(take(pipelined(resumed), 5), whole[number + 1 : number + 6])


class Loose:
    """A driving whose cable comes loose at a chunk."""

    num_pixel_frames = None

    def __init__(self, waves, at):
        self._waves, self._at = waves, at

    def signal(self, first, count):
        if first == 3 * self._at:
            raise RuntimeError("a cable came loose")
        return self._waves.signal(first, count)


@pytest.mark.parametrize("stage", ["driving", "decode", "write", "commit"])
def test_an_error_in_any_stage_comes_once_and_the_stream_goes_on_from_before_it(
    model, anchor, waves, stage, monkeypatch
):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 6)
    driving = Loose(waves(), 3) if stage == "driving" else waves()
    stream, calls = open_stream(model, anchor, SETTINGS, driving), []

    def failing(compute):
        def call(*values, **named):
            calls.append(1)
            if len(calls) == 4:
                raise RuntimeError("a cable came loose")
            return compute(*values, **named)

        return call

    if stage == "decode":
        monkeypatch.setattr(ChunkDecoding, "__call__", failing(ChunkDecoding.__call__))
    if stage == "commit":
        monkeypatch.setattr(stream, "run_commit", failing(stream.run_commit))
    given, chunks = [], pipelined(stream, write=failing(lambda _: None) if stage == "write" else None)
    with pytest.raises(RuntimeError, match="cable"):
        given.extend(chunks)
    assert same(given, whole[:3])
    assert list(chunks) == []
    monkeypatch.undo()
    stream.set_driving(waves(), origin=0)
    assert same(take(pipelined(stream), 3), whole[3:])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_stop_is_obeyed_before_every_stage_and_what_was_whole_is_given(model, anchor, waves, stage):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 5)
    stages = []
    stream = open_stream(
        model, anchor, SETTINGS, waves(),
        progress=lambda done, total: stages.append((done, total)),
        should_stop=lambda: len(stages) == 2 * 4 + stage + 1,
    )  # fmt: skip
    assert same(list(pipelined(stream)), whole[:2])
    assert stages == [(done, 3) for done in range(4)] * 2 + [(done, 3) for done in range(stage + 1)]
    assert same(take(pipelined(stream), 3), whole[2:])


def test_what_wait_raises_ends_at_once_and_the_stream_goes_on_from_the_last_chunk_given(model, anchor, waves):
    whole = take(open_stream(model, anchor, SETTINGS, waves()), 6)
    given, asked = [], []

    def wait():
        asked.append(threading.current_thread())
        if len(given) == 2:
            raise KeyboardInterrupt

    stream = open_stream(model, anchor, SETTINGS, waves())
    with pytest.raises(KeyboardInterrupt):
        given.extend(pipelined(stream, wait=wait))
    assert set(asked) == {threading.current_thread()}
    assert len(given) == 2
    assert same(given + take(stream, 3), whole[:5])


def test_chunks_are_written_in_order_on_one_thread_before_they_are_given(model, anchor, waves):
    written, where = [], set()

    def write(chunk):
        where.add(threading.current_thread())
        time.sleep(0.01)
        written.append(chunk.index)

    for chunk in pipelined(open_stream(model, anchor, SETTINGS, waves(60)), write=write):
        assert written[: chunk.index + 1] == list(range(chunk.index + 1))
    assert len(where) == 1
    assert where != {threading.current_thread()}


def test_a_stream_that_is_broken_off_stands_behind_what_was_written(model, anchor, waves):
    """Whatever the caller has got: a file's frames are there, and what goes on from the state must join them."""
    whole, written = take(open_stream(model, anchor, SETTINGS, waves()), 8), []
    stream = open_stream(model, anchor, SETTINGS, waves())
    for _ in pipelined(stream, write=written.append):
        time.sleep(0.1)
        break
    assert 1 <= len(written) <= 3
    assert same(written + take(stream, 2), whole[: len(written) + 2])


def test_a_slow_consumer_bounds_what_is_drawn_ahead(model, anchor, waves):
    begun = []
    stream = open_stream(model, anchor, SETTINGS, waves(), progress=lambda done, _: done == 0 and begun.append(1))
    for chunk in pipelined(stream, write=lambda _: None):
        time.sleep(0.03)
        assert len(begun) - (chunk.index + 1) <= 6
        if chunk.index == 8:
            break
    assert chunk.index == 8


def test_a_new_driving_starts_with_the_next_chunk_that_has_not_begun(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    with closing(pipelined(stream)) as chunks:
        given = take(chunks, 2)
        with stream.lock:
            first = stream.ahead.next_clock.chunk
            stream.set_driving(waves(phase=1.0))
        given += take(chunks, first)
    by_hand = open_stream(model, anchor, SETTINGS, waves())
    wanted = take(by_hand, first)
    by_hand.set_driving(waves(phase=1.0))
    assert 2 <= first <= 8
    assert same(given, wanted + take(by_hand, 2))


def test_a_driving_set_ahead_begins_where_the_stream_stands_if_that_is_taken_back(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    with closing(pipelined(stream)) as chunks:
        take(chunks, 1)
        time.sleep(0.1)
        stream.set_driving(waves(phase=1.0))
    saved = state_of(stream)
    assert saved.state.driving_origin <= saved.state.clock.start == 3
    take(continue_stream(model, saved, waves()), 1)


def test_it_runs_under_inference_mode(model, waves):
    with torch.inference_mode():
        anchor = model.anchor()
        plain = take(open_stream(model, anchor, SETTINGS, waves()), 4)
        stream = open_stream(model, anchor, SETTINGS, waves())
        with closing(pipelined(stream)) as chunks:
            given = take(chunks, 3)
            assert same(given, plain[:3])
            assert given[0].latents.is_inference()
        assert same(take(stream, 1), plain[3:])


def test_the_stream_itself_cannot_be_asked_meanwhile(model, anchor, waves):
    stream = open_stream(model, anchor, SETTINGS, waves())
    with closing(pipelined(stream)) as chunks:
        next(chunks)
        with pytest.raises(SettingsError, match="drawn ahead"):
            next(stream)
        with pytest.raises(SettingsError, match="drawn ahead"):
            next(pipelined(stream))
    assert next(stream).index == 1


def test_a_live_driving_that_ends_before_what_was_drawn_ends_the_stream_there(model, anchor, waves):
    class Live:
        num_pixel_frames = None

        def signal(self, first, count):
            return waves().signal(first, count)

    live = Live()
    stream, given = open_stream(model, anchor, SETTINGS, live), []
    for chunk in pipelined(stream):
        given.append(chunk)
        time.sleep(0.05)
        if chunk.index == 1:
            live.num_pixel_frames = 9 + 12 + 5
    assert sum(len(chunk.pixel_frames) for chunk in given[:2]) == 21
    assert len(given) <= 8
    assert stream.finished


# --- threads inside operations


def test_a_count_holds_for_the_calling_thread_alone():
    before, found = torch.get_num_threads(), []
    with threads_inside(before + 1):
        assert torch.get_num_threads() == before + 1
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert (found, torch.get_num_threads()) == ([before], before)


def test_the_count_is_the_one_asked_for_in_every_stage_and_goes_into_the_state(model, anchor, waves, tmp_path):
    found = set()
    stream = open_stream(model, anchor, SETTINGS, waves(), progress=lambda *_: found.add(torch.get_num_threads()))
    chunks = pipelined(stream, threads=3, write=lambda _: found.add(torch.get_num_threads()))
    take(chunks, 2)
    chunks.close()
    assert found == {3}
    stream.save(tmp_path / "state")
    found.clear()
    resumed = resume_stream(model, tmp_path / "state", waves(), progress=lambda *_: found.add(torch.get_num_threads()))
    next(resumed)
    assert found == {3}
    assert resumed.threads == 3
    take(pipelined(resumed, threads=2), 1)
    assert found == {2, 3}


def test_bfloat16_goes_on_with_any_count(make_model, waves, tmp_path):
    model = make_model(dtype=torch.bfloat16)
    stream = open_stream(model, model.anchor(), SETTINGS, waves())
    take(pipelined(stream, threads=3), 1)
    stream.save(tmp_path / "state")
    assert resume_stream(model, tmp_path / "state", waves()).threads is None


def test_an_old_state_says_no_count(model, anchor, waves, tmp_path):
    open_stream(model, anchor, SETTINGS, waves()).save(tmp_path / "state")
    assert resume_stream(model, tmp_path / "state", waves()).threads is None
