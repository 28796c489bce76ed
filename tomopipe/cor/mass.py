"""COR from the centre of mass of the projections, which moves sinusoidally about the axis.

For an object that never leaves the field of view, m(t) = sum(u p) / sum(p) is exactly
cor + a cos t + b sin t [1]_, at any angles, in any order, also over less than 180 degrees. A beam
that drifts or tilts is measured in the air on both sides and subtracted first. The method fails if
a part of the object leaves the field of view, which two tests detect: air on both sides at all
angles, and constant row sums.

References
----------
.. [1] S. G. Azevedo et al., "Calculation of the rotational centers in computed tomography
   sinograms", IEEE Trans. Nucl. Sci. 37, 1525 (1990).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.arrays import NORMAL_PER_MAD, percentile
from tomopipe.cor.answer import MIN_ANGLES
from tomopipe.cor.kernels import average_around
from tomopipe.cor.sinograms import (
    Image,
    SortedAngles,
    bin_columns,
    binning_to,
    remove_stripes,
    robust_sigma,
)

NO_FIXED_PATTERN = 0.0, 1.0
"""Rms and correlation length, as of `subtract_drift`, without a fixed pattern."""
_MAX_SUM_SPREAD = 0.06  # std/mean of the row sums above which something left the field of view
_MAX_AIR = 0.12  # share of the height of the object above which a column holds more than air
_AIR_SHARE = 97  # percent of the angles at which a column must hold only air
_EDGE_PX = 2  # margin next to the object that is not counted as air
_MAX_DRIFT = 0.5  # largest drift of a beam, share of the height of the object
_FAINT = 0.02  # share of the height: faint structure that may pass through a column of air
_SIGNIFICANT = 5.0  # standard errors above that
_PASSING = 24  # parts of a scan: faint structure stays in a column for one of them
_AIR = 512  # columns left by binning, about, that show where air is; angles, its usual level
_SWING = 256  # angles, and binned columns, that show the swing
_MIN_SPAN_RAD = np.deg2rad(90)


def centre_of_mass(sinograms: list[Image], angles: SortedAngles) -> tuple[float, float] | None:
    """COR and standard error, px, of line integrals in the order of the angles, without zingers.

    None over less than 90 degrees, or where half of the sinograms show a sample that leaves the
    field of view, or a background that drifts.
    """
    if angles.span_rad < _MIN_SPAN_RAD:
        return None
    fits = [fit for s in sinograms if (fit := _fit(s, angles.theta_rad)) is not None]
    if 2 * len(fits) <= len(sinograms):
        return None
    each_px, error_px = np.array(fits).T
    # Rows share their systematic errors: they check each other, they do not average.
    error = np.hypot(np.median(error_px), robust_sigma(each_px))
    return float(np.median(each_px)), float(error)


def subtract_air(sinogram: Image) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """Subtract from each angle the line through the air of both sides; None without such air.

    Returns the sinogram, 0 in air except for fixed patterns, and the columns left and right of the
    object that hold air at nearly all angles: at least 2 % and 4 columns on each side. Their level
    must be far below that of the object, or else the object fills the field of view.
    """
    n_cols = sinogram.shape[1]
    binning = binning_to(_AIR, n_cols)
    result = _find_air(sinogram)
    if result is None:
        return None
    # the last columns, which fill no block, are air, as the outermost block is
    still = np.ones(n_cols, dtype=bool)
    still[: n_cols // binning * binning] = np.repeat(_still(*result, binning), binning)
    return _less_air(sinogram, still)[0], still


def subtract_drift(sinogram: Image) -> tuple[Image, tuple[float, float]]:
    """Subtract the drift of the air's level, and measure the fixed pattern in the air.

    Returns, besides the sinogram, the rms of the pattern beyond noise, as a share of the height of
    the sample (0 without air), and its correlation length, px.
    """
    result = subtract_air(sinogram)
    if result is None:
        return sinogram, NO_FIXED_PATTERN
    level, air = result
    some = slice(None, None, binning_to(_AIR, len(level)))
    usual = percentile(sinogram[some] - level[some], 50, axis=0)
    steady = np.asarray(level + usual, np.float32)
    return steady, _fixed_pattern(level[some], air)


def _fixed_pattern(level: NDArray[np.float64], air: NDArray[np.bool_]) -> tuple[float, float]:
    """Rms, over the height of the sample, and correlation length, px, of the pattern in the air."""
    pattern = percentile(level, 50, axis=0)
    noise = robust_sigma(np.diff(level[:, air], axis=0)) / np.sqrt(2)
    of_median = np.sqrt(np.pi / 2 / len(level)) * noise
    rms = np.sqrt(max(0.0, float(np.mean(pattern[air] ** 2)) - of_median**2))
    height = max(float(percentile(level, 98)), rms, 1e-30)
    return float(rms / height), _reach_px(pattern, air)


def has_air(sinogram: Image) -> bool:
    """Whether `subtract_air` finds air on both sides of a sinogram."""
    return _find_air(sinogram) is not None


def _blocks(n_cols: int, binning: int) -> int:
    """Return how many binned columns are about as wide."""
    return max(1, round(n_cols / binning))


def _find_air(
    sinogram: Image,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float] | None:
    """As `subtract_air`, with faint parts of the sample as air; also the height of the sample.

    Columns are averaged to about `_AIR`: these show as well where air is.
    """
    binning = binning_to(_AIR, sinogram.shape[1])
    sinogram = bin_columns(sinogram, binning)
    n_angles, n_cols = sinogram.shape
    width = _least_air(n_cols)
    if n_cols < 4 * width:
        return None
    air = np.zeros(n_cols, dtype=bool)
    air[:width] = air[-width:] = True
    level, offset = _less_air(sinogram, air, slow=False)
    for n in range(3):  # air is found better once the drift is gone
        size = min(5, n_angles), _blocks(5, binning)
        smooth = _average(level, *size)
        height = float(percentile(smooth, 98))
        held = _often_above(np.abs(smooth), _MAX_AIR * height)
        inside = np.flatnonzero(held)
        if not inside.size or height <= 0:
            return None
        edge = _blocks(_EDGE_PX, binning)
        left, right = inside[0] - edge, n_cols - 1 - inside[-1] - edge
        if min(left, right) < width:
            return None
        before, air = air, np.zeros(n_cols, dtype=bool)
        air[:left] = air[n_cols - right :] = True
        if n and np.array_equal(air, before):
            break  # nothing would change
        level, offset = _less_air(sinogram, air)
    if np.percentile(np.abs(offset), 95) > _MAX_DRIFT * height:
        return None
    return level, air, height


def _average(level: NDArray[np.float64], n_angles: int, n_cols: int) -> NDArray[np.float64]:
    """Return the mean over so many angles and columns around each value."""
    means = np.empty_like(level)
    average_around(level, n_angles, n_cols, np.empty(level.shape[1]), means)
    return means


def _still(
    level: NDArray[np.float64], air: NDArray[np.bool_], height: float, binning: int
) -> NDArray[np.bool_]:
    """Return the columns of air through which no structure passes; the outermost always count.

    A faint structure is far below the noise of a single angle. Counted as air, it would tilt the
    level of all columns. Fixed patterns of the flat field are constant and do not count.
    """
    n_angles, n_cols = level.shape
    size, edge = (max(1, n_angles // _PASSING), _blocks(9, binning)), _blocks(_EDGE_PX, binning)
    passing = _average(level, *size)[:, air]
    passing -= percentile(passing, 50, axis=0)
    noise = robust_sigma(np.diff(level[:, air], axis=0)) / np.sqrt(2 * size[0] * size[1])
    limit = _FAINT * height + _SIGNIFICANT * noise
    crossed = _often_above(np.abs(passing), limit)
    width, half = _least_air(n_cols), n_cols // 2
    inside = np.flatnonzero(air)[crossed]
    left = np.min(inside[inside < half], initial=half) - edge
    right = n_cols - 1 - np.max(inside[inside >= half], initial=half) - edge
    still = air.copy()
    still[max(width, left) : n_cols - max(width, right)] = False
    return still


def _often_above(values: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    """Tell in which columns the percentile `_AIR_SHARE` is above a limit, without sorting most."""
    n = len(values)
    n_above = np.count_nonzero(values > limit, axis=0)
    n_needed = n - int((n - 1) * _AIR_SHARE / 100)  # if the next lower value is above it, too
    result = n_above >= n_needed
    between = n_above == n_needed - 1
    if between.any():
        result[between] = np.percentile(values[:, between], _AIR_SHARE, axis=0) > limit
    return np.asarray(result)


def _least_air(n_cols: int) -> int:
    """Return the least number of air columns needed on each side."""
    return max(4, round(0.02 * n_cols))


def _less_air(
    sinogram: Image, air: NDArray[np.bool_], *, slow: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Subtract from each angle the line through its air; also the offsets of the lines.

    Those of a beam that drifts slowly are smoothed over neighbouring angles.
    """
    n_cols = len(air)
    line = np.stack([np.ones(n_cols), np.linspace(-0.5, 0.5, n_cols)], axis=1)
    fitted = sinogram[:, air].astype(np.float64) @ np.linalg.pinv(line[air]).T
    if slow:
        fitted = ndimage.gaussian_filter1d(fitted, 1.0, axis=0)
    level = fitted @ line.T
    return np.subtract(sinogram, level, out=level), fitted[:, 0]


def mass_and_centre(
    level: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Row sums and their centres, columns from the middle, (n_angles,); None if sums vary."""
    n_cols = level.shape[1]
    column = np.arange(n_cols) - (n_cols - 1) / 2
    mass = level.sum(axis=1)
    spread = mass.std() / mass.mean() if mass.mean() > 0 else np.inf
    return None if spread > _MAX_SUM_SPREAD else (mass, level @ column / mass)


def swing_px(sinograms: Image, theta_rad: NDArray[np.float64]) -> float:
    """Return how far (px) the centre of mass of rows (n_rows, n_angles, n_cols) goes to the sides.

    Of some angles and binned columns, which suffice. Half of the field of view where the sample
    leaves it.
    """
    n_cols = sinograms.shape[2]
    chosen, binning = (
        slice(None, None, binning_to(_SWING, len(theta_rad))),
        binning_to(_SWING, n_cols),
    )
    theta_rad = theta_rad[chosen]
    design = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    swings_px = []
    for sinogram in sinograms:
        result = subtract_air(bin_columns(sinogram[chosen], binning))
        moments = None if result is None else mass_and_centre(result[0])
        if moments is not None:
            swings_px.append(np.hypot(*np.linalg.lstsq(design, moments[1])[0][1:]))
    return float(np.median(swings_px)) * binning if swings_px else n_cols / 2


def _fit(sinogram: Image, theta_rad: NDArray[np.float64]) -> tuple[float, float] | None:
    """COR and its uncertainty from one sinogram; None if it fails a test."""
    result = subtract_air(sinogram)
    if result is None:
        return None
    level, air = result
    moments = mass_and_centre(level)
    if moments is None:
        return None
    mass, centre_px = moments
    fitted = _fit_swing(centre_px, theta_rad)
    if fitted is None:
        return None
    off_px, error_px = fitted
    # A background that makes the sums vary moves the estimate towards the middle by the same share.
    pull_px = mass.std() / mass.mean() * abs(off_px)
    n_cols = sinogram.shape[1]
    column = np.arange(n_cols) - (n_cols - 1) / 2
    stripe = (level - remove_stripes(level.astype(np.float32))).mean(axis=0)
    stripe_px = abs(float(stripe @ (column - off_px))) / mass.mean()
    outside_px = _static_pull(level, air, off_px) / mass.mean()
    error_px = float(np.sqrt(error_px**2 + pull_px**2 + stripe_px**2 + outside_px**2))
    return off_px + (n_cols - 1) / 2, error_px


def _static_pull(level: NDArray[np.float64], air: NDArray[np.bool_], off_px: float) -> float:
    """First moment, about the estimate, of the fixed pattern in columns that hold only air.

    The pattern is likely to continue behind the sample; the moment is scaled to all columns by the
    root of their number, and correlated neighbours add up.
    """
    n_cols = level.shape[1]
    column = np.arange(n_cols) - (n_cols - 1) / 2 - off_px
    pattern = percentile(level, 50, axis=0)
    # columns that count as one
    together = max(1.0, float(np.sqrt(np.pi)) * _reach_px(pattern, air))
    squares = float(np.sum((pattern * column)[air] ** 2))
    return float(np.sqrt(together * squares * n_cols / air.sum()))


def _reach_px(pattern: NDArray[np.float64], air: NDArray[np.bool_]) -> float:
    """Correlation length of columns, as if Gaussian, from neighbouring ones."""
    beside = air[1:] & air[:-1]
    product = float(np.sum((pattern[1:] * pattern[:-1])[beside]))
    square = float(np.sum((pattern[1:] ** 2 + pattern[:-1] ** 2)[beside])) / 2
    correlation = np.clip(product / max(square, 1e-30), 0.05, 0.999)
    return float(np.sqrt(-1 / np.log(correlation)))


def _fit_swing(
    centre_px: NDArray[np.float64], theta_rad: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Constant of c + a cos t + b sin t and its uncertainty, robustly.

    The uncertainty is that of residuals as correlated as neighbouring angles of a sinogram are: an
    eighth of the angles count.
    """
    design = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    keep = np.ones(len(theta_rad), dtype=bool)
    for _ in range(3):
        solution = np.linalg.lstsq(design[keep], centre_px[keep])[0]
        residual = centre_px - design @ solution
        sigma = NORMAL_PER_MAD * np.median(np.abs(residual[keep]))
        keep = np.abs(residual) <= max(4.0 * sigma, 1e-6)
        if keep.sum() < MIN_ANGLES:
            return None
    covariance = np.linalg.pinv(design[keep].T @ design[keep])
    rms_px = float(np.sqrt(np.mean(residual[keep] ** 2)))
    return float(solution[0]), rms_px * float(np.sqrt(8.0 * covariance[0, 0]))
