"""The inner loops of the simulator, compiled once and kept in numba's cache.

An ellipsoid with in-plane semi-axes a, b rotated by phi, cut at height z from its centre, is an
ellipse scaled by ``sqrt(1 - (z / c)**2)``. Seen at theta its half width is
``sqrt((a cos(theta + phi))**2 + (b sin(theta + phi))**2)``, and the chord at the distance t from
its centre is ``2 a b / width**2 * sqrt(radius**2 - t**2)``, radius being the scaled half width
[1]_.

References
----------
.. [1] A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, IEEE Press 1988,
   section 3.1 (an ellipse; the same section of an ellipsoid at each height).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.jit import compiled

Floats = NDArray[np.floating[Any]]


@compiled
def _half_disk(t: float, radius: float) -> float:
    """Return the integral of 2 sqrt(radius**2 - t**2), up to a constant."""
    if t <= -radius:
        return -0.5 * math.pi * radius * radius
    if t >= radius:
        return 0.5 * math.pi * radius * radius
    return t * math.sqrt(radius * radius - t * t) + radius * radius * math.asin(t / radius)


@compiled
def _add_chords(line: Floats, centre: float, radius: float, scale: float) -> None:
    """Add to `line` the chords of one ellipse, integrated over the width of each pixel."""
    first = max(0, math.floor(centre - radius + 0.5))
    last = min(line.size - 1, math.floor(centre + radius + 0.5))
    before = _half_disk(first - 0.5 - centre, radius)
    for col in range(first, last + 1):
        after = _half_disk(col + 0.5 - centre, radius)
        line[col] += scale * (after - before)
        before = after


@compiled
def add_projections(
    projections: Floats,
    table: Floats,
    cos: Floats,
    sin: Floats,
    cor_px: float,
    offsets: Floats,
    weights: Floats,
) -> None:
    """Add the projections of all ellipsoids to `projections` (n_angles, n_rows, n_cols)."""
    n_rows = projections.shape[1]
    for index in range(table.shape[0]):
        x, y, centre_row, a, b, c, phi, mu = table[index]
        first = max(0, math.floor(centre_row - c + 0.5))
        last = min(n_rows - 1, math.floor(centre_row + c + 0.5))
        for angle in range(cos.size):
            along = a * (cos[angle] * math.cos(phi) - sin[angle] * math.sin(phi))
            across = b * (sin[angle] * math.cos(phi) + cos[angle] * math.sin(phi))
            width2 = along * along + across * across
            centre = cor_px + x * cos[angle] - y * sin[angle]
            for row in range(first, last + 1):
                for node in range(offsets.size):
                    height = (row + offsets[node] - centre_row) / c
                    if abs(height) < 1.0:
                        radius = math.sqrt(width2 * (1.0 - height * height))
                        scale = weights[node] * mu * a * b / width2
                        _add_chords(projections[angle, row], centre, radius, scale)


@compiled
def _add_interval(line: Floats, start: float, stop: float, value: float) -> None:
    """Add `value` to `line` between two positions, each pixel by the part that is covered."""
    first = max(0, math.floor(start + 0.5))
    last = min(line.size - 1, math.floor(stop + 0.5))
    for col in range(first, last + 1):
        covered = min(stop, col + 0.5) - max(start, col - 0.5)
        line[col] += value * max(0.0, covered)


@compiled
def add_slice(
    image: Floats,
    table: Floats,
    slice_row: float,
    offsets: Floats,
    weights: Floats,
    oversample: int,
) -> None:
    """Add the ellipsoids cut at `slice_row` to `image` (n, n), averaged over each voxel."""
    n = image.shape[0]
    for index in range(table.shape[0]):
        x, y, centre_row, a, b, c, phi, mu = table[index]
        # The boundary: p u**2 + 2 q u v + r v**2 = 1 - height**2, (u, v) from the centre.
        p = (math.cos(phi) / a) ** 2 + (math.sin(phi) / b) ** 2
        q = math.cos(phi) * math.sin(phi) * (1.0 / (a * a) - 1.0 / (b * b))
        r = (math.sin(phi) / a) ** 2 + (math.cos(phi) / b) ** 2
        for node in range(offsets.size):
            height = (slice_row + offsets[node] - centre_row) / c
            for fine in range(n * oversample):
                v = (fine + 0.5) / oversample - 0.5 - (n // 2 - 1) - y
                root = (q * v) ** 2 - p * (r * v * v - 1.0 + height * height)
                if root > 0.0:
                    middle = n // 2 + x - q * v / p
                    half = math.sqrt(root) / p
                    value = weights[node] * mu / oversample
                    _add_interval(image[fine // oversample], middle - half, middle + half, value)
