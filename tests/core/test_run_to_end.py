"""A stream until its end: its length, its file, its figures."""

from contextlib import closing

import pytest
import torch

from knot_core.config import StreamSettings
from knot_core.driving import Driving
from knot_core.errors import KnotError
from knot_core.geometry import first_pixel_frame
from knot_core.run import LateFile, Run, StreamLog, length_of, write_chunks
from knot_core.stream import (
    begin_stream,
    continue_stream,
    driving_played,
    in_whole_chunks,
    open_stream,
    restart_driving,
    state_of,
)

FPS = 25
SETTINGS = StreamSettings(steps=1)


def nodding(num_pixel_frames):
    return Driving.from_controls({"pitch": [0.1] * num_pixel_frames})


@pytest.fixture(scope="module")
def begun(model, anchor):
    return begin_stream(model, anchor, SETTINGS)


@pytest.fixture(scope="module")
def later(model, anchor, waves):
    """The state after two chunks."""
    stream = open_stream(model, anchor, SETTINGS, waves())
    for _ in range(2):
        next(stream)
    return state_of(stream)


def run_of(model, saved, driving):
    return Run(continue_stream(model, saved, driving), driving.num_pixel_frames,
               StreamLog(fps=FPS, device=model.device))  # fmt: skip


class Pages:
    """A writer that keeps what it is given."""

    def __init__(self, **opened):
        self.opened, self.pixel_frames, self.closed = opened, [], False

    def write(self, pixel_frames):
        self.pixel_frames.append(pixel_frames)

    def close(self):
        self.closed = True


def test_a_run_lasts_as_long_as_its_driving_or_as_was_asked_for(begun, later):
    assert length_of(begun, nodding(40), FPS, None).num_pixel_frames == 40
    assert length_of(later, nodding(40), FPS, None).num_pixel_frames == 40 - first_pixel_frame(6)
    for saved in (begun, later):
        assert length_of(saved, nodding(40), FPS, 3.0).num_pixel_frames == 75
        assert length_of(saved, nodding(40), FPS, 1e-6).num_pixel_frames == 1
        assert length_of(saved, nodding(40), FPS, float("inf")).num_pixel_frames > 1e8
        assert length_of(saved, Driving.idle(), FPS, None).num_pixel_frames is None


@pytest.mark.parametrize("seconds", [None, 0.04, 1.0, 1.64, 2.0])
@pytest.mark.parametrize("from_its_beginning", [False, True])
def test_a_run_of_whole_chunks_ends_where_a_chunk_does(later, seconds, from_its_beginning):
    saved = restart_driving(later) if from_its_beginning else later
    exact = length_of(saved, nodding(40), FPS, seconds).num_pixel_frames
    whole = length_of(saved, nodding(40), FPS, seconds, whole_chunks=True).num_pixel_frames
    assert whole == in_whole_chunks(saved, exact)
    assert whole >= exact


def test_the_length_is_what_the_stream_makes(model, later, waves):
    for saved in (later, restart_driving(later)):
        length = length_of(saved, nodding(60), FPS, 1.0)
        played = waves(length.driving.num_pixel_frames)
        made = sum(len(chunk.pixel_frames) for chunk in continue_stream(model, saved, played))
        assert made == length.num_pixel_frames


def test_a_driving_that_has_been_played_out_is_refused_with_what_to_do(later):
    with pytest.raises(KnotError, match=r"ends at 0\.20 s and the state stands at 0\.84 s: sing on"):
        length_of(later, nodding(5), FPS, None, remedy="sing on")
    again = restart_driving(later)
    assert length_of(again, nodding(5), FPS, None).num_pixel_frames == 5 - driving_played(again)


def test_a_file_is_opened_for_its_first_chunk_and_gets_all_of_them(model, begun, waves):
    run, pages = run_of(model, begun, waves(30)), []

    def opened(**size):
        pages.append(Pages(**size))
        return pages[0]

    with closing(LateFile(run, opened)) as file:
        assert pages == []
        ends = []
        write_chunks(run, file, lambda chunk: ends.append(run.end_of(chunk)) or True)
    expected = [chunk.pixel_frames for chunk in continue_stream(model, begun, waves(30))]
    assert torch.equal(torch.cat(pages[0].pixel_frames), torch.cat(expected))
    assert (pages[0].opened, pages[0].closed) == ({"width": 48, "height": 32, "fps": FPS}, True)
    assert ends == [9, 21, 30]
    assert run.num_made == 30


def test_a_run_that_is_ended_early_says_how_much_it_made(model, begun, waves):
    run, pages = run_of(model, begun, waves(300)), Pages()
    with closing(LateFile(run, lambda **_: pages)) as file:
        write_chunks(run, file, lambda _: False)
    assert 9 <= run.num_made < 300
    assert run.num_made == sum(map(len, pages.pixel_frames)) == run.log.freeze().num_pixel_frames
    assert run.stream.snapshot().state.clock.start == 3 * len(pages.pixel_frames)


def test_no_file_is_opened_where_there_is_nothing_to_write(model, later, waves):
    run = run_of(model, later, waves(5))
    with closing(LateFile(run, None)) as file:
        write_chunks(run, file, lambda _: True)
    assert (file.writer, run.num_made) == (None, 0)


def test_the_figures_are_of_the_whole_run(model, begun, waves):
    run = run_of(model, begun, waves(30))
    run.log.book("anchor", 0.0)
    with closing(LateFile(run, Pages)) as file:
        write_chunks(run, file, lambda _: True)
    stats = run.log.freeze()
    told = stats.summary()
    assert (told["chunks"], told["pixel_frames"], told["device"], told["threads"]) == (3, 30, "cpu", 1)
    assert told["fps"] == pytest.approx(30 / stats.seconds, abs=1e-3)
    assert stats.seconds >= sum(stats.columns["seconds"])
    assert set(stats.stages) == {"anchor", "denoise", "decode", "commit", "write"}
    assert [line.split()[0] for line in stats.table().splitlines()][:2] == ["stage", "anchor"]
