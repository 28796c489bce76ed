"""Compiled mean of the line integrals of each row; loading compiled code takes a second."""

import math
from typing import Any

import numpy as np

from tomopipe.recon.jit import compiled


def _mean_lines(raw: Any, gain: Any, offset: Any, width: int, least: Any, out: Any) -> None:
    """Fill `out` (n, n_rows) from raw frames (n, n_rows, n_cols), averaged over `width` columns.

    The transmission of a block of columns is the sum of raw * gain, less its offset; blocks whose
    offset is not finite do not count.
    """
    n_frames, n_rows, n_cols = raw.shape
    for row in range(n_rows):
        gains = gain[row]
        for frame in range(n_frames):
            values, total, n_blocks = raw[frame, row], 0.0, 0
            for block in range(offset.shape[1]):
                if not math.isfinite(offset[row, block]):
                    continue
                first = block * width
                value = -offset[row, block]
                for col in range(first, min(first + width, n_cols)):
                    value += np.float32(values[col]) * gains[col]
                total -= math.log(max(value, least))
                n_blocks += 1
            out[frame, row] = total / max(n_blocks, 1)


mean_lines = compiled(
    _mean_lines, fastmath={"reassoc", "contract"}, boundscheck=False, error_model="numpy"
)
