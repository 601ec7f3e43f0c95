"""The scenes of an evaluation: an identity, its driving, and the ground truth.

A scene is one held-out identity for so many seconds. Its modes: ``full`` (speech, and pose and mouth as controls),
``speech`` (speech, idle pose by rule), ``free`` (speech alone), ``silence`` (silent sound, idle pose by rule).

Shapes: T pixel frames, H W size.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from knot_core.driving import Driving
from knot_core.driving.audio import FPS, MEL_DIM, SAMPLE_RATE
from knot_core.driving.expression_controls import CONTROLS
from knot_core.errors import MediaError
from knot_core.media import Audio
from knot_core.model import Model

from ..synthetic import avatars
from ..synthetic.motion import sample_controls
from ..synthetic.sentences import Speech, speak_phrases

MODES = ("full", "speech", "free", "silence")
REGIONS = ("hair", "clothes", "background")  # what must stay the same person and place
_BATCH = 25  # frames rendered at once
_FIRST_SPEECH = 500  # seeds of speech, apart from other uses of the evaluation's split


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One identity of the evaluation's split, and what it says and does."""

    number: int
    seconds: float
    size: int

    @cached_property
    def identity(self) -> avatars.Identity:
        return avatars.identity(self.number, "eval")

    @cached_property
    def values(self) -> Tensor:
        """The identity's values as the painter takes them, [N]."""
        return avatars.stack_identities([self.identity])[0]

    @property
    def num_pixel_frames(self) -> int:
        return round(self.seconds * FPS)

    @cached_property
    def speech(self) -> Speech:
        return speak_phrases(_FIRST_SPEECH + self.number, "eval", self.seconds)

    @cached_property
    def controls(self) -> np.ndarray:
        """The controls of the mode ``full``: [T, 8]."""
        return sample_controls(self.number, self.num_pixel_frames, self.speech.mouth, "eval")

    @cached_property
    def reference(self) -> Tensor:
        """The picture that a stream starts from, float [H, W, 3] in 0..1: nearly frontal, eyes open, mouth closed."""
        pose = np.random.default_rng([self.number, 8]).uniform(-0.2, 0.2, 3).astype(np.float32)
        controls = torch.zeros(1, len(CONTROLS))
        controls[0, :3] = torch.from_numpy(pose)
        return avatars.render_clip(self.values, controls, self.size)[0].float() / 255

    def driving(self, mode: str, model: Model) -> Driving:
        """The driving of a mode."""
        waveform = self.speech.waveform if mode != "silence" else np.zeros_like(self.speech.waveform)
        audio = Audio(samples=torch.from_numpy(waveform)[None], sample_rate=SAMPLE_RATE)
        pose = {"full": Driving.from_controls(self.controls) if mode == "full" else None, "free": None}.get(
            mode, "idle"
        )
        return Driving.from_audio(audio, model, pose=pose, seed=self.number).lasting(self.num_pixel_frames)

    def expected(self, mode: str, driving: Driving) -> np.ndarray:
        """The controls that the picture should show, [T, 8]; nan where a mode leaves them to the model."""
        given = driving.pixel_signal(np.arange(self.num_pixel_frames)).numpy()
        controls = given[:, MEL_DIM : MEL_DIM + len(CONTROLS)].copy()
        if mode == "free":
            controls[:] = np.nan
        controls[:, 5:7] = 0 if mode == "silence" else self.speech.mouth
        return controls


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The renderer's frames of a scene, on disc, so that memory does not grow with its length."""

    pictures: np.ndarray  # uint8 [T, H, W, 3]
    regions: np.ndarray  # uint8 [T, H, W, 3]: 255 times the share of each of REGIONS
    face: Tensor  # boxes [T, 4]

    @classmethod
    def of(cls, scene: Scene, folder: Path) -> Truth:
        """Render a scene's mode ``full`` into files of a folder."""
        shape = (scene.num_pixel_frames, scene.size, scene.size, 3)
        check_room(folder, 2 * int(np.prod(shape)))
        pictures, regions = (
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
            for name in ("pictures", "regions")
        )
        controls = torch.from_numpy(scene.controls)
        shown = [avatars.REGIONS.index(name) for name in REGIONS]
        for start in range(0, scene.num_pixel_frames, _BATCH):
            part = slice(start, start + _BATCH)
            pixels, shares = avatars.render(scene.values[None], controls[None, part], scene.size, regions=True)
            pictures[part] = avatars.to_uint8(pixels[0]).numpy()
            regions[part] = avatars.to_uint8(shares[0][:, shown]).numpy()
        return cls(pictures=pictures, regions=regions, face=avatars.face_box(scene.values, controls, scene.size))


def check_room(folder: Path, num_bytes: int) -> None:
    """Refuse, before anything is written, scenes that do not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise MediaError(
            f"the truth needs {num_bytes >> 20} MiB in {folder}, where {free >> 20} MiB are free; "
            "free some disk space, or evaluate fewer seconds"
        )
