"""Shift along the axis between the first and the last projection, where these see the same.

After 360 degrees a projection is repeated, after 180 degrees it is mirrored: p(u, z, t + pi) =
p(2 cor - u, z, t), for a sample larger than the field of view, too. A sample that has moved along
the axis shifts the image along its rows: the last projection is registered with the first one by
least squares on its gradient [1]_, from where it correlates best. Means of rows and columns are
subtracted, as a beam that moved changes all columns alike, and a ring all rows. A tilted axis
shears the images: that is fitted, and small where noise hides it, as it else takes a shift along.

What is left is alike in pixels near each other. Its correlations, and those of what a shift
changes, give the error of the shift, and how many independent values there are [2]_; if blocks of
the image [3]_ differ more, they do. Dirt, rings and noise shift images that are smoothed less or
more by different rows, motion by the same: how far the nearest of the others is, is a second error.
How much more likely the shift is than none is one number, the score: so many deviations of noise.

References
----------
.. [1] B. D. Lucas, T. Kanade, "An iterative image registration technique with an application to
   stereo vision", Proc. IJCAI 674 (1981).
.. [2] M. S. Bartlett, "On the theoretical specification and sampling properties of autocorrelated
   time-series", Suppl. J. R. Stat. Soc. 8, 27 (1946).
.. [3] K.-Y. Liang, S. L. Zeger, "Longitudinal data analysis using generalized linear models",
   Biometrika 73, 13 (1986).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.arrays import NORMAL_PER_MAD

Floats = NDArray[np.float64]

_MOST_COLS, _LEAST_COLS, _LEAST_ROWS = 256, 8, 8  # columns are averaged to so many
_LEAST_COMMON = 6  # rows that both images have
_SIDEWAYS, _OVERLAP = 1 / 16, 0.4  # largest shift to the sides; least share of common rows
# Deviations; so many of them, or the share 1 / 8 of the rows, are left out at each edge.
_SMOOTHS_PX, _EDGE, _EDGE_SHARE, _ZINGER = (0.7, 1.5, 3.0), 2.0, 8, 6.0
_STEPS, _EXACT, _MOST_AWAY = 40, 0.01, 2.5  # of a registration; from where it began (px)
_BLOCKS = 2, 8  # along rows and columns
_MOST_ROLL, _LIKELY_SHEAR = 0.1, 0.02  # rows per column; deviation before anything is measured
_MOST_EXPLAINED, _MOST_VALUES = 1 - 1e-9, 400  # no images are known to be alike any better


class EndShift(NamedTuple):
    """Shift from the first to the last projection."""

    rows: float  # positive: towards later rows, down
    error: float
    score: float  # deviations by which it is more likely than none
    spread_px: float = np.inf  # deviation of the columns that show it
    smooth_px: float = 0.0  # by which the images were smoothed


class _Fit(NamedTuple):
    """Two images registered."""

    rows: float
    error: float  # by what is left, a correlated noise
    explained: float  # share of the difference without a shift
    n_values: float  # that are independent

    def score(self, error: float) -> float:
        """Return how likely the shift is: by what it explains, at most by its error."""
        of_error = np.log1p((self.rows / error) ** 2 / self.n_values)
        return float(np.sqrt(self.n_values * min(-np.log1p(-self.explained), of_error)))


def end_shifts(first: Floats, last: Floats, mirror_px: float | None) -> list[EndShift]:
    """Register the last projection (n_rows, n_cols) with the first one, smoothed less and more.

    Those that do not match are left out. `mirror_px` is the column of the axis, about which the
    last one is mirrored; None: it is not.
    """
    images, binning = _overlap(first, last, mirror_px)
    if images is None:
        return []
    fits, columns = list[_Fit](), list[tuple[float, float]]()
    for smooth_px in _SMOOTHS_PX:
        a, b = (_prepared(image, smooth_px) for image in images)
        start = _search(_centred(a), _centred(b))
        fit = _register(a, b, start, smooth_px)
        if fit is not None:
            fits.append(fit)
            energy = np.sum(np.gradient(_centred(a), axis=0) ** 2, axis=0)
            spread = _spread(np.maximum(energy - np.median(energy), 0))  # less noise
            columns.append((spread * binning, smooth_px))
    shifts = []
    for k, (fit, of_fit) in enumerate(zip(fits, columns, strict=True)):
        others = [abs(other.rows - fit.rows) for other in fits[:k] + fits[k + 1 :]]
        error = float(np.hypot(fit.error, min(others, default=0.0)))
        shifts.append(EndShift(fit.rows, error, fit.score(error), *of_fit))
    return shifts


def _spread(weights: Floats) -> float:
    """Return the standard deviation of columns, by their weights."""
    shares, column = weights / max(float(weights.sum()), 1e-300), np.arange(len(weights))
    return float(np.sqrt(shares @ (column - shares @ column) ** 2))


def _overlap(first: Floats, last: Floats, mirror_px: float | None) -> tuple[Floats | None, int]:
    """Return both images (2, n_rows, n_cols) in the columns that both have, and their binning."""
    n_cols = first.shape[1]
    if mirror_px is not None:
        half = int(min(mirror_px, n_cols - 1 - mirror_px))
        at = mirror_px + np.arange(-half, half + 1)
        low = np.clip(np.floor(at).astype(int), 0, n_cols - 2)
        part = at - low
        first, last = ((1 - part) * v[:, low] + part * v[:, low + 1] for v in (first, last))
        last = last[:, ::-1]
    if first.shape[0] < _LEAST_ROWS or first.shape[1] < _LEAST_COLS:
        return None, 1
    both = np.stack([first, last])
    binning = max(1, both.shape[2] // _MOST_COLS)
    n_cols = both.shape[2] // binning * binning
    return both[:, :, :n_cols].reshape(*both.shape[:2], -1, binning).mean(axis=3), binning


def _prepared(image: Floats, smooth_px: float) -> Floats:
    """Return an image smoothed, without zingers."""
    usual = ndimage.median_filter(image, 3, mode="nearest")
    away = np.abs(image - usual)
    image = np.where(away > _ZINGER * NORMAL_PER_MAD * np.median(away), usual, image)
    return np.asarray(ndimage.gaussian_filter(image, smooth_px, mode="nearest"))


def _centred(image: Floats) -> Floats:
    """Return an image less the means of its rows and columns."""
    return image - image.mean(axis=0) - image.mean(axis=1, keepdims=True) + image.mean()


def _search(a: Floats, b: Floats) -> tuple[float, float]:
    """Return the shifts by whole rows and columns at which two images correlate best."""
    shape = [fft.next_fast_len(2 * n) for n in a.shape]
    reach = int((1 - _OVERLAP) * len(a)), max(1, int(_SIDEWAYS * a.shape[1]))
    rows, cols = (np.arange(-r, r + 1) for r in reach)

    def products(x: Floats, y: Floats) -> Floats:
        cross = fft.irfft2(np.conj(fft.rfft2(x, shape)) * fft.rfft2(y, shape), shape)
        return np.asarray(cross[np.ix_(rows, cols)])

    energy = products(a**2, np.ones_like(b)) * products(np.ones_like(a), b**2)
    score = products(a, b) / np.sqrt(np.maximum(energy, 1e-30))
    best = np.unravel_index(np.argmax(score), score.shape)
    return float(rows[best[0]]), float(cols[best[1]])


def _register(a: Floats, b: Floats, start: tuple[float, float], smooth_px: float) -> _Fit | None:
    """Register `b` with `a`: shifts along rows and columns, both shears, contrast."""
    edge = min(round(_EDGE * smooth_px), len(a) // _EDGE_SHARE)
    row, col = np.arange(a.shape[0], dtype=float)[:, None], np.arange(a.shape[1], dtype=float)[None]
    below, right = row - row.mean(), col - col.mean()
    scale = np.array([1, 1, a.shape[1] / 2, a.shape[0] / 2])  # a shear counts by its largest shift
    shifts = np.array([*start, 0.0, 0.0])
    for _ in range(_STEPS):
        down, aside, roll, shear = shifts
        at = row - down - roll * right, col - aside - shear * below
        inside = _inside(at[0], row, 1, edge), _inside(at[1], col, 0, 0)
        at_rows, at_cols = at[0][inside], at[1][inside]
        if (
            len(at_rows) < max(_OVERLAP * len(a), _LEAST_COMMON)
            or at_rows.shape[1] < _LEAST_COLS / 2
        ):
            return None
        model = ndimage.map_coordinates(a, [at_rows, at_cols], order=3, mode="nearest")
        by_row, by_col = np.gradient(model)
        beside, beneath = right[:, inside[1]], below[inside[0]]
        parts = -by_row, -by_col, -by_row * beside, -by_col * beneath, model
        design = np.stack([_centred(np.asarray(part)) for part in parts], axis=-1)
        target = _centred(np.asarray(b[inside]))
        rest = target - design[..., -1]
        normal = np.einsum("rcm,rcn->mn", design, design)
        normal += 1e-9 * np.diag(np.diag(normal)) + 1e-300 * np.eye(len(normal))
        alike_px = 4 * np.pi * smooth_px**2  # noise is the same in so many pixels
        likely = np.array([0, 0, 1, 1, 0]) * alike_px * np.mean(rest**2) / _LIKELY_SHEAR**2
        inverse = np.linalg.inv(normal + np.diag(likely))
        moment = np.einsum("rcm,rc->m", design, rest)
        step = inverse @ (moment - likely * np.append(shifts, 0.0))
        shifts += np.clip(step[:4], -1 / scale, 1 / scale)
        if np.abs(shifts[:2] - start).max() > _MOST_AWAY:
            return None
        if np.abs(step[:4] * scale).max() < _EXACT:
            break
    if abs(shifts[2]) > _MOST_ROLL:
        return None
    error, n_values = _error(design @ inverse[0], rest - design @ step, len(step))
    unmoved = ndimage.map_coordinates(a, [at_rows + down, at_cols], order=3, mode="nearest")
    alike, before = (_correlation(v, target) for v in (design[..., -1], _centred(unmoved)))
    explained = 1 - (1 - alike**2) / max(1 - max(before, 0.0) ** 2, 1e-12)
    return _Fit(float(shifts[0]), error, min(max(explained, 0.0), _MOST_EXPLAINED), n_values)


def _error(pull: Floats, left: Floats, n_fitted: int) -> tuple[float, float]:
    """Return the error of the sum of what is left, each pixel with its pull, and how many count.

    The variance is the sum over all distances of the products of both autocorrelations, which is
    that of the products of both spectra; or that of blocks.
    """
    shape = [fft.next_fast_len(2 * n) for n in left.shape]
    powers = [np.abs(fft.fft2(values, shape)) ** 2 for values in (pull, left)]
    of_spectra = float(np.sum(powers[0] * powers[1])) / np.prod(shape) / left.size
    blocks = np.array([part.sum() for half in np.array_split(pull * left, _BLOCKS[0])
                       for part in np.array_split(half, _BLOCKS[1], axis=1)])  # fmt: skip
    of_blocks = float(blocks @ blocks) * len(blocks) / (len(blocks) - n_fitted)
    variance = max(of_spectra, of_blocks, 1e-300)
    n_values = max(1.0, float(np.sum(pull**2) * np.sum(left**2)) / variance)
    return float(np.sqrt(variance)), 1 / (1 / n_values + 1 / _MOST_VALUES)


def _inside(at: Floats, pixel: Floats, axis: int, edge: int) -> slice:
    """Return the pixels that are, and were, inside by `edge`; `axis` is the other one."""
    last = pixel.size - 1 - edge
    least, most = np.minimum(at, pixel).min(axis=axis), np.maximum(at, pixel).max(axis=axis)
    inside = np.flatnonzero((least >= edge) & (most <= last))
    return slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0)


def _correlation(a: Floats, b: Floats) -> float:
    return float(np.sum(a * b) / np.sqrt(max(np.sum(a**2) * np.sum(b**2), 1e-300)))
