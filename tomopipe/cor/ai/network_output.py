"""Output of the network for one scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """Scores of all positions on the grid, and the best one."""

    score: NDArray[np.float64]  # (n_grid,): logit of each position, less that of "none of these"
    share: NDArray[np.float64]  # (n_grid,): probability of each position; with `none` they sum to 1
    none: float  # probability that no position is right
    index: int  # the best position
    # from the best position to the COR, and the expected error of that; unbinned px
    offset_px: float
    spread_px: float
