"""Pictures, sound and video: ComfyUI's values to the engine's and back, and files in and out.

Shapes: B pictures, T pixel frames, F latent frames, C channels, H W height and width, S samples.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import comfy.model_management as host
import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...knot_core import Audio, Chunk, KnotError, Model, StreamStats, open_audio, open_image
from ...knot_core.media.sample_pictures import sample_pictures
from ...knot_core.model_loading import built_in_models
from ...knot_core.wan.families import PRESETS
from .host_model import to_host_latents
from .names import one_of

ASSETS = Path(__file__).resolve().parents[2] / "knot_core" / "assets"
GIB = 2**30
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
    """The path of an output file, and its folder as ComfyUI's editor names it."""

    path: Path
    subfolder: str


def portrait_names() -> list[str]:
    """The drawn portraits; behind them the photos, where a built-in model that takes photos is here."""
    drawn = _files_of(sample_pictures(photos=False))
    takes_photos = any(PRESETS[name].aligns_faces for name in built_in_models())
    return list(drawn | _files_of(sample_pictures(photos=takes_photos)))


def _files_of(pictures: Mapping[str, Path]) -> dict[str, Path]:
    return {path.name: path for path in pictures.values()}


def speech_names() -> list[str]:
    return _asset_names("speech", {".wav", ".flac"})


def _asset_names(folder: str, suffixes: set[str]) -> list[str]:
    return sorted(path.name for path in (ASSETS / folder).glob("*") if path.suffix in suffixes)


def sample_portrait(name: str) -> Tensor:
    """[1, H, W, 3] in 0..1"""
    return open_image(_files_of(sample_pictures(photos=True))[one_of(name, portrait_names(), "portrait")])[None]


def sample_speech(name: str) -> HostAudio:
    audio = open_audio(ASSETS / "speech" / one_of(name, speech_names(), "speech"))
    return {"waveform": audio.samples[None], "sample_rate": audio.sample_rate}


def to_picture(image_BHWC: Tensor) -> Tensor:
    """[H, W, C] of an IMAGE that holds one picture."""
    if image_BHWC.shape[0] != 1:
        raise KnotError(f"got a batch of {image_BHWC.shape[0]} pictures, wanted one reference: pick one of them")
    return image_BHWC[0].float().cpu()


def to_audio(audio: HostAudio | None) -> Audio:
    """Convert ComfyUI's AUDIO, or what other packs pass in its place."""
    if audio is None:
        raise KnotError("got no sound: the clip has none. Connect another sound, or Driving Idle in place of this node")
    if not isinstance(audio, Mapping) or "waveform" not in audio or "sample_rate" not in audio:
        has = f"only {', '.join(map(str, audio)) or 'nothing'}" if isinstance(audio, Mapping) else type(audio).__name__
        raise KnotError(f"got {has} as a sound, wanted ComfyUI's AUDIO, with waveform and sample_rate: connect Load "
                        "Audio")  # fmt: skip
    waveform = audio["waveform"]
    if waveform is None:
        raise KnotError("got a sound without samples: the clip has none. Connect another sound, or Driving Idle in "
                        "place of this node")  # fmt: skip
    return Audio(samples=_alone(waveform), sample_rate=audio["sample_rate"])


def _alone(waveform: Any) -> Any:
    """[channels, samples] of a batch of one; fewer axes are left as they are."""
    if not hasattr(waveform, "shape"):
        with suppress(ValueError):  # what is no array is refused where sounds are made
            waveform = np.asarray(waveform)
    shape = tuple(getattr(waveform, "shape", ()))
    if len(shape) > 3 or (len(shape) == 3 and shape[0] != 1):
        raise KnotError(f"got a batch of sounds, of shape {list(shape)}, wanted one, [1, channels, samples]: give each "
                        "its own stream")  # fmt: skip
    return waveform[0] if len(shape) == 3 else waveform


def to_image(chunk: Chunk) -> Tensor:
    """[T, H, W, 3] in 0..1, on the device where ComfyUI keeps what is between nodes."""
    return chunk.pixel_frames.to(host.intermediate_device(), torch.float32) / 255


class StreamPictures:
    """A stream's pictures, chunk by chunk and as one batch in the same memory: each chunk is a view of the whole.

    So the batch costs nothing where nobody asks for it, and is there when a cable to it comes later: ComfyUI would
    then serve the outputs that it kept.
    """

    def __init__(self, num_pixel_frames: int) -> None:
        self._num, self._made, self._batch = num_pixel_frames, 0, torch.empty(0)
        self.by_chunk: list[Tensor] = []  # [T, H, W, 3] in 0..1

    @property
    def whole(self) -> Tensor:
        """[T, H, W, 3] in 0..1, of all chunks there are."""
        return self._batch[: self._made]

    def add(self, chunk: Chunk) -> None:
        if not self.by_chunk:
            self._batch = self._reserved(*chunk.pixel_frames.shape[1:])
        place = self._batch[self._made : self._made + len(chunk.pixel_frames)]
        self._made += len(place.copy_(to_image(chunk)))
        self.by_chunk.append(place)

    def _reserved(self, height: int, width: int, channels: int) -> Tensor:
        """Memory for all frames; systems give it when it is written to."""
        device, size = host.intermediate_device(), 4 * self._num * height * width * channels
        there = host.get_total_memory(device)
        if size > there:
            raise KnotError(f"got {self._num} frames of {width}x{height}, which as pictures take {size / GIB:.0f} GiB "
                            f"of the {there / GIB:.0f} GiB of memory: use Knot Forcing Stream to Video")  # fmt: skip
        return torch.empty(self._num, height, width, channels, device=device)


def to_latent(chunk: Chunk, model: Model) -> HostLatent:
    """The latents as the model's VAE decodes them; a built-in model's are its own."""
    latents = rearrange(chunk.latents, "f c h w -> 1 c f h w").to(host.intermediate_device(), torch.float32)
    return {"samples": to_host_latents(model, latents)}


def still(chunk: Chunk) -> Image.Image:
    """The chunk's last picture, enlarged for the editor."""
    picture = Image.fromarray(chunk.pixel_frames[-1].numpy())
    scale = max(1, round(STILL_SIZE / min(picture.size)))
    return picture.resize((scale * picture.width, scale * picture.height))


def stats_plot(stats: StreamStats) -> Tensor:
    """A run's figures as an IMAGE, [1, H, W, 3] in 0..1."""
    return torch.from_numpy(np.array(stats.plot())).float()[None] / 255
