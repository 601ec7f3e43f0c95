"""Synthetic speech with the mouth shapes that go with it, drawn from a seed.

Training and evaluation never share a voice, a variant of a voice, or a sentence: voices and variants are two lists,
and the checksum of a sentence says to which side it belongs.

Shapes: S samples at 16 kHz, T pixel frames at 25 a second.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from knot_core.driving.audio import FPS, SAMPLES_PER_PIXEL_FRAME, resample
from knot_core.errors import DrivingError

from .espeak import Espeak, Phoneme, isolated
from .lexicon import WORDS
from .visemes import mouth_curve

# espeak-ng voice -> its words. One language may be on both sides, in different accents.
VOICES: dict[str, dict[str, str]] = {
    "train": {
        **dict.fromkeys(("en", "en-us", "en-gb-scotland"), "en"),
        **{language: language for language in ("de", "fr", "es", "it", "pt")},
    },
    "eval": {
        **dict.fromkeys(("en-gb-x-rp", "en-us-nyc", "en-029"), "en"),
        "fr-be": "fr",
        "es-419": "es",
        "pt-br": "pt",
    },
}
VARIANTS = {
    "train": ("m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f5", "Andrea", "Alex", "steph", "edward"),
    "eval": ("m5", "m8", "f3", "f4", "Annie", "Michael"),
}
SPLITS = {"train": 0, "eval": 1}
_EVAL_SHARE = 4  # one possible sentence in so many belongs to the evaluation
_RATES, _PITCHES = (120, 221), (20, 81)  # words a minute; espeak-ng's scale of 0 .. 100


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Somebody speaks: ``waveform`` float32 [S], S = 640 T; ``mouth`` float32 [T, 2], mouth_open and mouth_wide."""

    waveform: np.ndarray
    mouth: np.ndarray
    phonemes: tuple[Phoneme, ...]
    text: str
    voice: str


def speak_phrases(seed: int, split: str = "train", seconds: float | None = None) -> Speech:
    """Phrases of one voice with pauses between them: ``seconds`` long, or about 6 to 14 s where that is not given."""
    if split not in SPLITS:
        raise DrivingError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS[split], 31415, seed])
    voice = str(rng.choice(list(VOICES[split])))
    script = _Script(
        voice=f"{voice}+{rng.choice(VARIANTS[split])}",
        rate=int(rng.integers(*_RATES)),
        pitch=int(rng.integers(*_PITCHES)),
        words=WORDS[VOICES[split][voice]],
        split=split,
        seed=int(rng.integers(2**32)),
    )
    num_pixel_frames = max(1, round((rng.uniform(6, 14) if seconds is None else seconds) * FPS))
    sound, sample_rate, phonemes, text = isolated(lambda: _perform(script, num_pixel_frames / FPS))
    waveform = resample(torch.from_numpy(sound), sample_rate).numpy()[: num_pixel_frames * SAMPLES_PER_PIXEL_FRAME]
    return Speech(
        waveform=_as_recorded(waveform, rng),
        mouth=mouth_curve(phonemes, num_pixel_frames),
        phonemes=tuple(phonemes),
        text=text,
        voice=script.voice,
    )


@dataclass(frozen=True, kw_only=True)
class _Script:
    """The speaker, the manner of speaking, and the words."""

    voice: str
    rate: int
    pitch: int
    words: tuple[str, ...]
    split: str
    seed: int


def _perform(script: _Script, seconds: float) -> tuple[np.ndarray, int, list[Phoneme], str]:
    """At least ``seconds`` of sound and its sample rate; the phonemes at their times; the text."""
    espeak = Espeak(script.voice, rate=script.rate, pitch=script.pitch)
    rng = np.random.default_rng(script.seed)
    sound, phonemes, text = [], [], []
    now, pause = 0.0, rng.uniform(0.0, 0.5)
    while now < seconds + 0.1:  # a little more, so that resampling leaves enough
        sentence = _sentence(script.words, script.split, rng)
        samples, spoken = espeak.say(sentence)
        silence = np.zeros(round(pause * espeak.sample_rate), dtype=np.float32)
        start = now + len(silence) / espeak.sample_rate
        sound += [silence, samples]
        phonemes += [Phoneme(now, ""), *(Phoneme(start + p.start, p.name) for p in spoken)]
        text.append(sentence)
        now, pause = start + len(samples) / espeak.sample_rate, 0.2 + 1.3 * rng.random() ** 2
    return np.concatenate(sound), espeak.sample_rate, phonemes, " ".join(text)


def _sentence(words: tuple[str, ...], split: str, rng: np.random.Generator) -> str:
    """Two to nine words, of the split's own: the sentence's checksum decides which split that is."""
    while True:
        drawn = [str(word) for word in rng.choice(words, int(rng.integers(2, 10)))]
        sentence = " ".join(drawn).capitalize() + str(rng.choice(list(".,?!")))
        if sentence_split(sentence) == split:
            return sentence


def sentence_split(sentence: str) -> str:
    """The split that a sentence belongs to."""
    return "eval" if zlib.crc32(sentence.encode()) % _EVAL_SHARE == 0 else "train"


def _as_recorded(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another level, another spectral tilt, and the noise floor of a room: recordings are never digital silence."""
    tilt = rng.uniform(-0.5, 0.5)
    tilted = sound + tilt * np.concatenate([np.zeros(1, np.float32), sound[:-1]])
    peak = max(float(np.abs(tilted).max()), 1e-4)
    level = 10 ** (rng.uniform(-14, -1) / 20)  # of full scale
    floor = level * 10 ** (rng.uniform(-70, -40) / 20)
    noise = rng.standard_normal(len(sound)).astype(np.float32) * floor
    return np.clip(tilted * (level / peak) + noise, -1, 1).astype(np.float32)
