"""Speech, expression and idle motion, as signals per latent frame."""

from .speech import SpeechDriving
from .timeline import Driving
from .wav2vec import SpeechEncoder, load_speech_encoder
from .wav2vec_windows import SpeechWindow
from .waveform import LiveAudio

__all__ = ["Driving", "LiveAudio", "SpeechDriving", "SpeechEncoder", "SpeechWindow", "load_speech_encoder"]
