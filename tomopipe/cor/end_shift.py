"""Shift along the axis between the first and the last projection, where these see the same.

After 360 degrees a projection is repeated, after 180 degrees it is mirrored: p(u, z, t + pi) =
p(2 cor - u, z, t), for a sample larger than the field of view, too. A sample that has moved along
the axis shifts the image along its rows: the last projection is registered with the first one by
least squares on its gradient [1]_, from where it correlates best. Means of rows and columns are
subtracted, as a beam that moved changes all columns alike, and a ring all rows. A tilted axis
shears the images: that is fitted. The error is that of blocks which are independent [2]_.

References
----------
.. [1] B. D. Lucas, T. Kanade, "An iterative image registration technique with an application to
   stereo vision", Proc. IJCAI 674 (1981).
.. [2] K.-Y. Liang, S. L. Zeger, "Longitudinal data analysis using generalized linear models",
   Biometrika 73, 13 (1986).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.arrays import NORMAL_PER_MAD

Floats = NDArray[np.float64]

_MOST_COLS, _LEAST_COLS, _LEAST_ROWS = 256, 16, 8  # columns are averaged to so many
_LEAST_COMMON = 6  # rows that both images have
_SIDEWAYS, _OVERLAP = 1 / 16, 0.4  # largest shift to the sides; least share of common rows
_SMOOTHS_PX, _EDGE, _ZINGER = (0.7, 1.5, 3.0), 2.0, 6.0
_STEPS, _EXACT, _MOST_AWAY = 40, 0.01, 4.0  # of a registration; from where it began (px)
_BLOCKS = 2, 8  # along rows and columns


# Where a shift needs no other evidence: it explains so much of the difference, the images correlate
# so well, it is so many errors, and what else must agree.
_SURE = (
    (0.7, 0.7, 10.0, "nothing"),
    (0.6, 0.75, 30.0, "nothing"),
    (0.4, 0.9, 8.0, "halves"),
    (0.2, 0.7, 14.0, "either"),
    (0.1, 0.8, 14.0, "both"),
)
# Shares of the shift, and rows, by which its halves may differ; rows by which the results of
# images smoothed more or less may: the best two, where the shift is at most so far, and all.
_APART, _APART_ROWS, _MOST_APART = 0.3, 0.3, 1.0
_NEAR_ROWS, _NOT_FAR, _SPREAD_ROWS = 0.2, 4.0, 0.3


class EndShift(NamedTuple):
    """Shift from the first to the last projection."""

    rows: float  # positive: towards later rows, down
    error: float
    alike: float  # correlation of both images, once they are registered
    explained: float  # share of their difference
    sure: bool = False  # whether it needs no other evidence
    spread_px: float = np.inf  # deviation of the columns that show it


def end_shift(first: Floats, last: Floats, mirror_px: float | None) -> EndShift | None:
    """Register the last projection (n_rows, n_cols) with the first one; None: they do not match.

    `mirror_px` is the column of the axis, about which the last one is mirrored; None: it is not.
    """
    images, binning = _overlap(first, last, mirror_px)
    if images is None:
        return None
    results = []
    for smooth_px in _SMOOTHS_PX:
        a, b = (_prepared(image, smooth_px) for image in images)
        edge = round(_EDGE * smooth_px)
        shift = _register(a, b, _search(_centred(a), _centred(b)), edge)
        if shift is not None:
            results.append((shift, a, b, edge))
    if not results:
        return None
    best, a, b, edge = min(results, key=lambda result: result[0].error)
    sides = zip(np.array_split(a, 2, axis=1), np.array_split(b, 2, axis=1), strict=True)
    halves = [_register(first, last, (round(best.rows), 0.0), edge) for first, last in sides]
    rows = [half.rows for half in halves if half is not None]
    apart = abs(rows[0] - rows[1]) if len(rows) == 2 else np.inf
    others = [abs(shift.rows - best.rows) for shift, *_ in results if shift is not best]
    energy = np.sum(np.gradient(_centred(a), axis=0) ** 2, axis=0)
    spread = _spread(np.maximum(energy - np.median(energy), 0))  # less that of noise
    return best._replace(sure=_is_sure(best, apart, others), spread_px=spread * binning)


def _spread(weights: Floats) -> float:
    """Return the standard deviation of columns, by their weights."""
    shares, column = weights / max(float(weights.sum()), 1e-300), np.arange(len(weights))
    return float(np.sqrt(shares @ (column - shares @ column) ** 2))


def _is_sure(shift: EndShift, apart: float, others: list[float]) -> bool:
    """Tell whether a shift needs no other evidence.

    `apart` are the rows by which its halves differ, `others` those by which the results of images
    that are smoothed more or less differ from it.
    """
    halves = apart <= max(_APART_ROWS, min(_APART * abs(shift.rows), _MOST_APART))
    near = min(others, default=np.inf) <= _NEAR_ROWS and abs(shift.rows) <= _NOT_FAR
    all_near = len(others) == len(_SMOOTHS_PX) - 1 and max(others) <= _SPREAD_ROWS
    agree = {
        "nothing": True,
        "halves": halves,
        "either": halves or near,
        "both": near and (halves or all_near),
    }
    return any(
        shift.explained >= explained
        and shift.alike >= alike
        and abs(shift.rows) >= sigmas * shift.error
        and agree[what]
        for explained, alike, sigmas, what in _SURE
    )


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


def _register(a: Floats, b: Floats, start: tuple[float, float], edge: int) -> EndShift | None:
    """Register `b` with `a`: shifts along rows and columns, both shears, contrast."""
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
        inverse = np.linalg.inv(normal)
        step = inverse @ np.einsum("rcm,rc->m", design, rest)
        shifts += np.clip(step[:4], -1 / scale, 1 / scale)
        if np.abs(shifts[:2] - start).max() > _MOST_AWAY:
            return None
        if np.abs(step[:4] * scale).max() < _EXACT:
            break
    pulls = design @ inverse[0] * (rest - design @ step)
    blocks = np.array([part.sum() for half in np.array_split(pulls, _BLOCKS[0])
                       for part in np.array_split(half, _BLOCKS[1], axis=1)])  # fmt: skip
    error = np.sqrt(blocks @ blocks * len(blocks) / (len(blocks) - len(step)))
    unmoved = ndimage.map_coordinates(a, [at_rows + down, at_cols], order=3, mode="nearest")
    alike, before = _correlation(design[..., -1], target), _correlation(_centred(unmoved), target)
    explained = 1 - (1 - alike**2) / max(1 - max(before, 0.0) ** 2, 1e-12)
    return EndShift(float(shifts[0]), float(error), alike, explained)


def _inside(at: Floats, pixel: Floats, axis: int, edge: int) -> slice:
    """Return the pixels that are, and were, inside by `edge`; `axis` is the other one."""
    last = pixel.size - 1 - edge
    least, most = np.minimum(at, pixel).min(axis=axis), np.maximum(at, pixel).max(axis=axis)
    inside = np.flatnonzero((least >= edge) & (most <= last))
    return slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0)


def _correlation(a: Floats, b: Floats) -> float:
    return float(np.sum(a * b) / np.sqrt(max(np.sum(a**2) * np.sum(b**2), 1e-300)))
