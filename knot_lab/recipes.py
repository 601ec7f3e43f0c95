"""Recipes: every setting of every stage, for a network. One recipe decides a result, from clips to weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from knot_core.codec.taehv import CodecConfig
from knot_core.codec.warping import WarpingConfig
from knot_core.config import UNITS, UNITS_DIM, AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import SettingsError

PRECISIONS = ("bfloat16", "float32")
OPTIMIZERS = ("adamw", "muon")
OBJECTIVES = ("flow", "ode")


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """The settings that every stage has: its length, learning rates, and how often it saves."""

    steps: int
    lr: float
    muon_lr: float = 2e-3  # of inner weights, with the optimiser `muon`
    betas: tuple[float, float] = (0.9, 0.98)  # of AdamW, with the optimiser `adamw`
    weight_decay: float = 0.01  # the same
    warmup: int = 50
    floor: float = 0.02  # of the learning rate at the end, as a share
    average: float = 0.995  # of the averaged weights
    seed: int = 0
    save_every: int = 100  # steps that are lost at most
    sample_every: int = 500
    log_every: int = 10


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(StageRecipe):
    """The video autoencoder, on parts of drawn portraits."""

    codec: CodecConfig
    size: int = 128
    crop: int = 64  # side of the part of each clip that is trained on
    face_crops: float = 0.7  # share of the crops that look at the face
    clips: int = 8
    groups: int = 2  # latent frames of a clip
    noise: float = 0.1
    noise_ramp: int = 500  # steps until the noise is whole
    pull: float = 3e-4
    edges: float = 1.0
    contrast: float = 0.0  # how strong edges are
    motion: float = 0.0  # what changes from picture to picture
    face: float = 1.0
    features: float = 3.0
    first: int = 0  # the first identity


@dataclass(frozen=True, kw_only=True)
class FaceCodecRecipe(StageRecipe):
    """The video autoencoder that moves a reference picture."""

    codec: WarpingConfig = field(default_factory=WarpingConfig)
    size: int = 256
    groups: int = 2  # latent frames of a clip
    clips: int = 3
    stills: float = 0.5  # share of the steps that take single pictures, of more people
    still_clips: int = 9
    warped_size: int = 128  # side of the warped pictures, of which there are twice as many
    rendered: float = 0.9  # share of the steps that take rendered heads, once there are some
    portraits: float = 0.03  # share of the steps that take drawn portraits
    textured: float = 0.3  # share of the rendered heads that get a texture
    noise: float = 0.1  # standard deviation of what is added to the latents
    noise_ramp: int = 500  # steps until the noise is whole
    cameras: float = 0.7  # how much light and cameras differ that show the encoder frames and reference
    pull: float = 0.01
    edges: float = 1.0
    whole: float = 0.5  # what a clip's last picture counts at its whole size, beside all of them at half of it
    copied: float = 0.5  # how much the copy counts by itself, where the reference shows the place
    flow: float = 0.1  # a pixel
    rough: float = 0.5  # what the flow at an eighth of the size counts of that, and at a sixteenth
    points: float = 0.1  # a pixel of the flow at landmarks, and of lids and lips by themselves
    masked: float = 0.1
    hidden: float = 3.0  # how often the mask's loss counts a place that the reference hides
    painted: float = 0.5  # how much what is painted counts by itself, where the reference does not show the place
    landmarks: float = 0.2  # that are read from latents
    face: float = 2.0
    features: float = 6.0


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """Drawn clips, as latents with their driving signals."""

    latent_frames: int = 16
    references: int = 8  # with two, the student learns them by heart: other pictures of the same people then fail
    shard: int = 64
    first: int = 0  # the first identity
    speaking: float = 0.65  # share of the clips in which speech moves the mouth
    size: int = 128
    split: str = "train"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RegressionRecipe(StageRecipe):
    """The few-step network, on single frames and by rolling clips out as a stream runs."""

    clips: int = 4
    chunks: int = 5
    alone_clips: int = 16  # clips of a step that trains without a past: only the anchor tells who it is
    alone_frames: int = 6  # single frames of each, apart in time: the reference is encoded once for them all
    alone_sigma: float = 0.85  # share of them drawn at sigma 1
    still: float = 0.7  # share of such steps that take pictures of the many people there are no clips of
    alone_first: float = 0.95  # share of such steps at first: what a past shows is not learnt from the reference
    alone_last: float = 0.3
    first_sigma: float = 0.5  # share of a stream's chunks drawn at sigma 1, where everything is decided
    turn: tuple[float, float] = (0.7, 0.84)  # shares of the training between which chunks get a past, and it their own
    contrast: float = 0.3  # how much the strength of latents' edges counts
    adversarial: float = 0.0  # how strongly a discriminator pulls, as a share of the regression's gradient
    own_most: float = 0.8  # how often the past is the student's own after the turn
    context_noise: float = 0.12  # most noise added to a true past
    face: float = 5.0  # how much more a latent pixel in the face box counts
    mouth: float = 10.0  # how much more still one where the mouth is

    def turned(self, step: int) -> float:
        """How far the training has turned from single frames to streams: 0 before, 1 after."""
        begin, end = self.turn
        return min(1.0, max(0.0, (step / self.steps - begin) / (end - begin)))

    def alone(self, step: int) -> float:
        """How often a step is of single frames."""
        return self.alone_first + self.turned(step) * (self.alone_last - self.alone_first)


@dataclass(frozen=True, kw_only=True)
class LoraRecipe(RegressionRecipe):
    """Low-rank layers beside a network that stays as it is, by the regression's own steps."""

    rank: int = 16
    alpha: float = 16.0  # the layers' product counts alpha / rank times

    def __post_init__(self) -> None:
        for name in ("adversarial", "muon_lr"):
            _require(
                getattr(self, name) == getattr(RegressionRecipe, name),
                f"got {name} for knot-lora, which has no use for it; leave it out",
            )
        _require(self.rank >= 1, f"rank is {self.rank}; it must be at least 1")


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
        """The number of chunks in a clip."""
        return self.clip_frames // self.stream.num_chunk_frames

    @property
    def example_frames(self) -> int:
        """Latent frames that a clip on disc must have: the last chunk draws a knot, too."""
        return self.clip_frames + self.stream.num_knot_frames


def _require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, f"{name} is {value!r}; choose one of {', '.join(choices)}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise SettingsError(message)


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
        steps=60_000, lr=8e-4, weight_decay=0.0, average=0.998, save_every=200, sample_every=200
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
