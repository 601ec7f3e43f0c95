"""Pictures, sound and video, in and out."""

from .picture import FITS, Fit, fit_image, open_image, save_contact_sheet
from .sound import Audio, open_audio
from .video import VideoWriter

__all__ = ["FITS", "Audio", "Fit", "VideoWriter", "fit_image", "open_audio", "open_image", "save_contact_sheet"]
