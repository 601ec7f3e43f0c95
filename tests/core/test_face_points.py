"""The landmark network's geometry: heat maps, windows, and how a face is found and looked at again.

The network itself is trained by `knot_lab`; here something that sees three coloured discs stands in for it.
"""

import cmath
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from knot_core.errors import CheckpointError, MediaError
from knot_core.media import face_alignment
from knot_core.media.face_alignment import find_face_points
from knot_core.media.face_places import EYE_DISTANCE, EYES_MIDPOINT, MOUTH, SIDE
from knot_core.media.face_points import (
    WINDOW,
    FacePointsNet,
    Seen,
    _windows,
    eyes_and_mouth,
    load_face_points,
    locate,
)
from knot_core.media.landmark_names import LANDMARKS

EYES = (EYES_MIDPOINT[0] - EYE_DISTANCE / 2, EYES_MIDPOINT[1]), (EYES_MIDPOINT[0] + EYE_DISTANCE / 2, EYES_MIDPOINT[1])
PLACES = torch.tensor([complex(*place) for place in (*EYES, MOUTH)])  # of three discs, one for each colour


def picture_of(scale: complex, origin: complex, height: int, width: int) -> torch.Tensor:
    """Black, with three discs where a face's eyes and mouth would be."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    discs = [(torch.complex(x, y) - (origin + scale * place)).abs() < 9 * abs(scale) for place in PLACES]
    return torch.stack(discs, dim=-1).float()


class SeesDiscs(torch.nn.Module):
    """Each point lies at the disc of its eye or of the mouth; a face fills the window where they are as in training.

    The right eye is the one to the left, so in a mirror it is the other.
    """

    def forward(self, windows: torch.Tensor) -> Seen:
        axis = (torch.arange(WINDOW) + 0.5).expand(WINDOW, WINDOW)
        weight = windows.sum(dim=(-1, -2)).clamp(min=1e-3)
        places = torch.stack(((windows * axis).sum((-1, -2)) / weight, (windows * axis.T).sum((-1, -2)) / weight), -1)
        swapped = (places[:, 0, :1] > places[:, 1, :1])[..., None]
        places = torch.where(swapped, places[:, [1, 0, 2]], places)
        of = [0 if "right_eye" in name or "right_lid" in name else 1 if "left_eye" in name or "left_lid" in name else 2
              for name in LANDMARKS]  # fmt: skip
        wanted = torch.view_as_real(PLACES * WINDOW / SIDE)
        away = (places - wanted).norm(dim=-1).mean(dim=-1)
        return Seen(points=places[:, of], error=torch.ones(len(windows), len(LANDMARKS)), face=8 - away, maps=windows)


def test_the_network_gives_a_place_and_an_error_for_each_point():
    seen = FacePointsNet().eval()(torch.rand(2, 3, WINDOW, WINDOW))
    assert seen.points.shape == (2, len(LANDMARKS), 2)
    assert ((seen.points > 0) & (seen.points < WINDOW)).all()
    assert seen.error.shape == (2, len(LANDMARKS))
    assert (seen.error > 0).all()
    assert seen.face.shape == (2,)


@pytest.mark.parametrize("size", [(300, 300), (240, 700), (900, 320)])
def test_windows_lie_within_the_picture_and_leave_no_place_out(size):
    height, width = size
    covered = torch.zeros(size, dtype=torch.bool)
    for window in _windows(height, width):
        assert window.inside() == 1
        side = round(WINDOW * abs(window.scale))
        top, left = round(window.origin.imag), round(window.origin.real)
        if side < min(size):
            covered[top : top + side, left : left + side] = True
    assert covered.all()


@pytest.mark.parametrize(
    ("scale", "origin", "size"),
    [
        (1.0, 40 + 20j, (340, 420)),
        (0.45, 300 + 60j, (300, 520)),
        (cmath.rect(1.1, 0.4), 150 + 10j, (500, 500)),
        (4.0, 300 + 100j, (1400, 1600)),  # larger than it is looked at
    ],
)
def test_a_face_is_found_wherever_it_is_and_whatever_its_size(scale, origin, size):
    image = picture_of(scale, origin, *size)
    found = locate(SeesDiscs(), image)
    assert found is not None
    assert found.confidence > 0.9
    for seen, place in zip(eyes_and_mouth(found.points), PLACES, strict=True):
        assert abs(seen - (origin + scale * complex(place))) < 2 * abs(scale)


def test_a_face_that_fills_the_picture_is_looked_for_there_first():
    """An aligned reference takes a fraction of the time; a face elsewhere is found all the same."""
    looked = []

    class Counts(SeesDiscs):
        def forward(self, windows: torch.Tensor) -> Seen:
            looked.append(len(windows))
            return super().forward(windows)

    def search(image: torch.Tensor, *, fills: bool) -> tuple[torch.Tensor, int]:
        looked.clear()
        found = locate(Counts(), image, fills=fills)
        return found.points, sum(looked)

    filling, elsewhere = picture_of(1.0, 0j, SIDE, SIDE), picture_of(0.4, 130 + 120j, SIDE, SIDE)
    (points, _), (same, _) = search(elsewhere, fills=False), search(elsewhere, fills=True)
    assert (same - points).abs().max() < 0.01
    (points, many), (same, few) = search(filling, fills=False), search(filling, fills=True)
    assert (same - points).abs().max() < 1
    assert few < 0.6 * many


def test_what_several_windows_show_is_averaged():
    """A network that is off to the same side in all windows is off to the other in their mirror images."""

    class Leans(SeesDiscs):
        def forward(self, windows: torch.Tensor) -> Seen:
            seen = super().forward(windows)
            return replace(seen, points=seen.points + torch.tensor([3.0, 0.0]))

    found = locate(Leans(), picture_of(1.0, 40 + 20j, 340, 420))
    for seen, place in zip(eyes_and_mouth(found.points), PLACES, strict=True):
        assert abs(seen - (40 + 20j + complex(place))) < 2


def test_where_the_network_believes_in_no_face_none_is_found():
    assert locate(SeesDiscs(), torch.zeros(200, 300, 3)) is None


def test_it_stands_in_where_mediapipe_finds_nothing_and_that_is_said(monkeypatch):
    monkeypatch.setattr(face_alignment, "mesh_points", lambda _image: None)
    monkeypatch.setattr(face_alignment, "load_face_points", SeesDiscs)
    points = find_face_points(picture_of(1.0, 40 + 20j, 340, 420))
    assert points.finder == "the built-in landmark network"
    assert math.dist(points.left_eye, (40 + EYES[0][0], 20 + EYES[0][1])) < 2
    assert math.dist(points.mouth, (40 + MOUTH[0], 20 + MOUTH[1])) < 2
    with pytest.raises(MediaError, match="give the two eyes and the mouth as three points"):
        find_face_points(torch.zeros(200, 300, 3))


def test_weights_that_are_missing_are_no_mistake_and_other_weights_are(tmp_path):
    assert load_face_points(tmp_path / "nothing.safetensors") is None
    network, path = FacePointsNet(), tmp_path / "face-points.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    loaded = load_face_points(path)
    windows = torch.rand(1, 3, WINDOW, WINDOW)
    assert torch.equal(loaded(windows).points, network.eval()(windows).points)
    save_file({"something": torch.zeros(3)}, tmp_path / "else.safetensors")
    with pytest.raises(CheckpointError, match="holds no weights of the landmark network"):
        load_face_points(tmp_path / "else.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    load_face_points.cache_clear()
    with pytest.raises(CheckpointError, match="put back the file that ships"):
        load_face_points(path)
