"""Ways in which a chunk comes into the window, and a window that is computed again: wholly, or not at all."""

import itertools
import time
from contextlib import closing

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from knot_core import SettingsError, pipelined
from knot_core.cache_index import Place
from knot_core.config import StreamSettings
from knot_core.stream import open_stream, resume_stream
from knot_core.stream.committing import kept_latents
from knot_core.stream.plan import place_in_ring

COMMITS = {
    "none": StreamSettings(steps=2, num_window_frames=4, commit="none"),
    "none, with sinks": StreamSettings(steps=2, num_window_frames=4, num_sink_frames=2, commit="none"),
    "in place": StreamSettings(steps=3, num_window_frames=3, num_sink_frames=3, commit="in_place"),
    "in place, no knot": StreamSettings(
        steps=2, num_chunk_frames=1, num_knot_frames=0, num_window_frames=2, num_sink_frames=2, commit="in_place"
    ),
    "in place, one step": StreamSettings(steps=1, num_window_frames=0, num_sink_frames=3, commit="in_place"),
    "computed anew": StreamSettings(steps=2, num_window_frames=3, commit="recompute"),
    "computed anew, uneven": StreamSettings(
        steps=1, num_window_frames=5, commit="recompute", start_from_reference=True
    ),
}
OF_TEXT = {"layout": "t2v16", "adapter": None}


def take(chunks, count):
    return [chunk.latents for chunk in itertools.islice(chunks, count)]


def take_ahead(stream, count):
    with closing(pipelined(stream)) as chunks:
        return take(chunks, count)


def equal(mine, theirs):
    return all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


@pytest.fixture(params=COMMITS)
def settings(request):
    return COMMITS[request.param]


def test_places_in_the_ring_are_those_of_streamdiffusionv2():
    """One frame at a time, 3 sinks and a cache of 6: from the sixth chunk's second step on, over the oldest."""
    settings = StreamSettings(
        num_chunk_frames=1, num_knot_frames=0, num_sink_frames=3, num_window_frames=2, commit="in_place"
    )
    slots = [[place_in_ring(settings, chunk, step).slot for step in range(4)] for chunk in range(9)]
    assert slots[:5] == [[chunk] * 4 for chunk in range(5)]
    assert slots[5:] == [[5, 3, 3, 3], [3, 4, 4, 4], [4, 5, 5, 5], [5, 3, 3, 3]]
    assert place_in_ring(settings, 2, 0) == Place(2, 1, 3)
    assert place_in_ring(settings, 99, 0).num_valid == 6


def test_drawn_ahead_it_is_the_same_stream(model, anchor, waves, settings):
    plain = open_stream(model, anchor, settings, waves(), seed=3)
    ahead = open_stream(model, anchor, settings, waves(), seed=3)
    theirs = take(plain, 7)
    assert equal(take_ahead(ahead, 4) + take(ahead, 1) + take_ahead(ahead, 2), theirs)


def test_a_state_goes_on_bit_for_bit(model, anchor, waves, settings, tmp_path):
    stream = open_stream(model, anchor, settings, waves(), seed=3)
    before = take(stream, 5)
    stream.save(tmp_path / "state")
    assert equal(take(resume_stream(model, tmp_path / "state", waves()), 4), take(stream, 4))
    assert not torch.equal(before[3], before[4])


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_stopped_chunk_leaves_no_trace(model, anchor, waves, settings, chunk):
    whole = take(open_stream(model, anchor, settings, waves()), chunk + 3)
    stages = iter(range(10**6))
    stops = {"at": None}
    stream = open_stream(model, anchor, settings, waves(), should_stop=lambda: next(stages) == stops["at"])
    assert equal(take(stream, chunk), whole[:chunk])
    stages, stops["at"] = iter(range(10**6)), 2  # after a step or before decoding
    assert take(stream, 1) == []
    stops["at"] = None
    assert equal(take(stream, 3), whole[chunk:])


def test_states_saved_while_chunks_are_drawn_ahead_are_those_of_the_last_given(
    model, anchor, waves, settings, tmp_path
):
    whole = take(open_stream(model, anchor, settings, waves()), 8)
    ahead = open_stream(model, anchor, settings, waves())
    with closing(pipelined(ahead)) as chunks:
        for chunk in chunks:
            time.sleep(0.02)
            ahead.save(tmp_path / f"{chunk.index}")
            if chunk.index == 4:
                break
    for number in (0, 2, 4):
        resumed = resume_stream(model, tmp_path / f"{number}", waves())
        assert equal(take(resumed, 3), whole[number + 1 : number + 4])


def test_every_way_of_committing_is_another_stream(model, anchor, waves):
    base = {"steps": 2, "num_window_frames": 3, "num_sink_frames": 0}
    found = [take(open_stream(model, anchor, StreamSettings(**base, commit=kind), waves()), 3)[2]
             for kind in ("clean", "none", "recompute")]  # fmt: skip
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(found, 2))


# A prompt that takes hold at once


def texts(count=2):
    return [torch.randn(1, 6, 20, generator=torch.Generator().manual_seed(number)) for number in range(count)]


def prompted(make_model, waves, settings, texts_BTD):
    model = make_model(**OF_TEXT)
    return open_stream(model, model.anchor(text=texts_BTD), settings, waves())


WINDOWS = {
    "window": StreamSettings(steps=1, num_window_frames=4),
    "sinks": StreamSettings(steps=1, num_window_frames=3, num_sink_frames=3),
    "sinks that follow": StreamSettings(steps=1, num_window_frames=3, num_sink_frames=2, rope_positions="window"),
    "sinks that fade": StreamSettings(
        steps=1, num_window_frames=3, num_sink_frames=2, rope_positions="window", sink_decay=0.9
    ),
    "computed anew": StreamSettings(steps=1, num_window_frames=3, commit="recompute"),
}


@pytest.mark.parametrize("keep_sinks", [True, False])
@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_recache_changes_the_next_chunk_and_can_be_repeated(make_model, waves, name, after, keep_sinks):
    first, second = texts()
    found = []
    for recaches in ([], [1], [1, 1]):
        stream = prompted(make_model, waves, WINDOWS[name], first)
        take(stream, after)
        stream.set_text(second)
        for _ in recaches:
            stream.set_text(second, recache=True, keep_sinks=keep_sinks)
        found.append(take(stream, 1)[0])
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[0], found[1]) == (after == 0), "there is nothing to compute again before the first chunk"


def test_with_one_layer_and_its_own_prompt_a_recache_of_a_window_computes_what_stands_there(make_model, waves):
    """Keys of a first layer do not depend on what is attended to, so they come out as they were."""
    model = make_model(**OF_TEXT, num_layers=1)
    text = texts()[0]
    for name in ("window", "sinks", "sinks that follow"):
        streams = [open_stream(model, model.anchor(text=text), WINDOWS[name], waves()) for _ in range(2)]
        for stream in streams:
            take(stream, 6)
        streams[1].set_text(text, recache=True)
        one, other = (take(stream, 2) for stream in streams)
        assert all(torch.allclose(mine, theirs, atol=1e-5) for mine, theirs in zip(one, other, strict=True)), name


@pytest.mark.parametrize("name", WINDOWS)
def test_a_recache_that_is_asked_for_outlives_a_state_a_fork_and_chunks_drawn_ahead(make_model, waves, name, tmp_path):
    model, (first, second) = make_model(**OF_TEXT), texts()
    stream = open_stream(model, model.anchor(text=first), WINDOWS[name], waves())
    take(stream, 5)
    stream.set_text(second, recache=True)
    stream.save(tmp_path / "state")
    twins = [resume_stream(model, tmp_path / "state", waves()), stream.fork()]
    ahead = stream.fork()
    whole = take(stream, 4)
    assert all(equal(take(twin, 4), whole) for twin in twins)
    assert equal(take_ahead(ahead, 2) + take(ahead, 2), whole)


def test_a_stop_after_a_recache_asks_for_it_again(make_model, waves):
    model, (first, second) = make_model(**OF_TEXT), texts()
    stops = {"now": False}
    stream = open_stream(model, model.anchor(text=first), WINDOWS["sinks"], waves(), should_stop=lambda: stops["now"])
    take(stream, 5)
    stream.set_text(second, recache=True)
    whole, stops["now"] = take(stream.fork(), 0), True
    assert take(stream, 1) == whole == []
    stops["now"] = False
    twin = stream.fork()
    assert equal(take(stream, 2), take(twin, 2))


def test_a_state_that_is_saved_just_before_the_window_is_computed_again_asks_for_it(make_model, waves, tmp_path):
    model, (first, second), path = make_model(**OF_TEXT), texts(), tmp_path / "state"
    asked = []

    class Saving(waves):
        def signal(self, first_latent, num_latents):  # first of all, of the frames that are computed again
            if asked and not path.exists():
                stream.save(path)
            return super().signal(first_latent, num_latents)

    stream = open_stream(model, model.anchor(text=first), WINDOWS["window"], Saving())
    take(stream, 5)
    stream.set_text(second, recache=True)
    asked.append(second)
    whole = take(stream, 2)
    assert equal(take(resume_stream(model, path, waves()), 2), whole)


def test_what_cannot_be_computed_again_is_refused(make_model, waves, tmp_path):
    model, (first, second) = make_model(**OF_TEXT), texts()
    stream = open_stream(model, model.anchor(text=first), COMMITS["in place"], waves())
    take(stream, 1)
    with pytest.raises(SettingsError, match=r"commit is in_place.*without recache"):
        stream.set_text(second, recache=True)
    stream = open_stream(model, model.anchor(text=first), WINDOWS["window"], waves())
    take(stream, 3)
    stream.save(tmp_path / "new")
    with safe_open(tmp_path / "new", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != "recent"}  # noqa: SIM118
        metadata = file.metadata()
    metadata["header"] = metadata["header"].replace('"sha256"', '"was"')
    save_file(tensors, tmp_path / "old", metadata=metadata)
    resumed = resume_stream(model, tmp_path / "old", waves())
    with pytest.raises(SettingsError, match=r"last 7 latent frames.*0 are kept"):
        resumed.set_text(second, recache=True)
    resumed.set_text(second)
    take(resumed, 3)
    resumed.set_text(first, recache=True)
    assert len(take(resumed, 1)) == 1


@pytest.mark.parametrize("recent", [None, torch.zeros(1, 3, 16, 2, 2)])
def test_kept_latents_hold_no_memory_but_their_own(recent):
    """A view would hold the whole chunk, and change with what the stream's user does to it."""
    kept = kept_latents(2, recent, torch.ones(1, 3, 16, 2, 2))
    assert torch.equal(kept, torch.ones(1, 2, 16, 2, 2))
    assert kept.untyped_storage().nbytes() == kept.nbytes
