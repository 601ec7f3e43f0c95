"""Anchor, driving, settings.

Shapes: B batch, T text tokens, D text dim, E image dim, F latent frames, C channels, H W height and width.
"""

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...knot_core import Anchor, Driving, KnotError, Model, StreamSettings
from ...knot_core.config import check_setting
from ...knot_core.driving.speech_options import SpeechOptions, speak
from ...knot_core.geometry import latent_size
from ...knot_core.settings_text import changed_settings
from ...knot_core.stream import encode_latent_anchor
from ...knot_core.text import padded
from ...knot_core.threads import threads_inside
from ...knot_core.wan.family_inputs import check_inputs
from ...knot_core.wan.preset import with_settings
from .host_model import HostModel, HostVae, running, stored
from .host_speech_encoder import HostSpeechEncoder
from .media import HostAudio, to_audio, to_picture
from .memory_budget import needed_for_anchor
from .warnings import say

logger = logging.getLogger(__name__)

ALL, FIRST = "all", "first"
PICTURES = (ALL, FIRST)  # of a batch
POSES: dict[str, str | None] = {"idle": "idle", "model": None}

Conditioning = list[tuple[Tensor, dict[str, Any]]]  # ComfyUI's


def anchor_from_inputs(  # noqa: PLR0913, PLR0917 - one for every cable and widget
    model: Model,
    image: Tensor | None,
    fit: str,
    size: tuple[int, int] | None,
    conditioning: Conditioning | None,
    clip_vision: Any,
    vae: Any,
    negative: Conditioning | None = None,
    *,
    detail: int = 1,
) -> Anchor:
    """The anchor of a picture, of a prompt, or of both; what the model cannot use is refused by name."""
    check_inputs(model.preset, model.config, has_text=conditioning is not None, has_picture=image is not None)
    _check_host_inputs(model, vae, clip_vision)
    if negative is not None and not model.preset.takes_guidance:
        raise KnotError(f"got negative, but {model.preset.title} takes no guidance: leave it out")
    text, tokens, away = _text(conditioning), _image_tokens(clip_vision, conditioning), _text(negative)
    size = size or (model.preset.height, model.preset.width)
    if vae is not None:
        model = replace(model, codec=HostVae(vae, model.patchers))
    with running(model, needed_for_anchor(model, size)):
        if image is None:
            return _text_only(model, size, text, away)
        picture = to_picture(image)
        with threads_inside(model.threads_for(model.settings, model.latent_size(*size))):
            given = {"text": text, "image_tokens": tokens, "negative": away}
            anchor = model.encode_anchor(picture, size=size, fit=fit, detail=detail, **given)
            model.warn_of_reference(picture, fit, anchor)
            return stored(anchor)


def chosen_pictures(image_BHWC: Tensor | None, pictures: str) -> list[Tensor | None]:
    """One for each stream, [1, H, W, C]; what a batch means is said, since an animated picture is one, too."""
    if image_BHWC is None:
        return [None]
    count = len(image_BHWC)
    if count < 2:
        return [image_BHWC]
    if pictures == FIRST:
        say(f"{count} pictures: the first one is the reference")
        return [image_BHWC[:1]]
    logger.warning(
        "%d pictures: %d streams, one after the other; for one stream set pictures to %s", count, count, FIRST
    )
    return list(image_BHWC.split(1))


def picture_size(height: int, width: int) -> tuple[int, int] | None:
    """The size in pixels; None: the model's own."""
    if bool(height) != bool(width):
        raise KnotError(f"got width {width} and height {height}: set both, or leave both at 0 for the model's own size")
    if height:
        latent_size(height, width)  # refuses what does not divide into tokens with any codec
    return (height, width) if height else None


def _check_host_inputs(model: Model, vae: Any, clip_vision: Any) -> None:
    if vae is not None and not isinstance(model, HostModel):
        raise KnotError(f"got a vae for {model.preset.family}, which has a codec of its own: leave vae out")
    if clip_vision is not None and model.config.image_dim is None:
        raise KnotError(f"got clip_vision_output, but {model.preset.family} takes none: leave it out")


def _text(conditioning: Conditioning | None) -> Tensor | None:
    """[1, 512, D] of the first entry."""
    if conditioning is None:
        return None
    return padded(conditioning[0][0][:1])


def _image_tokens(clip_vision: Any, conditioning: Conditioning | None) -> Tensor | None:
    """[1, T, E] of a CLIP vision model's last layer but one, given by itself or with the prompt."""
    carried = conditioning[0][1].get("clip_vision_output") if conditioning else None
    output = clip_vision if clip_vision is not None else carried
    return None if output is None else output.penultimate_hidden_states[:1].float()


def _text_only(model: Model, size: tuple[int, int], text: Tensor | None, negative: Tensor | None) -> Anchor:
    nothing = torch.zeros(1, 1, model.config.out_channels, *model.latent_size(*size))
    return replace(stored(encode_latent_anchor(model, nothing, text, negative_BTD=negative)), has_picture=False)


def driving_from_audio(
    model: Model, audio: HostAudio, pose: str, seed: int, audio_encoder: Any, options: SpeechOptions
) -> Driving:
    """Speech as a driving: mel bands for the built-in model, else features of the audio encoder."""
    check_inputs(model.preset, model.config, has_text=model.preset.needs_text, has_speech=True)
    if audio_encoder is not None and model.preset.speech == "mel":
        raise KnotError(f"got an audio_encoder for {model.preset.family}, which needs no audio encoder: disconnect it")
    if audio_encoder is None and model.preset.speech != "mel":
        raise KnotError(f"got no audio_encoder for {model.preset.title}: connect {model.preset.speech} from Load "
                        "Audio Encoder")  # fmt: skip
    encoder = None if audio_encoder is None else HostSpeechEncoder(audio_encoder, model)
    return speak(to_audio(audio), model, options=options, pose=POSES[pose], seed=seed, encoder=encoder)


def driving_idle(seed: int) -> Driving:
    return Driving.idle(seed)


def driving_from_encoded_audio(model: Model, encoded: Any) -> Driving:
    """The driving of ComfyUI's AUDIO_ENCODER_OUTPUT."""
    check_inputs(model.preset, model.config, has_text=model.preset.needs_text, has_speech=True)
    return Driving.from_speech_features(encoded, model)


def stream_settings(timesteps: str, **values: Any) -> StreamSettings:
    """`timesteps`: numbers, with commas or spaces between."""
    words = timesteps.replace(",", " ").split()
    wrong = [word for word in words if not word.replace(".", "", 1).isdecimal()]
    if wrong:
        raise KnotError(f"got timesteps {timesteps!r}, wanted numbers such as 1000, 757, 522: {wrong[0]!r} is none")
    return StreamSettings(timesteps=tuple(float(word) for word in words), **values)


def model_settings(model: Model, changes: str) -> StreamSettings:
    """The model's own settings; `changes`: one setting a line."""
    return with_settings(model.settings, **changed_settings(changes))


def parse_changes(changes: str) -> None:
    """Refuse lines that are no settings, or give a value of another kind or out of its range."""
    for name, value in changed_settings(changes).items():
        check_setting(name, value)


def settings_text(settings: StreamSettings) -> str:
    """The settings in the format that `model_settings` reads."""
    values = {name: ", ".join(map(str, value)) if isinstance(value, tuple) else value
              for name, value in vars(settings).items()}  # fmt: skip
    return "\n".join(f"{name} = {value}" for name, value in values.items())
