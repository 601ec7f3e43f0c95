"""A model ready to stream: network, codec and how to use them; and how it is loaded.

Shapes: B batch, F latent frames, T pixel frames, C channels, H W height and width.
"""

import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from .codec.codec_files import load_codec
from .config import Adapter, NetworkConfig, StreamSettings
from .errors import CheckpointError, SettingsError, short
from .files import parts_of_weights
from .geometry import TEMPORAL, latent_size
from .media import Fit, fit_image
from .stream import Anchor, StreamCodec, encode_anchor
from .stream.decode import to_uint8
from .stream.reference_check import GOOD_ENOUGH, Cloud, draw_reference, measure, read_cloud
from .stream.stream_model import spatial_of, wants_reference
from .stream.thread_choice import choose_threads
from .wan.checkpoint import Checkpoint, build_network, open_checkpoint
from .wan.families import Preset
from .wan.lora import open_lora
from .wan.memory import MemoryNeed, memory_needed

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
BUILT_IN = ("knot-tiny",)
# Latent frames of grey pictures behind a reference. Those after them are as the last: the Wan VAE's encoder sees no
# further back. A test says how exact that is.
NUM_GREY_LATENTS = 28
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A loaded model: network, codec and settings. It is immutable, so streams can share it."""

    network: nn.Module
    codec: StreamCodec
    config: NetworkConfig
    preset: Preset
    device: torch.device
    dtype: torch.dtype  # of the network's matrices and attention
    threads: int | None = None  # inside operations; None: whoever opens a stream chooses
    good_references: Cloud | None = None  # measured; None: it is not known what it can render

    def __repr__(self) -> str:
        config, dtype = self.config, str(self.dtype).removeprefix("torch.")
        size = f"{config.num_layers} layers of {config.dim}"
        return f"<{type(self).__name__} {self.preset.family}: {size}, {dtype} on {self.device}>"

    @property
    def settings(self) -> StreamSettings:
        """The settings that the model was trained with."""
        return self.preset.settings

    @property
    def fps(self) -> int:
        """Pixel frames per second."""
        return self.preset.fps

    @property
    def adapter(self) -> Adapter | None:
        """The configuration of the driving adapter; None without one."""
        return self.config.adapter

    @property
    def timing(self) -> str:
        """The timing of sound relative to pixel frames: see `Preset.timing`."""
        return self.preset.timing

    @property
    def spatial(self) -> int:
        """Pixels per latent cell, each way."""
        return spatial_of(self.codec)

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent height and width of a picture.

        Raises:
            KnotError: it does not divide into tokens.
        """
        return latent_size(height, width, self.spatial)

    def threads_for(
        self, settings: StreamSettings, latent_size: tuple[int, int], *, as_before: int | None = None
    ) -> int | None:
        """Threads per operation for a stream of that latent size: the model's own, else `as_before`, else chosen by
        size.
        """
        return self.threads or as_before or choose_threads(self, settings, latent_size)

    @torch.no_grad()
    def encode_anchor(
        self,
        image: Tensor,
        *,
        text: Tensor | None = None,
        size: tuple[int, int] | None = None,
        fit: Fit = "crop",
        image_tokens: Tensor | None = None,
        negative: Tensor | None = None,
    ) -> Anchor:
        """Encode an image [H, W, 3] in 0..1 as the anchor; `size`: (height, width) in pixels, `text`: [1, T, text_dim].

        `image_tokens` [1, T, image_dim] are the image's CLIP tokens, for networks that attend to them; `negative`
        [1, T, text_dim] is the negative prompt of guidance, None for the empty prompt.

        Raises:
            SettingsError: the image, the prompt or the size does not suit the model.
        """
        if image is None:
            raise SettingsError("got no picture; give the reference as a tensor [height, width, 3] in 0..1")
        if text is None and self.preset.needs_text:
            raise SettingsError(
                f"got no prompt, but {self.preset.title or self.preset.family} is driven by text; encode one "
                "(load_text_encoder(FOLDER).encode(PROMPT)) and give it as text"
            )
        if text is not None and not self.preset.needs_text:
            raise SettingsError(
                f"got a prompt, but {self.preset.title or self.preset.family} was trained without text; leave text out"
            )
        height, width = size or (self.preset.height, self.preset.width)
        self.latent_size(height, width)  # refuses what does not divide into tokens
        pixels = rearrange(fit_image(image, height, width, fit), "h w c -> 1 1 c h w")
        picture = to_uint8(pixels[0])[0]
        if wants_reference(self.codec):  # latents of what is kept
            pixels = rearrange(picture, "h w c -> 1 1 c h w") / 255
        if self.config.unknown_frames == "grey":
            grey = pixels.new_full((1, TEMPORAL * NUM_GREY_LATENTS, *pixels.shape[2:]), 0.5)
            pixels = torch.cat([pixels, grey], dim=1)
        latents = self.codec.encode(pixels.to(self.device, self._codec_dtype)).float()
        behind = latents[:, 1:] if latents.shape[1] > 1 else None
        return encode_anchor(self, latents[:, :1], text, image_tokens, behind, negative, picture_HWC=picture)

    def score_reference(self, image: Tensor, fit: Fit = "crop", anchor: Anchor | None = None) -> float | None:
        """A score of how well a picture [H, W, 3] in 0..1 can be rendered: 1 like the training's pictures, below 0.5
        hardly.

        It is measured at the model's own size, with the picture's `anchor` if that has this size. None for a model
        whose range of references was not measured.
        """
        if self.good_references is None:
            return None
        height, width = self.good_references.latent_size
        if anchor is None or anchor.latent_size != (height, width):
            anchor = self.encode_anchor(image, size=(self.spatial * height, self.spatial * width), fit=fit)
        drawing = draw_reference(self, anchor, self.settings)
        return self.good_references.score(measure(*drawing, self.good_references.motion))

    def warn_of_reference(self, image: Tensor, fit: Fit = "crop", anchor: Anchor | None = None) -> float | None:
        """`score_reference` of a picture [H, W, 3] in 0..1; logs one warning below 0.5. Nothing is refused."""
        score = self.score_reference(image, fit, anchor)
        if score is not None and score < GOOD_ENOUGH:
            logger.warning(
                "%s can hardly render this reference (score %.2f, wanted %.2f): it takes %s",
                self.preset.family,
                score,
                GOOD_ENOUGH,
                self.good_references.takes,
            )
        return score

    def memory_needed(self, settings: StreamSettings | None = None, size: tuple[int, int] | None = None) -> MemoryNeed:
        """Bytes that a stream takes, weights included; `size` is (height, width) in pixels."""
        size = size or (self.preset.height, self.preset.width)
        settings = settings or self.settings
        return memory_needed(
            self.config, settings, size, self.dtype, has_text=self.preset.needs_text, spatial=self.spatial
        )

    @cached_property
    def _codec_dtype(self) -> torch.dtype:
        return next(self.codec.parameters()).dtype if isinstance(self.codec, nn.Module) else torch.float32


def load_model(  # noqa: PLR0913 - the public door; all but the first may be left out
    name_or_path: str | os.PathLike[str] = "knot-tiny",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    codec: str | os.PathLike[str] | None = None,
    *,
    codec_kind: str = "auto",
    family: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    lora: str | os.PathLike[str] | None = None,
    lora_strength: float = 1.0,
    weights: str | None = None,
    mapped: bool = False,
) -> Model:
    """A built-in model by name, or a weights file. `dtype` None: bfloat16 where the device computes it natively.

    `codec` is the weights file of a video autoencoder, for models that do not bring their own. `family` names the
    checkpoint's family where neither its structure nor its name tells it. `overlay` is a file of further tensors
    (InfiniteTalk's audio modules), `lora` one of low-rank changes, merged while the weights are read. `weights` is the
    key of the set of weights, for training checkpoints that hold several; None: the set that the family streams with.
    `mapped`: on a CPU weights that have their dtype in the file stay there, and processes that load it share their
    memory; it must then not be written into. `share_weights` writes such a file for any dtype.

    Raises:
        CheckpointError: the weights, codec, overlay or LoRA cannot be read or do not belong together.
        SettingsError: the device or dtype cannot be used.
    """
    device = pick_device(device)
    dtype = native_dtype(device) if dtype is None else dtype
    if dtype not in DTYPES:
        raise SettingsError(f"dtype is {dtype}; choose one of {', '.join(map(str, DTYPES))}")
    checkpoint = open_model_file(name_or_path, family=family, overlay=overlay, weights=weights)
    preset = checkpoint.preset
    if not checkpoint.recognised.sure:
        logger.warning("%s: %s", checkpoint.path.name, checkpoint.recognised.why)
    codec_file = _codec_file(checkpoint.path, preset, codec)
    changes = None if lora is None else open_lora(lora, lora_strength, checkpoint.tensors)
    network = build_network(checkpoint, dtype, device, changes, mapped=mapped)
    return Model(
        network=network,
        # in bfloat16 decoded pictures differ from float32's by 54 dB, and take half the time
        codec=load_codec(codec_file, codec_kind, mapped=mapped).to(device, dtype),
        config=network.config,
        preset=preset,
        device=device,
        dtype=dtype,
        good_references=read_cloud(checkpoint.path.with_name(f"{checkpoint.path.stem}-reference.json")),
    )


def open_model_file(
    name_or_path: str | os.PathLike[str],
    *,
    header_only: bool = False,
    family: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """The checkpoint of a built-in model by name, or of a weights file or folder."""
    path = ASSETS / f"{name_or_path}.safetensors" if str(name_or_path) in BUILT_IN else Path(name_or_path)
    if not path.exists():
        raise CheckpointError(f"there is no model {str(name_or_path)!r}; give {' or '.join(BUILT_IN)}, or the path of "
                              "a weights file")  # fmt: skip
    return open_checkpoint(path, header_only=header_only, family=family, overlay=overlay, weights=weights)


def native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device's arithmetic has it, else float32."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Dot products of bfloat16 in hardware: AVX512-BF16 or AMX. Elsewhere torch emulates them, slower than float32."""
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def pick_device(device: str | torch.device) -> torch.device:
    """A device that works here, or an error that says why it does not."""
    name = short(str(device))
    try:
        found = torch.device(device)
    except RuntimeError as problem:
        raise SettingsError(f"device {name} is unknown to PyTorch; choose {_devices_here()}") from problem
    try:
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as problem:
        why = _NEEDS.get(found.type, "PyTorch does not compute there, as it is installed")
        raise SettingsError(f"device {name} cannot be used here: {why}; choose {_devices_here()}") from problem
    return found


_NEEDS = {
    "cuda": "it needs a PyTorch built for CUDA and a graphics card of that number",
    "mps": "it needs a Mac with Apple's own processor",
    "meta": "its tensors hold no values",
}


def _devices_here() -> str:
    found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return " or ".join([*found, "mps"] if torch.backends.mps.is_available() else found)


def _codec_file(weights: Path, preset: Preset, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    if preset.has_own_codec:
        beside = [weights.with_name(f"{weights.stem}-codec{suffix}") for suffix in (".safetensors", ".sft")]
        return next((file for file in beside if file.is_file()), beside[0])
    raise CheckpointError(f"{weights} brings no video autoencoder; name the weights file of one that fits it, such as "
                          "taew2_1 for Wan2.1, as codec")  # fmt: skip


def model_files(model: str) -> dict[str, Path]:
    """The model's files, by what they are called; a name that is no file is refused later, by those who load it."""
    path = ASSETS / f"{model}.safetensors" if model in BUILT_IN else Path(model)
    if not path.exists():
        return {}
    return {"--model": path} | {f"the model's {part.name}": part for part in parts_of_weights(path)}
