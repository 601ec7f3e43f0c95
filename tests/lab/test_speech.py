"""Synthetic speech: reproducible, split without overlap, and its mouth fits its sound."""
# ruff: noqa: RUF001 - letters of the IPA

import ctypes
import re

import numpy as np
import pytest

from knot_core.errors import DrivingError
from knot_lab.synthetic.espeak import Phoneme
from knot_lab.synthetic.sentences import VARIANTS, VOICES, sentence_split, speak_phrases
from knot_lab.synthetic.visemes import mouth_curve


def phonemes(*names: str, each: float = 0.12) -> list[Phoneme]:
    return [Phoneme(i * each, name) for i, name in enumerate(names)]


def test_a_pause_closes_the_mouth_and_open_vowels_open_it():
    mouth = mouth_curve(phonemes("", "", "a", "a", "", ""), 18)
    assert mouth[:4, 0].max() < 0.05
    assert mouth[8:10, 0].min() > 0.8
    assert mouth[-3:, 0].max() < 0.05


@pytest.mark.parametrize("name", ["p", "b", "m"])
def test_lips_meet_for_bilabials_between_open_vowels(name):
    mouth = mouth_curve([Phoneme(0, "a"), Phoneme(0.20, name), Phoneme(0.26, "a")], 12)
    assert mouth[5, 0] < 0.02
    assert mouth[3, 0] > 0.6


def test_rounded_vowels_are_narrow_and_spread_ones_wide():
    assert mouth_curve(phonemes("u", each=0.4), 10)[5, 1] < -0.9
    assert mouth_curve(phonemes("iː", each=0.4), 10)[5, 1] > 0.85


def test_a_diphthong_moves_from_one_vowel_to_the_other():
    mouth = mouth_curve([Phoneme(0, "aʊ")], 15)
    assert mouth[2, 0] > 0.8
    assert mouth[-2, 0] < 0.4
    assert mouth[-2, 1] < -0.5


def test_mouth_stays_in_range_for_any_phonemes():
    rng = np.random.default_rng(0)
    names = [str(name) for name in rng.choice([*"aeiouyœpbmfwtkʃɹ", "", "tʃ", "ɔɪ", "?"], 200)]
    mouth = mouth_curve([Phoneme(t, n) for t, n in zip(np.cumsum(rng.uniform(0, 0.2, 200)), names, strict=True)], 400)
    assert mouth.shape == (400, 2)
    assert 0 <= mouth[:, 0].min() <= mouth[:, 0].max() <= 1
    assert np.abs(mouth[:, 1]).max() <= 1


@pytest.mark.usefixtures("_espeak_ng")
class TestSpeak:
    def test_is_a_function_of_the_seed_whatever_was_said_before(self):
        first = speak_phrases(3, seconds=3)
        speak_phrases(4, "eval", seconds=2)
        again = speak_phrases(3, seconds=3)
        assert np.array_equal(first.waveform, again.waveform)
        assert np.array_equal(first.mouth, again.mouth)
        assert (first.text, first.voice) == (again.text, again.voice)
        assert not np.array_equal(first.waveform, speak_phrases(5, seconds=3).waveform)

    @pytest.mark.parametrize("seconds", [0.04, 2.44, 10.0])
    def test_sound_and_mouth_cover_the_same_pixel_frames(self, seconds):
        speech = speak_phrases(0, seconds=seconds)
        assert len(speech.mouth) == round(seconds * 25)
        assert len(speech.waveform) == 640 * len(speech.mouth)
        assert np.abs(speech.waveform).max() <= 1

    def test_mouth_follows_the_sound(self):
        for seed in range(3):
            speech = speak_phrases(seed, seconds=20)
            loudness = np.sqrt((speech.waveform.reshape(-1, 640) ** 2).mean(axis=1))
            at = [np.corrcoef(np.roll(loudness, shift), speech.mouth[:, 0])[0, 1] for shift in range(-5, 6)]
            assert max(at) > 0.4
            assert abs(int(np.argmax(at)) - 5) <= 1  # pixel frames of delay

    def test_evaluation_shares_no_sentence_with_training(self):
        for split in ("train", "eval"):
            said = re.split(r"(?<=[?!,.])", speak_phrases(11, split, seconds=10).text)
            phrases = [phrase.strip() for phrase in said if phrase.strip()]
            assert len(phrases) > 3
            assert {sentence_split(phrase) for phrase in phrases} == {split}


def test_evaluation_shares_no_voice_with_training():
    assert not set(VOICES["train"]) & set(VOICES["eval"])
    assert not set(VARIANTS["train"]) & set(VARIANTS["eval"])


def test_a_missing_espeak_ng_is_said_with_the_remedy(monkeypatch):
    def missing(_name):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DrivingError, match="apt install espeak-ng"):
        speak_phrases(0)


def test_an_unknown_split_is_refused():
    with pytest.raises(DrivingError, match="train, eval"):
        speak_phrases(0, "test")
