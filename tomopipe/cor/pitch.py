"""Pitch: the axis leans along the beam, so that points move up and down as they turn.

Seen along the beam, a point at depth d is higher by pitch * d. Opposing projections see it at d and
-d, so that sums over their rows differ by twice the pitch times the derivative, along the rows, of
the sum of absorption times depth. That is the first moment of each row a quarter of a turn later,
where depth lies along the columns [1]_. A roll of the detector does the same with the first moment
of the pair itself, motion along the axis with the sum, and another brightness adds a smooth course:
all are fitted together. It needs samples within the field of view.

References
----------
.. [1] S. Helgason, Acta Math. 113, 153 (1965), and D. Ludwig, Comm. Pure Appl. Math. 19, 49 (1966):
       moments of projections.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]

# smoothing along the rows, above what points move: sums change by the first order then
_SMOOTH_ROWS = (1.5, 3.0, 6.0, 12.0)
_COURSE = 1 / 8  # share of the rows whose course is subtracted
_LEAST_ROWS, _N_BLOCKS, _FEW_BLOCKS = 24, (6, 16), 3.0
_EDGE = 1 / 50  # share of the columns at each side
_AIR, _BRIGHTER = 0.05, 0.02  # of the largest mean, and besides, that air has at most
_MARGIN_PX = 4  # columns beside the sample
_SHOWS_PX, _SIGNIFICANCE = 0.5, 6.0
_LEAST_SIGNAL = 0.1  # share of the variance of a moment that is no noise


class Pitch(NamedTuple):
    """A measured pitch; its sign depends on the direction of the rotation."""

    deg: float
    error_deg: float
    rim_px: float  # how far points at the rim move up and down

    @property
    def doubt(self) -> str:
        """Why a scan is doubtful, or ""."""
        if self.rim_px <= _SHOWS_PX or abs(self.deg) < _SIGNIFICANCE * self.error_deg:
            return ""
        return (
            f"the axis leans along the beam by {abs(self.deg):.2f} +- {self.error_deg:.2f} "
            f"degrees: the rim of the sample moves by {self.rim_px:.1f} px up and down, which is "
            "not corrected: align the axis, and measure again"
        )


def quarter_frames(
    theta_rad: Floats, pair_theta_rad: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the frame a quarter of a turn after the first of each pair, and its sign.

    The sign is -1 for a quarter before, where depth has the other sign; 0 if there is no such frame
    within half a step.
    """
    half_step = np.median(np.diff(np.sort(theta_rad))) / 2 + 1e-9
    after = theta_rad - pair_theta_rad[:, :1]
    off = np.abs((after % np.pi) - np.pi / 2)
    frames = off.argmin(axis=1)
    signs = np.where(
        np.take_along_axis(after, frames[:, None], 1)[:, 0] % (2 * np.pi) < np.pi, 1, -1
    )
    return frames, np.where(off.min(axis=1) <= half_step, signs, 0)


def pitch_of(
    pairs: NDArray[np.float32],
    quarters: NDArray[np.float32],
    signs: NDArray[np.intp],
    n_rows: int,
) -> Pitch | None:
    """Measure the pitch by line integrals of opposing projections (n_pairs, 2, n_high, n_cols).

    `quarters` (n_pairs, n_high, n_cols) are a quarter of a turn later (sign 1) or before (-1); rows
    are averaged in blocks of the `n_rows` of the detector. None: too few rows, the sample leaves
    the field of view, or is the same in all rows.
    """
    n_high, known = pairs.shape[2], signs != 0
    if n_high < _LEAST_ROWS or not known.any():
        return None
    opposing, between = pairs[known].astype(np.float64), quarters[known].astype(np.float64)
    if (extent := _extent(opposing, between)) is None:
        return None
    axis, rim = extent
    block = -(-n_rows // n_high)
    sample = slice(max(0, int(axis - rim) - _MARGIN_PX), int(axis + rim) + _MARGIN_PX + 2)
    opposing = opposing[..., sample]
    between = between[..., sample] * signs[known, None, None]
    smooth_rows = [rows for rows in _SMOOTH_ROWS if 8 * rows < n_high]
    best = None
    for rows in reversed(smooth_rows):
        # a finer one only where each pitch that is possible moves points by less
        if best is not None and (abs(best[0]) + 3 * best[1]) * rim >= rows:
            break
        fit = _mean(opposing, between, rows)
        if fit is not None and (best is None or fit[1] < best[1]):
            best = fit
    if best is None:
        return None
    slope, error = (value * block for value in best)  # rows of a block per column
    pitch_deg, error_deg = np.rad2deg([np.arctan(slope), error]).tolist()
    return Pitch(pitch_deg, error_deg, abs(slope) * rim)


def _mean(pairs: Floats, quarters: Floats, smooth_rows: float) -> tuple[float, float] | None:
    """Return the mean of the pairs' pitches, rows per column, and its error."""
    each = zip(pairs, quarters, strict=True)
    fits = [fit for pair, quarter in each if (fit := _fit(pair, quarter, smooth_rows))]
    if not fits:
        return None
    slopes, errors = np.array(fits).T
    weights = errors**-2
    mean = np.average(slopes, weights=weights)
    spread = np.abs(slopes - mean).max() / np.sqrt(len(fits))
    return float(mean), float(max(weights.sum() ** -0.5, spread))


def _extent(pairs: Floats, quarters: Floats) -> tuple[float, float] | None:
    """Return axis and radius of the sample, pixels; None where it leaves the field of view."""
    line = np.concatenate([pairs.mean(axis=(0, 2)), quarters.mean(axis=(0, 1))[None]])
    n_edge = max(2, round(_EDGE * line.shape[1]))
    edges = np.abs(line[:, [*range(n_edge), *range(-n_edge, 0)]]).max()
    air = _AIR * line.max() + _BRIGHTER
    if edges > air or line.max(axis=1).min() <= 2 * air:
        return None
    inside = [np.flatnonzero(each > air) for each in line]
    axis = (inside[0][0] + inside[1][-1]) / 2
    return float(axis), float(np.abs(np.concatenate(inside) - axis).max())


def _fit(pair: Floats, quarter: Floats, smooth_rows: float) -> tuple[float, float] | None:
    """Fit the difference of two opposing projections; return the pitch and its error.

    Moments are noisy, too: those of even columns are the instruments of those of odd ones.
    """
    edge = round(2 * smooth_rows)
    inner = slice(edge, -edge)
    total = pair.sum(axis=2)
    difference = _structure(total[0] - total[1], smooth_rows)[inner]
    even, odd = (_model(pair, quarter, first, smooth_rows)[inner] for first in (0, 1))
    scale = np.sqrt(((even + odd) ** 2).sum(axis=0) / 4)
    if not (scale > 1e-9 * np.abs(total).max()).all():
        return None
    even, odd = even / scale, odd / scale
    model, cross = (even + odd) / 2, (even.T @ odd + odd.T @ even) / 2
    if np.linalg.eigvalsh(cross).min() < _LEAST_SIGNAL:
        return None
    inverse = np.linalg.inv(cross)
    solution = inverse @ (model.T @ difference)
    pulls = model @ inverse[0] * (difference - model @ solution)
    # of independent blocks; a few of them tell little of their scatter
    n_blocks = int(np.clip(len(pulls) / (3 * smooth_rows), *_N_BLOCKS))
    n_free = n_blocks - model.shape[1]
    sums = np.array([part.sum() for part in np.array_split(pulls, n_blocks)])
    error = np.sqrt(sums @ sums * n_blocks / n_free) * (1 + _FEW_BLOCKS / n_free)
    return float(solution[0] / scale[0]), float(max(error / scale[0], 1e-9))


def _model(pair: Floats, quarter: Floats, first: int, smooth_rows: float) -> Floats:
    """Return what pitch, roll and motion change, (n_rows, 3), by every second column."""
    col = np.arange(pair.shape[2]) - (pair.shape[2] - 1) / 2
    part = slice(first, None, 2)
    moment = 2 * (pair * col)[..., part].sum(axis=2)
    of_quarter = 2 * (quarter * col)[:, part].sum(axis=1)
    courses = of_quarter, (moment[0] - moment[1]) / 2, 2 * pair[..., part].sum(axis=2).mean(axis=0)
    return np.stack([2 * _structure(np.gradient(c), smooth_rows) for c in courses], axis=1)


def _structure(course: Floats, smooth_rows: float) -> Floats:
    """Return a course along the rows without noise and without its smooth part."""
    smooth = ndimage.gaussian_filter1d(course, smooth_rows, mode="nearest")
    wide_rows = max(2 * smooth_rows, _COURSE * len(course))
    wide = ndimage.gaussian_filter1d(course, wide_rows, mode="nearest")
    return np.asarray(smooth - wide)
