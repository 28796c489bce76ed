"""Flat and dark of whole numbers in one pass; imported where it is used, as it loads numba."""

from typing import Any

import numpy as np

from tomopipe.recon.jit import kernel


@kernel
def scale(counts: Any, dark: Any, gain: Any, least: float, out: Any) -> None:
    """Set `out` to (counts - dark) * gain, of at least `least`; all are (n_rows, n_cols)."""
    limit = np.float32(least)
    for row in range(counts.shape[0]):
        for col in range(counts.shape[1]):
            value = (np.float32(counts[row, col]) - dark[row, col]) * gain[row, col]
            out[row, col] = value if value > limit else limit
