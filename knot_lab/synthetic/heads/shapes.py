"""The shape of a person: weights of the template's targets, drawn at random.

Shapes: K targets, N vertices.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from .export_anny import STEP
from .head_bank import HeadBank

ANCESTRIES = ("african", "asian", "caucasian")
_FEATURE_SPREAD, _SIDE_SPREAD = 0.34, 0.04  # of a local target; of the difference between its two sides
_TAME = {"ear": 0.6, "neck": 0.5, "eyefold": 0.6, "eye-push": 0.5, "trans": 0.7, "head-scale": 0.5, "double": 0.4}
_OPPOSITES = (
    ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
    ("compress", "uncompress"),
)  # fmt: skip


class Person(NamedTuple):
    """A person in a few numbers."""

    male: float  # 0 .. 1
    age: float  # 0 a child of ten, 0.5 young, 1 old
    ancestry: np.ndarray  # [3], sums to 1
    muscle: float
    weight: float  # -1 thin .. 1 heavy


def sample_person(rng: np.random.Generator) -> Person:
    """A child in one of twelve, an older person in one of three."""
    age = rng.choice([rng.uniform(0.2, 0.4), rng.uniform(0.42, 0.62), rng.uniform(0.62, 1.0)], p=[0.08, 0.55, 0.37])
    male = float(rng.random() < 0.5)
    male = abs(male - rng.uniform(0, 0.22))
    return Person(male, float(age), rng.dirichlet([0.45, 0.45, 0.45]), rng.uniform(0.2, 0.8), rng.normal(0, 0.45))


def shape_weights(rng: np.random.Generator, bank: HeadBank, person: Person) -> np.ndarray:
    """float32 [K]: age, gender, ancestry, build; then every feature a little to one side or the other."""
    weights = np.zeros(len(bank.names), np.float32)
    ages = _mix(person.age, ("child", 0.0), ("young", 0.5), ("old", 1.0))
    muscles = _mix(person.muscle, ("minmuscle", 0.0), ("averagemuscle", 0.5), ("maxmuscle", 1.0))
    builds = _mix(np.clip(person.weight, -1, 1), ("minweight", -1.0), ("averageweight", 0.0), ("maxweight", 1.0))
    places = {name: number for number, name in enumerate(bank.names)}
    for gender, of_gender in (("male", person.male), ("female", 1 - person.male)):
        for age, of_age in ages.items():
            for ancestry, of_ancestry in zip(ANCESTRIES, person.ancestry, strict=True):
                weights[places[f"macro/{ancestry}-{gender}-{age}"]] += of_gender * of_age * of_ancestry
            for muscle, of_muscle in muscles.items():
                for build, of_build in builds.items():
                    name = f"macro/universal-{gender}-{age}-{muscle}-{build}"
                    weights[places[name]] += of_gender * of_age * of_muscle * of_build
    for name, value in _features(rng, bank.names).items():
        weights[places[name]] += value
    return weights


def _mix(value: float, *anchors: tuple[str, float]) -> dict[str, float]:
    """Linear between neighbouring anchors; those of weight 0 are left out."""
    names, places = zip(*anchors, strict=True)
    mixed = {name: float(np.interp(value, places, np.eye(len(places))[i])) for i, name in enumerate(names)}
    return {name: weight for name, weight in mixed.items() if weight}


def _features(rng: np.random.Generator, names: tuple[str, ...]) -> dict[str, float]:
    """Target -> weight of 0 .. 0.9, both sides nearly alike. Of two opposites one is taken."""
    local = [name for name in names if name.startswith("local/") and not name.startswith("local/r-")]
    known, found = set(local), {}
    for name in local:
        opposite = _opposite(name)
        if opposite in known and opposite < name:
            continue  # its pair was drawn already
        tame = np.prod([factor for word, factor in _TAME.items() if word in name] or [1.0])
        value = float(np.clip(rng.normal(0, _FEATURE_SPREAD * tame), -0.9, 0.9))
        if opposite not in known:
            value = max(0.0, value) if rng.random() < 0.5 else 0.0
        chosen = name if value >= 0 else opposite
        found[chosen] = abs(value)
        if chosen.startswith("local/l-"):
            found[f"local/r-{chosen[8:]}"] = max(0.0, abs(value) + rng.normal(0, _SIDE_SPREAD))
    return found


def _opposite(name: str) -> str:
    stem, _, ending = name.rpartition("-")
    for pair in _OPPOSITES:
        if ending in pair:
            return f"{stem}-{pair[1 - pair.index(ending)]}"
    return re.sub(r"square$", "round", name) if name.endswith("square") else ""


def rest_shape(bank: HeadBank, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float32 [N, 3] and joints [5, 3] of targets [K], the head's joint where the template has it."""
    used = np.flatnonzero(weights)
    of_used = weights[used] * np.float32(STEP)
    vertices = bank.base + np.tensordot(of_used, bank.deltas[used], 1).astype(np.float32)
    joints = bank.base_joints + np.tensordot(of_used, bank.joint_deltas[used], 1)
    return vertices, joints
