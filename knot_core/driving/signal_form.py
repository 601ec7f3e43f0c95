"""The form in which an adapter takes speech, expression and flags: eight controls, or ARKit's face units and a pose.

    controls    64 log-mel values | 8 controls                           | 3 flags, and zeros as far as it is wider
    units       64 log-mel values | 52 face units | yaw, pitch, roll rad | 3 flags

Face units are those that the controls set; where units were measured beside them, these, as far as the group of a
unit's control (pose or mouth) is given. Where somebody speaks and nobody gives the mouth, its units are the speech's.

Shapes: P pixel frames, S values of a pixel frame, U = 52 face units.
"""

import numpy as np

from ..config import UNITS as UNITS_NAME
from ..config import AdapterConfig
from .audio import MEL_DIM
from .expression_controls import CONTROLS, MOUTH_CONTROLS
from .face_units import CONTROL_OF_UNIT, UNITS, pose_from_controls, units_from_controls
from .spoken_units import MOUTH_UNITS

NUM_FLAGS = 3  # speech, pose, mouth
SIGNAL_DIM = MEL_DIM + len(CONTROLS) + NUM_FLAGS

_OF_CONTROLS = slice(MEL_DIM, MEL_DIM + len(CONTROLS))
_SPEECH, _POSE, _MOUTH = -3, -2, -1  # columns of the flags
_FLAG_OF_UNIT = [_MOUTH if control in MOUTH_CONTROLS else _POSE for control in CONTROL_OF_UNIT]
_OF_MOUTH = np.isin(np.arange(len(UNITS)), MOUTH_UNITS)


def in_form(
    signal_PS: np.ndarray,
    adapter: AdapterConfig | None,
    measured_PU: np.ndarray | None = None,
    spoken_PU: np.ndarray | None = None,
) -> np.ndarray:
    """Signals of controls, float32 [P, 75], in the form that the adapter takes, [P, S]; None: as they are.

    `measured_PU` and `spoken_PU`: units that were measured, and the mouth's as the speech has them.
    """
    if adapter is None:
        return signal_PS
    if adapter.name == UNITS_NAME:
        controls = signal_PS[:, _OF_CONTROLS]
        units = units_from_controls(controls)
        if measured_PU is not None:
            units = np.where(signal_PS[:, _FLAG_OF_UNIT] > 0, measured_PU, units)
        flags = signal_PS[:, -NUM_FLAGS:].copy()
        if spoken_PU is not None:
            speaks = (flags[:, _SPEECH] > 0) & (flags[:, _MOUTH] == 0)
            units = np.where(speaks[:, None] & _OF_MOUTH, spoken_PU, units)
            flags[speaks, _MOUTH] = 1
        parts = (signal_PS[:, :MEL_DIM], units, pose_from_controls(controls), flags)
        return np.concatenate(parts, axis=1, dtype=np.float32)
    missing = max(0, adapter.signal_dim - SIGNAL_DIM)
    return np.pad(signal_PS, ((0, 0), (0, missing))) if missing else signal_PS
