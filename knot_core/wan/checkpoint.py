"""Weights files: what is inside, which family it is, and the network that it makes.

A network's sizes are read from its tensors' shapes, so public Wan2.1 checkpoints of any size load; what shapes do not
tell (how to stream it) comes from the file's metadata, or from the family's row in `PRESETS`.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..config import LAYOUT_CHANNELS, AdapterConfig, NetworkConfig, StreamSettings
from ..errors import CheckpointError, SettingsError
from ..flow import schedule
from ..geometry import PATCH, TEMPORAL
from .model import WanNetwork


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a family streams; a file's metadata has the last word."""

    family: str
    settings: StreamSettings
    fps: int  # pixel frames a second
    height: int  # pixels
    width: int
    has_own_codec: bool  # a file `<name>-codec.safetensors` lies beside it; otherwise the user names one
    licence: str = "see where the file came from"


PRESETS: Mapping[str, Preset] = {
    "knot-tiny": Preset(
        family="knot-tiny",
        settings=StreamSettings(),
        fps=25,
        height=128,
        width=128,
        has_own_codec=True,
        licence="Apache-2.0",
    ),
    # Self-Forcing and its family: unmodified Wan2.1 weights, distilled to few steps
    "wan": Preset(
        family="wan",
        settings=StreamSettings(num_window_frames=9),
        fps=16,
        height=480,
        width=832,
        has_own_codec=False,
    ),
}

# The weights that stream, within files that hold several sets; the averaged ones first.
_WRAPPERS = ("generator_ema", "generator", "state_dict", "model")
_TRAINING_WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.")
_HEAD_DIM = 128  # of every Wan2.1 network; shapes do not show it
_LIVETALK_FIRST_BLOCK = 2  # LiveTalk and OmniAvatar feed blocks 2 .. 15, the built-in model says its own
_CHANNEL_LAYOUTS = {channels: layout for layout, channels in LAYOUT_CHANNELS.items()}
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_SHOWN = 3  # names in a message


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A weights file; of a header alone the tensors are on the meta device, without data."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """What the metadata says; otherwise by structure."""
        if "decoder.1.weight" in self.tensors:
            return "taehv"
        return self.metadata.get("family", "wan")

    @property
    def preset(self) -> Preset:
        """How to stream it."""
        if self.family not in PRESETS:
            known = ", ".join(PRESETS)
            raise CheckpointError(f"{self.path} is of the family {self.family!r}; these stream here: {known}")
        row = PRESETS[self.family]
        said = {name: self._json(name) for name in ("fps", "height", "width") if name in self.metadata}
        settings = StreamSettings.from_dict(self._json("settings")) if "settings" in self.metadata else row.settings
        licence = self.metadata.get("licence", row.licence)
        return Preset(**{**vars(row), **said, "settings": settings, "licence": licence})

    @property
    def config(self) -> NetworkConfig:
        """Sizes of the network, from the metadata or the shapes."""
        if "network" in self.metadata:
            return NetworkConfig.from_dict(self._json("network"))
        return self._config_from_shapes()

    def _config_from_shapes(self) -> NetworkConfig:
        dim, in_channels = self._shape("patch_embedding.weight")[:2]
        if in_channels not in _CHANNEL_LAYOUTS:
            known = ", ".join(f"{channels} ({layout})" for channels, layout in _CHANNEL_LAYOUTS.items())
            raise CheckpointError(f"{self.path} has {in_channels} input channels; networks with {known} can stream")
        try:
            return NetworkConfig(
                dim=dim,
                ffn_dim=self._shape("blocks.0.ffn.0.weight")[0],
                num_heads=dim // _HEAD_DIM,
                num_layers=_count(self.tensors, r"blocks\.(\d+)\."),
                in_channels=in_channels,
                out_channels=self._shape("head.head.weight")[0] // PATCH**2,
                text_dim=self._shape("text_embedding.0.weight")[1],
                freq_dim=self._shape("time_embedding.0.weight")[1],
                layout=_CHANNEL_LAYOUTS[in_channels],
                adapter=self._adapter_from_shapes(),
            )
        except SettingsError as problem:
            raise CheckpointError(f"{self.path} is no network that streams here: {problem}") from problem

    def _adapter_from_shapes(self) -> AdapterConfig | None:
        if "audio_proj.proj.weight" not in self.tensors:
            return None
        hidden_dim, packed = self._shape("audio_proj.proj.weight")
        blocks = range(_count(self.tensors, r"audio_cond_projs\.(\d+)\."))
        return AdapterConfig(
            signal_dim=packed // TEMPORAL,
            num_packed=TEMPORAL,
            hidden_dim=hidden_dim,
            blocks=tuple(_LIVETALK_FIRST_BLOCK + block for block in blocks),
        )

    def _shape(self, name: str) -> torch.Size:
        if name not in self.tensors:
            found = ", ".join(list(self.tensors)[:_SHOWN]) or "nothing"
            raise CheckpointError(
                f"{self.path} is no Wan network: it has no {name} but {found} ...; give a Wan2.1 diffusion model"
            )
        return self.tensors[name].shape

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self.metadata[name])
        except json.JSONDecodeError as problem:
            raise CheckpointError(
                f"{self.path} has damaged metadata ({name}: {problem}); download it again"
            ) from problem


def open_checkpoint(path: str | Path, *, header_only: bool = False) -> Checkpoint:
    """Read a safetensors or a PyTorch file; names are those of the bare network, whatever wrapped it."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}; check the path")
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path, header_only)
    else:
        tensors, metadata = _read_pickle(path, header_only), {}
    return Checkpoint(path=path, tensors=_bare_names(tensors), metadata=metadata)


def build_network(checkpoint: Checkpoint) -> WanNetwork:
    """The network with the file's weights, in float32 on the CPU; every tensor must have its place and be finite."""
    with torch.device("meta"):
        network = WanNetwork(checkpoint.config)
    check_tensors(checkpoint, network.state_dict())
    weights = {name: tensor.float() for name, tensor in checkpoint.tensors.items()}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{checkpoint.path} holds values that are no numbers (NaN or infinite) in {name}; "
                                  "download or train it again")  # fmt: skip
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def check_tensors(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> None:
    """Refuse a file whose tensors are not exactly those wanted, by name and shape."""
    path, (missing, unexpected) = checkpoint.path, differences(checkpoint, wanted)
    if missing:
        raise CheckpointError(f"{path} lacks {_some(missing)}; it is incomplete: download or export it again")
    if unexpected:
        raise CheckpointError(
            f"{path} holds {_some(unexpected)} that the network has no place for; it is another model"
        )
    for name, tensor in wanted.items():
        if checkpoint.tensors[name].shape != tensor.shape:
            shape = list(checkpoint.tensors[name].shape)
            raise CheckpointError(
                f"{path} has {name} of shape {shape}, wanted {list(tensor.shape)}; it is another model"
            )


def differences(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Names missing from the file, and names in it that are not wanted."""
    return sorted(set(wanted) - set(checkpoint.tensors)), sorted(set(checkpoint.tensors) - set(wanted))


def save_network(path: str | Path, network: WanNetwork, preset: Preset, **more: str) -> None:
    """Write a safetensors file that `open_checkpoint` reads; `more` is further metadata, such as how it was trained."""
    # Not "config": ComfyUI reads a diffusers-like structure under that name.
    metadata = {
        "family": preset.family,
        "layout": network.config.layout,
        "network": json.dumps(network.config.to_dict()),
        "settings": json.dumps(preset.settings.to_dict()),
        "schedule": json.dumps(schedule(preset.settings.steps, preset.settings.shift)),
        "fps": str(preset.fps),
        "height": str(preset.height),
        "width": str(preset.width),
        "licence": preset.licence,
        **more,
    }
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path, metadata=metadata)


def _read_safetensors(path: Path, header_only: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            if not header_only:
                return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
            return {name: _outline(file.get_slice(name)) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as problem:
        raise CheckpointError(f"{path} is truncated or damaged ({problem}); download or copy it again") from problem


def _outline(stored: Any) -> Tensor:
    """A safetensors slice as a tensor without data."""
    return torch.empty(stored.get_shape(), dtype=_DTYPES.get(stored.get_dtype(), torch.uint8), device="meta")


def _read_pickle(path: Path, header_only: bool) -> dict[str, Tensor]:
    try:
        found = torch.load(
            path, map_location="meta" if header_only else "cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as problem:
        if re.search(r"GLOBAL|[Uu]nsupported (global|class)", str(problem)):
            raise CheckpointError(f"{path} carries code beside its weights, so it was not opened; "
                                  "get it as safetensors") from problem  # fmt: skip
        raise CheckpointError(f"{path} is no PyTorch file, or damaged; download or copy it again") from problem
    except (RuntimeError, EOFError, OSError, ValueError) as problem:
        reason = str(problem).partition("\n")[0]
        raise CheckpointError(
            f"{path} is truncated or damaged ({reason or 'empty'}); download or copy it again"
        ) from problem
    return _unwrap(path, found)


def _unwrap(path: Path, found: Any) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)} if isinstance(
        found, Mapping) else {}  # fmt: skip
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors; give a file with a network's weights")
    return tensors


def _bare_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {_TRAINING_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    for prefix in _PREFIXES:
        if f"{prefix}patch_embedding.weight" in named:
            return {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _count(names: Iterable[str], pattern: str) -> int:
    return 1 + max((int(found[1]) for name in names if (found := re.match(pattern, name))), default=-1)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
