"""The painter of procedural portraits: shapes laid over each other, back to front. avatars.py says what they show.

Coordinates of the scene: x to the right, y down; the picture shows a square of side 2 / ZOOM about (0, CENTRE_Y). The
head is an ellipsoid that turns about its vertical axis (yaw) and its ear-to-ear axis (pitch) and leans (roll); features
sit on its surface, so they move by parallax and foreshorten.

Shapes: ``N`` frames, ``H W`` pixels; parameters are [N, 1, 1], pictures [N, 3, H, W].
"""

from __future__ import annotations

import torch
from torch import Tensor

from .painter_shapes import Angle, bent, box, step, turn

ZOOM, CENTRE_Y = 1.22, 0.035


def paint(
    p: dict[str, Tensor],
    c: dict[str, Tensor],
    angles: tuple[Angle, ...],
    view: tuple[int, int, Tensor],
    with_parts: bool,
) -> tuple[Tensor, Tensor | None]:
    """An identity's numbers and controls, [N, 1, 1] each (colours [N, 3, 1, 1]) -> picture [N, 3, E, E]; back to front.

    ``view``: the side of the whole picture, the side E of the part that is drawn, and its corners [N, 2]. With
    ``with_parts`` also [N, 4, E, E], the share of each pixel that belongs to each region.
    """
    size, extent, corners = view
    steps = torch.arange(extent, device=corners.device, dtype=corners.dtype) + 0.5
    y, x = (((steps + corners[:, axis, None]) * (2 / size) - 1) / ZOOM for axis in (0, 1))
    grid = (x[:, None, :], y[:, :, None] + CENTRE_Y)
    canvas = _Canvas(p, c, grid, 1.5 / size / ZOOM, angles, with_parts)
    canvas.background()
    canvas.back_hair()
    canvas.body()
    canvas.head()
    canvas.beard()
    canvas.nose()
    canvas.mouth()
    canvas.eyes()
    canvas.front_hair()
    canvas.brows()
    canvas.glasses()
    return canvas.picture.clamp(0, 1), torch.stack(canvas.parts, dim=1) if with_parts else None


class _Canvas:
    """The picture so far, and the pixel coordinates of the frame, the head and its features."""

    def __init__(
        self,
        p: dict[str, Tensor],
        c: dict[str, Tensor],
        grid: tuple[Tensor, Tensor],
        edge: float,
        angles: tuple[Angle, ...],
        with_parts: bool,
    ) -> None:
        x, y = grid
        self.p, self.c, self.x, self.y, self.edge = p, c, x, y, edge
        self.yaw, self.pitch, roll = angles
        centre_x, centre_y = 0.09 * c["roll"] + 0.04 * c["yaw"], p["head_y"] + 0.03 * c["pitch"]
        dx, dy = x - centre_x, y - centre_y
        self.hx, self.hy = dx * roll.cos + dy * roll.sin, dy * roll.cos - dx * roll.sin
        self.a, self.b = p["face_width"], p["face_height"]
        self.with_parts = with_parts
        self.picture: Tensor
        self.parts: list[Tensor] = []

    def cover(self, sdf: Tensor, soft: float = 1.0) -> Tensor:
        """Coverage in 0..1 of a shape given by its signed distance (negative inside)."""
        return step(sdf * (-2.2 / (self.edge * soft)))

    def paint(self, alpha: Tensor, colour: Tensor | float, region: int | None = 3) -> None:
        """Lay a colour [N, 3, 1, 1] (or [N, 3, H, W], or grey) over the picture with coverage alpha [N, H, W]."""
        self.picture = self.picture + alpha[:, None] * (colour - self.picture)
        if region is not None and self.parts:
            self.parts = [part + alpha * (float(i == region) - part) for i, part in enumerate(self.parts)]

    def local(self, X: Tensor | float, Y: Tensor, lift: float = 1.0) -> tuple[Tensor, Tensor]:
        """Pixel coordinates about the surface point (X, Y) of the turned head, undone for foreshortening."""
        x, y, sx, sy = turn(X, Y, self.a, self.b, self.yaw, self.pitch, lift)
        return (self.hx - x) / sx, (self.hy - y) / sy

    def background(self) -> None:
        p = self.p
        t = (self.y * 0.5 + 0.5)[:, None]
        colour = p["back_top"] * (1 - t) + p["back_bottom"] * t
        glow = torch.exp(-((self.x - p["back_x"]) ** 2 + (self.y - p["back_y"]) ** 2) / p["back_size"] ** 2)
        self.picture = colour + (p["back_glow"] * glow)[:, None]
        if self.with_parts:
            zero = torch.zeros_like(self.picture[:, 0])
            self.parts = [zero + 1, zero, zero, zero]

    def back_hair(self) -> None:
        p = self.p
        width, top = self.a * p["hair_width"], -self.b * 0.95 - p["hair_volume"]
        bottom = p["hair_length"] * 0.7
        x = self.hx + 0.10 * self.yaw.sin
        body = box(x, self.hy - (top + bottom) / 2, width, (bottom - top) / 2, 0.30)
        shade = 0.72 + 0.12 * self.p["light"] * x
        shown = step((p["hair_length"] + 0.1) * 400) * step((0.85 - p["bald"]) * 400)
        self.paint(self.cover(body) * shown, p["hair"] * shade[:, None], region=2)

    def body(self) -> None:
        p, c = self.p, self.c
        sway, lift = 0.05 * c["yaw"] + 0.03 * c["roll"], 0.015 * c["pitch"]
        x, y = self.x - sway, self.y - lift
        shade = (0.92 + 0.16 * p["light"] * x - 0.12 * y)[:, None]
        torso = box(x, y - 1.25, p["shoulder"], 0.62, 0.34)
        stripe = step(6 * torch.sin(y * p["stripe_scale"] * 2)) * step(p["stripes"] * 400) * 0.6
        cloth = (p["clothes"] + stripe[:, None] * (p["trim"] - p["clothes"])) * shade
        self.paint(self.cover(torso), cloth, region=1)
        nx = x - 0.5 * (0.09 * c["roll"] + 0.04 * c["yaw"]) * step(-(y - 0.6) * 8)
        neck = box(nx, y - 0.42, p["neck_width"], 0.36, 0.12)
        collar_round = ((x / (p["neck_width"] * 1.25)) ** 2 + ((y - 0.66) / 0.16) ** 2).sqrt() - 1
        collar_v = (x.abs() * 1.3 + (y - 0.92)) * 0.7
        opening = torch.maximum(torch.where(p["collar"] > 0.5, collar_v, collar_round * 0.15), -(y - 0.60))
        skin_shade = (0.80 + 0.10 * p["light"] * x - 0.18 * step(-(y - 0.52) * 14))[:, None]
        self.paint(
            self.cover(torch.maximum(opening, x.abs() - p["neck_width"] * 1.3)) * self.cover(torso),
            p["skin"] * skin_shade,
        )
        self.paint(self.cover(neck) * step(-(y - 0.70) * 60), p["skin"] * skin_shade)
        rim = self.cover((opening.abs() - 0.022)) * self.cover(torso) * step((y - 0.60) * 60)
        self.paint(rim * self.cover(x.abs() - p["neck_width"] * 1.5), p["trim"] * shade, region=1)

    def head(self) -> None:
        p = self.p
        for side in (-1.0, 1.0):
            ex = side * self.a * 0.98 * self.yaw.cos - 0.10 * self.yaw.sin
            ear = (
                ((self.hx - ex) / 0.055) ** 2 + ((self.hy - 0.02 + 0.1 * self.pitch.sin) / p["ear_size"]) ** 2
            ).sqrt() - 1
            inner = (
                ((self.hx - ex) / 0.028) ** 2 + ((self.hy - 0.02 + 0.1 * self.pitch.sin) / (p["ear_size"] * 0.6)) ** 2
            ).sqrt() - 1
            self.paint(self.cover(ear * 0.055), p["skin"] * 0.90)
            self.paint(self.cover(inner * 0.028, 2) * 0.5, p["skin"] * 0.72)
        u, v = self.hx / self.a, self.hy / self.b
        jaw = 1 - p["jaw"] * torch.relu(v) * torch.relu(v).clamp(min=1e-6).sqrt()
        turned = self.yaw.sin * 0.10 * torch.relu(v + 0.3)
        radius = (((u - turned) / jaw) ** 2 + v**2).clamp(min=1e-6).sqrt()
        self.skull = (radius - 1) * 0.42
        depth = (1 - (radius * 0.94) ** 2).clamp(min=0.02).sqrt()
        shade = 0.70 + 0.30 * depth + 0.10 * p["light"] * (u - self.yaw.sin) - 0.05 * v
        self.skin = p["skin"] * shade[:, None]
        self.paint(self.cover(self.skull), self.skin)
        red = torch.tensor([0.92, 0.42, 0.38], device=self.x.device, dtype=self.x.dtype).view(1, 3, 1, 1)
        for side in (-1.0, 1.0):
            cu, cv = self.local(side * 0.23, p["nose_y"] + 0.05)
            blush = torch.exp(-(cu**2 + cv**2) / 0.011) * p["blush"] * self.cover(self.skull) * 0.7
            self.paint(blush, red * p["skin"])

    def beard(self) -> None:
        p = self.p
        u, v = self.local(0.0, p["mouth_y"], 0.95)
        region = torch.maximum(-(v + 0.02 + 0.55 * (u.abs() - 0.14)), self.skull)
        hole = -(((u / (p["mouth_width"] * 1.15)) ** 2 + (v / 0.085) ** 2).sqrt() - 1) * 0.08
        shown = step(p["beard"] * 400) * (0.55 + 0.35 * p["beard"])
        self.paint(self.cover(torch.maximum(region, hole), 4) * shown, p["hair"] * 0.95 + 0.03, region=2)
        tash = bent(u, v + 0.075 - 0.25 * u**2, 0.13, 0.022)
        self.paint(self.cover(tash, 2) * step(p["moustache"] * 400) * 0.9, p["hair"] * 0.9, region=2)

    def nose(self) -> None:
        p = self.p
        u, v = self.local(0.0, p["nose_y"], 1.30)
        side = torch.tanh(p["light"] * 3 + self.c["yaw"] * -1.0)
        ridge = (
            torch.exp(-(((u + 0.045 * side) / 0.030) ** 2)) * step((v + p["nose_length"]) * 30) * step(-(v - 0.01) * 40)
        )
        self.paint(ridge * 0.22, self.skin * 0.55)
        tip = torch.exp(-((u / (p["nose_width"] * 0.75)) ** 2 + ((v + 0.02) / 0.035) ** 2))
        self.paint(tip * 0.35, (self.skin * 1.12 + 0.03).clamp(max=1))
        under = torch.exp(-((u / (p["nose_width"] * 1.1)) ** 2 + ((v - 0.045) / 0.020) ** 2))
        self.paint(under * 0.38, self.skin * 0.50)
        for s in (-1.0, 1.0):
            hole = (((u - s * p["nose_width"] * 0.55) / 0.018) ** 2 + ((v - 0.028) / 0.012) ** 2).sqrt() - 1
            self.paint(self.cover(hole * 0.014, 1.5) * 0.65, self.skin * 0.30)

    def mouth(self) -> None:
        p, c = self.p, self.c
        u, v = self.local(0.0, p["mouth_y"], 1.05)
        opening, wide = c["mouth_open"].clamp(0, 1), c["mouth_wide"].clamp(-1, 1)
        width = p["mouth_width"] * (1 + 0.24 * wide - 0.10 * opening)
        v = v + 0.10 * wide.clamp(min=0) * (u**2 / p["mouth_width"]) * 1.6
        gap = 0.105 * opening
        rel = (u / width).clamp(-1.3, 1.3)
        bow = 1 - rel**2
        lip = p["lip"] * (1 + 0.25 * (-wide).clamp(min=0))
        top = -(lip * 0.95) * bow.clamp(min=1e-4).sqrt() - gap * 0.25 * bow
        low = (lip * 1.15) * bow.clamp(min=1e-4).sqrt() + gap * 0.95 * bow
        outer = torch.maximum(torch.maximum(top - v, v - low), (u.abs() - width) * 0.8)
        inner_top, inner_low = -gap * 0.25 * bow, gap * 0.95 * bow
        inner = torch.maximum(inner_top - v, v - inner_low) + 0.004
        red = torch.tensor([0.75, 0.22, 0.24], device=u.device, dtype=u.dtype).view(1, 3, 1, 1)
        lips = self.skin * 0.80 + p["lip_red"].unsqueeze(1) * 0.75 * (
            red * (0.45 + 0.55 * p["skin"].mean(1, keepdim=True)) - self.skin * 0.80
        )
        lips = lips * (1.0 - 0.16 * step(-(v - 0.0) * 90))[:, None]
        within = step((width - u.abs()) * 120)
        self.paint(self.cover(outer, 1.3) * within, lips)
        line = torch.exp(-(((v - 0.0) / 0.008) ** 2)) * within * torch.exp(-opening * 25)
        self.paint(line * 0.75, lips * 0.40)
        hole = self.cover(inner) * within * step((opening - 0.04) * 60)
        dark = torch.tensor([0.25, 0.07, 0.08], device=u.device, dtype=u.dtype).view(1, 3, 1, 1)
        self.paint(hole, dark.expand_as(lips))
        teeth = step((inner_top + 0.030 - v) * 150)
        self.paint(hole * teeth * 0.95, 0.93)
        tongue = torch.exp(-((u / 0.07) ** 2 + ((v - inner_low) / 0.035) ** 2))
        self.paint(hole * tongue * 0.8 * (1 - teeth), red * 1.05)

    def eyes(self) -> None:
        p, c = self.p, self.c
        shut = c["blink"].clamp(0, 1)
        for side in (-1.0, 1.0):
            u, v = self.local(side * p["eye_x"], p["eye_y"])
            width, height = p["eye_width"], p["eye_height"]
            rel = (u / width).clamp(-1, 1)
            arch = 1 - rel**2
            upper = -height * arch * (1 - 1.35 * shut)
            lower = height * 0.62 * arch
            socket = torch.exp(-((u / (width * 1.25)) ** 2 + ((v + 0.01) / (height * 1.7)) ** 2))
            self.paint(socket * 0.25, self.skin * 0.72)
            open_ = torch.maximum(torch.maximum(upper - v, v - lower), (u.abs() - width) * 0.7)
            white = self.cover(open_ + 0.002)
            self.paint(white, 0.95 - 0.18 * step(-(v - upper - 0.018) * 120)[:, None].expand(-1, 3, -1, -1))
            gu, gv = u - 0.045 * c["gaze"] - 0.012 * c["yaw"], v + 0.008 - 0.010 * c["pitch"]
            r = (gu**2 + gv**2).clamp(min=1e-8).sqrt()
            self.paint(white * self.cover(r - p["iris"]), p["iris_colour"] * (0.75 + 8 * r)[:, None])
            self.paint(white * self.cover(r - p["iris"] * 0.48), 0.05)
            glint = ((gu + 0.014) ** 2 + (gv + 0.016) ** 2).clamp(min=1e-8).sqrt()
            self.paint(white * self.cover(glint - 0.011), 1.0)
            lid = self.cover(
                torch.maximum(torch.maximum(-height * arch * 1.02 - v, v - upper), (u.abs() - width) * 0.7)
            )
            self.paint(lid * step((shut - 0.03) * 80), self.skin * 0.90)
            lash = self.cover((v - upper).abs() - 0.013 * (0.6 + 0.4 * arch)) * self.cover(u.abs() - width * 1.04)
            self.paint(lash * 0.9, p["hair"] * 0.35)

    def front_hair(self) -> None:
        p = self.p
        u, v = self.hx, self.hy
        x, y, *_ = turn(0.0, p["hairline"], self.a, self.b, self.yaw, self.pitch, 0.9)
        volume = p["hair_volume"]
        cap = (
            ((u + 0.03 * self.yaw.sin) / (self.a + volume * 0.75)) ** 2 + ((v + 0.04) / (self.b + volume)) ** 2
        ).clamp(min=1e-6).sqrt() - 1
        along = (u - x) / self.a
        part = along - p["parting"]
        line = y + p["fringe"] * (0.4 - torch.exp(-((part / 0.45) ** 2))) * 0.9 + 0.62 * along**4 + 0.10 * along**2
        front = torch.maximum(cap * 0.45, v - line)
        shown = step((0.85 - p["bald"]) * 400)
        strand = 0.06 * torch.sin(part * 9 + 1.5 * v) + 0.10 * torch.exp(-(((v + 0.42 + 0.25 * along**2) / 0.07) ** 2))
        shade = 0.90 + strand + 0.10 * p["light"] * along
        self.paint(self.cover(front) * shown, p["hair"] * shade[:, None] + 0.02, region=2)

    def brows(self) -> None:
        p = self.p
        for side in (-1.0, 1.0):
            u, v = self.local(side * p["eye_x"], p["eye_y"] - p["brow_y"] - 0.035 * self.c["brow"])
            tilt = side * p["brow_tilt"] * u - p["brow_arch"] * (1 - (u / 0.11) ** 2)
            stroke = bent(u, v - tilt, 0.105, p["brow_thick"])
            self.paint(self.cover(stroke, 1.3) * 0.92, p["hair"] * 0.62 + 0.02)

    def glasses(self) -> None:
        p = self.p
        shown = step(p["glasses"] * 400)
        q = p["glasses_round"]
        for side in (-1.0, 1.0):
            u, v = self.local(side * (p["eye_x"] + 0.004), p["eye_y"] + 0.012, 1.1)
            rx, ry = p["glasses_size"], p["glasses_size"] * 0.82
            u2, v2 = (u / rx) ** 2, (v / ry) ** 2
            circle, square = (u2 + v2).clamp(min=1e-6).sqrt(), (u2**2 + v2**2).clamp(min=1e-9).sqrt().sqrt()
            ring = square + q * (circle - square)
            self.paint(self.cover((ring - 1) * ry) * 0.10 * shown, 0.95, region=None)
            self.paint(self.cover((ring - 1).abs() * ry - 0.011) * shown, p["frame"])
        u, v = self.local(0.0, p["eye_y"], 1.15)
        bridge = box(u, v + 0.012, (p["eye_x"] - p["glasses_size"] * 0.85).clamp(min=0.02), 0.010, 0.008)
        self.paint(self.cover(bridge) * shown, p["frame"])
