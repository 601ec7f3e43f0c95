"""The z-buffer: triangles and strands of hair to samples, each with what lies there and where on it.

Shapes: M vertices, T triangles, Q strand points, S samples a side (twice the picture's). Screens are [.., 3]: x and y
in samples, and 1 / depth (larger is nearer). Buffers: ``near`` float32 [S, S] holds 1 / depth, 0 where nothing lies;
``what`` int32 [S, S] a triangle's number, or -2 - (number of a strand's segment), or -1; ``where`` float32 [S, S, 2]
the first two barycentric coordinates corrected for perspective, or the place along the segment.
"""

from __future__ import annotations

import math

import numpy as np

from .compiled import compiled

_BURIED = 1.02  # ratio of depths: a segment with both ends this far behind what is drawn is not seen


def empty_buffers(samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``near`` [S, S], ``what`` [S, S] and ``where`` [S, S, 2] with nothing drawn."""
    return (
        np.zeros((samples, samples), np.float32),
        np.full((samples, samples), -1, np.int32),
        np.zeros((samples, samples, 2), np.float32),
    )


@compiled
def _samples_between(a, b, c, size):
    """The first and the last sample, along one side of ``size`` samples, whose middle lies between three corners."""
    first = max(0, int(math.ceil(min(a, b, c) - 0.5)))
    return first, min(size - 1, int(math.floor(max(a, b, c) - 0.5)))


@compiled
def _area(ax, ay, bx, by, px, py):
    """Twice the signed area of the triangle of corners a and b and the point p."""
    return (ax - px) * (by - py) - (bx - px) * (ay - py)


@compiled
def draw_triangles(screen, triangles, culled, cut, near, what, where):
    """Draw triangles [T, 3] of ``screen`` [M, 3]; ``culled`` [T] not from behind; nothing where ``cut`` [M] is > 0."""
    size = near.shape[0]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0 or (culled[t] and area > 0.0):
            continue
        cut_a, cut_b, cut_c = cut[a], cut[b], cut[c]
        if cut_a > 0 and cut_b > 0 and cut_c > 0:
            continue
        first_x, last_x = _samples_between(x0, x1, x2, size)
        first_y, last_y = _samples_between(y0, y1, y2, size)
        inverse = np.float32(1.0) / area
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        is_cut = cut_a > 0 or cut_b > 0 or cut_c > 0
        for y in range(first_y, last_y + 1):
            py = np.float32(y + 0.5)
            for x in range(first_x, last_x + 1):
                px = np.float32(x + 0.5)
                w0 = _area(x1, y1, x2, y2, px, py) * inverse
                w1 = _area(x2, y2, x0, y0, px, py) * inverse
                w2 = np.float32(1.0) - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * za + w1 * zb + w2 * zc
                if z <= near[y, x]:
                    continue
                u, v = w0 * za / z, w1 * zb / z
                if is_cut and u * cut_a + v * cut_b + (1 - u - v) * cut_c > 0:
                    continue
                near[y, x] = z
                what[y, x] = t
                where[y, x, 0] = u
                where[y, x, 1] = v


@compiled
def draw_strands(screen, starts, widths, near, what, where):
    """Draw strands as lines through ``screen`` [Q, 3] points.

    ``starts`` int32 [strands + 1]: the first point of each; ``widths`` float32 [strands]: metres, at the root; the
    second half tapers. A strand is at least one sample wide.
    """
    size = near.shape[0]
    for strand in range(starts.shape[0] - 1):
        first, last = starts[strand], starts[strand + 1] - 1
        for i in range(first, last):
            x0, y0, z0 = screen[i, 0], screen[i, 1], screen[i, 2]
            x1, y1, z1 = screen[i + 1, 0], screen[i + 1, 1], screen[i + 1, 2]
            dx, dy = x1 - x0, y1 - y0
            along_x = abs(dx) >= abs(dy)
            length = abs(dx) if along_x else abs(dy)
            steps = int(length) + 1
            if steps > 2 * size or z0 <= 0:
                continue
            hidden = 0  # most hair lies behind the head, which is drawn first
            for end in range(2):
                ex, ey, ez = (x0, y0, z0) if end == 0 else (x1, y1, z1)
                ix, iy = int(ex), int(ey)
                if 0 <= ix < size and 0 <= iy < size and near[iy, ix] > ez * _BURIED:
                    hidden += 1
            if hidden == 2:
                continue
            part = (i - first) / (last - first)
            taper = min(1.0, 2.2 * (1.0 - part))
            # focal length in samples is folded into widths by the caller: width * focal / depth
            half = max(0.5, 0.5 * widths[strand] * z0 * taper)
            slope = math.sqrt(dx * dx + dy * dy) / max(length, 1e-6)
            half *= min(slope, 1.42)
            for step in range(steps):
                f = np.float32((step + 0.5) / steps)
                z = z0 + (z1 - z0) * f
                cx, cy = x0 + dx * f, y0 + dy * f
                across = cy if along_x else cx
                low = int(math.ceil(across - half - 0.5))
                high = int(math.floor(across + half - 0.5))
                if high < low:
                    high = low
                for j in range(low, high + 1):
                    x, y = (int(cx), j) if along_x else (j, int(cy))
                    if x < 0 or y < 0 or x >= size or y >= size:
                        continue
                    if z > near[y, x]:
                        near[y, x] = z
                        what[y, x] = -2 - i
                        where[y, x, 0] = z0 * (1 - f) / z  # corrected for perspective
                        where[y, x, 1] = 0


@compiled
def draw_depth(screen, triangles, near):
    """Depth alone, for shadows: the largest third coordinate of ``screen`` [M, 3] at each sample of ``near`` [S, S]."""
    size = near.shape[0]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0:
            continue
        first_x, last_x = _samples_between(x0, x1, x2, size)
        first_y, last_y = _samples_between(y0, y1, y2, size)
        inverse = np.float32(1.0) / area
        for y in range(first_y, last_y + 1):
            py = np.float32(y + 0.5)
            for x in range(first_x, last_x + 1):
                px = np.float32(x + 0.5)
                w0 = _area(x1, y1, x2, y2, px, py) * inverse
                w1 = _area(x2, y2, x0, y0, px, py) * inverse
                w2 = np.float32(1.0) - w0 - w1
                if w0 < 0 or w1 < 0 or w2 < 0:
                    continue
                z = w0 * screen[a, 2] + w1 * screen[b, 2] + w2 * screen[c, 2]
                near[y, x] = max(near[y, x], z)


@compiled
def draw_strand_depth(screen, starts, near):
    """As ``draw_depth``, for every second strand through ``screen`` [Q, 3]: two samples wide, so that hair is dense."""
    size = near.shape[0]
    for strand in range(0, starts.shape[0] - 1, 2):
        for i in range(starts[strand], starts[strand + 1] - 1):
            dx, dy = screen[i + 1, 0] - screen[i, 0], screen[i + 1, 1] - screen[i, 1]
            steps = int(max(abs(dx), abs(dy))) + 1
            for step in range(steps):
                f = step / steps
                x, y = int(screen[i, 0] + f * dx), int(screen[i, 1] + f * dy)
                if 0 <= x < size - 1 and 0 <= y < size - 1:
                    z = screen[i, 2] + f * (screen[i + 1, 2] - screen[i, 2])
                    near[y, x] = max(near[y, x], z)
                    near[y, x + 1] = max(near[y, x + 1], z)
