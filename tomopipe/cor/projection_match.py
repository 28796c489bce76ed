"""How well projections match each other after a shift sideways."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.cor.clean_rows import Image, bin_columns
from tomopipe.cor.cross_correlation import overlap_sums
from tomopipe.cor.prepared import Prepared

MAX_STEP_PX = 10.0  # of the rim: further apart, neighbouring projections are too different
_COLS = 512  # binning leaves about so many columns
_SMOOTH_PX, _TREND = 1.5, 0.21  # the mean over that part of the columns is taken off
_REACH = 1 / 16  # of the columns: textures match by chance further away

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]


def match_binning(n_cols: int) -> int:
    """Return how many columns are averaged before projections are matched."""
    return max(1, round(n_cols / _COLS))


def lines_to_match(prepared: Prepared, n_rows: int) -> Image:
    """Return up to so many rows (n_rows, n_angles, n_cols), in the order in which they were taken.

    Smoothed, binned, without their trend.
    """
    taken = np.argsort(prepared.angles.order)
    rows = np.array([s[taken] for s in prepared.sinograms[:n_rows]], np.float32)
    binned = bin_columns(rows, match_binning(prepared.n_cols))
    lines = ndimage.gaussian_filter1d(binned, _SMOOTH_PX, mode="nearest")
    width = max(9, round(_TREND * lines.shape[2]))
    return np.asarray(lines - ndimage.uniform_filter1d(lines, width, mode="nearest"))


def match(lines: Image, first: Numbers | slice, second: Numbers | slice) -> Floats:
    """Normalised cross-correlation of some projections with others, all rows together.

    Shape (n_pairs, 2 * reach + 1): at shifts of the second one by -reach to reach columns to the
    right, over the columns that overlap.
    """
    n_cols = lines.shape[2]
    reach = max(2, round(_REACH * n_cols))
    n_fft = fft.next_fast_len(n_cols + reach, real=True)
    waves = fft.rfft(lines, n_fft)
    around = fft.irfft((waves[:, second] * waves[:, first].conj()).sum(axis=0), n_fft)
    product = np.concatenate([around[:, -reach:], around[:, : reach + 1]], axis=1)
    inside = overlap_sums(np.sum(lines**2, axis=0, dtype=np.float64), reach)
    norm = np.sqrt(inside[second] * inside[first, ::-1])
    return np.asarray(product / np.maximum(norm, 1e-6 * inside.max() + 1e-30))
