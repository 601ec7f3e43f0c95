"""The look of the z-buffer's samples: skin, eyes, teeth, cloth, hair, under a key light and an ambient field.

Colours are linear light. Shapes: M vertices, T triangles, Q strand points, S samples a side = 2 x the picture's P.

The arrays that the kernels take, in this order everywhere:
``points`` [M, 3] camera space (x right, y up, z towards the camera, which stands at the origin); ``normals`` [M, 3];
``coordinates`` [M, 3] of the material (the template's place for eyes and teeth, metres along cloth); ``uv`` [M, 2] of
the skin's texture; ``vertex`` [M, 2]: occlusion, inside of the mouth; ``texture`` [H, W, 7]: albedo, strength and
roughness of the highlight, two slopes of the relief; ``materials`` [n, 12]: two colours, pattern, its scale, strength
and roughness of the highlight, wrap, relief; ``eye`` [2, 9]: centre, radius, iris radius, pupil radius, iris colour;
``teeth`` [4]: lowest and highest of the upper, of the lower; ``light`` [8, 3]: towards the key light, its colour,
towards the rim light, its colour, and four colours of the ambient field (constant, x, y, z);
``shadow`` [s, s] depth map, ``to_shadow`` [3, 4] from camera space to it.
"""

from __future__ import annotations

import math

from .compiled import compiled

FIRST_MATERIAL = 8
_SHADOW_BIAS = 0.004  # m


@compiled
def light_in(shadow, to_shadow, x, y, z, soft):
    """Part of the key light that reaches a place: percentage-closer filtering, ``soft`` samples apart."""
    size = shadow.shape[0]
    sx = to_shadow[0, 0] * x + to_shadow[0, 1] * y + to_shadow[0, 2] * z + to_shadow[0, 3]
    sy = to_shadow[1, 0] * x + to_shadow[1, 1] * y + to_shadow[1, 2] * z + to_shadow[1, 3]
    sz = to_shadow[2, 0] * x + to_shadow[2, 1] * y + to_shadow[2, 2] * z + to_shadow[2, 3] + _SHADOW_BIAS
    total = 0.0
    for j in range(2):
        for i in range(2):
            # four places of a tilted square
            fx = sx + soft * (1.3 * i - 0.65 + 0.5 * (j - 0.5)) - 0.5
            fy = sy + soft * (1.3 * j - 0.65 - 0.5 * (i - 0.5)) - 0.5
            ix, iy = int(math.floor(fx)), int(math.floor(fy))
            if ix < 0 or iy < 0 or ix >= size - 1 or iy >= size - 1:
                total += 1.0
                continue
            fx -= ix
            fy -= iy
            a = 1.0 if shadow[iy, ix] < sz else 0.0
            b = 1.0 if shadow[iy, ix + 1] < sz else 0.0
            c = 1.0 if shadow[iy + 1, ix] < sz else 0.0
            d = 1.0 if shadow[iy + 1, ix + 1] < sz else 0.0
            total += (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
    return total / 4.0


@compiled
def light_near(shadow, to_shadow, x, y, z):
    """Whether the key light reaches a place of hair, which is many places already: 0 or 1."""
    size = shadow.shape[0]
    ix = int(to_shadow[0, 0] * x + to_shadow[0, 1] * y + to_shadow[0, 2] * z + to_shadow[0, 3])
    iy = int(to_shadow[1, 0] * x + to_shadow[1, 1] * y + to_shadow[1, 2] * z + to_shadow[1, 3])
    if ix < 0 or iy < 0 or ix >= size or iy >= size:
        return 1.0
    sz = to_shadow[2, 0] * x + to_shadow[2, 1] * y + to_shadow[2, 2] * z + to_shadow[2, 3] + _SHADOW_BIAS
    return 1.0 if shadow[iy, ix] < sz else 0.0


@compiled
def step(low, high, x):
    """0 below ``low``, 1 above ``high``, smooth between them."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@compiled
def cell_hash(i, j):
    """A number in 0 .. 1 for a pair of integers."""
    n = (i * 374761393 + j * 668265263) & 0x7FFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0x7FFFFFFF
    return (n & 0xFFFF) / 65536.0


@compiled
def pattern_of(kind, u, v, grain):
    """Place on the cloth in periods -> how much of the second colour, 0 .. 1."""
    if kind < 1:
        return 0.0
    fu, fv = u - math.floor(u), v - math.floor(v)
    if kind < 2:  # stripes across
        return step(0.45, 0.5, fv) - step(0.9, 0.95, fv)
    if kind < 3:  # stripes along
        return step(0.65, 0.7, fu) - step(0.93, 0.98, fu)
    if kind < 4:  # checks
        return 0.5 * (step(0.45, 0.5, fu) - step(0.93, 0.98, fu)) + 0.5 * (step(0.45, 0.5, fv) - step(0.93, 0.98, fv))
    if kind < 5:  # dots
        return 1 - step(0.2, 0.27, math.sqrt((fu - 0.5) ** 2 + (fv - 0.5) ** 2))
    if kind < 6:  # print: blots of noise
        return step(0.3, 0.7, grain)
    if kind < 7:  # ribs of a knit
        return 0.5 - 0.5 * math.cos(2 * math.pi * u)
    i, j = int(math.floor(u)), int(math.floor(v))  # melange
    return cell_hash(i, j)


@compiled
def shade(kind, a, b, c, u, v, mesh, surface, lights):
    """Linear colour (r, g, b) of a sample of material ``kind`` at barycentric (u, v) of the triangle a, b, c."""
    points, normals, coordinates, uv, vertex = mesh
    texture, materials, eye, teeth, grain = surface
    light, shadow, to_shadow, soft = lights
    w = 1.0 - u - v
    px = u * points[a, 0] + v * points[b, 0] + w * points[c, 0]
    py = u * points[a, 1] + v * points[b, 1] + w * points[c, 1]
    pz = u * points[a, 2] + v * points[b, 2] + w * points[c, 2]
    nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
    ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
    nz = u * normals[a, 2] + v * normals[b, 2] + w * normals[c, 2]
    length = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * length, ny * length, nz * length
    length = 1.0 / math.sqrt(px * px + py * py + pz * pz + 1e-12)
    vx, vy, vz = -px * length, -py * length, -pz * length
    if nx * vx + ny * vy + nz * vz < 0 and kind != 0:
        nx, ny, nz = -nx, -ny, -nz
    smooth_x, smooth_y, smooth_z = nx, ny, nz
    occlusion = u * vertex[a, 0] + v * vertex[b, 0] + w * vertex[c, 0]
    red, green, blue = 0.5, 0.5, 0.5
    strength, rough = 0.3, 0.5
    wrap_red, wrap_green, wrap_blue = 0.1, 0.1, 0.1
    if kind == 0:
        ua, ub, uc = uv[a, 0], uv[b, 0], uv[c, 0]
        if abs(ua - ub) > 0.5 or abs(ua - uc) > 0.5:
            ua += 1.0 if ua < 0.5 else 0.0
            ub += 1.0 if ub < 0.5 else 0.0
            uc += 1.0 if uc < 0.5 else 0.0
        height, width = texture.shape[0], texture.shape[1]
        tx = (u * ua + v * ub + w * uc) * width - 0.5
        ty = min(max((u * uv[a, 1] + v * uv[b, 1] + w * uv[c, 1]) * height - 0.5, 0.0), height - 1.001)
        x0, y0 = int(math.floor(tx)), int(ty)
        fx, fy = tx - x0, ty - y0
        x1 = (x0 + 1) % width
        x0 = x0 % width
        k00, k01, k10, k11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
        t00, t01, t10, t11 = texture[y0, x0], texture[y0, x1], texture[y0 + 1, x0], texture[y0 + 1, x1]
        red = k00 * t00[0] + k01 * t01[0] + k10 * t10[0] + k11 * t11[0]
        green = k00 * t00[1] + k01 * t01[1] + k10 * t10[1] + k11 * t11[1]
        blue = k00 * t00[2] + k01 * t01[2] + k10 * t10[2] + k11 * t11[2]
        strength = k00 * t00[3] + k01 * t01[3] + k10 * t10[3] + k11 * t11[3]
        rough = k00 * t00[4] + k01 * t01[4] + k10 * t10[4] + k11 * t11[4]
        slope_u = k00 * t00[5] + k01 * t01[5] + k10 * t10[5] + k11 * t11[5]
        slope_v = k00 * t00[6] + k01 * t01[6] + k10 * t10[6] + k11 * t11[6]
        inner = u * vertex[a, 1] + v * vertex[b, 1] + w * vertex[c, 1]
        if inner > 0.01:
            inner = min(1.0, inner)
            red, green, blue = red + (0.22 - red) * inner, green + (0.05 - green) * inner, blue + (0.05 - blue) * inner
            occlusion *= 1 - 0.4 * inner
        along = 1.0 / math.sqrt(nx * nx + nz * nz + 1e-6)  # unit vectors along and down the texture
        ax, az = nz * along, -nx * along
        bx, by, bz = ny * az, nz * ax - nx * az, -ny * ax
        nx += -slope_u * ax + slope_v * bx
        ny += slope_v * by
        nz += -slope_u * az + slope_v * bz
        length = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
        nx, ny, nz = nx * length, ny * length, nz * length
        wrap_red, wrap_green, wrap_blue = 0.30, 0.14, 0.10
    elif kind <= 5:
        qx = u * coordinates[a, 0] + v * coordinates[b, 0] + w * coordinates[c, 0]
        qy = u * coordinates[a, 1] + v * coordinates[b, 1] + w * coordinates[c, 1]
        qz = u * coordinates[a, 2] + v * coordinates[b, 2] + w * coordinates[c, 2]
        if kind <= 2:
            e = eye[kind - 1]
            dx, dy, dz = qx - e[0], qy - e[1], qz - e[2]
            r = math.sqrt(dx * dx + dy * dy)
            if dz < 0:
                r = e[3]
            angle = math.atan2(dy, dx)
            fibre = 0.8 + 0.25 * math.sin(angle * 31 + 3 * math.sin(angle * 7)) + 0.15 * math.sin(angle * 67 + r * 900)
            edge = step(e[4] - 0.0007, e[4] + 0.0006, r)
            ring = step(e[4] - 0.0016, e[4] - 0.0002, r)
            depth = r / e[4]
            black = 1 - step(e[5] - 0.0004, e[5] + 0.0003, r)
            glow = (0.45 + 0.6 * depth) * fibre * (1 - 0.75 * ring)
            white = 1 - 0.25 * step(0.5, 1.0, r / e[3])
            vein = step(0.5, 1.0, r / e[3]) * (0.5 + 0.5 * math.sin(angle * 19 + 4 * math.sin(r * 800)))
            red = (1 - edge) * (e[6] * glow * (1 - black) + 0.004) + edge * 0.62 * white
            green = (1 - edge) * (e[7] * glow * (1 - black) + 0.004) + edge * (0.56 - 0.10 * vein) * white
            blue = (1 - edge) * (e[8] * glow * (1 - black) + 0.004) + edge * (0.53 - 0.10 * vein) * white
            strength, rough = 2.0, 0.13
            lid = step(-0.3, 0.8, dy / (0.5 * e[3]))  # the upper lid and its lashes shade the ball
            side_in = step(0.35, 0.75, abs(dx) / e[3])
            occlusion = (1.0 - 0.6 * lid) * (1.0 - 0.5 * side_in) * 0.85
            red, green, blue = red * (1 - 0.3 * lid), green * (1 - 0.32 * lid), blue * (1 - 0.34 * lid)
        elif kind <= 4:
            across = abs(qx)
            back = max(0.0, teeth[4] - qz)
            arc = math.sqrt(across * across + back * back * 1.15)
            low = teeth[0] if kind == 3 else teeth[2]
            high = teeth[1] if kind == 3 else teeth[3]
            level = (qy - low) / (high - low)
            if kind == 4:
                level = 1 - level
            unit = arc / 0.0078 if kind == 3 else arc / 0.0058
            gap = abs(unit - math.floor(unit + 0.5)) * (0.0078 if kind == 3 else 0.0058)
            gap = step(0.0002, 0.0010, gap + 0.00035 * level)
            gum = step(0.60, 0.72, level + 0.12 * abs(unit - math.floor(unit) - 0.5))
            shade_in = 1 - 0.5 * step(0.012, 0.032, arc)
            tooth = (0.55 + 0.45 * gap) * shade_in
            red = (0.68 * tooth) * (1 - gum) + 0.34 * gum * shade_in
            green = (0.62 * tooth) * (1 - gum) + 0.10 * gum * shade_in
            blue = (0.50 * tooth) * (1 - gum) + 0.09 * gum * shade_in
            strength, rough, occlusion = 1.2, 0.22, 0.55
        else:
            red, green, blue = 0.42, 0.13, 0.12
            strength, rough, occlusion = 0.8, 0.35, 0.40
    else:
        m = materials[kind - FIRST_MATERIAL]
        cu = u * coordinates[a, 0] + v * coordinates[b, 0] + w * coordinates[c, 0]
        cv = u * coordinates[a, 1] + v * coordinates[b, 1] + w * coordinates[c, 1]
        size = grain.shape[0]
        gx, gy = int(math.floor(cu * 900.0)) % size, int(math.floor(cv * 900.0)) % size
        fine = grain[gy, gx]
        coarse = grain[int(math.floor(cv * 260.0)) % size, int(math.floor(cu * 260.0)) % size]
        mixed = pattern_of(m[6], cu * m[7], cv * m[7], 0.5 + 0.5 * coarse)
        tone = 1.0 + m[11] * 0.25 * fine
        red = (m[0] + (m[3] - m[0]) * mixed) * tone
        green = (m[1] + (m[4] - m[1]) * mixed) * tone
        blue = (m[2] + (m[5] - m[2]) * mixed) * tone
        strength, rough = m[8], m[9]
        wrap_red = wrap_green = wrap_blue = m[10]
    lit = light_in(shadow, to_shadow, px + 0.003 * smooth_x, py + 0.003 * smooth_y, pz + 0.003 * smooth_z, soft)
    lx, ly, lz = light[0, 0], light[0, 1], light[0, 2]
    cosine = nx * lx + ny * ly + nz * lz
    softer = 0.5 * (cosine + smooth_x * lx + smooth_y * ly + smooth_z * lz)  # blood under the skin blurs the relief
    rim = max(0.0, nx * light[2, 0] + ny * light[2, 1] + nz * light[2, 2]) * occlusion**4  # under the jaw none arrives
    facing = max(0.0, nx * vx + ny * vy + nz * vz)
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    length = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
    half = max(0.0, (nx * hx + ny * hy + nz * hz) * length)
    sharp = 2.0 / (rough * rough * rough * rough + 2e-4)
    peak = min((sharp + 2.0) * 0.125 * math.exp(-sharp * (1.0 - half)), 30.0)
    wide = (sharp * 0.2 + 2.0) * 0.125 * math.exp(-sharp * 0.2 * (1.0 - half))
    fresnel = 0.04 + 0.45 * (1.0 - rough) ** 2 * (1.0 - facing) ** 5
    shine = strength * fresnel * (0.7 * peak + 0.3 * wide) * max(0.0, cosine) * lit
    # what the highlight of the ambient field sees: the reflected direction
    rx, ry, rz = 2 * facing * nx - vx, 2 * facing * ny - vy, 2 * facing * nz - vz
    gloss = strength * fresnel * (1.1 - rough) * occlusion
    if kind == 1 or kind == 2:
        gloss *= 0.25  # a window's reflection is small; the field would veil the whole iris
    open_red = occlusion + (1 - occlusion) * 0.30 * red
    out = (0.0, 0.0, 0.0)
    key_red = max(0.0, (softer + wrap_red) / (1 + wrap_red)) * (lit + (1 - lit) * 0.22 * wrap_red)
    key_green = max(0.0, (cosine + wrap_green) / (1 + wrap_green)) * lit
    key_blue = max(0.0, (cosine + wrap_blue) / (1 + wrap_blue)) * lit
    ambient_red = max(0.0, light[4, 0] + light[5, 0] * nx + light[6, 0] * ny + light[7, 0] * nz) * open_red
    ambient_green = max(0.0, light[4, 1] + light[5, 1] * nx + light[6, 1] * ny + light[7, 1] * nz) * occlusion
    ambient_blue = max(0.0, light[4, 2] + light[5, 2] * nx + light[6, 2] * ny + light[7, 2] * nz) * occlusion
    seen_red = max(0.0, light[4, 0] + light[5, 0] * rx + light[6, 0] * ry + light[7, 0] * rz)
    seen_green = max(0.0, light[4, 1] + light[5, 1] * rx + light[6, 1] * ry + light[7, 1] * rz)
    seen_blue = max(0.0, light[4, 2] + light[5, 2] * rx + light[6, 2] * ry + light[7, 2] * rz)
    out = (
        red * (key_red * light[1, 0] + rim * light[3, 0] + ambient_red) + shine * light[1, 0] + gloss * seen_red,
        green * (key_green * light[1, 1] + rim * light[3, 1] + ambient_green)
        + shine * light[1, 1]
        + gloss * seen_green,
        blue * (key_blue * light[1, 2] + rim * light[3, 2] + ambient_blue) + shine * light[1, 2] + gloss * seen_blue,
    )
    return out


@compiled
def shade_strands(points, starts, colours, shine, covered, lights, out):
    """Colours [Q, 3] of strand points under the model of Kajiya and Kay (1989), with two highlights.

    ``colours`` [strands, 3]; ``shine`` [strands]; ``covered`` [Q]: how deep under other hair a point lies, 0 .. 1.
    """
    light, shadow, to_shadow, _ = lights
    for strand in range(starts.shape[0] - 1):
        first, last = starts[strand], starts[strand + 1]
        for i in range(first, last):
            before, after = max(first, i - 1), min(last - 1, i + 1)
            tx = points[after, 0] - points[before, 0]
            ty = points[after, 1] - points[before, 1]
            tz = points[after, 2] - points[before, 2]
            length = 1.0 / math.sqrt(tx * tx + ty * ty + tz * tz + 1e-12)
            tx, ty, tz = tx * length, ty * length, tz * length
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            length = 1.0 / math.sqrt(px * px + py * py + pz * pz + 1e-12)
            vx, vy, vz = -px * length, -py * length, -pz * length
            lx, ly, lz = light[0, 0], light[0, 1], light[0, 2]
            lit = light_near(shadow, to_shadow, px + 0.006 * lx, py + 0.006 * ly, pz + 0.006 * lz)
            along = tx * lx + ty * ly + tz * lz
            diffuse = math.sqrt(max(0.0, 1 - along * along))
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            length = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
            half = (tx * hx + ty * hy + tz * hz) * length
            first_peak = math.exp(-90.0 * (half + 0.05) ** 2)
            second_peak = math.exp(-22.0 * (half - 0.12) ** 2)
            depth = 1.0 - 0.75 * covered[i]
            sky = 0.55 + 0.45 * (1 - abs(ty))
            for k in range(3):
                base = colours[strand, k]
                ambient = max(0.0, light[4, k] + 0.4 * light[6, k]) * sky * depth
                key = light[1, k] * lit * depth
                out[i, k] = base * (key * 0.75 * diffuse + ambient + 0.5 * light[3, k] * depth) + shine[
                    strand
                ] * key * (0.035 * first_peak + 0.9 * base * second_peak)


@compiled
def resolve(buffers, triangles, materials_of, mesh, surface, lights, strand_colours, background, picture, part):
    """Samples to pixels: ``picture`` [P, P, 3] of linear light, and what each shows in ``part`` uint8 [P, P].

    Two samples on the diagonal stand for a pixel that one mesh fills; where it meets something else, all four count.
    ``part``: 0 background, else 1 + the material of its samples' majority, 255 for hair.
    """
    near, what, where = buffers
    size = picture.shape[0]
    for y in range(size):
        for x in range(size):
            hits, same, hair = 0, True, 0
            kind = -1
            low, high = 1e9, 0.0
            for j in range(2):
                for i in range(2):
                    n = what[2 * y + j, 2 * x + i]
                    if n == -1:
                        same = False
                        continue
                    hits += 1
                    if n < 0:
                        same = False
                        hair += 1
                        continue
                    z = near[2 * y + j, 2 * x + i]
                    low, high = min(low, z), max(high, z)
                    if kind == -1:
                        kind = materials_of[n]
                    elif kind != materials_of[n]:
                        same = False
            part[y, x] = 0
            if hits >= 2:
                part[y, x] = 255 if 2 * hair >= hits else kind + 1
            same = same and high < low * 1.02
            n = what[2 * y, 2 * x]
            if same and n == what[2 * y + 1, 2 * x + 1]:  # one triangle: its colour at the pixel's middle
                first, second = where[2 * y, 2 * x], where[2 * y + 1, 2 * x + 1]
                colour = shade(
                    kind,
                    triangles[n, 0],
                    triangles[n, 1],
                    triangles[n, 2],
                    0.5 * (first[0] + second[0]),
                    0.5 * (first[1] + second[1]),
                    mesh,
                    surface,
                    lights,
                )
                picture[y, x, 0], picture[y, x, 1], picture[y, x, 2] = colour
                continue
            red, green, blue = 0.0, 0.0, 0.0
            for j in range(2):
                for i in range(2):
                    if same and i != j:
                        continue
                    sy, sx = 2 * y + j, 2 * x + i
                    n = what[sy, sx]
                    if n == -1:
                        red += background[y, x, 0]
                        green += background[y, x, 1]
                        blue += background[y, x, 2]
                    elif n < 0:
                        q, f = -2 - n, where[sy, sx, 0]
                        red += strand_colours[q, 0] * f + strand_colours[q + 1, 0] * (1 - f)
                        green += strand_colours[q, 1] * f + strand_colours[q + 1, 1] * (1 - f)
                        blue += strand_colours[q, 2] * f + strand_colours[q + 1, 2] * (1 - f)
                    else:
                        colour = shade(
                            materials_of[n],
                            triangles[n, 0],
                            triangles[n, 1],
                            triangles[n, 2],
                            where[sy, sx, 0],
                            where[sy, sx, 1],
                            mesh,
                            surface,
                            lights,
                        )
                        red += colour[0]
                        green += colour[1]
                        blue += colour[2]
            scale = 0.5 if same else 0.25
            picture[y, x, 0], picture[y, x, 1], picture[y, x, 2] = red * scale, green * scale, blue * scale
