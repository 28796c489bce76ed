"""The line of the CORs of a series, robust against a few wrong ones [1]_.

References
----------
.. [1] P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
   Assoc. 63, 1379 (1968), doi:10.1080/01621459.1968.10480934.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomopipe.arrays import NORMAL_PER_MAD, theil_sen

_LEAST = 3  # least number of scans: of two scans either may be wrong
_LEAST_FOR_SPREAD = 5  # least number for a spread: the line passes through one or two points


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

    Parameters
    ----------
    index : sequence of float, shape (n,)
        Positions in the series.
    cor_px : sequence of float, shape (n,)
        Their CORs, unbinned pixels.

    Returns
    -------
    Line or None
        None for fewer than three CORs, or if all are of one index.
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
