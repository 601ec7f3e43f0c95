"""Somebody before a camera: everything that stays the same from frame to frame.

Shapes: M mesh vertices, T triangles, Q strand points, P = 256 pixels, S = 512 samples a side.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .cameras import SAMPLES, View, aligned_view
from .face_hair import grow_beard, grow_brows, grow_lashes
from .fitting import Fitting
from .garments import dress
from .hair import grow_hair
from .hair_styles import hairline, sample_hair_colour, sample_style
from .head_bank import LASHES, SKIN, SPAN, TOP, HeadBank
from .head_hull import HeadHull
from .lights import Camera, exposure_for, plain_camera, sample_background, sample_camera, sample_light
from .meshes import Mesh
from .shading import FIRST_MATERIAL
from .shapes import Person, rest_shape, sample_person, shape_weights
from .skin import FRONT, ROWS, SkinMap, paint_skin, skin_map
from .strands import Strands, joined


@dataclass(frozen=True, kw_only=True)
class HeadIdentity:
    """One person with hair, clothes, light, background and camera. ``render`` draws them."""

    bank: HeadBank = field(repr=False)
    person: Person
    rest: np.ndarray  # float32 [M, 3]; the body's vertices come first
    joints: tuple[np.ndarray, np.ndarray]  # head, neck: [3] each
    skin: np.ndarray  # float32 [M, 2]
    triangles: np.ndarray  # int32 [T, 3]
    materials_of: np.ndarray  # uint8 [T]
    culled: np.ndarray  # bool [T]
    cut: np.ndarray  # float32 [M]
    mesh: tuple[np.ndarray, np.ndarray, np.ndarray]  # coordinates [M, 3], uv [M, 2], (occlusion, inner mouth) [M, 2]
    surface: tuple[np.ndarray, ...]  # texture, materials, eye, teeth, grain: see ``shading``
    lens: tuple[np.ndarray, np.ndarray] | None  # int32 triangles [t, 3]; [5]: what passes (r, g, b), gleam, its slope
    strands: Strands
    light: np.ndarray  # float32 [8, 3], in camera space
    softness: float
    light_follows_head: bool = False
    background: np.ndarray  # float32 [P, P, 3]
    view: View
    middle: np.ndarray  # [3]
    camera: Camera
    reference_units: np.ndarray  # float32 [52]
    reference_pose: np.ndarray  # float32 [6]
    kinds: dict[str, str]  # what hair, clothes and so on they have, in words

    @staticmethod
    def sample(bank: HeadBank, rng: np.random.Generator) -> HeadIdentity:
        """Anybody, in a reference near the front and near rest."""
        return _sample(bank, rng)

    def plain(self) -> HeadIdentity:
        """The same under light that turns with the head, without highlights, noise and loss: labels are measured so."""
        texture, materials, *rest = self.surface
        texture, materials = texture.copy(), materials.copy()
        texture[..., 3] = 0
        materials[:, 8] = 0
        strands = replace(self.strands, shine=np.zeros_like(self.strands.shine))
        return replace(
            self,
            camera=plain_camera(self.camera.exposure),
            light_follows_head=True,
            surface=(texture, materials, *rest),
            strands=strands,
        )

    def shadowless(self) -> HeadIdentity:
        """``plain`` under the same light from every side: what then differs between frames is geometry alone."""
        plain = self.plain()
        light = np.zeros_like(self.light)
        light[0, 2] = light[2, 2] = 1  # directions of lights that are off
        light[4] = self.light[4] + 0.5 * self.light[1]
        return replace(plain, light=light)

    def with_reference(self, units: np.ndarray, pose: np.ndarray) -> HeadIdentity:
        """The same with another reference: units [52], pose [6]."""
        return replace(self, reference_units=units.astype(np.float32), reference_pose=pose.astype(np.float32))


_MAPS: dict[int, SkinMap] = {}


def _map_of(bank: HeadBank) -> SkinMap:
    if id(bank) not in _MAPS:
        _MAPS[id(bank)] = skin_map(bank)
    return _MAPS[id(bank)]


def _sample(bank: HeadBank, rng: np.random.Generator) -> HeadIdentity:
    person = sample_person(rng)
    rest, joints = rest_shape(bank, shape_weights(rng, bank, person))
    hair_colour, natural_colour = sample_hair_colour(rng, person)
    look = paint_skin(rng, bank, _map_of(bank), person, natural_colour)
    used = np.unique(bank.triangles[bank.groups == SKIN])
    hull = HeadHull(rest[used], bank.skin[used])
    style_name, style = sample_style(rng, person)
    worn = Fitting(rng=rng, bank=bank, rest=rest, hull=hull, person=person, tone=look.tone)
    dress(worn)
    strands = [grow_brows(rng, bank, rest, person, natural_colour), grow_lashes(rng, bank, person)]
    strands += grow_beard(rng, bank, rest, person, natural_colour)
    if style is not None and not worn.hair_hidden:
        strands += grow_hair(worn, style, hair_colour)
    meshes = [_body(bank, rest), *worn.wardrobe.meshes]
    shift = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    background = sample_background(rng, bank.noise)
    light, softness = sample_light(rng, background)
    camera = sample_camera(rng)
    joint = lambda name: bank.joint(joints, name)  # noqa: E731
    middle = 0.5 * (joint("l-eye") + joint("r-eye")) - (0, 0.03, 0.07)
    mouth = rest[bank.landmarks["right_mouth_corner"]].mean(axis=0) * (0, 1, 1)
    view = aligned_view(_eyes(bank, rest), mouth, middle, float(np.exp(rng.uniform(np.log(0.55), np.log(2.2)))))
    view = _jittered(rng, view)
    texture = _under_hair(bank, look.texture, style is not None and not worn.hair_hidden, style, hair_colour)
    materials = np.array([m.row() for m in worn.wardrobe.materials] or [[0.5] * 12], np.float32)
    return HeadIdentity(
        bank=bank,
        person=person,
        rest=np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32),
        joints=(joint("head"), joint("neck")),
        skin=np.ascontiguousarray(np.concatenate([mesh.skin for mesh in meshes]), np.float32),
        triangles=np.concatenate([mesh.triangles + s for mesh, s in zip(meshes, shift[:-1], strict=True)]).astype(
            np.int32
        ),
        materials_of=np.concatenate(
            [np.broadcast_to(np.asarray(m.material, np.uint8), len(m.triangles)) for m in meshes]
        ),
        culled=np.concatenate([np.full(len(mesh.triangles), mesh.culled) for mesh in meshes]),
        cut=np.concatenate([_cut(mesh) for mesh in meshes]),
        mesh=_mesh_arrays(bank, meshes),
        surface=(texture, materials, _eye(rng, bank, person), _teeth(bank), bank.noise.cut(rng, 1.5, 256, 256)),
        lens=None if worn.lens is None else ((worn.lens[0] + shift[1 + worn.lens[2]]).astype(np.int32), worn.lens[1]),
        strands=joined(strands),
        light=light,
        softness=softness,
        background=background,
        view=view,
        middle=middle,
        camera=replace(camera, exposure=camera.exposure * exposure_for(light, look.tone)),
        reference_units=_rest_units(rng),
        reference_pose=np.array([*rng.normal(0, (0.09, 0.06, 0.04)), 0, 0, 1], np.float32),
        kinds={"hair": style_name, **worn.kinds},
    )


def _body(bank: HeadBank, rest: np.ndarray) -> Mesh:
    kept = bank.groups != LASHES  # lashes are strands
    return Mesh(
        vertices=rest,
        triangles=bank.triangles[kept],
        skin=bank.skin,
        coordinates=bank.template,
        material=bank.groups[kept],
        culled=True,
    )


def _cut(mesh: Mesh) -> np.ndarray:
    return np.full(len(mesh.vertices), -1, np.float32) if mesh.cut is None else mesh.cut.astype(np.float32)


def _mesh_arrays(bank: HeadBank, meshes: list[Mesh]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coordinates = np.concatenate([mesh.coordinates for mesh in meshes]).astype(np.float32)
    rest = len(coordinates) - len(bank.template)
    uv = np.concatenate([bank.uv, np.zeros((rest, 2), np.float32)])
    body = np.stack([0.12 + 0.88 * bank.occlusion, bank.inner_mouth], axis=1)
    worn = np.tile(np.array([[0.9, 0.0]]), (rest, 1))
    return coordinates, uv, np.concatenate([body, worn]).astype(np.float32)


def _eyes(bank: HeadBank, rest: np.ndarray) -> np.ndarray:
    return np.stack([rest[bank.landmarks[f"{side}_pupil"]].mean(axis=0) for side in ("right", "left")])


_IRISES = np.array(
    [
        [0.050, 0.022, 0.010],
        [0.090, 0.045, 0.020],
        [0.10, 0.075, 0.03],
        [0.075, 0.12, 0.17],
        [0.10, 0.13, 0.15],
        [0.07, 0.10, 0.05],
    ]
)


def _eye(rng: np.random.Generator, bank: HeadBank, person: Person) -> np.ndarray:
    """[2, 9]: middle and radius of the balls on the template, radii of iris and pupil, colour of the iris."""
    light = 0.75 * person.ancestry[2]
    colour = _IRISES[rng.choice(6, p=[1 - light, *[light / 5] * 5])] * np.exp(rng.normal(0, 0.2, 3))
    iris, pupil = rng.uniform(0.0060, 0.0066), rng.uniform(0.0021, 0.0034)
    rows = []
    for group in (1, 2):
        ball = bank.template[np.unique(bank.triangles[bank.groups == group])]
        low, high = ball.min(axis=0), ball.max(axis=0)
        rows.append([*((low + high) / 2), (high - low)[0] / 2, iris, pupil, *colour])
    return np.array(rows, np.float32)


def _teeth(bank: HeadBank) -> np.ndarray:
    """[5]: lowest and highest of the upper teeth, of the lower, and how far they reach forwards."""
    found = []
    for group in (3, 4):
        rows = bank.template[np.unique(bank.triangles[bank.groups == group])]
        found += [rows[:, 1].min(), rows[:, 1].max()]
    return np.array([*found, rows[:, 2].max()], np.float32)


def _under_hair(bank: HeadBank, texture: np.ndarray, hairy: bool, style: object, colour: np.ndarray) -> np.ndarray:
    """The skin's texture with the scalp under hair in the hair's colour, so that gaps between strands look dense."""
    if not hairy:
        return texture

    height, width = texture.shape[:2]
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    level = TOP - (np.arange(height)[:, None] + 0.5) / height * SPAN
    above = np.clip((level - hairline(azimuth, style)[None] + 0.001) / 0.010, 0, 1).astype(np.float32)
    if style.bald > 1.2:
        above *= np.clip((0.805 - level) / 0.02, 0, 1).astype(np.float32)
    above[ROWS, FRONT] *= 1 - np.clip(3 * _map_of(bank).ears, 0, 1)
    rows = slice(0, int(0.4 * height))  # no hair grows lower
    amount = 0.8 * above[rows, :, None]
    texture[rows, :, :3] += amount * (0.5 * colour.astype(np.float32) - texture[rows, :, :3])
    texture[rows, :, 3] *= 1 - 0.7 * above[rows]
    return texture


def _rest_units(rng: np.random.Generator) -> np.ndarray:
    from knot_core.driving.face_units import UNITS

    units = np.zeros(52, np.float32)
    if rng.random() < 0.6:
        smile = rng.uniform(0, 0.6) * (rng.random() < 0.6)
        for name, value in {
            "mouthSmileLeft": smile,
            "mouthSmileRight": smile,
            "jawOpen": rng.uniform(0, 0.12),
            "browInnerUp": rng.uniform(0, 0.2),
        }.items():
            units[UNITS.index(name)] = value
        units += np.clip(rng.normal(0, 0.04, 52), 0, 0.15).astype(np.float32)
        units[-1] = 0
    return units


def _jittered(rng: np.random.Generator, view: View) -> View:
    """As a detector would have it: a little off in place and size; the camera looks from a little aside."""
    zoom = float(np.exp(rng.normal(-0.02, 0.05)))
    middle = SAMPLES / 2
    centre = tuple(float(middle + (c - middle) * zoom + rng.normal(0, 5)) for c in view.centre)
    return View(view.distance, (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))), view.focal * zoom, centre)


assert FIRST_MATERIAL > LASHES
