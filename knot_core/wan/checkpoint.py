"""A checkpoint: which family it is of, the network that it makes, and how that streams.

A network's sizes are read from its tensors' shapes, so public Wan2.1 checkpoints of any size load; what shapes do not
tell (how to stream it) comes from the file's metadata, or from the family's row in `families.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..config import NetworkConfig, StreamSettings
from ..errors import CheckpointError, SettingsError, short
from ..flow import noise_levels
from .families import find_family
from .network import WanNetwork
from .network_file import read_network, weights_and_scales
from .network_sizes import adapter_config, network_config, num_blocks, shape_of
from .preset import Preset
from .reading import Stored, read_stored, without_prefix
from .recognise import Recognised, Traits, adapter_kind, recognise

_MOST_SAID = 8192  # pixels of a side, pictures a second
_TAIL = 4  # parts of a path that may say the family: file, folders, a download cache's repository
_CODECS = {"taehv": "decoder.1.weight", "warping": "decoder.head.weight"}  # a tensor that only they have
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A weights file. If only its header was read, the tensors are on the meta device, without data."""

    path: Path
    tensors: Mapping[str, Tensor]  # by the network's own names
    scales: Mapping[str, Tensor] = field(default_factory=dict)  # what fp8 weights are to be multiplied by
    metadata: Mapping[str, str] = field(default_factory=dict)
    wrapper: str | None = None  # the key that the weights lay under
    prefix: str = ""  # of their names
    ignored: tuple[str, ...] = ()  # names that belong to no network that streams
    sets: tuple[str, ...] = ()  # keys of the sets of weights that the file holds, if several
    packed: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)  # of quantised files: how to unpack each
    chosen_family: str | None = None  # by the user

    @property
    def family(self) -> str:
        """The family that the user or the metadata names; otherwise the one that structure and names tell.

        Raises:
            CheckpointError: no family has this structure.
        """
        return self.codec or self.preset.family

    @property
    def codec(self) -> str | None:
        """The kind of video autoencoder that the file holds instead of a network: taehv, warping, or None."""
        return next((kind for kind, name in _CODECS.items() if name in self.tensors), None)

    @property
    def preset(self) -> Preset:
        """The preset of its family.

        Raises:
            CheckpointError: no family has this structure.
        """
        return self.recognised.preset

    @cached_property
    def recognised(self) -> Recognised:
        """The family, and the reason why the file is taken for it.

        Raises:
            CheckpointError: no family has this structure, or the metadata is damaged.
        """
        if self.chosen_family is not None:
            return Recognised(preset=find_family(self.chosen_family), why="the user says so", sure=True)
        if "family" in self.metadata:
            return Recognised(preset=self._preset_from_metadata(), why="the file's metadata says so", sure=True)
        try:
            return recognise(self._traits())
        except CheckpointError as problem:
            raise CheckpointError(f"{self.path} does not stream here: {problem}") from problem

    @property
    def config(self) -> NetworkConfig:
        """Sizes of the network, from the metadata or the tensors' shapes.

        Raises:
            CheckpointError: the file holds no network that streams here, or its metadata is damaged.
        """
        if "network" in self.metadata:
            return self._config_from_metadata()
        preset = self.preset
        try:
            return network_config(
                self.tensors,
                timestep_dtype=preset.timestep_dtype,
                unknown_frames=preset.unknown_frames,
                known_in_x=preset.known_in_x,
            )
        except (SettingsError, ValueError) as problem:
            raise CheckpointError(f"{self.path} does not stream here: {problem}") from problem

    def weight(self, name: str, dtype: torch.dtype, device: torch.device | str = "cpu", *, copy: bool = True) -> Tensor:
        """The tensor `name`, in its stored shape [...], in `dtype` on `device`; fp8 numbers times their scale.

        Without `copy` it is the file's own memory where dtype and device are the file's: pages that are mapped, and
        that all processes share which map them.

        Raises:
            CheckpointError: its numbers are packed in a way that is not read here.
        """
        stored, scale = self.packed[name]() if name in self.packed else self.tensors[name], self.scales.get(name)
        if scale is None and stored.dtype.is_floating_point:
            return stored.to(device, dtype, copy=copy)
        if scale is None or stored.dtype not in _FP8 or scale.numel() not in (1, stored.shape[0]):
            kind = str(stored.dtype).removeprefix("torch.")
            raise CheckpointError(f"{self.path} holds {name} as {kind} numbers in a packing that is not read here; "
                                  "load it with ComfyUI's own loader and connect the MODEL")  # fmt: skip
        scale = scale.to(device, torch.float32).view(-1, *[1] * (stored.dim() - 1))
        return stored.to(device, torch.float32).mul_(scale).to(dtype)

    def _config_from_metadata(self) -> NetworkConfig:
        try:
            config = NetworkConfig.from_dict(self._json("network"))
        except SettingsError as problem:
            raise CheckpointError(f"{self.path} has damaged metadata: {problem}") from problem
        if config.num_layers != num_blocks(self.tensors):  # before so many are made
            raise CheckpointError(f"{self.path} holds {num_blocks(self.tensors)} blocks, and says that it has "
                                  f"{config.num_layers}; download it again")  # fmt: skip
        return config

    def _preset_from_metadata(self) -> Preset:
        try:
            row = find_family(self.metadata["family"])
        except CheckpointError as problem:
            raise CheckpointError(f"{self.path}: {problem}") from problem
        said = {name: self._whole_number(name) for name in ("fps", "height", "width") if name in self.metadata}
        if "settings" in self.metadata:
            try:
                said["settings"] = StreamSettings.from_dict(self._json("settings"))
            except SettingsError as problem:
                raise CheckpointError(f"{self.path} has damaged metadata: {problem}") from problem
        return replace(row, **said, licence=self.metadata.get("licence", row.licence))

    def _traits(self) -> Traits:
        dim, in_channels = shape_of(self.tensors, "patch_embedding.weight", 5)[:2]
        return Traits(
            in_channels=in_channels,
            dim=dim,
            num_layers=num_blocks(self.tensors),
            adapter=adapter_kind(adapter_config(self.tensors)),
            tail="/".join(self.path.absolute().parts[-_TAIL:]),
            wrappers={self.wrapper or "", self.prefix},
        )

    def _whole_number(self, name: str) -> int:
        value = self._json(name)
        if type(value) is not int or not 1 <= value <= _MOST_SAID:
            raise CheckpointError(f"{self.path} has damaged metadata ({name}: {short(value)}); download it again")
        return value

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self.metadata[name])
        except (ValueError, RecursionError) as problem:
            raise CheckpointError(
                f"{self.path} has damaged metadata ({name}: {short(problem, str)}); download it again"
            ) from problem


def open_checkpoint(
    path: str | Path,
    *,
    header_only: bool = False,
    family: str | None = None,
    overlay: str | Path | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """Read a safetensors, PyTorch or GGUF file, shards, or a folder; names are those of the bare network.

    `overlay` is a file of further tensors, such as InfiniteTalk's audio modules, which replace tensors of the same
    name. `weights` is the key of the set of weights to read where the file holds several; None: the one that the family
    uses.

    Raises:
        CheckpointError: a file is damaged, lacks that set of weights, or holds something that does not stream here.
        SettingsError: `weights` is not the key of a set of weights.
    """
    path = Path(path)
    stored = read_stored_network(path, header_only=header_only, family=family, weights=weights)
    ignored = list(stored.ignored)
    tensors, scales = weights_and_scales(path, stored, ignored)
    packed = dict(stored.packed)
    if overlay is not None:
        more = without_prefix(read_stored(Path(overlay), header_only=header_only))
        over, over_scales = weights_and_scales(Path(overlay), more, ignored)
        scales = {name: scale for name, scale in scales.items() if name not in over} | over_scales
        packed = {name: unpack for name, unpack in packed.items() if name not in over} | dict(more.packed)
        tensors |= over
    found = _checkpoint(path, stored, family)
    return replace(found, tensors=tensors, scales=scales, ignored=tuple(ignored), packed=packed)


def read_stored_network(path: Path, *, header_only: bool, family: str | None, weights: str | None) -> Stored:
    """The tensors of one network as its file holds them, scales and all, under Wan's own names."""
    return read_network(
        path, header_only=header_only, weights=weights, recognise=lambda stored: _preset_of(path, stored, family)
    )


def _preset_of(path: Path, stored: Stored, family: str | None) -> Preset | None:
    try:
        return _checkpoint(path, stored, family).preset
    except CheckpointError:
        return None  # said once it is to stream: `inspect` describes such a file, too


def _checkpoint(path: Path, stored: Stored, family: str | None) -> Checkpoint:
    return Checkpoint(
        path=path,
        tensors=stored.tensors,
        metadata=stored.metadata,
        wrapper=stored.wrapper,
        prefix=stored.prefix,
        ignored=stored.ignored,
        sets=stored.sets,
        packed=stored.packed,
        chosen_family=family,
    )


def save_network(path: str | Path, network: WanNetwork, preset: Preset, *, compact: bool = False, **more: str) -> None:
    """Write a safetensors file that `open_checkpoint` reads; `more` is further metadata, such as how it was trained.

    `compact`: what is computed in float32 lies in the file as float16.
    """
    # Not "config": ComfyUI reads a diffusers-like structure under that name.
    metadata = {
        "family": preset.family,
        "layout": network.config.layout,
        "network": json.dumps(network.config.to_dict()),
        "settings": json.dumps(preset.settings.to_dict()),
        "schedule": json.dumps(noise_levels(preset.settings)),
        "fps": str(preset.fps),
        "height": str(preset.height),
        "width": str(preset.width),
        "licence": preset.licence,
        **more,
    }
    tensors = {name: (tensor.half() if compact and tensor.dtype == torch.float32 else tensor).contiguous()
               for name, tensor in network.state_dict().items()}  # fmt: skip
    save_file(tensors, path, metadata=metadata)
