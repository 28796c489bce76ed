"""The grey window of a picture."""

import numpy as np
from numpy.typing import NDArray

_PERCENT = (0.5, 99.5)
# what is brighter than all but 2 % of the plane may widen the window by no more than noise does
_MOST_PERCENT = (2.0, 98.0)
_MARGIN = 0.15


def grey_window(plane: NDArray[np.floating]) -> tuple[float, float]:
    """Give the grey window of a plane: its 0.5 and 99.5 percentiles, finite values alone.

    One bright inclusion does not darken all else: within 2 % of the plane it is white.

    Parameters
    ----------
    plane : ndarray, shape (n_y, n_x)
        Values of one plane.

    Returns
    -------
    low, high : float
        Black and white; high > low also for a constant or empty plane.
    """
    finite = plane[np.isfinite(plane)]
    if not finite.size:
        return 0.0, 1.0
    percent = np.percentile(finite, (*_PERCENT, *_MOST_PERCENT))
    low, high, dark, bright = (float(value) for value in percent)
    if bright > dark:
        margin = _MARGIN * (bright - dark)
        low, high = max(low, dark - margin), min(high, bright + margin)
    return (low, high) if high > low else (low, low + 1.0)
