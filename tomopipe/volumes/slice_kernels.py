"""One pass over a slice on the host: its extremes, sums for the preview, averages of OME-Zarr.

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
    for image, out, extremes in zip(map(np.ascontiguousarray, slices), sums, keys, strict=True):
        # bits as integers, whose comparison is vectorised
        _pass_over(image, image.view(np.int32), factor, line, out, extremes)
    both = np.array([keys[:, 0].min(), keys[:, 1].max()])
    return _ordered(both).view(np.float32), sums


def block_sums(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Return the same sums of one image (n_y, n_x) of integers, without extremes."""
    n_y, n_x = image.shape
    sums = np.empty((-(-n_y // factor), -(-n_x // factor)), np.float32)
    _add_blocks(np.ascontiguousarray(image), factor, np.empty(n_x, np.float32), sums)
    return sums


def halve(
    image: NDArray[Any], below: NDArray[Any] | None, offset: float, scale: float, out: Any
) -> None:
    """Average blocks of 2 x 2 x 2 voxels of two slices (n_y, n_x), of fewer at edges.

    Of one slice, where there is none `below`, blocks of 2 x 2. Whole numbers stand for
    offset + scale * number. `out` is float32, (n_y / 2, n_x / 2), rounded up.
    """
    both = [np.ascontiguousarray(image if x is None else x) for x in (image, below)]
    are_whole = [x.dtype.kind == "u" for x in both]
    lines = np.empty((3, image.shape[1]), np.float32)
    _halve(*both, below is not None, *are_whole, float(offset), float(scale), lines, out)


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
def _pass_over(image: Any, bits: Any, factor: int, line: Any, sums: Any, extremes: Any) -> None:
    n_y, n_x = image.shape
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


@kernel
def _line_of(values: Any, is_whole: bool, offset: float, scale: float, line: Any) -> None:
    if is_whole:
        for x in range(len(values)):
            line[x] = np.float32(offset + scale * np.float64(values[x]))
    else:
        for x in range(len(values)):
            line[x] = np.float32(values[x])


@kernel
def _average(line: Any, more: Any) -> None:
    for x in range(len(line)):
        line[x] = np.float32(0.5) * (line[x] + more[x])


@kernel
def _halve(
    image: Any, below: Any, has_two: bool, is_whole: bool, is_whole_below: bool,
    offset: float, scale: float, lines: Any, out: Any,
) -> None:  # fmt: skip
    n_y, n_x = image.shape
    for row in range(out.shape[0]):
        first, last = 2 * row, min(2 * row + 2, n_y)
        for y in range(first, last):
            _line_of(image[y], is_whole, offset, scale, lines[y - first])
            if has_two:
                _line_of(below[y], is_whole_below, offset, scale, lines[2])
                _average(lines[y - first], lines[2])
        if last - first == 2:
            _average(lines[0], lines[1])
        for x in range(n_x // 2):
            out[row, x] = np.float32(0.5) * (lines[0, 2 * x] + lines[0, 2 * x + 1])
        if n_x % 2:
            out[row, n_x // 2] = lines[0, n_x - 1]
