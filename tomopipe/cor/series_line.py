"""The line of the CORs of a series, and CORs off it.

The line is robust against a few wrong CORs [1]_, and so is the spread about it [2]_.

References
----------
.. [1] P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
   Assoc. 63, 1379 (1968), doi:10.1080/01621459.1968.10480934.
.. [2] P. J. Rousseeuw, A. M. Leroy, "Robust Regression and Outlier Detection", Wiley
   (1987), p. 202.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import NORMAL_PER_MAD, theil_sen

_LEAST = 3  # least number of scans: of two scans either may be wrong
_LEAST_FOR_SPREAD = 5  # least number for a spread: the line passes through one or two points
_N_NEXT = 30  # scans compared with one: a series may bend, or be remounted
_LIMIT_PX, _LIMIT_SPREADS = 0.2, 6.0


@dataclass(frozen=True)
class Line:
    """COR along a series: `start_px` at index 0, `slope_px` per index, `spread_px` about it.

    The spread is None for fewer than five CORs.
    """

    start_px: float
    slope_px: float
    spread_px: float | None


def robust_line(index: Sequence[float], cor_px: Sequence[float]) -> Line | None:
    """Return the line whose slope is the median of those of all pairs (Theil and Sen) [1]_.

    Positions in the series and CORs, pixels, are (n,). None for fewer than three CORs, or if all
    are of one index.
    """
    x, y = np.asarray(index, float), np.asarray(cor_px, float)
    line = theil_sen(x, y)
    if len(x) < _LEAST or line is None:
        return None
    slope_px = line[0]
    start_px = float(np.median(y - slope_px * x))
    away_px = np.abs(y - slope_px * x - start_px)
    enough = len(x) >= _LEAST_FOR_SPREAD
    return Line(start_px, slope_px, NORMAL_PER_MAD * float(np.median(away_px)) if enough else None)


@dataclass(frozen=True)
class OffLine:
    """A COR that its series contradicts: its distance from the line, and the scatter about it."""

    off_px: float
    spread_px: float


def off_line(cor_px: Sequence[float]) -> dict[int, OffLine]:
    """Find the CORs of a series that neither a line nor another scan supports, by position.

    `cor_px` (n,) are trusted CORs in the order of the series, pixels. Each is compared with the
    line through its 30 nearest neighbours in the series. It is returned if its residual is above
    max(0.2 px, 6 scatters) and no neighbour has a residual within half of that limit of it, as
    those of a remounted sample, or of alternating samples, would. Fewer than six scans give none.
    """
    y, n = np.asarray(cor_px, float), len(cor_px)
    if n <= _LEAST_FOR_SPREAD:
        return {}
    own, others = np.arange(n), np.arange(n_near := min(_N_NEXT, n - 1))
    first = np.clip(own - _N_NEXT // 2, 0, n - 1 - n_near)
    # (n, n_near), without itself
    near = first[:, None] + others + (others >= (own - first)[:, None])
    i, j = np.triu_indices(n_near, 1)
    slope_px = np.median((y[near[:, j]] - y[near[:, i]]) / (near[:, j] - near[:, i]), axis=1)
    others_px = y[near] - slope_px[:, None] * near
    start_px = np.median(others_px, axis=1)
    others_px -= start_px[:, None]
    off_px, spread_px = y - slope_px * own - start_px, _spread(others_px)
    limit_px = np.maximum(_LIMIT_PX, _LIMIT_SPREADS * spread_px)
    alone = np.abs(others_px - off_px[:, None]).min(axis=1) > limit_px / 2
    outliers = np.flatnonzero((np.abs(off_px) > limit_px) & alone)
    return {int(k): OffLine(float(off_px[k]), float(spread_px[k])) for k in outliers}


def _spread(off_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scatter about each line: of few scans the standard deviation, of many the MAD.

    It is the smaller of the two, the MAD with the factor for small samples of [2]_.
    """
    n_free = off_px.shape[1] - 2
    of_mad = NORMAL_PER_MAD * (1 + 5 / n_free) * np.median(np.abs(off_px), axis=1)
    return np.minimum(of_mad, np.sqrt(np.sum(off_px**2, axis=1) / n_free))
