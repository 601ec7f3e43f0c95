"""Speech features: their definition, and that both ways to compute them agree."""

import math

import pytest
import torch
from torch import Tensor

from knot_core.driving import audio


def tones(sample_rate: int, *frequencies: float, seconds: float = 0.8) -> Tensor:
    time = torch.arange(int(sample_rate * seconds), dtype=torch.float64) / sample_rate
    return sum(0.2 * torch.sin(2 * math.pi * hertz * time + hertz) for hertz in frequencies).float()


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize("num_samples", [0, 1, 639, 640, 641, 6400])
def test_every_begun_pixel_frame_has_features(noise, num_samples):
    features = audio.log_mel(noise[:num_samples])
    assert features.shape == (math.ceil(num_samples / 640), 64)
    assert features.isfinite().all()


def test_features_follow_their_definition(noise):
    features = audio.log_mel(noise)
    hop, window = 21, torch.hann_window(400)  # hop 21 is the second of pixel frame 10
    samples = noise[hop * 320 + 160 - 200 :][:400]
    power = torch.fft.rfft(samples * window, n=512).abs() ** 2
    expected = ((torch.log(power @ audio.mel_bank() + 1e-5) + 4) / 4).clamp(-2, 4)
    torch.testing.assert_close(features[10, 32:], expected)


def test_features_are_local_and_batched(noise):
    features = audio.log_mel(torch.stack([noise, noise.flip(0)]))
    torch.testing.assert_close(features[0], audio.log_mel(noise))
    changed = noise.clone()
    changed[640 * 10 : 640 * 11] = 0
    rows = (audio.log_mel(changed) != features[0]).any(dim=1).nonzero().flatten().tolist()
    assert set(rows) <= {9, 10, 11}, "a pixel frame hears itself and its neighbours only"


def test_long_sound_is_heard_part_by_part(noise, monkeypatch):
    whole = audio.log_mel(noise)
    monkeypatch.setattr(audio, "_HOPS_AT_ONCE", 7)
    torch.testing.assert_close(audio.log_mel(noise), whole)


def test_silence_is_one_constant():
    torch.testing.assert_close(audio.log_mel(torch.zeros(6400)), torch.full((10, 64), audio.SILENCE))


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 15_999, 22_050, 44_100, 48_000, 96_000])
def test_resampling_by_av_keeps_a_tone_and_its_place(sample_rate):
    wanted = tones(16_000, 440.0, 2_900.0)
    got = audio._resample_av(tones(sample_rate, 440.0, 2_900.0), sample_rate)
    assert abs(got.numel() - wanted.numel()) <= 1
    inside = slice(200, min(got.numel(), wanted.numel()) - 200)
    torch.testing.assert_close(got[inside], wanted[inside], atol=1e-3, rtol=0)


def test_resampling_keeps_an_empty_waveform_and_its_own_rate(noise):
    assert audio.resample(torch.zeros(0), 44_100).numel() == 0
    assert torch.equal(audio.resample(noise, 16_000), noise)


@pytest.mark.skipif(
    audio.torchaudio_or_none() is None,
    reason="TORCHAUDIO DOES NOT IMPORT: its equality with PyAV and transformers is not tested here",
)
@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 192_000])
def test_torchaudio_equals_av_and_transformers(sample_rate):
    # white noise reaches every frequency, also those the low-pass must cut
    waveform = torch.randn(sample_rate + 7, generator=torch.Generator().manual_seed(1)) * 0.1
    ours, theirs = audio._resample_av(waveform, sample_rate), audio._resample_torchaudio(waveform, sample_rate)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    torch.testing.assert_close(audio.log_mel(ours), audio.log_mel(theirs), atol=1e-3, rtol=0)


@pytest.mark.skipif(
    audio.torchaudio_or_none() is None,
    reason="TORCHAUDIO DOES NOT IMPORT: its filter bank is not compared with transformers'",
)
def test_mel_bank_of_torchaudio_equals_transformers():
    torch.testing.assert_close(audio.mel_bank(), audio._mel_bank_transformers(257, 8000.0), atol=1e-5, rtol=0)
