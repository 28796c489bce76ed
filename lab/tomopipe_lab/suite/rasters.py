"""Families of rasterised samples, finer than the detector: random fields and Voronoi cells.

None of them shares a generator with `tomopipe_lab.suite.solids`.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tomopipe_lab.suite._kernels import voronoi
from tomopipe_lab.suite.sample import Image, Raster, Sample
from tomopipe_lab.suite.settings import log_uniform
from tomopipe_lab.suite.solids import Body, Rng

MOST_FINE = 640  # voxels across a raster, while the detector is coarser than that
FineImage = Callable[[float], Image]


class Canvas:
    """The fine grid about a body, in pixels from its middle, and its star-shaped outline."""

    def __init__(self, body: Body, rng: Rng, *, rough: float = 0.15) -> None:
        fine = min(rng.uniform(1.6, 2.1), max(MOST_FINE / (2 * body.radius_px), 1.2))
        self.n = max(24, math.ceil(2 * body.radius_px * fine))
        self.h_px = 2 * body.radius_px / self.n
        axis = ((np.arange(self.n) + 0.5) * self.h_px - body.radius_px).astype(np.float32)
        self.x, self.y = np.meshgrid(axis, axis)
        self.body = body
        self.seed = int(rng.integers(1 << 30))
        angle, waves = np.arctan2(self.y, self.x), np.arange(1, 7)
        height = rough * rng.normal(size=6) / waves
        phase = rng.uniform(0, 2 * math.pi, 6)
        outline = sum(
            a * np.cos(k * angle + p) for k, a, p in zip(waves, height, phase, strict=True)
        )
        outline = 1 + np.asarray(outline, dtype=np.float32)
        # below 1 inside the body, which touches its circle
        self.level = np.hypot(self.x, self.y) / (body.radius_px * 0.99 * outline / outline.max())

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Where the body is."""
        return np.asarray(self.level < 1)

    def field(self, rng: Rng, scale_px: float, *, slope: float | None = None) -> FineImage:
        """Return a random field of unit deviation that changes with height as along x and y.

        `scale_px`: size of its features; `slope`: all scales up to that one, by this power.
        """
        size = fft.next_fast_len(self.n, real=True)
        fx, fy = fft.rfftfreq(size, self.h_px), fft.fftfreq(size, self.h_px)
        f = np.hypot(fx[None], fy[:, None]).astype(np.float32) * np.float32(2 * scale_px)
        if slope is None:
            weight = np.exp(-((f - 1) ** 2) / (2 * 0.35**2)) * (f > 0)
        else:
            weight = np.maximum(f, 0.5) ** np.float32(-slope) * (f > 0) * (f < 2 * scale_px)
        both = []
        for _ in range(2):
            white = rng.standard_normal((size, size), dtype=np.float32)
            field = fft.irfft2(fft.rfft2(white) * weight, s=(size, size))[: self.n, : self.n]
            both.append((field / field.std()).astype(np.float32))
        first, second = both

        def plane(z_px: float) -> Image:
            phase = math.pi * z_px / (2 * scale_px)
            return np.float32(math.cos(phase)) * first + np.float32(math.sin(phase)) * second

        return plane

    def cells(
        self, size_px: float, *, stretch: float = 1.0, angle: float = 0.0
    ) -> Callable[[float], tuple[Image, Image, Image]]:
        """Return Voronoi cells: distance to the seed, to the wall (both in cells), and a grey."""
        along = self.x * math.cos(angle) + self.y * math.sin(angle)
        across = self.y * math.cos(angle) - self.x * math.sin(angle)
        x, y = along / (size_px * stretch) + 50, across / size_px + 50

        def plane(z_px: float) -> tuple[Image, Image, Image]:
            near, wall, grey = np.empty((3, *x.shape), dtype=np.float32)
            voronoi(x, y, z_px / size_px + 50, self.seed, near, wall, grey)
            return near, wall, grey

        return plane

    def sample(self, image_at: FineImage) -> Sample:
        """Return what is scanned: an image of the grid at each height, 0 outside the body."""
        inside = self.inside.astype(np.float32)
        body = self.body
        return Raster(lambda z: image_at(z) * inside, self.h_px, body.x_px, body.y_px)


def _size(body: Body, rng: Rng, low: float, high: float) -> float:
    """Return a size in pixels, drawn as a share of the body, no feature under two pixels."""
    return max(2.0, body.radius_px * log_uniform(rng, low, high))


def porous(body: Body, rng: Rng) -> Sample:
    """Training: a porous rock, a random field cut at one level."""
    canvas = Canvas(body, rng)
    field, cut = canvas.field(rng, _size(body, rng, 0.04, 0.2)), rng.uniform(-0.8, 0.8)
    dense, cut_dense = canvas.field(rng, _size(body, rng, 0.05, 0.3)), rng.uniform(0.8, 2.5)

    def image(z_px: float) -> Image:
        grey = np.where(dense(z_px) > cut_dense, np.float32(2.5), np.float32(1.0))
        return np.asarray(grey * (field(z_px) > cut))

    return canvas.sample(image)


def clouds(body: Body, rng: Rng) -> Sample:
    """Training: soft matter of smoothly varying density."""
    canvas = Canvas(body, rng, rough=0.1)
    field = canvas.field(rng, 0.5 * body.radius_px, slope=rng.uniform(1.2, 2.2))
    depth = np.float32(rng.uniform(0.05, 0.3))
    return canvas.sample(lambda z_px: np.maximum(1 + depth * field(z_px), 0))


def marble(body: Body, rng: Rng) -> Sample:
    """Validation: veins, the zero lines of a random field, in a matrix."""
    canvas = Canvas(body, rng)
    field = canvas.field(rng, _size(body, rng, 0.06, 0.25))
    width, matrix = rng.uniform(0.05, 0.3), np.float32(rng.choice([0.2, 0.6, 1.0]))
    vein = np.float32(rng.uniform(0.5, 2))

    def image(z_px: float) -> Image:
        return np.asarray(matrix + vein * (np.abs(field(z_px)) < width), dtype=np.float32)

    return canvas.sample(image)


def gravel(body: Body, rng: Rng) -> Sample:
    """Validation: rounded stones, of one density each, with air between."""
    canvas = Canvas(body, rng)
    cells, gap = canvas.cells(_size(body, rng, 0.1, 0.35)), rng.uniform(0.05, 0.3)

    def image(z_px: float) -> Image:
        near, wall, grey = cells(z_px)
        return ((wall > gap) & (near < 0.7)) * (np.float32(0.5) + grey)

    return canvas.sample(image)


def cellular(body: Body, rng: Rng) -> Sample:
    """Test: walls of cells, as in plant tissue or a closed foam."""
    canvas = Canvas(body, rng)
    cells = canvas.cells(_size(body, rng, 0.07, 0.3), stretch=rng.uniform(1, 2))
    thick, sap = rng.uniform(0.06, 0.25), rng.choice([0.0, 0.1, 0.5])

    def image(z_px: float) -> Image:
        _, wall, grey = cells(z_px)
        return np.where(wall < thick, np.float32(1), np.float32(sap) * grey)

    return canvas.sample(image)


def granular(body: Body, rng: Rng) -> Sample:
    """Test: polycrystal, cells that touch and differ in density."""
    canvas = Canvas(body, rng)
    cells, contrast = canvas.cells(_size(body, rng, 0.08, 0.3)), np.float32(rng.uniform(0.1, 1))
    return canvas.sample(lambda z_px: 1 + contrast * (cells(z_px)[2] - np.float32(0.5)))


def foam(body: Body, rng: Rng) -> Sample:
    """Test: round pores of one size that open into each other."""
    canvas = Canvas(body, rng)
    cells, pore = canvas.cells(_size(body, rng, 0.08, 0.3)), rng.uniform(0.4, 0.65)
    return canvas.sample(lambda z_px: (cells(z_px)[0] > pore).astype(np.float32))


def trabeculae(body: Body, rng: Rng) -> Sample:
    """Test: a warped gyroid in a cortex, as spongy bone."""
    canvas = Canvas(body, rng, rough=0.1)
    warp = canvas.field(rng, 0.4 * body.radius_px)
    period_px, thick = _size(body, rng, 0.15, 0.4), rng.uniform(0.3, 0.9)
    wave = np.float32(2 * math.pi / period_px)
    cortex = canvas.level > rng.uniform(0.82, 0.95)

    def image(z_px: float) -> Image:
        bend = np.float32(0.8) * warp(z_px)
        x, y, z = wave * canvas.x + bend, wave * canvas.y - bend, wave * np.float32(z_px)
        level = np.sin(x) * np.cos(y) + np.sin(y) * math.cos(z) + math.sin(z) * np.cos(x)
        return ((np.abs(level) < thick) | cortex).astype(np.float32)

    return canvas.sample(image)


def strata(body: Body, rng: Rng) -> Sample:
    """Test: wavy layers, flat as in a sediment or round as in wood."""
    canvas = Canvas(body, rng)
    warp = canvas.field(rng, rng.uniform(0.2, 0.6) * body.radius_px)
    period_px, strength = _size(body, rng, 0.06, 0.3), rng.uniform(0.1, 0.6) * body.radius_px / 4
    angle, off = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 1) * body.radius_px
    along = canvas.x * math.cos(angle) + canvas.y * math.sin(angle)
    middle_x, middle_y = off * math.cos(angle), off * math.sin(angle)
    around = np.hypot(canvas.x - middle_x, canvas.y - middle_y)
    depth = along if rng.random() < 0.5 else around
    sharp, contrast = rng.uniform(1, 8), rng.uniform(0.1, 0.8)

    def image(z_px: float) -> Image:
        phase = 2 * math.pi * (depth + strength * warp(z_px)) / period_px
        return np.asarray(1 + contrast * np.tanh(sharp * np.sin(phase)), dtype=np.float32)

    return canvas.sample(image)


def felt(body: Body, rng: Rng) -> Sample:
    """Test: short fibres in two directions."""
    canvas = Canvas(body, rng)
    stretch, scale_px = rng.uniform(3, 8), _size(body, rng, 0.05, 0.12)
    bundles = [canvas.cells(scale_px, stretch=stretch, angle=a) for a in rng.uniform(0, 3.14, 2)]
    core = rng.uniform(0.25, 0.4)

    def image(z_px: float) -> Image:
        return np.sum([b(z_px)[0] < core for b in bundles], axis=0, dtype=np.float32)

    return canvas.sample(image)


def nodules(body: Body, rng: Rng) -> Sample:
    """Test: few dense irregular inclusions in a body that is weak."""
    canvas = Canvas(body, rng)
    cells, share = canvas.cells(_size(body, rng, 0.2, 0.6)), rng.uniform(0.15, 0.5)
    warp, core = canvas.field(rng, _size(body, rng, 0.05, 0.15)), rng.uniform(0.08, 0.25)
    dense = np.float32(rng.uniform(2, 10))

    def image(z_px: float) -> Image:
        near, _, grey = cells(z_px)
        return np.float32(0.5) + dense * ((near + 0.04 * warp(z_px) < core) & (grey < share))

    return canvas.sample(image)


def tooth(body: Body, rng: Rng) -> Sample:
    """Test: a smooth body in shells, a hollow inside, densities that change gently."""
    canvas = Canvas(body, rng, rough=0.2)
    warp = canvas.field(rng, 0.6 * body.radius_px)
    shell, hollow = rng.uniform(0.7, 0.9), rng.uniform(0.05, 0.3)
    enamel, drift = np.float32(rng.uniform(1.2, 2)), np.float32(rng.uniform(0, 0.1))

    def image(z_px: float) -> Image:
        bent = canvas.level + np.float32(0.03) * warp(z_px)
        value = np.where(bent > shell, enamel, 1 + drift * warp(z_px))
        return np.where(bent < hollow, np.float32(0.1), value).astype(np.float32)

    return canvas.sample(image)


def blank(body: Body, rng: Rng) -> Sample:
    """Test: almost featureless, an irregular body with hardly any texture."""
    canvas = Canvas(body, rng, rough=0.25)
    field, depth = canvas.field(rng, 0.4 * body.radius_px), np.float32(rng.uniform(0.0, 0.03))
    return canvas.sample(lambda z_px: 1 + depth * field(z_px))


Family = Callable[[Body, Rng], Sample]
TRAIN: tuple[Family, ...] = (porous, clouds)
VALIDATION: tuple[Family, ...] = (marble, gravel)
TEST: tuple[Family, ...] = (
    cellular, granular, foam, trabeculae, strata, felt, nodules, tooth, blank,
)  # fmt: skip
