"""How many floating-point operations decoding takes: formulas, of convolutions alone.

A 3x3 convolution of a picture of P pixels counts 2 * 9 * P * inputs * outputs; edges count like the rest.
"""

from .taehv import CodecConfig

_MEM_BLOCKS = 3  # of each stage


def mem_block_flops(width: int, pixels: int) -> int:
    """Three 3x3 convolutions, the first over the frame and its past: 18 P (2 w^2 + w^2 + w^2)"""
    return 72 * pixels * width**2


def up_flops(inputs: int, outputs: int, stride: int, size: tuple[int, int]) -> int:
    """1x1 convolution to `stride` frames, then four 2x2 ones at the small size, each of a row and a column more than
    the picture has: 2 H W s i^2 + s * 4 * 8 (H + 1) (W + 1) i o
    """
    height, width = size
    enlarging = stride * 32 * (height + 1) * (width + 1) * inputs * outputs
    return 2 * height * width * stride * inputs**2 + enlarging


def decode_flops(config: CodecConfig, num_frames: int, latent_size: tuple[int, int]) -> int:
    """FLOPs to decode latent frames other than the stream's first; each gives four pixel frames."""
    widths, strides = config.decoder, (1, 2, 2)
    (height, width), frames = latent_size, num_frames
    total = frames * 18 * height * width * config.latent_channels * widths[0]
    for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        blocks = _MEM_BLOCKS * mem_block_flops(inputs, height * width)
        total += frames * (blocks + up_flops(inputs, outputs, stride, (height, width)))
        height, width, frames = 2 * height, 2 * width, frames * stride
    return total + frames * 18 * height * width * widths[-1] * 3
