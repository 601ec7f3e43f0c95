"""Several channels as one, so that a voice stays: second by second the mean, or the loudest where the mean cancels.

Shapes: C channels, S samples.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

MEAN = -1  # what is heard: the mean, or the channel of that number
_LOST, _KEPT = 4.0, 3.0  # dB that the mean loses against the loudest channel: above, that one; below, the mean again
_SILENT = 1e-10  # power, -100 dB: nothing to decide by
_FADE = 0.05  # seconds from one to the other


def chosen(block: Tensor, before: int, *, summed: bool = False) -> int:
    """The channel to use for one second of sound [C, S], or MEAN; `before` is the choice for the second before it.
    `summed`: the channels have weights already, and their sum takes the place of the mean.

    Equal voices that do not know of one another lose 3 dB in the mean, one voice on one side 6 dB, opposite phases all.
    """
    powers = [float(channel.double().square().mean()) for channel in block.contiguous()]
    loudest = max(powers, default=0.0)
    if len(powers) < 2 or not loudest > _SILENT:
        return before
    lost = _decibels(loudest, float(_of(block, MEAN, summed=summed).double().square().mean()))
    if before == MEAN:
        return powers.index(loudest) if lost > _LOST else MEAN
    if lost < _KEPT:
        return MEAN
    here = before if before < len(powers) else MEAN
    return here if here != MEAN and _decibels(loudest, powers[here]) <= _LOST else powers.index(loudest)


def mixed(block: Tensor, before: int, now: int, sample_rate: int, *, summed: bool = False) -> Tensor:
    """[C, S] of one second -> [S], passing at its beginning from what was heard before to what is heard now."""
    heard = _of(block, now, summed=summed)
    if before == now:
        return heard
    num_fading = min(round(_FADE * sample_rate), len(heard))
    weight = (torch.arange(num_fading) + 0.5) / max(1, round(_FADE * sample_rate))
    left = _of(block[:, :num_fading], before, summed=summed)
    return torch.cat([left + weight * (heard[:num_fading] - left), heard[num_fading:]])


def downmix(samples: Tensor, sample_rate: int) -> Tensor:
    """float32 [C, S] -> [S], all at once."""
    if samples.shape[0] == 1 or samples.shape[1] == 0:
        return samples[0]
    heard = torch.empty(samples.shape[1])
    before = MEAN
    for start, block in zip(range(0, samples.shape[1], sample_rate), samples.split(sample_rate, dim=1), strict=True):
        now = chosen(block, before)
        heard[start : start + sample_rate] = mixed(block, before, now, sample_rate)
        before = now
    return heard


class LiveDownmix:
    """`downmix` of sound that arrives piece by piece: the same samples, as soon as nothing to come can change them.

    Channels that differ wait for the end of their second; channels that are alike, as of one microphone, do not.
    """

    def __init__(self, sample_rate: int, *, summed: bool = False) -> None:
        """`summed`: the channels have weights already, and their sum takes the place of the mean."""
        self._rate, self._before, self._summed = sample_rate, MEAN, summed
        self._block = torch.zeros(1, 0)  # [C, S], of the second at hand
        self._num_given = 0  # samples of it that have left

    @property
    def num_channels(self) -> int:
        """The number of channels pushed so far; 1 is compatible with any number."""
        return self._block.shape[0]

    def push(self, samples: Tensor) -> Tensor:
        """[C, S] -> [S]; C is 1 or as before."""
        channels = max(self.num_channels, samples.shape[0])
        self._block = torch.cat([one.expand(channels, -1) for one in (self._block, samples)], dim=1)
        return torch.cat([*self._whole_seconds(), self._alike()])

    def finish(self) -> Tensor:
        """The remaining mono samples, [S]."""
        return self._end(self._block) if self._block.shape[1] else torch.zeros(0)

    def _whole_seconds(self) -> Iterator[Tensor]:
        while self._block.shape[1] >= self._rate:
            block, self._block = self._block[:, : self._rate], self._block[:, self._rate :].clone()
            yield self._end(block)

    def _end(self, block: Tensor) -> Tensor:
        now = chosen(block, self._before, summed=self._summed)
        heard = mixed(block, self._before, now, self._rate, summed=self._summed)[self._num_given :]
        self._before, self._num_given = now, 0
        return heard

    def _alike(self) -> Tensor:
        """The leading samples of the block at which all channels are equal, and which therefore need no decision."""
        waiting = self._block[:, self._num_given :]
        if self._summed or (self._before != MEAN and waiting.shape[0] > 1):
            return torch.zeros(0)
        differ = (waiting != waiting[:1]).any(dim=0).nonzero()
        count = int(differ[0]) if len(differ) else waiting.shape[1]
        self._num_given += count
        return waiting[:, :count].mean(dim=0)


def _of(block: Tensor, source: int, *, summed: bool) -> Tensor:
    if source != MEAN:
        return block[source]
    return block.sum(dim=0) if summed else block.mean(dim=0)


def _decibels(power: float, against: float) -> float:
    return 10 * math.log10(power / against) if against > 0 else math.inf
