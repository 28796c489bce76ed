"""Choose the projections that are used: every n-th, without blocked angles and bad frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ROTATION_DEG = 360.0
# Angles in single precision, or from a text, miss the end of a range by no more than this.
_ROUNDING_DEG = 1e-4


def chosen_projections(
    n_angles: int,
    theta_deg: NDArray[np.float64] | None,
    *,
    every: int = 1,
    skip_angles: Sequence[Sequence[float]] = (),
    skip_projections: Sequence[int | Sequence[int]] = (),
) -> NDArray[np.intp]:
    """Choose the projections that are used, as if the others had never been taken.

    Parameters
    ----------
    n_angles : int
        Projections of the scan, in the order in which they were taken.
    theta_deg : ndarray of float64, shape (n_theta,), or None
        Angles as found; any number of them, finite or not. None: none is
        left out for its angle.
    every : int
        Every n-th projection, from the first one.
    skip_angles : sequence of (float, float)
        First and last angle of what is left out, degrees, both included, modulo 360:
        (-5, 5) leaves out 358 as well.
    skip_projections : sequence of int or (int, int)
        Numbers of projections that are left out, 0-based, or first and last, both included. There
        need not be such projections.

    Returns
    -------
    ndarray of int, shape (n_chosen,)
        Their numbers, ascending; without an angle a projection is never left out for its angle.
    """
    chosen = np.arange(n_angles) % every == 0
    for span in skip_projections:
        first, last = span if isinstance(span, Sequence) else (span, span)
        chosen[first : last + 1] = False
    theta = np.full(n_angles, np.nan)
    if theta_deg is not None:
        known = theta_deg[:n_angles]
        theta[: len(known)] = known
    for first_deg, last_deg in skip_angles:
        beyond = np.mod(theta - (first_deg - _ROUNDING_DEG), _ROTATION_DEG)
        chosen &= ~(beyond <= last_deg - first_deg + 2 * _ROUNDING_DEG)
    return np.flatnonzero(chosen)
