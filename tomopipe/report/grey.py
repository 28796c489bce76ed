"""The grey window of a picture."""

import numpy as np
from numpy.typing import NDArray

_PERCENT = (0.5, 99.5)
# the brightest 2 % of the plane may widen the window by no more than noise does
_MOST_PERCENT = (2.0, 98.0)
_MARGIN = 0.15


def grey_window(plane: NDArray[np.floating]) -> tuple[float, float]:
    """Return the grey window of a plane: the 0.5 and 99.5 percentiles of its finite values.

    A bright inclusion of up to 2 % of the plane is white and does not darken the rest. White is
    above black also for a constant or empty plane.
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


def in_grey(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Map a grey window to 0..255."""
    return (np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
