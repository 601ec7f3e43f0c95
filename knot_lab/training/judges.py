"""Trained networks that judge what the student predicts, beside the regression itself."""

from dataclasses import dataclass

from knot_core.codec.point_motion import PointReader

from .discriminator import Adversary


@dataclass(frozen=True, kw_only=True, eq=False)
class Judges:
    """The networks that a recipe asks for."""

    adversary: Adversary | None = None
    reader: PointReader | None = None  # of landmarks, from the latents of the codec


NOBODY = Judges()
