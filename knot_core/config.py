"""Frozen settings of a network, which check themselves; those of a stream are in `stream_settings.py`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .checks import require, require_choices, require_counts, require_known_fields, require_switches
from .errors import CheckpointError, short
from .geometry import LATENT_CHANNELS
from .stream_settings import StreamSettings, check_setting

__all__ = [
    "CONTROLS",
    "LAYOUT_CHANNELS",
    "PACKED",
    "UNITS",
    "WINDOWS",
    "Adapter",
    "AdapterConfig",
    "AudioCrossConfig",
    "NetworkConfig",
    "StreamSettings",
    "check_setting",
    "takes_controls",
]  # fmt: skip

# input channels of each channel layout; wan/layouts.py says what stands in them
LAYOUT_CHANNELS: Mapping[str, int] = {"inpaint36": 36, "ref33": 33, "t2v16": LATENT_CHANNELS}
TIMESTEP_DTYPES = ("float32", "bfloat16")
UNKNOWN_FRAMES = ("zeros", "grey")
# What an adapter is fed, by name: sound, controls and flags; sound, face units with a pose, and flags; wav2vec2's
# states of a latent frame's pixel frames, or of windows around them.
CONTROLS, UNITS, PACKED, WINDOWS = "controls", "units", "packed", "windows"
UNITS_DIM = 122  # values of a pixel frame: 64 of sound, 52 units, 3 of the pose, 3 flags
# Shapes of signals that belong to one name alone; the first was the only one with controls before there were names.
_NAMED_SHAPES = {(75, 4): CONTROLS, (UNITS_DIM, 4): UNITS}
_LATER = ("image_dim", "timestep_dtype", "unknown_frames", "known_in_x")  # fields that came later


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """How driving enters (LiveTalk / OmniAvatar structure): `num_packed` pixel frames' signals per latent frame.

    `name` says what it is fed: CONTROLS, sound bands with expression controls and flags, as knot-tiny; UNITS, the same
    with ARKit's face units and a pose, as knot-face; or PACKED, states of wav2vec2. Files that are older than names
    have none: their signal's shape says it.
    """

    signal_dim: int = 75  # values of a pixel frame
    num_packed: int = 4
    hidden_dim: int = 64
    blocks: tuple[int, ...] = tuple(range(8))  # added to the tokens just before these transformer blocks
    name: str = ""

    def __post_init__(self) -> None:
        require(
            isinstance(self.blocks, tuple | list | range) and all(type(block) is int for block in self.blocks),
            f"adapter blocks are {short(self.blocks)}; they must be block numbers",
        )
        object.__setattr__(self, "blocks", tuple(self.blocks))
        require_counts(self, "signal_dim", "num_packed", "hidden_dim")
        ascending = sorted(set(self.blocks))
        require(
            self.blocks == tuple(ascending) and min(self.blocks, default=0) >= 0,
            f"adapter blocks are {short(self.blocks)}; they must be different block numbers in ascending order",
        )
        object.__setattr__(self, "name", self.name or self.name_by_shape)
        require_choices(self, {"name": (CONTROLS, UNITS, PACKED)})
        require(
            self.name != UNITS or self.signal_dim == UNITS_DIM,
            f"an adapter of face units has signals of {UNITS_DIM} values, not {short(self.signal_dim)}",
        )

    @property
    def name_by_shape(self) -> str:
        """The name to assume for an adapter whose file does not state one."""
        return _NAMED_SHAPES.get((self.signal_dim, self.num_packed), PACKED)


@dataclass(frozen=True, kw_only=True)
class AudioCrossConfig:
    """How driving enters (MultiTalk / InfiniteTalk structure): each latent frame attends to tokens made of its sound.

    A latent frame's signal is `num_packed` entries, one per pixel frame that it looks at; a stream's first latent frame
    covers one pixel frame only and has `num_first` of them.
    """

    name: ClassVar[str] = WINDOWS
    signal_dim: int = 12 * 768  # of one entry: every layer of wav2vec2, layer-major
    num_packed: int = 8
    num_first: int = 5
    hidden_dim: int = 512
    num_tokens: int = 32  # per latent frame
    token_dim: int = 768
    norm_input: bool = True  # whether the picture's tokens are normalised before they look (norm_x)
    norm_output: bool = True  # whether the sound's tokens are (audio_proj.norm)

    def __post_init__(self) -> None:
        require_counts(self, "signal_dim", "num_packed", "num_first", "hidden_dim", "num_tokens", "token_dim")
        require(
            self.num_first <= self.num_packed,
            f"num_first is {self.num_first}, more than the {self.num_packed} entries of a latent frame (num_packed)",
        )


Adapter = AdapterConfig | AudioCrossConfig


def takes_controls(adapter: Adapter | None) -> bool:
    """Whether expression controls move it beside sound, as they are or as face units. All other adapters take wav2vec2
    features.
    """
    return adapter is not None and adapter.name in (CONTROLS, UNITS)


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
    adapter: Adapter | None = None
    image_dim: int | None = None  # of the CLIP tokens of I2V networks; None where there are none
    timestep_dtype: str = "float32"  # what the timestep is rounded to before the network is fed
    # What stands in the condition channels of frames that are not known, where a layout has some: zeros, or what its
    # video autoencoder makes of grey pictures behind the reference (Wan I2V).
    unknown_frames: str = "zeros"
    known_in_x: bool = False  # whether known frames stand in x as well, clean, at every step (InfiniteTalk)

    def __post_init__(self) -> None:
        require_counts(self, "dim", "ffn_dim", "num_heads", "num_layers", "out_channels", "text_dim", "freq_dim")
        require(isinstance(self.eps, float) and 0 < self.eps < 1, f"eps is {short(self.eps)}; it must be in (0, 1)")
        require(
            self.dim % (2 * self.num_heads) == 0 and self.head_dim >= 6,
            f"dim {self.dim} over {self.num_heads} heads leaves no even head_dim >= 6; choose another num_heads",
        )
        require(self.freq_dim % 2 == 0, f"freq_dim is {self.freq_dim}; it must be even (sines and cosines)")
        require(
            isinstance(self.layout, str) and self.layout in LAYOUT_CHANNELS,
            f"layout {short(self.layout)} is not known; choose one of {', '.join(LAYOUT_CHANNELS)}",
        )
        require(
            self.in_channels == LAYOUT_CHANNELS[self.layout],
            f"layout {self.layout} has {LAYOUT_CHANNELS[self.layout]} input channels, not {short(self.in_channels)}; "
            "name the layout that its input channels have",
        )
        if self.image_dim is not None:
            require_counts(self, "image_dim")
        require(
            self.timestep_dtype in TIMESTEP_DTYPES,
            f"timestep_dtype is {short(self.timestep_dtype)}; choose one of {', '.join(TIMESTEP_DTYPES)}",
        )
        require_choices(self, {"unknown_frames": UNKNOWN_FRAMES})
        require_switches(self, "known_in_x")
        require(
            self.layout == "inpaint36" or (self.unknown_frames == "zeros" and not self.known_in_x),
            f"layout {self.layout} has no condition channels; leave unknown_frames and known_in_x out",
        )
        if isinstance(self.adapter, AdapterConfig):
            last = max(self.adapter.blocks, default=0)
            require(
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
        for name in _LATER:
            if values[name] == type(self).__dataclass_fields__[name].default:
                del values[name]
        if isinstance(self.adapter, AudioCrossConfig):
            values["adapter"]["kind"] = _AUDIO_CROSS
        elif self.adapter is not None and self.adapter.name == self.adapter.name_by_shape:
            del values["adapter"]["name"]  # came later, too
        return values

    def identity(self) -> dict[str, Any]:
        """The fields that distinguish two networks, without those added later that describe their inputs."""
        return {name: value for name, value in self.to_dict().items() if name not in ("unknown_frames", "known_in_x")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """Read what `to_dict` gave; unknown or missing fields are errors."""
        require_known_fields(cls, values)
        return cls(**{**values, "adapter": _adapter_from_dict(values.get("adapter"))})


_AUDIO_CROSS = "audio_cross"


def _adapter_from_dict(values: Any) -> Adapter | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise CheckpointError(f"the stored adapter is {short(values)}, and must name its fields; get it again")
    cls = AudioCrossConfig if values.get("kind") == _AUDIO_CROSS else AdapterConfig
    fields = {name: value for name, value in values.items() if cls is AdapterConfig or name != "kind"}
    require_known_fields(cls, fields)
    return cls(**fields)
