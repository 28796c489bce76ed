"""Register opposing lines: flipped left to right, one must match the other.

With p the projection at t and q the one at t + pi, p(u) = q(2 cor - u). The flipped q matches p
after a shift by d = 2 cor - (n_cols - 1), found by normalised cross-correlation over the overlap
only [1]_.

References
----------
.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21, 2706 (2012).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.cor.answer import refine_peak
from tomopipe.cor.opposing import OpposingLines

_TRIM_PX = 6  # columns next to an edge of the detector that the refinement leaves out
_LAGS = 4
_SMOOTH_PX = 1.5  # against noise, of the differences


def likelihood(correlation: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed root of the log-likelihood ratio of a correlation that a share of the data supports.

    The square counts 0.95 times: a perfect match of one edge is little better than a good one.
    """
    square = 0.95 * np.minimum(correlation**2, 1.0)
    return np.asarray(np.sign(correlation) * np.sqrt(-share * np.log1p(-square)))


def correlate(
    direct: NDArray[np.float32], flipped: NDArray[np.float32], group: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normalised cross-correlation of lines over their overlap at every shift.

    Lines (n_lines, n_cols) are band-passed, so that their local mean is 0; groups are 0 to n_groups
    - 1. Returns correlation and share (n_groups + 1, 2 * n_cols - 1) at shifts -(n_cols - 1) to
    n_cols - 1 of `flipped` to the right, that is at a COR of 0, 0.5, 1, ...; the last row is all
    groups together. The share is that of the texture (the energy of the lines) that lies in the
    overlap.
    """
    n_cols = direct.shape[1]
    n_fft = fft.next_fast_len(2 * n_cols - 1, real=True)
    cross = fft.rfft(direct, n_fft) * np.conj(fft.rfft(flipped, n_fft))
    n_groups = int(group.max()) + 1
    product = np.zeros((n_groups + 1, 2 * n_cols - 1))
    first, second = np.zeros((2, n_groups + 1, n_cols))
    for g in range(n_groups):
        of_group = group == g
        of_all = cross[of_group].sum(axis=0, dtype=np.complex128)
        product[g] = products_at_shifts(of_all, n_fft, n_cols - 1)
        first[g] = np.sum(direct[of_group].astype(float) ** 2, axis=0)
        second[g] = np.sum(flipped[of_group].astype(float) ** 2, axis=0)
    for sums in (product, first, second):
        sums[-1] = sums[:-1].sum(axis=0)
    share_first = _overlap_share(first)
    share_second = _overlap_share(second)[:, ::-1]
    norm = np.sqrt(first.sum(axis=1) * second.sum(axis=1))[:, None]
    share = np.sqrt(share_first * share_second)
    # The floor of a tenth of the average texture keeps empty overlaps from matching by chance.
    floor = 0.1 * (1 - np.abs(np.arange(1 - n_cols, n_cols)) / n_cols)
    weight = norm * np.sqrt((share_first + floor) * (share_second + floor))
    return product / np.maximum(weight, np.finfo(float).tiny), share


def _overlap_share(energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the energy in the columns that overlap at each shift."""
    n_cols = energy.shape[1]
    inside = overlap_sums(energy)
    return inside / np.maximum(inside[:, n_cols - 1 : n_cols], np.finfo(float).tiny)


def products_at_shifts(cross: NDArray, n_fft: int, reach: int) -> NDArray:
    """Transform cross spectra (..., n_w) back, to products at shifts of -reach to reach."""
    around = fft.irfft(cross, n_fft)
    return np.concatenate([around[..., -reach:], around[..., : reach + 1]], axis=-1)


def overlap_sums(values: NDArray[np.float64], reach: int | None = None) -> NDArray[np.float64]:
    """Sum of each line over the columns that overlap at shifts of -reach to reach; None: at all."""
    n_cols = values.shape[1]
    reach = n_cols - 1 if reach is None else reach
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    lags = np.arange(-reach, reach + 1)
    return np.asarray(sums[:, np.minimum(n_cols, n_cols + lags)] - sums[:, np.maximum(0, lags)])


def registration_score(
    opposing: OpposingLines,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """`likelihood` at a COR of 0, 0.5, 1, ... of each group and all; the share of texture.

    Both of shape (n_groups + 1, 2 * n_cols - 1); None where the lines show nothing.
    """
    direct, flipped = opposing.band(max(4.0, opposing.direct.shape[1] / 16))
    if not (direct.any() and flipped.any()):
        return None
    correlation, share = correlate(direct, flipped, opposing.group)
    return likelihood(correlation, share), share


def difference_score(
    opposing: OpposingLines, smooth_px: float = _SMOOTH_PX, overlap_power: float = 0.0
) -> NDArray[np.float64]:
    """How well lines cancel their counterparts, at a COR of 0, 0.5, 1, ....

    Minus the logarithm of the variance of the difference over the sum of both variances, each line
    less its mean in the overlap, times a power of the share of columns that overlap: a few match by
    chance. Unlike in `registration_score`, wide structure counts as well and the size of the
    overlap does not: in half acquisition and for smooth objects this finds what that does not.
    """
    n_cols = opposing.direct.shape[1]
    direct, flipped = (
        ndimage.gaussian_filter1d(
            (lines - lines.mean(axis=1, keepdims=True)).astype(np.float64),
            smooth_px,
            axis=1,
            mode="nearest",
        )
        for lines in (opposing.direct, opposing.flipped)
    )
    n_fft = fft.next_fast_len(2 * n_cols - 1, real=True)
    cross = np.sum(fft.rfft(direct, n_fft) * np.conj(fft.rfft(flipped, n_fft)), axis=0)
    product = products_at_shifts(cross, n_fft, n_cols - 1)
    count = n_cols - np.abs(np.arange(1 - n_cols, n_cols))
    first, second = overlap_sums(direct), overlap_sums(flipped)[:, ::-1]
    covariance = product - np.sum(first * second, axis=0) / count
    squares = overlap_sums(np.stack([np.sum(direct**2, axis=0), np.sum(flipped**2, axis=0)]))
    variance = squares[0] + squares[1, ::-1]
    variance -= np.sum(first**2 + second**2, axis=0) / count
    rounding = 1e-9 * max(float(squares.max()), np.finfo(float).tiny)
    score = -np.log(np.maximum(1 - 2 * covariance / np.maximum(variance, rounding), 1e-4))
    return np.asarray(score * (count / n_cols) ** overlap_power)


def register(
    opposing: OpposingLines,
    lag: int,
    n_lags: int = _LAGS,
    extra_lag: NDArray[np.intp] | None = None,
) -> tuple[float, NDArray[np.float64]] | None:
    """Find the COR within `n_lags` half columns of a shift, of all lines and of each group.

    Only fine structure (1 to 6 px) counts, at least 6 px away from the edges of the detector, where
    the band-pass sees the repeated edge value. None where hardly more columns overlap than are
    searched. The shift of each line may have an extra one, which the CORs do not count.
    """
    n_cols = opposing.direct.shape[1]
    low, high = max(0, lag), min(n_cols, n_cols + lag)
    trim = min(_TRIM_PX + n_lags, max(n_lags, (high - low) // 4))
    if high - low <= 2 * trim:
        return None
    direct, flipped = opposing.fine
    if extra_lag is not None and extra_lag.any():
        column = np.arange(n_cols) - extra_lag[:, None]
        moved = np.take_along_axis(flipped, np.clip(column, 0, n_cols - 1), axis=1)
        flipped = np.where((column >= 0) & (column < n_cols), moved, 0)
    window = direct[:, low + trim : high - trim].astype(np.float64)
    n_groups = int(opposing.group.max()) + 1
    product = np.zeros((n_groups, 2 * n_lags + 1))
    energy = np.zeros_like(product)
    for i, extra in enumerate(range(-n_lags, n_lags + 1)):
        shift = lag + extra
        other = flipped[:, low + trim - shift : high - trim - shift]
        np.add.at(product[:, i], opposing.group, np.einsum("ij,ij->i", window, other))
        np.add.at(energy[:, i], opposing.group, np.einsum("ij,ij->i", other, other))
    match = product / np.sqrt(np.maximum(energy, 1e-30))
    total = product.sum(axis=0) / np.sqrt(np.maximum(energy.sum(axis=0), 1e-30))
    best = refine_peak(total, int(np.argmax(total)))
    each = np.array([refine_peak(m, int(np.argmax(m))) for m in match])
    first = (n_cols - 1 + lag - n_lags) / 2
    return first + best / 2, first + each / 2
