"""Dressing: clothes, headwear and props, chosen at random."""

from __future__ import annotations

from . import clothes, headwear, props
from .fitting import Fitting

_VEIL, _HAT, _GLASSES, _SCARF, _HELD = 0.05, 0.17, 0.28, 0.08, 0.08  # chances
_EARRINGS = {True: 0.4, False: 0.05}  # of women, of men


def dress(f: Fitting) -> None:
    """Clothes for everybody; the rest by chance."""
    clothes.clothe(f)
    chance = f.rng.random(5)
    if chance[0] < _VEIL:
        headwear.veil(f)
    elif chance[0] < _VEIL + _HAT:
        headwear.hat(f)
    if chance[1] < _GLASSES:
        headwear.glasses(f)
    if chance[2] < _SCARF and not f.hair_hidden:
        clothes.scarf(f)
    if chance[3] < _EARRINGS[f.person.male < 0.5] and not f.hair_hidden:
        headwear.earrings(f)
    if chance[4] < _HELD:
        props.hold(f)
