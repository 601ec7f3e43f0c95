"""Skin as a texture over azimuth and height: colour, gloss and relief, painted by where on the template a texel lies.

The texture is [H, W, 7]: linear albedo, strength and roughness of the highlight, slopes of the relief along and down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .head_bank import AXIS_Z, SKIN, SPAN, TOP, HeadBank
from .raster import draw_triangles, empty_buffers
from .shapes import Person

WIDTH, HEIGHT = 896, 768
FRONT = slice(160, 736)  # columns that are painted; behind them is hair, and skin of one colour
_WIDE = 576
ROWS = slice(44, 376)  # rows with features: template heights 0.845 to 0.576 m
_SEAM = 32  # columns over which the paint fades out
_PHOTOGRAPHIC = 0.6  # share of people whose skin is a photographed one, where there are any
# Linear albedos from fair to dark, read off published skin reflectances (about 550 nm: 0.5 to 0.04).
_TONES = np.array(
    [[0.66, 0.42, 0.33], [0.52, 0.30, 0.21], [0.36, 0.185, 0.115], [0.19, 0.088, 0.050], [0.075, 0.036, 0.023]]
)


class SkinMap(NamedTuple):
    """The template under each painted texel of the template, float32 [332, 576] each."""

    x: np.ndarray  # |x|, m
    y: np.ndarray
    z: np.ndarray
    lips: np.ndarray
    ears: np.ndarray
    texture: np.ndarray  # [332, 576, 2]: where it lies in pictures of skin, 0 .. 1; 0 beyond the head


@dataclass(frozen=True, kw_only=True)
class SkinLook:
    """A painted skin, and its tone, which hands need."""

    texture: np.ndarray  # float32 [H, W, 7]
    tone: np.ndarray  # [3]
    darkness: float  # 0 fair .. 1 dark


def skin_map(bank: HeadBank) -> SkinMap:
    """The template's surface unrolled: 40 ms, once."""
    size = max(WIDTH, HEIGHT)
    radius = np.hypot(bank.template[:, 0], bank.template[:, 2] - AXIS_Z)
    screen = np.stack([bank.uv[:, 0] * WIDTH, bank.uv[:, 1] * HEIGHT, 1 + radius], axis=1).astype(np.float32)
    body = bank.triangles[bank.groups == SKIN]
    whole = np.ptp(bank.uv[body, 0], axis=1) < 0.5
    body = body[whole]
    near, what, where = empty_buffers(size)
    draw_triangles(screen, body, np.zeros(len(body), bool), np.full(len(screen), -1, np.float32), near, what, where)
    what, where = what[ROWS, FRONT], where[ROWS, FRONT]
    weights = np.concatenate([where, 1 - where.sum(axis=2, keepdims=True)], axis=2)
    corners = body[what]
    put = lambda values, empty: np.where(what >= 0, (values[corners] * weights).sum(axis=2), empty).astype(np.float32)  # noqa: E731
    height = TOP - (np.arange(HEIGHT)[ROWS] + 0.5) / HEIGHT * SPAN
    return SkinMap(
        x=put(np.abs(bank.template[:, 0]), 0.2),
        y=put(bank.template[:, 1], height[:, None]),
        z=put(bank.template[:, 2], -0.1),
        lips=put(bank.lips, 0.0),
        ears=put(bank.ears, 0.0),
        texture=np.einsum(
            "hwck,hwc->hwk", bank.texture[bank.groups == SKIN][whole][what], weights * (what >= 0)[..., None]
        ).astype(np.float32),
    )


def smooth_step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high`` (or the other way round), smooth between them; the shape of ``x`` [...]."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _rgb(*values: float) -> np.ndarray:
    """A colour float32 [3]; of double precision it would make whole textures so."""
    return np.array(values, np.float32)


def _spot(at: SkinMap, x: float, y: float, wide: float, high: float) -> np.ndarray:
    """exp(-((x - x0) / w)^2 - ((y - y0) / h)^2) on both sides of the face."""
    return np.exp(-(((at.x - x) / wide) ** 2) - ((at.y - y) / high) ** 2) * (at.z > 0)


def paint_skin(
    rng: np.random.Generator, bank: HeadBank, at: SkinMap, person: Person, hair_colour: np.ndarray
) -> SkinLook:
    """One person's skin; ``hair_colour`` [3] tints the shadow of a shaven beard and the scalp."""
    fair = 0.2 * person.ancestry[2] + 0.95 * person.ancestry[0] + 0.42 * person.ancestry[1]
    darkness = float(np.clip(fair + rng.normal(0, 0.12), 0, 1))
    tone = np.exp([np.interp(darkness * 4, range(5), np.log(_TONES[:, k])) for k in range(3)])
    tone = (tone * np.exp(rng.normal(0, [0.05, 0.06, 0.09]))).astype(np.float32)
    noise = lambda scale: bank.noise.cut(rng, scale, HEIGHT, _WIDE)  # noqa: E731
    layers = tuple(noise(scale) for scale in (24, 6, 1.5, 0.7))
    mottled, blotched, grain, fine = layers
    albedo = tone * (
        1 + (0.05 * mottled + 0.035 * blotched + 0.03 * grain + 0.015 * fine)[..., None] * _rgb(0.7, 1, 1.1)
    )
    relief = 0.004 * fine + 0.006 * grain
    painted = np.dstack([albedo, 0.55 + 0.12 * grain, np.full_like(grain, 0.56), relief])
    features = tuple(layer[ROWS] for layer in layers)
    painted[ROWS] = _features(
        rng, at, person, (painted[ROWS], features), (tone, darkness, hair_colour.astype(np.float32))
    )
    if bank.skins and rng.random() < _PHOTOGRAPHIC:
        painted[..., :3], tone = _photographed(rng, bank, at, painted[..., :3])
    slopes = [np.roll(painted[..., 5], -1, axis) - np.roll(painted[..., 5], 1, axis) for axis in (1, 0)]
    albedo = np.clip(painted[..., :3], 0.004, 0.92)
    return SkinLook(texture=_whole(np.dstack([albedo, painted[..., 3:5], *slopes]), tone), tone=tone, darkness=darkness)


def _photographed(
    rng: np.random.Generator, bank: HeadBank, at: SkinMap, albedo: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A photographed skin, a little of another tone, over the painted albedo [H, 576, 3]; and its tone [3]."""
    tinted = np.exp(rng.normal(0, 0.12) + rng.normal(0, [0.02, 0.04, 0.06])).astype(np.float32)
    skin = bank.skins[rng.integers(len(bank.skins))] * tinted
    cheeks = _spot(at, 0.045, 0.70, 0.02, 0.02) > 0.5
    tone = skin[cheeks].mean(axis=0)
    albedo = albedo * (tone / albedo[ROWS][cheeks].mean(axis=0))
    inside = (at.texture > 0).all(axis=-1)[..., None] * smooth_step(0.585, 0.605, at.y)[..., None]
    kept = rng.uniform(0, 0.35)  # of what is painted
    albedo[ROWS] += (1 - kept) * inside * (skin - albedo[ROWS])
    return albedo, tone


def _features(
    rng: np.random.Generator,
    at: SkinMap,
    person: Person,
    ground: tuple[np.ndarray, tuple[np.ndarray, ...]],
    look: tuple[np.ndarray, float, np.ndarray],
) -> np.ndarray:
    """The face: ground (albedo, gloss, roughness, relief [.., 6], and its noises) with all that a face has on it."""
    painted, (mottled, blotched, grain, fine) = ground
    tone, darkness, hair_colour = look
    albedo, relief = painted[..., :3], painted[..., 5]
    blood = _blood(rng, at, mottled, blotched) * (1 - 0.45 * darkness)
    albedo = albedo * (1 - blood[..., None] * _rgb(0.05, 0.30, 0.27))
    sockets = _spot(at, 0.028, 0.726, 0.021, 0.010) + 0.5 * _spot(at, 0.020, 0.746, 0.016, 0.008)
    albedo *= 1 - (rng.uniform(0.1, 0.75) * sockets)[..., None] * _rgb(0.24, 0.32, 0.27)
    albedo = _marks(rng, at, albedo, grain)
    relief = relief + _wrinkles(rng, at, person, mottled, blotched)
    if person.male > 0.5 and person.age > 0.4:
        shadow = rng.uniform(0, 0.55) * beard_region(at.x, at.y, at.z, at.lips) * (0.8 + 0.2 * grain + 0.2 * fine)
        stubble = 0.6 * hair_colour + 0.35 * tone * _rgb(0.8, 0.95, 1.1)
        albedo = albedo * (1 - shadow[..., None]) + shadow[..., None] * stubble
    gloss, rough = _gloss(rng, at, blotched, grain)
    if person.male < 0.5 and rng.random() < 0.5:
        albedo = _make_up(rng, at, albedo)
    albedo, gloss, rough, relief = _lips(rng, at, (albedo, gloss, rough, relief), person, tone, (grain, blotched))
    return np.dstack([albedo, gloss, rough, relief])


def _whole(painted: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """The painted columns [H, 576, 7] in the whole texture [H, W, 7], which is of one tone elsewhere."""
    texture = np.empty((HEIGHT, WIDTH, 7), np.float32)
    texture[:] = (*tone, 0.5, 0.55, 0, 0)
    ramp = np.minimum(1, np.minimum(np.arange(_WIDE), np.arange(_WIDE)[::-1]) / _SEAM).astype(np.float32)[None, :, None]
    texture[:, FRONT] += ramp * (painted - texture[:, FRONT])
    return texture


def _blood(rng: np.random.Generator, at: SkinMap, mottled: np.ndarray, blotched: np.ndarray) -> np.ndarray:
    """Redder skin: cheeks, nose, ears, chin, around the mouth."""
    cheeks = _spot(at, 0.045, 0.703, 0.021, 0.018) * rng.uniform(0.2, 1.0)
    nose = _spot(at, 0.0, 0.700, 0.015, 0.014) * rng.uniform(0.2, 0.9)
    rest = 0.3 * _spot(at, 0.0, 0.635, 0.02, 0.012) + 0.6 * at.ears + 0.2 * _spot(at, 0.0, 0.69, 0.03, 0.01)
    return np.clip((cheeks + nose + rest) * (1 + 0.35 * blotched + 0.2 * mottled), 0, 1)


def _marks(rng: np.random.Generator, at: SkinMap, albedo: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Freckles on some, a few moles on all, spots of age."""
    if rng.random() < 0.25:
        freckles = smooth_step(1.3, 2.0, grain) * np.exp(-(((at.y - 0.71) / 0.035) ** 2)) * (at.z > 0.03)
        albedo = albedo * (1 - rng.uniform(0.3, 1.0) * freckles[..., None] * _rgb(0.25, 0.38, 0.42))
    rows, columns = np.arange(len(albedo))[:, None], np.arange(_WIDE)[None]
    for _ in range(rng.integers(1, 9)):
        y, x, radius = rng.integers(20, 320), rng.integers(120, 460), rng.uniform(0.8, 2.0)
        near = np.s_[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9]
        spot = np.exp(-((rows[near[0]] - y) ** 2 + (columns[:, near[1]] - x) ** 2) / (2 * radius * radius))
        albedo[near] *= 1 - rng.uniform(0.3, 0.75) * spot[..., None]
    return albedo


def _wrinkles(
    rng: np.random.Generator, at: SkinMap, person: Person, mottled: np.ndarray, blotched: np.ndarray
) -> np.ndarray:
    """Lines of the forehead, from the nose to the mouth, about the eyes; deeper with age. Heights in texels."""
    depth = np.clip((person.age - 0.42) * 1.5, 0, 1) * rng.uniform(0.4, 1.3)
    if depth < 0.05:
        return np.zeros_like(at.x)
    waves = np.sin(at.y * rng.uniform(650, 1000) + 0.9 * mottled + 25 * at.x)
    forehead = _spot(at, 0.0, 0.788, 0.05, 0.02) * np.maximum(waves, -0.3)
    fold_x = 0.019 + (0.700 - at.y) * 0.50  # the nasolabial fold runs down and outwards
    fold = -np.exp(-(((at.x - fold_x) / 0.0035) ** 2)) * smooth_step(0.655, 0.67, at.y) * smooth_step(0.703, 0.69, at.y)
    crow = _spot(at, 0.060, 0.735, 0.010, 0.014) * np.sin((at.y - 0.735) * 900 + (at.x - 0.05) * 300 + blotched)
    bags = -np.exp(-(((at.y - 0.7195 + 8 * (at.x - 0.03) ** 2) / 0.0022) ** 2)) * smooth_step(0.014, 0.02, at.x)
    bags *= smooth_step(0.045, 0.038, at.x)
    neck = np.sin(at.y * 420 + mottled) * smooth_step(0.60, 0.585, at.y) * 0.5
    return depth * (0.10 * forehead + 0.32 * fold + 0.07 * crow + 0.16 * bags + 0.08 * neck) * (at.z > -0.05)


def beard_region(x: np.ndarray, y: np.ndarray, z: np.ndarray, lips: np.ndarray | float) -> np.ndarray:
    """The region of beards, 0 .. 1, in the shape of ``x`` [...]: jaw, chin, moustache, not the lips."""
    x = np.abs(x)
    edge = np.interp(x, [0, 0.012, 0.024, 0.036, 0.05, 0.062, 0.075], [0.646, 0.648, 0.664, 0.668, 0.678, 0.70, 0.725])
    edge = edge.astype(np.float32)
    jaw = smooth_step(0.006, -0.006, y - edge) * smooth_step(0.585, 0.612, y) * smooth_step(-0.01, 0.02, z)
    moustache = smooth_step(0.030, 0.022, x) * smooth_step(0.674, 0.678, y) * smooth_step(0.690, 0.685, y + 0.12 * x)
    moustache = moustache * (z > 0.06)
    return np.maximum(jaw, moustache) * (1 - lips)


def _gloss(
    rng: np.random.Generator, at: SkinMap, blotched: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Strength and roughness of the highlight: forehead, nose and cheeks are oilier."""
    oily = np.clip(
        _spot(at, 0, 0.78, 0.035, 0.03)
        + _spot(at, 0, 0.71, 0.014, 0.025)
        + 0.7 * _spot(at, 0.045, 0.713, 0.018, 0.012),
        0,
        1,
    )
    amount = rng.uniform(0.3, 1.2)
    gloss = 0.55 + amount * 0.6 * oily + 0.10 * blotched + 0.14 * grain
    rough = 0.56 - 0.13 * amount * oily + 0.03 * blotched
    return np.clip(gloss, 0.1, 2), np.clip(rough, 0.3, 0.75)


def _make_up(rng: np.random.Generator, at: SkinMap, albedo: np.ndarray) -> np.ndarray:
    colour = np.array(
        [[0.35, 0.12, 0.10], [0.12, 0.08, 0.10], [0.20, 0.22, 0.35], [0.30, 0.18, 0.08]][rng.integers(4)], np.float32
    )
    shadow = _spot(at, 0.031, 0.7445, 0.017, 0.006) * rng.uniform(0.1, 0.65)
    blush = _spot(at, 0.05, 0.705, 0.018, 0.013) * rng.uniform(0, 0.35)
    liner = _spot(at, 0.031, 0.7395, 0.017, 0.0022) * rng.uniform(0, 0.9)
    for mask, tint in ((blush, _rgb(0.55, 0.18, 0.17)), (shadow, colour), (liner, _rgb(0.02, 0.02, 0.02))):
        albedo = albedo * (1 - mask[..., None]) + mask[..., None] * tint
    return albedo


def _lips(
    rng: np.random.Generator,
    at: SkinMap,
    layers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    person: Person,
    tone: np.ndarray,
    noises: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    albedo, gloss, rough, relief = layers
    grain, blotched = noises
    natural = tone * _rgb(0.82, 0.56, 0.60) * rng.uniform(0.85, 1.15)
    colour, cover, wet = natural, rng.uniform(0.55, 0.95), rng.uniform(0.3, 1.2)
    if person.male < 0.5 and rng.random() < 0.45:
        palette = ([0.42, 0.04, 0.06], [0.50, 0.14, 0.16], [0.30, 0.05, 0.10], [0.55, 0.22, 0.18], [0.22, 0.04, 0.05])
        colour, cover = _rgb(*palette[rng.integers(5)]) * rng.uniform(0.7, 1.2), rng.uniform(0.6, 0.95)
    mask = (smooth_step(0.25, 0.75, at.lips) * cover)[..., None]
    lines = np.sin(at.x * 3200 + 2.0 * blotched) * (0.4 + 0.6 * np.abs(grain))
    painted = colour * (1 + 0.07 * lines + 0.07 * grain)[..., None]
    inside = smooth_step(0.25, 0.75, at.lips)
    return (
        albedo * (1 - mask) + painted * mask,
        gloss + wet * inside,
        rough * (1 - inside) + inside * rng.uniform(0.28, 0.5),
        relief * (1 - 0.5 * inside) + 0.02 * lines * inside,
    )
