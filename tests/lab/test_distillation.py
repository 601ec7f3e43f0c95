"""From teacher to student: what is trained is what streams, and gradients go where they should."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from knot_core.attention_cache import NoCache
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.flow import add_noise, to_velocity
from knot_core.stream import encode_latent_anchor, open_stream
from knot_core.stream.chunk import commit_chunk, generate_chunk
from knot_core.stream.denoise import Denoiser
from knot_core.stream.plan import first_clock, plan_chunk
from knot_lab.data.batch import FULL_SIGNAL, Batch, Given, drop_driving
from knot_lab.parallel import Team
from knot_lab.recipes import Recipe
from knot_lab.rng import Dice
from knot_lab.stage_recipes import CausalRecipe, DistillRecipe, StageRecipe
from knot_lab.training import causal, losses, stages
from knot_lab.training.roles import TrainedModel, new_network, pretrained_network
from knot_lab.training.rollout_cache import RolloutCache
from knot_lab.training.self_forcing import Length, played_frames, roll_out
from knot_lab.training.stage import run_step
from knot_lab.training.whole_clip import clip_velocity, teacher_path

ADAPTER = AdapterConfig(hidden_dim=8, blocks=(0, 1))
NETWORK = NetworkConfig(
    dim=48, ffn_dim=64, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=ADAPTER,
)  # fmt: skip
STEPS = {"steps": 4, "lr": 1e-3, "warmup": 1}
RECIPE = Recipe(
    name="test",
    network=NETWORK,
    stream=StreamSettings(num_chunk_frames=2, num_window_frames=3, run_ahead_start=4, steps=3),
    teacher=StageRecipe(**STEPS),
    causal=CausalRecipe(**STEPS, past_noise=0.0, ode_steps=3),
    distill=DistillRecipe(**STEPS, critic_lr=1e-3, critic_updates=1, most_lead=1),
    height=32, width=32, clip_frames=6, batch=2, micro_batch=2, precision="float32",
)  # fmt: skip


def _model(randomised, config: NetworkConfig = NETWORK) -> TrainedModel:
    network = randomised(new_network(config, 0), 3)
    return TrainedModel(network, config, torch.device("cpu"), torch.float32)


def _batch(dice: Dice, frames: int = RECIPE.example_frames) -> Batch:
    latents = dice.normal(frames, 16, 4, 4)
    given = Given(
        reference_B1CHW=dice.normal(1, 16, 4, 4),
        reference_position_B=torch.full((len(latents),), frames + 1),
        signal_BFTS=dice.normal(frames, 4, FULL_SIGNAL),
        text_BTD=torch.zeros(1, 1, NETWORK.text_dim),
    )
    return Batch(truth_BFCHW=latents, given=given)


@pytest.fixture
def stage(randomised):
    """The last stage, with weights of which none is zero."""
    built = stages.build_stage("distill", RECIPE, Team(), {})
    for seed, role in enumerate(("teacher", "critic", "student")):
        randomised(built.roles[role].network, seed)
    return built


# --- equations


def test_matching_distributions_leave_nothing_to_change():
    x0, seen = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(losses.dmd_gradient(x0, seen, seen), torch.zeros(2, 3, 4))


def test_the_surrogate_has_the_gradient_of_distribution_matching():
    x0 = torch.randn(2, 3, 4, requires_grad=True)
    critic, teacher = torch.randn(2, 2, 3, 4).unbind()
    gradient = losses.dmd_gradient(x0, critic, teacher)
    losses.dmd_loss(x0, gradient).backward()
    torch.testing.assert_close(x0.grad * x0.numel(), gradient)
    size = (x0.detach() - teacher).abs().mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(gradient * size, critic - teacher)


def test_frames_that_are_pinned_are_not_learnt():
    velocity, x0, noise = torch.randn(3, 2, 4, 16, 2, 2).unbind()
    learns = torch.tensor([[0.0, 1, 1, 1]]).expand(2, 4)
    loss = losses.inpainting_loss(velocity, x0, noise, learns)
    torch.testing.assert_close(loss, losses.flow_matching_loss(velocity[:, 1:], x0[:, 1:], noise[:, 1:]))


def test_guidance_of_one_is_none():
    given, not_given = torch.randn(2, 5).unbind()
    torch.testing.assert_close(losses.guide(given, not_given, 1.0), given)
    torch.testing.assert_close(losses.guide(given, not_given, 3.0), not_given + 3 * (given - not_given))


class _Mixture:
    """Two narrow modes: where flow matching's answer is known."""

    modes, spread = torch.tensor([-1.5, 1.5]), 0.25

    def draw(self, count, rng):
        mode = self.modes[torch.randint(2, (count, 1), generator=rng)]
        return mode + self.spread * torch.randn(count, 1, generator=rng)

    def x0(self, x, sigma):
        """E[x0 | x] of x = (1 - sigma) x0 + sigma noise."""
        alpha = 1 - sigma
        variance = (alpha * self.spread) ** 2 + sigma**2
        share = (-((x - alpha * self.modes) ** 2) / (2 * variance)).softmax(dim=-1)
        mean = self.modes + alpha * self.spread**2 / variance * (x - alpha * self.modes)
        return (share * mean).sum(dim=-1, keepdim=True)


def _distance(a, b):
    """Between two sets of numbers of one size: Wasserstein-1."""
    return (a.flatten().sort().values - b.flatten().sort().values).abs().mean().item()


def test_distribution_matching_moves_the_student_to_the_teacher():
    """A one-step student of a mixture whose every noise level is known; its critic learns as the last stage's does."""
    rng, truth = torch.Generator().manual_seed(0), _Mixture()
    torch.manual_seed(1)
    student = nn.Sequential(nn.Linear(1, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
    critic = nn.Sequential(nn.Linear(2, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
    learn, judge = (torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.0, 0.99)) for net in (student, critic))

    def made(count):
        noise = torch.randn(count, 1, generator=rng)
        return noise + student(noise)

    def noisy(x0):
        sigma, noise = 0.02 + 0.96 * torch.rand(len(x0), 1, generator=rng), torch.randn(len(x0), 1, generator=rng)
        return (1 - sigma) * x0 + sigma * noise, sigma, noise

    def watch():
        with torch.no_grad():
            return made(2000), truth.draw(2000, rng)

    before = _distance(*watch())
    for _ in range(600):
        for _ in range(2):
            x0 = made(256).detach()
            x, sigma, noise = noisy(x0)
            losses.flow_matching_loss(critic(torch.cat([x, sigma], 1)), x0, noise).backward()
            judge.step(), judge.zero_grad()
        x0 = made(256)
        x, sigma, _ = noisy(x0.detach())
        with torch.no_grad():
            seen = x - sigma * critic(torch.cat([x, sigma], 1))
        gradient = losses.dmd_gradient(x0[None], seen[None], truth.x0(x, sigma)[None])[0]
        losses.dmd_loss(x0, gradient).backward()
        learn.step(), learn.zero_grad()
    after, (x0, _) = _distance(*watch()), watch()
    assert after < 0.35 * before
    assert 0.25 < (x0 > 0).float().mean() < 0.75  # both modes
    assert ((x0.abs() > 0.5).float().mean()) > 0.9  # and little between them


# --- what is rolled out is what streams


class _Signal:
    """A batch's signal as a driving."""

    num_pixel_frames = None

    def __init__(self, signal_FTS):
        self._signal = signal_FTS

    def signal(self, first, count):
        return self._signal[played_frames(first, count, len(self._signal))]


@pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        replace(NETWORK, unknown_frames="grey", known_in_x=True),
        replace(NETWORK, layout="ref33", in_channels=33),
        replace(NETWORK, layout="t2v16", in_channels=16),
    ],
    ids=["inpaint36", "known in x", "ref33", "t2v16"],
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_knot_frames": 0},
        {"start_from_reference": True},  # some layouts tell the commit pass of it, too
        {"start_from_reference": True, "num_knot_frames": 0},
        {"num_window_frames": 0},
        {"use_anchor": False},
        {"sampler": "euler"},
        {"sigma_table": True, "timesteps": (1000, 500, 0)},
    ],
    ids=str,
)
def test_a_rollout_is_the_stream(randomised, changes, network):
    settings = replace(RECIPE.stream, **changes)
    model = _model(randomised, network)
    given = _batch(Dice(0, 0, [0])).given

    class Same(Dice):
        def __init__(self):
            super().__init__(0, 0, [])
            self._rows = [torch.Generator().manual_seed(5)]

    with torch.no_grad():
        rolled, _ = roll_out(model, given, settings, Length(chunks=4), Same())
    codec = _NoCodec()
    streamed = replace_codec(model, codec)
    stream = open_stream(streamed, encode_latent_anchor(streamed, given.reference_B1CHW), settings,
                         _Signal(given.signal_BFTS[0]), seed=5)  # fmt: skip
    latents = torch.cat([next(stream).latents for _ in range(4)])
    torch.testing.assert_close(rolled[0], latents, rtol=1e-4, atol=1e-4)


class _NoCodec:
    def decode(self, latents, memory):  # noqa: ARG002
        return latents.new_zeros(1, 4 * latents.shape[1], 3, 8, 8), ()


def replace_codec(model, codec):
    """The same network for the stream, which also decodes."""
    return replace(model, codec=codec)


def test_chunks_in_the_batch_are_the_stream_chunk_by_chunk(randomised):
    """Causal initialisation sees, of every chunk at once, what a stream past the truth sees."""
    model, batch = _model(randomised), _batch(Dice(0, 0, range(2)))
    given, truth = batch.given, batch.truth_BFCHW
    with torch.no_grad():
        passes = causal.CausalPasses(model, given, RECIPE, truth)
        x = causal.fold(torch.randn_like(truth), [plan.positions for plan in passes.plans[1:]])
        sigma = torch.full(x.shape[:2], 0.7)
        known = causal.fold(truth, [plan.positions[:1] for plan in passes.plans[1:]])
        folded = passes.velocity(passes.plans[1:], x, sigma, known).unflatten(0, (2, -1))

        denoiser = Denoiser.of(model, given.text_BTD, reference_B1CHW=given.reference_B1CHW)
        cache = RolloutCache(num_window_frames=3, num_tokens=4)
        anchor, clock = causal.capture(denoiser, given.reference_B1CHW), first_clock(RECIPE.stream)
        for chunk in range(RECIPE.num_chunks):
            plan = plan_chunk(RECIPE.stream, clock)
            cache.place_anchor(anchor, plan.anchor_position)
            signal = given.signal_BFTS[:, list(plan.positions)]
            conditions = causal.Conditions(
                knot_BMCHW=truth[:, plan.start : plan.start + 1],
                rope=denoiser.rope(plan.positions, (4, 4)),
                driving=denoiser.driving(signal, len(plan.positions)),
            )
            if chunk > 0:
                noisy = x.unflatten(0, (2, -1))[:, chunk - 1]
                one_step = replace(plan, sigmas=(0.7,), fusion=0.0)
                x0 = generate_chunk(denoiser, conditions, one_step, noisy[None], cache)
                torch.testing.assert_close((noisy - x0) / 0.7, folded[:, chunk - 1], rtol=1e-3, atol=1e-4)
            commit_chunk(denoiser, conditions, plan, truth[:, list(plan.committed)], cache)
            cache.commit(2)
            clock = plan.next_clock


def test_the_causal_loss_learns_from_every_chunk_and_from_the_ode(randomised):
    model, batch = _model(randomised), _batch(Dice(0, 0, range(2)))
    path = teacher_path(model, batch.given, Dice(0, 1, range(2)).normal(7, 16, 4, 4), RECIPE)
    assert len(path) == RECIPE.stream.steps + 1
    for given_path in (None, path):
        loss = causal.causal_loss(model, batch, RECIPE, Dice(0, 0, range(2)), given_path)["loss"]
        loss.backward()
        assert torch.isfinite(loss)
        assert model.network.blocks[0].self_attn.k.weight.grad.any()
        model.network.zero_grad()


# --- gradients


def _count_passes(network):
    """[passes without gradient, passes with], counted while the network runs."""
    counts = [0, 0]

    def count(*_):
        counts[torch.is_grad_enabled()] += 1

    network.patch_embedding.register_forward_hook(count)
    return counts


@pytest.mark.parametrize("last_step", [0, 1, 2])
def test_one_step_of_each_scored_chunk_carries_a_gradient(randomised, last_step):
    model = _model(randomised)
    counts, length = _count_passes(model.network), Length(chunks=3, lead=2, last_step=last_step)
    x0, _ = roll_out(model, _batch(Dice(0, 0, [0])).given, RECIPE.stream, length, Dice(0, 0, [0]))
    without = 5 + 2 * (last_step + 1) + 3 * last_step  # commits, the lead's steps, the steps before the last
    assert counts == [without, 3 + 1]  # and the anchor's own pass
    assert x0.shape == (1, 6, 16, 4, 4)


def test_the_earlier_steps_and_the_past_give_no_gradient(randomised):
    """The gradient of a chunk is that of its last step alone, from the same noisy input."""
    model, given = _model(randomised), _batch(Dice(0, 0, [0])).given
    settings = replace(RECIPE.stream, num_window_frames=0, use_anchor=False, num_knot_frames=0)
    x0, _ = roll_out(model, given, settings, Length(chunks=1), Dice(0, 0, [0]))
    x0.square().mean().backward()
    got = {name: weight.grad.clone() for name, weight in model.network.named_parameters() if weight.grad is not None}
    assert got
    model.network.zero_grad()
    noise = Dice(0, 0, [0]).normal(3, 2, 16, 4, 4).transpose(0, 1)
    denoiser = Denoiser.of(model, given.text_BTD, reference_B1CHW=given.reference_B1CHW)
    conditions = causal.Conditions(
        knot_BMCHW=None,
        rope=denoiser.rope(range(2), (4, 4)),
        driving=denoiser.driving(given.signal_BFTS[:, :2], 2, starts=True),
    )
    plan = plan_chunk(settings, first_clock(settings))
    *sigmas, last = 1.0, 10 / 11, 5 / 7  # of 3 steps with a shift of 5
    with torch.no_grad():
        before = generate_chunk(denoiser, conditions, replace(plan, sigmas=tuple(sigmas)), noise[:2], NoCache())
    x = add_noise(before, noise[2], last)
    generate_chunk(denoiser, conditions, replace(plan, sigmas=(last,)), x[None], NoCache()).square().mean().backward()
    for name, weight in model.network.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(got[name], weight.grad, rtol=1e-3, atol=1e-6)


def test_the_student_learns_and_teacher_and_critic_do_not(stage):
    batch, dice = _batch(Dice(0, 0, range(2))), Dice(0, 0, range(2))
    stages._student_losses(stage, batch, dice)["loss"].backward()
    assert [name for name, role in stage.roles.items() if any(w.grad is not None for w in role.parameters())] == [
        "student"
    ]
    reached = [name for name, weight in stage.roles["student"].named_parameters() if weight.grad is not None]
    trained = [name for name, weight in stage.roles["student"].named_parameters() if weight.requires_grad]
    assert [name for name in trained if name not in reached and "text" not in name] == []
    stage.roles["student"].zero_grad()
    stages._critic_losses(stage, batch, dice)["loss"].backward()
    assert [name for name, role in stage.roles.items() if any(w.grad is not None for w in role.parameters())] == [
        "critic"
    ]


@pytest.mark.parametrize("stride", [0, 2, 4, 8])
def test_teacher_and_critic_meet_the_reference_where_they_have_learnt_it(stage, stride):
    """Also that of an anchor that the stream passes by."""
    settings = replace(RECIPE.stream, run_ahead_stride=stride)
    moved = replace(stage, recipe=replace(RECIPE, stream=settings))
    for part in range(4):
        dice = Dice(0, part, range(2))
        _, given = stages._rolled(moved, _batch(dice).given, dice)
        last = RECIPE.clip_frames - 1
        assert ((given.reference_position_B >= last) & (given.reference_position_B <= last + RECIPE.later)).all()


def test_in_bfloat16_the_gradient_is_there_without_an_anchor_too(randomised):
    """Older autocasts keep what they cast without a gradient; the weights must have been cast with one before."""
    settings = replace(RECIPE.stream, use_anchor=False)
    stage = stages.build_stage("distill", replace(RECIPE, precision="bfloat16", stream=settings), Team(), {})
    role = stage.roles["student"]
    randomised(role.network, 1)
    x0, _ = role(roll_out, _batch(Dice(0, 0, [0])).given, settings, Length(chunks=2), Dice(0, 0, [0]))
    x0.square().mean().backward()
    assert role.network.blocks[1].ffn[0].weight.grad.any()


@pytest.mark.parametrize("name", stages.STAGES)
def test_recomputed_activations_give_the_same_gradients(name, randomised):
    norms = []
    for recompute in (False, True):
        stage = stages.build_stage(name, replace(RECIPE, recompute=recompute), Team(), {})
        for seed, role in enumerate(("teacher", "critic", "student")):
            if role in stage.roles:
                randomised(stage.roles[role].network, seed)
        values = run_step(stage, 0, 1.0, lambda step, part: [(_batch(Dice(0, step, range(2), part)),
                                                                     Dice(0, step, range(2), part))])  # fmt: skip
        norms.append(values["norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


# --- inputs


def test_the_teacher_sees_where_the_reference_stands(randomised):
    model, batch = _model(randomised), _batch(Dice(0, 0, range(2)))
    sigma = torch.full((2, 7), 0.5)
    near, far = (
        clip_velocity(model, replace(batch.given, reference_position_B=torch.tensor(at)), batch.truth_BFCHW, sigma)
        for at in ([6, 6], [6, 9])
    )
    torch.testing.assert_close(near[0], far[0])
    assert not torch.allclose(near[1], far[1])


def test_driving_is_left_out_whole_or_not_at_all():
    signal = torch.rand(400, 2, 4, FULL_SIGNAL) + 0.5
    found = drop_driving(signal, ADAPTER, (0.2, 0.3, 0.1), Dice(0, 0, range(400)))
    speech = torch.cat([found[..., :64], found[..., 72:73]], dim=-1).flatten(1)
    controls = torch.cat([found[..., 64:72], found[..., 73:]], dim=-1).flatten(1)
    given = torch.stack([speech.ne(0).all(1), controls.ne(0).all(1)], dim=1)
    left_out = torch.stack([speech.eq(0).all(1), controls.eq(0).all(1)], dim=1)
    assert torch.equal(given, ~left_out)
    shares = [(~given[:, 0] & given[:, 1]), (given[:, 0] & ~given[:, 1]), (~given).all(1)]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.2, 0.3, 0.1], abs=0.07)


def test_a_clip_has_its_own_dice_whoever_trains_it():
    whole, half = Dice(1, 2, range(4)), Dice(1, 2, range(2, 4))
    assert torch.equal(whole.normal(3)[2:], half.normal(3))
    assert whole.shared_below(1000) == half.shared_below(1000)
    assert not torch.equal(Dice(1, 3, range(2, 4)).normal(3), Dice(1, 2, range(2, 4)).normal(3))
    assert not torch.equal(Dice(1, 2, [2], 1).normal(3), Dice(1, 2, [2]).normal(3))


def test_a_driving_leads_up_to_the_clip_without_a_jump():
    frames = played_frames(-9, 16, 5)
    assert frames[9:14] == [0, 1, 2, 3, 4]
    assert all(abs(a - b) == 1 for a, b in pairwise(frames))
    assert set(frames) == set(range(5))


def test_a_text_to_video_network_begins_as_it_was(randomised):
    """More input channels and an adapter, both silent at first."""
    small = replace(NETWORK, in_channels=16, layout="t2v16", adapter=None)
    old = _model(randomised, small)
    grown = pretrained_network(NETWORK, old.network.state_dict(), "the test")
    new = TrainedModel(grown, NETWORK, torch.device("cpu"), torch.float32)
    given, x = _batch(Dice(0, 0, range(2))).given, torch.randn(2, 3, 16, 4, 4)
    velocities = []
    for model in (old, new):
        denoiser = Denoiser.of(model, given.text_BTD)
        frames = causal.Frames(
            x_BFCHW=x, sigma_BF=torch.full((2, 3), 0.5), known_BMCHW=None, rope=denoiser.rope(range(3), (4, 4)),
            driving=denoiser.driving(given.signal_BFTS[:, :3], 3, starts=True),
        )  # fmt: skip
        velocities.append(denoiser.velocity(frames, NoCache()))
    torch.testing.assert_close(*velocities)


def test_flow_matching_is_zero_at_the_velocity():
    x0, noise = torch.randn(2, 2, 3, 16, 2, 2).unbind()
    assert losses.flow_matching_loss(to_velocity(x0, noise), x0, noise) == 0
