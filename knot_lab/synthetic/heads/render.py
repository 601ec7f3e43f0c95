"""Drawing an ``HeadIdentity``: a picture, and everything that is known about it.

Shapes: P = 256 pixels, F = 128 labels, S = 512 samples a side; L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .cameras import NECK_SHARE, PICTURE, SAMPLES, framed, on_screen, rotation, to_camera
from .deform import move_strands, move_vertices, normals_of
from .identity import HeadIdentity
from .labels import label_flow
from .lights import photographed
from .raster import draw_depth, draw_strand_depth, draw_strands, draw_triangles, empty_buffers
from .shading import resolve, shade_strands

FLOW = PICTURE // 2
REST_POSE = np.array([0, 0, 0, 0, 0, 1], np.float32)
_SHADOW, _SHADOW_SPAN = 256, 0.56  # samples, m


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A frame. ``flow`` and ``visible`` say where each pixel was in the identity's reference."""

    picture: np.ndarray  # uint8 [P, P, 3]
    flow: np.ndarray | None  # float32 [F, F, 2]: x and y to the source, in pixels of P
    visible: np.ndarray | None  # bool [F, F]
    face: np.ndarray  # bool [P, P]: skin, eyes, teeth and tongue above the collar
    background: np.ndarray  # bool [P, P]
    landmarks: np.ndarray  # float32 [L, 2] in pixels, in the order of ``bank.landmarks``


@dataclass(frozen=True)
class _Scene:
    """An identity in one expression and pose, in camera space."""

    mesh: np.ndarray  # float32 [M, 3]
    strands: np.ndarray  # float32 [Q, 3]
    view: tuple[float, float, float]
    screen: np.ndarray  # float32 [M, 3]
    buffers: tuple[np.ndarray, np.ndarray, np.ndarray]


def render(
    identity: HeadIdentity,
    units: np.ndarray,
    pose: np.ndarray = REST_POSE,
    *,
    labels: bool = True,
    rng: np.random.Generator | None = None,
) -> Rendered:
    """A frame under face units [52] and pose [6]: yaw, pitch, roll in rad, shift x and y in pixels, zoom.

    ``rng`` draws the camera's noise; without it there is none, nor is the picture compressed.
    """
    if units is identity.reference_units and pose is identity.reference_pose:
        scene = _reference_scene(_Key(identity))  # the flow of every frame needs it as well
    else:
        scene = _scene(identity, np.asarray(units, np.float32), np.asarray(pose, np.float32))
    light, part = _lit(identity, scene, np.asarray(pose, np.float32))
    if identity.lens is not None:
        light = _behind_lenses(identity, scene, light)
    picture = photographed(light, identity.camera, identity.bank.noise, rng)
    flow, visible = _flow(identity, scene) if labels else (None, None)
    face = (part > 0) & (part < 7) & (np.arange(PICTURE)[:, None] < _collar(identity, scene))
    return Rendered(
        picture=picture,
        flow=flow,
        visible=visible,
        face=face,
        background=part == 0,
        landmarks=landmarks_of(identity, scene.screen),
    )


def reference_of(identity: HeadIdentity, rng: np.random.Generator | None = None) -> Rendered:
    """The reference itself; its flow is zero."""
    return render(identity, identity.reference_units, identity.reference_pose, rng=rng)


def landmarks_of(identity: HeadIdentity, screen: np.ndarray) -> np.ndarray:
    """float32 [L, 2] pixels from ``screen`` [M, 3]."""
    return np.stack([screen[ids, :2].mean(axis=0) / 2 for ids in identity.bank.landmarks.values()]).astype(np.float32)


def projected_vertices(identity: HeadIdentity, units: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Every mesh vertex on the picture, float32 [M, 2] in pixels."""
    return _placed(identity, np.asarray(units, np.float32), np.asarray(pose, np.float32))[3][:, :2] / 2


def seen_vertices(identity: HeadIdentity, units: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Mesh vertices that nothing hides from the camera, bool [M]: within 0.7 mm of what the picture shows there."""
    scene = _scene(identity, np.asarray(units, np.float32), np.asarray(pose, np.float32))
    near, what, _ = scene.buffers
    x, y = (scene.screen[:, axis].astype(int) for axis in (0, 1))
    inside = (x >= 0) & (x < SAMPLES) & (y >= 0) & (y < SAMPLES)
    at = np.where(inside, y, 0), np.where(inside, x, 0)
    away = np.abs(1 / np.maximum(near[at], 1e-6) - 1 / scene.screen[:, 2])
    return inside & (what[at] >= 0) & (away < 0.0007)


def _collar(identity: HeadIdentity, scene: _Scene) -> float:
    """The row of the picture below which skin is neck: 8 % of the picture under the chin."""
    return float(scene.screen[identity.bank.landmarks["chin"], 1].mean()) / 2 + 0.08 * PICTURE


def _transforms(identity: HeadIdentity, turn: np.ndarray) -> np.ndarray:
    """float32 [2, 3, 4]: with the head, with the neck."""
    head, neck = identity.joints
    of_neck, of_head = rotation(*(NECK_SHARE * turn)), rotation(*turn)
    moved = neck + of_neck @ (head - neck)
    return np.stack(
        [np.column_stack([of_head, moved - of_head @ head]), np.column_stack([of_neck, neck - of_neck @ neck])]
    ).astype(np.float32)


def _placed(
    identity: HeadIdentity, units: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], np.ndarray]:
    """Mesh and strands in camera space, the view, and the mesh on the screen."""
    rest, count = identity.rest, len(identity.bank.template)
    moving = np.flatnonzero(units)
    if len(moving):
        rest = rest.copy()
        deltas = identity.bank.unit_deltas[moving].reshape(len(moving), -1)
        rest[:count] += (units[moving] @ deltas).reshape(count, 3)
    transforms = _transforms(identity, pose[:3].astype(float))
    world = np.empty_like(rest)
    move_vertices(rest, identity.skin, transforms, world)
    s = identity.strands
    strands = np.empty_like(s.offsets)
    move_strands(s.offsets, s.corners, s.weights, s.skin, transforms, world, strands)
    mesh, strands = (to_camera(points, identity.view, identity.middle) for points in (world, strands))
    view = framed(identity.view, (float(pose[3]), float(pose[4])), float(pose[5]))
    return mesh, strands, view, on_screen(mesh, view)


def _scene(identity: HeadIdentity, units: np.ndarray, pose: np.ndarray) -> _Scene:
    mesh, strands, view, screen = _placed(identity, units, pose)
    buffers = empty_buffers(SAMPLES)
    draw_triangles(screen, identity.triangles, identity.culled, identity.cut, *buffers)
    widths = identity.strands.widths * np.float32(view[0])
    draw_strands(on_screen(strands, view), identity.strands.starts, widths, *buffers)
    return _Scene(mesh, strands, view, screen, buffers)


def _lit(identity: HeadIdentity, scene: _Scene, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear light float32 [P, P, 3], and what each pixel shows, uint8 [P, P]."""
    light = identity.light
    if identity.light_follows_head:
        light = _turned(light, rotation(*pose[:3].astype(float)))
    lights = _lights(identity, scene, light)
    normals = np.empty_like(scene.mesh)
    normals_of(scene.mesh, identity.triangles, normals)
    colours = np.empty_like(scene.strands)
    s = identity.strands
    shade_strands(scene.strands, s.starts, s.colours, s.shine, s.covered, lights, colours)
    picture = np.empty((PICTURE, PICTURE, 3), np.float32)
    part = np.empty((PICTURE, PICTURE), np.uint8)
    mesh = (scene.mesh, normals, *identity.mesh)
    resolve(
        scene.buffers, identity.triangles, identity.materials_of, mesh, identity.surface, lights, colours,
        identity.background, picture, part,
    )  # fmt: skip
    return picture, part


def _behind_lenses(identity: HeadIdentity, scene: _Scene, light: np.ndarray) -> np.ndarray:
    """The picture [P, P, 3] as seen through the glasses' lenses, with a sheen across them."""
    triangles, look = identity.lens
    buffers = empty_buffers(SAMPLES)
    nothing_cut = np.full(len(scene.screen), -1, np.float32)
    draw_triangles(scene.screen, triangles, np.zeros(len(triangles), bool), nothing_cut, *buffers)
    before = (buffers[0] > scene.buffers[0]).astype(np.float32)
    covers = before.reshape(PICTURE, 2, PICTURE, 2).mean(axis=(1, 3))[..., None]
    slope = np.linspace(-1, 1, PICTURE, dtype=np.float32)
    sheen = np.float32(look[3]) * np.clip(0.35 + look[4] * slope[:, None] + 0.5 * slope[None], 0, 1)[..., None]
    sky = np.maximum(identity.light[4] + identity.light[6], 0)
    return light * (1 - covers * (1 - look[:3].astype(np.float32))) + covers * sheen * sky


def _turned(light: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """The light [8, 3] turned with the head: directions, and the ambient field's gradient."""
    turned = light.copy()
    turned[[0, 2]] = light[[0, 2]] @ turn.T
    turned[5:] = turn @ light[5:]
    return turned.astype(np.float32)


def _lights(identity: HeadIdentity, scene: _Scene, light: np.ndarray) -> tuple:
    """The light as the shaders read it: itself, its shadow map, the way to that, its softness."""
    direction = light[0].astype(float)
    side = np.cross(direction, (0.0, 1.0, 0.0))
    side /= np.linalg.norm(side) + 1e-9
    frame = np.stack([side, np.cross(direction, side), direction])
    scale = np.array([_SHADOW / _SHADOW_SPAN, _SHADOW / _SHADOW_SPAN, 1.0])[:, None]
    middle = np.array([0.0, -0.03, -identity.view.distance - 0.05])
    to_shadow = np.column_stack([scale * frame, -scale[:, 0] * (frame @ middle) + (_SHADOW / 2, _SHADOW / 2, 2.0)])
    to_shadow = to_shadow.astype(np.float32)
    shadow = np.zeros((_SHADOW, _SHADOW), np.float32)
    project = lambda points: points @ to_shadow[:, :3].T + to_shadow[:, 3]  # noqa: E731
    draw_depth(project(scene.mesh), identity.triangles, shadow)
    draw_strand_depth(project(scene.strands), identity.strands.starts, shadow)
    return light, shadow, to_shadow, identity.softness


@lru_cache(maxsize=4)
def _reference_scene(key: _Key) -> _Scene:
    return _scene(key.identity, key.identity.reference_units, key.identity.reference_pose)


class _Key:
    """An identity as a key: the reference is drawn once for all frames of a clip."""

    def __init__(self, identity: HeadIdentity) -> None:
        self.identity = identity

    def __hash__(self) -> int:
        return id(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.identity is self.identity


def _flow(identity: HeadIdentity, scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    reference = _reference_scene(_Key(identity))
    flow = np.empty((FLOW, FLOW, 2), np.float32)
    visible = np.empty((FLOW, FLOW), np.bool_)
    label_flow(
        scene.buffers, identity.triangles, (scene.mesh, scene.strands, scene.view),
        (reference.mesh, reference.strands, reference.view), reference.buffers[0], np.zeros(3), flow, visible,
    )  # fmt: skip
    return flow, visible
