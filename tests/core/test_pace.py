"""A stream that is watched while it is drawn: when chunks begin, what is shown of them, and chunks that are dropped."""

import itertools
import threading
from contextlib import closing

import pytest
import torch

from knot_core import pipelined
from knot_core.config import StreamSettings
from knot_core.stream import open_stream

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
ROUNDING = 1  # of 255: latent frames that are decoded one by one


class Watching:
    """A pace that lets chunks begin at once, unless told else; it keeps what it is shown."""

    def __init__(self, stream, chunks=4):
        self.stream, self.left, self.pieces, self.begun = stream, chunks, [], []
        self.abandon_at = None  # (chunk, stage)
        self.asked, self.drawn_chunks = 0, []

    def begin(self, closed):  # noqa: ARG002
        self.asked, self.left = 0, self.left - 1
        if self.left >= 0:
            self.begun.append(self.stream.upcoming.chunk)
        return self.left >= 0

    def abandons(self):
        self.asked += 1
        if self.abandon_at != (self.begun[-1], self.asked):
            return False
        self.abandon_at, self.left = None, self.left + 1
        self.before_again()
        return True

    def before_again(self):
        """Nothing is told anew."""

    def drawn(self, plan):
        self.drawn_chunks.append(plan.chunk)

    def shows(self, piece):
        assert piece.chunk in self.drawn_chunks
        self.pieces.append(piece)


def like(mine, theirs):
    """Two lists of chunks: the latents bit for bit, the pictures but for rounding."""
    assert [chunk.index for chunk in mine] == [chunk.index for chunk in theirs]
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one.latents, other.latents)
        assert (one.pixel_frames.int() - other.pixel_frames.int()).abs().max() <= ROUNDING
    return True


@pytest.mark.parametrize("beside", [True, False])
def test_a_watched_stream_is_the_stream_and_is_shown_latent_frame_by_latent_frame(model, anchor, waves, beside):
    theirs = list(open_stream(model, anchor, SETTINGS, waves(42), seed=3))
    stream = open_stream(model, anchor, SETTINGS, waves(42), seed=3)
    pace, mine = Watching(stream), []
    for chunk in pipelined(stream, pace=pace, decode_beside=beside):
        mine.append(chunk)
        shown = torch.cat([piece.pixel_frames for piece in pace.pieces if piece.chunk == chunk.index])
        assert torch.equal(shown, chunk.pixel_frames)
    assert like(mine, theirs)
    firsts = [piece.first_pixel_frame for piece in pace.pieces]
    assert firsts == [0, *range(1, 42, 4)]
    assert [len(piece.pixel_frames) for piece in pace.pieces] == [1, *[4] * 10, 1]


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("chunk", [0, 2])
def test_a_dropped_chunk_equals_one_that_had_the_new_driving_from_the_start(model, anchor, waves, chunk, stage):
    def drive_otherwise(stream):
        stream.set_driving(waves(500, phase=2.0), origin=0)

    plain = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    theirs = list(itertools.islice(plain, chunk))
    drive_otherwise(plain)
    theirs += list(itertools.islice(plain, 4 - chunk))
    stream = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    pace = Watching(stream)
    pace.abandon_at, pace.before_again = (chunk, stage), lambda: drive_otherwise(stream)
    assert like(list(pipelined(stream, pace=pace)), theirs)
    assert pace.begun == sorted([0, 1, 2, 3, chunk])
    assert pace.drawn_chunks == [0, 1, 2, 3]
    assert stream.state.clock == plain.state.clock


def test_breaking_off_ends_a_pace_that_waits(model, anchor, waves):
    class Waiting(Watching):
        waits = threading.Event()

        def begin(self, closed):
            if len(self.begun) < 2:
                return super().begin(closed)
            self.waits.set()
            while not closed():
                threading.Event().wait(0.01)
            return False

    stream = open_stream(model, anchor, SETTINGS, waves(), seed=3)
    pace = Waiting(stream)
    with closing(pipelined(stream, pace=pace)) as chunks:
        assert [next(chunks).index, next(chunks).index] == [0, 1]
        assert pace.waits.wait(20)
    assert stream.plan.chunk == stream.upcoming.chunk == 2
