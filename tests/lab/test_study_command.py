"""The study as a command: its models, records and refusals."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.errors import SettingsError, StateError
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.network import WanNetwork
from knot_lab.commands import evaluate
from knot_lab.evaluation import reader
from knot_lab.evaluation.records import read_records
from knot_lab.study import run_study as study
from knot_lab.study.study_plan import FORMS, StepScene, StudyPlan, form
from knot_lab.study.verdicts import TABLES, Claim, StudyReport

from .study_records import HARD, NOISE, records

PERIOD = 12
SIZE = 64


def save_model(folder, name, seed, randomised):
    sizes = {"dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 2, "text_dim": 24, "freq_dim": 16}
    adapter = AdapterConfig(hidden_dim=8, blocks=(0, 1))
    config = NetworkConfig(**sizes, in_channels=36, layout="inpaint36", adapter=adapter)
    preset = dataclasses.replace(PRESETS["knot-tiny"], height=SIZE, width=SIZE)
    save_network(folder / f"{name}.safetensors", randomised(WanNetwork(config), seed), preset)
    return folder / f"{name}.safetensors"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, randomised):
    """The path of a tiny model with a codec beside it."""
    folder = tmp_path_factory.mktemp("model")
    codec = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2)
    save_file(codec.state_dict(), folder / "m-codec.safetensors")
    return save_model(folder, "m", 1, randomised)


@pytest.fixture(scope="module")
def studied(weights, tmp_path_factory, _espeak_ng):
    """The options of a study that has run."""
    patch = pytest.MonkeyPatch()
    patch.setattr(reader, "NUM_RENDERS", 96)
    out = tmp_path_factory.mktemp("out") / "study.json"
    options = ["--study", "--json", str(out), "--model", str(weights), "--identities", "2", "--seconds", "1.2"]
    options += ["--variants", "knot0,selfforcing", "--steps", "1", "--jobs", "1", "--device", "cpu"]
    options += ["--publish", str(out.parent / "docs")]
    assert evaluate.main(options) == 0
    yield out, options
    patch.undo()


@pytest.mark.slow
def test_a_study_writes_figures_page_and_plot(studied):
    out, _ = studied
    found, page = json.loads(out.read_text()), out.with_suffix(".md").read_text()
    assert set(found["figures"]) == {"truth", "codec", "full", "knot0", "selfforcing"}
    assert set(found["differences"]) == {"knot0", "selfforcing"}
    assert found["figures"]["full"]["psnr"]["n"] == 2
    assert found["figures"]["truth"]["response"]["mean"] == 0
    assert found["figures"]["truth"]["flicker"]["mean"] < 1
    assert page == (out.parent / "docs" / "study.md").read_text()
    assert str(out) not in page, "where it was written is one machine's own"
    for told_of in ("| knot0 |", "| selfforcing |", "sha256", "--study", "The knot hides", *TABLES):
        assert told_of in page, told_of
    assert all(found["verdict"] in page for found in found["claims"])
    assert out.with_suffix(".png").stat().st_size > 1000
    assert (out.parent / "docs" / "study.png").exists()


@pytest.mark.slow
def test_a_second_study_measures_nothing_again_and_a_cut_off_one_goes_on(studied):
    out, options = studied
    lines, before = out.with_suffix(".jsonl").read_text(), json.loads(out.read_text())
    evaluate.main(options)
    assert out.with_suffix(".jsonl").read_text() == lines
    cut = lines[: len(lines) * 2 // 3]
    out.with_suffix(".jsonl").write_text(cut)
    evaluate.main(options)
    assert out.with_suffix(".jsonl").read_text().startswith(cut)
    assert json.loads(out.read_text())["figures"] == before["figures"]
    assert len(read_records(out.with_suffix(".jsonl"))) == 2 * (2 + 1 + 2 * 3)


@pytest.mark.slow
def test_weights_replaced_meanwhile_are_no_empty_study(studied, monkeypatch):
    _, options = studied
    monkeypatch.setattr(study, "each_identity", lambda *_: None)
    with pytest.raises(StateError, match="replaced while"):
        evaluate.main([*options, "--steps", "2"])


def plan_of(weights, **changes):
    fields = {"identities": 1, "seconds": 1.2, "step_seconds": 5.0, "steps": 1, "codec": None, "models": None}
    fields |= {"variants": ("full", "knot0"), "model": str(weights), "device": "cpu", "dtype": torch.float32}
    return StudyPlan(**fields | {"records": weights.with_name("r.jsonl")} | changes)


def test_a_model_trained_for_a_variant_streams_it(weights, tmp_path, randomised):
    save_model(tmp_path, "knot0", 5, randomised)
    shared, own = plan_of(weights), plan_of(weights, models=tmp_path)
    models = own.load()
    assert models["knot0"] is not models["full"]
    without = shared.load()
    assert without["knot0"] is without["full"]
    theirs, ours = shared.made_by(without), own.made_by(models)
    assert ours["full", "full"] == theirs["full", "full"]
    assert ours["full", "knot0"] != theirs["full", "knot0"]
    assert own.own_models() == {"knot0": tmp_path / "knot0.safetensors"}


def test_a_lora_beside_a_model_is_merged(weights, tmp_path, randomised):
    save_model(tmp_path, "knot0", 5, randomised)
    plain = plan_of(weights, models=tmp_path).load()["knot0"]
    name = "blocks.0.ffn.0"
    up, down = torch.ones(64, 1), torch.full((1, 128), 0.5)
    pair = {f"diffusion_model.{name}.lora_B.weight": up, f"diffusion_model.{name}.lora_A.weight": down}
    save_file(pair, tmp_path / "knot0-lora.safetensors")
    merged = plan_of(weights, models=tmp_path).load()["knot0"]
    change = (merged.network.get_submodule(name).weight - plain.network.get_submodule(name).weight).float()
    assert torch.allclose(change, torch.full_like(change, 0.5), atol=1e-5)


def test_what_was_trained_on_is_held_against_a_control_trained_on_as_long(weights, tmp_path, randomised):
    for name in ("knot0", "control"):
        save_model(tmp_path, name, 5, randomised)
    plan = plan_of(weights, models=tmp_path, variants=("full", "knot0", "s2"))
    plan = dataclasses.replace(plan, variants=study.chosen_variants(plan))
    assert plan.variants == ("full", "control", "knot0", "s2")
    assert plan.against() == {"knot0": "control"}
    assert plan.load()["control"] is not plan.load()["full"]
    measured = records("full", psnr=HARD) + records("control", psnr=HARD + 1)
    measured += records("knot0", psnr=HARD + 0.9 + NOISE) + records("s2", psnr=HARD - 0.1 + NOISE)
    claims = [Claim(text="better", figure="psnr", than=name) for name in ("knot0", "s2")]
    report = StudyReport(measured, claims, plan.against())
    assert [found.better.mean for found in report.found()] == pytest.approx([0.1, 0.1])
    assert "| knot0, less control |" in report.differences(["psnr"])
    assert {name: less["less"] for name, less in report.to_dict()["differences"].items()} == {
        "control": "full", "knot0": "control", "s2": "full",
    }  # fmt: skip
    assert [claim["of"] for claim in report.to_dict()["claims"]] == ["control", "full"]
    first, second = report.claims({}).splitlines()[2:]
    assert "(control)" in first
    assert "(control)" not in second
    assert report.difference("psnr", "control").mean == pytest.approx(1), "itself less the full stream"


def test_no_control_without_a_model_of_its_own(weights, tmp_path, randomised):
    assert "control" not in study.chosen_variants(plan_of(weights, variants=()))
    with pytest.raises(SettingsError, match=r"control\.safetensors"):
        study.chosen_variants(plan_of(weights, variants=("control",)))
    save_model(tmp_path, "full", 5, randomised)
    with pytest.raises(SettingsError, match=r"control\.safetensors"):
        study.chosen_variants(plan_of(weights, models=tmp_path))


def test_models_for_no_variant_are_refused(weights, tmp_path, randomised):
    with pytest.raises(SettingsError, match="no variant"):
        plan_of(weights, models=tmp_path).load()
    save_model(tmp_path, "knot7", 5, randomised)
    with pytest.raises(SettingsError, match="knot7"):
        plan_of(weights, models=tmp_path).load()


@pytest.mark.parametrize(
    "options",
    [
        ["--study", "--variants", "full,knot7"],
        ["--study", "--seconds", "0"],
        ["--study-models", "somewhere"],
        ["--publish", "somewhere"],
    ],
)
def test_what_cannot_be_studied_is_refused(options):
    with pytest.raises(SettingsError):
        evaluate.main(options)


def test_a_form_may_be_given_other_numbers():
    assert form("full", None, None) == FORMS["full"]
    assert FORMS["full"].identities >= 32
    assert FORMS["full"].seconds >= 600
    small = form("short", 2, 1.0)
    assert plan_of(Path("m.safetensors"), **vars(FORMS["short"])).form == "short"
    assert plan_of(Path("m.safetensors"), **vars(small)).form == ""
    assert (small.identities, small.seconds) == (2, 1.0)
    scene = StepScene(number=39, seconds=small.step_seconds, size=SIZE)
    assert len(scene.steps) >= 1


@pytest.mark.usefixtures("_espeak_ng")
def test_jumps_fall_everywhere_in_a_chunk_and_rest_between():
    scenes = [StepScene(number=number, seconds=10, size=SIZE) for number in range(12)]
    assert {start % PERIOD for scene in scenes for start, _ in scene.steps} == set(range(PERIOD))
    yaw = scenes[3].controls[:, 0]
    assert scenes[3].steps
    for start, stop in scenes[3].steps:
        assert abs(yaw[start] - yaw[start - 1]) == pytest.approx(0.9)
        assert np.ptp(yaw[start:stop]) == 0
