"""How many floating-point operations decoding takes: formulas, of convolutions alone.

A 3x3 convolution of a picture of P pixels counts 2 * 9 * P * inputs * outputs; edges count like the rest.
"""

from .taehv import CodecConfig

_MEM_BLOCKS = 3  # of each stage


def mem_block_flops(width: int, pixels: int) -> int:
    """Three 3x3 convolutions, the first over the frame and its past: 18 P (2 w^2 + w^2 + w^2)"""
    return 72 * pixels * width**2


def up_flops(inputs: int, outputs: int, stride: int, pixels: int) -> int:
    """1x1 convolution to `stride` frames, then the enlarging one at the small size: 2 P s i^2 + s * 18 P i 4 o"""
    return 2 * pixels * stride * inputs**2 + stride * 72 * pixels * inputs * outputs


def decode_flops(config: CodecConfig, num_frames: int, latent_size: tuple[int, int]) -> int:
    """FLOPs to decode latent frames other than the stream's first; each gives four pixel frames."""
    widths, strides = config.decoder, (1, 2, 2)
    pixels, frames = latent_size[0] * latent_size[1], num_frames
    total = frames * 18 * pixels * config.latent_channels * widths[0]
    for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        total += frames * (_MEM_BLOCKS * mem_block_flops(inputs, pixels) + up_flops(inputs, outputs, stride, pixels))
        pixels, frames = 4 * pixels, frames * stride
    return total + frames * 18 * pixels * widths[-1] * 3
