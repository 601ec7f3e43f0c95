"""Recipes of single stages: the settings of each, whatever the network."""

from __future__ import annotations

from dataclasses import dataclass, field

from knot_core.codec.taehv import CodecConfig
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.errors import SettingsError


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
    cropped: float = 0.0  # share of those steps that take an eye or a mouth alone, of more people
    crop: int = 64  # side of what they take
    crops: int = 24  # of these in a step; of single pictures four times as many
    tries: int = 1  # choices of frames in a rendered clip, of which the one is taken where eyes or mouth move most
    portraits: float = 0.03  # share of the steps that take drawn portraits
    textured: float = 0.3  # share of the rendered heads that get a texture
    encoder_learns: bool = True  # else the decoder alone, behind latents that a network may be trained on meanwhile
    noise: float = 0.1  # standard deviation of what is added to the latents
    noise_ramp: int = 500  # steps until the noise is whole
    toned: float = 0.0  # share of the clips that are grey or brown, as old photos are
    cameras: float = 0.7  # how much light and cameras differ that show the encoder frames and reference
    pull: float = 0.01
    edges: float = 1.0
    whole: float = 0.5  # what a clip's last picture counts at its whole size, beside all of them at half of it
    copied: float = 0.5  # how much the copy counts by itself, where the reference shows the place
    flow: float = 0.1  # a pixel
    apart: float = 0.0  # how much more a pixel counts for each that it moves otherwise than what is about it
    rough: float = 0.5  # what the flow at an eighth of the size counts of that, and at a sixteenth
    points: float = 0.1  # a pixel of the flow at landmarks, and of lids and lips by themselves
    masked: float = 0.1
    hidden: float = 3.0  # how often the mask's loss counts a place that the reference hides
    painted: float = 0.5  # how much what is painted counts by itself, where the reference does not show the place
    landmarks: float = 0.2  # that are read from latents
    told: float = 0.3  # share of the steps in which the decoder is told them; where eyes and mouths are alone, always
    blur: float = 0.4  # pixels by which what it is told is off
    misplaced: float = 0.0  # pixels by which it is off alike in the reference and in all frames
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
    past_noise: float = 0.12  # most noise added to a true past
    face: float = 5.0  # how much more a latent pixel in the face box counts
    mouth: float = 10.0  # how much more still one where the mouth is
    eyes: float = 0.0  # and one where the eyes are
    landmarks: float = 0.0  # a pixel by which those are off that latents tell by their code

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
            require(
                getattr(self, name) == getattr(RegressionRecipe, name),
                f"got {name} for knot-lora, which has no use for it; leave it out",
            )
        require(self.rank >= 1, f"rank is {self.rank}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class CausalRecipe(StageRecipe):
    """The way from the bidirectional teacher to a network that streams."""

    objective: str = "flow"  # or "ode": regression on the teacher's ODE paths
    ode_steps: int = 48
    past_noise: float = 0.1  # most noise on the past, which later is the student's own


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(StageRecipe):
    """The way from many steps to few, on the student's own streams."""

    critic_lr: float
    critic_updates: int = 5  # before each of the student's (DMD2)
    most_lead: int = 8  # chunks that a rollout may run before the clip that is scored
    guidance: float = 1.0  # of the teacher


def require(holds: bool, message: str) -> None:
    """Refuse a recipe.

    Raises:
        SettingsError: it does not hold.
    """
    if not holds:
        raise SettingsError(message)
