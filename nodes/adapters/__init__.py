"""The only package that knows both sides: ComfyUI's values and services, and `knot_core`'s."""

from ...knot_core import FITS, Anchor, Driving, Model, StreamSettings
from ...knot_core.config import ROPE_POSITIONS
from .codecs import AUTO, OWN_CODEC, codec_names
from .media import (
    HostAudio,
    output_file,
    portrait_names,
    sample_portrait,
    sample_speech,
    speech_names,
    to_image,
    to_latent,
    write_video,
)
from .models import (
    BUILT_IN_MODEL,
    DTYPES,
    FAMILIES,
    NONE,
    audio_module_names,
    lora_names,
    model_fingerprint,
    model_from_host,
    model_names,
    open_model,
)
from .streams import (
    POSES,
    driving_from_audio,
    driving_from_encoded_audio,
    driving_idle,
    encode_anchor,
    picture_size,
    stream_chunks,
    stream_settings,
)

DEFAULTS = StreamSettings()

__all__ = [
    "AUTO",
    "BUILT_IN_MODEL",
    "DEFAULTS",
    "DTYPES",
    "FAMILIES",
    "FITS",
    "NONE",
    "OWN_CODEC",
    "POSES",
    "ROPE_POSITIONS",
    "Anchor",
    "Driving",
    "HostAudio",
    "Model",
    "StreamSettings",
    "audio_module_names",
    "codec_names",
    "driving_from_audio",
    "driving_from_encoded_audio",
    "driving_idle",
    "encode_anchor",
    "lora_names",
    "model_fingerprint",
    "model_from_host",
    "model_names",
    "open_model",
    "output_file",
    "picture_size",
    "portrait_names",
    "sample_portrait",
    "sample_speech",
    "speech_names",
    "stream_chunks",
    "stream_settings",
    "to_image",
    "to_latent",
    "write_video",
]
