"""Tileable noise, made once and cut from at random: filtering it anew for every head would take longer than drawing.

Shapes: H W of a field.
"""

from __future__ import annotations

import numpy as np

SCALES = (0.7, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0)  # pixels: the standard deviation of the Gaussian that smooths it
_FIELDS = 3


class NoiseBank:
    """Periodic Gaussian fields of unit variance, a few for every scale, ``size`` pixels square."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(7)
        frequency = np.fft.fftfreq(size) * 2 * np.pi
        self._fields = {
            scale: [_smooth(rng.standard_normal((size, size)), frequency, scale) for _ in range(_FIELDS)]
            for scale in SCALES
        }

    def cut(self, rng: np.random.Generator, scale: float, height: int, width: int) -> np.ndarray:
        """A piece float32 [H, W] at a random place, mirrored at random; periodic where it is larger than the field."""
        field = self._fields[min(SCALES, key=lambda known: abs(np.log(known / scale)))][rng.integers(_FIELDS)]
        if rng.random() < 0.5:
            field = field[:, ::-1]
        if rng.random() < 0.5:
            field = field[::-1]
        y, x = rng.integers(len(field), size=2)
        size = len(field)
        if height <= size and width <= size:  # a view, where no copy is needed
            top, left = y % (size - height + 1), x % (size - width + 1)
            return field[top : top + height, left : left + width]
        rolled = np.roll(field, (-int(y), -int(x)), (0, 1))
        return np.tile(rolled, (-(-height // size), -(-width // size)))[:height, :width]

    def fractal(self, rng: np.random.Generator, height: int, width: int, roughness: float = 0.6) -> np.ndarray:
        """Several scales summed, coarse first: sum of roughness^i n_i, of about unit variance, float32 [H, W]."""
        weights = roughness ** np.arange(5)
        total = sum(
            weight * self.cut(rng, scale, height, width) for weight, scale in zip(weights, SCALES[:1:-1], strict=True)
        )
        return (total / np.sqrt((weights**2).sum())).astype(np.float32)


def _smooth(white: np.ndarray, frequency: np.ndarray, scale: float) -> np.ndarray:
    """White noise [H, H] under a periodic Gaussian filter, to unit variance."""
    response = np.exp(-0.5 * (scale * frequency) ** 2)
    smooth = np.fft.ifft2(np.fft.fft2(white) * response[:, None] * response[None]).real
    return (smooth / smooth.std()).astype(np.float32)
