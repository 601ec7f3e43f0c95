"""The knot LoRA: its file is what was trained, the network stays as it was, it learns, and it resumes bit for bit."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import SettingsError, StateError
from knot_core.stream.chunk import Conditions
from knot_core.stream.denoise import Denoiser
from knot_core.stream.plan import ChunkPlan
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.lora import open_lora
from knot_core.wan.network import WanNetwork, init_weights
from knot_core.wan.network_building import build_network
from knot_lab import precision
from knot_lab.commands.train import main
from knot_lab.data.clip_shards import Clips
from knot_lab.data.portraits import Portraits
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_TINY, Recipe
from knot_lab.rng import Dice
from knot_lab.training import knot_lora, regression
from knot_lab.training.knot_lora import add_lora, build_knot_lora, lora_weights, save_lora
from knot_lab.training.loop import Outputs, train_stage
from knot_lab.training.roles import Role
from knot_lab.training.weights_file import save_student

pytest.importorskip("peft", reason="the knot LoRA is made of PEFT's layers: pip install peft")

TINY = NetworkConfig(
    dim=72, ffn_dim=32, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
)  # fmt: skip
OWN = replace(
    KNOT_TINY.knot_lora, clips=2, chunks=3, alone_clips=3, alone_frames=2, steps=6, warmup=2, save_every=3, rank=4,
    alpha=2.0,
)  # fmt: skip
RECIPE = replace(KNOT_TINY, knot_lora=OWN)


def with_own(**changes: object) -> Recipe:
    return replace(KNOT_TINY, knot_lora=replace(OWN, **changes))


def train_knot_lora(recipe: Recipe, clips: Clips, folder: Path, start: Path) -> WanNetwork:
    """The network with its layers, averaged over steps."""
    stage = build_knot_lora(recipe, Team(), start)
    train_stage(stage, Portraits(own=recipe.knot_lora, clips=clips, stills=clips), Outputs(folder=folder))
    return stage.roles["average"].network


@pytest.fixture(scope="module")
def clips() -> Clips:
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng) * 0.5

    return Clips(
        latents=normal(6, 10, 16, 16, 16),
        references=normal(6, 2, 16, 16, 16),
        reference_controls=normal(6, 2, 8),
        reference_face=torch.rand(6, 2, 16, 16, generator=rng),
        mel=normal(6, 10, 4, 64),
        controls=normal(6, 10, 4, 8),
        face=torch.rand(6, 10, 16, 16, generator=rng),
        speaking=torch.tensor([True, False] * 3),
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that streams without a knot."""
    rng = torch.Generator().manual_seed(0)
    network = init_weights(WanNetwork(TINY), rng)
    torch.nn.init.normal_(network.head.head.weight, std=0.05, generator=rng)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_student(path, network, replace(KNOT_TINY.stream, num_knot_frames=0), 1)
    return path


def merged(start: Path, lora: Path) -> WanNetwork:
    """As `--lora` reads it."""
    checkpoint = open_checkpoint(start)
    return build_network(checkpoint, lora=open_lora(lora, 1.0, checkpoint.tensors))


def losses(network: WanNetwork, clips: Clips) -> torch.Tensor:
    """The losses of a rollout."""
    own, dice = replace(KNOT_TINY.student, chunks=3), Dice(3, 3000, range(4))
    batch = Portraits(own=own, clips=clips, stills=clips).batch(replace(KNOT_TINY, network=TINY), dice)
    role = Role(network, dtype=torch.float32, device=torch.device("cpu"))
    with torch.no_grad():
        return role(regression.stream_loss, batch, KNOT_TINY.stream, own, dice)["loss"]


def test_the_file_is_what_was_trained_and_the_network_stays(
    clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_dtype", lambda _: torch.float32)
    trained = train_knot_lora(with_own(lr=2e-2), clips, tmp_path, start)
    base, by_file = build_network(open_checkpoint(start)), merged(start, tmp_path / "knot-lora-0006.safetensors")
    learnt = [name for name, _ in trained.named_parameters() if ".lora_" in name]
    assert len(learnt) == 2 * len(knot_lora.TARGETS) * TINY.num_layers
    kept = {
        name.replace(".base_layer", ""): tensor for name, tensor in trained.state_dict().items() if ".lora_" not in name
    }
    assert kept.keys() == base.state_dict().keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in base.state_dict().items())
    found, wanted, before = (losses(network, clips) for network in (by_file, trained, base))
    assert (found - wanted).abs() < 1e-5 * wanted
    assert (found - before).abs() > 1e-3 * wanted, "it learnt nothing"
    x = torch.randn(5, TINY.dim, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(trained.blocks, by_file.blocks, strict=True):
        for module in knot_lora.TARGETS[:5]:
            a, b = (block.get_submodule(module)(x) for block in (ours, theirs))
            assert (a - b).abs().max() < 1e-5 * a.abs().max()


def test_before_it_is_trained_it_changes_nothing(clips: Clips, start: Path, tmp_path: Path) -> None:
    network = build_network(open_checkpoint(start))
    before = losses(network, clips)
    add_lora(network, 4, 2.0, 0)
    assert torch.equal(losses(network, clips), before)
    save_lora(tmp_path / "lora.safetensors", lora_weights(network), RECIPE, 0)
    assert torch.equal(losses(merged(start, tmp_path / "lora.safetensors"), clips), before)


def test_a_few_steps_lower_the_loss_of_a_stream_with_a_knot(clips: Clips, start: Path, tmp_path: Path) -> None:
    recipe = with_own(steps=30, save_every=30, lr=1e-2, rank=8, alpha=8.0)
    trained = train_knot_lora(recipe, clips, tmp_path, start)
    assert losses(trained, clips) < 0.97 * losses(build_network(open_checkpoint(start)), clips)


def test_a_control_trains_as_a_stream_without_knot_runs(
    clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--set stream.num_knot_frames=0 stream.run_ahead_stride=0`: what training more gains without either."""
    denoise, seen = regression.denoise_once, []

    def watched(denoiser: Denoiser, conditions: Conditions, plan: ChunkPlan, *rest: object) -> torch.Tensor:
        seen.append((conditions.knot_BMCHW is None, plan.num_knot_frames, plan.anchor_position))
        return denoise(denoiser, conditions, plan, *rest)

    monkeypatch.setattr(regression, "denoise_once", watched)
    stream = replace(KNOT_TINY.stream, num_knot_frames=0, run_ahead_stride=0)
    for name, settings in {"knot": KNOT_TINY.stream, "control": stream}.items():
        seen.clear()
        train_knot_lora(replace(RECIPE, stream=settings), clips, tmp_path / name, start)
        assert seen, "no clip was streamed"
        assert all(one == (True, 0, 0) for one in seen) == (name == "control")
        with safe_open(tmp_path / name / "knot-lora-0006.safetensors", "pt") as file:
            assert StreamSettings.from_dict(json.loads(file.metadata()["settings"])) == settings
    with pytest.raises(StateError, match="another settings"):
        train_knot_lora(replace(RECIPE, stream=stream), clips, tmp_path / "knot", start)


def test_it_resumes_bit_for_bit(clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_knot_lora(RECIPE, clips, tmp_path / "whole", start).state_dict()
    draw = Portraits.draw

    def stops(source: Portraits, recipe: Recipe, team: Team, dice_of: Callable) -> Iterator:
        if dice_of(()).step == 4:
            raise KeyboardInterrupt
        return draw(source, recipe, team, dice_of)

    with monkeypatch.context() as patched:
        patched.setattr(Portraits, "draw", stops)
        with pytest.raises(KeyboardInterrupt):
            train_knot_lora(RECIPE, clips, tmp_path / "killed", start)
    resumed = train_knot_lora(RECIPE, clips, tmp_path / "killed", start).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    files = [load_file(tmp_path / folder / "knot-lora-0006.safetensors") for folder in ("whole", "killed")]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    with pytest.raises(StateError, match="another rank"):
        train_knot_lora(with_own(rank=8), clips, tmp_path / "killed", start)


def test_the_command_takes_clips_from_another_folder(clips: Clips, start: Path, tmp_path: Path) -> None:
    """So that a control learns from the very same ones."""
    made = tmp_path / "made" / "clips"
    command = ["knot-lora", "--folder", str(tmp_path / "out"), "--start-from", str(start), "--clips", str(made)]
    with pytest.raises(SystemExit, match=r"made.clips; make them"):
        main(command)
    made.mkdir(parents=True)
    save_file(clips.tensors(), made / "train-0000.safetensors")
    main([*command, "--set", "steps=1", "clips=2", "chunks=2", "alone_clips=2", "alone_frames=2"])
    assert (tmp_path / "out" / "knot-lora-0001.safetensors").exists()


def test_what_it_has_no_use_for_is_refused(clips: Clips, tmp_path: Path) -> None:
    for name, value in {"adversarial": 0.5, "muon_lr": 1.0, "rank": 0}.items():
        with pytest.raises(SettingsError, match=name):
            with_own(**{name: value})
    with pytest.raises(SettingsError, match="network"):
        train_knot_lora(replace(RECIPE, network=TINY), clips, tmp_path, tmp_path / "none")
    with pytest.raises(SystemExit, match="--start-from"):
        main(["knot-lora", "--folder", str(tmp_path)])
    other = replace(TINY, layout="t2v16", in_channels=16)
    save_student(tmp_path / "t2v.safetensors", WanNetwork(other), KNOT_TINY.stream, 1)
    with pytest.raises(SettingsError, match="layout t2v16"):
        train_knot_lora(RECIPE, clips, tmp_path, tmp_path / "t2v.safetensors")


def test_without_peft_one_sentence_says_what_to_install(
    clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(SettingsError, match="pip install peft"):
        train_knot_lora(RECIPE, clips, tmp_path, start)
