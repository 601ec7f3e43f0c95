"""Frame and size arithmetic of the video autoencoder, in integers.

Latent frame 0 covers pixel frame 0 alone; latent frame f >= 1 covers pixel frames 4f-3 .. 4f.
"""

from .errors import KnotError

TEMPORAL = 4  # pixel frames per latent frame, but for the first
SPATIAL = 8  # pixels per latent cell, each way, of Wan's codecs; another codec says its own
PATCH = 2  # latent cells per token, each way; one in time
LATENT_CHANNELS = 16


def first_pixel_frame(latent_frame: int) -> int:
    """The first pixel frame that `latent_frame` covers."""
    return 0 if latent_frame == 0 else TEMPORAL * (latent_frame - 1) + 1


def num_pixel_frames(start: int, num_latent_frames: int) -> int:
    """How many pixel frames the latent frames start .. start+num_latent_frames-1 cover."""
    return first_pixel_frame(start + num_latent_frames) - first_pixel_frame(start)


def num_latent_frames(pixel_frames: int) -> int:
    """The fewest latent frames, from latent frame 0 on, that cover `pixel_frames`."""
    return 0 if pixel_frames == 0 else 1 + -(-(pixel_frames - 1) // TEMPORAL)


def whole_chunks(start: int, num_chunk_frames: int, end: int) -> int:
    """The end of the first chunk that reaches pixel frame `end`, for chunks of so many latent frames from `start`
    on.
    """
    chunks = -(-(num_latent_frames(end) - start) // num_chunk_frames)
    return first_pixel_frame(start + chunks * num_chunk_frames)


def latent_size(height: int, width: int, spatial: int = SPATIAL) -> tuple[int, int]:
    """Latent height and width of a picture; a whole number of tokens each way. `spatial`: the codec's stride."""
    unit = spatial * PATCH
    if height < unit or width < unit or height % unit or width % unit:
        raise KnotError(
            f"a picture of {width}x{height} does not divide into tokens; "
            f"width and height must be multiples of {unit}: resize or crop it"
        )
    return height // spatial, width // spatial


def num_tokens(latent_height: int, latent_width: int) -> int:
    """Tokens of one latent frame."""
    return (latent_height // PATCH) * (latent_width // PATCH)
