"""Colours and styles of hair, and where it grows.

Shapes: ``...`` any leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shapes import Person

_NATURAL = np.array(
    [[0.012, 0.009, 0.008], [0.028, 0.017, 0.012], [0.065, 0.035, 0.020], [0.13, 0.070, 0.035], [0.30, 0.19, 0.095],
     [0.48, 0.34, 0.19], [0.20, 0.062, 0.022]]
)  # fmt: skip
_GREY = np.array([0.42, 0.41, 0.40])


def sample_hair_colour(rng: np.random.Generator, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Linear colours [3] of the hair and of brows and beard: mostly dark, grey with age, the hair sometimes dyed."""
    light = np.array([0.05, 0.10, 0.20, 0.22, 0.20, 0.13, 0.10])
    dark = np.array([0.45, 0.38, 0.12, 0.04, 0.01, 0.0, 0.0])
    weights = person.ancestry[2] * light + (1 - person.ancestry[2]) * dark
    colour = _NATURAL[rng.choice(len(_NATURAL), p=weights / weights.sum())] * np.exp(rng.normal(0, 0.2))
    if rng.random() < 1.3 * (person.age - 0.55):
        grey = rng.uniform(0.3, 1.0)
        colour = colour * (1 - grey) + grey * _GREY * rng.uniform(0.6, 1.3)
    elif rng.random() < 0.07:
        return rng.dirichlet([0.8, 0.8, 0.8]) * rng.uniform(0.15, 0.6), colour
    return colour, colour


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way of wearing hair. Lengths in metres; directions are in the head's axes (x outwards from the part)."""

    top: float
    sides: float
    back: float
    comb: tuple[float, float, float]  # on top: outwards from the part, up, forwards
    lift: float  # how much it first stands off the skin
    gravity: float
    part: float  # m: where it is parted; beyond 0.1: combed to one side alone
    volume: float  # m: thickness of all of it on the head
    wave: float = 0.0  # m: amplitude of waves
    turns: float = 3.0  # waves along a strand
    clump: float = 0.5
    locks: int = 420
    fringe: float = 0.0  # m: length of hair that falls over the forehead
    width: float = 0.0008
    count: int = 6500
    gathered: float = 0.0  # 1: combed back to a knot
    bald: float = 0.0  # how far the hairline has gone


def sample_style(rng: np.random.Generator, person: Person) -> tuple[str, Style | None]:
    """A name and a style; None for a shaven or bald head."""
    male = person.male > 0.5
    names = (
        "buzz",
        "crop",
        "side",
        "quiff",
        "medium",
        "curly",
        "afro",
        "bob",
        "long",
        "wavy",
        "gathered",
        "bald",
        "horseshoe",
        "dreads",
        "pixie",
    )
    for_men = (9, 15, 14, 9, 7, 6, 5, 1, 2, 2, 2, 5, 9, 2, 3)
    for_women = (2, 2, 3, 1, 10, 8, 6, 14, 16, 14, 15, 1, 0, 3, 8)
    weights = np.array(for_men if male else for_women, float)
    coily = person.ancestry[0]
    weights[names.index("afro")] *= 0.1 + 6 * coily
    weights[names.index("dreads")] *= 0.1 + 4 * coily
    weights[names.index("horseshoe")] *= 0.15 + 3 * max(0.0, person.age - 0.5)
    name = str(rng.choice(names, p=weights / weights.sum()))
    return name, _style(rng, name, person)


# Style -> its fields: a number, or a range to draw from; ``comb`` three of them. A fringe is there or not by chance.
Range = float | tuple[float, float]
_STYLES: dict[str, dict[str, Range | tuple[Range, Range, Range]]] = {
    "buzz": {"top": (0.004, 0.010), "sides": (0.003, 0.007), "back": (0.004, 0.010), "comb": (0, 0, 0.3), "lift": 1.0,
             "gravity": 0.1, "volume": 0.004, "clump": 0.1, "count": 8000},
    "crop": {"top": (0.02, 0.045), "sides": (0.006, 0.018), "back": (0.01, 0.02),
             "comb": ((-0.2, 0.4), 0.3, (-0.5, 0.9)), "lift": (0.5, 1.0), "gravity": 0.3, "volume": (0.006, 0.016),
             "clump": (0.3, 0.7), "fringe": (0, 0.03), "wave": (0, 0.002)},
    "horseshoe": {"top": 0.02, "sides": (0.012, 0.03), "back": (0.015, 0.04), "comb": (0.3, 0, -0.4), "lift": 0.4,
                  "gravity": 0.6, "volume": 0.008, "bald": (1.5, 3.0)},
    "side": {"top": (0.05, 0.09), "sides": (0.015, 0.03), "back": (0.02, 0.04), "comb": (1.0, 0.15, (-0.5, 0.4)),
             "lift": (0.4, 0.9), "gravity": 0.5, "volume": (0.012, 0.026), "clump": (0.4, 0.8)},
    "quiff": {"top": (0.045, 0.08), "sides": (0.008, 0.02), "back": (0.015, 0.03), "comb": (0.1, 0.9, (-0.9, -0.2)),
              "lift": 1.0, "gravity": 0.12, "volume": (0.02, 0.04), "clump": (0.5, 0.8)},
    "pixie": {"top": (0.05, 0.08), "sides": (0.03, 0.05), "back": (0.03, 0.05), "comb": (0.5, 0.1, (0, 0.9)),
              "lift": 0.5, "gravity": 0.6, "volume": (0.010, 0.02), "clump": (0.4, 0.8), "fringe": (0.03, 0.065)},
    "medium": {"top": (0.10, 0.16), "sides": (0.08, 0.13), "back": (0.09, 0.14), "comb": (0.8, 0.1, (-0.4, 0.2)),
               "lift": 0.5, "gravity": 0.9, "volume": (0.012, 0.025), "wave": (0, 0.006), "turns": (1, 3),
               "clump": (0.3, 0.75), "fringe": (0.05, 0.08)},
    "curly": {"top": (0.06, 0.22), "sides": (0.05, 0.18), "back": (0.06, 0.22), "comb": (0.7, 0.2, 0.1), "lift": 1.0,
              "gravity": 0.7, "volume": (0.03, 0.05), "wave": (0.005, 0.009), "turns": (2, 4), "clump": (0.5, 0.85),
              "fringe": 0.06, "count": 8000},
    "afro": {"top": (0.03, 0.11), "sides": (0.025, 0.08), "back": (0.03, 0.11), "comb": (0, 0, 0), "lift": 3.0,
             "gravity": 0.02, "volume": 0.01, "wave": 0.005, "turns": (4, 11), "clump": 0.6, "locks": 900,
             "count": 9000},
    "bob": {"top": (0.17, 0.24), "sides": (0.13, 0.17), "back": (0.11, 0.15), "comb": (0.9, 0.0, (-0.1, 0.3)),
            "lift": 0.4, "gravity": 1.1, "volume": (0.014, 0.028), "wave": (0, 0.004), "turns": 2,
            "clump": (0.25, 0.7), "fringe": (0.06, 0.085), "count": 8500},
    "long": {"top": (0.30, 0.45), "sides": (0.27, 0.40), "back": (0.27, 0.40), "comb": (0.9, 0.0, (-0.3, 0.2)),
             "lift": 0.35, "gravity": 1.2, "volume": (0.010, 0.026), "wave": (0, 0.003), "turns": (2, 5),
             "clump": (0.25, 0.7), "fringe": (0.06, 0.09), "count": 9000},
    "wavy": {"top": (0.30, 0.45), "sides": (0.27, 0.40), "back": (0.27, 0.40), "comb": (0.9, 0.0, (-0.3, 0.2)),
             "lift": 0.35, "gravity": 1.2, "volume": (0.010, 0.026), "wave": (0.006, 0.014), "turns": (2, 5),
             "clump": (0.4, 0.8), "fringe": (0.06, 0.09), "count": 9000},
    "gathered": {"top": 0.21, "sides": 0.16, "back": 0.12, "comb": (0.1, 0.1, -1.0), "lift": 0.05, "gravity": 0.0,
                 "volume": (0.003, 0.010), "clump": (0.2, 0.7), "gathered": 1.0, "fringe": (0.06, 0.085),
                 "count": 9000},
    "dreads": {"top": (0.12, 0.35), "sides": (0.11, 0.31), "back": (0.12, 0.35), "comb": (0.8, 0.2, -0.2),
               "lift": 1.0, "gravity": 0.9, "volume": 0.02, "wave": 0.002, "turns": 4, "clump": 0.9, "locks": 110,
               "width": 0.0012},
}  # fmt: skip
_WITH_FRINGE = {"crop": 1.0, "pixie": 1.0, "gathered": 0.33, "long": 0.33, "wavy": 0.33}  # chance; else one half


def _style(rng: np.random.Generator, name: str, person: Person) -> Style | None:
    if name == "bald":
        return None
    draw = lambda value: float(rng.uniform(*value)) if isinstance(value, tuple) else value  # noqa: E731
    fields = {key: draw(value) for key, value in _STYLES[name].items() if key != "comb"}
    fields["comb"] = tuple(draw(value) for value in _STYLES[name]["comb"])
    if rng.random() > _WITH_FRINGE.get(name, 0.5):
        fields["fringe"] = 0.0
    sided = float(rng.choice([-1, 1])) * rng.uniform(0.015, 0.05)
    part = sided if name == "side" else float(rng.choice([sided, sided, 0.0, 0.2, -0.2]))
    receding = max(0.0, person.male - 0.5) * max(0.0, person.age - 0.5) * rng.uniform(0, 3.0)
    return Style(**{"part": part, "bald": receding, **fields})


def hairline(azimuth: np.ndarray, style: Style) -> np.ndarray:
    """Height above which hair grows by azimuth from the front [...]: m, on the template."""
    azimuth = np.abs(azimuth)
    front = 0.806 + 0.035 * min(style.bald, 1.2)
    temple = 0.792 + 0.028 * min(style.bald, 1.2)
    crown = 0.05 * max(0.0, style.bald - 1.0)
    places = [0, 0.35, 0.6, 0.85, 1.05, 1.3, 1.55, 1.75, 2.0, 2.4, 3.15]
    heights = [
        front + crown,
        front + crown,
        temple + crown,
        0.785 + 0.7 * crown,
        0.765,
        0.735,
        0.728,
        0.705,
        0.685,
        0.665,
        0.66,
    ]
    return np.interp(azimuth, places, heights)
