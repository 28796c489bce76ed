"""Running medians in compiled code, for NumPy: SciPy's rank filter takes ten times as long."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def running_median(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the running median along the last axis, mirrored at the ends.

    Parameters
    ----------
    values : ndarray of float32, shape (n, n_cols)
        Each row is filtered by itself.
    size : int
        Columns in the window; an even size is made odd.

    Returns
    -------
    ndarray of float32, shape (n, n_cols)
    """
    half = size // 2
    padded = np.pad(values, ((0, 0), (half, half)), mode="symmetric")
    out = np.empty(values.shape, np.float32)
    _slide(padded, out, 2 * half + 1)
    return out


def median_of_square(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the median of the size x size pixels around each pixel, edges repeated.

    Parameters
    ----------
    images : ndarray of float32, shape (n, n_rows, n_cols)
        Each is filtered by itself.
    size : int
        3, 5 or 7.

    Returns
    -------
    ndarray of float32, shape (n, n_rows, n_cols)
    """
    half = size // 2
    out = np.empty(images.shape, np.float32)
    for image, filtered in zip(images, out, strict=True):
        _square(np.pad(image, half, mode="edge"), filtered, size)
    return out


def _compiled(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, boundscheck=False)(function)


@_compiled
def _slide(padded: Any, out: Any, size: int) -> None:
    """Keep the window sorted: take out the value that leaves, shift, put in the one that comes."""
    middle = size // 2
    window = np.empty(size, np.float32)
    for row in range(padded.shape[0]):
        window[:] = np.sort(padded[row, :size])
        out[row, 0] = window[middle]
        for col in range(1, out.shape[1]):
            leaves, comes = padded[row, col - 1], padded[row, col + size - 1]
            at = 0
            while window[at] < leaves and at < size - 1:
                at += 1
            while at < size - 1 and window[at + 1] < comes:
                window[at] = window[at + 1]
                at += 1
            while at > 0 and window[at - 1] > comes:
                window[at] = window[at - 1]
                at -= 1
            window[at] = comes
            out[row, col] = window[middle]


@_compiled
def _square(padded: Any, out: Any, size: int) -> None:
    """Move along rows with the window sorted, one column of values in and out at each step."""
    n = size * size
    middle = n // 2
    window = np.empty(n, np.float32)
    for row in range(out.shape[0]):
        window[:] = np.sort(padded[row : row + size, :size].copy().reshape(n))
        out[row, 0] = window[middle]
        for col in range(1, out.shape[1]):
            for k in range(size):
                leaves, comes = padded[row + k, col - 1], padded[row + k, col + size - 1]
                at = 0
                while window[at] < leaves and at < n - 1:
                    at += 1
                while at < n - 1 and window[at + 1] < comes:
                    window[at] = window[at + 1]
                    at += 1
                while at > 0 and window[at - 1] > comes:
                    window[at] = window[at - 1]
                    at -= 1
                window[at] = comes
            out[row, col] = window[middle]
