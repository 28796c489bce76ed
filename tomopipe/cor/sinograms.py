"""Sinograms for COR finding: angles sorted, rows cleaned and resampled, a sample or noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomopipe.arrays import NORMAL_PER_MAD, evenly_spread, percentile
from tomopipe.cor.kernels import average_columns, mark_unlike
from tomopipe.prep.bad_pixels import interpolate_columns

Image = NDArray[np.float32]
MIN_OVERLAP = 0.08  # least share of the columns that must overlap about a COR


def finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Replace non-finite values by 0, in a copy."""
    return np.where(np.isfinite(values), values, values.dtype.type(0))


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Standard deviation from the median absolute deviation of at most some 100 000 values."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // 100_000)]
    if flat.size == 0:
        return 0.0
    return NORMAL_PER_MAD * float(percentile(np.abs(flat - percentile(flat, 50)), 50))


def remove_zingers(sinogram: Image) -> Image:
    """Replace single hot or cold values by the median of three angles, in a copy.

    A zinger differs, by 6 robust standard deviations of the noise, both from that median and from
    the median of five columns. A steep edge of the sample that moves with the angle differs only
    from the first one.
    """
    if len(sinogram) < 3:
        return sinogram.copy()
    sigma = robust_sigma(np.diff(sinogram[:: max(1, len(sinogram) // 64)], axis=1)) / np.sqrt(2.0)
    limit = 6.0 * max(sigma, 1e-12)
    marks = np.empty(sinogram.shape, np.uint8)
    mark_unlike(sinogram, float(limit), marks)
    row, column = np.divmod(np.flatnonzero(marks.view(bool)), sinogram.shape[1])
    # At a border the last five: an edge value that is repeated would be its own median.
    last = sinogram.shape[1] - 1
    around = np.clip(column, 2, last - 2)[:, None] + np.arange(-2, 3)
    around = np.clip(around, 0, last)
    along = np.median(sinogram[row[:, None], around], axis=1) if len(row) else np.zeros(0)
    alone = np.abs(sinogram[row, column] - along) > limit
    result = sinogram.copy()
    row, column, last = row[alone], column[alone], len(sinogram) - 1
    near = np.abs(row - 1), row, last - np.abs(last - 1 - row)
    result[row, column] = np.median([sinogram[line, column] for line in near], axis=0)
    return result


def fill_dead_columns(sinogram: Image) -> Image:
    """Interpolate columns, at most 4 wide, that differ by half of the contrast at all angles."""
    profile = percentile(sinogram[:: max(1, len(sinogram) // 256)], 50, axis=0)
    away = profile - ndimage.median_filter(profile, size=9, mode="nearest")
    low, high = np.percentile(profile, [2, 98])
    dead = np.abs(away) > max(8 * robust_sigma(away), 0.5 * float(high - low))
    if not dead.any() or dead.mean() > 0.2:
        return sinogram
    filled = sinogram.copy()
    interpolate_columns(filled, dead)
    return filled


def remove_stripes(sinogram: Image, window_px: int = 15) -> Image:
    """Subtract the median over angles of each column, less that of its neighbours in a window."""
    # 256 angles give the median well enough.
    column = percentile(sinogram[:: max(1, len(sinogram) // 256)], 50, axis=0)
    stripe = column - ndimage.median_filter(column, size=window_px, mode="nearest")
    return sinogram - stripe.astype(np.float32)


def rotating_share(sinogram: Image) -> float:
    """Share of the variation that rotates with the sample: correlation of neighbouring angles.

    Offsets of rows and patterns of columns do not rotate and are removed; so are the two strongest
    separable components, such as a beam that tilts or fades. What remains of a sample is correlated
    between neighbouring angles, noise is not: on simulated scans the share is 0.4 to 1 with a
    sample, below 0.02 for noise, a flickering beam and fixed patterns.
    """
    wide = bin_columns(sinogram, max(1, sinogram.shape[1] // 64)).astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    wide -= wide.mean(axis=0)
    strongest = np.linalg.eigh(wide.T @ wide)[1][:, -2:]
    rest = wide - wide @ strongest @ strongest.T
    energy = float(np.sum(rest**2))
    # Only rounding remains of a constant, or of a sum of two products.
    if energy <= 1e-10 * float(np.sum(wide**2)) or energy == 0:
        return 0.0
    return float(np.sum(rest[1:] * rest[:-1])) / energy


def band_pass(lines: Image, long_px: float) -> Image:
    """Difference of Gaussians of 1 px and `long_px` along the columns; edge values are repeated."""
    smooth = ndimage.gaussian_filter1d(lines, 1.0, axis=-1, mode="nearest")
    return smooth - smooth_widely(lines, long_px)


def smooth_widely(lines: Image, sigma_px: float) -> Image:
    """Gaussian along the columns as SciPy's to rounding, by FFT; edge values are repeated."""
    reach = int(4 * sigma_px + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    edges = [(0, 0)] * (lines.ndim - 1) + [(reach, reach)]
    padded = np.pad(lines.astype(np.float64), edges, mode="edge")
    n_fft = fft.next_fast_len(padded.shape[-1], real=True)
    spectrum = fft.rfft(padded, n_fft)
    spectrum *= fft.rfft(kernel / kernel.sum(), n_fft)
    inside = slice(2 * reach, 2 * reach + lines.shape[-1])
    return fft.irfft(spectrum, n_fft)[..., inside].astype(lines.dtype)


def binning_to(n_left: int, n_cols: int) -> int:
    """Return how many columns to average so that about so many are left."""
    return max(1, round(n_cols / n_left))


def bin_columns(lines: Image, binning: int) -> Image:
    """Average blocks of columns; columns that fill no block are dropped."""
    if binning == 1:
        return lines
    rows = np.ascontiguousarray(lines, np.float32).reshape(-1, lines.shape[-1])
    means = np.empty((len(rows), lines.shape[-1] // binning), np.float32)
    average_columns(rows, binning, means)
    return means.reshape(*lines.shape[:-1], means.shape[1])


@dataclass(frozen=True, eq=False)
class SortedAngles:
    """Angles of a scan in ascending order."""

    order: NDArray[np.intp]  # (n_angles,): sinogram[order] has ascending angles
    theta_rad: NDArray[np.float64]  # ascending, first 0; modulo 360 degrees if the scan covers more
    step_rad: float  # the median; 0 with one angle

    @property
    def span_rad(self) -> float:
        """Last angle minus first."""
        return float(self.theta_rad[-1])

    @property
    def reaches_180(self) -> bool:
        """Whether some angles are 180 degrees apart, to a twentieth of a step."""
        return self.span_rad >= np.pi - 0.05 * self.step_rad

    @property
    def full_rotation(self) -> bool:
        """Whether every row has an opposing one: 360 degrees, the last step may be missing."""
        return self.step_rad > 0 and self.span_rad >= 2 * np.pi - 1.5 * self.step_rad

    @property
    def gap_rad(self) -> float:
        """Angle missing from 180 degrees, not counting the step after the last angle."""
        return max(0.0, np.pi - self.span_rad - 1.01 * self.step_rad)


def sort_angles(theta_rad: NDArray[np.float64]) -> SortedAngles:
    """Sort angles of any start, order and direction; equal ones keep their order."""
    theta = np.asarray(theta_rad, dtype=float) - np.min(theta_rad)
    ordered = np.sort(theta)
    step = float(np.median(np.diff(ordered))) if len(theta) > 1 else 0.0
    if ordered[-1] > 2 * np.pi + 1.5 * step:
        theta = np.mod(theta, 2 * np.pi)
    order = np.argsort(theta, kind="stable")
    ordered = theta[order]
    steps = np.diff(ordered)
    steps = steps[steps > 1e-9]
    return SortedAngles(order, ordered, float(np.median(steps)) if steps.size else 0.0)


def rows_beside(theta_rad: NDArray, target_rad: NDArray) -> tuple[NDArray[np.intp], ...]:
    """Return the rows between which `rows_at` interpolates: before and after each angle."""
    right = np.clip(np.searchsorted(theta_rad, target_rad), 1, len(theta_rad) - 1)
    return right - 1, right


def rows_at(sinogram: Image, theta_rad: NDArray, target_rad: NDArray) -> Image:
    """Interpolate rows linearly at other angles; at the ends up to half a step beyond."""
    left, right = rows_beside(theta_rad, target_rad)
    width = np.maximum(theta_rad[right] - theta_rad[left], 1e-9)
    weight = np.clip((target_rad - theta_rad[left]) / width, -0.5, 1.5).astype(np.float32)[:, None]
    return (1 - weight) * sinogram[left] + weight * sinogram[right]


def average_angles(rows: NDArray[Any], theta_rad: NDArray, group: int) -> tuple[Any, NDArray]:
    """Average groups of neighbouring rows, and their angles; an incomplete group is dropped."""
    if group == 1:
        return rows, theta_rad
    n_groups = len(rows) // group
    used = slice(n_groups * group)
    averaged = rows[used].reshape(n_groups, group, rows.shape[1]).mean(axis=1)
    return averaged, theta_rad[used].reshape(n_groups, group).mean(axis=1)


def resample_180(
    sinogram: Image, angles: SortedAngles, start_rad: float = 0.0, n_max: int = 1024
) -> Image:
    """Resample 180 degrees evenly without their end; more than `n_max` are averaged first."""
    theta = angles.theta_rad
    inside = (theta >= start_rad - 1.5 * angles.step_rad) & (
        theta <= start_rad + np.pi + 1.5 * angles.step_rad
    )
    sinogram, theta = sinogram[inside], theta[inside]
    n = max(2, round(np.pi / max(angles.step_rad, 1e-6)))
    group = -(-n // n_max)
    sinogram, theta = average_angles(sinogram, theta, group)
    n = -(-n // group)
    return rows_at(sinogram, theta, start_rad + np.pi * np.arange(n) / n)


def opposed_angles(angles: SortedAngles) -> NDArray[np.float64]:
    """Return angles, at most 96, of which the scan has the opposing ones; none of a shorter one."""
    theta, step = angles.theta_rad, angles.step_rad
    if len(theta) < 2 or step == 0.0:
        return np.zeros(0)
    if not angles.reaches_180:
        short = np.pi - angles.span_rad
        return np.zeros(0) if short > 1.05 * step else np.array([-short / 2])
    first = theta[theta + np.pi <= angles.span_rad + 0.05 * step]
    return np.asarray(first[evenly_spread(len(first), 96)])


def opposing_rows(sinogram: Image, angles: SortedAngles) -> tuple[Image, Image]:
    """Rows at `opposed_angles`, and those 180 degrees later, not flipped."""
    theta, first = angles.theta_rad, opposed_angles(angles)
    if not len(first):
        none = np.zeros((0, sinogram.shape[1]), np.float32)
        return none, none
    return rows_at(sinogram, theta, first), rows_at(sinogram, theta, first + np.pi)
