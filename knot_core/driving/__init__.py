"""Speech, expression and idle motion, as signals per latent frame."""

from .hearing import SpeechWindow
from .speech import SpeechDriving
from .timeline import Driving
from .wav2vec import SpeechEncoder, load_speech_encoder
from .waveform import LiveAudio

__all__ = ["Driving", "LiveAudio", "SpeechDriving", "SpeechEncoder", "SpeechWindow", "load_speech_encoder"]
