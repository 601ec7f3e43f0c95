"""The knot LoRA: its file is what was trained, the network stays as it was, it learns, and it resumes bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.errors import SettingsError, StateError
from knot_core.wan.checkpoint import build_network, open_checkpoint
from knot_core.wan.lora import open_lora
from knot_core.wan.model import WanNetwork, init_weights
from knot_lab import precision
from knot_lab.commands.train import main
from knot_lab.data.clips import Clips
from knot_lab.training import knot_lora, rollout, student
from knot_lab.training.export import save_student
from knot_lab.training.knot_lora import KnotLoraRecipe, add_lora, lora_weights, save_lora, train_knot_lora

pytest.importorskip("peft", reason="the knot LoRA is made of PEFT's layers: pip install peft")

TINY = NetworkConfig(
    dim=72, ffn_dim=32, num_heads=2, num_layers=2, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=16,
    adapter=AdapterConfig(hidden_dim=8, blocks=(0, 1)),
)  # fmt: skip
RECIPE = KnotLoraRecipe(
    clips=2, chunks=3, alone_clips=3, alone_frames=2, steps=6, warmup=2, save_every=3, rank=4, alpha=2.0
)


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
    base = rollout.StudentRecipe(network=TINY)
    save_student(path, network, replace(base, settings=replace(base.settings, num_knot_frames=0)))
    return path


def merged(start: Path, lora: Path) -> WanNetwork:
    """As `--lora` reads it."""
    checkpoint = open_checkpoint(start)
    return build_network(checkpoint, lora=open_lora(lora, 1.0, checkpoint.tensors))


def losses(network: WanNetwork, clips: Clips) -> torch.Tensor:
    """Of a rollout."""
    recipe = rollout.StudentRecipe(network=TINY, clips=2, chunks=3)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return rollout.rollout(network, recipe, clips.pick(torch.arange(4)), 3, 0.5, rng)["loss"]


def test_the_file_is_what_was_trained_and_the_network_stays(
    clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (precision, rollout):
        monkeypatch.setattr(module, "native_dtype", lambda _: torch.float32)
    trained = train_knot_lora(replace(RECIPE, lr=2e-2), clips, None, tmp_path, start)
    base, by_file = build_network(open_checkpoint(start)), merged(start, tmp_path / "knot-lora-0006.safetensors")
    learnt = lora_weights(trained)
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
    recipe = replace(RECIPE, steps=30, save_every=30, lr=1e-2, rank=8, alpha=8.0)
    trained = train_knot_lora(recipe, clips, None, tmp_path, start)
    assert losses(trained, clips) < 0.97 * losses(build_network(open_checkpoint(start)), clips)


def test_it_resumes_bit_for_bit(clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_knot_lora(RECIPE, clips, clips, tmp_path / "whole", start).state_dict()
    steps = student.step_losses

    def stops(*given: object) -> dict[str, torch.Tensor]:
        if given[4] == 4:
            raise KeyboardInterrupt
        return steps(*given)

    with monkeypatch.context() as patched:
        patched.setattr(knot_lora, "step_losses", stops)
        with pytest.raises(KeyboardInterrupt):
            train_knot_lora(RECIPE, clips, clips, tmp_path / "killed", start)
    resumed = train_knot_lora(RECIPE, clips, clips, tmp_path / "killed", start).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    files = [load_file(tmp_path / folder / "knot-lora-0006.safetensors") for folder in ("whole", "killed")]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    with pytest.raises(StateError, match="another rank"):
        train_knot_lora(replace(RECIPE, rank=8), clips, None, tmp_path / "killed", start)


def test_what_it_has_no_use_for_is_refused(clips: Clips, tmp_path: Path) -> None:
    for changes in ({"adversarial": 0.5}, {"muon_lr": 1.0}, {"network": TINY}):
        with pytest.raises(SettingsError, match=next(iter(changes))):
            replace(RECIPE, **changes)
    with pytest.raises(SettingsError, match="rank"):
        replace(RECIPE, rank=0)
    with pytest.raises(SystemExit, match="--start-from"):
        main(["knot-lora", "--folder", str(tmp_path)])
    other = replace(TINY, layout="t2v16", in_channels=16)
    save_student(tmp_path / "t2v.safetensors", WanNetwork(other), rollout.StudentRecipe(network=other))
    with pytest.raises(SettingsError, match="layout t2v16"):
        train_knot_lora(RECIPE, clips, None, tmp_path, tmp_path / "t2v.safetensors")


def test_without_peft_one_sentence_says_what_to_install(
    clips: Clips, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(SettingsError, match="pip install peft"):
        train_knot_lora(RECIPE, clips, None, tmp_path, start)
