"""Compiled functions for NumPy: running medians, faster than SciPy's, resampling, wavelets.

Imported by the functions that need it, as importing and loading compiled code takes a second.
"""

from functools import partial
from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from tomopipe.recon.jit import compiled

LINES = 64  # columns sorted at a time: what sorting needs stays small


def running_median(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Running median of each row (n, n_cols), mirrored at the ends; the size made odd."""
    half = size // 2
    padded = np.pad(values, ((0, 0), (half, half)), mode="symmetric")
    out = np.empty(values.shape, np.float32)
    _slide(padded, out, 2 * half + 1)
    return out


def median_of_square(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Median of size x size pixels (3, 5, 7) of images (n, n_rows, n_cols), edges repeated."""
    half = size // 2
    out = np.empty(images.shape, np.float32)
    for image, filtered in zip(images, out, strict=True):
        _square(np.pad(image, half, mode="edge"), filtered, size)
    return out


def replace_peaks(images: NDArray[np.float32], threshold: float, size: int) -> NDArray[np.float32]:
    """Replace pixels that exceed the median around them by more than a share of it, below 1.

    That is, pixels that exceed more than half of the values around them by that share: counting is
    faster than sorting, and the median is computed only where it is needed. Images (n, n_rows,
    n_cols) are filtered each by itself, edges repeated; the size is 3, 5 or 7.
    """
    half = size // 2
    out = images.copy()
    for image in out:
        padded = np.pad(image, half, mode="edge")
        limit = padded + np.float32(threshold) * np.abs(padded)
        _replace(padded, limit, image, size)
    return out


def over_runs(sign: Any, operation: str, values: list[Any]) -> list[Any]:
    """Sums ("add") or maxima ("maximum") over each run of columns of one sign, in all of it."""
    begins = np.ones(sign.shape, bool)
    begins[..., 1:] = sign[..., 1:] != sign[..., :-1]
    first = np.flatnonzero(begins)
    width = np.diff(first, append=sign.size)
    reduced = (getattr(np, operation).reduceat(value.ravel(), first) for value in values)
    return [np.repeat(each, width).reshape(sign.shape) for each in reduced]


def dwt(values: NDArray[np.float32], wavelet: str, axis: int) -> tuple[Any, Any]:
    """Transform one axis by one level of a discrete wavelet: approximation and detail."""
    low, high = pywt.dwt(values, wavelet, axis=axis)
    return low, high


def idwt(low: Any, high: Any, wavelet: str, axis: int) -> Any:
    """Transform one axis back by one level; None stands for zeros."""
    return pywt.idwt(low, high, wavelet, axis=axis)


_compiled = partial(compiled, boundscheck=False)


@_compiled
def _exchange(window: Any, leaves: Any, comes: Any) -> None:
    """Replace one value of a sorted window by another, and shift those between."""
    last = len(window) - 1
    k = 0
    while window[k] < leaves and k < last:
        k += 1
    while k < last and window[k + 1] < comes:
        window[k] = window[k + 1]
        k += 1
    while k > 0 and window[k - 1] > comes:
        window[k] = window[k - 1]
        k -= 1
    window[k] = comes


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
            _exchange(window, leaves, comes)
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
                _exchange(window, leaves, comes)
            out[row, col] = window[middle]


@_compiled
def _replace(padded: Any, limit: Any, image: Any, size: int) -> None:
    most, n_cols = size * size // 2, image.shape[1]
    counts = np.empty(n_cols, np.int32)
    for row in range(image.shape[0]):
        pixels = image[row]
        counts[:] = 0
        for k in range(size):
            around = limit[row + k]  # whole rows: slices of them are not vectorised
            for shift in range(size):
                for col in range(n_cols):
                    counts[col] += np.int32(around[col + shift] < pixels[col])
        for col in range(n_cols):
            if counts[col] > most:
                square = padded[row : row + size, col : col + size].copy()
                pixels[col] = np.sort(square.reshape(size * size))[most]


@_compiled
def resample(images: Any, above: Any, left: Any, down: Any, across: Any, out: Any) -> None:
    """Interpolate linearly between the four neighbours of each source; see `prep.warp`."""
    last_row, last_col = images.shape[1] - 1, images.shape[2] - 1
    for i in range(out.shape[0]):
        for row in range(out.shape[1]):
            for col in range(out.shape[2]):
                r, c = above[row, col], left[row, col]
                s, d = min(r + 1, last_row), min(c + 1, last_col)
                a, b = across[row, col], down[row, col]
                top = images[i, r, c] * (1 - a) + images[i, r, d] * a
                bottom = images[i, s, c] * (1 - a) + images[i, s, d] * a
                out[i, row, col] = top * (1 - b) + bottom * b
