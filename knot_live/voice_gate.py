"""Whether somebody speaks, by how loud it is against the noise in which he does.

Levels are root mean squares of pixel frames, of full scale 1. Shapes: P pixel frames.
"""

import numpy as np

LOOKS_BACK = 75  # pixel frames in which the noise is looked for: 3 s, in which everybody pauses, or at least closes a p
_KNOWN = 25  # of them must hold sound, or nothing is known of its noise
_USUAL, _LEAST, _MOST = (10 ** (decibels / 20) for decibels in (-50, -60, -30))
_ABOVE = 10 ** (10 / 20)  # voice is by so much louder than the quietest frame


def voiced(levels_P: np.ndarray) -> np.ndarray:
    """Whether each frame behind the first `LOOKS_BACK` is louder than its threshold: bool [P - LOOKS_BACK]."""
    return levels_P[LOOKS_BACK:] > thresholds(levels_P)


def thresholds(levels_P: np.ndarray) -> np.ndarray:
    """[P - LOOKS_BACK]: clip(10 dB + min of the frames before that hold sound, -60 dB, -30 dB).

    Frames of nothing at all are no sound: what is silent between two sentences says nothing of a microphone. As long as
    there is less than a second of sound, it is -50 dB. It is the same whenever it is asked for again, since it hears
    what came before alone.
    """
    before = np.lib.stride_tricks.sliding_window_view(levels_P, LOOKS_BACK)[: len(levels_P) - LOOKS_BACK]
    sounds = before > 0
    floor = np.where(sounds, before, np.inf).min(axis=1)
    return np.where(sounds.sum(axis=1) < _KNOWN, _USUAL, np.clip(floor * _ABOVE, _LEAST, _MOST))
