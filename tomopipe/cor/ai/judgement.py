"""What a network says of one scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Judgement:
    """Scores of all places, and the best of them.

    Attributes
    ----------
    score : ndarray of float64, shape (n_grid,)
        Logit of each place, less that of "none of these".
    share : ndarray of float64, shape (n_grid,)
        Probability of each place; with that of none they sum to 1.
    none : float
        Probability that no place is right.
    index : int
        The best place.
    offset_px, spread_px : float
        From the best place to the COR, and how far off that is likely to be; unbinned px.
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    none: float
    index: int
    offset_px: float
    spread_px: float
