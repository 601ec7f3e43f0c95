"""Sessions of the built-in model, as small and quick as they can be, and speech."""

import numpy as np
import pytest
import torch

from knot_core import load_model
from knot_live.engine import StreamSettings
from knot_live.session import Session

RATE = 24_000
SETTINGS = StreamSettings(steps=1, num_window_frames=4)


@pytest.fixture(scope="session")
def model():
    return load_model("knot-tiny")


@pytest.fixture(scope="session")
def anchor(model):
    picture = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    return model.encode_anchor(picture, size=(64, 64))


@pytest.fixture
def session(model, anchor):
    return Session(model, anchor, SETTINGS, seed=5)


def speech(seconds, seed=0):
    """int16 [S] at 24 kHz, of noise that begins with 50 ms which are next to silent."""
    samples = np.random.default_rng(seed).integers(1, 9000, round(seconds * RATE)).astype(np.int16)
    samples[: RATE // 20] = 1
    return samples


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    """Pipecat reports every step on standard error."""
    try:
        from loguru import logger
    except ImportError:
        return
    logger.remove()
