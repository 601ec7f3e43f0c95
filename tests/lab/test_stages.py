"""Runs of the stages: they resume bit for bit, lose little when killed, say what is wrong, divide among processes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from knot_core.errors import KnotError, SettingsError, StateError
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.network import WanNetwork
from knot_lab.changes import changed
from knot_lab.commands.train import main
from knot_lab.data.batch import Batch, Given
from knot_lab.data.examples import open_examples
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_TINY, WAN_1_3B
from knot_lab.rng import Dice
from knot_lab.training import loop
from knot_lab.training.memory_table import estimate_memory, memory_table
from knot_lab.training.optimizers import follow
from knot_lab.training.self_forcing import Length, roll_out
from knot_lab.training.stage import run_step
from knot_lab.training.stages import STAGES, build_stage
from knot_lab.training.training_state import load_checkpoint

# knot-tiny, tinier, as the command line says it
SMALL = [
    "network.dim=48", "network.ffn_dim=64", "network.num_layers=2", "network.text_dim=8", "network.freq_dim=16",
    "network.adapter.hidden_dim=8", "network.adapter.blocks=(0, 1)", "stream.num_chunk_frames=2", "stream.steps=2",
    "stream.num_window_frames=3", "clip_frames=4", "height=32", "width=32", "batch=2", "micro_batch=1",
    "optimizer=adamw", "precision=float32", "distill.critic_updates=1", "distill.most_lead=1",
    *(f"{stage}.{value}" for stage in STAGES for value in ("steps=6", "save_every=2", "sample_every=6", "log_every=1")),
]  # fmt: skip
RECIPE = changed(KNOT_TINY, SMALL)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder of two shards."""
    folder = tmp_path_factory.mktemp("clips")
    rng = torch.Generator().manual_seed(0)
    for shard in range(2):
        tensors = {"latents": (3, 7, 16, 4, 4), "references": (3, 2, 16, 4, 4), "signal": (3, 7, 4, 75)}
        made = {name: torch.randn(size, generator=rng).half() for name, size in tensors.items()}
        made["reference_positions"] = torch.tensor([[6, 9]] * 3)
        save_file(made, folder / f"videos-{shard:05d}.safetensors")
    return folder


def _run(name, recipe, clips, folder, team=None):
    quiet = loop.Outputs(folder=folder, log=lambda *_, **__: None)
    stage = build_stage(name, recipe, team or Team(), {})
    for seed, role in enumerate(stage.roles.values()):  # a head that says 0 would hide what the rest does
        torch.nn.init.normal_(
            role.network.head.head.weight, std=0.1, generator=torch.Generator().manual_seed(seed // 9)
        )
    loop.train_stage(stage, open_examples(clips, recipe), quiet)
    return open_checkpoint(folder / f"{name}.safetensors").tensors


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_resumes_bit_for_bit(name, optimizer, clips, tmp_path):
    recipe = replace(RECIPE, optimizer=optimizer)
    whole = _run(name, recipe, clips, tmp_path / "whole")
    stage = build_stage(name, recipe, Team(), {})
    _run_until(name, recipe, clips, tmp_path / "cut", stop=4)
    assert load_checkpoint(tmp_path / "cut" / f"{name}.ckpt")["step"] == 4
    resumed = _run(name, recipe, clips, tmp_path / "cut")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert any(
        not torch.equal(whole[key], weight) for key, weight in stage.roles["average"].network.state_dict().items()
    )
    assert (tmp_path / "whole" / f"{name}-samples" / "000006.png").is_file()


def _run_until(name, recipe, clips, folder, stop):
    """Stopped by hand after step `stop`, with the checkpoint of an earlier or the same step."""

    def stopping(*_, step, **__):
        if step == stop + 1:
            raise KeyboardInterrupt

    stage = build_stage(name, recipe, Team(), {})
    for seed, role in enumerate(stage.roles.values()):
        torch.nn.init.normal_(
            role.network.head.head.weight, std=0.1, generator=torch.Generator().manual_seed(seed // 9)
        )
    with pytest.raises(KeyboardInterrupt):
        loop.train_stage(stage, open_examples(clips, recipe), loop.Outputs(folder=folder, log=stopping))


def _arguments(name, clips, folder, *options):
    return [name, "--folder", str(folder), "--clips", str(clips), "--set", *SMALL, *options]


def _command(*what):
    return [sys.executable, "-m", "knot_lab", "train", *_arguments(*what)]


def _environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.mark.slow
def test_killed_at_any_moment_a_run_loses_no_more_than_the_interval(clips, tmp_path):
    """Killed without warning, twice; what it has logged is at most the interval ahead of what it goes on from."""
    what = ("teacher", clips, tmp_path, "teacher.steps=14", "teacher.save_every=2", "teacher.sample_every=50")
    log, checkpoint = tmp_path / "teacher.log", tmp_path / "teacher.ckpt"
    for least in (3, 8):
        process = subprocess.Popen(_command(*what), env=_environment(), cwd=tmp_path, stdout=subprocess.DEVNULL)
        while _last_step(log) < least and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        state = load_checkpoint(checkpoint)
        assert 0 <= _last_step(log) - state["step"] <= 2
    main(_arguments(*what))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = {}
    for line in lines:
        losses.setdefault(line["step"], set()).add(line["loss"])
    assert sorted(losses) == list(range(1, 15))
    assert all(len(found) == 1 for found in losses.values())  # a step that was made twice was the same step


def _last_step(log):
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_have_the_losses_of_one(clips, tmp_path, optimizer):
    """Sharded weights, optimisers and averages, or all of them on both; what two have saved, one goes on with."""
    pytest.importorskip("torch.distributed.fsdp")
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    teacher = tmp_path / "teacher.safetensors"
    options = ["distill.steps=4", "distill.sample_every=4", "recompute=True", f"optimizer={optimizer}"]
    main(_arguments("teacher", clips, tmp_path, "teacher.steps=1"))
    (tmp_path / "causal.safetensors").write_bytes(teacher.read_bytes())
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        for name in ("teacher", "causal"):
            (folder / f"{name}.safetensors").write_bytes(teacher.read_bytes())
        if count == 1:
            main(_arguments("distill", clips, folder, *options))
        else:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
            command = [sys.executable, *launcher, *_command("distill", clips, folder, *options)[1:]]
            subprocess.run(command, env=_environment(), cwd=tmp_path, check=True)
        found.append([json.loads(line) for line in (folder / "distill.log").read_text().splitlines()])
    assert len(found[0]) == len(found[1]) == 4
    for one, two in zip(*found, strict=True):
        for name in set(one) - {"seconds"}:
            assert one[name] == pytest.approx(two[name], rel=1e-4, abs=1e-5), name
    going_on = ["distill.steps=5", "distill.sample_every=9", f"optimizer={optimizer}"]
    main(_arguments("distill", clips, tmp_path / "2", *going_on))
    assert _last_step(tmp_path / "2" / "distill.log") == 5


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_clips(clips, tmp_path, monkeypatch):
    real = loop.run_step

    def poisoned(stage, step, *rest):
        if step == 3:
            with torch.no_grad():
                next(iter(stage.roles["teacher"].parameters())).fill_(torch.nan)
        return real(stage, step, *rest)

    monkeypatch.setattr(loop, "run_step", poisoned)
    with pytest.raises(loop.TrainingError, match="no number at step 3"):
        _run("teacher", RECIPE, clips, tmp_path)
    (kept,) = tmp_path.glob("teacher-stopped-*.pt")
    stopped = torch.load(kept, weights_only=True)
    assert stopped["step"] == 3
    assert [tuple(batch["truth"].shape) for batch in stopped["batches"]] == [(1, 5, 16, 4, 4)] * 2
    assert load_checkpoint(tmp_path / "teacher.ckpt")["step"] == 2  # and that is whole
    assert all(
        weight.isfinite().all() for weight in load_checkpoint(tmp_path / "teacher.ckpt")["roles"]["teacher"].values()
    )


def test_a_disc_that_is_too_full_is_said_before_the_run(clips, tmp_path, monkeypatch):
    usage = loop.shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(KnotError, match="GiB free, this stage needs"):
        _run("distill", RECIPE, clips, tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))


def test_losses_and_samples_go_to_tensorboard(clips, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _run("teacher", RECIPE, clips, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "teacher")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 7))
    assert [event.step for event in events.Images("samples")] == [6]


def test_another_network_does_not_go_on_from_a_checkpoint(clips, tmp_path):
    _run("teacher", changed(RECIPE, ["teacher.steps=2"]), clips, tmp_path)
    with pytest.raises(StateError, match="another network"):
        _run("teacher", changed(RECIPE, ["network.ffn_dim=32"]), clips, tmp_path)


def test_processes_divide_a_batch_or_say_why_not():
    assert Team(rank=1, size=2).rows(8, 2) == [range(4, 6), range(6, 8)]
    with pytest.raises(SettingsError, match="does not divide among 3 processes"):
        Team(size=3).rows(8, 2)


def test_what_does_not_fit_is_said(clips, tmp_path):
    with pytest.raises(SettingsError, match="latent frames, the recipe wants"):
        open_examples(clips, changed(RECIPE, ["clip_frames=16"]))
    with pytest.raises(SettingsError, match="there are no clips"):
        open_examples(tmp_path, RECIPE)
    for wrong in ("distill.stepz=3", "distill=3", "batch=x", "nothing", "clip_frames=5", "precision=half"):
        with pytest.raises(SettingsError):
            changed(RECIPE, [wrong])
    with pytest.raises(SystemExit, match="run that stage first"):
        main(["distill", "--folder", str(tmp_path), "--clips", str(clips), "--set", *SMALL])


# --- Wan 1.3B


def test_the_recipe_of_wan_builds_without_memory_and_says_what_it_takes():
    with torch.device("meta"):
        network = WanNetwork(WAN_1_3B.network)
    weights = sum(weight.numel() for weight in network.parameters())
    assert 1.41e9 < weights < 1.44e9  # Wan2.1 1.3B has 1,418,996,800, and this one more input channels and an adapter
    table = memory_table(WAN_1_3B)
    assert all(f"{stage:10}{devices:>8}" in table for stage in STAGES for devices in (1, 8, 64))
    totals = [estimate_memory(WAN_1_3B, "distill", devices).total for devices in (1, 8, 64)]
    assert totals[0] > totals[1] > totals[2]
    assert totals[1] < 80 * 2**30  # eight devices of 80 GB
    states = [estimate_memory(WAN_1_3B, "distill", devices).states for devices in (1, 8)]
    assert states[0] == pytest.approx(32 * weights)  # four networks, two optimisers, in float32
    assert states[1] == pytest.approx(states[0] / 8, rel=1e-6)


def test_a_full_step_of_wan_at_its_width(tmp_path):
    """All of the last stage's recipe but depth, picture size and number of clips."""
    small = ["network.num_layers=1", "network.adapter.blocks=(0,)", "height=32", "width=32", "batch=1", "clip_frames=6",
             "distill.critic_updates=1", "distill.most_lead=1"]  # fmt: skip
    recipe = changed(WAN_1_3B, small)
    rng = torch.Generator().manual_seed(0)
    sizes = {"latents": (1, 7, 16, 4, 4), "references": (1, 1, 16, 4, 4), "signal": (1, 7, 4, 75)}
    save_file({name: torch.randn(size, generator=rng) for name, size in sizes.items()}, tmp_path / "a.safetensors")
    stage = build_stage("distill", recipe, Team(), {})
    for role in stage.roles.values():
        torch.nn.init.normal_(role.network.head.head.weight, std=0.02, generator=rng)
    feed = loop.make_feed(stage, open_examples(tmp_path, recipe))
    before = stage.roles["student"].network.blocks[0].ffn[0].weight.detach().clone()
    values = run_step(stage, 0, 1.0, feed)
    assert all(torch.isfinite(torch.tensor(value)) for value in values.values())
    assert values["norm"] > 0
    assert not torch.equal(before, stage.roles["student"].network.blocks[0].ffn[0].weight)


# --- all three stages, where the answer is known

MODES = 0.8  # clips are wholly bright or wholly dark
TOY = changed(KNOT_TINY, [
    "network.dim=48", "network.ffn_dim=96", "network.num_layers=2", "network.text_dim=8", "network.freq_dim=16",
    "network.adapter=None", "stream.num_chunk_frames=1", "stream.num_window_frames=2", "stream.run_ahead_start=2",
    "stream.run_ahead_stride=2", "stream.steps=1", "stream.shift=1", "clip_frames=2", "height=16", "width=16",
    "batch=32", "micro_batch=32", "optimizer=adamw", "precision=float32", "distill.critic_updates=2",
    "distill.most_lead=1", "teacher.lr=2e-3", "causal.lr=2e-3", "distill.lr=5e-4", "distill.critic_lr=1e-3",
    "distill.betas=(0.0, 0.95)",
])  # fmt: skip


def _toy_feed(step, part):
    dice = Dice(0, step, range(32), part)
    mode = (dice.uniform(1, 1, 1, 1) < 0.5).float() * 2 * MODES - MODES
    yield Batch(truth_BFCHW=mode + 0.1 * dice.normal(3, 16, 2, 2), given=_nothing(32)), dice


def _nothing(clips):
    """A reference that says nothing."""
    return Given(
        reference_B1CHW=torch.zeros(clips, 1, 16, 2, 2),
        reference_position_B=torch.full((clips,), 2),
        signal_BFTS=torch.zeros(clips, 3, 4, 75),
        text_BTD=torch.zeros(1, 1, 8),
    )


def _toy_stage(name, steps, **starts):
    stage = build_stage(name, TOY, Team(), starts)
    for step in range(steps):
        run_step(stage, step, min(1.0, (step + 1) / 10), _toy_feed)
        follow(stage.roles["average"], stage.roles[stage.learner], min(0.98, (step + 1) / (step + 10)))
    return stage.roles["average"]


@torch.no_grad()
def _seen(role):
    """Shares of streamed clips near a mode, and of bright ones; the distance of their brightness from the truth's."""
    made, _ = role(roll_out, _nothing(256), TOY.stream, Length(chunks=2), Dice(9, 0, range(256)))
    brightness = made.mean(dim=(1, 2, 3, 4))
    truth = torch.tensor([-MODES] * 128 + [MODES] * 128)
    distance = (brightness.sort().values - truth).abs().mean().item()
    near = ((brightness.abs() - MODES).abs() < MODES / 4).float().mean().item()
    return near, (brightness > 0).float().mean().item(), distance


@pytest.mark.slow
def test_one_step_of_the_distilled_student_draws_what_the_teacher_knows():
    """A clip is bright or dark. One step of a network that matched flows says grey; distilled, it decides."""
    teacher = _toy_stage("teacher", 250).network.state_dict()
    causal = _toy_stage("causal", 60, teacher=teacher, student=teacher)
    near, _, distance = _seen(causal)
    student = _toy_stage("distill", 80, teacher=teacher, critic=teacher, student=causal.network.state_dict())
    near_after, bright, distance_after = _seen(student)
    assert near < 0.35
    assert near_after > near + 0.2
    assert distance_after < 0.8 * distance
    assert 0.2 < bright < 0.8
