"""Speech as the network hears it: 16 kHz mono, then 32 log-mel bands every 20 ms, two rows a pixel frame.

The same function feeds training and inference. torchaudio does the resampling and the mel filter bank where it
imports; where it does not, PyAV's resampler and transformers' filter bank do the same job with the same
parameters, and a test holds the two equal within 1e-3.

Shapes: S samples, C channels, J hops, P pixel frames, B batch axes (any number), M mel bands.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import MediaError
from ..media.downmix import downmix

if TYPE_CHECKING:
    from ..media import Audio

SAMPLE_RATE = 16_000  # Hz
FPS = 25  # pixel frames a second
HOP = 320  # samples, 20 ms
WINDOW = 400  # samples, 25 ms
FFT = 512
NUM_MELS = 32
HOPS_PER_PIXEL_FRAME = SAMPLE_RATE // FPS // HOP
_HOPS_AT_ONCE = 3000  # a minute: spectra take thirty times the room of the sound
SAMPLES_PER_PIXEL_FRAME = HOP * HOPS_PER_PIXEL_FRAME
MEL_DIM = NUM_MELS * HOPS_PER_PIXEL_FRAME  # 64 values a pixel frame

# One low-pass for both resamplers: a sinc of 64 zero crossings to either side under a Kaiser window.
ZERO_CROSSINGS = 64
KAISER_BETA = 14
CUTOFF = 0.97  # of the lower Nyquist frequency
MOST_PHASES = 1000  # torchaudio keeps one kernel per phase; an odd rate such as 15,999 Hz would need 16,000 of them


@lru_cache(maxsize=1)
def torchaudio_or_none() -> ModuleType | None:
    """torchaudio, or None where it is missing or does not fit the installed torch (then its libraries do not load)."""
    try:
        import torchaudio
        import torchaudio.functional
    except (ImportError, OSError, RuntimeError):
        return None
    return torchaudio


def speech_waveform(audio: Audio) -> Tensor:
    """All channels as one at 16 kHz, all of the sound at once: float32 [S]."""
    return resample(downmix(audio.samples, audio.sample_rate), audio.sample_rate)


@dataclass(frozen=True)
class Reach:
    """The samples on either side of a sample that the low-pass filter uses."""

    samples: int  # at the sound's own rate, which are
    resampled: int  # so many at 16 kHz, a whole number

    @classmethod
    def of(cls, sample_rate: int) -> Reach:
        """The reach at this sample rate, in Hz; None if nothing is resampled."""
        if sample_rate == SAMPLE_RATE:
            return cls(0, 0)
        common = math.gcd(sample_rate, SAMPLE_RATE)
        period = sample_rate // common
        periods = math.ceil(math.ceil(1.25 * ZERO_CROSSINGS * max(1.0, sample_rate / SAMPLE_RATE)) / period)
        return cls(periods * period, periods * (SAMPLE_RATE // common))


def resample(waveform: Tensor, sample_rate: int) -> Tensor:
    """[S] at any rate -> [ceil(S * 16000 / rate)] at 16 kHz; silence is assumed before and after."""
    if sample_rate == SAMPLE_RATE or waveform.numel() == 0:
        return waveform.float()
    few_phases = SAMPLE_RATE // math.gcd(sample_rate, SAMPLE_RATE) <= MOST_PHASES
    by = _resample_torchaudio if few_phases and torchaudio_or_none() else _resample_av
    return by(waveform.detach().float().cpu(), sample_rate)


def _resample_torchaudio(waveform: Tensor, sample_rate: int) -> Tensor:
    # swresample never puts the cut-off above the source's own Nyquist frequency, so neither do we
    cutoff = min(SAMPLE_RATE * CUTOFF, sample_rate) / min(SAMPLE_RATE, sample_rate)
    return torchaudio_or_none().functional.resample(
        waveform,
        sample_rate,
        SAMPLE_RATE,
        lowpass_filter_width=ZERO_CROSSINGS,
        rolloff=cutoff,
        resampling_method="sinc_interp_kaiser",
        beta=float(KAISER_BETA),
    )


def _resample_av(waveform: Tensor, sample_rate: int) -> Tensor:
    import av

    common = math.gcd(sample_rate, SAMPLE_RATE)
    period = sample_rate // common  # so many samples in are a whole number of samples out
    # swresample mirrors the signal at both ends; zeros around it make the mirror silence, as torchaudio has it
    pad = period * math.ceil(4 * ZERO_CROSSINGS * max(1.0, sample_rate / SAMPLE_RATE) / period)
    padded = F.pad(waveform, (pad, pad)).numpy()

    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=sample_rate, format="fltp", layout="mono")
    convert = graph.add(
        "aresample",
        f"{SAMPLE_RATE}:filter_size={2 * ZERO_CROSSINGS}:cutoff={CUTOFF}"
        f":filter_type=kaiser:kaiser_beta={KAISER_BETA}:phase_shift=15:exact_rational=1",
    )
    sink = graph.add("abuffersink")
    source.link_to(convert)
    convert.link_to(sink)
    graph.configure()

    parts: list[np.ndarray] = []
    for block in np.array_split(padded, max(1, len(padded) // 65_536)):
        frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        graph.push(frame)
        parts += _pull_all(graph)
    graph.push(None)
    parts += _pull_all(graph)
    start = pad * SAMPLE_RATE // sample_rate
    length = math.ceil(waveform.numel() * SAMPLE_RATE / sample_rate)
    return torch.from_numpy(np.concatenate(parts)[start : start + length].copy())


def _pull_all(graph) -> list[np.ndarray]:  # noqa: ANN001 - av.filter.Graph, imported late
    import av

    parts = []
    while True:
        try:
            parts.append(graph.pull().to_ndarray()[0])
        except (av.error.BlockingIOError, av.error.EOFError):
            return parts


@lru_cache(maxsize=1)
def mel_bank() -> Tensor:
    """Triangles on the HTK mel scale, 0 .. 8000 Hz, no area norm: float32 [FFT // 2 + 1, M]."""
    bins, nyquist = FFT // 2 + 1, SAMPLE_RATE / 2
    if torchaudio_or_none():
        return (
            torchaudio_or_none()
            .functional.melscale_fbanks(bins, 0.0, nyquist, NUM_MELS, SAMPLE_RATE, norm=None, mel_scale="htk")
            .float()
        )
    return _mel_bank_transformers(bins, nyquist)


def _mel_bank_transformers(bins: int, nyquist: float) -> Tensor:
    try:
        audio_utils = importlib.import_module("transformers.audio_utils")
    except ImportError as problem:
        raise MediaError(
            f"speech needs torchaudio or transformers for its mel filter bank, and neither imports "
            f"({problem}); install one: pip install transformers"
        ) from problem
    bank = audio_utils.mel_filter_bank(bins, NUM_MELS, 0.0, nyquist, SAMPLE_RATE, norm=None, mel_scale="htk")
    return torch.from_numpy(bank).float()


def log_mel(waveform: Tensor) -> Tensor:
    """16 kHz mono [*B, S] -> [*B, P, 64]: pixel frame p holds hops 2p and 2p+1, 32 bands each.

    value = clamp((ln(power + 1e-5) + 4) / 4, -2, 4), power = |FFT of a 25 ms Hann window|^2 through the mel bank;
    hop j is centred on sample 320 j + 160; silence surrounds the waveform, a begun pixel frame is completed with it.
    """
    num_pixel_frames = math.ceil(waveform.shape[-1] / SAMPLES_PER_PIXEL_FRAME)
    if num_pixel_frames == 0:
        return waveform.new_zeros(*waveform.shape[:-1], 0, MEL_DIM, dtype=torch.float32)
    before = (WINDOW - HOP) // 2
    after = num_pixel_frames * SAMPLES_PER_PIXEL_FRAME - waveform.shape[-1] + WINDOW - HOP - before
    hops = F.pad(waveform.float(), (before, after)).unfold(-1, WINDOW, HOP)
    value = torch.cat([_log_mel_of_hops(some) for some in hops.split(_HOPS_AT_ONCE, dim=-2)], dim=-2)
    return rearrange(value, "... (p hop) m -> ... p (hop m)", hop=HOPS_PER_PIXEL_FRAME)


def _log_mel_of_hops(hops: Tensor) -> Tensor:
    """[*B, hops, WINDOW] -> [*B, hops, 32]"""
    power = torch.fft.rfft(hops * torch.hann_window(WINDOW, device=hops.device), n=FFT).abs().square()
    return ((torch.log(power @ mel_bank().to(power.device) + 1e-5) + 4) / 4).clamp(-2, 4)


SILENCE = (math.log(1e-5) + 4) / 4  # what every value is where there is no sound
