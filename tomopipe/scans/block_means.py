"""Frames averaged over blocks: what is small enough to keep of each flat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 256  # rows of a frame, at least, that are read for the means
_BANDS, _PARTS, _LEAST_PX = 16, 64, 4  # blocks along rows and columns; columns of one at least


def some_rows(image: NDArray[Any]) -> NDArray[Any]:
    """Return rows spread over the height of a frame (n_rows, n_cols)."""
    return image[:: max(1, len(image) // _ROWS)]


def block_means(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return means of blocks (n_bands, n_parts) of a frame (n_rows, n_cols), of `some_rows`."""
    rows = some_rows(image)
    starts = _starts(len(rows), _BANDS)
    totals = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
    return column_means(totals / np.diff([*starts, len(rows)])[:, None])


def column_means(values: NDArray[Any]) -> NDArray[np.float64]:
    """Average columns (..., n_cols) over the parts of `block_means`, (..., n_parts)."""
    n_cols = values.shape[-1]
    starts = _starts(n_cols, min(_PARTS, n_cols // _LEAST_PX))
    totals = np.add.reduceat(values, starts, axis=-1, dtype=np.float64)
    return np.asarray(totals / np.diff([*starts, n_cols]))


def band_of(row: NDArray[np.int64], n_rows: int) -> NDArray[np.intp]:
    """Return the bands of `block_means` that rows of the detector lie in."""
    step = max(1, n_rows // _ROWS)
    starts = _starts(-(-n_rows // step), _BANDS)
    return np.searchsorted(starts, row // step, side="right") - 1


def _starts(n: int, most: int) -> NDArray[np.intp]:
    n_blocks = max(1, min(n, most))
    return np.arange(n_blocks) * n // n_blocks
