"""Figures of the face codec: what is known of the truth comes out, and the command writes it."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.errors import SettingsError
from knot_core.media.landmark_names import LANDMARKS
from knot_lab.commands import evaluate
from knot_lab.evaluation import aligned_photos
from knot_lab.evaluation.face_codec_figures import (
    calm_clips,
    followed,
    give_back,
    means,
    moved_figures,
    read_evaluation_clips,
    render_figures,
    transferred,
)
from knot_lab.evaluation.photo_sets import PHOTOS
from knot_lab.training.face_codec import started


@pytest.fixture(scope="module")
def codec() -> WarpingCodec:
    torch.manual_seed(0)
    codec = started(WarpingCodec(WarpingConfig(encoder=(4, 4, 8, 8), decoder=(8, 8, 8), reference=4)))
    torch.nn.init.normal_(codec.decoder.head.weight, std=0.1)
    return codec.eval()


def _write(path: Path, frames: np.ndarray, reference: np.ndarray, shift: int, yaw: float) -> None:
    """A clip [T, S, S, 3] whose picture moved to the left: `shift` pixels further right it lies in the reference."""
    count, half = len(frames), reference.shape[0] // 2
    flow = np.zeros((count, half, half, 2), np.float16)
    flow[..., 0] = shift
    visible = np.ones((count, half, half), bool)
    visible[..., half - shift // 2 :] = False
    face = np.zeros((count, half, half), bool)
    face[:, 8:24, 8:] = True
    np.savez(path, frames=frames, reference=reference, flow=flow, visible=visible, face=face,
             pose=np.full((count, 3), yaw, np.float32))  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody who stands still, and somebody who moved by 6 pixels; both in 5 frames."""
    folder, picture = tmp_path_factory.mktemp("bank"), np.random.default_rng(0).integers(0, 256, (64, 70, 3), np.uint8)
    still = np.repeat(picture[None, :, :64], 5, axis=0)
    _write(folder / "a.npz", still, picture[:, :64], 0, 0.1)
    _write(folder / "b.npz", np.repeat(picture[None, :, 6:], 5, axis=0), picture[:, :64], 6, 0.6)
    return folder


@pytest.fixture(scope="module")
def photo() -> Tensor:
    return (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255).round() / 255


def test_who_stands_still_comes_back_as_they_are_and_copying_by_the_true_flow_gives_the_truth(
    codec: WarpingCodec, bank: Path
) -> None:
    still, moved = read_evaluation_clips(bank)
    found, _ = render_figures(codec, still)
    assert found["pixels_median"] == found["still_median"] == 0
    assert found["psnr"] > 100
    assert found["sharpness"] == pytest.approx(1)
    found, made = render_figures(codec, moved)
    assert found["still_median"] == 6
    assert found["psnr_true_flow"] > 40
    assert found["psnr_still"] < 15
    assert 0 < found["pixels_median"] <= found["pixels_p90"]
    assert made.pictures_T3HW.shape == (5, 3, 64, 64)
    assert [one.name for one in calm_clips([still, moved])] == ["a"]


def test_a_mouth_that_opens_is_followed_as_far_as_the_flow_follows_it(bank: Path) -> None:
    """Over five frames, by a flow that has half of the truth, and all of what the face has in common."""
    still = read_evaluation_clips(bank)[0]
    opening, landmarks = torch.arange(5.0)[:, None, None], torch.full((1, 5, len(LANDMARKS), 2), 0.5)
    landmarks[:, :, LANDMARKS.index("lower_lip"), 1] = 0.75
    truth = torch.zeros(1, 5, 2, 32, 32)
    truth[0, :, 1, 20:] = -4 * opening
    clip = replace(still.clip, flow_BT2HW=truth, landmarks_BTL2=landmarks)
    lips = [("lower_lip", "upper_lip")]
    assert followed(truth[0] / 2 + 3, replace(still, clip=clip), lips) == pytest.approx(0.5)
    assert np.isnan(followed(truth[0] * 0, still, lips)), "nothing moves"


def test_the_residual_and_the_flow_are_told_apart(codec: WarpingCodec, bank: Path) -> None:
    """A mask that is shut paints nothing, one that is open everything."""
    codec, moved = deepcopy(codec), read_evaluation_clips(bank)[1]
    for bias, painted in ((-20.0, 0.0), (20.0, 1.0)):
        with torch.no_grad():
            codec.decoder.head.bias[8:12] = bias
        found, _ = render_figures(codec, moved)
        assert found["hidden_found"] == pytest.approx(painted, abs=0.02)
        assert found["visible_painted"] == pytest.approx(painted, abs=0.02)


def test_a_photo_is_moved_by_the_truth_and_not_at_all_by_somebody_who_stands_still(
    codec: WarpingCodec, bank: Path, photo: Tensor
) -> None:
    still, moved = read_evaluation_clips(bank)
    found, true, _ = moved_figures(codec, photo, moved)
    assert torch.allclose(true[..., :56], photo[..., 6:62].expand(5, -1, -1, -1), atol=1e-4)
    assert found["moved_still_median"] == 6
    found, driven = transferred(codec, photo, still)
    assert torch.equal(driven.pictures_T3HW, photo.expand(5, -1, -1, -1))
    assert found == {"transfer_pixels_median": 0.0}


def test_a_stream_decoded_in_parts_is_given_back_alike(codec: WarpingCodec, photo: Tensor) -> None:
    reference = codec.read_reference(photo)
    reference = replace(reference, window_HW=torch.ones_like(reference.window_HW))  # rendered people move as a whole
    latents = torch.randn(1, 3, 16, 4, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        pixels, _ = codec.decode(latents, None, reference)
    assert torch.allclose(give_back(codec, latents, reference).pictures_T3HW, pixels[0])


def test_figures_that_some_lack_are_means_of_the_others() -> None:
    assert means([{"a": 1.0, "b": np.nan, "d": np.nan}, {"a": 3.0, "b": 5.0}, {"c": 2.0}]) == {
        "a": 2.0,
        "b": 5.0,
        "c": 2.0,
    }


def test_a_folder_without_people_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no clips of people"):
        read_evaluation_clips(tmp_path)


def test_the_command_writes_figures_and_a_sheet_and_says_what_misses_the_gate(
    codec: WarpingCodec, bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(codec.state_dict(), tmp_path / "codec.safetensors")
    folder = tmp_path / "photos"
    folder.mkdir()
    places = {photo: folder / f"{photo.name}.png" for photo in PHOTOS[:2]}
    for path in places.values():
        Image.fromarray(np.random.default_rng(2).integers(0, 256, (300, 300, 3), np.uint8)).save(path)
        path.with_suffix(".points").write_text("100,100 160,100 130,160\n")
    (folder / f"{PHOTOS[1].name}.points").write_text("100,100 160,100 130,700\n")  # outside of the picture
    monkeypatch.setattr(aligned_photos, "fetch_photos", lambda *_: places)
    monkeypatch.setattr(aligned_photos, "_SIDE", 64)
    out = tmp_path / "found.json"
    given = ["--codec", tmp_path / "codec.safetensors", "--bank", bank, "--photos", folder, "--json", out]
    assert evaluate.main(["face-codec", *map(str, given)]) == 2
    report = json.loads(out.read_text())
    assert list(report["renders"]) == ["a", "b"]
    assert list(report["photos"]) == [PHOTOS[0].name]
    assert report["means"]["pixels_median"] == np.mean([one["pixels_median"] for one in report["renders"].values()])
    assert Image.open(out.with_suffix(".png")).size == (10 * 64, 3 * 64)
    said = capsys.readouterr()
    assert "is left out" in said.err
    assert "pixels_median misses at most 1" in said.out
