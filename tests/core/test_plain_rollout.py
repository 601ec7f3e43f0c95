"""A stream equals a plain rollout: the same passes over every frame's keys and values in a dict, where nothing wraps,
rolls or is overwritten. So for each family's own settings, until its window is overwritten for the second time.
"""

import itertools
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from knot_core.cache import Attended
from knot_core.config import StreamSettings
from knot_core.geometry import num_tokens
from knot_core.stream import Anchor, encode_latent_anchor, open_stream
from knot_core.stream.chunk import Conditions, clean_pass, commit_chunk, generate_chunk
from knot_core.stream.denoise import Denoiser
from knot_core.stream.plan import ChunkPlan, first_clock, plan_chunk
from knot_core.wan.families import ROWS
from knot_core.wan.preset import plain
from knot_core.wan.rope import rotate_time

TOLERANCE = 1e-12  # in float64: another order of the sums
TEXT = 6, 20  # tokens, width
FADING = [row.family for row in ROWS if row.settings.sink_decay < 1]  # brute force has them, in test_reference.py


@dataclass
class Frames:
    """An `AttentionCache` of frames by number, each as layers of (keys, values) [B, L, N, K]."""

    num_tokens: int
    anchor: list = field(default_factory=list)  # layers
    held: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)  # (number, how far it is moved in time)
    passed: dict = field(default_factory=dict)  # layer -> the last pass

    def extend(self, layer: int, k_BLNK: Tensor, v_BLNK: Tensor) -> Attended:
        self.passed[layer] = k_BLNK, v_BLNK
        parts = [(k_BLNK, v_BLNK), *self.anchor[layer : layer + 1]]
        for number, moved in self.seen:
            keys, values = self.held[number][layer]
            parts.append((rotate_time(keys, moved), values))
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1), None

    def keep(self, frames: range) -> None:
        """The first frames of the last pass, by these numbers."""
        for place, number in enumerate(frames):
            tokens = slice(place * self.num_tokens, (place + 1) * self.num_tokens)
            self.held[number] = [(k[:, tokens], v[:, tokens]) for _, (k, v) in sorted(self.passed.items())]


@dataclass
class Rollout:
    """A stream's chunks, with nothing of its sampler, cache and committing."""

    model: object
    anchor: Anchor
    settings: StreamSettings
    driving: object

    def __post_init__(self) -> None:
        self.cache = Frames(num_tokens(*self.anchor.latent_size))
        self.latents = self.anchor.reference_BFCHW[:, :0]
        self.knot = self.anchor.reference_BFCHW if self.settings.start_from_reference else None
        self.clock, self.rng = first_clock(self.settings), torch.Generator().manual_seed(3)
        self.sinks: tuple[int, ...] = ()  # frames that a recache has put in their place
        self.speak(self.anchor.conditioning.text_BTD)

    def speak(self, text_BTD: Tensor) -> None:
        self.denoiser = Denoiser.of(self.model, text_BTD, reference_B1CHW=self.anchor.reference_BFCHW)

    def conditions(self, frames: range, known: Tensor | None = None) -> Conditions:
        signal, grey = self.driving.signal(frames.start, len(frames))[None], self.anchor.grey_BGCHW
        behind = [frame - 1 if self.settings.start_from_reference else 10**9 for frame in frames]
        unknown = None if grey is None else torch.stack(
            [grey[:, min(max(number, 0), grey.shape[1] - 1)] for number in behind], dim=1
        )  # fmt: skip
        driving = self.denoiser.driving(signal.double(), len(frames), starts=frames.start == 0)
        rope = self.denoiser.rope(frames, self.anchor.latent_size)
        return Conditions(knot_BMCHW=known, rope=rope, driving=driving, unknown_BFCHW=unknown)

    def look(self, plan: ChunkPlan) -> None:
        """Let the chunk see what it may."""
        settings = self.settings
        if settings.use_anchor:
            self.cache.anchor = list(self.anchor.at(plan.anchor_position))
        follow = max(0, plan.window.start - settings.num_sink_frames) if settings.rope_positions == "window" else 0
        sinks = self.sinks or plan.sinks
        self.cache.seen = [(number, follow) for number in sinks] + [(number, 0) for number in plan.window]

    def next(self) -> Tensor:
        """The settled latents of a chunk."""
        plan = plan_chunk(self.settings, self.clock)
        self.look(plan)
        shape = plan.num_noises, 1, len(plan.positions), *self.latents.shape[2:]
        noise = torch.randn(shape, generator=self.rng).double()
        conditions = self.conditions(plan.positions, self.knot)
        x0 = generate_chunk(self.denoiser, conditions, plan, noise, self.cache, self.before_step(plan))
        self.latents = torch.cat([self.latents, x0[:, : plan.num_frames]], dim=1)
        self.commit(plan, conditions, x0)
        self.knot = x0[:, plan.num_frames :] if plan.num_knot_frames else None
        self.clock = plan.next_clock
        return x0[0, : plan.num_frames]

    def before_step(self, plan: ChunkPlan):  # noqa: ARG002
        return lambda _step: None

    def commit(self, plan: ChunkPlan, conditions: Conditions, x0: Tensor) -> None:
        if self.settings.commit == "clean":
            commit_chunk(self.denoiser, conditions, plan, x0, self.cache)
        if self.settings.commit != "recompute":
            self.cache.keep(plan.committed)
            return
        self.cache.seen, stop = [], plan.committed.stop
        first = max(0, stop - self.settings.num_window_frames)
        for start in range(first, stop, plan.num_frames):
            frames = range(start, min(start + plan.num_frames, stop))
            clean_pass(self.denoiser, self.conditions(frames), self.latents[:, frames.start : frames.stop], self.cache)
            self.cache.keep(frames)
            self.cache.seen += [(number, 0) for number in frames]

    def recache(self, text_BTD: Tensor, *, keep_sinks: bool) -> None:
        """LongLive's: the newest frames in one pass that sees itself, and the sinks if they stay."""
        self.speak(text_BTD)
        settings, stop = self.settings, self.latents.shape[1]
        plan = plan_chunk(settings, self.clock)
        self.look(plan)
        first = max(0, stop - settings.num_sink_frames - settings.num_window_frames - settings.num_chunk_frames)
        if first and keep_sinks:
            first += settings.num_sink_frames
            self.cache.seen = [(number, 0) for number in plan.sinks]
        else:
            self.cache.seen = []
            self.sinks = tuple(range(first, first + settings.num_sink_frames)) if first else ()
        frames = range(first, stop)
        clean_pass(self.denoiser, self.conditions(frames), self.latents[:, first:stop], self.cache)
        self.cache.keep(frames)


class InPlace(Rollout):
    """StreamDiffusionV2's ring as its own code has it: a queue of places; a full one moves on after a chunk's first
    pass, and the pass before stays where it was written.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        chunk = self.settings.num_chunk_frames
        self.slots = (self.settings.num_sink_frames + self.settings.num_ring_frames) // chunk
        self.queue = list(range(self.settings.num_sink_frames // chunk, self.slots))
        self.full, self.target = False, 0

    def before_step(self, plan: ChunkPlan):
        def choose(step: int) -> None:
            if plan.chunk > 0 or step > 0:
                self.cache.keep(self.frames_at(self.target))  # what the pass before wrote
            if plan.chunk < self.slots and not (self.full or (plan.chunk == self.slots - 1 and step > 0)):
                self.target = plan.chunk
            else:
                self.full = True
                self.target = self.queue[0]
                if step == 0:
                    self.queue.append(self.queue.pop(0))
            others = [slot for slot in range(min(plan.chunk + 1, self.slots)) if slot != self.target]
            self.cache.seen = [(number, 0) for slot in others for number in self.frames_at(slot)]

        return choose

    def frames_at(self, slot: int) -> range:
        chunk = self.settings.num_chunk_frames
        return range(slot * chunk, (slot + 1) * chunk)

    def commit(self, plan: ChunkPlan, conditions: Conditions, x0: Tensor) -> None:
        pass  # the next pass keeps it


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(make_model, size=(2, 2), layout="t2v16", **changes):
    """A tiny model of these properties, and an anchor of that latent size."""
    model = make_model(layout, dtype=torch.float64, **changes)
    grey = drawn(1, 5, 16, *size, seed=4) if model.config.unknown_frames == "grey" else None
    return model, encode_latent_anchor(model, drawn(1, 1, 16, *size, seed=1), drawn(1, *TEXT, seed=2), grey_BGCHW=grey)


def differ(stream, rollout, num_chunks: int) -> float:
    got = torch.cat([chunk.latents for chunk in itertools.islice(stream, num_chunks)])
    want = torch.cat([rollout.next() for _ in range(num_chunks)])
    assert want.abs().max() < 1e3, "the random network blows up; the comparison would say nothing"
    return ((got - want).abs().max() / want.abs().max()).item()


@torch.no_grad()
def error(model, anchor, settings, driving, num_chunks: int) -> float:
    rollout = (InPlace if settings.commit == "in_place" else Rollout)(model, anchor, settings, driving)
    return differ(open_stream(model, anchor, settings, driving, seed=3), rollout, num_chunks)


def short(settings: StreamSettings) -> StreamSettings:
    """With few steps, and one pass a step."""
    fed = (1000, 500, 0) if 0 in settings.timesteps else (1000, 400)
    one = {"sampler": "renoise", "text_guidance": 1.0, "sound_guidance": 1.0}
    return replace(settings, timesteps=fed, first_timesteps=settings.first_timesteps[:3], **one)


@pytest.mark.parametrize("bare", [False, True], ids=["knot and anchor", "plain"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.family not in FADING], ids=lambda row: row.family)
def test_every_family_s_window_rolls_as_one_that_forgets_nothing(make_model, waves, row, bare):
    own = {"timestep_dtype": row.timestep_dtype}
    if row.layout == "inpaint36":
        own |= {"unknown_frames": row.unknown_frames, "known_in_x": row.known_in_x}
    model, anchor = made(make_model, layout=row.layout, **own)
    settings = short(plain(row.settings) if bare else row.settings)
    twice = settings.num_sink_frames + 2 * settings.num_ring_frames
    assert error(model, anchor, settings, waves(), twice // settings.num_chunk_frames + 3) < TOLERANCE


@pytest.mark.parametrize("size", [(2, 10), (6, 4), (14, 2)], ids=str)
@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
def test_so_does_every_latent_size(make_model, waves, layout, size):
    model, anchor = made(make_model, size, layout)
    settings = StreamSettings(steps=2, num_window_frames=4, start_from_reference=layout == "ref33")
    assert error(model, anchor, settings, waves(), 6) < TOLERANCE


@pytest.mark.parametrize("commit", ["none", "recompute"])
@pytest.mark.parametrize("window", [3, 5, 6])
def test_so_does_every_way_of_committing(make_model, waves, commit, window):
    model, anchor = made(make_model)
    settings = StreamSettings(steps=2, num_window_frames=window, commit=commit)
    assert error(model, anchor, settings, waves(), 9) < TOLERANCE


@pytest.mark.parametrize("keep_sinks", [True, False])
@pytest.mark.parametrize("after", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("sinks", [0, 3])
@torch.no_grad()
def test_a_recache_is_one_pass_over_the_newest_frames(make_model, waves, sinks, after, keep_sinks):
    """As long as these reach back to the beginning, sinks are computed with them."""
    model, anchor = made(make_model, adapter=None)
    settings = StreamSettings(steps=2, num_window_frames=6, num_sink_frames=sinks)
    stream, rollout = open_stream(model, anchor, settings, waves(), seed=3), Rollout(model, anchor, settings, waves())
    assert differ(stream, rollout, after) < TOLERANCE
    other = drawn(1, *TEXT, seed=9)
    stream.set_text(other, recache=True, keep_sinks=keep_sinks)
    rollout.recache(other, keep_sinks=keep_sinks)
    assert differ(stream, rollout, 4) < TOLERANCE
