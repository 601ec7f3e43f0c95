"""Pictures, sound and video, in and out."""

from .folder import PictureFolder, Writer, open_writer
from .formats import FORMAT_NAMES, FORMATS, PICTURES, format_of, picture_format
from .live_preview import LivePreview, Piece
from .output_tracks import SoundTrack
from .picture import FITS, Fit, fit_image, open_image, save_contact_sheet
from .sound import Audio, AudioFile, Sound, open_audio
from .video import VideoWriter

__all__ = [
    "FITS",
    "FORMATS",
    "FORMAT_NAMES",
    "PICTURES",
    "Audio",
    "AudioFile",
    "Fit",
    "LivePreview",
    "PictureFolder",
    "Piece",
    "Sound",
    "SoundTrack",
    "VideoWriter",
    "Writer",
    "fit_image",
    "format_of",
    "open_audio",
    "open_image",
    "open_writer",
    "picture_format",
    "save_contact_sheet",
]
