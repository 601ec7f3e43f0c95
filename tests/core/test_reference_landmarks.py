"""Landmarks of a reference that are known better than a codec reads them: found, kept, and used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from knot_core import KnotError, SettingsError
from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.config import StreamSettings
from knot_core.media import reference_landmarks
from knot_core.media.face_points import Found
from knot_core.stream import encode_latent_anchor, load_stream, open_stream, resume_stream
from knot_core.stream.state_file import save_stream

_POINTS = 6
_SETTINGS = StreamSettings(steps=2, num_window_frames=4)


@pytest.fixture(scope="module")
def model(make_face_model, randomised):
    config = WarpingConfig(encoder=(4, 4, 4, 6), decoder=(6, 4, 4), reference=4, points=_POINTS, coded=True)
    codec = randomised(WarpingCodec(config), 0).eval()
    torch.nn.init.normal_(codec.decoder.points.local.weight, std=0.1)
    torch.nn.init.normal_(codec.decoder.points.code.reads, std=0.1)
    return replace(make_face_model(), codec=codec)


def _anchor(model, landmarks=None):
    plain = model.anchor()
    return encode_latent_anchor(model, plain.reference_BFCHW, picture_HWC=plain.picture_HWC, landmarks_L2=landmarks)


def _known() -> torch.Tensor:
    """All but the last one."""
    known = torch.rand(_POINTS, 2, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    known[-1] = torch.nan
    return known


def test_those_that_are_known_are_used_and_the_others_read(model) -> None:
    read, told = (model.codec.read_reference(torch.rand(1, 3, 64, 96), None, found) for found in (None, _known()))
    assert torch.equal(told.points.places_NL2[:, :-1], _known()[:-1].expand(4, -1, -1))
    assert (told.points.sure_NL[:, :-1] == 1).all()
    assert told.points.places_NL2[0, -1].isfinite().all()
    assert (read.points.sure_NL < 1).all()


def test_a_stream_is_drawn_by_them_and_goes_on_from_a_file_bit_for_bit(model, waves, tmp_path) -> None:
    without = next(open_stream(model, _anchor(model), _SETTINGS, waves(), seed=3))
    stream = open_stream(model, _anchor(model, _known()), _SETTINGS, waves(), seed=3)
    assert not torch.equal(next(stream).pixel_frames, without.pixel_frames)
    stream.set_anchor(_anchor(model, _known().flip(-1)))  # what was shown goes into the file as well
    save_stream(tmp_path / "state", stream.snapshot())
    saved = load_stream(tmp_path / "state", model)
    assert torch.allclose(saved.anchor.landmarks_L2, _known().flip(-1), equal_nan=True)
    wanted = next(stream).pixel_frames
    assert torch.equal(next(resume_stream(model, tmp_path / "state", waves())).pixel_frames, wanted)


def test_a_wrong_number_of_them_is_refused(model, make_model, tmp_path, waves) -> None:
    with pytest.raises(SettingsError, match=r"shape \(5, 2\), but this model's codec reads 6 of them; give one pair"):
        _anchor(model, _known()[:5])
    stream = open_stream(model, _anchor(model, _known()), _SETTINGS, waves(), seed=3)
    next(stream)
    saved = stream.snapshot()
    save_stream(tmp_path / "state", replace(saved, anchor=replace(saved.anchor, landmarks_L2=_known()[:5])))
    with pytest.raises(KnotError, match="picture"):
        load_stream(tmp_path / "state", model)
    assert make_model().anchor().landmarks_L2 is None


def test_mediapipes_mesh_gives_those_of_eyes_and_lips(monkeypatch) -> None:
    mesh = np.stack([np.arange(478.0), 2 * np.arange(478.0), np.zeros(478)], axis=1)
    monkeypatch.setattr(reference_landmarks, "find_mesh", lambda _: mesh)
    found = reference_landmarks.find_landmarks(torch.zeros(500, 1000, 3, dtype=torch.uint8))
    known = found.isfinite().all(dim=-1)
    assert known[:24].all()
    assert not known[24:].any()
    assert torch.allclose(found[1], torch.tensor([33 / 1000, 66 / 500]))


def test_without_it_the_landmark_network_gives_them_and_without_both_nobody_does(monkeypatch) -> None:
    places = torch.complex(torch.arange(45.0), 2 * torch.arange(45.0))
    picture = torch.zeros(50, 100, 3, dtype=torch.uint8)
    monkeypatch.setattr(reference_landmarks, "find_mesh", lambda _: None)
    monkeypatch.setattr(reference_landmarks, "load_face_points", object)
    monkeypatch.setattr(reference_landmarks, "locate", lambda *_, **__: Found(points=places, confidence=1.0))
    found = reference_landmarks.find_landmarks(picture)
    assert torch.allclose(found[7], torch.tensor([7 / 100, 14 / 50]))
    assert found[:24].isfinite().all()
    assert found[24:].isnan().all(), "what MediaPipe does not tell is read from latents by both"
    monkeypatch.setattr(reference_landmarks, "locate", lambda *_, **__: None)
    assert reference_landmarks.find_landmarks(picture) is None
    monkeypatch.setattr(reference_landmarks, "load_face_points", lambda: None)
    assert reference_landmarks.find_landmarks(picture) is None
