"""Output of the network for one scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Scores of all positions on the grid, and the best one.

    Attributes
    ----------
    score : ndarray of float64, shape (n_grid,)
        Logit of each position, less that of "none of these".
    share : ndarray of float64, shape (n_grid,)
        Probability of each position; with `none` they sum to 1.
    none : float
        Probability that no position is right.
    index : int
        The best position.
    offset_px, spread_px : float
        From the best position to the COR, and the expected error of that; unbinned px.
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    none: float
    index: int
    offset_px: float
    spread_px: float
