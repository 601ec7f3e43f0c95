"""Flow: the place of every pixel in the reference, and whether it could be seen there.

Shapes: M mesh vertices, Q strand points, S samples a side, F = S / 4 labels a side.
"""

from __future__ import annotations

import math

from .compiled import compiled

SKIN_TOLERANCE, HAIR_TOLERANCE = 0.004, 0.015  # m: nearer than this to what the reference shows counts as seen
_EDGE = 1.02  # ratio of depths at which the samples of one label belong to two things


@compiled
def _source(n, u, v, triangles, mesh, strands, out):
    """Camera space of the reference at a sample of what this frame shows."""
    if n >= 0:
        a, b, c = triangles[n, 0], triangles[n, 1], triangles[n, 2]
        w = 1.0 - u - v
        for k in range(3):
            out[k] = u * mesh[a, k] + v * mesh[b, k] + w * mesh[c, k]
    else:
        q = -2 - n
        for k in range(3):
            out[k] = u * strands[q, k] + (1.0 - u) * strands[q + 1, k]


@compiled
def label_flow(buffers, triangles, now, reference, reference_near, scratch, flow, visible):
    """Fill ``flow`` float32 [F, F, 2] (pixels of the picture, to the source in the reference), ``visible`` bool [F, F].

    A label stands for the middle of four by four samples. Its four middle samples vote: the nearest thing among them
    wins. ``now`` and ``reference``: mesh [M, 3] and strands [Q, 3] in camera space, and the view (``cameras.framed``).
    A sample on a strand counts as lying on its middle line. The background rests.
    """
    near, what, where = buffers
    reference_mesh, reference_strands, (focal, centre_x, centre_y) = reference
    mesh_now, strands_now, (focal_now, centre_x_now, centre_y_now) = now
    size, full = flow.shape[0], near.shape[0]
    for y in range(size):
        for x in range(size):
            nearest = 0.0
            for j in range(2):
                for i in range(2):
                    nearest = max(nearest, near[4 * y + 1 + j, 4 * x + 1 + i])
            sum_x, sum_y, count, seen = 0.0, 0.0, 0, 0
            for j in range(2):
                for i in range(2):
                    sy, sx = 4 * y + 1 + j, 4 * x + 1 + i
                    n = what[sy, sx]
                    if near[sy, sx] * _EDGE < nearest:
                        continue
                    count += 1
                    if n == -1:
                        seen += 1 if reference_near[sy, sx] == 0 else 0
                        continue
                    px, py = sx + 0.5, sy + 0.5
                    if n < 0:
                        _source(n, where[sy, sx, 0], 0.0, triangles, mesh_now, strands_now, scratch)
                        px = centre_x_now - focal_now * scratch[0] / scratch[2]
                        py = centre_y_now + focal_now * scratch[1] / scratch[2]
                    _source(
                        n, where[sy, sx, 0], where[sy, sx, 1], triangles, reference_mesh, reference_strands, scratch
                    )
                    depth = -scratch[2]
                    rx = centre_x + focal * scratch[0] / depth
                    ry = centre_y - focal * scratch[1] / depth
                    sum_x += rx - px
                    sum_y += ry - py
                    tolerance = HAIR_TOLERANCE if n < 0 else SKIN_TOLERANCE
                    ix, iy = int(math.floor(rx)), int(math.floor(ry))
                    if ix < 0 or iy < 0 or ix >= full or iy >= full:
                        continue
                    shown = reference_near[iy, ix]
                    if shown > 0 and 1.0 / shown > depth - tolerance:
                        seen += 1
            flow[y, x, 0] = 0.5 * sum_x / count
            flow[y, x, 1] = 0.5 * sum_y / count
            visible[y, x] = 2 * seen > count
