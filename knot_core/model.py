"""A model ready to stream: network, codec and how to use them; and how it is loaded.

Shapes: B batch, F latent frames, T pixel frames, C channels, H W height and width.
"""

import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .codec.taehv import TAEHV, read_config
from .config import NetworkConfig, StreamSettings
from .errors import CheckpointError, KnotError, SettingsError
from .flow import schedule
from .geometry import latent_size
from .media import Fit, fit_image
from .stream import Anchor, StreamCodec, encode_anchor
from .wan.checkpoint import Checkpoint, Preset, build_network, check_tensors, differences, open_checkpoint
from .wan.model import WanNetwork, cast_weights

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
        image_tokens: Tensor | None = None,
        size: tuple[int, int] | None = None,
        fit: Fit = "crop",
    ) -> Anchor:
        """The anchor of a picture [H, W, 3] in 0..1; `size` is (height, width) in pixels, `text` [1, T, text_dim].

        `image_tokens` are the picture's CLIP tokens [1, T, image_dim], for networks that look at them.
        """
        height, width = size or (self.preset.height, self.preset.width)
        latent_size(height, width)  # refuses what does not divide into tokens
        pixels = rearrange(fit_image(image, height, width, fit), "h w c -> 1 1 c h w")
        latents = self.codec.encode(pixels.to(self.device, self._codec_dtype))
        return encode_anchor(self, latents.float(), text, image_tokens)

    @cached_property
    def _codec_dtype(self) -> torch.dtype:
        return next(self.codec.parameters()).dtype if isinstance(self.codec, nn.Module) else torch.float32


def load_model(
    name_or_path: str | os.PathLike[str] = "knot-tiny",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    codec: str | os.PathLike[str] | None = None,
) -> Model:
    """A built-in model by name, or a weights file. `dtype` None: bfloat16 where the device computes it natively.

    `codec` is the weights file of a TAEHV autoencoder, for models that do not bring their own.
    """
    device = _device(device)
    dtype = native_dtype(device) if dtype is None else dtype
    if dtype not in DTYPES:
        raise SettingsError(f"dtype is {dtype}; choose one of {', '.join(map(str, DTYPES))}")
    checkpoint = open_checkpoint(_weights_file(name_or_path))
    preset, network = checkpoint.preset, build_network(checkpoint)
    return Model(
        network=cast_weights(network, dtype).to(device),
        # in bfloat16 decoded pictures differ from float32's by 54 dB, and take half the time
        codec=_load_codec(_codec_file(checkpoint.path, preset, codec)).to(device, dtype),
        config=network.config,
        preset=preset,
        device=device,
        dtype=dtype,
    )


def inspect_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a weights file is, from its header alone, as plain values; `problem` says why it would not load."""
    checkpoint = open_checkpoint(_weights_file(path), header_only=True)
    tensors = checkpoint.tensors.values()
    found: dict[str, Any] = {
        "file": checkpoint.path.name,
        "family": checkpoint.family,
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}),
    }
    try:
        with torch.device("meta"):
            wanted, more = _inspect_codec(checkpoint) if checkpoint.family == "taehv" else _inspect_network(checkpoint)
        missing, unexpected = differences(checkpoint, wanted.state_dict())
        found |= more | {"missing": missing, "unexpected": unexpected, "problem": None}
        check_tensors(checkpoint, wanted.state_dict())
    except KnotError as problem:
        found["problem"] = str(problem)
    return found


def _inspect_codec(checkpoint: Checkpoint) -> tuple[nn.Module, dict[str, Any]]:
    config = read_config(checkpoint.tensors)
    return TAEHV(config), asdict(config)


def _inspect_network(checkpoint: Checkpoint) -> tuple[nn.Module, dict[str, Any]]:
    config, preset = checkpoint.config, checkpoint.preset
    sigmas = schedule(preset.settings.steps, preset.settings.shift)
    return WanNetwork(config), {
        **config.to_dict(),
        "schedule": [round(sigma, 4) for sigma in sigmas],
        "settings": preset.settings.to_dict(),
        "fps": preset.fps,
        "width": preset.width,
        "height": preset.height,
        "licence": preset.licence,
    }


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


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = str(problem).splitlines()[0]
        raise SettingsError(f"device {str(device)!r} cannot be used here ({reason}); choose cpu") from problem
    return found


def _weights_file(name_or_path: str | os.PathLike[str]) -> Path:
    if str(name_or_path) in BUILT_IN:
        return ASSETS / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if not path.is_file():
        raise CheckpointError(f"there is no model {str(name_or_path)!r}; give {' or '.join(BUILT_IN)}, or the path of "
                              "a weights file")  # fmt: skip
    return path


def _codec_file(weights: Path, preset: Preset, given: str | os.PathLike[str] | None) -> Path:
    if given is not None:
        return Path(given)
    if preset.has_own_codec:
        return weights.with_name(f"{weights.stem}-codec.safetensors")
    raise CheckpointError(f"{weights} brings no video autoencoder; name the weights file of one that fits it, such as "
                          "taew2_1 for Wan2.1, as codec")  # fmt: skip


def _load_codec(path: Path) -> TAEHV:
    tensors = open_checkpoint(path).tensors
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path} holds values that are no numbers (NaN or infinite) in {name}; get it again")
    codec = TAEHV.from_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return codec.eval().requires_grad_(False)
