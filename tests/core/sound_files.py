"""Sound files for tests, made with PyAV: of any codec and container, with time stamps that were moved.

Shapes: C channels, S samples.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_AT_ONCE = 1200  # samples of a packet, where the encoder does not mind
Later = Callable[[float], float]  # seconds of a packet -> seconds by which it comes later


def speech(seconds: float, rate: int = 48_000, *, bursts: tuple[float, ...] = (), channels: int = 1) -> np.ndarray:
    """[C, S]: quiet noise, and at some seconds a tone of a fifth of a second."""
    time = np.arange(round(seconds * rate)) / rate
    sound = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    for burst in bursts:
        sound += 0.5 * np.sin(2 * np.pi * 500 * time) * ((time >= burst) & (time < burst + 0.2))
    return np.tile(sound, (channels, 1)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, codec: str, *, later: Later | None = None, options=None) -> Path:
    """A sound file; `later` moves packets in time."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = add_sound(container, codec, rate, len(samples))
        for packet in encoded(stream, samples, rate):
            container.mux(moved(packet, later))
    return path


def add_sound(container, codec: str, rate: int, channels: int):
    stream = container.add_stream(codec, rate=rate)
    stream.layout = "mono" if channels == 1 else "stereo"
    return stream


def encoded(stream, samples: np.ndarray, rate: int):
    """Packets."""
    kind = stream.codec_context.format.name
    scaled = samples if "flt" in kind else (samples * 32767).astype(np.int16)
    planar = kind.endswith("p")
    kind = ("fltp" if planar else "flt") if "flt" in kind else ("s16p" if planar else "s16")
    for start in range(0, samples.shape[1], _AT_ONCE):
        part = scaled[:, start : start + _AT_ONCE]
        data = np.ascontiguousarray(part) if planar else np.ascontiguousarray(part.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def moved(packet: av.Packet, later: Later | None) -> av.Packet:
    if later is not None and packet.pts is not None:
        ticks = round(later(float(packet.pts * packet.time_base)) / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
    return packet


def heard_bursts(samples: np.ndarray, rate: int) -> list[float]:
    """Seconds at which the tones of `speech` begin."""
    times = np.flatnonzero(np.abs(samples).max(axis=0) > 0.2) / rate
    return [float(time) for time, before in zip(times, [-1.0, *times], strict=False) if time - before > 0.1]
