"""Registration of opposing projections, 180 degrees apart, by cross-correlation.

With p the projection at t and q the one at t + pi, p(u) = q(2 cor - u). The flipped q matches p
after a shift by d = 2 cor - (n_cols - 1), found by normalised cross-correlation over the overlap
only [1]_.

References
----------
.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21, 2706 (2012).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.cor.answer import refine_peak
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.sinograms import (
    SortedAngles,
    band_pass,
    bin_columns,
    finite,
    opposing_rows,
    remove_zingers,
)


@dataclass(frozen=True, eq=False)
class OpposingLines:
    """Lines and their counterparts 180 degrees later, flipped left to right."""

    # (n_lines, n_cols): line i of both shows the same part of the sample, mirrored about the axis
    direct: NDArray[np.float32]
    flipped: NDArray[np.float32]
    group: NDArray[np.intp]  # (n_lines,): lines of one group vote together
    motion_px: float  # possible distance of the rim from its position after exactly 180 degrees

    def binned(self, binning: int) -> "OpposingLines":
        """Average blocks of columns, from the left edge of the detector on both sides."""
        return OpposingLines(
            bin_columns(self.direct, binning),
            bin_columns(self.flipped[:, ::-1], binning)[:, ::-1],
            self.group,
            self.motion_px / binning,
        )

    def band(self, long_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Band-pass both sides from 1 px and remove what does not rotate; rounding becomes 0."""
        sides = []
        for lines in (self.direct, self.flipped):
            band = band_pass(lines, long_px)
            rounding = 1e-5 * max(float(np.max(np.abs(lines))), 1e-12)
            sides.append(band if np.std(band) > rounding else np.zeros_like(band))
        direct, flipped = sides
        return remove_fixed(direct, flipped)

    @cached_property
    def fine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both sides with only fine structure, 1 to 6 px."""
        return self.band(6.0)

    def in_groups(self, group: NDArray[np.intp]) -> "OpposingLines":
        """Return the same lines in other groups; `fine`, if there is one, stays."""
        lines = replace(self, group=group)
        if "fine" in vars(self):
            vars(lines)["fine"] = self.fine
        return lines


def subtract_counterparts(opposing: OpposingLines) -> OpposingLines:
    """Subtract from each line its counterpart before the flip, which removes fixed patterns.

    q(u) = p(u, t) - p(u, t + pi) is odd about the axis, q(2 cor - u) = -q(u): its counterpart is
    -q.
    """
    odd = opposing.direct - opposing.flipped[:, ::-1]
    return replace(opposing, direct=odd, flipped=-odd[:, ::-1])


def remove_fixed(
    direct: NDArray[np.float32], flipped: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Remove structure in the same columns of both band-passed projections before the flip."""
    unflipped = flipped[:, ::-1]
    norm = np.sqrt(np.sum(direct.astype(float) ** 2) * np.sum(unflipped.astype(float) ** 2))
    if norm == 0 or np.sum(direct.astype(float) * unflipped) / norm < 0.5:
        return direct, flipped
    shared = np.where(
        direct * unflipped > 0, np.sign(direct) * np.minimum(np.abs(direct), np.abs(unflipped)), 0
    ).astype(np.float32)
    return direct - shared, (unflipped - shared)[:, ::-1]


def opposing_projections(rows: Rows) -> OpposingLines | None:
    """Return the projection pairs 180 degrees apart to 1 px, else the nearest ones, or None.

    Each pair has its own groups, up to 8 in all, of at least 8 rows.
    """
    if not (len(rows.pairs) and rows.pairs.shape[2]):
        return None
    # motion of the rim between exactly 180 degrees and the angle of each pair
    excess_rad = np.diff(rows.pair_theta_rad, axis=1)[:, 0]
    motion_px = np.abs(excess_rad % (2 * np.pi) - np.pi) * rows.pairs.shape[3] / 2
    nearest = motion_px <= max(1.0, float(motion_px.min()))
    pairs = finite(rows.pairs[nearest])
    n_pairs, _, n_rows, n_cols = pairs.shape
    n_each = min(max(1, 8 // n_pairs), max(1, n_rows // 8))
    band = np.arange(n_rows) * n_each // n_rows
    first = np.arange(n_pairs) * n_each
    lines = np.array([[remove_zingers(image) for image in pair] for pair in pairs])
    return OpposingLines(
        direct=lines[:, 0].reshape(-1, n_cols),
        flipped=lines[:, 1, :, ::-1].reshape(-1, n_cols),
        group=(first[:, None] + band).reshape(-1),
        motion_px=float(motion_px[nearest].max()),
    )


def opposing_sinograms(
    sinograms: list[NDArray[np.float32]], angles: SortedAngles, max_parts: int | None = None
) -> OpposingLines | None:
    """Return opposing rows of cleaned sinograms, in groups by sinogram and part, or None."""
    most = max_parts or 8 // len(sinograms)
    direct: list[NDArray[np.float32]] = []
    flipped: list[NDArray[np.float32]] = []
    group: list[NDArray[np.intp]] = []
    for sinogram in sinograms:
        first, second = opposing_rows(sinogram, angles)
        if not len(first):
            return None
        n_parts = max(1, min(len(first) // 8, most))
        group.append(np.arange(len(first)) * n_parts // len(first) + n_parts * len(group))
        direct.append(first)
        flipped.append(second[:, ::-1])
    # An end extrapolated by half a step moves by up to step * n_cols / 4.
    motion_px = 0.0 if angles.reaches_180 else angles.step_rad * direct[0].shape[1] / 4
    return OpposingLines(
        np.concatenate(direct), np.concatenate(flipped), np.concatenate(group), motion_px
    )


_TRIM_PX = 6  # columns next to an edge of the detector that the refinement leaves out
_REACH_PX, _LEAST_LAGS = 2.0, 4
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
    overlap does not: this also works in half acquisition and for smooth objects.
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
    opposing: OpposingLines, near_px: float | NDArray[np.float64], reach_px: float = _REACH_PX
) -> tuple[float, NDArray[np.float64]] | None:
    """Find the COR about another one, which each line may have its own of: all, of each group.

    Only fine structure (1 to 6 px) counts, at least 6 px away from the edges of the detector, where
    the band-pass sees the repeated edge value. None where next to nothing overlaps.
    """
    n_lines, n_cols = opposing.direct.shape
    lags = np.round(2 * np.broadcast_to(near_px, n_lines)).astype(np.intp) - (n_cols - 1)
    lag = round(float(np.median(lags)))
    extra_lag = lags - lag
    low, high = max(0, lag), min(n_cols, n_cols + lag)
    n_lags = min(round(2 * reach_px), (high - low) // 4)
    if n_lags < _LEAST_LAGS:
        return None
    trim = min(_TRIM_PX + n_lags, (high - low) // 4)
    direct, flipped = opposing.fine
    if extra_lag.any():
        column = np.arange(n_cols) - extra_lag[:, None]
        moved = np.take_along_axis(flipped, np.clip(column, 0, n_cols - 1), axis=1)
        flipped = np.where((column >= 0) & (column < n_cols), moved, 0)
    window = direct[:, low + trim : high - trim].astype(np.float64)
    n_of_group = np.bincount(opposing.group)
    product = np.zeros((len(n_of_group), 2 * n_lags + 1))
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
    extra_px = np.bincount(opposing.group, extra_lag / 2) / n_of_group
    return first + best / 2, first + each / 2 + extra_px
