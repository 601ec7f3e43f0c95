"""Recipes: every setting of the three stages from teacher to student, for a network."""

from __future__ import annotations

import dataclasses
from ast import literal_eval
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import SettingsError

PRECISIONS = ("bfloat16", "float32")
OPTIMIZERS = ("adamw", "muon")
OBJECTIVES = ("flow", "ode")
R = TypeVar("R")
TINY_NETWORK = NetworkConfig(
    dim=256, ffn_dim=1024, num_heads=2, num_layers=8, in_channels=36, layout="inpaint36", adapter=AdapterConfig()
)
_MAY_BE_NONE = ("adapter", "image_dim")


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """What every stage has: how long, how fast, how often it is written down."""

    steps: int
    lr: float
    muon_lr: float = 2e-3  # of inner weights, with the optimiser `muon`
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup: int = 50
    average: float = 0.995  # of the averaged weights
    save_every: int = 100  # steps that are lost at most
    sample_every: int = 500
    log_every: int = 10


@dataclass(frozen=True, kw_only=True)
class CausalRecipe(StageRecipe):
    """From the bidirectional teacher to a network that streams."""

    objective: str = "flow"  # or "ode": regression on the teacher's ODE paths
    ode_steps: int = 48
    past_noise: float = 0.1  # most noise on the past, which later is the student's own


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(StageRecipe):
    """From many steps to few, on the student's own streams."""

    critic_lr: float
    critic_updates: int = 5  # before each of the student's (DMD2)
    most_lead: int = 8  # chunks that a rollout may run before the clip that is scored
    guidance: float = 1.0  # of the teacher


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the result."""

    name: str
    network: NetworkConfig  # of all three roles
    stream: StreamSettings = field(default_factory=StreamSettings)
    teacher: StageRecipe
    causal: CausalRecipe
    distill: DistillRecipe
    family: str = "knot-tiny"  # what the result streams like: speech, controls, no text needed
    height: int = 128
    width: int = 128
    clip_frames: int = 15  # latent frames of a clip: what teacher and critic see at once
    batch: int = 8  # clips of an update, over all processes
    micro_batch: int = 8  # of them at once in a process
    known: float = 0.5  # share of the teacher's clips whose first frames are given
    later: int = 8  # latent frames that the reference may lie behind the clip's last
    drop: tuple[float, float, float] = (0.1, 0.1, 0.1)  # shares of clips without speech, without controls, without both
    optimizer: str = "adamw"
    precision: str = "bfloat16"
    recompute: bool = False  # activations in the backward pass: less memory, a third more time
    seed: int = 0

    def __post_init__(self) -> None:
        chunk, stream = self.stream.num_chunk_frames, self.stream
        _require(
            self.clip_frames % chunk == 0, f"clip_frames is {self.clip_frames}; it must be whole chunks of {chunk}"
        )
        _require(
            self.batch % self.micro_batch == 0,
            f"batch is {self.batch}; it must be a multiple of micro_batch, {self.micro_batch}",
        )
        _require(
            stream.num_sink_frames == 0 and stream.rope_positions == "absolute",
            "the stream has sinks or window positions, but training rolls out with an anchor alone; turn them off",
        )
        _require_one_of("precision", self.precision, PRECISIONS)
        _require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        _require_one_of("causal.objective", self.causal.objective, OBJECTIVES)

    @property
    def num_chunks(self) -> int:
        """Of a clip."""
        return self.clip_frames // self.stream.num_chunk_frames

    @property
    def example_frames(self) -> int:
        """Latent frames that a clip on disc must have: the last chunk draws a knot, too."""
        return self.clip_frames + self.stream.num_knot_frames


def changed(recipe: R, changes: Iterable[str]) -> R:
    """The recipe with `name=value` changes, all at once; names go down by dots, as in `distill.steps=100`."""
    tree: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise SettingsError(f"got --set {change}; give name=value, such as distill.steps=100")
        *above, last = name.split(".")
        place = tree
        for step in above:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise SettingsError(f"got --set {change}, but {step} is set, too; give one of them")
        place[last] = _value(text)
    return _replaced(recipe, tree, "")


def _value(text: str) -> object:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _replaced(settings: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    known = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings)}
    values = {}
    for name, value in tree.items():
        if name not in known:
            raise SettingsError(f"got --set {prefix}{name}; {type(settings).__name__} has {', '.join(known)}")
        old = known[name]
        if dataclasses.is_dataclass(old) and isinstance(value, dict):
            values[name] = _replaced(old, value, f"{prefix}{name}.")
        else:
            values[name] = _like(old, value, prefix + name)
    return replace(settings, **values)


def _like(old: object, value: object, name: str) -> object:
    """The value as what was there is: whole numbers do for any number, lists for tuples."""
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if value is None and name.rpartition(".")[2] in _MAY_BE_NONE:
        return None
    if old is not None and type(value) is not type(old):
        raise SettingsError(f"got --set {name}={value!r}; it is {old!r} now, give a value like that")
    return value


def _require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, f"{name} is {value!r}; choose one of {', '.join(choices)}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SettingsError(message)


KNOT_TINY = Recipe(
    name="knot-tiny",
    network=TINY_NETWORK,
    teacher=StageRecipe(steps=6000, lr=1.5e-3, muon_lr=4e-3),
    causal=CausalRecipe(steps=2000, lr=5e-4, muon_lr=1.5e-3),
    distill=DistillRecipe(steps=2000, lr=2e-4, muon_lr=5e-4, critic_lr=2e-4, critic_updates=3, warmup=20),
    optimizer="muon",
)
_WAN_1_3B = NetworkConfig(
    dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, in_channels=36, layout="inpaint36",
    adapter=AdapterConfig(hidden_dim=32, blocks=tuple(range(2, 16))),
)  # fmt: skip
# Rates, betas, batch and number of updates as Self Forcing publishes them; 81 pixel frames, a knot more on disc.
WAN_1_3B = Recipe(
    name="wan-1.3b",
    network=_WAN_1_3B,
    teacher=StageRecipe(steps=20_000, lr=1e-5, betas=(0.9, 0.999), warmup=500, average=0.999, save_every=250),
    causal=CausalRecipe(steps=3000, lr=2e-6, betas=(0.9, 0.999), warmup=100, average=0.99, save_every=250),
    distill=DistillRecipe(
        steps=600, lr=2e-6, critic_lr=4e-7, betas=(0.0, 0.999), warmup=0, average=0.99, save_every=50,
        sample_every=50, guidance=3.0,
    ),
    height=480,
    width=832,
    clip_frames=21,
    batch=64,
    micro_batch=1,
    recompute=True,
)  # fmt: skip
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (KNOT_TINY, WAN_1_3B)}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in RECIPES:
        raise SettingsError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
