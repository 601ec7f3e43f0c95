"""Trained networks that judge what the student predicts, beside the regression itself."""

from dataclasses import dataclass

from knot_core.codec.landmark_code import LandmarkCode

from .discriminator import Adversary


@dataclass(frozen=True, kw_only=True, eq=False)
class Judges:
    """The networks that a recipe asks for."""

    adversary: Adversary | None = None
    code: LandmarkCode | None = None  # by which latents tell how landmarks move


NOBODY = Judges()
