"""Knot Forcing: streaming portrait animation without end, from one picture and driving signals (arXiv 2512.21734)."""

from .config import StreamSettings
from .driving import Driving
from .errors import CheckpointError, DrivingError, KnotError, MediaError, SettingsError, StateError
from .media import FITS, Audio, VideoWriter, open_audio, open_image, save_contact_sheet
from .model import Model, load_model
from .stream import Anchor, Chunk, Stream, open_stream, resume_stream

__version__ = "0.1.0"

__all__ = [
    "FITS",
    "Anchor",
    "Audio",
    "CheckpointError",
    "Chunk",
    "Driving",
    "DrivingError",
    "KnotError",
    "MediaError",
    "Model",
    "SettingsError",
    "StateError",
    "Stream",
    "StreamSettings",
    "VideoWriter",
    "load_model",
    "open_audio",
    "open_image",
    "open_stream",
    "resume_stream",
    "save_contact_sheet",
]
