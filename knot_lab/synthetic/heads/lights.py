"""Light, background and camera of one clip.

Shapes: P = 256 pixels a side. Light is linear; ``light`` [8, 3] as ``shading`` reads it, in camera space.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .cameras import PICTURE
from .noise import NoiseBank


def sample_light(rng: np.random.Generator, backdrop: np.ndarray) -> tuple[np.ndarray, float]:
    """[8, 3], and how soft its shadows are (samples of the shadow map); ``backdrop`` [P, P, 3] tints the ambient."""
    kind = rng.choice(["studio", "window", "overcast", "sun", "lamp"], p=[0.32, 0.25, 0.2, 0.13, 0.1])
    side = rng.uniform(-1.25, 1.25)
    height = {"overcast": rng.uniform(0.6, 1.2), "lamp": rng.uniform(-0.2, 0.6)}.get(kind, rng.uniform(0.05, 0.85))
    key = np.array([np.sin(side) * np.cos(height), np.sin(height), np.cos(side) * np.cos(height)])
    strength = {
        "studio": (0.7, 1.5),
        "window": (0.7, 1.7),
        "overcast": (0.15, 0.45),
        "sun": (1.3, 2.2),
        "lamp": (0.8, 1.8),
    }[kind]
    ambient = {
        "studio": (0.35, 0.8),
        "window": (0.2, 0.5),
        "overcast": (0.8, 1.1),
        "sun": (0.3, 0.6),
        "lamp": (0.12, 0.4),
    }[kind]
    warmth = rng.normal(0.12 if kind in ("lamp", "sun") else 0.0, 0.08)
    colour = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(*strength)
    around = backdrop.mean(axis=(0, 1))
    around = 0.82 + 0.18 * np.clip(around / max(around.mean(), 1e-3), 0, 2)
    constant = around * rng.uniform(*ambient) * np.array([1 - 0.4 * warmth, 1.0, 1 + 0.4 * warmth])
    gradient = rng.normal(0, [[0.30], [0.15], [0.12]], (3, 1)) * constant
    gradient[1] += 0.28 * constant
    gradient += rng.normal(0, 0.05, (3, 3)) * constant
    rim_side = np.sign(-side) * rng.uniform(1.9, 2.6)
    rim = np.array([np.sin(rim_side), rng.uniform(0, 0.5), np.cos(rim_side)])
    rim_colour = rng.uniform(0.2, 1.3) * (rng.random() < 0.25) * (1 + rng.normal(0, 0.15, 3))
    light = np.stack([key, colour, rim / np.linalg.norm(rim), np.maximum(rim_colour, 0), constant, *gradient])
    soft = {"sun": 0.7, "overcast": 4.0, "window": 3.0}.get(kind, rng.uniform(1.0, 3.0))
    return light.astype(np.float32), float(soft)


def exposure_for(light: np.ndarray, tone: np.ndarray) -> float:
    """The exposure of a camera that meters the face: for a skin of ``tone`` [3] under ``light`` [8, 3].

    target = 0.62 L^0.65 of the skin's luminance L, so that dark skin stays darker, by less than it is.
    """
    weights = np.array([0.25, 0.6, 0.15])
    luminance = float(tone @ weights)
    arriving = float((0.5 * max(light[0, 2], 0.3) * light[1] + light[4] + 0.3 * light[7]) @ weights)
    return 0.62 * luminance**-0.35 / max(arriving, 0.05)


# ---- backgrounds --------------------------------------------------------------------------------------------------


def sample_background(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    """Linear float32 [P, P, 3]: a wall, a studio backdrop, a blurred room or street, leaves, lights, a pattern."""
    kinds = (_wall, _studio, _blocks, _leaves, _bokeh, _pattern, _shelves)
    picture = kinds[rng.choice(len(kinds), p=[0.2, 0.18, 0.2, 0.13, 0.12, 0.07, 0.10])](rng, noise)
    slope = np.linspace(-1, 1, PICTURE)
    shade = 1 + rng.normal(0, 0.12) * slope[:, None] + rng.normal(0, 0.15) * slope[None]
    picture = picture * np.maximum(shade, 0.2)[..., None]
    return np.clip(picture * rng.uniform(0.5, 1.3), 0.002, 3).astype(np.float32)


def _colour(rng: np.random.Generator, saturation: float = 0.35) -> np.ndarray:
    """A linear colour [3] of random brightness."""
    grey = rng.uniform(0.02, 0.75)
    return np.clip(grey * np.exp(rng.normal(0, saturation, 3)), 0.005, 0.95)


def blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    """[H, W, 3] three times box-filtered, which is nearly a Gaussian of ``radius`` pixels; edges repeat."""
    if radius < 0.3:
        return picture
    width = max(1, round(radius * 1.9))
    for axis in (0, 1) * 3:
        pad = [(width // 2 + 1, width - width // 2 - 1) if a == axis else (0, 0) for a in range(picture.ndim)]
        total = np.cumsum(np.pad(picture, pad, "edge"), axis=axis, dtype=np.float64)
        picture = (np.roll(total, -width, axis) - total).take(range(picture.shape[axis]), axis) / width
    return picture.astype(np.float32)


def _wall(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    rough = noise.fractal(rng, PICTURE, PICTURE, rng.uniform(0.4, 0.95))
    picture = _colour(rng, 0.25) * (1 + rng.uniform(0.02, 0.16) * rough[..., None])
    if rng.random() < 0.4:  # bricks or panels
        high, wide = rng.uniform(14, 60), rng.uniform(30, 110)
        y, x = np.mgrid[:PICTURE, :PICTURE]
        row = np.floor(y / high)
        seam = np.minimum(y % high, (x + wide / 2 * (row % 2)) % wide) < rng.uniform(1, 3)
        picture = np.where(seam[..., None], picture * rng.uniform(0.5, 1.3), picture)
    return blurred(picture, rng.uniform(0, 4))


def _studio(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : PICTURE * 1j, -1 : 1 : PICTURE * 1j]
    glow = np.exp(-((x - rng.normal(0, 0.4)) ** 2 + (y - rng.normal(0, 0.4)) ** 2) / rng.uniform(0.4, 2.5))
    cloth = noise.cut(rng, 48, PICTURE, PICTURE) * rng.uniform(0, 0.2) + noise.cut(
        rng, 24, PICTURE, PICTURE
    ) * rng.uniform(0, 0.08)
    return _colour(rng, 0.3) * (rng.uniform(0.3, 1) + glow * rng.uniform(0, 1.2) + cloth)[..., None]


def _blocks(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    """A room or a street, out of focus: upright and level edges of many sizes, some of them bright windows."""
    picture = np.ones((PICTURE, PICTURE, 3)) * _colour(rng, 0.15)
    for _ in range(rng.integers(6, 26)):
        wide, high = rng.uniform(8, 140), rng.uniform(10, 170)
        x, y = rng.uniform(-40, PICTURE), rng.uniform(-40, PICTURE)
        bright = rng.uniform(1.0, 3.0) if rng.random() < 0.12 else 1.0
        picture[max(0, int(y)) : int(y + high), max(0, int(x)) : int(x + wide)] = _colour(rng) * bright
    picture *= 1 + 0.15 * noise.cut(rng, 6, PICTURE, PICTURE)[..., None]
    return blurred(picture, rng.choice([rng.uniform(0.6, 3), rng.uniform(4, 12)]))


def _leaves(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    light = noise.fractal(rng, PICTURE, PICTURE, rng.uniform(0.7, 1.1))
    other = noise.cut(rng, 24, PICTURE, PICTURE)
    green = np.array([0.10, 0.20, 0.05]) * np.exp(rng.normal(0, 0.35, 3))
    sky = np.array([0.6, 0.75, 0.95]) * rng.uniform(0.4, 1.2)
    leaf = green * np.exp(0.7 * light)[..., None] * (1 + 0.2 * other[..., None] * np.array([1, 0, -0.4]))
    y = np.linspace(1, -1, PICTURE)[:, None]
    gap = np.clip((light + other + rng.normal(0, 1) + rng.uniform(0, 3) * y) * 1.5 - 1.5, 0, 1)[..., None]
    return blurred(leaf * (1 - gap) + sky * gap, rng.uniform(0.8, 7))


def _bokeh(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    picture = np.ones((PICTURE, PICTURE, 3)) * _colour(rng, 0.4) * 0.2
    y, x = np.mgrid[:PICTURE, :PICTURE]
    size = rng.uniform(4, 22)
    for _ in range(rng.integers(15, 70)):
        away = np.hypot(x - rng.uniform(0, PICTURE), y - rng.uniform(0, PICTURE)) / (size * rng.uniform(0.7, 1.2))
        picture += (np.clip((1 - away) * size * 0.5, 0, 1) * rng.uniform(0.05, 0.8))[..., None] * _colour(rng, 0.6)
    return blurred(picture * (1 + 0.05 * noise.cut(rng, 12, PICTURE, PICTURE)[..., None]), rng.uniform(0.5, 2))


def _pattern(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    y, x = np.mgrid[:PICTURE, :PICTURE] * rng.uniform(0.08, 0.5)
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = np.sin(u + 0.5 * noise.cut(rng, 24, PICTURE, PICTURE)) * (
        np.sin(v * rng.uniform(0.3, 1.2)) if rng.random() < 0.6 else 1
    )
    mask = np.clip(0.5 + waves * rng.uniform(0.6, 4), 0, 1)[..., None]
    return blurred(_colour(rng) * (1 - mask) + _colour(rng) * mask, rng.uniform(0, 3))


def _shelves(rng: np.random.Generator, noise: NoiseBank) -> np.ndarray:
    """Rows of upright things, as books or goods have."""
    picture = np.ones((PICTURE, PICTURE, 3)) * _colour(rng, 0.2) * 0.5
    top, high = -rng.uniform(0, 30), rng.uniform(35, 80)
    while top < PICTURE:
        x = -5.0
        while x < PICTURE:
            wide, tall = rng.uniform(4, 18), high * rng.uniform(0.6, 0.95)
            picture[max(0, int(top + high - tall)) : max(0, int(top + high - 3)), max(0, int(x)) : int(x + wide)] = (
                _colour(rng, 0.5)
            )
            x += wide + (rng.uniform(3, 25) if rng.random() < 0.1 else 0.7)
        top += high
    return blurred(picture * (1 + 0.08 * noise.cut(rng, 3, PICTURE, PICTURE)[..., None]), rng.uniform(0.8, 6))


# ---- cameras ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The way of light to a stored picture."""

    exposure: float
    balance: np.ndarray  # [3]
    contrast: float
    saturation: float
    vignette: float
    blur: float  # pixels
    noise: float  # of 255
    coarse_noise: float
    quality: int | None  # JPEG; None: stored without loss
    monochrome: bool


def sample_camera(rng: np.random.Generator) -> Camera:
    """A good camera as a rule, a bad one now and then."""
    bad = rng.random() < 0.3
    return Camera(
        exposure=float(np.exp(rng.normal(0, 0.22))),
        balance=np.exp(rng.normal(0, 0.04, 3)),
        contrast=rng.uniform(0.95, 1.35),
        saturation=rng.uniform(0.75, 1.25),
        vignette=rng.uniform(0, 0.3),
        blur=rng.uniform(0.5, 1.1) if bad else rng.uniform(0.0, 0.5),
        noise=rng.uniform(2, 7) if bad else rng.uniform(0, 2.5),
        coarse_noise=rng.uniform(0, 3) if bad else rng.uniform(0, 0.8),
        quality=int(rng.integers(45, 85)) if bad else (int(rng.integers(85, 97)) if rng.random() < 0.5 else None),
        monochrome=rng.random() < 0.04,
    )


def plain_camera(exposure: float = 1.0) -> Camera:
    """Neither noise nor loss: what labels are measured with."""
    return Camera(
        exposure=exposure,
        balance=np.ones(3),
        contrast=1,
        saturation=1,
        vignette=0,
        blur=0,
        noise=0,
        coarse_noise=0,
        quality=None,
        monochrome=False,
    )


_TONES = 4096
_BRIGHTEST = 6.0


def _tone_curve(contrast: float) -> np.ndarray:
    """Linear light 0 .. 6 in square roots -> 0 .. 255: a shoulder, sRGB's gamma, contrast about the middle grey."""
    x = np.linspace(0, 1, _TONES) ** 2 * _BRIGHTEST
    shouldered = x * (1 + x / 12) / (1 + 0.55 * x) * 1.25
    gamma = np.where(
        shouldered < 0.0031308, 12.92 * shouldered, 1.055 * np.maximum(shouldered, 1e-9) ** (1 / 2.4) - 0.055
    )
    return np.clip((0.45 + (gamma - 0.45) * contrast) * 255, 0, 255).astype(np.float32)


def photographed(light: np.ndarray, camera: Camera, noise: NoiseBank, rng: np.random.Generator | None) -> np.ndarray:
    """Linear light float32 [P, P, 3] -> uint8 [P, P, 3]; without ``rng`` free of noise and loss."""
    x = light * (camera.balance * camera.exposure).astype(np.float32)
    if camera.saturation != 1 or camera.monochrome:
        grey = x @ np.array([0.25, 0.6, 0.15], np.float32)
        x = grey[..., None] + (0.0 if camera.monochrome else camera.saturation) * (x - grey[..., None])
    if camera.vignette:
        line = np.linspace(-1, 1, len(x), dtype=np.float32) ** 2
        x = x * (1 - camera.vignette * 0.5 * (line[:, None] + line[None]))[..., None]
    place = np.sqrt(np.clip(x, 0, _BRIGHTEST - 1e-3) / _BRIGHTEST) * (_TONES - 1)
    picture = _tone_curve(camera.contrast)[place.astype(np.int32)]
    picture = softened(picture, camera.blur)
    if rng is None:
        return (picture + 0.5).astype(np.uint8)
    if camera.noise or camera.coarse_noise:
        fine = np.stack([noise.cut(rng, 0.7, len(x), len(x)) for _ in range(3)], axis=2)
        coarse = np.stack([noise.cut(rng, 1.5, len(x), len(x)) for _ in range(3)], axis=2)
        picture = picture + camera.noise * fine + camera.coarse_noise * coarse
    stored = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
    return stored if camera.quality is None else _compressed(stored, camera.quality)


def softened(picture: np.ndarray, sigma: float) -> np.ndarray:
    """[H, W, 3] under the filter (a, 1 - 2 a, a) along both axes, whose variance is 2 a = sigma^2 (up to 0.8)."""
    a = min(0.5 * sigma * sigma, 0.33)
    if a < 0.01:
        return picture
    for axis in (0, 1):
        first = np.take(picture, [0], axis)
        last = np.take(picture, [-1], axis)
        rest = [slice(None)] * 3
        rest[axis] = slice(None, -1)
        before = np.concatenate([first, picture[tuple(rest)]], axis)
        rest[axis] = slice(1, None)
        after = np.concatenate([picture[tuple(rest)], last], axis)
        picture = np.float32(1 - 2 * a) * picture + np.float32(a) * (before + after)
    return picture


def _compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored).convert("RGB"))
