"""Training: what it rolls out is what streams, it learns, and it resumes bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch.nn import functional as fn

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.errors import SettingsError, StateError
from knot_core.stream import Snapshot, Stream, encode_latent_anchor
from knot_core.stream.snapshot import first_snapshot
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.network import WanNetwork, init_weights
from knot_lab import precision
from knot_lab.changes import changed
from knot_lab.commands.train import main
from knot_lab.data.batch import Batch
from knot_lab.data.clip_shards import PORTRAITS, ClipRecipe, Clips, _poses, choose_references, per_latent_frame
from knot_lab.data.portraits import Portraits, eyes_part, mouth_part
from knot_lab.evaluation.metrics import psnr, squared_error
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_TINY, Recipe
from knot_lab.rng import Dice
from knot_lab.study import variant_training as study_training
from knot_lab.study.variants import VARIANTS
from knot_lab.synthetic import avatars
from knot_lab.synthetic.avatars import box_mask
from knot_lab.synthetic.motion import lively_controls
from knot_lab.training import codec as codec_training
from knot_lab.training import loop, regression, regression_stage, self_forcing
from knot_lab.training.discriminator import Adversary
from knot_lab.training.export import export
from knot_lab.training.optimizers import MatrixOptimizer, cosine
from knot_lab.training.roles import Role, TrainedModel
from knot_lab.training.training_state import load_checkpoint, save_checkpoint

TINY = NetworkConfig(
    dim=72, ffn_dim=32, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
)  # fmt: skip
SHORT = {"clips": 2, "chunks": 3, "alone_clips": 3, "alone_frames": 2, "steps": 6, "warmup": 2, "save_every": 3}
RECIPE = replace(
    KNOT_TINY,
    network=TINY,
    clip_frames=6,
    student=replace(KNOT_TINY.student, **SHORT),
    variants=replace(KNOT_TINY.variants, **SHORT),
)


@pytest.fixture(scope="module")
def clips() -> Clips:
    torch.manual_seed(0)
    return Clips(
        latents=torch.randn(6, 10, 16, 16, 16) * 0.5,
        references=torch.randn(6, 2, 16, 16, 16) * 0.5,
        reference_controls=torch.rand(6, 2, 8),
        reference_face=torch.rand(6, 2, 16, 16),
        mel=torch.randn(6, 10, 4, 64),
        controls=torch.rand(6, 10, 4, 8),
        face=torch.rand(6, 10, 16, 16),
        speaking=torch.tensor([True, False] * 3),
    )


def _network(config: NetworkConfig = TINY) -> WanNetwork:
    """Seeded weights, the head's too."""
    rng = torch.Generator().manual_seed(0)
    network = init_weights(WanNetwork(config), rng)
    torch.nn.init.normal_(network.head.head.weight, std=0.05, generator=rng)
    return network


@pytest.mark.parametrize("unknown", ["zeros", "grey"])  # a network that is shown grey is told at commits what is known
@pytest.mark.parametrize(
    "changes",
    [{}, {"num_knot_frames": 2}, {"start_from_reference": True}, {"start_from_reference": True, "num_knot_frames": 0}],
    ids=str,
)
def test_what_is_regressed_is_the_stream(
    clips: Clips, monkeypatch: pytest.MonkeyPatch, changes: dict, unknown: str
) -> None:
    """Past its own chunks, from noise in one step: the same latents as the stream's, from the same noise."""
    settings = replace(RECIPE.stream, **changes, steps=1)
    own = replace(RECIPE.student, first_sigma=1.0, own_most=1.0, turn=(0.0, 0.01))
    recipe = replace(RECIPE, network=replace(TINY, unknown_frames=unknown), stream=settings, student=own)
    batch, noises, pasts = _portraits(clips, recipe).batch(recipe, Dice(4, 0, range(1))), [], []
    monkeypatch.setattr(self_forcing, "generate_chunk", _kept(self_forcing.generate_chunk, 3, noises))
    monkeypatch.setattr(regression, "commit_chunk", _kept(regression.commit_chunk, 3, pasts))
    model = replace(_model_of(_network(recipe.network)), codec=_NoCodec())
    regression.stream_loss(model, batch, settings, own, Dice(4, 5, range(1)))
    settled = torch.cat([past[0, : settings.num_chunk_frames] for past in pasts])

    snapshot = first_snapshot(settings, encode_latent_anchor(model, batch.given.reference_B1CHW), 0)
    stream = _GivenNoise(model, snapshot, _Signal(batch.given.signal_BFTS[0]), noises)
    streamed = torch.cat([next(stream).latents for _ in pasts])
    assert len(pasts) == own.chunks - 1
    assert settled.std() > 0.1
    torch.testing.assert_close(settled, streamed, rtol=1e-4, atol=1e-4)


def _kept(function: Callable, number: int, kept: list) -> Callable:
    """The function, which keeps one of its arguments."""

    def watched(*arguments: object) -> object:
        kept.append(arguments[number])
        return function(*arguments)

    return watched


class _GivenNoise(Stream):
    """With noise that is handed in, [S, 1, F, C, H, W] for each chunk; of several steps the last one's."""

    def __init__(self, model: object, snapshot: Snapshot, driving: object, noises: list[torch.Tensor]) -> None:
        super().__init__(model, snapshot, driving)
        self._noises = iter(noises)

    def _draw_noise(self, begun: object) -> tuple[torch.Tensor, torch.Tensor]:
        return next(self._noises)[-1:], begun.state.rng_state


class _Signal:
    """A clip's signal as a driving."""

    num_pixel_frames = None

    def __init__(self, signal_FTS: torch.Tensor) -> None:
        self._signal = signal_FTS

    def signal(self, first: int, count: int) -> torch.Tensor:
        return self._signal[first : first + count]


class _NoCodec:
    def decode(self, latents: torch.Tensor, memory: object) -> tuple[torch.Tensor, tuple]:  # noqa: ARG002
        return latents.new_zeros(1, 4 * latents.shape[1], 3, 8, 8), ()


def _model_of(network: WanNetwork) -> TrainedModel:
    return TrainedModel(network, network.config, torch.device("cpu"), torch.float32)


def _portraits(clips: Clips, recipe: Recipe = RECIPE) -> Portraits:
    return Portraits(own=recipe.student, clips=clips, stills=clips)


def _stream_loss(
    network: WanNetwork, recipe: Recipe, clips: Clips, seed: int, batch: Batch | None = None, step: int = 0
) -> dict[str, torch.Tensor]:
    """The loss of two clips that are streamed, `step` steps into the training."""
    dice = Dice(seed, step, range(2))
    batch = _portraits(clips, recipe).batch(recipe, dice) if batch is None else batch
    return _role(network)(regression.stream_loss, batch, recipe.stream, recipe.student, dice)


def _frames(clips: Clips, recipe: Recipe, dice: Dice) -> Batch:
    return _portraits(clips, recipe)._frames(recipe, clips, dice)[0]


def _role(network: WanNetwork) -> Role:
    device = torch.device("cpu")
    return Role(network, dtype=precision.compute_dtype("bfloat16", device), device=device)


def _train(recipe: Recipe, clips: Clips, folder: Path, start: WanNetwork | None = None) -> WanNetwork:
    """The stage's averaged network."""
    weights = None if start is None else start.state_dict()
    stage = regression_stage.build_regression(recipe, recipe.student, Team(), weights)
    quiet = loop.Outputs(folder=folder, log=lambda *_, **__: None)
    loop.train_stage(stage, _portraits(clips, recipe), quiet)
    return stage.roles["average"].network


def test_a_rollout_reaches_every_weight_but_those_of_the_text(clips: Clips) -> None:
    network = _network()
    _stream_loss(network, RECIPE, clips, seed=1, step=5)["loss"].backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert [name for name in without if not any(part in name for part in ("text", "cross_attn", "norm3"))] == []


@pytest.mark.parametrize("native", [torch.float32, torch.bfloat16])
def test_passes_are_in_bfloat16_only_where_the_device_computes_it(
    clips: Clips, native: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_dtype", lambda _: native)
    network, seen = _network(), []
    network.blocks[0].ffn[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    _stream_loss(network, RECIPE, clips, seed=1)
    assert set(seen) == {native}


def test_single_frames_never_take_their_own_reference_for_a_target(clips: Clips) -> None:
    whole = clips.latents.shape[1] + clips.references.shape[1]
    frames, references = clips.pick(torch.arange(6)).apart(whole - 1, Dice(3, 0, range(6)))
    targets = frames.latents[:, 0].unflatten(0, (6, -1))
    same = (targets == references).flatten(2).all(dim=-1)
    assert not same.any()


def test_frames_that_share_an_anchor_learn_as_if_each_had_its_own(clips: Clips) -> None:
    shared = _frames(clips, RECIPE, Dice(3, 0, range(2)))
    references = shared.given.reference_B1CHW
    assert len(references) * RECIPE.student.alone_frames == len(shared.truth_BFCHW)
    own = replace(shared.given, reference_B1CHW=references.repeat_interleave(RECIPE.student.alone_frames, dim=0))
    losses = [
        _role(_network())(
            regression.frames_loss, replace(shared, given=given), RECIPE.stream, RECIPE.student, Dice(4, 0, range(4))
        )["loss"].item()
        for given in (shared.given, own)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_chunk_learns_from_its_past_only_through_the_cache(clips: Clips) -> None:
    """With the true past, the last chunk's loss depends on earlier frames; without a window it does not."""
    batch = _portraits(clips).batch(RECIPE, Dice(2, 0, range(2)))
    other = replace(batch, truth_BFCHW=batch.truth_BFCHW.clone())
    other.truth_BFCHW[:, 1] += 1
    losses = []
    for window in (6, 0):
        recipe = changed(RECIPE, [f"stream.num_window_frames={window}", "student.chunks=2"])
        losses += [_stream_loss(_network(), recipe, clips, 2, given)["last"].item() for given in (batch, other)]
    assert losses[0] != losses[1]
    assert losses[2] == losses[3]


@pytest.mark.parametrize(
    "settings",
    [
        ["num_knot_frames=0"],
        ["num_knot_frames=2"],
        ["run_ahead_stride=0"],
        ["num_window_frames=3"],
        ["fusion=0.0"],
        ["use_anchor=False", "start_from_reference=True"],
    ],
)
def test_a_variant_of_the_stream_can_be_trained_for_itself(
    clips: Clips, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it rolls out has the settings' knot, the reference's where it begins the stream, and the anchor where the
    settings put it."""
    recipe, knots, anchors = changed(RECIPE, [f"stream.{change}" for change in settings]), [], set()
    denoise, place = regression.denoise_once, regression.RolloutCache.place_anchor

    def watched(denoiser: object, conditions: regression.Conditions, *rest: object) -> torch.Tensor:
        knots.append(0 if conditions.knot_BMCHW is None else conditions.knot_BMCHW.shape[1])
        return denoise(denoiser, conditions, *rest)

    def placed(cache: regression.RolloutCache, anchor: list, position: int) -> None:
        anchors.add(position)
        place(cache, anchor, position)

    monkeypatch.setattr(regression, "denoise_once", watched)
    monkeypatch.setattr(regression.RolloutCache, "place_anchor", placed)
    for seed in range(4):
        assert _stream_loss(_network(), recipe, clips, seed, step=5)["loss"].isfinite()
        if recipe.stream.use_anchor:
            frames, dice = _frames(clips, recipe, Dice(seed, 0, range(2))), Dice(seed, 0, range(4))
            loss = _role(_network())(regression.frames_loss, frames, recipe.stream, recipe.student, dice)["loss"]
            assert loss.isfinite()
    assert max(knots) == recipe.stream.num_knot_frames
    assert set(knots[::3]) == {int(recipe.stream.start_from_reference)}
    places = {8, 12} if recipe.stream.run_ahead_stride else {0}
    assert anchors == (places if recipe.stream.use_anchor else set())


def test_without_an_anchor_all_steps_are_streams(clips: Clips, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A single frame that knows no anchor knows nobody."""
    monkeypatch.setattr(regression, "frames_loss", lambda *_: pytest.fail("a single frame without an anchor"))
    changes = ["stream.use_anchor=False", "stream.start_from_reference=True", "student.alone_last=1.0"]
    assert _train(changed(RECIPE, changes), clips, tmp_path).state_dict()


def test_variants_are_trained_alike_and_each_by_its_own_settings(clips: Clips, tmp_path: Path) -> None:
    changes = ["variants.steps=2", "variants.alone_first=0.0", "variants.alone_last=0.0"]
    recipe, start = changed(RECIPE, changes), _network()
    source = Portraits(own=recipe.variants, clips=clips, stills=clips)
    names = ("control", "knot0", "noanchor", "selfforcing")
    study_training.train_variants(recipe, names, source, tmp_path, start.state_dict(), Team())
    files = {name: tmp_path / "models" / f"{name}.safetensors" for name in names}
    found = {name: open_checkpoint(path).preset.settings for name, path in files.items()}
    assert found == {name: VARIANTS[name].settings(recipe.stream) for name in names}
    control = _train(replace(recipe, student=recipe.variants), clips, tmp_path / "alone", start)
    assert torch.equal(load_file(files["control"])["head.head.weight"], control.head.head.weight.bfloat16())
    heads = {name: load_file(path)["head.head.weight"] for name, path in files.items()}
    assert len({head.float().sum().item() for head in heads.values()}) == len(names)
    study_training.train_variants(recipe, names, source, tmp_path, start.state_dict(), Team())
    assert all(torch.equal(load_file(path)["head.head.weight"], heads[name]) for name, path in files.items())


def test_a_training_goes_on_only_from_its_own_beginning(clips: Clips, tmp_path: Path) -> None:
    starts = [_network(), WanNetwork(TINY)]
    without = changed(RECIPE, ["stream.num_knot_frames=0"])
    _train(without, clips, tmp_path, starts[0])
    others = ((without, starts[1], "start"), (without, None, "start"), (RECIPE, starts[0], "settings"))
    for recipe, start, says in others:
        with pytest.raises(StateError, match=f"another {says}"):
            _train(recipe, clips, tmp_path, start)
    save_checkpoint(tmp_path / "old" / "student.ckpt", {"step": 3, "average": {}})
    with pytest.raises(StateError, match="checkpoint of an earlier version"):
        _train(without, clips, tmp_path / "old")
    export(tmp_path, tmp_path / "assets")
    found = open_checkpoint(tmp_path / "assets" / "knot-tiny.safetensors").preset.settings
    assert found == without.stream, "it is exported as what it was trained for"


def test_variants_that_are_no_matter_of_settings_cannot_be_trained_for(clips: Clips, tmp_path: Path) -> None:
    known = study_training.trainable(KNOT_TINY.stream)
    assert {"control", "knot0", "noanchor", "selfforcing", "window12"} <= set(known)
    assert {"full", "s4", "window6", "knotinx", "nooverlap", "norunahead", "longlive"}.isdisjoint(known)
    with pytest.raises(SettingsError, match="longlive"):
        study_training.train_variants(RECIPE, ("knot0", "longlive"), _portraits(clips), tmp_path, {}, Team())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["student", "variants", "teacher"])
def test_training_without_clips_says_so_in_one_line(stage: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: there are no clips in .*; make them with"):
        main([stage, "--folder", str(tmp_path)])


@pytest.mark.parametrize("changes", [{}, {"adversarial": 0.5}, {"contrast": 0.0, "mouth": 0.0}])
def test_training_resumes_bit_for_bit(clips: Clips, tmp_path: Path, changes: dict[str, float]) -> None:
    recipe = replace(RECIPE, student=replace(RECIPE.student, **changes))
    whole = _train(recipe, clips, tmp_path / "whole").state_dict()
    killed = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        _train(recipe, _StopsAfter(clips, picks=4), killed)
    assert load_checkpoint(killed / "student.ckpt")["step"] == 3
    resumed = _train(recipe, clips, killed).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (killed / "student-samples" / "000006.png").is_file()
    assert open_checkpoint(killed / "student.safetensors").preset.settings == recipe.stream


class _StopsAfter:
    """Clips whose run is stopped by hand at a pick."""

    def __init__(self, clips: Clips, picks: int) -> None:
        self._clips, self._left, self.latents = clips, picks, clips.latents

    def pick(self, rows: torch.Tensor) -> Clips:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._clips.pick(rows)


def test_a_discriminator_learns_what_is_blurred_and_pulls_as_strongly_as_asked() -> None:
    rng, dice = torch.Generator().manual_seed(6), Dice(6, 0, range(8))
    adversary = Adversary(16, share=0.5, seed=0, device=torch.device("cpu"))

    def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        truth = torch.randn(8, 2, 16, 8, 8, generator=rng)
        return box_blur(truth.flatten(0, 1)).view_as(truth).requires_grad_(), truth, torch.ones(8, 2, 1, 8, 8)

    for _ in range(40):
        x0, truth, weight = batch()
        regression = (x0 - truth).square().mean()
        loss = adversary.opposed(regression, x0, truth, weight, dice)
    assert adversary.learn(x0[:, 0].detach(), truth[:, 0], weight[:, 0], dice) < 1.5, "2: it cannot tell"
    whole, alone = (torch.autograd.grad(part, x0, retain_graph=True)[0] for part in (loss, regression))
    assert (whole - alone).norm().item() == pytest.approx(0.5 * alone.norm().item(), rel=0.02)  # in bfloat16


def box_blur(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)


def test_references_are_mostly_as_people_give_them() -> None:
    chosen = choose_references(8, Dice(0, 0, range(4000)))
    assert 0.7 < (chosen < PORTRAITS).float().mean() < 0.9
    assert set(chosen.tolist()) == set(range(8))
    poses = _poses(ClipRecipe(shard=32), np.random.default_rng(0))
    at_rest, others = poses[:, :PORTRAITS], poses[:, PORTRAITS:]
    assert at_rest[..., :3].abs().max() <= 0.25
    assert not at_rest[..., 3:].any()
    assert others[..., :3].abs().max() > 0.6


def test_the_optimiser_learns_and_resumes() -> None:
    def problem() -> tuple[torch.nn.Module, MatrixOptimizer]:
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Conv2d(2, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 3))
        return model, MatrixOptimizer(model.named_parameters(), ("2.",), lr=1e-2, muon_lr=2e-2)

    x, y = torch.randn(4, 2, 8, 8), torch.randn(4, 1, 4, 4)
    model, optimizer = problem()
    losses, buffer = [], BytesIO()
    for step in range(30):
        if step == 20:
            saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}, optimizer.state_dict()
            torch.save(saved, buffer)
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step(1.0)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    buffer.seek(0)
    weights, state = torch.load(buffer, weights_only=True)
    again, optimizer = problem()
    again.load_state_dict(weights)
    optimizer.load_state_dict(state)
    for _ in range(10):
        (again(x) - y).square().mean().backward()
        optimizer.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_noise_passes_straight_through_at_the_start() -> None:
    """Each of a patch's 64 values goes in at one channel and comes out as the same value of the velocity."""
    network = _network()
    regression_stage.pass_noise_through(network)
    patches = network.patch_embedding.weight.flatten(1)[:64]  # [D, (c p q)]
    values = rearrange(patches, "d (c p q) -> d p q c", p=2, q=2).flatten(1)
    through = network.head.head.weight[:, :64] @ values  # head rows are (p q c), and so are the columns now
    assert torch.equal(through[:, [i for i in range(144) if i % 36 < 16]].ne(0), torch.eye(64, dtype=torch.bool))


def test_the_codec_starts_as_a_small_picture() -> None:
    codec = codec_training._plain_start(TAEHV(CodecConfig(encoder=(8, 8, 8, 8), decoder=(8, 8, 8, 8))))
    flat = torch.tensor([0.2, 0.5, 0.7]).view(1, 1, 3, 1, 1).expand(1, 5, 3, 64, 64)
    with torch.no_grad():
        seen = codec.decode(codec.encode(flat))[0]
    assert (seen - flat)[..., 24:40, 24:40].abs().max() < 0.15  # away from the border, but for the soft clamp


def test_checkpoints_replace_and_missing_ones_are_none(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.ckpt"
    assert load_checkpoint(path) is None
    for step in (1, 2):
        save_checkpoint(path, {"step": step})
    assert load_checkpoint(path) == {"step": 2}
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_small_helpers() -> None:
    assert cosine(0, 100, 10) == pytest.approx(0.1)
    assert cosine(10, 100, 10) == pytest.approx(1.0)
    assert cosine(100, 100, 10) == pytest.approx(0.01)
    mask = box_mask(torch.tensor([1, 2, 3, 5]), 6)
    assert mask.sum() == 6
    assert mask[1:3, 2:5].sum() == 6
    errors = squared_error(torch.zeros(1, 4, 4, 3), torch.full((1, 4, 4, 3), 0.1), torch.ones(1, 4, 4))
    assert psnr(errors) == pytest.approx(20, abs=1e-3)
    controls = lively_controls(np.random.default_rng(0), 5, 9)
    assert controls.shape == (5, 9, 8)
    assert controls.dtype == torch.float32
    signal = torch.arange(9.0)[:, None]
    assert per_latent_frame(signal).squeeze(-1).tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(("part", "is_tight"), [("mouth", True), ("eyes", False)])
def test_mouth_and_eyes_are_found_in_the_face_box(part: str, is_tight: bool) -> None:
    """What counts as the mouth lies where the renderer draws it, whoever it is and wherever the head turns."""
    values = avatars.stack_identities([avatars.identity(number) for number in range(32)])
    where = (values[:, None], lively_controls(np.random.default_rng(3), 32, 4), 128)
    boxes = [avatars.mouth_box(*where)] if part == "mouth" else avatars.eye_boxes(*where).unbind(dim=-2)
    face = fn.avg_pool2d(box_mask(avatars.face_box(*where), 128), 8)
    drawn = torch.stack([fn.avg_pool2d(box_mask(box, 128), 8) for box in boxes]).amax(dim=0)
    found = {"mouth": mouth_part, "eyes": eyes_part}[part](face)
    assert (found <= face).all()
    shared = (found.bool() & (drawn > 0.5)).sum((-2, -1)) / (drawn > 0.5).sum((-2, -1)).clamp_min(1)
    assert shared.mean() > 0.8
    outside = (found * (drawn == 0)).sum((-2, -1)) / found.sum((-2, -1))
    assert outside.mean() < 0.2 or not is_tight
