"""The codec's training: both stages resume bit for bit; the second leaves the encoder, and asks for strong edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as fn

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.wan.network import WanNetwork, init_weights
from knot_lab.data.picture_batches import Pictures
from knot_lab.parallel import Team
from knot_lab.recipes import KNOT_TINY, TINY_NETWORK
from knot_lab.training import codec as training
from knot_lab.training.export import codec_weights, export
from knot_lab.training.loop import Outputs, train_stage
from knot_lab.training.losses import contrast_loss
from knot_lab.training.stage import fixed_by
from knot_lab.training.training_state import load_checkpoint, save_checkpoint

_SMALL = {"codec": CodecConfig(encoder=(8, 8, 8, 8), decoder=(8, 8, 8, 8)), "size": 32, "crop": 16, "clips": 2}
_SHORT = {"steps": 6, "warmup": 1, "save_every": 3, "lr": 1e-3, "muon_lr": 1e-3}
_RECIPE = replace(
    KNOT_TINY,
    codec=replace(KNOT_TINY.codec, **_SMALL, **_SHORT),
    decoder=replace(KNOT_TINY.decoder, **_SMALL, **_SHORT),
)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)


def _codec(folder: Path) -> TAEHV:
    stage = training.build_codec(_RECIPE, Team())
    train_stage(stage, Pictures(own=_RECIPE.codec), Outputs(folder=folder))
    return stage.roles["codec"].network


def _decoder(folder: Path) -> TAEHV:
    torch.manual_seed(0)
    return _train_decoder(TAEHV(_SMALL["codec"]), folder)


def _train_decoder(codec: TAEHV, folder: Path) -> TAEHV:
    stage = training.build_decoder(_RECIPE, Team(), codec)
    train_stage(stage, Pictures(own=_RECIPE.decoder), Outputs(folder=folder))
    return stage.roles["codec"].network


@pytest.mark.parametrize("stage", [_codec, _decoder])
def test_a_killed_training_resumes_bit_for_bit(stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stage(tmp_path / "whole").state_dict()
    folder, loss, made = tmp_path / "parts", training.codec_loss, []

    def until_killed(*inputs: object) -> torch.Tensor:
        made.append(inputs)
        if len(made) == 5:
            raise KeyboardInterrupt
        return loss(*inputs)

    with monkeypatch.context() as patch:
        patch.setattr(training, "codec_loss", until_killed)
        with pytest.raises(KeyboardInterrupt):
            stage(folder)
    assert load_checkpoint(folder / f"{stage.__name__[1:]}.ckpt")["step"] == 3
    parts = stage(folder).state_dict()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_the_second_stage_leaves_the_latent_space(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = {name: tensor.clone() for name, tensor in TAEHV(_SMALL["codec"]).state_dict().items()}
    after = _decoder(tmp_path).state_dict()
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"decoder"}


def test_contrast_asks_how_strong_an_edge_is_and_not_where() -> None:
    """To a plain loss an edge beside its place is worse than none, so it draws a faint one where it is not sure."""
    edge = (torch.arange(32) >= torch.arange(8, 24)[:, None]).float()[:, None, None, None].expand(-1, 1, 3, 32, 32)
    weight = torch.ones(15, 1, 1, 32, 32)
    truth, moved, gone = edge[:-1], edge[1:], torch.zeros(15, 1, 3, 32, 32)
    assert contrast_loss(truth, truth, weight, 8).item() == 0
    assert contrast_loss(moved, truth, weight, 8) < 0.4 * contrast_loss(gone, truth, weight, 8)
    across = [(drawn.diff(dim=-1) - truth.diff(dim=-1)).abs().mean() for drawn in (moved, gone)]
    assert across[0] > 1.9 * across[1]
    plain, sharp = (replace(KNOT_TINY.codec, contrast=contrast) for contrast in (0.0, 1.0))
    blurred = fn.avg_pool2d(fn.pad(truth[:, 0], (2, 2, 0, 0), mode="replicate"), (1, 5), 1)[:, None]
    without, with_contrast = (training.picture_loss(recipe, blurred, truth, weight) for recipe in (plain, sharp))
    assert with_contrast > 1.1 * without
    elsewhere = weight * (torch.arange(32) < 4)
    assert contrast_loss(gone[8:], truth[8:], elsewhere[8:], 8).item() < 1e-6, "no edge where it counts"


def test_what_the_second_stage_made_is_what_ships(tmp_path: Path) -> None:
    """The decoder's checkpoint goes before the codec's, of which it came."""
    network = init_weights(WanNetwork(TINY_NETWORK), torch.Generator().manual_seed(0))
    fixed = fixed_by(TINY_NETWORK, KNOT_TINY, {})
    student = {"roles": {"average": network.state_dict()}, "fixed": fixed, "step": 1}
    save_checkpoint(tmp_path / "student.ckpt", student)
    _codec(tmp_path)
    codec = TAEHV(_SMALL["codec"])
    codec.load_state_dict(codec_weights(load_checkpoint(tmp_path / "codec.ckpt")))
    tuned = _train_decoder(codec, tmp_path).state_dict()
    export(tmp_path, tmp_path / "assets")
    shipped = load_file(tmp_path / "assets" / "knot-tiny-codec.safetensors")
    assert all(torch.equal(tensor, tuned[name].half()) for name, tensor in shipped.items())
