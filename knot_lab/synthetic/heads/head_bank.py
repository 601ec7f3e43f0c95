"""The template head, read once: geometry, blend shapes, key points, and what depends on the template alone.

Axes: x to the viewer's right (the person's left), y up, z towards the viewer, metres.
Shapes: N vertices, T triangles, K targets, L landmarks, R candidate roots of hair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from knot_core.driving.face_units import UNITS
from knot_core.errors import DrivingError

from .export_anny import JOINTS, STEP
from .noise import NoiseBank
from .raster import draw_depth

SKIN, EYE_LEFT, EYE_RIGHT, UPPER_TEETH, LOWER_TEETH, TONGUE, LASHES = range(7)
AXIS_Z = 0.02  # m: the vertical axis about which the skin's texture is unrolled
TOP, SPAN = 0.88, 0.62  # m: what the skin's texture spans, downwards
_AO_DIRECTIONS, _AO_SIZE = 64, 256
_NUM_ROOTS = 14_000


@dataclass(frozen=True, kw_only=True)
class HeadBank:
    """The template head as ``read_head_bank`` gives it. Arrays count the mesh's vertices; ``triangles`` index them."""

    template: np.ndarray  # float32 [N, 3]: the mean of the young adults
    triangles: np.ndarray  # int32 [T, 3]
    groups: np.ndarray  # uint8 [T]: SKIN .. LASHES
    unit_deltas: np.ndarray  # float32 [52, N, 3]
    names: tuple[str, ...]  # of the shape's targets
    deltas: np.ndarray  # int16 [K, N, 3] in ``STEP``
    base: np.ndarray  # float32 [N, 3]: what the shape's targets are added to
    base_joints: np.ndarray  # float32 [5, 3]
    joint_deltas: np.ndarray  # int16 [K, 5, 3]
    skin: np.ndarray  # float32 [N, 2]: with the head, with the neck
    uv: np.ndarray  # float32 [N, 2]: azimuth and height, 0 .. 1
    texture: np.ndarray  # float32 [T, 3, 2]: where triangles' corners lie in pictures of skin, from the left and top
    occlusion: np.ndarray  # float32 [N]: 1 open, 0 enclosed
    lips: np.ndarray  # float32 [N]
    inner_mouth: np.ndarray  # float32 [N]
    ears: np.ndarray  # float32 [N]
    landmarks: Mapping[str, np.ndarray]  # name -> vertices whose mean it is
    roots: tuple[np.ndarray, np.ndarray]  # of hair: int32 [R, 3] corners, float32 [R, 3] barycentric
    brow_roots: tuple[np.ndarray, np.ndarray]
    beard_roots: tuple[np.ndarray, np.ndarray]
    noise: NoiseBank = field(repr=False)
    skins: tuple[np.ndarray, ...] = field(default=(), repr=False)  # of `photographic_skins`, for some of the people

    def joint(self, joints: np.ndarray, name: str) -> np.ndarray:
        """One of ``joints`` [5, 3] by its name in the mesh: [3]."""
        return joints[JOINTS.index(f"joint-{name}")]


def read_head_bank(path: Path, noise_size: int = 512) -> HeadBank:
    """Read what ``export_anny`` wrote."""
    if not path.is_file():
        raise DrivingError(
            f"there is no file of heads {path}; make it with python -m knot_lab.synthetic.heads.export_anny"
        )
    with np.load(path) as stored:
        data = dict(stored)
    units = np.array([name.startswith("unit/") for name in data["names"]])
    unit_deltas = data["deltas"][units].astype(np.float32) * np.float32(STEP)
    assert [str(name)[5:] for name in data["names"][units]] == list(UNITS)
    names = tuple(str(name) for name in data["names"][~units])
    deltas = data["deltas"][~units]
    triangles = data["corner_vertex"][data["triangles"]].astype(np.int32)
    weights = mean_weights(names)
    template = data["vertices"] + np.tensordot(weights, deltas, 1).astype(np.float32) * np.float32(STEP)
    masks = {name: _at_vertices(data, name) for name in ("lips", "inside-mouth", "ears")}
    body = triangles[data["groups"] == SKIN]
    skin = data["skin"].astype(np.float32)
    solid = np.isin(data["groups"], (LASHES, SKIN))
    skin[np.unique(triangles[~solid])] = (1, 0)
    skin[np.unique(triangles[data["groups"] == LASHES])] = (1, 0)
    noise = NoiseBank(noise_size)
    return HeadBank(
        template=template,
        triangles=triangles,
        groups=data["groups"],
        unit_deltas=unit_deltas,
        names=names,
        deltas=deltas,
        base=data["vertices"],
        base_joints=data["joints"],
        joint_deltas=data["joint_deltas"][~units],
        skin=skin,
        uv=cylindrical(template),
        texture=np.abs(data["corner_uv"][data["triangles"]] - np.float32([0, 1])),
        occlusion=_occlusion(template, triangles, data["groups"]),
        lips=masks["lips"],
        inner_mouth=masks["inside-mouth"] * (masks["lips"] < 0.5),
        ears=masks["ears"],
        landmarks=_landmarks(template, triangles, data["groups"], masks["lips"], unit_deltas),
        roots=_scatter(template, body[_inside(template[body], (-0.2, 0.63, -0.2), (0.2, 0.9, 0.2))], _NUM_ROOTS),
        brow_roots=_scatter(template, body[_inside(template[body], (-0.06, 0.742, 0.06), (0.06, 0.775, 0.2))], 6000),
        beard_roots=_scatter(
            template, body[_inside(template[body], (-0.085, 0.58, -0.02), (0.085, 0.735, 0.2))], 14_000
        ),
        noise=noise,
    )


def mean_weights(names: tuple[str, ...]) -> np.ndarray:
    """Weights float32 [K] of the mean head: half male, half female, a third of each ancestry, young, average."""
    weights = np.zeros(len(names), np.float32)
    for gender in ("male", "female"):
        weights[names.index(f"macro/universal-{gender}-young-averagemuscle-averageweight")] = 1 / 2
        for ancestry in ("african", "asian", "caucasian"):
            weights[names.index(f"macro/{ancestry}-{gender}-young")] = 1 / 6
    return weights


def cylindrical(points: np.ndarray) -> np.ndarray:
    """[.., 3] -> float32 [.., 2]: azimuth about the vertical axis, 0.5 in front, and depth below ``TOP``, in 0 .. 1."""
    azimuth = np.arctan2(points[..., 0], points[..., 2] - AXIS_Z) / (2 * np.pi) + 0.5
    return np.stack([azimuth, (TOP - points[..., 1]) / SPAN], axis=-1).astype(np.float32)


def _at_vertices(data: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A mask of the mesh's texture at its vertices, float32 [N] in 0 .. 1."""
    mask, uv = data[f"mask_{name}"], data["corner_uv"]
    size = len(mask)
    rows, columns = ((x * size).astype(int).clip(0, size - 1) for x in (1 - uv[:, 1], uv[:, 0]))
    at = np.zeros(len(data["vertices"]), np.float32)
    np.maximum.at(at, data["corner_vertex"], mask[rows, columns] / np.float32(255))
    return at


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals float32 [N, 3], weighted by area."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    normals = np.stack(
        [sum(np.bincount(triangles[:, k], faces[:, axis], len(vertices)) for k in range(3)) for axis in range(3)],
        axis=1,
    )
    return (normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)).astype(np.float32)


def _occlusion(template: np.ndarray, triangles: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How much of the sky above a vertex is open, weighted by the cosine: float32 [N], by shadows from many sides."""
    solid = triangles[groups == SKIN]
    normals = vertex_normals(template, triangles)
    seen, total = np.zeros(len(template)), np.full(len(template), 1e-6)
    for number in range(_AO_DIRECTIONS):
        height = 1 - (number + 0.5) / _AO_DIRECTIONS * 1.6
        angle, radius = number * 2.399963, np.sqrt(max(0.0, 1 - height * height))  # a Fibonacci spiral
        direction = np.array([radius * np.cos(angle), height, radius * np.sin(angle)])
        cosine = np.maximum(normals @ direction, 0)
        lit = ~_shadowed(template + 0.002 * normals, solid, template, direction)
        seen += cosine * lit
        total += cosine
    return (seen / total).astype(np.float32)


def _shadowed(points: np.ndarray, triangles: np.ndarray, vertices: np.ndarray, direction: np.ndarray) -> np.ndarray:
    side = np.cross(direction, (0.0, 0.0, 1.0) if abs(direction[1]) > 0.9 else (0.0, 1.0, 0.0))
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(direction, side), direction])
    scale = np.array([_AO_SIZE / 0.75, _AO_SIZE / 0.75, 1.0])
    shift = np.array([_AO_SIZE / 2, _AO_SIZE / 2, 2.0])
    project = lambda x: ((x - (0, 0.62, 0.02)) @ frame.T * scale + shift).astype(np.float32)  # noqa: E731
    depth = np.zeros((_AO_SIZE, _AO_SIZE), np.float32)
    draw_depth(project(vertices), triangles, depth)
    at = project(points)
    x, y = (at[:, k].astype(int).clip(0, _AO_SIZE - 1) for k in (0, 1))
    return depth[y, x] > at[:, 2] + 0.004


def _landmarks(
    template: np.ndarray, triangles: np.ndarray, groups: np.ndarray, lips: np.ndarray, unit_deltas: np.ndarray
) -> dict[str, np.ndarray]:
    """The key points, as vertices of the template that were found by where they lie."""
    body, lashes, eyes = (
        np.unique(triangles[np.isin(groups, group)]) for group in (SKIN, LASHES, (EYE_LEFT, EYE_RIGHT))
    )
    front = body[(template[body, 2] > 0.03) & (template[body, 1] > 0.56)]
    found = _eye_points(template, lashes, eyes) | _mouth_points(template, body, lips, unit_deltas)

    def near(x: float, y: float) -> np.ndarray:
        """The frontmost skin near a place as seen from the front."""
        away = np.hypot(template[front, 0] - x, template[front, 1] - y) - 0.1 * template[front, 2]
        return front[[away.argmin()]]

    middle = front[np.abs(template[front, 0]) < 1e-3]
    nose = middle[(template[middle, 1] > 0.685) & (template[middle, 1] < 0.73)]
    found["nose_tip"] = nose[[template[nose, 2].argmax()]]
    found["nose_bridge"], found["nose_base"] = near(0, 0.735), near(0, 0.688)
    found["forehead"] = near(0, 0.79)
    chin = middle[template[middle, 1] < 0.64]
    chin = chin[template[chin, 1] > 0.60]
    found["chin"] = chin[[(template[chin, 2] - 1.5 * template[chin, 1]).argmax()]]
    for side, name in ((-1, "right"), (1, "left")):  # the person's own sides
        found[f"{name}_nostril"] = near(side * 0.016, 0.695)
        for part, x, y in (("inner", 0.012, 0.752), ("middle", 0.030, 0.760), ("outer", 0.047, 0.754)):
            found[f"{name}_brow_{part}"] = near(side * x, y)
        for part, y in (("high", 0.715), ("middle", 0.675), ("low", 0.640)):
            level = body[(np.abs(template[body, 1] - y) < 0.006) & (template[body, 2] > 0.0)]
            level = level[np.abs(template[level, 0]) < 0.085]
            found[f"{name}_jaw_{part}"] = level[[(side * template[level, 0]).argmax()]]
        found[f"{name}_cheek"] = near(side * 0.045, 0.70)
    return _mirrored(template, found, {"eye": lashes, "lid": lashes, "pupil": eyes}, body)


def _mirrored(
    template: np.ndarray, found: dict[str, np.ndarray], kinds: Mapping[str, np.ndarray], body: np.ndarray
) -> dict[str, np.ndarray]:
    """The same points with the person's left ones where the right ones would be in a mirror."""
    mirrored = dict(found)
    for name in [name for name in found if name.startswith("left_")]:
        own = next((vertices for kind, vertices in kinds.items() if f"_{kind}" in name), body)
        twins = template[found[f"right_{name[5:]}"]] * (-1, 1, 1)
        away = np.linalg.norm(template[own][None] - twins[:, None], axis=2)
        mirrored[name] = own[away.argmin(axis=1)]
    return mirrored


def _eye_points(template: np.ndarray, lashes: np.ndarray, eyes: np.ndarray) -> dict[str, np.ndarray]:
    """Pupils, and lids and corners at the roots of the lashes."""
    found = {}
    for side, name in ((-1, "right"), (1, "left")):
        ball = eyes[side * template[eyes, 0] > 0]
        own = lashes[side * template[lashes, 0] > 0]
        centre = (template[ball].max(axis=0) + template[ball].min(axis=0)) / 2
        outward = side * (template[own, 0] - centre[0])
        found[f"{name}_pupil"] = ball[template[ball, 2] > template[ball, 2].max() - 5e-4]
        found[f"{name}_eye_outer"] = own[[outward.argmax()]]
        found[f"{name}_eye_inner"] = own[[outward.argmin()]]
        middle = own[np.abs(outward) < 0.004]
        root = np.linalg.norm(template[middle] - centre, axis=1)
        for part, sign in (("upper", 1), ("lower", -1)):
            lid = sign * (template[middle, 1] - centre[1]) > 0.002
            found[f"{name}_lid_{part}"] = middle[lid][[root[lid].argmin()]]
    return found


def _mouth_points(
    template: np.ndarray, body: np.ndarray, lips: np.ndarray, unit_deltas: np.ndarray
) -> dict[str, np.ndarray]:
    on_lips = body[(lips[body] > 0.5) & (template[body, 2] > 0.09)]
    falls = unit_deltas[UNITS.index("jawOpen"), :, 1] < -0.015
    found = {}
    for name, x in (("", 0.0), ("right_", -0.011), ("left_", 0.011)):
        column = on_lips[np.abs(template[on_lips, 0] - x) < (1e-3 if x == 0 else 2.5e-3)]
        for part, rows in (("upper", column[~falls[column]]), ("lower", column[falls[column]])):
            height = template[rows, 1]
            top, bottom = rows[[height.argmax()]], rows[[height.argmin()]]
            found[f"{name}{part}_lip"], inner = (top, bottom) if part == "upper" else (bottom, top)
            found[f"{name}{part}_lip_inner"] = inner
    for side, name in ((-1, "right"), (1, "left")):
        found[f"{name}_mouth_corner"] = on_lips[[(side * template[on_lips, 0]).argmax()]]
    return found


def _inside(triangles: np.ndarray, low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """Which triangles [T, 3, 3] have their middle in a box: bool [T]."""
    middle = triangles.mean(axis=1)
    return ((middle > low) & (middle < high)).all(axis=1)


def _scatter(vertices: np.ndarray, triangles: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over triangles in random order: int32 [R, 3] vertices, float32 [R, 3] weights of them."""
    rng = np.random.default_rng(20)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    u, v = rng.random((2, count))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    return triangles[chosen], np.stack([1 - u - v, u, v], axis=1).astype(np.float32)
