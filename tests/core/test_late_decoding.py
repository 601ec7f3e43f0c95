"""Chunks whose frames come late are the stream's chunks; the stream may be changed, saved and taken back as ever."""

import itertools
import threading
from dataclasses import replace

import pytest
import torch

from knot_core.config import StreamSettings
from knot_core.stream import LateDecoder, open_stream, resume_stream

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
ROUNDING = 1  # of 255: latent frames that are decoded one by one


def like(late, chunks):
    """The latents bit for bit, the pictures but for rounding."""
    assert [chunk.index for chunk in late] == [chunk.index for chunk in chunks]
    for mine, theirs in zip(late, chunks, strict=True):
        assert (mine.start_frame, mine.first_pixel_frame) == (theirs.start_frame, theirs.first_pixel_frame)
        assert torch.equal(mine.latents, theirs.latents)
        frames = torch.cat(list(mine.frames))
        assert len(frames) == mine.num_pixel_frames == len(theirs.pixel_frames)
        assert (frames.int() - theirs.pixel_frames.int()).abs().max() <= ROUNDING
    return True


def take(decoder, count):
    return [decoder.next_chunk() for _ in range(count)]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def decode_behind_a_gate(model):
    """The event that the model's codec waits for before it decodes anything."""
    gate, decode = threading.Event(), model.codec.decode

    def behind(*arguments):
        assert gate.wait(30)
        return decode(*arguments)

    model.codec.decode = behind
    return gate


def test_the_chunks_are_those_of_the_stream(model, anchor, waves):
    theirs = list(open_stream(model, anchor, SETTINGS, waves(42), seed=3))
    with LateDecoder(open_stream(model, anchor, SETTINGS, waves(42), seed=3)) as decoder:
        mine = list(iter(decoder.next_chunk, None))
        assert like(mine, theirs)
        pieces = [len(frames) for chunk in mine for frames in chunk.frames]  # they may be gone through again
    assert pieces == [1, *[4] * 10, 1]
    assert set(mine[0].seconds) == {"denoise", "commit"}
    assert all(chunk.frames.seconds > 0 for chunk in mine)


def test_it_draws_on_while_frames_are_decoded(make_model, waves):
    model = make_model()
    anchor, gate = model.anchor(), decode_behind_a_gate(model)
    with LateDecoder(open_stream(model, anchor, SETTINGS, waves(), seed=3)) as decoder:
        mine = take(decoder, 3)  # which were drawn without a frame decoded
        assert [chunk.index for chunk in mine] == [0, 1, 2]
        gate.set()
        assert [len(torch.cat(list(chunk.frames))) for chunk in mine] == [9, 12, 12]


def test_a_state_waits_for_what_the_decoder_remembers(model, anchor, waves, tmp_path):
    with LateDecoder(stream := open_stream(model, anchor, SETTINGS, waves(), seed=3)) as decoder:
        take(decoder, 2)
        stream.save(tmp_path / "state.safetensors")
        mine = take(decoder, 2)
    again = resume_stream(model, tmp_path / "state.safetensors", waves())
    assert like(mine, list(itertools.islice(again, 2)))


def test_taken_back_it_draws_the_same_again(model, anchor, waves):
    with LateDecoder(stream := open_stream(model, anchor, SETTINGS, waves(), seed=3)) as decoder:
        stream.keep(2)
        first = take(decoder, 3)
        for chunk in first[1:]:
            chunk.frames.cancel()
        stream.take_back(2)
        again = take(decoder, 2)
        theirs = list(itertools.islice(open_stream(model, anchor, SETTINGS, waves(), seed=3), 3))
        assert like([first[0], *again], theirs)
        assert sum(map(len, first[2].frames)) < first[2].num_pixel_frames  # it ends


def test_of_cancelled_frames_the_first_may_be_wanted_all_the_same(make_model, waves):
    model = make_model()
    anchor, gate = model.anchor(), decode_behind_a_gate(model)
    with LateDecoder(open_stream(model, anchor, SETTINGS, waves(), seed=3)) as decoder:
        (chunk,) = take(decoder, 1)
        chunk.frames.cancel(3)  # of pieces of 1, 4 and 4
        gate.set()
        frames = torch.cat(list(chunk.frames))
    theirs = next(open_stream(model, anchor, SETTINGS, waves(), seed=3))
    assert 3 <= len(frames) < 9
    assert (frames.int() - theirs.pixel_frames[: len(frames)].int()).abs().max() <= ROUNDING


def test_a_chunk_that_is_broken_off_is_drawn_again(model, anchor, waves):
    asked = itertools.count(1)
    breaks_off = {2, 7, 12}  # a chunk asks four times: two steps, decoding, commit
    stream = open_stream(model, anchor, SETTINGS, waves(42), seed=3, should_stop=lambda: next(asked) in breaks_off)
    with LateDecoder(stream) as decoder:
        found = take(decoder, 6)
        assert found.count(None) == 3
        theirs = list(itertools.islice(open_stream(model, anchor, SETTINGS, waves(42), seed=3), 3))
        assert like([chunk for chunk in found if chunk is not None], theirs)


def test_what_the_decoder_raises_is_raised_where_frames_are_wanted_and_at_the_next_chunk(make_model, waves):
    model = make_model()
    stream = open_stream(model, model.anchor(), SETTINGS, waves(), seed=3)

    def broken(*_):
        raise RuntimeError("out of memory")

    model.codec.decode = broken
    with LateDecoder(stream) as decoder:
        chunk = decoder.next_chunk()
        with pytest.raises(RuntimeError, match="out of memory"):
            list(chunk.frames)
        with pytest.raises(RuntimeError, match="out of memory"):
            decoder.next_chunk()
        with pytest.raises(RuntimeError, match="out of memory"):
            list(stream.snapshot().state.decoder_memory)


def test_changed_while_it_runs_it_is_the_changed_stream(model, anchor, waves):
    """Also where the decoder begins anew, and where that is taken back."""
    other, shorter = model.anchor(seed=8), replace(SETTINGS, num_chunk_frames=1)
    stream, plain = (open_stream(model, anchor, SETTINGS, waves(), seed=3) for _ in range(2))
    with LateDecoder(stream) as decoder:
        late, chunks = take(decoder, 2), list(itertools.islice(plain, 2))
        for one in (stream, plain):
            one.keep(4)
            one.set_anchor(other, cut=True)
        late, chunks = late + take(decoder, 2), chunks + list(itertools.islice(plain, 2))
        assert like(late, chunks)
        for one in (stream, plain):
            one.set_settings(shorter)
            one.take_back(2)
        assert like(take(decoder, 4), list(itertools.islice(plain, 4)))
