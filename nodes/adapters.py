"""The only file that knows both sides: ComfyUI's values and services, and `knot_core`'s.

Shapes: B pictures, T pixel frames, F latent frames, C channels, H W height and width, S samples.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import comfy.model_management as host
import folder_paths
import torch
from comfy.utils import ProgressBar
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..knot_core import (
    FITS,
    Anchor,
    Audio,
    Chunk,
    Driving,
    KnotError,
    Model,
    StreamSettings,
    VideoWriter,
    load_model,
    open_audio,
    open_image,
    open_stream,
)

__all__ = ["FITS", "Anchor", "Driving", "Model", "StreamSettings"]

DEFAULTS = StreamSettings()
BUILT_IN_MODEL = "knot-tiny"
DTYPES: dict[str, torch.dtype | None] = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
POSES: dict[str, str | None] = {"idle": "idle", "model": None}

OWN_CODEC = "the model's own"
MODEL_FOLDER, CODEC_FOLDER = "diffusion_models", "vae_approx"  # of ComfyUI
ASSETS = Path(__file__).resolve().parents[1] / "knot_core" / "assets"
WORKSPACE = 512 * 2**20  # bytes that ComfyUI is asked to free on an accelerator: weights, cache and decoder with room
STILL_SIZE = 384  # pixels, about: the editor never enlarges a still


class HostAudio(TypedDict):
    """ComfyUI's AUDIO."""

    waveform: Tensor  # [B, C, S]
    sample_rate: int  # Hz


class HostLatent(TypedDict):
    """ComfyUI's LATENT."""

    samples: Tensor  # [B, C, F, H, W]


@dataclass(frozen=True)
class OutputFile:
    """Where a file goes, and its folder as ComfyUI's editor names it."""

    path: Path
    subfolder: str


# --- models -----------------------------------------------------------------------------------------------------------


def model_names() -> list[str]:
    return [BUILT_IN_MODEL, *folder_paths.get_filename_list(MODEL_FOLDER)]


def codec_names() -> list[str]:
    return [OWN_CODEC, *folder_paths.get_filename_list(CODEC_FOLDER)]


def _model_path(name: str) -> str:
    return name if name == BUILT_IN_MODEL else folder_paths.get_full_path_or_raise(MODEL_FOLDER, name)


def _codec_path(name: str) -> str | None:
    return None if name == OWN_CODEC else folder_paths.get_full_path_or_raise(CODEC_FOLDER, name)


def model_fingerprint(model_name: str, codec: str) -> str:
    """Changes when a file does, so that ComfyUI's cache does not serve an older one."""
    files = [Path(path) for path in (_model_path(model_name), _codec_path(codec)) if path]
    return str([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()])


def open_model(name: str, codec: str, dtype: str) -> Model:
    """On ComfyUI's device; an accelerator is asked for room first, since ComfyUI does not know what a stream needs."""
    device = host.get_torch_device()
    if device.type != "cpu":
        host.free_memory(WORKSPACE, device)
    return load_model(_model_path(name), device=device, dtype=DTYPES[dtype], codec=_codec_path(codec))


# --- pictures and sound -----------------------------------------------------------------------------------------------


def portrait_names() -> list[str]:
    return _asset_names("portraits", {".png", ".jpg", ".webp"})


def speech_names() -> list[str]:
    return _asset_names("speech", {".wav", ".flac"})


def _asset_names(folder: str, suffixes: set[str]) -> list[str]:
    return sorted(path.name for path in (ASSETS / folder).glob("*") if path.suffix in suffixes)


def sample_portrait(name: str) -> Tensor:
    """[1, H, W, 3] in 0..1"""
    return open_image(ASSETS / "portraits" / name)[None]


def sample_speech(name: str) -> HostAudio:
    audio = open_audio(ASSETS / "speech" / name)
    return {"waveform": audio.samples[None], "sample_rate": audio.sample_rate}


def to_picture(image_BHWC: Tensor) -> Tensor:
    """[H, W, C] of an IMAGE that holds one picture."""
    if image_BHWC.shape[0] != 1:
        raise KnotError(f"got a batch of {image_BHWC.shape[0]} pictures, wanted one reference: pick one of them")
    return image_BHWC[0].float().cpu()


def to_audio(audio: HostAudio) -> Audio:
    waveform = audio["waveform"]
    if waveform.shape[0] != 1:
        raise KnotError(f"got a batch of {waveform.shape[0]} sounds, wanted one: give each its own stream")
    return Audio(samples=waveform[0], sample_rate=audio["sample_rate"])


def to_image(chunk: Chunk) -> Tensor:
    """[T, H, W, 3] in 0..1, on the device where ComfyUI keeps what is between nodes."""
    return chunk.pixel_frames.to(host.intermediate_device(), torch.float32) / 255


def to_latent(chunk: Chunk) -> HostLatent:
    return {"samples": rearrange(chunk.latents, "f c h w -> 1 c f h w").to(host.intermediate_device(), torch.float32)}


# --- driving, anchor, stream ------------------------------------------------------------------------------------------


def encode_anchor(model: Model, image: Tensor, fit: str, height: int, width: int) -> Anchor:
    if bool(height) != bool(width):
        raise KnotError(f"got width {width} and height {height}: set both, or leave both at 0 for the model's own size")
    return model.encode_anchor(to_picture(image), size=(height, width) if height else None, fit=fit)


def driving_from_audio(model: Model, audio: HostAudio, pose: str, seed: int) -> Driving:
    return Driving.from_audio(to_audio(audio), model, pose=POSES[pose], seed=seed)


def driving_idle(seed: int) -> Driving:
    return Driving.idle(seed)


def stream_settings(**values: float) -> StreamSettings:
    return StreamSettings(**values)


def stream_chunks(
    model: Model, anchor: Anchor, driving: Driving, settings: StreamSettings | None, seed: int, seconds: float
) -> Iterator[Chunk]:
    """The stream, watched by ComfyUI: a progress bar, a still of every chunk, and stop obeyed before every step."""
    timed, settings = _of_length(model, driving, seconds), settings or model.settings
    bar = ProgressBar(timed.num_pixel_frames)
    stream = open_stream(model, anchor, settings, timed, seed, should_stop=_stop_if_asked)
    for chunk in stream:
        _stop_if_asked()
        bar.update_absolute(chunk.first_pixel_frame + len(chunk.pixel_frames), preview=("JPEG", _still(chunk), None))
        yield chunk


def _stop_if_asked() -> bool:
    """Never True: ComfyUI's own exception must reach ComfyUI, so it is raised here and passes through the stream."""
    host.throw_exception_if_processing_interrupted()
    return False


def _still(chunk: Chunk) -> Image.Image:
    still = Image.fromarray(chunk.pixel_frames[-1].numpy())
    scale = max(1, round(STILL_SIZE / min(still.size)))
    return still.resize((scale * still.width, scale * still.height))


def _of_length(model: Model, driving: Driving, seconds: float) -> Driving:
    if seconds > 0:
        return driving.lasting(round(seconds * model.fps))
    if driving.num_pixel_frames is None:
        raise KnotError("this driving never ends and seconds is 0: set seconds to the length wanted")
    return driving


# --- video ------------------------------------------------------------------------------------------------------------


def output_file(prefix: str) -> OutputFile:
    """The next free name in ComfyUI's output folder; a prefix that leads out of it is refused by ComfyUI."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return OutputFile(Path(folder) / f"{name}_{counter:05}_.mp4", subfolder)


def write_video(path: Path, chunks: Iterator[Chunk], model: Model, audio: HostAudio | None) -> None:
    """Append chunk by chunk; whatever ends the stream, also stop, the file is closed properly and kept."""
    sound = to_audio(audio) if audio else None
    first = next(chunks)  # before the file is made: a stream that cannot begin leaves none
    height, width = first.pixel_frames.shape[1:3]
    with VideoWriter(path, width=width, height=height, fps=model.fps, audio=sound) as writer:
        for chunk in itertools.chain([first], chunks):
            writer.write(chunk.pixel_frames)
