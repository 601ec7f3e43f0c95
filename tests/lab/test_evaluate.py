"""The evaluation: the truth scores what a truth must, runs resume, and the report says what was measured."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.driving.audio import MEL_DIM
from knot_core.errors import DrivingError, SettingsError
from knot_core.threads import threads_inside
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.network import WanNetwork
from knot_lab.commands import evaluate
from knot_lab.evaluation import reader, video_figures
from knot_lab.evaluation import records as runs
from knot_lab.evaluation.report import Report, describe
from knot_lab.evaluation.scenes import MODES, Scene, Truth
from knot_lab.synthetic import espeak

SIZE, SECONDS = 64, 1.2


class MeanOfFour(torch.nn.Module):
    """A codec whose latent frame is the mean of its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, pixels):
        return torch.stack([pixels[:, :1].mean(dim=1), *(p.mean(dim=1) for p in pixels[:, 1:].split(4, dim=1))], dim=1)

    def decode(self, latents, _memory):
        return torch.cat([latents[:, :1], latents[:, 1:].repeat_interleave(4, dim=1)], dim=1), None


@pytest.mark.parametrize("length", [1, 21, 125, 126, 260, 380])
def test_segments_of_the_codec_lie_on_one_grid_of_latent_frames(length):
    pictures = np.random.default_rng(0).integers(0, 255, (length, 4, 4, 3), dtype=np.uint8)
    model = SimpleNamespace(codec=MeanOfFour(), device="cpu")
    found = torch.cat(list(runs.through_codec(model, pictures)))
    whole = MeanOfFour().decode(MeanOfFour().encode(torch.from_numpy(pictures)[None].float()), None)[0][0]
    assert found.shape == (length, 4, 4, 3)
    sure = max(1, length - 4)  # the last latent frame may be filled up
    assert (found[:sure].float() - whole[:sure]).abs().max() <= 1


@pytest.fixture(scope="module", autouse=True)
def _espeak_ng():
    try:
        espeak.library()
    except DrivingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module", autouse=True)
def _quick_readers():
    patch = pytest.MonkeyPatch()
    patch.setattr(reader, "NUM_RENDERS", 96)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def weights(tmp_path_factory, randomised):
    """The path of a tiny model with a codec beside it."""
    folder = tmp_path_factory.mktemp("model")
    sizes = {"dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 2, "text_dim": 24, "freq_dim": 16}
    adapter = AdapterConfig(hidden_dim=8, blocks=(0, 1))
    config = NetworkConfig(**sizes, in_channels=36, layout="inpaint36", adapter=adapter)
    preset = dataclasses.replace(PRESETS["knot-tiny"], height=SIZE, width=SIZE)
    save_network(folder / "m.safetensors", randomised(WanNetwork(config), 1), preset)
    codec = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2)
    save_file(codec.state_dict(), folder / "m-codec.safetensors")
    return folder / "m.safetensors"


@pytest.fixture(scope="module")
def scene():
    return Scene(number=3, seconds=SECONDS, size=SIZE)


@pytest.fixture(scope="module")
def truth(scene, tmp_path_factory):
    return Truth.of(scene, tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def scene_reader(scene):
    return reader.Reader.of(scene.identity, SIZE)


def pieces(pictures, *lengths):
    cuts = np.cumsum([0, *lengths])
    return [torch.from_numpy(np.array(pictures[a:b])) for a, b in zip(cuts, [*cuts[1:], None], strict=True)]


def test_the_truth_itself_scores_perfectly(scene, truth, scene_reader):
    track = video_figures.measure(pieces(truth.pictures, 9, 12), truth, scene_reader)
    found = video_figures.fidelity(track, 3).values
    assert found["psnr"] > 100
    assert found["identity_last"] > 100
    assert found["sharpness"] == pytest.approx(1)
    assert found["boundary"] == found["true_boundary"]
    assert len(track["error"]) == scene.num_pixel_frames


def test_pieces_of_any_length_measure_the_same(truth, scene_reader):
    noisy = np.clip(truth.pictures + np.random.default_rng(0).integers(-9, 9, truth.pictures.shape), 0, 255)
    noisy = noisy.astype(np.uint8)
    with threads_inside(2):  # with one, torch's convolutions round otherwise for some batch sizes: by 1.6e-4 here
        one, many = (video_figures.measure(pieces(noisy, *cuts), truth, scene_reader) for cuts in ((), (9, 12, 1)))
    assert one
    for name, values in one.items():
        np.testing.assert_allclose(many[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_still_picture_has_no_mouth_correlation(scene, truth, scene_reader):
    still = np.repeat(truth.pictures[:1], scene.num_pixel_frames, axis=0)
    track = video_figures.measure(pieces(still), truth, scene_reader)
    expected = np.column_stack([scene.controls])
    assert video_figures.obedience(track, expected).values["mouth_open_correlation"] == 0


@pytest.mark.parametrize(("mode", "flags"), list(zip(MODES, [(1, 1, 1), (1, 1, 0), (1, 0, 0), (1, 1, 0)], strict=True)))
def test_a_mode_gives_what_it_says(mode, flags, scene, weights):
    model = runs.load_model(weights)
    driving = scene.driving(mode, model)
    signal = driving.pixel_signal(np.arange(scene.num_pixel_frames)).numpy()
    assert driving.num_pixel_frames == scene.num_pixel_frames
    assert tuple(signal[5, -3:]) == flags
    expected = scene.expected(mode, driving)
    assert np.isfinite(expected[:, :5]).all() == (mode != "free")
    assert np.array_equal(expected[:, 5:7], 0 * scene.speech.mouth if mode == "silence" else scene.speech.mouth)
    if mode == "full":
        np.testing.assert_allclose(signal[:, MEL_DIM : MEL_DIM + 8], scene.controls, atol=1e-6)


@pytest.fixture(scope="module")
def evaluated(weights, tmp_path_factory):
    """The options of an evaluation that has run, and its exit code."""
    out = tmp_path_factory.mktemp("out") / "eval.json"
    options = ["--json", str(out), "--model", str(weights), "--identities", "1", "--seconds", str(SECONDS)]
    options += ["--variants", "full,knot0", "--modes", "full,silence", "--steps", "1", "--jobs", "1", "--device", "cpu"]
    return out, options, evaluate.main(options)


def test_an_evaluation_writes_figures_table_plot_and_pictures(evaluated):
    out, _, code = evaluated
    found = json.loads(out.read_text())
    assert code == 2  # a random network holds nothing
    assert set(found["figures"]["full"]) == {"full", "knot0", "truth", "codec", "frozen", "mean"}
    assert set(found["figures"]["silence"]) == {"full"}
    assert found["figures"]["full"]["full"]["psnr"]["n"] == 1
    assert any(not check["holds"] for check in found["checks"])
    assert "| knot0 |" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").stat().st_size > 1000
    assert (out.parent / "eval-sheets" / "000.png").exists()


def test_a_second_evaluation_measures_nothing_again(evaluated):
    out, options, _ = evaluated
    before, lines = out.read_text(), out.with_suffix(".jsonl").read_text()
    evaluate.main(options)
    assert out.with_suffix(".jsonl").read_text() == lines
    assert out.read_text() == before


def test_a_cut_off_line_is_measured_again_and_gives_the_same(evaluated):
    out, options, _ = evaluated
    before, lines = json.loads(out.read_text()), out.with_suffix(".jsonl").read_text()
    out.with_suffix(".jsonl").write_text(lines[:-40])
    evaluate.main(options)
    after = json.loads(out.read_text())
    for found in (before, after):
        found["figures"]["silence"]["full"].pop("wall_seconds")
    assert after["figures"] == before["figures"]


def test_other_settings_are_other_runs(evaluated):
    _, options, _ = evaluated
    plan = evaluate._plan(evaluate._parser().parse_args(options))
    model = plan.load()
    other = dataclasses.replace(plan, steps=2)
    ours, theirs = plan.made_by(model), other.made_by(model)
    assert ours["full"] != theirs["full"]
    assert ours["codec"] == theirs["codec"]
    assert ours["full"] != ours["knot0"]
    assert len(evaluate.current_records(plan, model)) == len(plan.runs())
    assert {record.variant for record in evaluate.current_records(other, model)} == set(runs.BASELINES)


@pytest.mark.parametrize("options", [["--json", "e.md"], ["--json", "e.jsonl"], ["--plot", "e.json"],
                                     ["--plot", "e-sheets/p.png"], ["--plot", "model.safetensors"]])  # fmt: skip
def test_nothing_is_written_over_what_is_read_or_over_one_another(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(SettingsError, match="would be written over"):
        evaluate.main(["--json", "e.json", "--model", "model.safetensors", *options])
    assert (tmp_path / "model.safetensors").read_text() == "weights"


@pytest.mark.parametrize(("option", "value"), [("--variants", "full,knot7"), ("--modes", ""), ("--seconds", "0")])
def test_what_cannot_be_evaluated_is_refused(option, value):
    with pytest.raises(SettingsError):
        evaluate.main([option, value])


def record(identity, variant="full", mode="full", **values):
    return runs.Record(identity=identity, mode=mode, variant=variant, made_by="x", values=values, curves={})


def test_checks_are_of_means_and_paired_differences():
    stream = {"psnr_last": 27.0, "identity_first": 30.0, "identity_last": 29.5, "sharpness": 1.0, "sharpness_last": 0.7}
    edges = {"boundary": 1.02, "true_boundary": 0.95}
    records = [record(i, psnr_first=27.2 + i, **stream, **edges) for i in range(3)]
    records += [record(i, "codec", psnr=31.0, psnr_first=28.5 + i, sharpness=0.9) for i in range(3)]
    records += [record(i, "knot0", boundary=1.04, true_boundary=0.95) for i in range(3)]
    checks = {check.name: check for check in Report(records).checks()}
    assert checks["stream PSNR over the codec's, first 5 s, dB"].value == pytest.approx(-1.3)
    assert checks["stream PSNR over the codec's, first 5 s, dB"].half == pytest.approx(0)
    assert not checks["stream sharpness, last 5 s"].holds
    assert not checks["boundary ratio over the truth's"].holds
    assert checks["nearer to the truth's boundary ratio than without knot, by"].value == pytest.approx(0.02)
    assert "silence: mean mouth opening" not in checks
    assert describe(checks["codec PSNR, dB"]).startswith("ok")


def test_a_record_survives_its_line(tmp_path):
    path, written = tmp_path / "r.jsonl", record(1, psnr=30.0, head_motion=math.nan)
    runs.append_record(path, record(0))
    path.write_text(path.read_text()[:-9])
    runs.append_record(path, written)
    (read,) = runs.read_records(path)
    assert read.key == written.key
    assert math.isnan(read.values["head_motion"])
