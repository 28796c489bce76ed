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

    Angles `theta_deg` are as found: any number of them, finite or not; a projection without one is
    never skipped for its angle. `skip_angles` are pairs of first and last angle, degrees, both
    included, modulo 360: (-5, 5) skips 358 as well. `skip_projections` are 0-based numbers, or
    pairs of first and last, both included, whether or not there are such projections. Returns the
    numbers of those chosen, ascending.
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
