"""Who speaks against which noise: a gate that knows the room."""

import numpy as np
import pytest

from knot_live.voice_gate import LOOKS_BACK, thresholds, voiced

FPS, SAMPLES = 25, 960


def levels(sound):
    return np.sqrt(np.mean(sound.reshape(-1, SAMPLES) ** 2, axis=1))


def noise(seconds, decibels, seed=0):
    return np.random.default_rng(seed).standard_normal(round(seconds * FPS) * SAMPLES) * 10 ** (decibels / 20)


def voice(seconds, decibels):
    """Syllables, four a second, with a stop before each."""
    count = round(seconds * FPS) * SAMPLES
    at = np.arange(count) / (FPS * SAMPLES)
    loud = np.clip(np.sin(np.pi * 4 * at) ** 2 * 1.6 - 0.1, 0.02, 1)
    return np.sin(2 * np.pi * 140 * at) * loud * 2**0.5 * 10 ** (decibels / 20)


def heard(sound):
    """Whether somebody speaks, of all frames; before it there was nothing at all."""
    return voiced(np.concatenate([np.zeros(LOOKS_BACK), levels(sound)]))


@pytest.mark.parametrize("decibels", [-70, -55, -48, -42, -36])
def test_steady_noise_is_no_voice_once_it_has_been_heard(decibels):
    assert not heard(noise(12, decibels))[FPS:].any()


@pytest.mark.parametrize(("room", "speaks"), [(-80, -52), (-75, -54), (-60, -30), (-48, -24), (-42, -18), (-36, -14)])
def test_a_voice_is_heard_in_its_room_and_the_pauses_are_not(room, speaks):
    sound = noise(16, room)
    sound[4 * FPS * SAMPLES : 8 * FPS * SAMPLES] += voice(4, speaks)
    found = heard(sound)
    spoken = found[4 * FPS : 8 * FPS]
    longest = max(len(run) for run in "".join("x" if one else " " for one in ~spoken).split(" "))
    assert longest <= 8, "what is held for 8 frames behind each voiced one has no gap"
    assert not found[FPS : 4 * FPS].any()
    assert not found[8 * FPS :].any()


@pytest.mark.parametrize("decibels", [-28, -20, -9])
def test_what_is_loud_is_a_voice_however_steady(decibels):
    tone = np.sin(np.arange(10 * FPS * SAMPLES) / 20) * 2**0.5 * 10 ** (decibels / 20)
    assert heard(tone).all()


def test_a_program_s_first_word_is_heard_from_its_beginning():
    found = heard(voice(3, -26))
    assert found[:3].any()
    assert found.mean() > 0.6


def test_a_frame_has_the_same_threshold_whatever_follows():
    rng = np.random.default_rng(1)
    some = np.concatenate([np.zeros(LOOKS_BACK), rng.uniform(0, 0.1, 200)])
    whole = thresholds(some)
    for place in (1, 40, 150):
        assert np.array_equal(thresholds(some[: LOOKS_BACK + place]), whole[:place])
