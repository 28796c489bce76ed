"""From line integrals to counts, with everything that beams and detectors do, and back to rows."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.special import expit

from tomopipe.prep.normalise import normalise
from tomopipe_lab.suite.settings import Rng, Settings

Image = NDArray[np.float32]
FULL_WELL_ADU, OPEN_ADU, DARK_ADU, READ_ADU = 65535.0, 30000.0, 120.0, 4.0
_GAUSSIAN_ABOVE = 200.0  # photons: a normal deviate is as good, and faster


@dataclass(frozen=True, eq=False)
class Part:
    """Some frames and some rows of one scan: which, and of which size."""

    frames: NDArray[np.intp]
    rows: NDArray[np.intp]


def blur(image: Image, sigma_px: float) -> Image:
    """Blur along the columns."""
    if sigma_px < 0.1:
        return image
    return ndimage.gaussian_filter1d(image, sigma_px, axis=-1, truncate=3.0, mode="nearest")


def fringes(lines: Image, strength: float) -> Image:
    """Add the fringes of propagation along the columns: the linear transfer function.

    A line integral p becomes cos(a) p + r sin(a) p, a = pi lambda z f**2, r = delta / beta large.
    """
    if not strength:
        return lines
    n = lines.shape[-1]
    padded = np.pad(lines, [(0, 0), (0, 0), (n // 4, n // 4)], mode="edge")
    f = fft.rfftfreq(padded.shape[-1]).astype(np.float32)
    phase = np.float32(4.0) * f**2  # up to 1 at the finest structure
    transfer = np.cos(phase) + np.float32(strength) * np.sin(phase)
    fringed = fft.irfft(fft.rfft(padded) * transfer, n=padded.shape[-1])
    return np.asarray(fringed[..., n // 4 : n // 4 + n], dtype=np.float32)


class Instrument:
    """Beam and detector of one scan: what does not depend on the sample."""

    def __init__(self, settings: Settings, n_angles: int, rng: Rng) -> None:
        self.settings, self.rng, self.n_angles = settings, rng, n_angles
        s, shape = settings, (settings.n_rows, settings.n_cols)
        self.open = _open_beam(shape, rng, texture=0.15 if s.flat_shift_px else 0.03)
        self.gain = np.exp(s.thin_rings * _thin(shape, rng) + s.wide_rings * _wide(shape, rng))
        if s.dust:
            self.gain *= np.exp(-s.dust * spots_of(shape, rng, int(rng.integers(4, 25))))
        self.flux = _drift(s.drift, n_angles, s.n_cols, rng)
        self.shift_px = s.flat_shift_px * random_walk(n_angles, rng) if s.flat_shift_px else None
        self.partial = _partial(s, n_angles, rng)
        self.dead = rng.choice(s.n_cols, s.dead, replace=False) if s.dead else np.zeros(0, int)
        self.dead_in_flat = rng.random(s.dead) < 0.5
        self.dark = (DARK_ADU * rng.uniform(0.9, 1.1, shape)).astype(np.float32)

    def counts(self, lines: Image, part: Part) -> Image:
        """Return raw frames (n_frames, n_rows, n_cols), in ADU, of line integrals."""
        s, rng = self.settings, self.rng
        beam = np.exp(-lines)
        beam = blur(beam, s.blur_px)
        beam *= self._open_at(part) * self.gain[part.rows].astype(np.float32)
        beam *= self.flux[part.frames][:, None]
        if self.partial is not None:
            beam *= np.exp(self.partial[part.frames])[:, None]
        photons = poisson(beam * np.float32(s.counts), rng)
        if s.zingers:
            hit = np.flatnonzero(rng.random(photons.shape, dtype=np.float32) < s.zingers)
            photons.ravel()[hit] += s.counts * rng.exponential(2.0, len(hit)).astype(np.float32)
        raw = photons * np.float32(OPEN_ADU / s.counts) + self.dark[part.rows]
        raw += np.float32(READ_ADU) * rng.standard_normal(raw.shape, dtype=np.float32)
        raw[..., self.dead] = DARK_ADU + 100 * rng.random(len(self.dead))
        return np.clip(np.rint(raw), 0, FULL_WELL_ADU)

    def flat_and_dark(self) -> tuple[Image, Image]:
        """Return the mean flat and the mean dark (n_rows, n_cols)."""
        s, n = self.settings, int(self.rng.integers(5, 41))
        photons = poisson((self.open * s.counts * n).astype(np.float32), self.rng) / n
        flat = photons * np.float32(OPEN_ADU / s.counts) + self.dark
        # A dead pixel is dead in the flats (then it is repaired) or was hurt since.
        flat[:, self.dead[self.dead_in_flat]] = self.dark[:, self.dead[self.dead_in_flat]]
        return flat.astype(np.float32), self.dark

    def corrected(self, raw: Image, part: Part, flat: Image, dark: Image) -> Image:
        """Return what the workflow makes of raw frames."""
        done = normalise(raw, flat[part.rows], dark[part.rows])
        return np.asarray(done, dtype=np.float32)

    def _open_at(self, part: Part) -> Image:
        """Return the open beam of each frame, its pattern shifted since the flats."""
        open_ = self.open[part.rows].astype(np.float32)
        if self.shift_px is None:
            return np.asarray(open_[None])
        column = np.arange(open_.shape[1])
        frames = [
            [np.interp(column - shift, column, row) for row in open_]
            for shift in self.shift_px[part.frames]
        ]
        return np.array(frames, dtype=np.float32).reshape(-1, *open_.shape)


def poisson(mean: Image, rng: Rng) -> Image:
    """Draw photons; where there are many, a normal deviate."""
    drawn = mean + np.sqrt(mean) * rng.standard_normal(mean.shape, dtype=np.float32)
    few = np.flatnonzero(mean.ravel() < _GAUSSIAN_ABOVE)
    drawn.ravel()[few] = rng.poisson(mean.ravel()[few])
    return np.rint(drawn)


def random_walk(n: int, rng: Rng, smooth: float = 0.03) -> NDArray[np.float64]:
    """Return a smooth random walk of n steps from 0, whose largest distance is 1."""
    walk = np.cumsum(rng.normal(size=n))
    walk = ndimage.gaussian_filter1d(walk, max(1.0, smooth * n), mode="nearest")
    walk -= walk[0]
    largest = np.abs(walk).max()
    return walk / largest if largest > 0 else walk


def _drift(strength: float, n_angles: int, n_cols: int, rng: Rng) -> Image:
    """Return the flux of each frame and column: a walk, a tilt, top-up steps."""
    column = np.linspace(-0.5, 0.5, n_cols)
    flux = np.ones((n_angles, n_cols))
    if strength:
        tilt, bend = random_walk(n_angles, rng), random_walk(n_angles, rng)
        flux += strength * (random_walk(n_angles, rng)[:, None] + tilt[:, None] * column)
        flux += strength * bend[:, None] * column**2
        flux *= 1 + 0.1 * strength * rng.normal(size=(n_angles, 1))
    return np.maximum(flux, 0.05).astype(np.float32)


def _open_beam(shape: tuple[int, int], rng: Rng, *, texture: float) -> NDArray[np.float64]:
    """Return the open beam, at most about 1: smooth, with structure, with dust that flats see."""
    column = np.linspace(-1, 1, shape[1]) - rng.uniform(-0.3, 0.3)
    row = np.linspace(-1, 1, shape[0])[:, None] if shape[0] > 1 else np.zeros((1, 1))
    beam = 1 - rng.uniform(0, 0.4) * column**2 / 1.7 - rng.uniform(0, 0.2) * row**2
    rough = ndimage.gaussian_filter(rng.normal(size=shape), [0.5, _scale(rng)], mode="reflect")
    beam *= np.exp(texture * rough / max(float(rough.std()), 1e-12))
    beam *= np.exp(-rng.uniform(0, 0.3) * spots_of(shape, rng, int(rng.integers(0, 12))))
    return np.asarray(beam / beam.max())


def _scale(rng: Rng) -> float:
    """Draw the size of a structure, pixels."""
    return float(np.exp(rng.uniform(0, 2.5)))


def spots_of(shape: tuple[int, int], rng: Rng, n: int) -> NDArray[np.float64]:
    """Return n dark spots, or streaks, of depth up to 1 and both signs."""
    rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    spots = np.zeros(shape)
    for _ in range(n):
        size = np.exp(rng.uniform(-0.3, 2, 2)) * [8 if rng.random() < 0.2 else 1, 1]
        offset = (rows - rng.uniform(0, shape[0])) / size[0], cols - rng.uniform(0, shape[1])
        depth = rng.uniform(0.1, 1) * rng.choice([1, 1, 1, -0.5])
        spots += depth * np.exp(-(offset[0] ** 2 + (offset[1] / size[1]) ** 2) / 2)
    return spots


def _thin(shape: tuple[int, int], rng: Rng) -> NDArray[np.float64]:
    """Return gains of single pixels: all a little, a few much."""
    few = rng.random(shape) < rng.uniform(0.01, 0.1)
    streak = rng.random() < 0.5  # the same columns in all rows
    gain = rng.normal(size=shape) * np.where(few, 1.0, 0.1)
    return np.broadcast_to(gain[:1], shape) if streak else gain


def _wide(shape: tuple[int, int], rng: Rng) -> NDArray[np.float64]:
    """Return bands of changed gain, 4 to 30 columns wide, with sharp or soft edges."""
    column, gain = np.arange(shape[1]), np.zeros(shape[1])
    for _ in range(int(rng.integers(1, 7))):
        width, centre = np.exp(rng.uniform(1.4, 3.4)), rng.uniform(0, shape[1])
        beyond = np.abs(column - centre) - width / 2
        gain += rng.normal() * expit(-beyond / rng.uniform(0.2, 2))
    return np.broadcast_to(gain, shape)


def _partial(s: Settings, n_angles: int, rng: Rng) -> Image | None:
    """Return gains that some columns have for some angles only, or that walk; log of the gain."""
    if not s.partial_rings and not s.drifting_rings:
        return None
    log_gain = np.zeros((n_angles, s.n_cols))
    if s.partial_rings:
        for _ in range(int(rng.integers(3, 25))):
            first, width = int(rng.integers(s.n_cols)), int(rng.choice([1, 1, 2, 5]))
            start, stop = np.sort(rng.integers(0, n_angles + 1, 2))
            log_gain[start:stop, first : first + width] += s.partial_rings * rng.normal()
    if s.drifting_rings:
        for _ in range(int(rng.integers(5, 30))):
            first, width = int(rng.integers(s.n_cols)), int(rng.choice([1, 1, 2, 5]))
            walk = random_walk(n_angles, rng) * rng.normal() * s.drifting_rings
            log_gain[:, first : first + width] += walk[:, None]
    return log_gain.astype(np.float32)


def motion(s: Settings, n_angles: int, rng: Rng) -> tuple[NDArray[np.float64], ...]:
    """Return how the sample moves in its own frame (x, y), its swelling, and the jitter, px."""
    x = s.motion_px * random_walk(n_angles, rng) if s.motion_px else np.zeros(n_angles)
    y = s.motion_px * random_walk(n_angles, rng) if s.motion_px else np.zeros(n_angles)
    time = np.linspace(0, 1, n_angles)
    relax = (1 - np.exp(-time / rng.uniform(0.2, 2))) / (1 - math.exp(-1 / 0.5))
    swell = 1 + s.swell * rng.choice([-1, 1]) * np.clip(relax, 0, 1)
    return x, y, swell, s.jitter_px * rng.normal(size=n_angles)
