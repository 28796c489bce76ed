"""Seeded objects to simulate: a rock with grains, a foam, a capillary with beads."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tomopipe.simulate.phantom import Ellipsoid, Phantom

# What crosses the whole height is an ellipsoid this many times higher than the detector.
TALL = 20.0
# Line integral through the middle of the body: transmission about 0.3, common for micro-CT.
BODY_INTEGRAL = 1.2


def rock(n_cols: int, n_rows: int, seed: int, *, size: float = 0.8) -> Phantom:
    """Return an elliptic body with dense grains of all orientations and a few pores.

    For a detector of n_rows and n_cols; the same seed gives the same object. `size` is the width of
    the body over that of the detector; above 1 the scan is truncated. The body is off the axis by a
    few percent of the width, so that its COR is no symmetry of its own.
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
    """Return the part that holds the others: as high as the detector, a little off the axis."""
    semi_px = 0.5 * size * n_cols
    # It stays on the detector at all angles with a COR some 6 % off the middle.
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
    """Place spheres that do not overlap within the body, (x_px, y_px, row, radius_px) of each.

    The body's smaller in-plane semi-axis bounds them; above and below `n_rows` they may stick out.
    The first radii get the first choice; those that find no room are skipped.
    """
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
