"""A line through the CORs of a series, robust against a few wrong ones; which COR it contradicts.

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

_LEAST = 3  # of two scans it is not known which one is wrong
_LEAST_FOR_SPREAD = 5  # the line passes through one or two of them
_N_NEXT = 30  # a series may bend, or be remounted: only so many of the next scans judge one
_LIMIT_PX, _LIMIT_SPREADS = 0.2, 6.0


@dataclass(frozen=True)
class Line:
    """COR along a series: `start_px` at index 0, `slope_px` per index, `spread_px` about it.

    The spread is None for fewer than five CORs: too few to tell.
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
    """A COR that its series contradicts: how far it is off, and the scatter of the others."""

    off_px: float
    spread_px: float


def off_line(cor_px: Sequence[float]) -> dict[int, OffLine]:
    """Find the CORs of a series that neither a line nor another scan explains; by position.

    Trusted CORs in the order of the series, pixels, are (n,). Each is compared with the line
    through the 30 others next to it, whose numbers may have gaps. It is named if its residual is
    above max(0.2 px, 6 scatters), and that of none of these scans is within half of this of it: a
    remounted sample, or one of several by turns, has others beside it. Fewer than six name none.
    """
    y = np.asarray(cor_px, float)
    n, outliers = len(y), {}
    for own in range(n) if n > _LEAST_FOR_SPREAD else ():
        first = max(min(own - _N_NEXT // 2, n - 1 - _N_NEXT), 0)
        near = np.delete(np.arange(first, min(first + _N_NEXT + 1, n)), own - first)
        line = theil_sen(near, y[near])
        assert line is not None  # no two positions are equal
        others_px = y[near] - line[0] * near
        start_px = float(np.median(others_px))
        others_px -= start_px
        off_px = float(y[own] - line[0] * own) - start_px
        spread_px = _spread(others_px)
        limit_px = max(_LIMIT_PX, _LIMIT_SPREADS * spread_px)
        if abs(off_px) > limit_px and np.abs(others_px - off_px).min() > limit_px / 2:
            outliers[own] = OffLine(off_px, spread_px)
    return outliers


def _spread(off_px: NDArray[np.float64]) -> float:
    """Return the scatter about a line: of few scans the standard deviation, of many the MAD.

    The smaller one, the MAD with the factor for small samples of [2]_: few deviations are often all
    small by chance, of many some may be wrong.
    """
    n_free = len(off_px) - 2
    of_mad = NORMAL_PER_MAD * (1 + 5 / n_free) * float(np.median(np.abs(off_px)))
    return min(of_mad, float(np.sqrt(np.sum(off_px**2) / n_free)))
