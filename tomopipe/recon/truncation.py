"""Truncation extrapolation: rows beyond the detector's edges, as shares of their edge values.

The line integrals of a uniform disk about the axis are an ellipse, 2 mu sqrt(R^2 - s^2). At an edge
at s = e they fall by e / (R^2 - e^2) of their value per column: this edge slope gives the radius of
the disk, and u columns further out the share sqrt(1 - (2 u + u^2 / e) slope) is left. The edge
slopes of a scan are measured by `tomopipe.prep.edge_slopes`.
"""

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import ellipse, fade

EdgeSlopes = tuple[float, float]  # at the left and the right edge, per column
UNKNOWN: EdgeSlopes = (0.0, 0.0)


def taper(n_cols: int, n_padded: int, edge_slopes_per_px: EdgeSlopes | None) -> NDArray[np.float32]:
    """Return the share of the edge values in each padding column, (n_padded - n_cols,).

    Its first half is of the right edge value, going outwards, the second of the left one.
    `edge_slopes_per_px` is the share of its edge value that a row loses per column at its left and
    its right edge; 0, unknown: a cosine, which reaches zero at the end of the padding. None: edge
    values are repeated.
    """
    n_right = (n_padded - n_cols) // 2
    n_left = n_padded - n_cols - n_right
    if edge_slopes_per_px is None:
        return np.ones(n_left + n_right, np.float32)
    left, right = edge_slopes_per_px
    shares = [_beyond(n_right, n_cols, right), _beyond(n_left, n_cols, left)[::-1]]
    return np.concatenate(shares).astype(np.float32)


def binned_edge_slopes(edge_slopes_per_px: EdgeSlopes, binning: int) -> EdgeSlopes:
    """Return the edge slopes of rows averaged over `binning` columns, per column of these."""
    return binning * edge_slopes_per_px[0], binning * edge_slopes_per_px[1]


def _beyond(n: int, n_cols: int, edge_slope_per_px: float) -> NDArray[np.float64]:
    """Return the share of the edge value in each of n columns beyond an edge."""
    shares = ellipse(n, n_cols / 2, edge_slope_per_px) if edge_slope_per_px else fade(n)
    return np.asarray(shares, dtype=np.float64)
