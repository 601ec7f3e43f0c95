"""The study: its figures have known answers, its streams are what they say, and its page tells what was measured."""

import dataclasses
import json
import math
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from knot_core.cache_index import CacheIndex
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import SettingsError, StateError
from knot_core.stream import open_stream
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.layouts import get_layout
from knot_core.wan.model import WanNetwork
from knot_lab.commands import evaluate
from knot_lab.evaluation import reader
from knot_lab.evaluation.records import Record, read_records
from knot_lab.study import ablations as study_streams
from knot_lab.study import measured_runs as study_runs
from knot_lab.study import run_study as study
from knot_lab.study import temporal_metrics as study_metrics
from knot_lab.study.charts import COLOURS, save_study_plot
from knot_lab.study.claims import CLAIMS
from knot_lab.study.protocol import FORMS, StepScene, StudyPlan, form
from knot_lab.study.run_study import told
from knot_lab.study.variants import VARIANTS, differ
from knot_lab.study.verdicts import FIGURES, TABLES, Claim, StudyReport

PERIOD, SIZE = 12, 64
SETTINGS = StreamSettings(steps=2)


# figures


def change(num_frames=900, seed=0):
    """How much pictures change from one to the next where somebody moves without a plan."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.standard_normal(num_frames + 50), np.ones(50) / 50, "valid")[:num_frames]
    return 1 + 0.5 * slow + 0.1 * rng.standard_normal(num_frames)


def seam_of(signal):
    return study_metrics.seam(study_metrics.spectrum(signal, PERIOD), PERIOD, 3)


def test_a_seam_at_every_chunk_stands_out_of_the_spectrum():
    without = np.array([seam_of(change(seed=seed)) for seed in range(20)])
    jumping = np.array([seam_of(change(seed=seed) + 0.3 * (np.arange(900) % PERIOD == 9)) for seed in range(20)])
    assert abs(without.mean()) < 1
    assert jumping.min() > without.max() + 3


def test_what_recurs_with_every_latent_frame_is_no_seam():
    latent = np.array([seam_of(change(seed=seed) + 0.3 * (np.arange(900) % 4 == 1)) for seed in range(20)])
    assert abs(latent.mean()) < 1
    beats = [
        study_metrics.beat(study_metrics.spectrum(change(seed=seed) + part, PERIOD), PERIOD, 3)
        for seed in range(20)
        for part in (0, 0.3 * (np.arange(900) % 4 == 1))
    ]
    assert min(beats[1::2]) > max(beats[::2]) + 3


def test_a_sine_lies_in_its_own_bin_of_the_spectrum():
    power = study_metrics.spectrum(2 + np.sin(2 * np.pi * 30 / 240 * np.arange(960)), PERIOD)
    assert len(power) == 121
    assert power.argmax() == 30
    assert power[30] == pytest.approx((240 / 4) ** 2 / (3 * 240 / 8))  # of amplitude 1: (N / 4)^2 / (3 N / 8)


def test_motion_that_both_share_falls_out_of_the_change():
    truth = np.abs(change(seed=1)) * np.linspace(0.5, 2, 900)
    assert np.abs(study_metrics.log_change(truth, truth)).max() == 0
    at_chunks = np.arange(900) % PERIOD == 9
    found = study_metrics.log_change(np.where(at_chunks, 1.3, 1.1) * truth, truth)
    assert seam_of(found) > 20
    assert found[at_chunks].min() > found[~at_chunks].max()
    assert np.isfinite(study_metrics.log_change(truth, np.zeros(900))).all()


def test_a_signal_too_short_for_a_spectrum_has_no_seam():
    assert len(study_metrics.spectrum(change(119), PERIOD)) == 0
    assert math.isnan(seam_of(change(119)))
    assert math.isfinite(seam_of(change(120)))


def test_flicker_is_the_noise_of_known_energy_where_the_truth_rests():
    rng, deviation = np.random.default_rng(0), 3 / 255
    truth = torch.full((30, 48, 48, 3), 0.5)
    for t in range(30):
        truth[t, 4 : 4 + 8, t : t + 8] = 0.9  # something moves along the top
    masks = study_metrics.static_masks(truth)
    noisy = truth + deviation * torch.from_numpy(rng.standard_normal(truth.shape)).float()
    found = study_metrics.flicker(study_metrics.change_energy(noisy, masks))
    assert found == pytest.approx(3 * math.sqrt(2), rel=0.01)
    assert study_metrics.flicker(study_metrics.change_energy(truth, masks)) == 0
    assert masks[0].sum() == 0
    assert masks[1:, 4:12, 24:28].mean() < 1
    assert masks[1:, 20:].min() == 1


@pytest.mark.parametrize("cuts", [(), (9, 21), (1, 2, 120)])
def test_pieces_of_any_length_flicker_the_same(cuts, tmp_path):
    rng = np.random.default_rng(0)
    pictures = (100 + rng.integers(0, 2, (130, 32, 32, 3))).astype(np.uint8)
    pictures[:, :8, :8] = rng.integers(0, 255, (130, 8, 8, 3))
    truth = SimpleNamespace(pictures=pictures)
    static, energies = study_runs._static(truth, tmp_path), []
    assert np.array_equal(static, study_metrics.static_masks(torch.from_numpy(pictures)).numpy())
    pieces = [torch.from_numpy(part) for part in np.split(pictures, cuts)]
    assert [len(piece) for piece in study_runs._watched(pieces, static, energies)] == [len(piece) for piece in pieces]
    whole = study_metrics.change_energy(torch.from_numpy(pictures), torch.from_numpy(static))
    np.testing.assert_allclose(np.concatenate(energies), whole)


def test_flicker_of_nothing_static_is_unknown():
    pictures = torch.rand(4, 16, 16, 3)
    assert math.isnan(study_metrics.flicker(study_metrics.change_energy(pictures, torch.zeros(4, 16, 16))))


@pytest.mark.parametrize("delay", [0, 1, 6, 18])
@pytest.mark.parametrize("ends_at", [0.4, 0.3])
def test_a_step_response_has_the_delay_it_was_given(delay, ends_at):
    asked = np.where(np.arange(100) < 40, -0.4, 0.4)
    read = np.where(np.arange(100) < 40 + delay, -0.4, ends_at)
    found, gain = study_metrics.step_response(read, asked, 40, 100, PERIOD)
    assert found == pytest.approx(delay / PERIOD)
    assert gain == pytest.approx((ends_at + 0.4) / 0.8)


def test_a_slow_response_counts_until_nine_tenths_of_the_way():
    asked = np.where(np.arange(100) < 40, 0.0, 1.0)
    ramp = np.clip((np.arange(100) - 40) / 20, 0, 1)
    assert study_metrics.step_response(ramp, asked, 40, 100, PERIOD)[0] == pytest.approx(18 / PERIOD)


def test_who_does_not_follow_has_not_answered():
    asked = np.where((np.arange(120) // 40) % 2, 0.4, -0.4)
    steps = [(40, 80), (80, 120)]
    still = study_metrics.mean_response(np.zeros(120), asked, steps, PERIOD)
    assert (still["response_gain"], still["response_answered"]) == (0, 0)
    assert math.isnan(still["response"])
    half = study_metrics.mean_response(np.where(np.arange(120) < 40, -0.4, 0.4), asked, steps, PERIOD)
    assert (half["response"], half["response_answered"]) == (0, 0.5)


def test_roughness_is_that_of_the_acceleration():
    asked = np.sin(np.arange(200)[:, None] / np.array([9.0, 13.0, 20.0]))
    assert study_metrics.roughness(asked, asked) == pytest.approx(1)
    assert study_metrics.roughness(2 * asked + 5, asked) == pytest.approx(2)
    jitter = asked + 0.05 * np.random.default_rng(0).standard_normal(asked.shape)
    assert study_metrics.roughness(jitter, asked) > 3


# streams


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


# the command


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


# the report


def records(variant, mode="full", **values):
    """A person each for every value; figures go over the people in parallel."""
    people = range(len(next(iter(values.values()))))
    return [
        Record(
            identity=i,
            mode=mode,
            variant=variant,
            made_by="x",
            values={name: float(value[i]) for name, value in values.items()},
            curves={"psnr": [1.0], "identity": [1.0], "sharpness": [1.0], "spectrum": [1.0] * 121}
            if mode == "full"
            else {},
        )
        for i in people
    ]


HARD = np.array([0.0, 4.0, 9.0, 2.0])  # people differ far more than variants do
NOISE = np.array([0.01, -0.02, 0.02, -0.01])


@pytest.mark.parametrize(
    ("gain", "margin", "verdict"),
    [
        (0.5, 0.0, "holds"),
        (-0.5, 0.0, "does not hold"),
        (0.0, 0.0, "not shown"),
        (-0.05, 0.1, "holds"),
        (-0.5, 0.1, "does not hold"),
        (-0.1, 0.1, "not shown"),
    ],
)
@pytest.mark.parametrize(("figure", "sign"), [("psnr", 1), ("seam", -1)])
def test_a_claim_is_judged_by_paired_differences(gain, margin, verdict, figure, sign):
    measured = records("full", **{figure: HARD + sign * (gain + NOISE)}) + records("knot0", **{figure: HARD})
    claim = Claim(text="better", figure=figure, than="knot0", margin=margin)
    (found,) = StudyReport(measured, [claim]).found()
    assert found.verdict == verdict
    assert found.better.mean == pytest.approx(gain)


def test_a_bound_is_judged_alone_and_one_person_decides_nothing():
    claim = Claim(text="soon", figure="response", than="", bound=1.0)
    (found,) = StudyReport(records("full", response=[0.2, 0.4, 0.3]), [claim]).found()
    assert (found.verdict, found.better.mean) == ("holds", pytest.approx(0.7))
    (found,) = StudyReport(records("full", response=[0.2]), [claim]).found()
    assert found.verdict == "cannot be told from one person"


def test_figures_of_both_modes_stand_side_by_side():
    both = records("full", psnr=[30, 31], boundary=[1.1, 0.8], true_boundary=[1.0, 1.0])
    report = StudyReport(both + records("full", mode="steps", lips=[0.5, 0.7]), [])
    assert report.mean("psnr", "full").mean == pytest.approx(30.5)
    assert report.mean("lips", "full").mean == pytest.approx(0.6)
    assert report.mean("boundary_error", "full").mean == pytest.approx(0.15)
    assert report.mean("lips", "full").count == 2


def test_claims_of_variants_that_did_not_run_are_left_out():
    measured = records("full", psnr=HARD, boundary=HARD, true_boundary=HARD) + records("k2", psnr=HARD)
    assert {found.claim.than for found in StudyReport(measured, CLAIMS).found()} <= {"", "k2"}


def test_every_claim_and_every_table_is_of_what_is_measured():
    assert {claim.figure for claim in CLAIMS} <= set(FIGURES)
    assert {claim.than for claim in CLAIMS} <= {"", "codec", *VARIANTS}
    usual = {name for name, variant in VARIANTS.items() if variant.usual}
    assert usual - {"full", "control", "k1"} <= {claim.than for claim in CLAIMS}
    assert [figure for figures in TABLES.values() for figure in figures] == list(FIGURES)
    assert set(COLOURS) == {"truth", "codec", *VARIANTS}


def test_a_plot_is_drawn_where_a_variant_fails_and_where_figures_are_missing(tmp_path):
    measured = records("full", psnr_last=HARD) + records("codec", psnr_last=HARD)
    measured += records("noanchor", psnr_last=HARD - 1e6) + records("knot0", psnr_last=HARD)
    save_study_plot(tmp_path / "study.png", StudyReport(measured, CLAIMS), PERIOD)
    assert (tmp_path / "study.png").stat().st_size > 1000


def test_a_told_claim_names_its_verdict():
    measured = records("full", seam=HARD) + records("knot0", seam=HARD + 1 + NOISE)
    lines = told(StudyReport(measured, CLAIMS)).splitlines()
    assert any(line.startswith("holds") and "The knot hides" in line for line in lines)
