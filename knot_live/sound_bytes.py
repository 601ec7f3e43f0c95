"""A session's sound: its rate, and float32 arrays as text that JSON holds, and back, bit for bit."""

import base64

import numpy as np

SOUND_RATE = 24_000  # Hz, mono: of what moves the mouth, is sent and is recorded


def to_text(values: np.ndarray) -> str:
    """base64 of values of any shape [...] as little-endian float32, without the shape."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def from_text(text: str) -> np.ndarray:
    """[S], an array of its own."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
