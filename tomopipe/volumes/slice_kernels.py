"""One pass over a slice on the host: its extremes, and sums for the preview.

Imported by the function that needs it, not when the workflow is parsed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.jit import kernel


def extremes_and_sums(
    slices: NDArray[np.float32], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the smallest and largest value, and the sums of `factor` by `factor` pixels.

    For slices (n, n_y, n_x) the sums are (n, n_y / factor, n_x / factor), rounded up; at the edges
    they cover the existing pixels. Non-finite values give non-finite extremes.
    """
    n, n_y, n_x = slices.shape
    sums = np.empty((n, -(-n_y // factor), -(-n_x // factor)), np.float32)
    keys = np.empty((n, 2), np.int32)
    line = np.empty(n_x, np.float32)
    for image, out, extremes in zip(slices, sums, keys, strict=True):
        _pass_over(np.ascontiguousarray(image), factor, line, out, extremes)
    both = np.array([keys[:, 0].min(), keys[:, 1].max()])
    return _ordered(both).view(np.float32), sums


def block_sums(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Return the same sums of one image (n_y, n_x) of integers, without extremes."""
    n_y, n_x = image.shape
    sums = np.empty((-(-n_y // factor), -(-n_x // factor)), np.float32)
    _add_blocks(np.ascontiguousarray(image), factor, np.empty(n_x, np.float32), sums)
    return sums


def _ordered(bits: Any) -> Any:
    """Map bits of floats to integers of the same order, NaN outermost, and back."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@kernel
def _add_columns(line: Any, factor: int, sums: Any) -> None:
    n_whole = len(line) // factor
    sums[:] = 0
    for i in range(factor):
        for x in range(n_whole):
            sums[x] += line[factor * x + i]
    for x in range(factor * n_whole, len(line)):
        sums[n_whole] += line[x]


@kernel
def _pass_over(image: Any, factor: int, line: Any, sums: Any, extremes: Any) -> None:
    n_y, n_x = image.shape
    bits = image.view(np.int32)  # as integers, whose comparison is vectorised
    low, high = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for row in range(sums.shape[0]):
        line[:] = 0
        for y in range(row * factor, min((row + 1) * factor, n_y)):
            for x in range(n_x):
                line[x] += image[y, x]
                sign = np.int32(bits[y, x] >> np.int32(31))
                key = np.int32(bits[y, x] ^ np.int32(sign & np.int32(0x7FFFFFFF)))
                low, high = min(low, key), max(high, key)
        _add_columns(line, factor, sums[row])
    extremes[0], extremes[1] = low, high


@kernel
def _add_blocks(image: Any, factor: int, line: Any, sums: Any) -> None:
    n_y, n_x = image.shape
    for row in range(sums.shape[0]):
        line[:] = 0
        for y in range(row * factor, min((row + 1) * factor, n_y)):
            for x in range(n_x):
                line[x] += np.float32(image[y, x])
        _add_columns(line, factor, sums[row])
