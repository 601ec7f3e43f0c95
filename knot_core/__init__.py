"""Knot Forcing: streaming portrait animation without end, from one picture and driving signals (arXiv 2512.21734)."""

from .codec import load_codec
from .config import StreamSettings
from .driving import Driving, LiveAudio, SpeechEncoder, SpeechWindow, load_speech_encoder
from .errors import CheckpointError, DrivingError, KnotError, MediaError, SettingsError, StateError
from .media import FITS, Audio, VideoWriter, open_audio, open_image, save_contact_sheet
from .model import Model, load_model
from .stream import Anchor, Chunk, Stream, open_stream, resume_stream
from .text import TextEncoder, load_text_encoder

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
    "LiveAudio",
    "MediaError",
    "Model",
    "SettingsError",
    "SpeechEncoder",
    "SpeechWindow",
    "StateError",
    "Stream",
    "StreamSettings",
    "TextEncoder",
    "VideoWriter",
    "load_codec",
    "load_model",
    "load_speech_encoder",
    "load_text_encoder",
    "open_audio",
    "open_image",
    "open_stream",
    "resume_stream",
    "save_contact_sheet",
]
