"""The face codec's training: what is known of the motion is true, and it resumes bit for bit."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.landmark_code import LandmarkCode, token_means
from knot_core.codec.latent_matching import warp
from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.errors import CheckpointError, SettingsError
from knot_core.media.landmark_names import LANDMARKS, PARTS
from knot_core.model_loading import ASSETS
from knot_lab.commands.stage_files import landmark_code_of
from knot_lab.data import face_clips
from knot_lab.data.clip_shards import Clips
from knot_lab.data.face_clips import prepare_bank, read_clip
from knot_lab.data.face_pictures import FacePictures, cropped, mirrored, read_rendered
from knot_lab.data.other_cameras import rephotographed
from knot_lab.data.portraits import Portraits
from knot_lab.data.warped_pictures import paint_shapes, warped_clip
from knot_lab.evaluation.metrics import psnr
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_FACE, Recipe
from knot_lab.rng import Dice
from knot_lab.synthetic import avatars
from knot_lab.training import face_codec as training
from knot_lab.training.face_codec_losses import moved_apart, point_loss
from knot_lab.training.landmark_code_fit import fit_landmark_code, fitted, read_landmark_code
from knot_lab.training.latent_reader import ReadCodec, landmark_loss
from knot_lab.training.loop import Outputs, train_stage
from knot_lab.training.regression_stage import build_regression

_OWN = replace(
    KNOT_FACE.face_codec,
    codec=WarpingConfig(encoder=(4, 4, 8, 8), decoder=(8, 8, 8), reference=4, points=len(LANDMARKS)), steps=4, warmup=1,
    size=64, warped_size=32, clips=1, groups=1, stills=0.5, still_clips=2, save_every=2, sample_every=4, log_every=1,
    rendered=0.4, portraits=0.2, cropped=0.5, crop=32, crops=2, tries=2,
)  # fmt: skip
_RECIPE = replace(KNOT_FACE, face_codec=_OWN, batch=3, micro_batch=3)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 17 frames whose picture moves to the right, a pixel a frame."""
    folder = tmp_path_factory.mktemp("bank")
    rng = np.random.default_rng(0)
    for number in range(2):
        picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        flow = np.zeros((17, 32, 32, 2), np.float16)
        flow[..., 0] = -np.arange(17)[:, None, None]
        visible = np.zeros((17, 32, 32), bool)
        for frame in range(17):
            visible[frame, :, (frame + 1) // 2 + 1 :] = True
        frames = np.stack([picture[:, 20 - frame : 84 - frame] for frame in range(17)])
        face = rng.random((18, 32, 32)) < 0.5
        np.savez(
            folder / f"{number}.npz", frames=frames, reference=picture[:, 20:84], flow=flow, visible=visible,
            face=face[1:], reference_face=face[0], flags=np.array([True, True, False]),
            units=rng.random((17, 52), np.float32), pose=rng.random((17, 3), np.float32),
            mel=rng.random((17, 64), np.float32), reference_units=rng.random(52, np.float32),
            reference_pose=rng.random(6, np.float32), landmarks=64 * rng.random((17, len(LANDMARKS), 2), np.float32),
            reference_landmarks=64 * rng.random((len(LANDMARKS), 2), np.float32),
        )  # fmt: skip
    return folder


def _source(bank: Path) -> FacePictures:
    return FacePictures(own=_OWN, bank=bank, renderer=avatars.paint)


def _copied(reference: Tensor, flow: Tensor) -> Tensor:
    large = fn.interpolate(flow[0], scale_factor=2, mode="bilinear")
    return warp(reference.expand(len(large), -1, -1, -1), large, 1)


@pytest.mark.parametrize("kind", ["warped", "rendered"])
def test_the_flow_leads_to_the_same_place_of_the_reference(bank: Path, kind: str) -> None:
    source = _source(bank)
    source.batch(_RECIPE, training.Dice(0, 0, range(1)))  # looks for the bank's files
    for seed in range(8):
        rng = np.random.default_rng(seed)
        clip = warped_clip(rng, 64, 8, paint_shapes) if kind == "warped" else source._rendered(2, rng)
        assert clip.landmarks_BTL2.isnan().all() == (kind == "warped")
        error = (_copied(clip.reference_B3HW, clip.flow_BT2HW) - clip.frames_BT3HW[0]).square().mean(1, keepdim=True)
        seen = fn.interpolate(clip.visible_BT1HW[0], scale_factor=2)
        assert seen.mean() > 0.2
        assert psnr(float((error * seen).sum() / seen.sum())) > 20


def test_a_mirrored_clip_has_its_landmarks_where_the_mirrored_picture_has_them(bank: Path) -> None:
    """On a picture whose pixels say where they were, and with left and right exchanged."""
    clip = read_rendered(bank / "0.npz", np.random.default_rng(0), 1)
    axis = (torch.arange(64) + 0.5) / 64
    places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))
    flipped = mirrored(replace(clip, reference_B3HW=torch.cat([places, places[:1]])[None]))
    own, other = (part.reference_landmarks_BL2[0, LANDMARKS.index(name)] for part, name in
                  ((clip, "left_pupil"), (flipped, "right_pupil")))  # fmt: skip
    found = fn.grid_sample(
        flipped.reference_B3HW, 2 * other[None, None, None] - 1, padding_mode="border", align_corners=False
    )
    assert torch.allclose(found[0, :2, 0, 0], own.clamp(1 / 128, 127 / 128), atol=1e-5)
    assert torch.equal(mirrored(flipped).landmarks_BTL2, clip.landmarks_BTL2)


def test_a_part_of_a_clip_moves_as_the_whole_does(bank: Path) -> None:
    clip = read_rendered(bank / "0.npz", np.random.default_rng(3), 2)
    part = cropped(clip, 8, 20, 32)
    assert torch.equal(part.frames_BT3HW, clip.frames_BT3HW[..., 8:40, 20:52])
    error = (_copied(part.reference_B3HW, part.flow_BT2HW) - part.frames_BT3HW[0]).square().mean(1, keepdim=True)
    seen = fn.interpolate(part.visible_BT1HW[0], scale_factor=2)
    assert psnr(float((error * seen).sum() / seen.sum())) > 20
    inner = clip.visible_BT1HW[..., 4:20, 10:26]
    lost = inner - part.visible_BT1HW
    assert 0 < lost.mean() < 0.5, "what has come in from outside of the square is seen no more"
    assert torch.equal(lost, part.hidden_BT1HW - clip.hidden_BT1HW[..., 4:20, 10:26]), "but hidden"
    where = torch.tensor([20, 8]) + 32 * part.landmarks_BTL2
    assert torch.allclose(where, 64 * clip.landmarks_BTL2, atol=1e-4)
    assert torch.isclose(part.weight_B1HW.mean(), torch.tensor(1.0))


def test_of_some_choices_of_frames_the_liveliest_is_taken(tmp_path: Path, bank: Path) -> None:
    """In one frame of 17 a lid of each eye and a lip move by themselves: with more tries it is seen more often."""
    with np.load(bank / "0.npz") as stored:
        parts = dict(stored)
    parts["landmarks"] = np.repeat(parts["reference_landmarks"][None], 17, axis=0) + np.arange(17)[:, None, None]
    parts["landmarks"][9, [part[-1] for part in PARTS], 1] += 4
    np.savez(tmp_path / "clip.npz", **parts)

    def often(tries: int) -> int:
        clips = [read_rendered(tmp_path / "clip.npz", np.random.default_rng(seed), 0, tries) for seed in range(200)]
        moved = [clip.landmarks_BTL2[0, 0] - clip.reference_landmarks_BL2[0] for clip in clips]
        return sum(bool((one - one[:1]).abs().max() > 1e-3) for one in moved)

    once, thrice = often(1), often(3)
    assert 1.5 * once < thrice < 6 * once


def test_another_camera_changes_colours_and_moves_nothing() -> None:
    torch.manual_seed(0)
    clip = fn.interpolate(torch.rand(1, 3, 12, 12), size=(96, 96), mode="bicubic").clamp(0, 1)
    changed = [rephotographed(np.random.default_rng(seed), clip.repeat(4, 1, 1, 1), clip, 0.5) for seed in range(40)]
    apart = [float((one - clip).abs().mean()) for pair in changed for one in pair]
    assert 0 < sum(value == 0 for value in apart) < 20, "some are left as they are"
    assert max(apart) > 0.05
    for one in [one for pair in changed for one in pair]:
        edges, seen = (fn.avg_pool2d(part.mean(dim=1), 8).diff(dim=-1) for part in (clip, one))
        assert torch.corrcoef(torch.stack([edges.flatten(), seen[0].flatten()]))[0, 1] > 0.7


def test_frames_and_reference_stand_in_the_same_light() -> None:
    """So latents may tell how the light on a face changes: cameras change brightness far less than light does."""
    clip = torch.full((1, 3, 64, 64), 0.5)
    pairs = [rephotographed(np.random.default_rng(seed), clip, clip, 1.0) for seed in range(30)]
    levels = torch.tensor([[float(one.mean()) for one in pair] for pair in pairs])
    assert (levels[:, 0] - levels[:, 1]).abs().mean() < 0.3 * (levels[:, 0] - 0.5).abs().mean()


def test_landmarks_are_read_where_the_maps_peak_and_unknown_ones_do_not_count() -> None:
    maps = torch.zeros(1, len(LANDMARKS), 8 * 8 + 1)  # the last one: it is nowhere
    maps[0, :, 3 * 8 + 5] = 6
    right = torch.tensor([5.5 / 8, 3.5 / 8]).repeat(1, len(LANDMARKS), 1)
    right[0, 1, 0] = torch.nan
    wrong = right + torch.tensor([0.25, 0.0])
    assert landmark_loss(maps, (8, 8), right) < 0.5 * landmark_loss(maps, (8, 8), wrong)
    assert landmark_loss(maps, (8, 8), right * torch.nan) == 0
    nowhere = maps.roll(64 - 3 * 8 - 5, dims=-1)
    assert landmark_loss(nowhere, (8, 8), right + 1) < 0.5 * landmark_loss(maps, (8, 8), right + 1)
    lids = torch.zeros(len(LANDMARKS), 2)
    lids[LANDMARKS.index("left_lid_upper"), 1], lids[LANDMARKS.index("chin"), 1] = 0.05, -0.05
    of_a_lid, of_the_chin = (landmark_loss(maps, (8, 8), right + lids * (lids[:, 1:] * sign > 0)) for sign in (1, -1))
    assert of_a_lid > of_the_chin, "what lids and lips do by themselves counts more"


def test_a_flow_is_judged_at_landmarks_and_by_how_parts_move_in_themselves(bank: Path) -> None:
    landmarks = torch.rand(1, 2, len(LANDMARKS), 2, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    clip = read_rendered(bank / "0.npz", np.random.default_rng(0), 0)
    truth = torch.tensor([2.0, -3.0])[:, None, None].expand(1, 1, 2, 32, 32)
    clip = replace(
        clip, flow_BT2HW=truth, visible_BT1HW=torch.ones(1, 1, 1, 32, 32), landmarks_BTL2=landmarks[:, :1],
        reference_landmarks_BL2=landmarks[:, 0] + torch.tensor([2.0, -3.0]) / 64,
    )  # fmt: skip
    assert point_loss(truth[0], clip) < 1e-4
    common = point_loss(truth[0] + 1, clip)
    apart = point_loss(truth[0] + torch.sign(torch.linspace(-1, 1, 32)), clip)
    assert 0.5 < common < apart, "what lids and lips do by themselves counts twice"
    hidden = replace(clip, visible_BT1HW=clip.visible_BT1HW * 0)
    assert point_loss(truth[0] + 1, hidden) == 0
    elsewhere = replace(clip, reference_landmarks_BL2=landmarks[:, 0])
    assert point_loss(truth[0] + 1, elsewhere) == 0, "something else is seen before the landmarks"


def test_a_killed_training_resumes_bit_for_bit(bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _train(bank, tmp_path / "whole")
    assert (tmp_path / "whole" / "face-codec-samples" / "000004.png").exists()
    loss, made = training.face_codec_loss, []

    def until_killed(*inputs: object, **more: object) -> dict[str, Tensor]:
        made.append(inputs)
        if len(made) == 4:
            raise KeyboardInterrupt
        return loss(*inputs, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training, "face_codec_loss", until_killed)
        with pytest.raises(KeyboardInterrupt):
            _train(bank, tmp_path / "parts")
    parts = _train(bank, tmp_path / "parts")
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_what_moves_otherwise_than_what_is_about_it_is_found() -> None:
    """A head that moves as a whole does not; a lid in it does, by as much as it differs."""
    flow = torch.tensor([5.0, -3.0])[:, None, None].expand(1, 2, 64, 64).clone()
    visible = torch.ones(1, 1, 64, 64)
    visible[..., 40:] = 0
    assert moved_apart(flow, visible).abs().max() < 1e-4
    flow[:, 1, 20:23, 10:18] -= 6
    found = moved_apart(flow, visible)
    assert (found[0, 0, 20:23, 10:18] - 6).abs().max() < 0.5
    assert found[0, 0, 45:, :30].abs().max() < 1e-4
    assert found[..., 40:].abs().max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_train_as_one_does(bank: Path, tmp_path: Path, optimizer: str) -> None:
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    settings = ["steps=2", "size=64", "warped_size=32", "clips=2", "still_clips=2", "crops=2", "crop=32",
                "log_every=1", "sample_every=9", "batch=4", "micro_batch=2", f"optimizer={optimizer}"]  # fmt: skip
    found = []
    for launcher in ([], ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]):
        folder = tmp_path / str(len(launcher))
        command = ["-m", *launcher, "knot_lab", "train", "face-codec", "--recipe", "knot-face", "--bank", str(bank),
                   "--folder", str(folder), "--threads", "1", "--set", *settings]  # fmt: skip
        subprocess.run([sys.executable, *command], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
        found.append([json.loads(line) for line in (folder / "face-codec.log").read_text().splitlines()])
    assert [len(one) for one in found] == [2, 2]
    for one, two in zip(*found, strict=True):
        for name in ("picture", "copied", "painted", "masked", "flow"):  # the others are means over what a process sees
            assert one[name] == pytest.approx(two[name], rel=0.02, abs=1e-5), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_decoder_learns_alone_behind_latents_that_stay(bank: Path, tmp_path: Path, optimizer: str) -> None:
    recipe = replace(_RECIPE, face_codec=replace(_OWN, encoder_learns=False), optimizer=optimizer)
    first = {name: tensor.clone() for name, tensor in
             training.build_face_codec(recipe, Team()).roles["codec"].network.state_dict().items()}  # fmt: skip
    trained = _train(bank, tmp_path, recipe)
    changed = {name.split(".")[0] for name, tensor in trained.items() if not torch.equal(tensor, first[name])}
    assert "decoder" in changed
    assert "encoder" not in changed


def _train(bank: Path, folder: Path, recipe: Recipe = _RECIPE) -> dict[str, Tensor]:
    stage = training.build_face_codec(recipe, Team())
    train_stage(stage, _source(bank), Outputs(folder=folder))
    return stage.roles["codec"].network.state_dict()


def test_the_averaged_weights_are_what_the_engine_loads(bank: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    _train(bank, tmp_path)
    stored = load_file(training.export_face_codec(tmp_path, tmp_path / "assets"))
    codec = WarpingCodec.from_state_dict({name: tensor.float() for name, tensor in stored.items()})
    assert codec.config == _OWN.codec
    fit_landmark_code(bank, tmp_path, 16)
    stored = load_file(training.export_face_codec(tmp_path, tmp_path / "assets"))
    codec = WarpingCodec.from_state_dict({name: tensor.float() for name, tensor in stored.items()})
    assert codec.config == replace(_OWN.codec, coded=True)
    again = training.build_face_codec(_RECIPE, Team(), stored)
    assert again.roles["codec"].network.config == _OWN.codec, "which is fitted when all is trained"


def _coded() -> WarpingCodec:
    """With a code that reads all motion whose numbers are its own."""
    torch.manual_seed(0)
    codec = WarpingCodec(replace(_OWN.codec, coded=True)).eval()
    code = codec.decoder.points.code
    basis, _ = torch.linalg.qr(torch.randn(code.writes[..., 0].numel(), len(code.reads)))
    code.writes.copy_(basis.reshape(code.writes.shape))
    code.reads.copy_(basis.T.reshape(code.reads.shape))
    return codec


def _clips(bank: Path) -> Clips:
    codec = _coded()
    made = [vars(read_clip(codec, file)) for file in sorted(bank.glob("*.npz"))]
    return Clips(**{name: torch.stack([clip[name] for clip in made]) for name in made[0]})


def test_a_rendered_clip_is_its_latents_and_what_moved_it(bank: Path) -> None:
    clips = _clips(bank)
    shapes = {name: tuple(value.shape[1:]) for name, value in vars(clips).items()}
    assert shapes == {
        "latents": (5, 16, 4, 4), "references": (4, 16, 4, 4), "reference_controls": (4, 55),
        "reference_face": (4, 4, 4), "mel": (5, 4, 64), "controls": (5, 4, 55), "face": (5, 4, 4), "speaking": (),
        "code": (5, 64), "reference_code": (4, 64),
    }  # fmt: skip
    with np.load(bank / "0.npz") as stored:
        units, pose, face = stored["units"], stored["pose"], stored["face"]
    assert np.allclose(clips.controls[0, 2, 1], np.r_[units[6], pose[6]])
    assert np.allclose(clips.reference_controls[0, 2], np.r_[units[8], pose[8]])
    assert clips.face[0, 2, 1, 3] == pytest.approx(face[8, 8:16, 24:32].mean())
    assert torch.equal(clips.reference_face[0, 1], clips.face[0, 0]), "of the clip's own first frame"
    assert torch.allclose(clips.references[0, 1], clips.latents[0, 0], atol=1e-5), "which begins like a stream"


def test_natural_pictures_of_a_bank_are_no_clips_of_people(bank: Path, tmp_path: Path, monkeypatch) -> None:
    people = tmp_path / "bank"
    people.mkdir()
    with np.load(bank / "0.npz") as stored:
        clip = dict(stored)
    for number in range(2):
        np.savez(people / f"train-{number}.npz", **clip)
    clip.pop("reference_units")
    np.savez(people / "natural-0.npz", **clip)
    monkeypatch.setattr(face_clips, "SHARD", 2)
    codec = _coded()
    assert len(prepare_bank(codec, people, tmp_path / "clips")) == 1
    monkeypatch.setattr(face_clips, "SHARD", 3)
    with pytest.raises(SettingsError, match="holds 2 clips; render at least 3"):
        prepare_bank(codec, people, tmp_path / "others")
    with pytest.raises(SettingsError, match="run the stage face-code first"):
        prepare_bank(WarpingCodec(_OWN.codec), people, tmp_path / "others")


def test_latents_tell_how_landmarks_move_from_the_reference_that_is_shown(bank: Path) -> None:
    clips, code = _clips(bank), _coded().decoder.points.code
    with np.load(bank / "0.npz") as stored:
        landmarks, still = stored["landmarks"] / 64, stored["reference_landmarks"] / 64
    for chosen, there in ((0, still), (2, landmarks[8])):
        moving, reference = clips.from_reference(torch.full((len(clips.latents),), chosen))
        assert torch.equal(reference[0, 0], clips.references[0, chosen])
        found, _ = code.read(moving.latents[0], reference[0].expand(5, -1, -1, -1))
        wanted = code.written(torch.from_numpy(landmarks[5:9] - there)[None].float()) @ code.reads.flatten(1)
        assert torch.allclose(found[8:12].flatten(), wanted[0], atol=1e-4), "of the latent frame of frames 5 to 8"
    dice = Dice(0, 0, (0, 1))
    frames, references = clips.apart(3, dice)
    found = token_means(frames.latents[:, 0]) - token_means(references[:, 0]).repeat_interleave(3, dim=0)
    assert (found.unflatten(0, (2, 3)).std(dim=1) > 1e-3).any(), "each frame has its own"


def test_a_code_is_fitted_to_motion_so_that_lids_and_lips_are_exact(bank: Path, tmp_path: Path) -> None:
    rng, lid = np.random.default_rng(0), LANDMARKS.index("left_lid_upper")
    turns, blinks = rng.normal(0, 0.05, (400, 1, 1, 2)), np.zeros((400, 4, len(LANDMARKS), 2))
    blinks[:, :, lid, 1] = rng.uniform(0, 0.012, (400, 4))
    motion = turns + blinks + rng.normal(0, 0.001, blinks.shape)
    code = fitted(motion, 4)
    numbers = code.written(torch.from_numpy(motion).float())
    assert numbers.square().mean().sqrt() == pytest.approx(0.7, rel=0.2)
    assert numbers.square().mean(dim=0).max() < 4 * numbers.square().mean(), "no number has nearly all"
    read = (numbers @ code.reads.flatten(1)).view(motion.shape).numpy() - motion
    assert np.abs(read[:, :, lid, 1]).mean() < 0.2 * blinks[:, :, lid, 1].std()
    stored = fit_landmark_code(bank, tmp_path, 4)
    assert stored.name == "landmark-code.safetensors"
    assert read_landmark_code(tmp_path)["reads"].shape == (16, 4, len(LANDMARKS), 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="holds no clips of people"):
        fit_landmark_code(tmp_path / "empty", tmp_path, 4)


def test_the_regression_learns_from_rendered_clips(bank: Path, tmp_path: Path) -> None:
    network = replace(KNOT_FACE.network, dim=64, ffn_dim=32, num_heads=1, num_layers=2, text_dim=8, freq_dim=8,
                      adapter=replace(KNOT_FACE.network.adapter, hidden_dim=8, blocks=(0, 1)))  # fmt: skip
    own = replace(KNOT_FACE.student, steps=4, warmup=1, clips=2, alone_clips=2, alone_frames=2, save_every=4,
                  sample_every=9, alone_first=0.5, alone_last=0.5, contrast=0.0)  # fmt: skip
    own = replace(own, landmarks=1.0)
    recipe = replace(KNOT_FACE, network=network, student=own)
    clips, team = _clips(bank), Team()
    code = LandmarkCode(16, len(LANDMARKS))
    code.reads.normal_()
    before = code.reads.clone()
    stage = build_regression(recipe, own, team, code=code)
    lines: list[dict[str, float]] = []
    outputs = Outputs(folder=tmp_path, log=lambda _, **values: lines.append(values))
    train_stage(stage, Portraits(own=own, clips=clips, stills=clips), outputs)
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert (tmp_path / "student.safetensors").exists()
    assert torch.equal(code.reads, before), "it only judges"


def test_a_training_goes_on_from_weights_that_read_no_landmarks() -> None:
    torch.manual_seed(0)
    before = training.started(WarpingCodec(replace(_OWN.codec, points=0))).requires_grad_(False)
    torch.nn.init.normal_(before.decoder.head.weight, std=0.1)
    stage = training.build_face_codec(_RECIPE, Team(), before.state_dict())
    after = stage.roles["average"].network.requires_grad_(False)
    latents, picture = torch.randn(1, 2, 16, 4, 4), torch.rand(1, 3, 64, 64)
    wanted, _ = before.decode(latents, None, before.read_reference(picture))
    found, _ = after.decode(latents, None, after.read_reference(picture))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_training_goes_on_from_weights_that_ship() -> None:
    trained = WarpingCodec(_OWN.codec).state_dict()
    stage = training.build_face_codec(_RECIPE, Team(), {name: tensor.half() for name, tensor in trained.items()})
    for role in ("codec", "average"):
        begun = ReadCodec.for_engine(stage.roles[role].network.state_dict())
        assert all(torch.equal(begun[name], tensor.half().float()) for name, tensor in trained.items())
    with pytest.raises(SettingsError, match="the weights to begin with are of"):
        training.build_face_codec(replace(_RECIPE, face_codec=replace(_OWN, codec=WarpingConfig())), Team(), trained)
    with pytest.raises(CheckpointError, match="no warping autoencoder"):
        training.build_face_codec(_RECIPE, Team(), {"decoder.first.weight": torch.zeros(2)})


def test_without_a_training_stages_take_the_codec_that_ships_and_say_so_and_evaluation_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = argparse.Namespace(folder=tmp_path, assets=ASSETS)
    assert landmark_code_of(args).reads.abs().sum() > 0
    assert "knot-face-codec.safetensors is taken" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="there is no trained face codec in"):
        training.trained_face_codec(tmp_path)
