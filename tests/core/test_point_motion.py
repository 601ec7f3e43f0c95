"""Landmarks of latents, and the maps of their motion."""

import torch

from knot_core.codec.point_motion import PointMotion, PointReader, Points, followed


def _points(places: list[list[float]], sure: float = 1.0) -> Points:
    """The landmarks of one pixel frame."""
    places_NL2 = torch.tensor([places])
    return Points(places_NL2=places_NL2, sure_NL=torch.full(places_NL2.shape[:2], sure))


def _apart(points: int) -> PointMotion:
    """Maps in which every landmark is a group of its own."""
    motion = PointMotion(16, points, points)
    with torch.no_grad():
        motion.mix.copy_(torch.eye(points))
    return motion


def test_a_reader_tells_all_four_pixel_frames_and_what_lies_nowhere() -> None:
    torch.manual_seed(0)
    reader = PointReader(16, 5)
    with torch.no_grad():
        reader.layers[-1].bias.view(4, 5)[:, 2] = -100.0  # the third landmark is in no cell
        found = reader(torch.randn(3, 16, 6, 8))
    assert found.places_NL2.shape == (12, 5, 2)
    assert (found.sure_NL[:, 2] < 1e-6).all()
    assert (found.sure_NL[:, [0, 1, 3, 4]] > 0.9).all()
    last, repeated = found.last(), found.repeated(2)
    assert torch.equal(last.places_NL2, found.places_NL2[3::4])
    assert torch.equal(repeated.sure_NL[4:8], repeated.sure_NL[:4])
    assert torch.equal(repeated.sure_NL[8:12], found.sure_NL[4:8])


def test_maps_tell_where_a_landmark_is_and_what_the_coarse_flow_leaves_of_its_motion() -> None:
    own, still = _points([[0.5, 0.25], [0.75, 0.75]]), _points([[0.5, 0.25 + 8 / 64], [0.75, 0.75]])
    coarse = torch.zeros(1, 2, 8, 8)  # of pictures of 64 pixels
    with torch.no_grad():
        maps = _apart(2)(own, still, coarse).view(2, 3, 16, 16)  # landmark; where, across, down
        told = _apart(2)(own, still, coarse + torch.tensor([0.0, 8.0])[:, None, None]).view(2, 3, 16, 16)
    mass, across, down = maps.unbind(1)
    assert divmod(int(mass[0].argmax()), 16)[0] in (3, 4)  # between these two rows
    assert torch.allclose(down[0], 2 * mass[0], atol=1e-5)  # 8 pixels, in fours
    assert torch.allclose(across, torch.zeros(2, 16, 16), atol=1e-5)
    assert torch.allclose(down[1], torch.zeros(16, 16), atol=1e-5)  # it stands still
    assert torch.allclose(told[0, 2], torch.zeros(16, 16), atol=1e-5)  # nothing is left of it
    assert torch.allclose(told[1, 2], -2 * mass[1], atol=1e-5)


def test_a_landmark_that_is_nowhere_tells_nothing() -> None:
    own, still = _points([[0.5, 0.25]]), _points([[0.9, 0.9]], sure=0.0)
    with torch.no_grad():
        assert not _apart(1)(own, still, torch.zeros(1, 2, 8, 8)).any()


def test_a_coarse_flow_follows_landmarks_and_what_is_far_from_them_stays() -> None:
    own = _points([[0.25, 0.25], [0.3, 0.3]])
    still = own.moved(torch.tensor([3 / 256, -2 / 256]))
    found = followed(own, still, torch.zeros(1, 2, 32, 32))
    assert torch.allclose(found[0, :, 8, 8], torch.tensor([3.0, -2.0]), atol=0.6)
    assert found[..., 24:, 24:].abs().max() < 0.01
    right = torch.tensor([3.0, -2.0])[:, None, None].expand(1, 2, 32, 32)
    assert torch.allclose(followed(own, still, right), right, atol=1e-4), "nothing is to be mended"


def test_an_unsure_landmark_moves_no_coarse_flow_and_all_frames_have_their_own() -> None:
    own, unsure = _points([[0.5, 0.5]]), _points([[0.6, 0.5]], sure=0.0)
    assert not followed(own, unsure, torch.zeros(1, 2, 16, 16)).any()
    frames = Points(places_NL2=torch.tensor([[[0.5, 0.5]], [[0.52, 0.5]], [[0.54, 0.5]]]), sure_NL=torch.ones(3, 1))
    still = own.moved(torch.zeros(2))
    still = Points(places_NL2=still.places_NL2.expand(3, -1, -1), sure_NL=torch.ones(3, 1))
    across = followed(frames, still, torch.zeros(3, 2, 32, 32))[:, 0, 16, 16]
    assert across[0].abs() < 1e-4
    assert across[2] < 1.5 * across[1] < 0, "what the landmark moved by since"
