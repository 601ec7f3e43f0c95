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

from .codec.files import load_codec
from .config import NetworkConfig, StreamSettings
from .errors import CheckpointError, SettingsError
from .geometry import latent_size
from .media import Fit, fit_image
from .stream import Anchor, StreamCodec, encode_anchor
from .wan.checkpoint import Checkpoint, build_network, open_checkpoint
from .wan.families import Preset
from .wan.lora import open_lora
from .wan.memory import MemoryNeed, memory_needed

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
BUILT_IN = ("knot-tiny",)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """Nothing in it changes once it is loaded, so streams share it."""

    network: nn.Module
    codec: StreamCodec
    config: NetworkConfig
    preset: Preset
    device: torch.device
    dtype: torch.dtype  # of the network's matrices and attention

    @property
    def settings(self) -> StreamSettings:
        """What it was trained for: the settings to start from."""
        return self.preset.settings

    @property
    def fps(self) -> int:
        """Pixel frames a second."""
        return self.preset.fps

    @torch.no_grad()
    def encode_anchor(
        self,
        image: Tensor,
        *,
        text: Tensor | None = None,
        size: tuple[int, int] | None = None,
        fit: Fit = "crop",
        image_tokens: Tensor | None = None,
    ) -> Anchor:
        """The anchor of a picture [H, W, 3] in 0..1; `size` is (height, width) in pixels, `text` [1, T, text_dim].

        `image_tokens` [1, T, image_dim] are the picture's CLIP tokens, for networks that look at them.
        """
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
        latent_size(height, width)  # refuses what does not divide into tokens
        pixels = rearrange(fit_image(image, height, width, fit), "h w c -> 1 1 c h w")
        latents = self.codec.encode(pixels.to(self.device, self._codec_dtype))
        return encode_anchor(self, latents.float(), text, image_tokens)

    def memory_needed(self, settings: StreamSettings | None = None, size: tuple[int, int] | None = None) -> MemoryNeed:
        """Bytes that a stream takes, weights included; `size` is (height, width) in pixels."""
        size = size or (self.preset.height, self.preset.width)
        settings = settings or self.settings
        return memory_needed(self.config, settings, size, self.dtype, has_text=self.preset.needs_text)

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
) -> Model:
    """A built-in model by name, or a weights file. `dtype` None: bfloat16 where the device computes it natively.

    `codec` is the weights file of a video autoencoder, for models that do not bring their own. `family` names the
    checkpoint's family where neither its structure nor its name tells it. `overlay` is a file of further tensors
    (InfiniteTalk's audio modules), `lora` one of low-rank changes, merged while the weights are read.
    """
    device = pick_device(device)
    dtype = native_dtype(device) if dtype is None else dtype
    if dtype not in DTYPES:
        raise SettingsError(f"dtype is {dtype}; choose one of {', '.join(map(str, DTYPES))}")
    checkpoint = open_model_file(name_or_path, family=family, overlay=overlay)
    preset = checkpoint.preset
    if not checkpoint.recognised.sure:
        logger.warning("%s: %s", checkpoint.path.name, checkpoint.recognised.why)
    codec_file = _codec_file(checkpoint.path, preset, codec)
    changes = None if lora is None else open_lora(lora, lora_strength, checkpoint.tensors)
    network = build_network(checkpoint, dtype, device, changes)
    return Model(
        network=network,
        # in bfloat16 decoded pictures differ from float32's by 54 dB, and take half the time
        codec=load_codec(codec_file, codec_kind).to(device, dtype),
        config=network.config,
        preset=preset,
        device=device,
        dtype=dtype,
    )


def open_model_file(
    name_or_path: str | os.PathLike[str],
    *,
    header_only: bool = False,
    family: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """The checkpoint of a built-in model by name, or of a weights file or folder."""
    path = ASSETS / f"{name_or_path}.safetensors" if str(name_or_path) in BUILT_IN else Path(name_or_path)
    if not path.exists():
        raise CheckpointError(f"there is no model {str(name_or_path)!r}; give {' or '.join(BUILT_IN)}, or the path of "
                              "a weights file")  # fmt: skip
    return open_checkpoint(path, header_only=header_only, family=family, overlay=overlay)


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
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = str(problem).splitlines()[0]
        raise SettingsError(f"device {str(device)!r} cannot be used here ({reason}); choose cpu") from problem
    return found


def _codec_file(weights: Path, preset: Preset, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    if preset.has_own_codec:
        return weights.with_name(f"{weights.stem}-codec.safetensors")
    raise CheckpointError(f"{weights} brings no video autoencoder; name the weights file of one that fits it, such as "
                          "taew2_1 for Wan2.1, as codec")  # fmt: skip
