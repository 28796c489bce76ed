"""Bad pixels: hot and dead ones in all projections, zingers in one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, once
from tomopipe.prep import kernels_of
from tomopipe.prep.normalise import valid_beside

_AROUND = 5  # pixels, of the median that a pixel of the flat is compared with


def find_bad_pixels(
    flat: NDArray[np.float32], dark: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    """Find pixels (n_rows, n_cols) whose mean flat or dark differs from the pixels around it.

    By more than `threshold`, a share of the flat's signal around it; or where flat or dark are not
    finite, or the flat is not above the dark.
    """
    from tomopipe.prep.host_kernels import median_of_square

    with np.errstate(invalid="ignore", over="ignore"):
        signal = flat.astype(np.float32) - dark
        bad = ~(np.isfinite(signal) & (signal > 0))
        usual = median_of_square(np.where(bad, 0, signal)[None], _AROUND)[0]
        quiet = median_of_square(np.where(np.isfinite(dark), dark, 0)[None], _AROUND)[0]
        bad |= np.abs(signal - usual) > threshold * usual
        # unlit corners: nothing to compare with there
        bad |= (np.abs(dark - quiet) > threshold * usual) & (usual > 0)
    return bad


@dataclass(frozen=True, eq=False)
class Repair:
    """How to interpolate bad pixels (n_bad,), by row, between valid columns beside them."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    # valid columns on either side; at the edge of the detector twice the same
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    part: NDArray[np.float32]  # share of the column after

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the fields."""
        return self.rows, self.cols, self.before, self.after, self.part

    def apply(self, images: Any, rows: tuple[int, int]) -> None:
        """Fill the bad pixels of frames (n, rows[1] - rows[0], n_cols), in place."""
        xp = module_of(images)
        part_of_rows = slice(*np.searchsorted(self.rows, rows))
        if part_of_rows.start == part_of_rows.stop:
            return
        at, cols, before, after, part = (
            array[part_of_rows] for array in once(xp, Repair.arrays, self)
        )
        at = at - rows[0]
        images[:, at, cols] = images[:, at, before] * (1 - part) + images[:, at, after] * part


def plan_repair(bad: NDArray[np.bool_]) -> Repair:
    """Plan how to fill the bad pixels of a detector, ndarray of bool of shape (n_rows, n_cols)."""
    n_cols = bad.shape[1]
    left, right = valid_beside(bad)
    left, right = np.where(left < 0, right, left), np.where(right == n_cols, left, right)
    rows, cols = np.nonzero(bad & (left < n_cols))
    before, after = left[rows, cols], right[rows, cols]
    part = ((cols - before) / np.maximum(after - before, 1)).astype(np.float32)
    return Repair(rows, cols, before, after, part)


def interpolate_columns(sinograms: Any, lost: Any) -> None:
    """Fill lost columns of sinograms (..., n_angles, n_cols) as bad pixels are filled, in place."""
    xp, n_cols = module_of(sinograms), sinograms.shape[-1]
    if xp is np:
        plan_repair(lost[None]).apply(sinograms[:, None], (0, 1))
        return
    left, right = valid_beside(lost)
    before, after = xp.where(left < 0, right, left), xp.where(right == n_cols, left, right)
    part = (xp.arange(n_cols) - before) / xp.maximum(after - before, 1)
    share, lost = part.astype(np.float32)[..., None, :], (lost & (before < n_cols))[..., None, :]
    values = [  # a row without a valid column stays
        xp.take_along_axis(sinograms, xp.clip(at, 0, n_cols - 1)[..., None, :], axis=-1)
        for at in (before, after)
    ]
    sinograms[...] = xp.where(lost, values[0] * (1 - share) + values[1] * share, sinograms)


def remove_zingers(images: Any, *, threshold: float, size_px: int = 3) -> Any:
    """Replace pixels that are brighter than their surroundings by the median of these.

    Transmissions (n, n_rows, n_cols) are of NumPy or CuPy; edges are repeated, so that
    `size_px // 2` rows on either side are needed where there are any. `threshold`, below 1, is of
    the difference, as a share of the median. `size_px` is the side of the square, odd; zingers of
    less than half its area are found.
    """
    return kernels_of(module_of(images)).replace_peaks(images, threshold, size_px)
