"""Inner loops of the suite: exact shadows of ellipses and rectangles, and rasters splatted.

A pixel at column u of a projection at theta sees the line ``u = cor + s (x cos - y sin)``, s being
how much the sample has swollen. Everything is averaged over the width of a pixel, in closed form.
"""

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.jit import compiled
from tomopipe.simulate.phantom import add_chords

Floats = NDArray[np.floating[Any]]
ELLIPSE, RECTANGLE = 0.0, 1.0
THINNEST_PX = 1e-3  # of a shadow's slope: below, its closed form loses digits


@compiled
def _half_square(x: float) -> float:
    """Return the integral of max(0, x)."""
    return 0.5 * x * x if x > 0.0 else 0.0


@compiled
def _trapezoid_integral(x: float, long: float, short: float) -> float:
    """Integrate up to x a trapezoid of area `long`, bases long + short and long - short."""
    outer, inner = 0.5 * (long + short), 0.5 * (long - short)
    return (
        _half_square(x + outer)
        - _half_square(x + inner)
        - _half_square(x - inner)
        + _half_square(x - outer)
    ) / short


@compiled
def _add_rectangle(line: Floats, centre: float, width: float, depth: float, area: float) -> None:
    """Add the shadow of a rectangle whose sides look `width` and `depth` wide from here."""
    long, short = max(width, depth), max(min(width, depth), THINNEST_PX)
    long = max(long, short)
    first = max(0, math.floor(centre - 0.5 * (long + short) + 0.5))
    last = min(line.size - 1, math.floor(centre + 0.5 * (long + short) + 0.5))
    before = _trapezoid_integral(first - 0.5 - centre, long, short)
    for col in range(first, last + 1):
        after = _trapezoid_integral(col + 0.5 - centre, long, short)
        line[col] += area / long * (after - before)
        before = after


@compiled
def add_shapes(
    lines: Floats, shapes: Floats, cos: Floats, sin: Floats, cor_px: Floats, swell: Floats
) -> None:
    """Add to `lines` (n_angles, n_cols) the shadows of the shapes of one slice.

    `shapes` (n, 7): kind, x, y, half widths a and b, the angle of a, attenuation per pixel.
    `cor_px` and `swell` (n_angles,): where the axis is projected and how large the sample is.
    """
    for index in range(shapes.shape[0]):
        kind, x, y, a, b, phi, mu = shapes[index]
        for angle in range(cos.size):
            s = swell[angle]
            cosine = cos[angle] * math.cos(phi) - sin[angle] * math.sin(phi)
            sine = sin[angle] * math.cos(phi) + cos[angle] * math.sin(phi)
            along, across = s * a * cosine, s * b * sine
            centre = cor_px[angle] + s * (x * cos[angle] - y * sin[angle])
            if kind == RECTANGLE:
                area = 4.0 * s * s * a * b * mu
                _add_rectangle(lines[angle], centre, 2 * abs(along), 2 * abs(across), area)
            else:
                width2 = along * along + across * across
                scale = mu * s * s * a * b / width2
                add_chords(lines[angle], centre, math.sqrt(width2), scale)


@partial(compiled, fastmath=True)
def splat(
    image: Floats, x_px: float, y_px: float, h_px: float, cos: Floats, sin: Floats, bins: Floats
) -> None:
    """Add a raster (n, n, n_rows) [y, x, row] to `bins` (n_angles, n_bins, n_rows), h_px wide.

    The raster's middle lies at (x_px, y_px); the middle of `bins` is the axis.
    """
    n, n_rows = image.shape[0], image.shape[2]
    middle = 0.5 * (bins.shape[1] - 1)
    first, last = np.full(n, n), np.full(n, -1)
    for row in range(n):
        for col in range(n):
            for k in range(n_rows):
                if image[row, col, k] != 0.0:
                    first[row] = min(first[row], col)
                    last[row] = col
    for angle in range(cos.size):
        out = bins[angle]
        for row in range(n):
            y = y_px + (row - 0.5 * (n - 1)) * h_px
            start = ((x_px - 0.5 * (n - 1) * h_px) * cos[angle] - y * sin[angle]) / h_px + middle
            for col in range(first[row], last[row] + 1):
                position = start + col * cos[angle]
                bin_ = int(position)
                share = np.float32(position - bin_)
                for k in range(n_rows):
                    value = image[row, col, k]
                    out[bin_, k] += (np.float32(1.0) - share) * value
                    out[bin_ + 1, k] += share * value


@compiled
def gather(bins: Floats, h_px: float, cor_px: Floats, swell: Floats, lines: Floats) -> None:
    """Average `bins` (n_angles, n_bins, n_rows) over the pixels of `lines` (n_angles, rows, cols).

    `cor_px` (n_angles, n_rows): the axis of each row, exact; `swell` (n_angles,).
    """
    n_bins = bins.shape[1]
    total = np.empty(n_bins + 1)
    for angle in range(bins.shape[0]):
        width = h_px * swell[angle]
        for row in range(bins.shape[2]):
            total[0] = 0.0
            for index in range(n_bins):
                total[index + 1] = total[index] + bins[angle, index, row]
            before = 0.0
            for edge in range(lines.shape[2] + 1):
                position = (edge - 0.5 - cor_px[angle, row]) / width + 0.5 * n_bins
                position = min(max(position, 0.0), float(n_bins))
                index = min(int(position), n_bins - 1)
                reached = total[index] + (position - index) * (total[index + 1] - total[index])
                if edge > 0:
                    lines[angle, row, edge - 1] = (reached - before) * width * swell[angle] * h_px
                before = reached


@compiled
def _random(a: int, b: int, c: int, d: int) -> float:
    """Return a number from 0 to 1 that belongs to four whole numbers."""
    value = np.uint64(a * 73856093) ^ np.uint64(b * 19349663) ^ np.uint64(c * 83492791)
    value ^= np.uint64(d * 2654435761 + 12345)
    for _ in range(2):
        value ^= value >> np.uint64(33)
        value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    return float(value >> np.uint64(11)) / 9007199254740992.0


@compiled
def voronoi(
    x: Floats, y: Floats, z: float, seed: int, near: Floats, wall: Floats, grey: Floats
) -> None:
    """Fill three (n, n) images of Voronoi cells of mean size 1 cut at height z.

    `near`: distance to the cell's seed; `wall`: how much further the next one is; `grey`: a random
    number of the cell. `x`, `y` (n, n): where each pixel lies, in cells.
    """
    n = x.shape[0]
    layer = math.floor(z)
    for row in range(n):
        for col in range(x.shape[1]):
            cell_x, cell_y = math.floor(x[row, col]), math.floor(y[row, col])
            best, second, mine = 1e9, 1e9, 0.0
            for i in range(cell_x - 1, cell_x + 2):
                for j in range(cell_y - 1, cell_y + 2):
                    for k in range(layer - 1, layer + 2):
                        dx = i + _random(i, j, k, seed) - x[row, col]
                        dy = j + _random(i, j, k, seed + 1) - y[row, col]
                        dz = k + _random(i, j, k, seed + 2) - z
                        distance = dx * dx + dy * dy + dz * dz
                        if distance < best:
                            second, best = best, distance
                            mine = _random(i, j, k, seed + 3)
                        elif distance < second:
                            second = distance
            near[row, col] = math.sqrt(best)
            wall[row, col] = math.sqrt(second) - math.sqrt(best)
            grey[row, col] = mine
