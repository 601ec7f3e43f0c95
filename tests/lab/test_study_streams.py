"""The study's streams are what their variants say."""

import dataclasses
from itertools import islice

import pytest
import torch

from knot_core.cache_index import CacheIndex
from knot_core.config import StreamSettings
from knot_core.errors import SettingsError
from knot_core.stream import open_stream
from knot_core.wan.layouts import get_layout
from knot_lab.study import ablations as study_streams
from knot_lab.study.variants import VARIANTS, differ

PERIOD = 12
SETTINGS = StreamSettings(steps=2)


def chunks(opened, model, anchor, settings, driving, count):
    return list(islice(opened(model, anchor, settings, driving, 7), count))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_streams(name, model, anchor, waves):
    variant = VARIANTS[name]
    found = chunks(variant.opened, model, anchor, variant.settings(SETTINGS), waves(100), 100)
    assert sum(len(chunk.pixel_frames) for chunk in found) == 100
    assert [chunk.start_frame for chunk in found] == list(range(0, 3 * len(found), 3))
    assert all(torch.isfinite(chunk.latents).all() for chunk in found)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name in differ(SETTINGS) and name != "full"])
def test_no_variant_is_the_full_stream_under_another_name(name, model, anchor, waves):
    variant = VARIANTS[name]
    full, other = (
        chunks(v.opened, model, anchor, v.settings(SETTINGS), waves(), 7) for v in (VARIANTS["full"], variant)
    )
    assert not torch.equal(full[-1].latents, other[-1].latents)


def test_what_is_the_models_own_setting_is_no_other_variant():
    assert {"k1", "s4", "window6"}.isdisjoint(differ(StreamSettings()))
    assert {"s4", "window6"} <= set(differ(StreamSettings(run_ahead_stride=2, num_window_frames=9)))
    assert "window9" not in differ(StreamSettings(num_window_frames=9))


@pytest.mark.parametrize(("chunk_frames", "overlap", "capacity"), [(3, 1, 4), (3, 2, 3), (2, 1, 3), (4, 1, 7)])
def test_a_window_without_overlaps_holds_the_last_frames_that_are_none(chunk_frames, overlap, capacity):
    index = study_streams.WithoutOverlap(capacity=capacity, num_chunk_frames=chunk_frames, num_overlap_frames=overlap)
    slots = {}
    for _ in range(9):
        for run in index.runs(chunk_frames):
            slots |= {run.slot + i: index.num_committed + run.source + i for i in range(run.length)}
        index = index.advance(chunk_frames)
        inner = [frame for frame in range(index.num_committed) if frame % chunk_frames >= overlap]
        assert sorted(index.frames()) == inner[-capacity:]
        assert [slots[slot] for slot in range(index.num_valid)] == list(index.frames())


def test_without_overlaps_the_cache_holds_the_same_keys_of_the_other_frames(model, anchor, waves):
    variant = VARIANTS["nooverlap"]
    inner = variant.opened(model, anchor, variant.settings(SETTINGS), waves(), 7)
    full = open_stream(model, anchor, SETTINGS, waves(), 7)
    assert torch.equal(next(inner).latents, next(full).latents)  # neither has a past yet
    tokens = full._cache.shape.num_tokens
    for layer in range(model.config.num_layers):
        assert torch.equal(inner._cache.window(layer), full._cache.window(layer)[:, :, tokens : 3 * tokens])
    assert isinstance(inner._cache.index, CacheIndex)


def test_a_knot_pinned_in_x_is_settled_as_it_was_drawn(model, anchor, waves):
    opened = VARIANTS["knotinx"].opened
    half, none = (
        chunks(opened, model, anchor, dataclasses.replace(SETTINGS, fusion=weight), waves(), 3) for weight in (0.5, 0)
    )
    full = chunks(study_streams.as_set, model, anchor, SETTINGS, waves(), 3)
    assert torch.equal(half[0].latents, full[0].latents)
    assert torch.allclose(half[2].latents, none[2].latents, atol=1e-6)  # mixed with itself
    assert not torch.allclose(half[2].latents, full[2].latents, atol=1e-3)


def test_a_knot_in_x_alone_enters_as_in_networks_without_condition_channels(x_and_knot):
    (x, sigma), knot = x_and_knot
    ours, plain = study_streams.KnotInXAlone("inpaint36"), get_layout("t2v16")
    pinned = ours.pin(x, knot)
    assert torch.equal(pinned, plain.pin(x, knot))
    assert torch.equal(ours.frame_sigmas(sigma, 1), plain.frame_sigmas(sigma, 1))
    assert torch.equal(ours.channels(pinned, knot)[:, :, :16], plain.channels(pinned, knot))
    assert not ours.channels(pinned, knot)[:, :, 16:].any()


@pytest.fixture
def x_and_knot():
    rng = torch.Generator().manual_seed(0)
    return (torch.randn(1, 4, 16, 4, 4, generator=rng), torch.full((1, 4), 0.8)), torch.ones(1, 1, 16, 4, 4)


def test_what_is_not_usual_is_only_streamed_where_it_is_named():
    assert "knotclean" not in differ(SETTINGS)
    assert VARIANTS["knotclean"].settings(SETTINGS) == SETTINGS


@pytest.mark.parametrize("name", ["knotinx", "knotclean"])
def test_other_layouts_have_the_knot_in_x_as_it_is(make_model, waves, name):
    other = make_model("t2v16")
    with pytest.raises(SettingsError, match=name):
        VARIANTS[name].opened(other, other.anchor(), SETTINGS, waves(), 7)


def test_an_anchor_left_behind_stands_where_it_first_stood(model, anchor, waves):
    variant = VARIANTS["norunahead"]
    stream = variant.opened(model, anchor, variant.settings(SETTINGS), waves(), 7)
    positions = [stream.plan.anchor_position for _ in zip(range(5), stream, strict=False)]
    assert set(positions) == {SETTINGS.run_ahead_start}
    first = next(open_stream(model, anchor, SETTINGS, waves(), 7))
    assert torch.equal(
        next(variant.opened(model, anchor, variant.settings(SETTINGS), waves(), 7)).latents, first.latents
    )


def test_a_reference_before_the_sinks_keeps_its_distance(model, anchor, waves):
    variant = VARIANTS["longlive"]
    stream = variant.opened(model, anchor, variant.settings(SETTINGS), waves(), 7)
    gaps = []
    for _ in range(6):
        gaps.append(stream.plan.start - stream.plan.anchor_position)
        next(stream)
    assert gaps == [1, 4, 7, 10, 10, 10]


@dataclasses.dataclass(frozen=True)
class ChangesAt:
    """Two drivings, one after the other."""

    before: object
    after: object
    frame: int
    num_pixel_frames: int | None = None

    def signal(self, first_latent, num_latents):
        before, after = (part.signal(first_latent, num_latents) for part in (self.before, self.after))
        frames = torch.arange(first_latent, first_latent + num_latents)
        return torch.where(frames[:, None, None] < self.frame, before, after)


def test_a_restart_forgets_all_but_the_decoders_memory(model, anchor, waves):
    variant, cut = VARIANTS["selfforcing"], 3 * study_streams.RESTART_CHUNKS
    settings = variant.settings(SETTINGS)
    ours, theirs = (
        chunks(variant.opened, model, anchor, settings, ChangesAt(waves(phase=phase), waves(), cut), 8)
        for phase in (0.0, 1.0)
    )
    restart = study_streams.RESTART_CHUNKS
    assert not torch.equal(ours[restart - 1].latents, theirs[restart - 1].latents)
    assert torch.equal(ours[restart].latents, theirs[restart].latents)
    assert len(ours[restart].pixel_frames) == PERIOD  # it goes on; a new stream's first chunk has 9
    assert settings.num_window_frames == cut
