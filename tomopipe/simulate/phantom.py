"""Simulated objects: ellipsoids of several kinds, with exact projections in tomopipe's geometry.

Coordinates are pixels from the rotation axis: a point (x_px, y_px) is the voxel
(x_px + n // 2, y_px + n // 2 - 1) of an n x n slice and is projected to column
``cor_px + x_px * cos(theta) - y_px * sin(theta)``. Rows are detector rows, 0-based. Densities add
where ellipsoids overlap, so a pore is an ellipsoid of negative density.

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
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.recon.jit import compiled

# over the height of a pixel, in rows from its centre; the weights sum to 1
_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(4))
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Ellipsoid:
    """One homogeneous ellipsoid; its third axis is parallel to the rotation axis."""

    # centre, in pixels from the rotation axis
    x_px: float
    y_px: float
    row: float  # centre along the axis, in detector rows, 0-based
    # semi-axes; the first two before the in-plane rotation
    semi_x_px: float
    semi_y_px: float
    semi_z_px: float
    angle_rad: float  # in-plane rotation of the first semi-axis, from x towards y
    mu_per_px: float  # linear attenuation added inside, per pixel; may be negative

    def values(self) -> tuple[float, ...]:
        """Return the fields in order, ten times as fast as `dataclasses.astuple`."""
        return tuple(vars(self).values())


@dataclass(frozen=True)
class Phantom:
    """A sum of ellipsoids."""

    kind: str  # name of the imitated material
    ellipsoids: tuple[Ellipsoid, ...]  # the parts; empty is vacuum

    def table(self) -> NDArray[np.float64]:
        """Return the parts as an array of shape (n_ellipsoids, 8), columns as in `Ellipsoid`."""
        rows = [part.values() for part in self.ellipsoids]
        return np.array(rows, dtype=np.float64).reshape(len(rows), 8)

    def scaled(self, factor: float) -> "Phantom":
        """Return a copy with all densities multiplied by `factor`."""
        parts = (replace(part, mu_per_px=factor * part.mu_per_px) for part in self.ellipsoids)
        return Phantom(self.kind, tuple(parts))

    def moved(self, x_px: float = 0.0, y_px: float = 0.0, rows: float = 0.0) -> "Phantom":
        """Return a copy shifted by `x_px`, `y_px` and `rows`."""
        parts = (
            replace(part, x_px=part.x_px + x_px, y_px=part.y_px + y_px, row=part.row + rows)
            for part in self.ellipsoids
        )
        return Phantom(self.kind, tuple(parts))

    def to_dict(self) -> dict[str, Any]:
        """Return the phantom as numbers and lists for JSON."""
        return {"kind": self.kind, "ellipsoids": [asdict(part) for part in self.ellipsoids]}


def project(
    phantom: Phantom,
    theta_rad: ArrayLike,
    cor_px: float,
    n_rows: int,
    n_cols: int,
    *,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Return exact parallel-beam line integrals, averaged over each detector pixel.

    The average over the width of a pixel is the closed-form integral of the chord length; over its
    height it is a Gauss-Legendre rule. Attenuation is averaged, not transmission.

    Angles (n_angles,) may be in any order, and the axis may be off the detector. `threads` share
    the angles; by default one for each core available to the process. The result is
    (n_angles, n_rows, n_cols).
    """
    theta = np.atleast_1d(np.asarray(theta_rad, dtype=np.float64))
    projections = np.zeros((theta.size, n_rows, n_cols), dtype=np.float32)
    table, cos, sin = phantom.table(), np.cos(theta), np.sin(theta)
    n_threads = max(1, min(threads or len(os.sched_getaffinity(0)), theta.size))
    bounds = np.linspace(0, theta.size, n_threads + 1).astype(int)

    def work(part: int) -> None:
        angles = slice(bounds[part], bounds[part + 1])
        _add_projections(
            projections[angles], table, cos[angles], sin[angles], float(cor_px), _NODES, _WEIGHTS
        )

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, range(n_threads)))
    return projections


@compiled
def _half_disk(t: float, radius: float) -> float:
    """Return the integral of 2 sqrt(radius**2 - t**2), up to a constant."""
    if t <= -radius:
        return -0.5 * math.pi * radius * radius
    if t >= radius:
        return 0.5 * math.pi * radius * radius
    return t * math.sqrt(radius * radius - t * t) + radius * radius * math.asin(t / radius)


@compiled
def add_chords(line: _Floats, centre: float, radius: float, scale: float) -> None:
    """Add to `line` the chords of one ellipse, integrated over the width of each pixel."""
    first = max(0, math.floor(centre - radius + 0.5))
    last = min(line.size - 1, math.floor(centre + radius + 0.5))
    before = _half_disk(first - 0.5 - centre, radius)
    for col in range(first, last + 1):
        after = _half_disk(col + 0.5 - centre, radius)
        line[col] += scale * (after - before)
        before = after


@compiled
def _add_projections(
    projections: _Floats,
    table: _Floats,
    cos: _Floats,
    sin: _Floats,
    cor_px: float,
    offsets: _Floats,
    weights: _Floats,
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
                        add_chords(projections[angle, row], centre, radius, scale)


# Height of ellipsoids that cross the whole detector, in detector heights or widths.
TALL = 20.0
# Line integral through the middle of the body: transmission about 0.3, common for micro-CT.
BODY_INTEGRAL = 1.2


def rock(n_cols: int, n_rows: int, seed: int, *, size: float = 0.8) -> Phantom:
    """Return an elliptic body with dense grains of all orientations and a few pores.

    For a detector of n_rows and n_cols; the same seed gives the same object. `size` is the width of
    the body over that of the detector; above 1 the scan is truncated. The body lies off the axis by
    a few percent of the width, so that its own symmetry does not reveal the COR.
    """
    rng = np.random.default_rng([seed, 1])
    body = _body(n_cols, n_rows, rng, size)
    grains = []
    radii_px = rng.uniform(0.025, 0.09, 40) * size * n_cols
    for x_px, y_px, row, radius_px in _pack(body, n_rows, radii_px, rng):
        stretch = rng.uniform(0.5, 1.0, 2)
        contrast = rng.choice([-1.0, 0.6, 1.2, 2.5], p=[0.25, 0.35, 0.25, 0.15])
        semi_px = radius_px, radius_px * stretch[0], radius_px * stretch[1]
        angle_rad = rng.uniform(0, math.pi)
        grains.append(Ellipsoid(x_px, y_px, row, *semi_px, angle_rad, contrast * body.mu_per_px))
    return Phantom("rock", (body, *grains))


def foam(n_cols: int, n_rows: int, seed: int, *, size: float = 0.8) -> Phantom:
    """Return a body full of empty bubbles; parameters as in `rock`."""
    rng = np.random.default_rng([seed, 2])
    body = _body(n_cols, n_rows, rng, size)
    radii_px = np.sort(rng.uniform(0.03, 0.12, 90))[::-1] * size * n_cols
    bubbles = [_ball(*position, -body.mu_per_px) for position in _pack(body, n_rows, radii_px, rng)]
    return Phantom("foam", (body, *bubbles))


def capillary(n_cols: int, n_rows: int, seed: int, *, size: float = 0.8) -> Phantom:
    """Return a glass tube with beads of three densities inside; parameters as in `rock`."""
    rng = np.random.default_rng([seed, 3])
    tube = _body(n_cols, n_rows, rng, size, round_=True)
    inner_px = 0.86 * tube.semi_x_px
    mu_per_px = -0.9 * tube.mu_per_px
    lumen = replace(tube, semi_x_px=inner_px, semi_y_px=inner_px, mu_per_px=mu_per_px)
    radii_px = np.sort(rng.uniform(0.04, 0.11, 50))[::-1] * size * n_cols
    levels = np.array([0.7, 1.4, 2.8]) * tube.mu_per_px
    positions = _pack(lumen, n_rows, radii_px, rng)
    beads = [_ball(*position, rng.choice(levels)) for position in positions]
    return Phantom("capillary", (tube, lumen, *beads))


KINDS: dict[str, Callable[..., Phantom]] = {"rock": rock, "foam": foam, "capillary": capillary}


def _body(
    n_cols: int, n_rows: int, rng: np.random.Generator, size: float, *, round_: bool = False
) -> Ellipsoid:
    """Return the body that contains the other parts: taller than the detector, off the axis."""
    semi_px = 0.5 * size * n_cols
    # At this offset the body stays on the detector for CORs up to 6 % off the middle.
    off_px, direction = 0.02 * n_cols, rng.uniform(0, 2 * math.pi)
    return Ellipsoid(
        off_px * math.cos(direction),
        off_px * math.sin(direction),
        (n_rows - 1) / 2,
        semi_px,
        semi_px * (1.0 if round_ else rng.uniform(0.8, 0.95)),
        TALL * max(n_rows, n_cols),
        0.0 if round_ else rng.uniform(0, math.pi),
        BODY_INTEGRAL / (2 * semi_px),
    )


def _ball(x_px: float, y_px: float, row: float, radius_px: float, mu_per_px: float) -> Ellipsoid:
    return Ellipsoid(x_px, y_px, row, radius_px, radius_px, radius_px, 0.0, mu_per_px)


def _pack(
    body: Ellipsoid, n_rows: int, radii_px: np.ndarray, rng: np.random.Generator
) -> list[tuple[float, float, float, float]]:
    """Place spheres without overlap in the body, if they fit: (x_px, y_px, row, radius_px)."""
    room_px = min(body.semi_x_px, body.semi_y_px)
    placed = np.empty((0, 4))
    for radius_px in radii_px:
        distance_px = (room_px - radius_px) * np.sqrt(rng.uniform(0, 1, 200))
        direction = rng.uniform(0, 2 * math.pi, 200)
        x_px = body.x_px + distance_px * np.cos(direction)
        y_px = body.y_px + distance_px * np.sin(direction)
        row = rng.uniform(-0.5 * radius_px, n_rows - 1 + 0.5 * radius_px, 200)
        positions = np.stack([x_px, y_px, row], axis=1)
        gaps = np.linalg.norm(positions[:, None] - placed[None, :, :3], axis=2) - placed[:, 3]
        free = np.flatnonzero((gaps > radius_px).all(axis=1))
        if free.size:
            placed = np.vstack([placed, [*positions[free[0]], radius_px]])
    return [(float(x), float(y), float(z), float(r)) for x, y, z, r in placed]
