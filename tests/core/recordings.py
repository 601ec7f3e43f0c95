"""Recorded runs of the peers' own code: how a file is read, and streamed by this engine. README.md beside them says
what stands in one; nothing here knows a file by its name.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from knot_core.config import Adapter, NetworkConfig, StreamSettings
from knot_core.driving import Driving
from knot_core.driving.speech import PACKED, SpeechDriving
from knot_core.driving.tracks import Samples
from knot_core.flow import timesteps
from knot_core.stream import Anchor, Stream, encode_latent_anchor
from knot_core.stream.snapshot import first_snapshot
from knot_core.wan.checkpoint import Checkpoint, open_checkpoint
from knot_core.wan.families import find_family
from knot_core.wan.network_building import build_network
from knot_core.wan.preset import Preset, plain, with_settings

BOUND = 2e-5  # of max |ours - recorded| / max |recorded|; an engine that does the same comes to 4e-6


@dataclass(frozen=True)
class Recording:
    path: Path

    @cached_property
    def case(self) -> dict[str, Any]:
        with safe_open(self.path, "pt") as file:
            return json.loads(file.metadata()["case"])

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        with safe_open(self.path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name].float()

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of their names."""
        names = [name for name in self.tensors if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.tensors[name] for name in names}

    def has(self, name: str) -> bool:
        return name in self.tensors

    @property
    def preset(self) -> Preset:
        return find_family(self.case["family"])

    @property
    def num_chunks(self) -> int:
        return sum(name.startswith("latents/") for name in self.tensors)

    def noise(self, chunk: int) -> Tensor:
        """[S, 1, F, C, H, W]"""
        names = [name for name in self.tensors if name.startswith(f"noise/{chunk}/")]
        return torch.stack([self.tensor(f"noise/{chunk}/{step}")[None] for step in range(len(names))])

    def published(self, folder: Path) -> Checkpoint:
        """The weights as the family publishes them: under its key, behind its prefix."""
        prefix, wrapper = self.case["prefix"], self.case["wrapper"]
        weights = {prefix + name: tensor for name, tensor in self.part("weights/").items()}
        path = folder / "model.pt"
        torch.save({wrapper: weights} if wrapper else weights, path)
        return open_checkpoint(path, family=self.case["family"])


@dataclass(frozen=True, kw_only=True)
class RecordedModel:
    """What a stream asks of a model."""

    network: nn.Module
    config: NetworkConfig
    preset: Preset
    codec: Any = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    @property
    def settings(self) -> StreamSettings:
        return self.preset.settings

    @property
    def fps(self) -> int:
        return self.preset.fps

    @property
    def adapter(self) -> Adapter | None:
        return self.config.adapter

    @property
    def timing(self) -> str:
        return self.preset.timing


class Rows(Samples):
    """Recorded speech features, a row a pixel frame, as a track of speech."""

    def end_within(self, _: int) -> int:
        return self.num_pixel_frames


class NoPictures:
    """A codec of recordings of latents."""

    def decode(self, latents: Tensor, memory: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        return latents.new_zeros(1, 4 * latents.shape[1] - 3 * (memory is None), 3, 2, 2), (latents.new_zeros(1),)


class RecordedStream(Stream):
    """A stream whose noise is the recorded one."""

    recording: Recording

    def _draw_noise(self, begun: Any) -> tuple[Tensor, Tensor]:
        return self.recording.noise(begun.plan.chunk), begun.state.rng_state


def settings_of(recording: Recording) -> StreamSettings:
    """The family's preset without knot and anchor, where the recorded run's own configuration says nothing else."""
    config, base = recording.case["config"], plain(recording.preset.settings)
    config = config | config.get("model_kwargs", {})
    changes: dict[str, Any] = {"num_chunk_frames": config.get("num_frame_per_block", base.num_chunk_frames)}
    chunk = changes["num_chunk_frames"]
    if config.get("local_attn_size", -1) > 0:
        changes["num_sink_frames"] = config.get("sink_size", 0)
        changes["num_window_frames"] = config["local_attn_size"] - changes["num_sink_frames"] - chunk
    if config.get("use_infinite_attention"):
        changes["rope_positions"] = "window"
    if "num_kv_cache" in config:  # its ring never comes back to what the first chunk filled
        sinks = max(config["num_sink_tokens"] // chunk, 1) * chunk
        changes |= {"num_sink_frames": sinks, "num_window_frames": config["num_kv_cache"] - sinks - chunk}
    if "kv_cache_num_frames" in config:
        changes["num_window_frames"] = config["kv_cache_num_frames"]
    return with_settings(base, **changes, **_schedule(recording, base))


def _schedule(recording: Recording, base: StreamSettings) -> dict[str, Any]:
    """What differs from the family's own: `timesteps` as they were fed, levels of a table where the family has one."""
    recorded, dtype = recording.case["schedule"], recording.preset.timestep_dtype
    changes: dict[str, Any] = {}
    for name, key, first in (("timesteps", "timesteps", False), ("first_timesteps", "first_chunk_timesteps", True)):
        wanted, fed = recorded.get(key), timesteps(base, first_chunk=first, dtype=dtype)
        if wanted is not None and not _alike(wanted, fed):
            changes[name] = tuple(wanted)
    return changes


def _alike(wanted: list[float], fed: tuple[float, ...]) -> bool:
    return len(wanted) == len(fed) and all(abs(a - b) < 1e-3 for a, b in zip(wanted, fed, strict=True))


def model_of(recording: Recording, folder: Path) -> RecordedModel:
    checkpoint = recording.published(folder)
    network = build_network(checkpoint)
    return RecordedModel(network=network, config=network.config, preset=checkpoint.preset, codec=NoPictures())


def open_recorded(recording: Recording, model: RecordedModel, settings: StreamSettings) -> RecordedStream:
    """The stream before its first chunk."""
    snapshot = first_snapshot(settings, anchor_of(recording, model), seed=0)
    stream = RecordedStream(model, snapshot, _driving(recording))
    stream.recording = recording
    return stream


def anchor_of(recording: Recording, model: RecordedModel) -> Anchor:
    height, width = recording.case["sizes"]["latent"]
    nothing = torch.zeros(1, 1, 16, height, width)
    reference = recording.tensor("reference_latent") if recording.has("reference_latent") else nothing
    return encode_latent_anchor(model, reference, recording.tensor("text"))


def _driving(recording: Recording) -> Driving:
    if not recording.has("audio"):
        return Driving.none()
    return SpeechDriving(speech=Rows(recording.tensor("audio").numpy()), form=PACKED)


def errors(recording: Recording, stream: RecordedStream) -> list[float]:
    """Chunk by chunk; the prompt changes where it did."""
    switch = recording.case.get("switch")
    found = []
    for number in range(recording.num_chunks):
        if switch is not None and number == switch["chunk"]:
            keep_sinks = recording.case["config"].get("global_sink", False)
            stream.set_text(recording.tensor(switch["text"]), recache=True, keep_sinks=keep_sinks)
        found.append(error(next(stream).latents, recording.tensor(f"latents/{number}")))
    return found


def error(ours: Tensor, recorded: Tensor) -> float:
    return float((ours - recorded).abs().max() / recorded.abs().max())
