"""Families of solids with exact shadows, for training (and a few for validation)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tomopipe_lab.suite._kernels import ELLIPSE, RECTANGLE
from tomopipe_lab.suite.sample import Sample, Solid

Rng = np.random.Generator
Table = NDArray[np.float64]
Column = NDArray[np.float64]


@dataclass(frozen=True)
class Body:
    """Where the sample is and how large: a circle about (x_px, y_px) from the axis holds it.

    `half_height_px`: how far above and below the middle it is looked at.
    """

    x_px: float
    y_px: float
    radius_px: float
    half_height_px: float


@dataclass(frozen=True, eq=False)
class Parts:
    """Ellipsoids (n, 8: x, y, z, a, b, c, angle, mu) and what crosses all heights (n, 7)."""

    through: Table
    ellipsoids: Table
    bars: Table  # kind, x, y, a, b, angle, mu, then how x and y change with height

    def slice_at(self, height_px: float) -> Table:
        """Return the shapes of the slice at one height."""
        x, y, z, a, b, c, phi, mu = self.ellipsoids.T
        cut2 = 1 - ((height_px - z) / c) ** 2
        in_it = cut2 > 0
        cut = np.sqrt(np.where(in_it, cut2, 0))
        kind = np.full(len(x), ELLIPSE)
        ellipses = np.stack([kind, x, y, a * cut, b * cut, phi, mu], axis=1)[in_it]
        bars = self.bars[:, :7].copy()
        bars[:, 1:3] += height_px * self.bars[:, 7:9]
        return np.concatenate([self.through, ellipses, bars])


def _parts(through: list[list[float]], ellipsoids: Table | None, bars: Table | None) -> Sample:
    none8, none9 = np.zeros((0, 8)), np.zeros((0, 9))
    table = np.array(through, dtype=float).reshape(-1, 7)
    parts = Parts(
        table,
        none8 if ellipsoids is None else ellipsoids,
        none9 if bars is None else bars,
    )
    return Solid(parts.slice_at)


def _hull(body: Body, rng: Rng, mu: float, *, flat: float = 0.7) -> list[float]:
    """Return an elliptic hull that touches the body's circle."""
    a = body.radius_px
    return [ELLIPSE, body.x_px, body.y_px, a, a * rng.uniform(flat, 1), rng.uniform(0, math.pi), mu]


def _spread(
    body: Body, rng: Rng, radii_px: NDArray[np.float64], *, apart: float = 0.0, flat: float = 0.7
) -> Table:
    """Place balls inside the hull; `apart` > 0 skips those that come too close."""
    n = len(radii_px)
    reach = np.maximum(flat * body.radius_px - radii_px, 0) * np.sqrt(rng.uniform(0, 1, n))
    phi = rng.uniform(0, 2 * math.pi, n)
    tall_px = 0.7 * float(radii_px.max()) + body.half_height_px
    centres = np.stack(
        [
            body.x_px + reach * np.cos(phi),
            body.y_px + reach * np.sin(phi),
            rng.uniform(-tall_px, tall_px, n),
        ],
        axis=1,
    )
    kept: list[int] = []
    for index in range(n):
        distance = np.linalg.norm(centres[kept] - centres[index], axis=1)
        if not apart or (distance > apart * (radii_px[kept] + radii_px[index])).all():
            kept.append(index)
    return np.column_stack([centres, radii_px])[kept]


def _ellipsoids(balls: Table, rng: Rng, mu: NDArray[np.float64], *, squash: float = 0.5) -> Table:
    x, y, z, r = balls.T
    n = len(balls)
    b, c = r * rng.uniform(squash, 1, n), r * rng.uniform(squash, 1, n)
    return np.column_stack([x, y, z, r, b, c, rng.uniform(0, math.pi, n), mu[:n]])


def _blocks(balls: Table, rng: Rng, a: Column, b: Column, *, lean: float) -> Table:
    """Return leaning blocks with half widths a and b where the balls are."""
    n = len(balls)
    phi, mu = rng.uniform(0, math.pi, n), rng.uniform(0.3, 2, n)
    slope_x, slope_y = lean * rng.normal(size=(2, n))
    kind = np.full(n, RECTANGLE)
    return np.column_stack([kind, balls[:, 0], balls[:, 1], a, b, phi, mu, slope_x, slope_y])


def _radii(body: Body, rng: Rng, n: int, low: float, high: float) -> NDArray[np.float64]:
    radii_px = body.radius_px * np.exp(rng.uniform(math.log(low), math.log(high), n))
    return np.sort(np.maximum(radii_px, 0.4))[::-1]


def grains(body: Body, rng: Rng) -> Sample:
    """Granular: grains of several densities in a matrix."""
    radii_px = _radii(body, rng, int(rng.integers(30, 160)), 0.03, rng.uniform(0.1, 0.3))
    levels = rng.uniform(-0.8, 3, 4)
    mu = rng.choice(levels, len(radii_px))
    balls = _spread(body, rng, radii_px)
    return _parts([_hull(body, rng, 1.0)], _ellipsoids(balls, rng, mu), None)


def bubbles(body: Body, rng: Rng) -> Sample:
    """Foam: empty bubbles that do not touch."""
    radii_px = _radii(body, rng, int(rng.integers(60, 250)), 0.03, rng.uniform(0.08, 0.3))
    balls = _spread(body, rng, radii_px, apart=1.02)
    mu = np.full(len(balls), -1.0)
    return _parts([_hull(body, rng, 1.0)], _ellipsoids(balls, rng, mu, squash=0.9), None)


def fibres(body: Body, rng: Rng) -> Sample:
    """Fibrous: straight rods, most of them steep, in a thin matrix."""
    n = int(rng.integers(20, 140))
    radii_px = _radii(body, rng, n, 0.015, rng.uniform(0.03, 0.1))
    balls = _spread(body, rng, radii_px)
    tilt = np.tan(np.deg2rad(rng.uniform(0, rng.uniform(5, 70), n)))
    phi = rng.uniform(0, 2 * math.pi, n)
    slope_x, slope_y = tilt * np.cos(phi), tilt * np.sin(phi)
    long = balls[:, 3] * np.sqrt(1 + tilt**2)
    kind, mu = np.full(n, ELLIPSE), rng.uniform(0.5, 1.5, n)
    x, y = balls[:, 0], balls[:, 1]
    bars = np.column_stack([kind, x, y, long, balls[:, 3], phi, mu, slope_x, slope_y])
    matrix = rng.choice([0.0, 0.1, 0.4])
    return _parts([_hull(body, rng, matrix)], None, bars)


def crystals(body: Body, rng: Rng) -> Sample:
    """Blocks with straight edges, some in a matrix."""
    n = int(rng.integers(6, 60))
    balls = _spread(body, rng, _radii(body, rng, n, 0.03, 0.3), apart=0.6)
    n = len(balls)
    shape = rng.uniform(0.2, 1, n)
    bars = _blocks(balls, rng, 0.8 * balls[:, 3], 0.8 * shape * balls[:, 3], lean=0.2)
    return _parts([_hull(body, rng, rng.choice([0.0, 0.2, 1.0]))], None, bars)


def laminate(body: Body, rng: Rng) -> Sample:
    """Layered: a stack of plates of different densities, with some holes."""
    n = int(rng.integers(3, 25))
    phi = rng.uniform(0, math.pi)
    width, thick = 0.75 * body.radius_px, 0.65 * body.radius_px
    edges = np.sort(rng.uniform(-thick, thick, n + 1))
    through = [
        [
            RECTANGLE,
            body.x_px - 0.5 * (low + high) * math.sin(phi),
            body.y_px + 0.5 * (low + high) * math.cos(phi),
            width,
            max(0.5 * (high - low), 0.2),
            phi,
            rng.uniform(0.2, 1.5),
        ]
        for low, high in pairwise(edges)
    ]
    balls = _spread(body, rng, _radii(body, rng, 15, 0.02, 0.08), flat=0.5)
    mu = rng.uniform(-0.5, 1.0, len(balls))
    return _parts(through, _ellipsoids(balls, rng, mu), None)


def beads(body: Body, rng: Rng) -> Sample:
    """A round tube filled with beads."""
    inner = rng.uniform(0.75, 0.93)
    tube = [ELLIPSE, body.x_px, body.y_px, body.radius_px, body.radius_px, 0.0, 1.0]
    hollow = [*tube[:3], inner * body.radius_px, inner * body.radius_px, 0.0, -0.95]
    radii_px = _radii(body, rng, int(rng.integers(30, 150)), 0.05, 0.2)
    balls = _spread(body, rng, radii_px, apart=1.0, flat=inner)
    mu = rng.choice([0.6, 1.2, 2.5], len(balls))
    return _parts([tube, hollow], _ellipsoids(balls, rng, mu, squash=1.0), None)


def inclusions(body: Body, rng: Rng) -> Sample:
    """A few dense inclusions in a weak body."""
    radii_px = _radii(body, rng, int(rng.integers(2, 9)), 0.01, 0.08)
    balls = _spread(body, rng, radii_px)
    mu = rng.uniform(2, 12, len(balls))
    return _parts([_hull(body, rng, 0.5)], _ellipsoids(balls, rng, mu), None)


def smooth(body: Body, rng: Rng) -> Sample:
    """A few large bodies one in the other, as a tooth or a bone."""
    radii_px = body.radius_px * rng.uniform(0.2, 0.6, int(rng.integers(2, 6)))
    balls = _spread(body, rng, radii_px)
    mu = rng.uniform(-0.5, 1.0, len(balls))
    return _parts([_hull(body, rng, 1.0)], _ellipsoids(balls, rng, mu), None)


def plain(body: Body, rng: Rng) -> Sample:
    """Almost featureless: one body and little in it."""
    balls = _spread(body, rng, _radii(body, rng, int(rng.integers(1, 4)), 0.1, 0.4))
    mu = rng.choice([-1, 1], len(balls)) * rng.uniform(0.02, 0.15, len(balls))
    return _parts([_hull(body, rng, 1.0, flat=0.6)], _ellipsoids(balls, rng, mu), None)


def needles(body: Body, rng: Rng) -> Sample:
    """Validation: thin plates and needles without a matrix."""
    n = int(rng.integers(15, 70))
    balls = _spread(body, rng, _radii(body, rng, n, 0.1, 0.4))
    bars = _blocks(balls, rng, balls[:, 3], np.maximum(0.05 * balls[:, 3], 0.5), lean=0.5)
    return _parts([], None, bars)


def shells(body: Body, rng: Rng) -> Sample:
    """Validation: hollow balls, as of a syntactic foam or seeds."""
    radii_px = _radii(body, rng, int(rng.integers(15, 80)), 0.06, 0.35)
    balls = _spread(body, rng, radii_px, apart=1.0)
    thick = rng.uniform(0.75, 0.95)
    inner = balls * [1, 1, 1, thick]
    mu = rng.uniform(0.5, 1.5, len(balls))
    whole = _ellipsoids(balls, rng, mu, squash=1.0)
    hollow = _ellipsoids(inner, rng, -mu, squash=1.0)
    return _parts([], np.concatenate([whole, hollow]), None)


Family = Callable[[Body, Rng], Sample]
TRAIN: tuple[Family, ...] = (
    grains, bubbles, fibres, crystals, laminate, beads, inclusions, smooth, plain,
)  # fmt: skip
VALIDATION: tuple[Family, ...] = (needles, shells)
