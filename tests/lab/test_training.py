"""Training: what it rolls out is what streams, it learns, and it resumes bit for bit."""

from collections.abc import Callable
from contextlib import nullcontext
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
from knot_core.stream import Snapshot, Stream, encode_anchor
from knot_core.stream.state import first_snapshot
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.model import WanNetwork, init_weights
from knot_lab import precision
from knot_lab.commands.train import main
from knot_lab.data.clips import PORTRAITS, ClipRecipe, Clips, _poses, choose_references, per_latent_frame
from knot_lab.evaluation.metrics import psnr, squared_error
from knot_lab.recipes import changed
from knot_lab.study import variant_training as study_training
from knot_lab.study.variants import VARIANTS
from knot_lab.synthetic import avatars
from knot_lab.synthetic.avatars import box_mask
from knot_lab.synthetic.motion import lively_controls
from knot_lab.training import codec as codec_training
from knot_lab.training import rollout, student
from knot_lab.training.discriminator import Adversary
from knot_lab.training.export import export, save_student
from knot_lab.training.optim import MatrixOptimizer
from knot_lab.training.training_state import cosine, load_checkpoint, save_checkpoint

TINY = NetworkConfig(
    dim=72, ffn_dim=32, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
)  # fmt: skip
RECIPE = rollout.StudentRecipe(
    network=TINY, clips=2, chunks=3, alone_clips=3, alone_frames=2, steps=6, warmup=2, save_every=3
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
    settings = replace(RECIPE.settings, **changes, steps=1)
    recipe = replace(RECIPE, network=replace(TINY, unknown_frames=unknown), settings=settings, first_sigma=1.0)
    noises, pasts, batch, chunks = [], [], clips.pick(torch.arange(1)), 3
    monkeypatch.setattr(rollout, "generate_chunk", _kept(rollout.generate_chunk, 3, noises))
    monkeypatch.setattr(rollout, "commit_chunk", _kept(rollout.commit_chunk, 3, pasts))
    signal, reference = rollout.given_signal(batch, _seeded()), rollout.pick_reference(batch, _seeded())
    monkeypatch.setattr(rollout, "given_signal", lambda *_: signal)
    monkeypatch.setattr(rollout, "pick_reference", lambda *_: reference)
    monkeypatch.setattr(rollout, "native_dtype", lambda _: torch.float32)
    monkeypatch.setattr(rollout, "mixed_precision", lambda _: nullcontext())
    network = _network(recipe.network)
    rollout.rollout(network, recipe, batch, chunks, 1.0, torch.Generator().manual_seed(4))
    settled = torch.cat([past[0, : settings.num_chunk_frames] for past in pasts])

    model = replace(_model_of(network), codec=_NoCodec())
    snapshot = first_snapshot(settings, encode_anchor(model, reference), 0)
    stream = _GivenNoise(model, snapshot, _Signal(signal[0]), noises)
    streamed = torch.cat([next(stream).latents for _ in pasts])
    assert len(pasts) == chunks - 1
    assert settled.std() > 0.1
    torch.testing.assert_close(settled, streamed, rtol=1e-4, atol=1e-4)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


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


def _model_of(network: WanNetwork) -> rollout.TrainedModel:
    return rollout.TrainedModel(network, network.config, torch.device("cpu"), torch.float32)


def test_a_rollout_reaches_every_weight_but_those_of_the_text(clips: Clips) -> None:
    network = _network()
    rng = torch.Generator().manual_seed(1)
    loss = rollout.rollout(network, RECIPE, clips.pick(torch.arange(2)), RECIPE.chunks, 0.5, rng)["loss"]
    loss.backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert [name for name in without if not any(part in name for part in ("text", "cross_attn", "norm3"))] == []


@pytest.mark.parametrize("native", [torch.float32, torch.bfloat16])
def test_passes_are_in_bfloat16_only_where_the_device_computes_it(
    clips: Clips, native: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (precision, rollout):
        monkeypatch.setattr(module, "native_dtype", lambda _: native)
    network, seen = _network(), []
    network.blocks[0].ffn[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    rollout.rollout(network, RECIPE, clips.pick(torch.arange(2)), 2, 0.5, torch.Generator().manual_seed(1))
    assert set(seen) == {native}


def test_single_frames_never_take_their_own_reference_for_a_target(clips: Clips) -> None:
    whole = clips.latents.shape[1] + clips.references.shape[1]
    frames, references = clips.pick(torch.arange(6)).apart(whole - 1, torch.Generator().manual_seed(3))
    targets = frames.latents[:, 0].unflatten(0, (6, -1))
    same = (targets == references).flatten(2).all(dim=-1)
    assert not same.any()


def test_frames_that_share_an_anchor_learn_as_if_each_had_its_own(clips: Clips) -> None:
    frames, references = clips.pick(torch.arange(2)).apart(3, torch.Generator().manual_seed(3))
    losses = [
        rollout.singles(_network(), RECIPE, frames, shared, torch.Generator().manual_seed(4))["loss"].item()
        for shared in (references, references.repeat_interleave(3, dim=0))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_chunk_learns_from_its_past_only_through_the_cache(clips: Clips) -> None:
    """With the true past, the last chunk's loss depends on earlier frames; without a window it does not."""
    other = replace(clips.pick(torch.arange(2)), latents=clips.latents[:2].clone())
    other.latents[:, 1] += 1
    losses = []
    for window in (6, 0):
        recipe = replace(RECIPE, settings=replace(RECIPE.settings, num_window_frames=window, num_knot_frames=1))
        for batch in (clips.pick(torch.arange(2)), other):
            rng = torch.Generator().manual_seed(2)
            losses.append(rollout.rollout(_network(), recipe, batch, 2, 0.0, rng)["last"].item())
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
    recipe, knots, anchors = changed(RECIPE, [f"settings.{change}" for change in settings]), [], set()
    denoise, place = rollout.denoise_once, rollout.RolloutCache.place_anchor

    def watched(denoiser: object, conditions: rollout.Conditions, *rest: object) -> torch.Tensor:
        knots.append(0 if conditions.knot_BMCHW is None else conditions.knot_BMCHW.shape[1])
        return denoise(denoiser, conditions, *rest)

    def placed(cache: rollout.RolloutCache, anchor: list, position: int) -> None:
        anchors.add(position)
        place(cache, anchor, position)

    monkeypatch.setattr(rollout, "denoise_once", watched)
    monkeypatch.setattr(rollout.RolloutCache, "place_anchor", placed)
    for seed in range(4):
        rng = torch.Generator().manual_seed(seed)
        batch = clips.pick(torch.arange(2))
        assert rollout.rollout(_network(), recipe, batch, 3, 1.0, rng)["loss"].isfinite()
        if recipe.settings.use_anchor:
            assert rollout.singles(_network(), recipe, *batch.apart(2, rng), rng)["loss"].isfinite()
    assert max(knots) == recipe.settings.num_knot_frames
    assert set(knots[::3]) == {int(recipe.settings.start_from_reference)}
    places = {8, 12} if recipe.settings.run_ahead_stride else {0}
    assert anchors == (places if recipe.settings.use_anchor else set())


def test_without_an_anchor_all_steps_are_streams(clips: Clips, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A single frame that knows no anchor knows nobody."""
    monkeypatch.setattr(student, "singles", lambda *_: pytest.fail("a single frame without an anchor"))
    recipe = changed(RECIPE, ["settings.use_anchor=False", "settings.start_from_reference=True", "alone_last=1.0"])
    assert student.train(recipe, clips, tmp_path).state_dict()


def test_variants_are_trained_alike_and_each_by_its_own_settings(clips: Clips, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_student(start, _network(), RECIPE)
    recipe = study_training.VariantRecipe(**vars(RECIPE) | {"steps": 2, "alone_first": 0.0, "alone_last": 0.0})
    names = ("control", "knot0", "noanchor", "selfforcing")
    study_training.train_variants(recipe, names, clips, None, tmp_path, start)
    files = {name: tmp_path / "models" / f"{name}.safetensors" for name in names}
    found = {name: open_checkpoint(path).preset.settings for name, path in files.items()}
    assert found == {name: VARIANTS[name].settings(recipe.settings) for name in names}
    control = student.train(recipe, clips, tmp_path / "alone", start)
    assert torch.equal(load_file(files["control"])["head.head.weight"], control.head.head.weight.bfloat16())
    heads = {name: load_file(path)["head.head.weight"] for name, path in files.items()}
    assert len({head.float().sum().item() for head in heads.values()}) == len(names)
    study_training.train_variants(recipe, names, clips, None, tmp_path, start)
    assert all(torch.equal(load_file(path)["head.head.weight"], heads[name]) for name, path in files.items())


def test_a_training_goes_on_only_from_its_own_beginning(clips: Clips, tmp_path: Path) -> None:
    starts = [tmp_path / f"{name}.safetensors" for name in ("one", "other")]
    save_student(starts[0], _network(), RECIPE)
    save_student(starts[1], WanNetwork(TINY), RECIPE)
    without = changed(RECIPE, ["settings.num_knot_frames=0"])
    student.train(without, clips, tmp_path, starts[0])
    others = ((without, starts[1], "start"), (without, None, "start"), (RECIPE, starts[0], "settings"))
    for recipe, start, says in others:
        with pytest.raises(StateError, match=f"another {says}"):
            student.train(recipe, clips, tmp_path, start)
    export(tmp_path, tmp_path / "assets")
    found = open_checkpoint(tmp_path / "assets" / "knot-tiny.safetensors").preset.settings
    assert found == without.settings, "it is exported as what it was trained for"


def test_variants_that_are_no_matter_of_settings_cannot_be_trained_for(clips: Clips, tmp_path: Path) -> None:
    known = study_training.trainable(study_training.VariantRecipe())
    assert {"control", "knot0", "noanchor", "selfforcing", "window12"} <= set(known)
    assert {"full", "s4", "window6", "knotinx", "nooverlap", "norunahead", "longlive"}.isdisjoint(known)
    with pytest.raises(SettingsError, match="longlive"):
        study_training.train_variants(RECIPE, ("knot0", "longlive"), clips, None, tmp_path, tmp_path / "none")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["student", "variants", "teacher"])
def test_training_without_clips_says_so_in_one_line(stage: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: there are no clips in .*; make them with"):
        main([stage, "--folder", str(tmp_path)])


@pytest.mark.parametrize("changes", [{}, {"adversarial": 0.5}, {"contrast": 0.0, "mouth": 0.0}])
def test_training_resumes_bit_for_bit(clips: Clips, tmp_path: Path, changes: dict[str, float]) -> None:
    recipe = replace(RECIPE, **changes)
    whole = student.train(recipe, clips, tmp_path / "whole").state_dict()
    killed = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        student.train(recipe, _StopsAfter(clips, picks=4), killed)
    assert load_checkpoint(killed / "student.ckpt")["step"] == 3
    resumed = student.train(recipe, clips, killed).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


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
    rng = torch.Generator().manual_seed(6)
    adversary = Adversary(16, share=0.5, seed=0, device="cpu")

    def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        truth = torch.randn(8, 2, 16, 8, 8, generator=rng)
        return box_blur(truth.flatten(0, 1)).view_as(truth).requires_grad_(), truth, torch.ones(8, 2, 1, 8, 8)

    for _ in range(40):
        x0, truth, weight = batch()
        regression = (x0 - truth).square().mean()
        loss = adversary.opposed(regression, x0, truth, weight, rng)
    assert adversary.learn(x0[:, 0].detach(), truth[:, 0], weight[:, 0], rng) < 1.5, "2: it cannot tell"
    whole, alone = (torch.autograd.grad(part, x0, retain_graph=True)[0] for part in (loss, regression))
    assert (whole - alone).norm().item() == pytest.approx(0.5 * alone.norm().item(), rel=0.02)  # in bfloat16


def box_blur(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)


def test_references_are_mostly_as_people_give_them() -> None:
    chosen = choose_references(4000, 8, torch.Generator().manual_seed(0))
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
    student.pass_noise_through(network)
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


def test_the_mouth_is_found_in_the_face_box() -> None:
    """What counts as the mouth lies where the renderer draws it, whoever it is and wherever the head turns."""
    values = avatars.stack_identities([avatars.identity(number) for number in range(32)])
    controls = lively_controls(np.random.default_rng(3), 32, 4)
    boxes = (box(values[:, None], controls, 128) for box in (avatars.face_box, avatars.mouth_box))
    face, mouth = (fn.avg_pool2d(box_mask(box, 128), 8) for box in boxes)
    found = rollout.mouth_part(face)
    assert (found <= face).all()
    shared = (found.bool() & (mouth > 0.5)).sum((-2, -1)) / (mouth > 0.5).sum((-2, -1))
    assert shared.mean() > 0.8
    outside = (found * (mouth == 0)).sum((-2, -1)) / found.sum((-2, -1))
    assert outside.mean() < 0.2
