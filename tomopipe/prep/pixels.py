"""Pixels that tell nothing: hot and dead ones, always, and zingers, in one projection."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.prep.arrays import module_of, ndimage_of
from tomopipe.prep.medians import median_of_square

_AROUND = 5  # pixels, of the median that a pixel of the flat is compared with


def find_bad_pixels(
    flat: NDArray[np.float32], dark: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    """Find pixels whose flat or dark differs from the pixels around it.

    Parameters
    ----------
    flat, dark : ndarray of float32, shape (n_rows, n_cols)
        Means of the frames.
    threshold : float
        Of the difference, as a share of the flat's signal around it.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_cols)
        Also True where flat or dark are not finite or the flat is not above the dark.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        signal = flat.astype(np.float32) - dark
        bad = ~(np.isfinite(signal) & (signal > 0))
        usual = median_of_square(np.where(bad, 0, signal)[None], _AROUND)[0]
        quiet = median_of_square(np.where(np.isfinite(dark), dark, 0)[None], _AROUND)[0]
        bad |= np.abs(signal - usual) > threshold * usual
        # unlit corners: nothing to compare with there
        bad |= (np.abs(dark - quiet) > threshold * usual) & (usual > 0)
    return bad


def fill_bad_pixels(images: Any, bad: NDArray[np.bool_]) -> None:
    """Interpolate bad pixels, in place, between the sound columns left and right in their row.

    Parameters
    ----------
    images : ndarray of float32, shape (n, n_rows, n_cols)
        Of NumPy or CuPy. A row without a sound pixel is left as it is.
    bad : ndarray of bool, shape (n_rows, n_cols)
    """
    if not bad.any():
        return
    xp = module_of(images)
    n_cols = bad.shape[1]
    columns = np.arange(n_cols)
    left = np.maximum.accumulate(np.where(bad, -1, columns), axis=1)
    right = np.minimum.accumulate(np.where(bad, n_cols, columns)[:, ::-1], axis=1)[:, ::-1]
    left, right = np.where(left < 0, right, left), np.where(right == n_cols, left, right)
    rows, cols = np.nonzero(bad & (left < n_cols))
    before, after = left[rows, cols], right[rows, cols]
    part = ((cols - before) / np.maximum(after - before, 1)).astype(np.float32)
    rows, cols, before, after, part = map(xp.asarray, (rows, cols, before, after, part))
    images[:, rows, cols] = images[:, rows, before] * (1 - part) + images[:, rows, after] * part


def remove_zingers(images: Any, *, threshold: float, size_px: int = 3) -> Any:
    """Replace pixels that are brighter than their surroundings by the median of these.

    Parameters
    ----------
    images : ndarray of float32, shape (n, n_rows, n_cols)
        Transmission, of NumPy or CuPy; edges are repeated, so that `size_px // 2` rows on either
        side are needed where there are any.
    threshold : float
        Of the difference, as a share of the median.
    size_px : int
        Side of the square, odd; zingers of less than half its area are found.

    Returns
    -------
    ndarray of float32, shape (n, n_rows, n_cols)
    """
    xp = module_of(images)
    if xp is np:
        usual = median_of_square(images, size_px)
    else:
        usual = ndimage_of(xp).median_filter(images, (1, size_px, size_px), mode="nearest")
    return xp.where(images - usual > np.float32(threshold) * xp.abs(usual), usual, images)
