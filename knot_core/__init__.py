"""Knot Forcing: streaming portrait animation without end, from one picture and driving signals (arXiv 2512.21734)."""

from . import spinning  # noqa: F401 - before torch loads

# isort: split
from .codec import load_codec
from .config import StreamSettings
from .driving import Driving, LiveAudio, SpeechEncoder, SpeechWindow, load_speech_encoder
from .errors import CheckpointError, DrivingError, KnotError, MediaError, SettingsError, StateError
from .media import (
    FITS,
    FORMAT_NAMES,
    Audio,
    AudioFile,
    VideoWriter,
    open_audio,
    open_image,
    open_writer,
    save_contact_sheet,
)
from .model import Model
from .model_loading import load_model
from .run import StreamLog, StreamStats
from .stream import (
    Anchor,
    Chunk,
    Snapshot,
    Stream,
    begin_stream,
    change_anchor,
    change_settings,
    continue_stream,
    load_stream,
    open_stream,
    pipelined,
    restart_driving,
    resume_stream,
    save_stream,
    state_of,
)
from .text import TextEncoder, load_text_encoder

__version__ = "0.1.0"

__all__ = [
    "FITS",
    "FORMAT_NAMES",
    "Anchor",
    "Audio",
    "AudioFile",
    "CheckpointError",
    "Chunk",
    "Driving",
    "DrivingError",
    "KnotError",
    "LiveAudio",
    "MediaError",
    "Model",
    "SettingsError",
    "Snapshot",
    "SpeechEncoder",
    "SpeechWindow",
    "StateError",
    "Stream",
    "StreamLog",
    "StreamSettings",
    "StreamStats",
    "TextEncoder",
    "VideoWriter",
    "begin_stream",
    "change_anchor",
    "change_settings",
    "continue_stream",
    "load_codec",
    "load_model",
    "load_speech_encoder",
    "load_stream",
    "load_text_encoder",
    "open_audio",
    "open_image",
    "open_stream",
    "open_writer",
    "pipelined",
    "restart_driving",
    "resume_stream",
    "save_contact_sheet",
    "save_stream",
    "state_of",
]
