"""Sound as numbers from anywhere: arrays of any library become float32, full scale -1 .. 1, channels first.

Shapes: C channels, S samples.
"""

import logging
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError, short

logger = logging.getLogger(__name__)

RATES = (1_000, 768_000)  # Hz: below, no speech is left; above, there are no sounds, and resampling takes memory
MOST_CHANNELS = 64  # more is an array that lies the other way round
LOUDEST = 1e8  # times full scale: sounds of floats may pass it, but what is louder than this is damage
_SUSPICIOUS = 30.0  # times full scale, on average: integers that somebody made floats of
_AT_ONCE = 2**22  # samples that are looked at together
_INTEGERS = {torch.int16: (0, 2**15), torch.int32: (0, 2**31), torch.int8: (0, 2**7), torch.uint8: (2**7, 2**7)}
_KINDS = "floats within -1 .. 1, or int16, int32, int8 or uint8"

Samples = Tensor | np.ndarray | Sequence[float]


def to_samples(values: Any, *, piece: bool = False) -> Tensor:
    """float32 [C, S] on the CPU of [samples] or [channels, samples]: a tensor, an array of any library, or lists.

    Integers are scaled by their type. A `piece` of a longer sound may be shorter than it has channels. Raises
    `MediaError` for what cannot be sound: another order of axes, types without a full scale, NaN, infinite values.
    """
    samples = _scaled(_tensor(values))
    if samples.ndim == 1:
        samples = samples[None]
    check_shape(list(samples.shape), piece=piece)
    check_values(samples)
    return samples


def check_shape(shape: Sequence[int], *, piece: bool = False) -> None:
    """Raises `MediaError` for what is not [channels, samples]."""
    if len(shape) != 2 or shape[0] == 0:
        raise MediaError(f"the sound has shape {list(shape)}; it must be [channels, samples], or [samples] of mono")
    channels, samples = shape
    # stereo of one sample is a sound; one of three channels and two samples is two of three samples, turned
    turned = channels > samples > 0 and channels > 2 and not piece
    if channels > MOST_CHANNELS or turned:
        raise MediaError(
            f"the sound has shape {list(shape)}, which would be {channels} channels of {samples} samples; it must be "
            "[channels, samples]: transpose it (.T), as soundfile and scipy give samples first"
        )


def check_values(samples: Tensor) -> None:
    """Raises `MediaError` for float32 [C, S] with values that are no sound. It looks at a part at a time."""
    loudest, energy = 0.0, 0.0
    for part in samples.split(_AT_ONCE, dim=1) if samples.numel() else ():
        here = max(abs(float(value)) for value in torch.aminmax(part))  # NaN is the least and the greatest of its part
        if not math.isfinite(here):
            raise MediaError("the sound holds values that are not finite (NaN or infinite); check where it comes from")
        loudest, energy = max(loudest, here), energy + float(part.square().sum())
    if loudest > LOUDEST:
        raise MediaError("the sound is more than 160 dB above full scale; check where it comes from")
    if energy > _SUSPICIOUS**2 * samples.numel() > 0:
        logger.warning("the sound reaches %.0f times full scale, which is 1: were its samples integers? Divide those "
                       "of 16 bits by 32768", loudest)  # fmt: skip


def check_rate(sample_rate: Any) -> int:
    """The rate as an int. Raises `MediaError` for what is no whole number of Hz within bounds."""
    low, high = RATES
    rate = sample_rate.item() if isinstance(sample_rate, Tensor | np.ndarray | np.generic) and _single(sample_rate) \
        else sample_rate  # fmt: skip
    fits = isinstance(rate, numbers.Real) and not isinstance(rate, bool) and low <= rate <= high and rate == int(rate)
    if not fits:
        raise MediaError(f"the sample rate is {short(rate)}; it must be a whole number of Hz from {low} to {high}")
    return int(rate)


def _single(value: Any) -> bool:
    return np.size(value) == 1 if not isinstance(value, Tensor) else value.numel() == 1


def _tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        if not isinstance(values, np.ndarray | np.generic) and hasattr(values, "__dlpack__"):
            return torch.from_dlpack(values)
        array = np.asarray(values)
        own = array.astype(array.dtype.newbyteorder("="), order="C", copy=not array.flags.writeable)
        return torch.from_numpy(own)
    except (TypeError, ValueError, RuntimeError, BufferError, OverflowError) as problem:
        raise MediaError(
            f"{_named(values)} is no sound ({short(problem, str)}); give an array [channels, samples] of {_KINDS}"
        ) from problem


def _scaled(samples: Tensor) -> Tensor:
    """float32 on the CPU."""
    if samples.dtype == torch.int64 and not samples.any():
        samples = samples.float()  # silence is silence at any scale: what a list of zeros becomes
    if not samples.dtype.is_floating_point and samples.dtype not in _INTEGERS:
        kind = str(samples.dtype).removeprefix("torch.")
        raise MediaError(f"the sound's samples are {kind}, whose full scale is unknown; give {_KINDS}")
    try:
        dense = samples.to_dense() if samples.layout != torch.strided else samples
        found = dense.to("cpu", torch.float32)
    except (RuntimeError, NotImplementedError) as problem:
        raise MediaError(f"the sound's samples cannot be read ({short(problem, str)}); give {_KINDS}") from problem
    middle, full = _INTEGERS.get(samples.dtype, (0, 1))
    return found if full == 1 else (found - middle) / full


def _named(values: Any) -> str:
    return "None" if values is None else f"a value of type {type(values).__name__}"
