"""Recipes: every setting of every stage, for a network. One recipe decides a result, from clips to weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from knot_core.codec.taehv import CodecConfig
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.config import UNITS, UNITS_DIM, AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import SettingsError
from knot_core.media.landmark_names import LANDMARKS

from .stage_recipes import (
    CausalRecipe,
    ClipRecipe,
    CodecRecipe,
    DistillRecipe,
    FaceCodecRecipe,
    LoraRecipe,
    RegressionRecipe,
    StageRecipe,
    require,
)

PRECISIONS = ("bfloat16", "float32")
OPTIMIZERS = ("adamw", "muon")
OBJECTIVES = ("flow", "ode")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the result."""

    name: str
    network: NetworkConfig  # of all roles
    stream: StreamSettings = field(default_factory=StreamSettings)
    teacher: StageRecipe
    causal: CausalRecipe
    distill: DistillRecipe
    # Stages that learn from drawn portraits; None where the recipe has none.
    codec: CodecRecipe | None = None
    decoder: CodecRecipe | None = None  # the codec's decoder, trained on
    face_codec: FaceCodecRecipe | None = None
    clips: ClipRecipe | None = None
    stills: ClipRecipe | None = None  # pictures of many more people
    student: RegressionRecipe | None = None
    variants: RegressionRecipe | None = None  # the student, trained on for each way to stream
    knot_lora: LoraRecipe | None = None
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

    def __post_init__(self) -> None:
        chunk, stream = self.stream.num_chunk_frames, self.stream
        require(self.clip_frames % chunk == 0, f"clip_frames is {self.clip_frames}; it must be whole chunks of {chunk}")
        require(
            self.batch % self.micro_batch == 0,
            f"batch is {self.batch}; it must be a multiple of micro_batch, {self.micro_batch}",
        )
        require(
            stream.num_sink_frames == 0 and stream.rope_positions == "absolute",
            "the stream has sinks or window positions, but training rolls out with an anchor alone; turn them off",
        )
        _require_one_of("precision", self.precision, PRECISIONS)
        _require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        _require_one_of("causal.objective", self.causal.objective, OBJECTIVES)

    @property
    def num_chunks(self) -> int:
        """The number of chunks in a clip."""
        return self.clip_frames // self.stream.num_chunk_frames

    @property
    def example_frames(self) -> int:
        """Latent frames that a clip on disc must have: the last chunk draws a knot, too."""
        return self.clip_frames + self.stream.num_knot_frames


def _require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, f"{name} is {value!r}; choose one of {', '.join(choices)}")


TINY_NETWORK = NetworkConfig(
    dim=256, ffn_dim=1024, num_heads=2, num_layers=8, in_channels=36, layout="inpaint36", adapter=AdapterConfig()
)
_TINY_CODEC = CodecConfig(encoder=(16, 32, 64, 96), decoder=(160, 64, 32, 24))
# A short training of a network that has learnt to stream: streams from the first step on, at lower rates, and not with
# the random numbers that its weights were trained with.
_FURTHER = {"steps": 200, "alone_last": 0.2, "turn": (0.0, 0.01), "save_every": 50}
KNOT_TINY = Recipe(
    name="knot-tiny",
    network=TINY_NETWORK,
    codec=CodecRecipe(
        codec=_TINY_CODEC, steps=3600, lr=1.5e-3, muon_lr=2.5e-3, warmup=60, floor=0.01, save_every=200, log_every=20
    ),
    decoder=CodecRecipe(
        codec=_TINY_CODEC, steps=2400, lr=5e-4, muon_lr=1e-3, warmup=30, floor=0.01, save_every=200, log_every=20,
        noise_ramp=1, contrast=1.0, motion=1.0, first=100_000,
    ),
    clips=ClipRecipe(),
    stills=ClipRecipe(latent_frames=1, shard=256, first=1_000_000, speaking=0.0),
    student=RegressionRecipe(steps=4200, lr=1.5e-3, muon_lr=4e-3, warmup=60, save_every=50),
    variants=RegressionRecipe(lr=5e-4, muon_lr=1.3e-3, warmup=20, seed=7, **_FURTHER),
    knot_lora=LoraRecipe(lr=2e-3, warmup=10, weight_decay=0.0, seed=11, **_FURTHER),
    teacher=StageRecipe(steps=6000, lr=1.5e-3, muon_lr=4e-3),
    causal=CausalRecipe(steps=2000, lr=5e-4, muon_lr=1.5e-3),
    distill=DistillRecipe(steps=2000, lr=2e-4, muon_lr=5e-4, critic_lr=2e-4, critic_updates=3, warmup=20),
    optimizer="muon",
)  # fmt: skip
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
# A person's photo moves: pixels are copied from it, so the latents are few and the network stays small.
KNOT_FACE = Recipe(
    name="knot-face",
    family="knot-face",
    network=replace(TINY_NETWORK, text_dim=64, adapter=AdapterConfig(name=UNITS, signal_dim=UNITS_DIM)),  # no prompt
    # Muon's orthogonalisation is in bfloat16, which without hardware for it takes four times as long as all the rest
    face_codec=FaceCodecRecipe(
        codec=WarpingConfig(points=len(LANDMARKS)),
        steps=60_000,
        lr=8e-4,
        weight_decay=0.0,
        average=0.998,
        save_every=200,
        sample_every=200,
    ),
    student=RegressionRecipe(steps=8000, lr=6e-4, weight_decay=0.0, warmup=60, save_every=100, chunks=1),
    teacher=StageRecipe(steps=6000, lr=1.5e-3, muon_lr=4e-3),
    causal=CausalRecipe(steps=2000, lr=5e-4, muon_lr=1.5e-3),
    distill=DistillRecipe(steps=2000, lr=2e-4, muon_lr=5e-4, critic_lr=2e-4, critic_updates=3, warmup=20),
    height=256,
    width=256,
)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (KNOT_TINY, KNOT_FACE, WAN_1_3B)}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in RECIPES:
        raise SettingsError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
