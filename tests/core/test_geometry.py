import pytest

from knot_core.errors import KnotError
from knot_core.geometry import first_pixel_frame, latent_size, num_latent_frames, num_pixel_frames, num_tokens


def test_latent_frames_tile_the_pixel_frames():
    covered = [first_pixel_frame(f) + t for f in range(50) for t in range(num_pixel_frames(f, 1))]
    assert covered == list(range(1 + 4 * 49))


def test_chunks_of_three_give_nine_then_twelve_pixel_frames():
    assert [num_pixel_frames(start, 3) for start in (0, 3, 6, 3_000_000)] == [9, 12, 12, 12]


@pytest.mark.parametrize("pixel_frames", range(40))
def test_fewest_latent_frames_that_cover(pixel_frames):
    latent_frames = num_latent_frames(pixel_frames)
    assert num_pixel_frames(0, latent_frames) >= pixel_frames
    assert latent_frames == 0 or num_pixel_frames(0, latent_frames - 1) < pixel_frames


def test_sizes():
    assert latent_size(128, 96) == (16, 12)
    assert num_tokens(16, 12) == 48


@pytest.mark.parametrize("size", [(120, 128), (128, 8), (0, 16), (17, 17)])
def test_sizes_that_do_not_divide_are_refused(size):
    with pytest.raises(KnotError, match="multiples of 16"):
        latent_size(*size)
