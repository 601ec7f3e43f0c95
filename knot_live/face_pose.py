"""A browser's camera moves the portrait: pictures of a face as controls, through MediaPipe, an optional package.

Shapes: H W height and width of a picture.
"""

import importlib.util
import io
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from .engine import CONTROLS, FaceFinder, KnotError, measure_face, open_finder, to_controls, usual_face

MOST_BYTES = 400_000  # a JPEG of 1280x720 has 50 to 200 kB
MOST_PIXELS = 1280 * 720
_MOST_SCANS = 16  # a camera's has 1; each costs a pass over the picture, however few bytes it has
_SCAN = b"\xff\xda"
_CALIBRATION = 1.0  # seconds
_GAP = 0.5  # seconds without a face after which smoothing begins anew
_SLOW, _QUICK = 0.07, 0.02  # seconds that a value lags; lids and lips are quick
_QUICK_ONES = {"blink", "mouth_open"}
_MIRRORED = {"yaw", "roll", "gaze"}
_AGAINST_USUAL = ("yaw", "roll")  # a camera stands aside; the other controls are measured so anyway


class CameraError(KnotError):
    """A picture that cannot be used."""


def missing() -> str | None:
    """Why a camera moves nothing here, and how that is mended; None where MediaPipe is installed."""
    if importlib.util.find_spec("mediapipe") is not None:
        return None
    return 'a camera moves the portrait through MediaPipe, which is not installed here: pip install "mediapipe<0.10.30"'


def read_jpeg(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3]. Nothing is decoded that is not a JPEG within the limits.

    Raises:
        CameraError: it is none, or too large.
    """
    if len(data) > MOST_BYTES:
        raise CameraError(f"the camera's picture has {len(data)} bytes; send at most {MOST_BYTES}")
    if data.count(_SCAN) > _MOST_SCANS:
        raise CameraError(f"the camera's picture has more than {_MOST_SCANS} scans; send a baseline JPEG")
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))  # reads its header alone
        if picture.width * picture.height > MOST_PIXELS:
            raise CameraError(
                f"the camera's picture is {picture.width}x{picture.height}; send at most {MOST_PIXELS} pixels"
            )
        return np.asarray(picture.convert("RGB"))
    except CameraError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise CameraError("the camera's picture is no JPEG that can be read; send one") from problem


class FacePose:
    """Follows one face from picture to picture. Its first second, or that behind `recentre`, is taken for neutral.

    `mirror`: as a mirror shows it, so that who looks at the portrait sees it turn to the same side. `finder` finds
    landmarks in place of MediaPipe; `model_file` is the face model of its newer releases. Not thread-safe.

    Raises:
        DrivingError: MediaPipe or its face model is missing.
    """

    def __init__(
        self,
        *,
        mirror: bool = True,
        model_file: Path | None = None,
        finder: AbstractContextManager[FaceFinder] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mirror, self._clock, self._open = mirror, clock, ExitStack()
        self._find = self._open.enter_context(finder or open_finder(model_file))
        self.recentre()

    def close(self) -> None:
        """The landmarks' finder is let go."""
        self._open.close()

    def recentre(self) -> None:
        """The next second with a face is neutral."""
        self._usual: Mapping[str, float] | None = None
        self._seen: list[tuple[float, Mapping[str, float]]] = []
        self._last: tuple[float, dict[str, float]] | None = None

    def controls(self, jpeg: bytes) -> dict[str, float] | None:
        """All eight controls, at rest while it is being calibrated; None where no face is seen.

        Raises:
            CameraError: it is no picture, or too large.
        """
        face = self._find(read_jpeg(jpeg))
        if face is None:
            return None
        now, measures = self._clock(), measure_face(face.landmarks)
        if not all(map(math.isfinite, measures.values())):
            return None
        if self._usual is None:
            self._calibrate(now, measures)
            return dict.fromkeys(CONTROLS, 0.0)
        return self._smoothed(now, self._measured(measures, self._usual))

    def _calibrate(self, now: float, measures: Mapping[str, float]) -> None:
        self._seen.append((now, measures))
        if now - self._seen[0][0] >= _CALIBRATION:
            self._usual = usual_face({name: np.array([one[name] for _, one in self._seen]) for name in measures})
            self._seen = []

    def _measured(self, measures: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
        centred = dict(measures) | {name: measures[name] - usual[name] for name in _AGAINST_USUAL}
        found = to_controls({name: np.array([value]) for name, value in centred.items()}, usual)
        signs = {name: -1.0 if self._mirror and name in _MIRRORED else 1.0 for name in CONTROLS}
        return {name: signs[name] * float(found[name][0]) for name in CONTROLS}

    def _smoothed(self, now: float, values: dict[str, float]) -> dict[str, float]:
        """v + (1 - e^(-t / lag)) (new - v), of the time t since the picture before."""
        if self._last is not None and now - self._last[0] <= _GAP:
            since, before = now - self._last[0], self._last[1]
            for name, value in values.items():
                weight = 1 - math.exp(-since / (_QUICK if name in _QUICK_ONES else _SLOW))
                values[name] = before[name] + weight * (value - before[name])
        self._last = now, values
        return dict(values)
