"""Causal initialisation: the bidirectional teacher learns to see what a chunk of the stream sees, and nothing else.

Teacher forcing: all chunks of a clip at once, each past the truth. Chunks ride in the batch, so what a chunk may attend
to is a gather of its window's keys, with a mask only where the window is not yet full; one clean pass makes the keys
of all chunks, as the stream's commits do, and the noisy passes read them. It equals the stream chunk by chunk.
Shapes: B clips, J chunks, F latent frames of a clip or chunk, R = B*J rows, M known latent frames, P tokens of a frame,
W window frames, L tokens of a pass, S keys, N heads, K head dim, C channels, H W latent size.
"""

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from torch import Tensor

from knot_core.attention_cache import Attended
from knot_core.flow import add_noise, noise_levels, to_x0
from knot_core.stream.chunk import Conditions, clean_pass
from knot_core.stream.denoise import Denoiser, Frames, capture
from knot_core.stream.plan import ChunkPlan, first_clock, plan_chunk
from knot_core.wan.rope import rotate_time

from ..data.batch import Batch, Given
from ..recipes import Recipe
from ..rng import Dice
from .losses import inpainting_loss, ode_regression_loss
from .roles import TrainedModel
from .rollout_cache import LayerKV
from .whole_clip import learnt_frames, noise_level

WITHOUT_KNOT = 0.1  # share of the steps: a knot of 0 frames is a setting, too


class ChunkCache:
    """An `AttentionCache` in which each row is a chunk: it attends to itself, the anchor where it stands for its chunk,
    and its window.

    `truth`: keys and values by layer [B, F, P, N, K] of the committed frames. Without it this is the clean pass, whose
    own keys they are; `commit` gathers them in `committed`.
    """

    def __init__(
        self, plans: Sequence[ChunkPlan], anchor: Sequence[LayerKV], truth: dict[int, LayerKV] | None = None
    ) -> None:
        self._truth, self._passed, self.committed = truth, {}, {}
        self._num_chunks, self._num_frames = len(plans), plans[0].num_frames
        length = max(len(plan.window) for plan in plans)
        at = [[*plan.window, *[0] * (length - len(plan.window))] for plan in plans]
        self._window_JW = torch.tensor(at, dtype=torch.long).view(len(plans), length)
        self._filled_JW = torch.tensor(
            [[i < len(plan.window) for i in range(length)] for plan in plans], dtype=torch.bool
        )
        self._filled_JW = self._filled_JW.view(len(plans), length)
        self._anchor = anchor

    def extend(self, layer: int, k_RLNK: Tensor, v_RLNK: Tensor) -> Attended:
        if self._truth is None:
            self._passed[layer] = self._by_frame(k_RLNK, v_RLNK)
        parts = [(k_RLNK, v_RLNK)]
        if self._anchor:
            parts.append(self._anchor[layer])
        if self._window_JW.shape[1] == 0:
            keys, values = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
            return keys, values, None
        truth = self._passed[layer] if self._truth is None else self._truth[layer]
        window = tuple(rearrange(x[:, self._window_JW], "b j w p n k -> (b j) (w p) n k") for x in truth)
        keys, values = (torch.cat(part, dim=1) for part in zip(*parts, window, strict=True))
        seen = self._filled_JW.repeat_interleave(truth[0].shape[2], dim=1).repeat(len(truth[0]), 1)
        own = torch.ones(len(seen), keys.shape[1] - seen.shape[1], dtype=torch.bool)
        return keys, values, torch.cat([own, seen], dim=1).to(keys.device)

    def commit(self, num_frames: int) -> None:
        assert num_frames == self._num_frames, "every chunk of the clean pass is committed whole"
        self.committed, self._passed = self._passed, {}

    def _by_frame(self, k_RLNK: Tensor, v_RLNK: Tensor) -> LayerKV:
        chunks, frames = self._num_chunks, self._num_frames
        return tuple(rearrange(x, "(b j) (f p) n k -> b (j f) p n k", j=chunks, f=frames) for x in (k_RLNK, v_RLNK))


class CausalPasses:
    """A clip's chunks under the stream's plan: the clean pass, then predictions past it."""

    def __init__(self, model: TrainedModel, given: Given, recipe: Recipe, past_BFCHW: Tensor) -> None:
        self._given, self._size = given, past_BFCHW.shape[-2:]
        self.denoiser = Denoiser.of(model, given.text_BTD, reference_B1CHW=given.reference_B1CHW)
        self.plans, clock = [], first_clock(recipe.stream)
        for _ in range(recipe.num_chunks):
            self.plans.append(plan_chunk(recipe.stream, clock))
            clock = self.plans[-1].next_clock
        self._anchor = capture(self.denoiser, given.reference_B1CHW) if recipe.stream.use_anchor else []
        cache = ChunkCache(self.plans, self._placed(self.plans))
        conditions = self._conditions(self.plans, self.plans[0].num_frames, None)
        clean_pass(self._of(self.plans), conditions, fold(past_BFCHW, [plan.committed for plan in self.plans]), cache)
        cache.commit(self.plans[0].num_frames)
        self._truth = cache.committed

    def velocity(
        self, plans: Sequence[ChunkPlan], x_RFCHW: Tensor, sigma_RF: Tensor, known_RMCHW: Tensor | None
    ) -> Tensor:
        """The velocity of the frames that these chunks denoise, [R, F, C, H, W]."""
        conditions = self._conditions(plans, x_RFCHW.shape[1], known_RMCHW)
        frames = Frames(
            x_BFCHW=x_RFCHW,
            sigma_BF=sigma_RF,
            known_BMCHW=known_RMCHW,
            rope=conditions.rope,
            driving=conditions.driving,
        )
        return self._of(plans).velocity(frames, ChunkCache(plans, self._placed(plans), self._truth))

    def _of(self, plans: Sequence[ChunkPlan]) -> Denoiser:
        reference = self._given.reference_B1CHW.repeat_interleave(len(plans), dim=0)
        parts = self.denoiser
        return Denoiser(model=parts.model, layout=parts.layout, context=parts.context, reference_B1CHW=reference)

    def _placed(self, plans: Sequence[ChunkPlan]) -> list[LayerKV]:
        positions = [plan.anchor_position for plan in plans] * len(self._given.reference_B1CHW)
        return [
            (rotate_time(k.repeat_interleave(len(plans), dim=0), positions), v.repeat_interleave(len(plans), dim=0))
            for k, v in self._anchor
        ]

    def _conditions(self, plans: Sequence[ChunkPlan], num_frames: int, known: Tensor | None) -> Conditions:
        ranges = [range(plan.start, plan.start + num_frames) for plan in plans]
        positions = torch.tensor([list(frames) for frames in ranges] * len(self._given.reference_B1CHW))
        signal = fold(self._given.signal_BFTS, ranges)
        return Conditions(
            knot_BMCHW=known,
            rope=self.denoiser.rope(positions, self._size),
            driving=self.denoiser.driving(signal, num_frames),
        )


def fold(x_BF: Tensor, frames: Sequence[range]) -> Tensor:
    """The frames of each chunk as a row of its own: [B, F, ...] -> [B*J, chunk's frames, ...]."""
    return x_BF[:, torch.tensor([list(chunk) for chunk in frames])].flatten(0, 1)


def causal_loss(
    model: TrainedModel, batch: Batch, recipe: Recipe, dice: Dice, path: Sequence[Tensor] | None = None
) -> dict[str, Tensor]:
    """Flow matching of all chunks of a clip, given its past with some noise added; along a `path`, regression.

    `path`: the teacher's latents, [B, F, C, H, W] each, at each of the stream's noise levels, and at its end the clip,
    which then is the truth.
    """
    truth = batch.truth_BFCHW[:, : recipe.example_frames] if path is None else path[-1]
    strength = recipe.causal.past_noise * dice.uniform(1, 1, 1, 1)
    past = truth + (strength * dice.normal(*truth.shape[1:])).to(truth)
    passes = CausalPasses(model, batch.given, recipe, past)
    noise = dice.normal(recipe.num_chunks, len(passes.plans[0].positions), *truth.shape[2:]).to(truth)
    lot = dice.uniform(recipe.num_chunks).to(truth)
    with_knot = dice.shared_uniform() >= WITHOUT_KNOT
    losses = []
    for part in (slice(0, 1), slice(1, None)):  # the first chunk has no knot
        if plans := passes.plans[part]:
            known = past if with_knot else past[:, :0]
            loss = _chunks_loss(passes, plans, truth, known, noise[:, part], lot[:, part], recipe, path)
            losses.append(loss * len(plans) / recipe.num_chunks)
    return {"loss": sum(losses), "first": losses[0].detach() * recipe.num_chunks}


def _chunks_loss(  # noqa: PLR0913, PLR0917 - a batch's parts, and what is drawn for them
    passes: CausalPasses,
    plans: Sequence[ChunkPlan],
    truth: Tensor,
    past: Tensor,
    noise_BJFCHW: Tensor,
    lot_BJ: Tensor,
    recipe: Recipe,
    path: Sequence[Tensor] | None,
) -> Tensor:
    frames, layout = [plan.positions for plan in plans], passes.denoiser.layout
    num_known = min(plans[0].num_known_frames, past.shape[1])
    known = fold(past, [chunk[:num_known] for chunk in frames]) if num_known else None
    x0, noise = fold(truth, frames), noise_BJFCHW.flatten(0, 1)
    if path is None:
        sigma = repeat(noise_level(lot_BJ, recipe.stream.shift), "b j -> (b j) f", f=x0.shape[1])
        x = add_noise(x0, noise, sigma)
    else:
        levels = noise_levels(recipe.stream)
        choice = (lot_BJ * len(levels)).long().flatten()
        sigma = repeat(torch.tensor(levels).to(x0)[choice], "r -> r f", f=x0.shape[1])
        x = torch.stack([fold(latents, frames) for latents in path[:-1]], dim=1)[torch.arange(len(choice)), choice]
    sigma = layout.frame_sigmas(sigma, num_known)
    x = layout.pin(x, known)
    velocity = passes.velocity(plans, x, sigma, known)
    if path is None:
        return inpainting_loss(velocity, x0, noise, learnt_frames(layout, sigma, num_known))
    return ode_regression_loss(to_x0(x, velocity.float(), sigma), x0)
