"""Frozen settings that check themselves: of the network, and of a stream."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CheckpointError, SettingsError
from .geometry import LATENT_CHANNELS

# input channels of each channel layout; wan/layouts.py says what stands in them
LAYOUT_CHANNELS: Mapping[str, int] = {"inpaint36": 36, "t2v16": LATENT_CHANNELS}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SettingsError(message)


def _require_known_fields(cls: type, values: Mapping[str, Any]) -> None:
    fields = dataclasses.fields(cls)
    unknown = sorted(set(values) - {field.name for field in fields})
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise CheckpointError(
            f"the stored {cls.__name__} has unknown fields {unknown} and lacks {missing}; "
            "it was written by another version of this software"
        )


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """How driving enters (LiveTalk / OmniAvatar structure): `num_packed` pixel frames' signals per latent frame."""

    signal_dim: int = 75
    num_packed: int = 4
    hidden_dim: int = 64
    blocks: tuple[int, ...] = tuple(range(8))  # added to the tokens just before these transformer blocks

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        for name in ("signal_dim", "num_packed", "hidden_dim"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        ascending = sorted(set(self.blocks))
        _require(
            self.blocks == tuple(ascending) and min(self.blocks, default=0) >= 0,
            f"adapter blocks are {self.blocks}; they must be different block numbers in ascending order",
        )


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of a Wan2.1 network, its channel layout and its driving adapter."""

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_channels: int
    layout: str
    out_channels: int = LATENT_CHANNELS
    text_dim: int = 4096
    freq_dim: int = 256
    eps: float = 1e-6
    adapter: AdapterConfig | None = None

    def __post_init__(self) -> None:
        for name in ("dim", "ffn_dim", "num_heads", "num_layers", "out_channels", "text_dim", "freq_dim"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        _require(
            self.dim % (2 * self.num_heads) == 0 and self.head_dim >= 6,
            f"dim {self.dim} over {self.num_heads} heads leaves no even head_dim >= 6; choose another num_heads",
        )
        _require(self.freq_dim % 2 == 0, f"freq_dim is {self.freq_dim}; it must be even (sines and cosines)")
        _require(
            self.layout in LAYOUT_CHANNELS,
            f"layout {self.layout!r} is not known; choose one of {', '.join(LAYOUT_CHANNELS)}",
        )
        _require(
            self.in_channels == LAYOUT_CHANNELS[self.layout],
            f"layout {self.layout} has {LAYOUT_CHANNELS[self.layout]} input channels, not {self.in_channels}",
        )
        if self.adapter is not None:
            last = max(self.adapter.blocks, default=0)
            _require(
                last < self.num_layers,
                f"the adapter feeds block {last}, but the network has {self.num_layers} blocks",
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """Read what `to_dict` gave; unknown or missing fields are errors."""
        _require_known_fields(cls, values)
        adapter = values.get("adapter")
        if adapter is not None:
            _require_known_fields(AdapterConfig, adapter)
            adapter = AdapterConfig(**adapter)
        return cls(**{**values, "adapter": adapter})


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Settings of one stream. Lengths and positions are in latent frames."""

    num_chunk_frames: int = 3  # c: committed together
    num_knot_frames: int = 1  # k: shared by two neighbouring chunks; 0 turns the knot off
    num_window_frames: int = 6  # L: committed frames a chunk may attend to; 0 leaves the anchor alone
    run_ahead_stride: int = 4  # s: how far the anchor jumps; 0 keeps it at position 0
    run_ahead_start: int = 8  # the anchor's first position n; not used with stride 0
    steps: int = 4  # denoising steps
    shift: float = 5.0  # of the noise schedule towards high noise
    fusion: float = 0.5  # the knot's weight in the fused prediction: 0 keeps the new one, 1 the knot
    use_anchor: bool = True
    start_from_reference: bool = False  # the reference is the first knot

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            _require(
                isinstance(value, int) and not isinstance(value, bool) and value >= least,
                f"{name} is {value!r}; it must be a whole number of at least {least}",
            )
        _require(
            self.num_knot_frames <= self.num_chunk_frames,
            f"num_knot_frames is {self.num_knot_frames}, longer than a chunk of {self.num_chunk_frames}; "
            "shorten the knot or lengthen the chunk",
        )
        for name, (low, high) in _BETWEEN.items():
            value = getattr(self, name)
            _require(
                isinstance(value, int | float) and low <= value <= high,
                f"{name} is {value!r}; it must be a number between {low} and {high}",
            )
        for name in ("use_anchor", "start_from_reference"):
            _require(
                isinstance(getattr(self, name), bool), f"{name} is {getattr(self, name)!r}; it must be True or False"
            )
        _require(
            not self.start_from_reference or self.num_knot_frames > 0,
            "start_from_reference makes the reference the first knot, but num_knot_frames is 0; "
            "set it to 1 or turn start_from_reference off",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StreamSettings":
        """Read what `to_dict` gave; unknown fields are errors."""
        _require_known_fields(cls, values)
        return cls(**values)


_BETWEEN: Mapping[str, tuple[int, int]] = {"shift": (1, 100), "fusion": (0, 1)}
_LEAST: Mapping[str, int] = {
    "num_chunk_frames": 1,
    "num_knot_frames": 0,
    "num_window_frames": 0,
    "run_ahead_stride": 0,
    "run_ahead_start": 0,
    "steps": 1,
}
