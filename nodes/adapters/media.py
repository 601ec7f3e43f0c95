"""Pictures, sound and video: ComfyUI's values to the engine's and back, and files in and out.

Shapes: B pictures, T pixel frames, F latent frames, C channels, H W height and width, S samples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import comfy.model_management as host
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...knot_core import Audio, Chunk, KnotError, Model, open_audio, open_image
from .host_model import to_host_latents
from .names import one_of

ASSETS = Path(__file__).resolve().parents[2] / "knot_core" / "assets"
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


def portrait_names() -> list[str]:
    return _asset_names("portraits", {".png", ".jpg", ".webp"})


def speech_names() -> list[str]:
    return _asset_names("speech", {".wav", ".flac"})


def _asset_names(folder: str, suffixes: set[str]) -> list[str]:
    return sorted(path.name for path in (ASSETS / folder).glob("*") if path.suffix in suffixes)


def sample_portrait(name: str) -> Tensor:
    """[1, H, W, 3] in 0..1"""
    return open_image(ASSETS / "portraits" / one_of(name, portrait_names(), "portrait"))[None]


def sample_speech(name: str) -> HostAudio:
    audio = open_audio(ASSETS / "speech" / one_of(name, speech_names(), "speech"))
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


def to_latent(chunk: Chunk, model: Model) -> HostLatent:
    """As the model's VAE decodes it; a built-in model's are its own."""
    latents = rearrange(chunk.latents, "f c h w -> 1 c f h w").to(host.intermediate_device(), torch.float32)
    return {"samples": to_host_latents(model, latents)}


def still(chunk: Chunk) -> Image.Image:
    """The chunk's last picture, enlarged for the editor."""
    picture = Image.fromarray(chunk.pixel_frames[-1].numpy())
    scale = max(1, round(STILL_SIZE / min(picture.size)))
    return picture.resize((scale * picture.width, scale * picture.height))
