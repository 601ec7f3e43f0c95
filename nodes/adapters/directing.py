"""Driving as an artist directs it: timelines, combinations, clips, previews; and portraits cut out of pictures.

Shapes: B pictures, H W height and width, T text tokens, D text dim.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management as host
import folder_paths
import numpy as np
import torch
from comfy.utils import ProgressBar
from torch import Tensor

from ...knot_core import Anchor, Driving, KnotError, Model, StreamSettings
from ...knot_core.driving.audio import FPS
from ...knot_core.driving.combine import combine, layer
from ...knot_core.driving.driving_plot import PreviewOptions, draw_driving
from ...knot_core.driving.expression import read_expression
from ...knot_core.driving.faces import pose_from_pictures
from ...knot_core.driving.landmarks import MODEL_FILE
from ...knot_core.driving.lengths import without_end
from ...knot_core.driving.prompts import PromptTimeline, describe, parse_prompts
from ...knot_core.driving.speech_options import SILENCES, SpeechOptions
from ...knot_core.media.frames import read_frames
from ...knot_core.media.portrait import crop_portrait, describe_face
from ...knot_core.stream import Chunk, Stream, TimedPrompts
from ...knot_core.stream.prompting import follow_prompts
from ...knot_core.text import padded
from ...knot_core.wan.family_inputs import check_inputs
from .crop_placement import Placed
from .driving_recipes import DrivingRecipe, remembered
from .media import to_picture
from .versions import trim_window
from .warnings import say

logger = logging.getLogger(__name__)

SILENCE_CHOICES = list(SILENCES)
_clips: WeakKeyDictionary[TimedPrompts, Any] = WeakKeyDictionary()  # ComfyUI's text encoders, by what they encoded
MODES = {"blend": combine, "add": layer}
FACE_MODEL = ("mediapipe", MODEL_FILE)  # in ComfyUI's models folder


def speech_options(**values: Any) -> SpeechOptions:
    return SpeechOptions(**values)


def expression_timeline(text: str) -> Driving:
    return read_expression(text)


def combine_drivings(first: Driving, second: Driving, mode: str, endless: bool, **weights: float) -> Driving:
    def combined(first: Driving, second: Driving) -> Driving:
        both = MODES[mode](first, second, **weights)
        return without_end(both) if endless else both

    return remembered(combined(first, second), DrivingRecipe(parts={"first": first, "second": second}, make=combined))


def direct_prompts(  # noqa: PLR0913 - one for every cable and widget
    anchor: Anchor,
    text: str,
    blend_chunks: int,
    clip: Any,
    model: Model | None,
    settings: StreamSettings | None,
    *,
    recache: bool = False,
) -> tuple[Anchor, str]:
    """The anchor with its prompts, and in words what changes when: in the settings' chunks, else in the model's."""
    prompts = timed_prompts(parse_prompts(text, blend_chunks, recache=recache), clip)
    timeline = prompts.timeline
    directed = replace(anchor, conditioning=replace(anchor.conditioning, prompts=prompts))
    chunks = settings or (StreamSettings() if model is None else model.settings)
    return directed, describe(timeline, chunks.num_chunk_frames, FPS if model is None else model.fps)


def timed_prompts(timeline: PromptTimeline, clip: Any) -> TimedPrompts:
    """Encoded where there is a text encoder, which is remembered as long as they are there."""
    texts = None if clip is None else tuple(encoded(clip, prompt) for prompt in timeline.prompts)
    prompts = TimedPrompts(timeline=timeline, texts_BTD=texts)
    _clips[prompts] = clip
    return prompts


def edited_prompts(prompts: TimedPrompts, text: str) -> Callable[[], TimedPrompts]:
    """A function that encodes other prompts as those were; what is wrong with the text is said at once."""
    before, clip = prompts.timeline, _clips.get(prompts)
    timeline = parse_prompts(text, before.blend_chunks, recache=before.recache)
    return lambda: timed_prompts(timeline, clip)


def encoded(clip: Any, prompt: str) -> Tensor:
    """[1, 512, D] by ComfyUI's text encoder."""
    return padded(clip.encode_from_tokens_scheduled(clip.tokenize(prompt))[0][0][:1])


def directed(stream: Stream, model: Model) -> Iterator[Chunk]:
    """The stream, under its prompts over time if it has some."""
    prompts = stream.conditioning.prompts
    if prompts is None:
        return stream
    if prompts.texts_BTD is None:
        logger.warning("The prompt timeline has no clip: its prompts have no effect")
        return stream
    check_inputs(model.preset, model.config, has_text=True)
    return follow_prompts(stream, prompts.timeline.plan(stream.settings.num_chunk_frames, model.fps), prompts.texts_BTD)


def pose_from_video(video: Any, mouth: bool, smoothing: float) -> Driving:
    """Head pose and expression from ComfyUI's VIDEO, read frame by frame."""
    model_file = Path(folder_paths.models_dir, *FACE_MODEL)
    start, length = trim_window(video)
    pictures = _watched(read_frames(video.get_stream_source(), FPS, start=start, length=length))
    return pose_from_pictures(
        pictures, mouth=mouth, smoothing=smoothing, model_file=model_file if model_file.is_file() else None
    )


def _watched(pictures: Iterator[tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    """Stop is obeyed between two pictures; how many come is not known before, so the bar moves by seconds."""
    bar = ProgressBar(1)
    for seconds, picture in pictures:
        host.throw_exception_if_processing_interrupted()
        bar.update_absolute(int(seconds), int(seconds) + 1)
        yield seconds, picture


def preview_driving(
    driving: Driving, anchor: Anchor | None, settings: StreamSettings | None, start: float, seconds: float, width: int
) -> Tensor:
    """[1, H, W, 3]"""
    prompts = None if anchor is None else anchor.conditioning.prompts
    options = PreviewOptions(
        seconds=seconds,
        start=start,
        width=width,
        chunk_frames=(settings or StreamSettings()).num_chunk_frames,
        prompts=() if prompts is None else tuple(zip(prompts.timeline.times, prompts.timeline.prompts, strict=True)),
    )
    picture = np.asarray(draw_driving(driving, options))
    return torch.from_numpy(picture.copy())[None].float() / 255


def check_portrait_size(height: int, width: int) -> None:
    if width % 16 or height % 16:
        raise KnotError(f"got {width}x{height}, wanted multiples of 16 (a token of the network is 16 x 16 pixels)")


def crop_portraits(image_BHWC: Tensor, width: int, height: int, room: float) -> tuple[Tensor, list[Placed]]:
    """[B, height, width, 3], and where each lies in its picture."""
    check_portrait_size(height, width)
    pictures = [to_picture(image[None]) for image in image_BHWC]
    crops = [crop_portrait(picture, height, width, room) for picture in pictures]
    if found := [describe_face(face) for _, face, _ in crops if face.found]:  # the others are warned of
        say("\n".join(found))
    placed = [
        Placed(picture=picture[..., :3], placement=crop[2]) for picture, crop in zip(pictures, crops, strict=True)
    ]
    return torch.stack([picture for picture, *_ in crops]), placed
