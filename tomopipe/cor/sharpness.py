"""Sharpness of slices: few grey values, few edges, few negative values.

One compiled pass over each slice: thousands of slices are measured for one scan.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.clean_rows import Image
from tomopipe.recon.jit import compiled

RADIUS = 0.45  # of the disc that is measured, over the columns
MEASURES = ("entropy", "edges", "negativity")
_LEVELS = 64  # grey values of the entropy


def disc(n: int) -> NDArray[np.bool_]:
    """Pixels of an (n, n) slice that are measured."""
    offset = np.arange(n) - n / 2
    return np.asarray(np.hypot(offset, offset[:, None]) < RADIUS * n)


def sharpness(slices: Image, window: tuple[float, float], blur_px: float) -> NDArray[np.float64]:
    """How few grey values, edges and negative values slices (n_cor, n, n) have: (3, n_cor).

    In a disc about the axis, higher is sharper: minus the entropy of the grey values within the
    window, minus the L1 over the L2 norm of the gradient, minus the share of the L1 norm that is
    negative.
    """
    offset = np.arange(int(3 * blur_px + 0.5) + 1)
    taps = np.exp(-0.5 * (offset / blur_px) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    n = slices.shape[1]
    # First and last column of each row of the disc; an empty row has first > last.
    inside = disc(n)
    first = np.where(inside.any(axis=1), inside.argmax(axis=1), n)
    last = np.where(inside.any(axis=1), n - 1 - inside[:, ::-1].argmax(axis=1), -1)
    measures = np.empty((len(slices), len(MEASURES)))
    low, high = window
    scale = _LEVELS / max(high - low, 1e-30)
    _measure(
        np.ascontiguousarray(slices, dtype=np.float32),
        taps.astype(np.float32), first, last, np.float32(low), np.float32(scale), measures,
    )  # fmt: skip
    return measures.T


@partial(compiled, error_model="numpy")
def _blurred(image, taps, across, out):  # type: ignore[no-untyped-def]
    """Gaussian smoothing along both axes; edge values are repeated beyond the slice."""
    n = image.shape[0]
    reach = len(taps) - 1
    wide = np.empty(n + 2 * reach, np.float32)
    for y in range(n):
        wide[:reach] = image[y, 0]
        wide[reach : reach + n] = image[y]
        wide[reach + n :] = image[y, n - 1]
        for x in range(n):
            across[y, x] = taps[0] * wide[x + reach]
        for k in range(1, reach + 1):
            for x in range(n):
                across[y, x] += taps[k] * (wide[x + reach - k] + wide[x + reach + k])
    for y in range(n):
        for x in range(n):
            out[y, x] = taps[0] * across[y, x]
        for k in range(1, reach + 1):
            above, below = max(0, y - k), min(n - 1, y + k)
            for x in range(n):
                out[y, x] += taps[k] * (across[above, x] + across[below, x])


@partial(compiled, error_model="numpy")
def _measure(slices, taps, first, last, low, scale, measures):  # type: ignore[no-untyped-def]
    """Fill measures (n_cor, 3) slice by slice."""
    n = slices.shape[1]
    across = np.empty((n, n), np.float32)
    smooth = np.empty((n, n), np.float32)
    count = np.empty(_LEVELS, np.int64)
    for i in range(len(slices)):
        _blurred(slices[i], taps, across, smooth)
        count[:] = 0
        norm1, norm2, total, negative, n_inside = 0.0, 0.0, 0.0, 0.0, 0
        for y in range(n):
            for x in range(first[y], last[y] + 1):
                value = smooth[y, x]
                right = smooth[y, min(x + 1, n - 1)] - value
                down = smooth[min(y + 1, n - 1), x] - value
                square = right * right + down * down
                norm1 += np.sqrt(square)
                norm2 += square
                total += abs(value)
                negative += max(-value, np.float32(0))
                level = int((value - low) * scale)
                count[min(max(level, 0), _LEVELS - 1)] += 1
                n_inside += 1
        entropy = 0.0
        for level in range(_LEVELS):
            if count[level] > 0:
                entropy += count[level] / n_inside * np.log(count[level] / n_inside)
        measures[i, 0] = entropy
        measures[i, 1] = -norm1 / max(np.sqrt(norm2 * n_inside), 1e-30)
        measures[i, 2] = -negative / max(total, 1e-30)
