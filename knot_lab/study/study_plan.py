"""The protocol of a study: its streams and their drivings.

Every variant streams every identity twice. Mode ``full`` is the evaluation's: speech, pose and mouth are given, and the
truth is known. In mode ``steps`` the head jumps from side to side and the mouth follows the speech alone: how soon and
how well the driving is obeyed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from knot_core.config import StreamSettings
from knot_core.driving import Driving
from knot_core.driving.audio import SAMPLE_RATE
from knot_core.driving.expression_controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS
from knot_core.errors import SettingsError
from knot_core.media import Audio
from knot_core.model import Model
from knot_core.model_loading import ASSETS, BUILT_IN, load_model
from knot_core.stream import fingerprint

from ..evaluation.records import CODEC_DEFINITION, DEFINITION
from ..evaluation.scenes import Scene
from .variants import CONTROL, VARIANTS

BASELINES: Mapping[str, tuple[str, ...]] = {"full": ("truth", "codec"), "steps": ("truth",)}
_DEFINITION = 1  # of figures and scenes: raise it when their meaning changes, and old lines are measured again
_STEP = 0.45  # of yaw, to either side
_REST = 40  # pixel frames from jump to jump: no whole number of chunks, so jumps meet chunks in different places
_FIRST_STEP = 24
_LEAST_STEP_SECONDS = 5.0  # the first jump wherever it falls, and its rest
MODES = tuple(BASELINES)


@dataclass(frozen=True, kw_only=True)
class StepScene(Scene):
    """A head that jumps from side to side and else rests, while its mouth speaks."""

    @property
    def jumps(self) -> list[int]:
        """The first pixel frame after each jump; identities differ in where in a chunk they lie."""
        return list(range(_FIRST_STEP + self.number % _REST, self.num_pixel_frames, _REST))

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(first pixel frame after a jump, first after its rest), where that is whole."""
        return [(jump, jump + _REST) for jump in self.jumps if jump + _REST <= self.num_pixel_frames]

    @cached_property
    def controls(self) -> np.ndarray:
        """The eight controls of every pixel frame, float32 [T, 8]: yaw jumps from side to side, the mouth follows the
        speech.
        """
        side = np.zeros(self.num_pixel_frames, dtype=np.int64)
        side[self.jumps] = 1
        controls = np.zeros((self.num_pixel_frames, len(CONTROLS)), dtype=np.float32)
        controls[:, CONTROLS.index("yaw")] = np.where(side.cumsum() % 2, _STEP, -_STEP)
        controls[:, [CONTROLS.index(name) for name in MOUTH_CONTROLS]] = self.speech.mouth
        return controls

    def driving(self, mode: str, model: Model) -> Driving:  # noqa: ARG002
        """Speech and pose; the mouth is the model's to find in the speech."""
        sound = Audio(samples=torch.from_numpy(self.speech.waveform)[None], sample_rate=SAMPLE_RATE)
        pose = Driving.from_controls({name: self.controls[:, CONTROLS.index(name)] for name in POSE_CONTROLS})
        return Driving.from_audio(sound, model, pose=pose).lasting(self.num_pixel_frames)


@dataclass(frozen=True, kw_only=True)
class Form:
    """The size of a study."""

    identities: int
    seconds: float
    step_seconds: float


FORMS: Mapping[str, Form] = {
    "short": Form(identities=16, seconds=28.0, step_seconds=8.0),
    "full": Form(identities=32, seconds=600.0, step_seconds=24.0),
}


def form(name: str, identities: int | None, seconds: float | None) -> Form:
    """One of FORMS, with other numbers where they are given."""
    chosen = FORMS[name]
    seconds = chosen.seconds if seconds is None else seconds
    return Form(
        identities=chosen.identities if identities is None else identities,
        seconds=seconds,
        step_seconds=min(chosen.step_seconds, max(_LEAST_STEP_SECONDS, seconds)),
    )


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The settings of a study."""

    identities: int
    seconds: float  # of a stream of the mode ``full``
    step_seconds: float  # of one of the mode ``steps``
    steps: int
    variants: tuple[str, ...]
    model: str
    codec: str | None
    models: Path | None  # a folder of models for variants: VARIANT.safetensors, VARIANT-lora.safetensors
    device: str
    dtype: torch.dtype | None
    records: Path  # the JSON lines

    @property
    def form(self) -> str:
        """The name of its form; none if it has numbers of its own."""
        numbers = Form(identities=self.identities, seconds=self.seconds, step_seconds=self.step_seconds)
        return next((name for name, form in FORMS.items() if form == numbers), "")

    def load(self) -> dict[str, Model]:
        """Variant -> its model; the same one for all that have none of their own."""
        shared = load_model(self.model, self.device, self.dtype, self.codec)
        own = {name: self._load_own(path) for name, path in self.own_models().items()}
        return {name: own.get(name, shared) for name in self.variants}

    def own_models(self) -> dict[str, Path]:
        """Variant -> the file of the model that was trained for it."""
        if self.models is None:
            return {}
        found = {path.stem: path for path in sorted(self.models.glob("*.safetensors"))}
        found = {name: path for name, path in found.items() if not name.endswith(("-codec", "-lora"))}
        if "full" in found:
            raise SettingsError(
                f"{self.models} holds a model for full, which is the one that --model names; if it was trained on for "
                f"as long as the others there, call it {CONTROL}.safetensors: they are then held against it"
            )
        unknown = [name for name in found if name not in VARIANTS]
        if unknown or not found:
            raise SettingsError(
                f"{self.models} holds models for {', '.join(unknown) or 'no variant'}; name each file after its "
                f"variant: {', '.join(VARIANTS)}, with .safetensors"
            )
        return {name: path for name, path in found.items() if name in self.variants}

    def against(self) -> dict[str, str]:
        """Variant -> what it is held against, where that is not ``full``: an equal training, if there is one."""
        own = self.own_models()
        return {name: CONTROL for name in own if name != CONTROL} if CONTROL in own else {}

    def _load_own(self, path: Path) -> Model:
        """With its own codec where that lies beside it, else with the one that all share; with a LoRA beside it."""
        codec, lora = (path.with_name(f"{path.stem}-{part}.safetensors") for part in ("codec", "lora"))
        codec = codec if codec.exists() else self.shared_files()[1]
        return load_model(path, self.device, self.dtype, codec, lora=lora if lora.exists() else None)

    def shared_files(self) -> tuple[Path, Path]:
        """Weights and codec of the model under study."""
        weights = ASSETS / f"{self.model}.safetensors" if self.model in BUILT_IN else Path(self.model)
        return weights, Path(self.codec) if self.codec else weights.with_name(f"{weights.stem}-codec.safetensors")

    def settings(self, own: StreamSettings, variant: str) -> StreamSettings:
        """The settings of a variant's stream; `own` are those of the model under study."""
        return replace(VARIANTS[variant].settings(own), steps=self.steps)

    def runs(self) -> list[tuple[str, str]]:
        """(mode, variant) of every run of one identity; the baselines first."""
        return [(mode, name) for mode in MODES for name in (*BASELINES[mode], *self.variants)]

    def scene(self, mode: str, number: int, size: int) -> Scene:
        """The scene of an identity in a mode."""
        if mode == "steps":
            return StepScene(number=number, seconds=self.step_seconds, size=size)
        return Scene(number=number, seconds=self.seconds, size=size)

    def made_by(self, models: Mapping[str, Model]) -> dict[tuple[str, str], str]:
        """(mode, variant) -> what tells apart everything that changes its records."""
        prints = {name: f"{fingerprint(model)} {model.dtype}" for name, model in models.items()}
        return {run: self._made_by(*run, models["full"].settings, prints) for run in self.runs()}

    def _made_by(self, mode: str, variant: str, own: StreamSettings, prints: Mapping[str, str]) -> str:
        seconds = self.seconds if mode == "full" else self.step_seconds
        parts = [_DEFINITION, DEFINITION, mode, seconds, prints.get(variant, prints["full"])]
        if variant == "codec":
            parts.append(CODEC_DEFINITION)
        if variant in VARIANTS:
            parts += [self.settings(own, variant).to_dict(), VARIANTS[variant].opened.__name__]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
