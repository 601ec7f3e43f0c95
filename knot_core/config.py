"""Frozen settings that check themselves: of the network, and of a stream."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .errors import CheckpointError, SettingsError, listed, short
from .geometry import LATENT_CHANNELS

# input channels of each channel layout; wan/layouts.py says what stands in them
LAYOUT_CHANNELS: Mapping[str, int] = {"inpaint36": 36, "ref33": 33, "t2v16": LATENT_CHANNELS}
ROPE_POSITIONS = ("absolute", "window")
TIMESTEP_DTYPES = ("float32", "bfloat16")
_MOST_OF_A_NETWORK = 2**20  # a size beyond it is no Wan network's but a mistake, or a stranger's joke


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SettingsError(message)


def _require_counts(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _require(
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_OF_A_NETWORK,
            f"{name} is {short(value)}; it must be a whole number from 1 to {_MOST_OF_A_NETWORK}",
        )


def _require_known_fields(cls: type, values: Any) -> None:
    if not isinstance(values, Mapping):
        raise CheckpointError(f"the stored {cls.__name__} is {short(values)}, and must name its fields; get it again")
    fields = dataclasses.fields(cls)
    unknown = sorted(str(name) for name in set(values) - {field.name for field in fields})
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise CheckpointError(
            f"the stored {cls.__name__} has unknown fields [{listed(unknown)}] and lacks [{listed(missing)}]; "
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
        _require(
            isinstance(self.blocks, tuple | list | range) and all(type(block) is int for block in self.blocks),
            f"adapter blocks are {short(self.blocks)}; they must be block numbers",
        )
        object.__setattr__(self, "blocks", tuple(self.blocks))
        _require_counts(self, "signal_dim", "num_packed", "hidden_dim")
        ascending = sorted(set(self.blocks))
        _require(
            self.blocks == tuple(ascending) and min(self.blocks, default=0) >= 0,
            f"adapter blocks are {short(self.blocks)}; they must be different block numbers in ascending order",
        )


def takes_controls(adapter: "AdapterConfig | AudioCrossConfig | None") -> bool:
    """Whether it is fed the built-in model's signal: sound, controls and flags. All others hear through wav2vec2."""
    ours = AdapterConfig()
    return isinstance(adapter, AdapterConfig) and (
        (adapter.signal_dim, adapter.num_packed) == (ours.signal_dim, ours.num_packed)
    )


@dataclass(frozen=True, kw_only=True)
class AudioCrossConfig:
    """How driving enters (MultiTalk / InfiniteTalk structure): each latent frame attends to tokens made of its sound.

    A latent frame's signal is `num_packed` entries, one per pixel frame that it looks at; a stream's first latent frame
    covers one pixel frame only and has `num_first` of them.
    """

    signal_dim: int = 12 * 768  # of one entry: every layer of wav2vec2, layer-major
    num_packed: int = 8
    num_first: int = 5
    hidden_dim: int = 512
    num_tokens: int = 32  # per latent frame
    token_dim: int = 768
    norm_input: bool = True  # whether the picture's tokens are normalised before they look (norm_x)
    norm_output: bool = True  # whether the sound's tokens are (audio_proj.norm)

    def __post_init__(self) -> None:
        _require_counts(self, "signal_dim", "num_packed", "num_first", "hidden_dim", "num_tokens", "token_dim")
        _require(
            self.num_first <= self.num_packed,
            f"num_first is {self.num_first}, more than the {self.num_packed} entries of a latent frame (num_packed)",
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
    adapter: AdapterConfig | AudioCrossConfig | None = None
    image_dim: int | None = None  # of the CLIP tokens of I2V networks; None where there are none
    timestep_dtype: str = "float32"  # what the timestep is rounded to before the network is fed

    def __post_init__(self) -> None:
        _require_counts(self, "dim", "ffn_dim", "num_heads", "num_layers", "out_channels", "text_dim", "freq_dim")
        _require(isinstance(self.eps, float) and 0 < self.eps < 1, f"eps is {short(self.eps)}; it must be in (0, 1)")
        _require(
            self.dim % (2 * self.num_heads) == 0 and self.head_dim >= 6,
            f"dim {self.dim} over {self.num_heads} heads leaves no even head_dim >= 6; choose another num_heads",
        )
        _require(self.freq_dim % 2 == 0, f"freq_dim is {self.freq_dim}; it must be even (sines and cosines)")
        _require(
            isinstance(self.layout, str) and self.layout in LAYOUT_CHANNELS,
            f"layout {short(self.layout)} is not known; choose one of {', '.join(LAYOUT_CHANNELS)}",
        )
        _require(
            self.in_channels == LAYOUT_CHANNELS[self.layout],
            f"layout {self.layout} has {LAYOUT_CHANNELS[self.layout]} input channels, not {short(self.in_channels)}; "
            "name the layout that its input channels have",
        )
        if self.image_dim is not None:
            _require_counts(self, "image_dim")
        _require(
            self.timestep_dtype in TIMESTEP_DTYPES,
            f"timestep_dtype is {short(self.timestep_dtype)}; choose one of {', '.join(TIMESTEP_DTYPES)}",
        )
        if isinstance(self.adapter, AdapterConfig):
            last = max(self.adapter.blocks, default=0)
            _require(
                last < self.num_layers,
                f"the adapter feeds block {last}, but the network has {self.num_layers} blocks",
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON.

        Fields that came later are left out at their defaults: a network that has no use for them is described, and
        told apart, as it always was.
        """
        values = dataclasses.asdict(self)
        for name in ("image_dim", "timestep_dtype"):
            if values[name] == type(self).__dataclass_fields__[name].default:
                del values[name]
        if isinstance(self.adapter, AudioCrossConfig):
            values["adapter"]["kind"] = _AUDIO_CROSS
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """Read what `to_dict` gave; unknown or missing fields are errors."""
        _require_known_fields(cls, values)
        return cls(**{**values, "adapter": _adapter_from_dict(values.get("adapter"))})


_AUDIO_CROSS = "audio_cross"


def _adapter_from_dict(values: Any) -> AdapterConfig | AudioCrossConfig | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise CheckpointError(f"the stored adapter is {short(values)}, and must name its fields; get it again")
    cls = AudioCrossConfig if values.get("kind") == _AUDIO_CROSS else AdapterConfig
    fields = {name: value for name, value in values.items() if cls is AdapterConfig or name != "kind"}
    _require_known_fields(cls, fields)
    return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Settings of one stream. Lengths and positions are in latent frames."""

    num_chunk_frames: int = 3  # c: committed together
    num_knot_frames: int = 1  # k: shared by two neighbouring chunks; 0 turns the knot off
    num_window_frames: int = 6  # L: committed frames a chunk may attend to, besides sinks; 0 leaves the anchor alone
    num_sink_frames: int = 0  # first committed frames that every chunk may attend to, for ever
    sink_decay: float = 1.0  # d: a sink becomes d * sink + (1 - d) * the frame that leaves the window; 1 freezes it
    rope_positions: str = "absolute"  # or "window": sinks stand just before the window, however far it has gone
    run_ahead_stride: int = 4  # s: how far the anchor jumps; 0 keeps it at position 0
    run_ahead_start: int = 8  # the anchor's first position n; not used with stride 0
    steps: int = 4  # denoising steps
    shift: float = 5.0  # of the noise schedule towards high noise
    timesteps: tuple[float, ...] = ()  # in (0, 1000], highest first: used instead of `steps` and `shift`
    first_timesteps: tuple[float, ...] = ()  # the same for the first chunk alone
    fusion: float = 0.5  # the knot's weight in the fused prediction: 0 keeps the new one, 1 the knot
    use_anchor: bool = True
    start_from_reference: bool = False  # the reference is the first knot

    def __post_init__(self) -> None:
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            _require(
                isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
                f"{name} is {short(value)}; it must be a whole number from {least} to {most}",
            )
        _require(
            self.num_knot_frames <= self.num_chunk_frames,
            f"num_knot_frames is {self.num_knot_frames}, longer than a chunk of {self.num_chunk_frames}; "
            "shorten the knot or lengthen the chunk",
        )
        for name, (low, high) in _BETWEEN.items():
            value = getattr(self, name)
            _require(
                isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
                f"{name} is {short(value)}; it must be a number between {low} and {high}",
            )
        for name in ("use_anchor", "start_from_reference"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"{name} is {short(value)}; it must be True or False")
        _require(
            self.rope_positions in ROPE_POSITIONS,
            f"rope_positions is {short(self.rope_positions)}; choose one of {', '.join(ROPE_POSITIONS)}",
        )
        _require(
            self.sink_decay == 1 or self.num_sink_frames > 0,
            f"sink_decay is {self.sink_decay}, but there are no sinks; set num_sink_frames, or sink_decay to 1",
        )
        for name in ("timesteps", "first_timesteps"):
            object.__setattr__(self, name, _checked_timesteps(name, getattr(self, name)))
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


def _checked_timesteps(name: str, given: Any) -> tuple[float, ...]:
    """Of JSON they come as a list."""
    _require(
        isinstance(given, tuple | list)
        and len(given) <= _MOST_STEPS
        and all(isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1000 for value in given)
        and all(a > b for a, b in pairwise(given)),
        f"{name} are {short(given)}; they must be numbers above 0 and up to 1000, each lower than the one before, "
        f"at most {_MOST_STEPS} of them",
    )
    return tuple(float(value) for value in given)


_BETWEEN: Mapping[str, tuple[int, int]] = {"shift": (1, 100), "fusion": (0, 1), "sink_decay": (0, 1)}
_MOST_STEPS = 1000  # as many as a network was trained to tell apart
_MOST_AT_ONCE = 1000  # latent frames of a chunk: 160 s at 25 a second
_MOST_FRAMES = 10**9  # latent frames of a window or a position: five years
_WHOLE: Mapping[str, tuple[int, int]] = {
    "num_chunk_frames": (1, _MOST_AT_ONCE),
    "num_knot_frames": (0, _MOST_AT_ONCE),
    "num_window_frames": (0, _MOST_FRAMES),
    "num_sink_frames": (0, _MOST_FRAMES),
    "run_ahead_stride": (0, _MOST_FRAMES),
    "run_ahead_start": (0, _MOST_FRAMES),
    "steps": (1, _MOST_STEPS),
}
