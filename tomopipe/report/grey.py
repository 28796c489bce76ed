"""The grey window of a picture."""

import numpy as np
from numpy.typing import NDArray

_PERCENT = (0.5, 99.5)


def grey_window(plane: NDArray[np.floating]) -> tuple[float, float]:
    """Give the grey window of a plane: its 0.5 and 99.5 percentiles, finite values alone.

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
    low, high = (float(value) for value in np.percentile(finite, _PERCENT))
    return (low, high) if high > low else (low, low + 1.0)
