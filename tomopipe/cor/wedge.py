"""The double wedge: a sinogram and its mirrored copy make 360 degrees only about the true axis.

The 2-D Fourier transform of a 360-degree sinogram of an object of radius R vanishes where
|v| > 2 pi R |f| (v: cycles per rotation, f: cycles per px). The mirrored copy for a wrong COR makes
a step where both are joined, which spills into that region [1]_. The sum of magnitudes there is
evaluated for every shift from partial sums of one transform, without transforming again:

    F(v, k; d) = A(v, k) + (-1)^v exp(-2 pi i k (N - 1 + d) / N) W + exp(pi i v / n) conj(C - W)

with P(v, u) the transform of the 180 degrees along the angles (zero-padded to 360, 2 n angles),
A(v, k) = sum_u P exp(-2 pi i k u / N), C = sum_u P exp(2 pi i k u / N) and W the part of C from the
columns which the mirrored copy, shifted by d, has. The last term is the fill of [1]_: where the
copy has no data, the 180 degrees themselves, in reverse order.

References
----------
.. [1] N. T. Vo et al., "Reliable method for calculating the center of rotation in parallel-beam
   tomography", Opt. Express 22, 19078 (2014).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tomopipe.cor.angle_order import SortedAngles, resample_180
from tomopipe.cor.answer import refine_peak
from tomopipe.cor.clean_rows import MIN_OVERLAP, Image, bin_columns
from tomopipe.geometry import unbin_cor

_RATIO = 0.5  # object's radius over half the width, as in [1]
_COARSE_SIGMA, _FINE_SIGMA = 3.0, 1.5  # smoothing along the angle, rows
_ANGLES = 360  # of 180 degrees; more are averaged


def wedge_metric(
    half: NDArray[np.float32], shifts: NDArray[np.intp], angle_sigma: float = _COARSE_SIGMA
) -> NDArray[np.float64]:
    """Mean Fourier magnitude outside the double wedge for mirrored copies at given shifts.

    `half` is 180 degrees (n, n_cols), evenly spaced, without the end; the shifts are consecutive
    ascending d = 2 cor - (n_cols - 1), |d| < n_cols. Lowest at the COR; less smoothing is sharper
    and noisier.
    """
    n, n_cols = half.shape
    v, k, weight = _region(n, n_cols, angle_sigma)
    if weight.size == 0 or not weight.any():
        return np.zeros(len(shifts))
    spectrum = fft.rfft(half, 2 * n, axis=0)[v].astype(np.complex64)
    cycles = np.outer(np.arange(n_cols), k) / n_cols
    wave = np.exp(2j * np.pi * cycles).astype(np.complex64)
    direct = spectrum @ np.conj(wave)
    whole = spectrum @ wave
    sign = np.where(v % 2 == 0, 1.0, -1.0).astype(np.float32)[:, None]
    back = np.exp(1j * np.pi * v / n).astype(np.complex64)[:, None]
    constant = direct + back * np.conj(whole)
    metric = np.empty(len(shifts))
    for i, part in enumerate(_parts(spectrum, wave, whole, shifts)):
        phase = np.exp(-2j * np.pi * k * ((n_cols - 1 + shifts[i]) % n_cols) / n_cols)
        total = constant + (sign * phase.astype(np.complex64)) * part - back * np.conj(part)
        metric[i] = np.vdot(weight, np.abs(total))
    return metric / weight.sum()


def _parts(
    spectrum: NDArray[np.complex64],
    wave: NDArray[np.complex64],
    whole: NDArray[np.complex64],
    shifts: NDArray[np.intp],
) -> Iterator[NDArray[np.complex64]]:
    """Yield W for each shift: one column less or more from one shift to the next."""
    n_cols = len(wave)
    first = int(shifts[0])
    low, high = max(0, first), n_cols + min(0, first)
    part = whole.copy() if high - low == n_cols else spectrum[:, low:high] @ wave[low:high]
    yield part
    for shift in shifts[1:]:
        if shift > 0:
            column = int(shift) - 1
            part = part - spectrum[:, column, None] * wave[column]
        else:
            column = n_cols - 1 + int(shift)
            part = part + spectrum[:, column, None] * wave[column]
        yield part


def _region(
    n: int, n_cols: int, angle_sigma: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Frequencies outside the double wedge: v > 0, k of both signs, and their weights.

    Rows and columns next to zero frequency are skipped (stripes and offsets live there); the
    weight is the transfer function of a Gaussian along the angle.
    """
    v_low = min(20, int(0.05 * 2 * n)) + 1
    v_high = min(n, int(0.84 * n / angle_sigma) + 8)
    v = np.arange(v_low, max(v_low, v_high))
    radius_px = 0.5 * _RATIO * n_cols
    limit = np.ceil(v * n_cols / (2 * np.pi * radius_px)).astype(int)
    k_high = min(int(limit.max(initial=0)), (n_cols - 1) // 2)
    k = np.concatenate([np.arange(-k_high, -1), np.arange(2, k_high + 1)])
    smooth = np.exp(-2 * (np.pi * angle_sigma * v / (2 * n)) ** 2)
    inside = np.abs(k)[None, :] <= limit[:, None]
    return v, k, (inside * smooth[:, None]).astype(np.float32)


def _halves(sinograms: list[Image], angles: SortedAngles) -> list[Image]:
    """Return 180 degrees of all sinograms, twice of each when the scan covers 360 degrees."""
    starts = [0.0, np.pi] if angles.full_rotation else [0.0]
    # A drifting beam would make a step at the join, the smaller the nearer to the middle.
    level = [sinogram - sinogram.mean(axis=1, keepdims=True) for sinogram in sinograms]
    return [resample_180(s, angles, start, _ANGLES) for s in level for start in starts]


def _relative(metric: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = float(metric.mean())
    return 1 - metric / mean if mean > 0 else np.zeros_like(metric)


def coarse_wedge(
    sinograms: list[Image], angles: SortedAngles, binning: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COR where 8 % of the columns overlap, unbinned px, and one less the metric over its mean.

    The score, higher is better, is of each 180 degrees of each sinogram, (n_ranges, n).
    """
    halves = _halves([bin_columns(s, binning) for s in sinograms], angles)
    n_cols = halves[0].shape[1]
    limit = int((1 - MIN_OVERLAP) * n_cols)
    shifts = np.arange(-limit, limit + 1)
    scores = [_relative(wedge_metric(half, shifts)) for half in halves]
    return unbin_cor((n_cols - 1 + shifts) / 2, binning=binning), np.array(scores)


def refine_wedge(
    sinograms: list[Image], angles: SortedAngles, near_px: float, reach_px: float
) -> float:
    """Refine a COR at full width."""
    halves = _halves(sinograms, angles)
    n_cols = halves[0].shape[1]
    middle = round(2 * near_px) - (n_cols - 1)
    reach = max(8, round(2 * reach_px))
    shifts = np.arange(max(middle - reach, 1 - n_cols), min(middle + reach, n_cols - 1) + 1)
    fine = np.array([_relative(wedge_metric(half, shifts, _FINE_SIGMA)) for half in halves])
    score = fine.mean(axis=0)
    return float(n_cols - 1 + shifts[0] + refine_peak(score, int(np.argmax(score)), reach=2)) / 2
