"""The channels of a sound's frames: one or two, as they are muxed and heard; more are mixed down side by side.

Shapes: C channels, S samples, R rows.
"""

import math
from collections.abc import Iterable, Iterator

import av
import numpy as np
import torch

from .downmix import LiveDownmix

_MOST = 8  # channels: 7.1
_SIDES = 2


def by_sides(blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks of a wide converter's rows -> [2, S], a second later: each side the sum of its channels, or the loudest of
    them where the sum cancels.
    """
    sides = [LiveDownmix(sample_rate, summed=True) for _ in range(_SIDES)]
    for block in blocks:
        rows = torch.from_numpy(block).unflatten(0, (_SIDES, _MOST))
        heard = torch.stack([side.push(channels) for side, channels in zip(sides, rows, strict=True)])
        if heard.shape[1]:
            yield heard.numpy()
    rest = torch.stack([side.finish() for side in sides])
    if rest.shape[1]:
        yield rest.numpy()


class Converter:
    """Frames of any kind to float32 [R, S] of one rate; the kind may change on the way.

    Rows are one or two channels, or, where the sound has more (`is_wide`), those of the left side with their weights,
    then those of the right.
    """

    def __init__(self, sample_rate: int, num_channels: int) -> None:
        """`num_channels`: as the file begins."""
        self._rate, self._layout = sample_rate, "mono" if num_channels == 1 else "stereo"
        self.num_channels = min(num_channels, 2)
        self.is_wide = num_channels > 2
        self.num_rows = _SIDES * _MOST if self.is_wide else self.num_channels
        self._kind: tuple | None = None
        self._resampler: av.AudioResampler | None = None
        self._weights: np.ndarray | None = None  # of many channels

    def __call__(self, frame: av.AudioFrame) -> np.ndarray:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        parts = []
        if kind != self._kind:
            parts.append(self.rest())
            self._kind, many = kind, frame.layout.nb_channels > 2
            self._weights = _weights(frame.layout, self.num_channels) if many else None
            as_is, layout = ("flt", frame.layout) if many else ("fltp", self._layout)
            self._resampler = av.AudioResampler(format=as_is, layout=layout, rate=self._rate)
        return self._joined([*parts, *(self._mixed(part) for part in self._resampler.resample(frame))])

    def rest(self) -> np.ndarray:
        """The samples that the resampler still holds."""
        if self._resampler is None:
            return self._joined([])
        rest, self._resampler = [self._mixed(part) for part in self._resampler.resample(None)], None
        self._kind = None
        return self._joined(rest)

    def _mixed(self, part: av.AudioFrame) -> np.ndarray:
        samples = part.to_ndarray()
        if self._weights is not None:
            samples = samples.reshape(-1, self._weights.shape[1]).T
        if not self.is_wide:
            return samples if self._weights is None else self._weights @ samples
        weights = np.eye(2, dtype=np.float32) if self._weights is None else self._weights
        rows = np.zeros((_SIDES, _MOST, samples.shape[1]), np.float32)
        rows[:, : len(samples)] = weights[:, :, None] * samples
        return rows.reshape(self.num_rows, -1)

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.zeros((self.num_rows, 0), np.float32), *parts], axis=1)


def _weights(layout: av.AudioLayout, num_channels: int) -> np.ndarray:
    """Weights [1 or 2, C] that mix many channels down, float32: FFmpeg's, but for those of each row to come to 1 at
    most, so that the mix stays within full scale. FFmpeg itself does so for integers alone, and refuses some layouts.
    """
    sides = np.array([_sides(channel.name) for channel in layout.channels], dtype=np.float32).T
    sides /= max(1.0, float(sides.sum(axis=1).max()))
    return sides if num_channels == 2 else sides.mean(axis=0, keepdims=True)


def _sides(name: str) -> tuple[float, float]:
    """The share of one channel in left and right, by FFmpeg's name for it, such as FL, FC, LFE, SR, TBL."""
    if name.startswith("LFE"):
        return 0.0, 0.0
    weight = 1.0 if name in ("FL", "FR", "DL", "DR") else math.sqrt(0.5)
    return (0.0 if "R" in name else weight), (0.0 if "L" in name else weight)
