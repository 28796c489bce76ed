"""What rows are taken to be beyond the detector's edges, as shares of their edge values.

The line integrals of a uniform disk about the axis are an ellipse, 2 mu sqrt(R^2 - s^2). At an edge
at s = e they fall by e / (R^2 - e^2) of their value per column, so that this fall tells the disk's
radius, and u columns further out the share sqrt(1 - (2 u + u^2 / e) fall) is left. The fall of a
scan is measured by `tomopipe.prep.edge_slopes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import ellipse, fade

Falls = tuple[float, float]  # at the left and the right edge, per column
UNKNOWN: Falls = (0.0, 0.0)


def taper(n_cols: int, n_padded: int, falls_per_px: Falls | None) -> NDArray[np.float32]:
    """Return the share of the edge values in each padding column.

    Parameters
    ----------
    n_cols, n_padded : int
        Length of a row before and after padding.
    falls_per_px : (float, float) or None
        Share of its edge value that a row loses per column at its left and its right edge; 0,
        unknown: a cosine, which reaches zero at the end of the padding. None: edge values go on.

    Returns
    -------
    ndarray of float32, shape (n_padded - n_cols,)
        Of the right edge value in the first half, going outwards, of the left one in the second.
    """
    n_right = (n_padded - n_cols) // 2
    n_left = n_padded - n_cols - n_right
    if falls_per_px is None:
        return np.ones(n_left + n_right, np.float32)
    left, right = falls_per_px
    shares = [_beyond(n_right, n_cols, right), _beyond(n_left, n_cols, left)[::-1]]
    return np.concatenate(shares).astype(np.float32)


def binned_falls(falls_per_px: Falls, binning: int) -> Falls:
    """Return the falls of rows averaged over `binning` columns, per column of these."""
    return binning * falls_per_px[0], binning * falls_per_px[1]


def _beyond(n: int, n_cols: int, fall_per_px: float) -> NDArray[np.float64]:
    """Return the share of the edge value in each of n columns beyond an edge."""
    shares = ellipse(n, n_cols / 2, fall_per_px) if fall_per_px else fade(n)
    return np.asarray(shares, dtype=np.float64)
