"""The face codec's training: what is known of the motion is true, and it resumes bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as fn

from knot_core.codec.warping import WarpingCodec, WarpingConfig, warp
from knot_lab.data.face_pictures import FacePictures
from knot_lab.data.warped_pictures import paint_shapes, warped_clip
from knot_lab.evaluation.metrics import psnr
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_FACE
from knot_lab.synthetic import avatars
from knot_lab.training import face_codec as training
from knot_lab.training.loop import Outputs, train_stage

_OWN = replace(
    KNOT_FACE.face_codec, codec=WarpingConfig(encoder=(4, 4, 8, 8), decoder=(8, 8, 8), reference=4), steps=4, warmup=1,
    size=64, warped_size=32, clips=1, warped_clips=2, groups=1, save_every=2, sample_every=4, log_every=1,
    rendered=0.4, portraits=0.2,
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
        np.savez(folder / f"{number}.npz", frames=frames, reference=picture[:, 20:84], flow=flow, visible=visible)
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
        clip = warped_clip(rng, 64, 8, paint_shapes) if kind == "warped" else source._rendered(rng)
        error = (_copied(clip.reference_B3HW, clip.flow_BT2HW) - clip.frames_BT3HW[0]).square().mean(1, keepdim=True)
        seen = fn.interpolate(clip.visible_BT1HW[0], scale_factor=2)
        assert seen.mean() > 0.2
        assert psnr(float((error * seen).sum() / seen.sum())) > 20


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


def _train(bank: Path, folder: Path) -> dict[str, Tensor]:
    stage = training.build_face_codec(_RECIPE, Team())
    train_stage(stage, _source(bank), Outputs(folder=folder))
    return stage.roles["codec"].network.state_dict()


def test_the_averaged_weights_are_what_the_engine_loads(bank: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    _train(bank, tmp_path)
    stored = load_file(training.export_face_codec(tmp_path, tmp_path / "assets"))
    codec = WarpingCodec.from_state_dict({name: tensor.float() for name, tensor in stored.items()})
    assert codec.config == _OWN.codec
