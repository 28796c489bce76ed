"""Flat and dark of whole numbers in one pass."""

from typing import Any

import numpy as np

from tomopipe.recon.jit import kernel


@kernel
def scale(counts: Any, dark: Any, gain: Any, least: float, out: Any) -> None:
    """Set `out` to (counts - dark) * gain, of at least `least`.

    `counts` and `out` are (n, n_rows, n_cols), `dark` and `gain` (n_rows, n_cols).
    """
    limit = np.float32(least)
    for i in range(counts.shape[0]):
        for row in range(counts.shape[1]):
            for col in range(counts.shape[2]):
                value = (np.float32(counts[i, row, col]) - dark[row, col]) * gain[row, col]
                out[i, row, col] = value if value > limit else limit
