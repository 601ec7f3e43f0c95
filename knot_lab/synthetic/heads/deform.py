"""Kernels that move vertices and strands with the face's units and the head.

Shapes: N body vertices, M mesh vertices, T triangles, Q strand points. ``pose`` float32 [2, 3, 4]: rest to world with
the head and with the neck; ``skin`` [.., 2] the weights of both, the rest stays.
"""

from __future__ import annotations

import math

from .compiled import compiled


@compiled
def move_vertices(rest, skin, pose, out):
    """rest [M, 3] -> out [M, 3]: linear blend skinning."""
    for i in range(rest.shape[0]):
        h, n = skin[i, 0], skin[i, 1]
        x, y, z = rest[i, 0], rest[i, 1], rest[i, 2]
        for k in range(3):
            with_head = pose[0, k, 0] * x + pose[0, k, 1] * y + pose[0, k, 2] * z + pose[0, k, 3]
            with_neck = pose[1, k, 0] * x + pose[1, k, 1] * y + pose[1, k, 2] * z + pose[1, k, 3]
            out[i, k] = (1 - h - n) * rest[i, k] + h * with_head + n * with_neck


@compiled
def move_strands(offsets, corners, weights, skin, pose, vertices, out):
    """Points bound to the moved ``vertices`` [M, 3] plus their offsets turned with the head; free ones by skinning."""
    for i in range(offsets.shape[0]):
        x, y, z = offsets[i, 0], offsets[i, 1], offsets[i, 2]
        if corners[i, 0] >= 0:
            a, b, c = corners[i, 0], corners[i, 1], corners[i, 2]
            for k in range(3):
                out[i, k] = (
                    weights[i, 0] * vertices[a, k]
                    + weights[i, 1] * vertices[b, k]
                    + weights[i, 2] * vertices[c, k]
                    + pose[0, k, 0] * x
                    + pose[0, k, 1] * y
                    + pose[0, k, 2] * z
                )
        else:
            h, n = skin[i, 0], skin[i, 1]
            for k in range(3):
                with_head = pose[0, k, 0] * x + pose[0, k, 1] * y + pose[0, k, 2] * z + pose[0, k, 3]
                with_neck = pose[1, k, 0] * x + pose[1, k, 1] * y + pose[1, k, 2] * z + pose[1, k, 3]
                out[i, k] = (1 - h - n) * offsets[i, k] + h * with_head + n * with_neck


@compiled
def normals_of(vertices, triangles, out):
    """Unit normals of vertices [M, 3], weighted by area, into ``out`` [M, 3]."""
    out[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            i = triangles[t, k]
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = 1.0 / math.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2 + 1e-20)
        out[i, 0] *= length
        out[i, 1] *= length
        out[i, 2] *= length
