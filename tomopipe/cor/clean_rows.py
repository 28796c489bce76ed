"""Clean sinograms and projections for COR finding; distinguish a sample from noise and drift."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.prep.bad_pixels import interpolate_columns

Image = NDArray[np.float32]
MIN_OVERLAP = 0.08  # of the columns, about a COR
MIN_ROTATING_SHARE = 0.2  # of `median_rotating_share`, where there is a sample


def finite(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Replace what is not finite by 0, in a copy."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Standard deviation from the median absolute deviation of at most some 100 000 values."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // 100_000)]
    if flat.size == 0:
        return 0.0
    return NORMAL_PER_MAD * float(np.median(np.abs(flat - np.median(flat))))


def remove_zingers(sinogram: Image) -> Image:
    """Replace single hot or cold values by the median of three angles, in a copy.

    A zinger differs, by 6 robust standard deviations of the noise, both from that median and from
    the median of five columns. A steep edge of the sample that moves with the angle differs only
    from the first one.
    """
    if len(sinogram) < 3:
        return sinogram.copy()
    padded = np.concatenate([sinogram[1:2], sinogram, sinogram[-2:-1]])
    before, current, after = padded[:-2], padded[1:-1], padded[2:]
    low, high = np.minimum(before, current), np.maximum(before, current)
    median = np.maximum(low, np.minimum(high, after))
    sigma = robust_sigma(np.diff(sinogram[:: max(1, len(sinogram) // 64)], axis=1)) / np.sqrt(2.0)
    limit = 6.0 * max(sigma, 1e-12)
    row, column = np.nonzero(np.abs(sinogram - median) > limit)
    # At a border the last five: an edge value that is repeated would be its own median.
    last = sinogram.shape[1] - 1
    around = np.clip(column, 2, last - 2)[:, None] + np.arange(-2, 3)
    around = np.clip(around, 0, last)
    along = np.median(sinogram[row[:, None], around], axis=1) if len(row) else np.zeros(0)
    alone = np.abs(sinogram[row, column] - along) > limit
    result = sinogram.copy()
    result[row[alone], column[alone]] = median[row[alone], column[alone]]
    return result


def fill_dead_columns(sinogram: Image) -> Image:
    """Interpolate columns, at most 4 wide, that differ by half of the contrast at all angles."""
    profile = np.median(sinogram[:: max(1, len(sinogram) // 256)], axis=0)
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
    column = np.median(sinogram[:: max(1, len(sinogram) // 256)], axis=0)
    stripe = column - ndimage.median_filter(column, size=window_px, mode="nearest")
    return sinogram - stripe.astype(np.float32)


def rotating_share(sinogram: Image) -> float:
    """Share of the variation that rotates with the sample: correlation of neighbouring angles.

    Offsets of rows and patterns of columns do not rotate and are removed; so are the two strongest
    separable components, such as of a beam that tilts or fades. The rest of a sample is correlated
    between neighbouring angles, noise is not: on simulated scans the share is 0.4 to 1 with a
    sample, below 0.02 for noise, a flickering beam and fixed patterns.
    """
    wide = bin_columns(sinogram, max(1, sinogram.shape[1] // 64)).astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    wide -= wide.mean(axis=0)
    strongest = np.linalg.eigh(wide.T @ wide)[1][:, -2:]
    rest = wide - wide @ strongest @ strongest.T
    energy = float(np.sum(rest**2))
    # What remains of a constant or of two mere products is rounding.
    if energy <= 1e-10 * float(np.sum(wide**2)) or energy == 0:
        return 0.0
    return float(np.sum(rest[1:] * rest[:-1])) / energy


def median_rotating_share(sinograms: list[Image]) -> float:
    """Median `rotating_share` of cleaned sinograms; 0 of none."""
    shares = [rotating_share(sinogram) for sinogram in sinograms if len(sinogram) > 1]
    return float(np.median(shares)) if shares else 0.0


def band_pass(lines: Image, short_px: float, long_px: float) -> Image:
    """Difference of Gaussians along the columns; edge values are repeated beyond the detector."""
    smooth = ndimage.gaussian_filter1d(lines, short_px, axis=-1, mode="nearest")
    return smooth - ndimage.gaussian_filter1d(lines, long_px, axis=-1, mode="nearest")


def binning_to(n_wanted: int, n_cols: int) -> int:
    """Return how many columns to average so that about so many are left."""
    return max(1, round(n_cols / n_wanted))


def bin_columns(lines: Image, binning: int) -> Image:
    """Average blocks of columns; columns that fill no block are dropped."""
    if binning == 1:
        return lines
    n_cols = lines.shape[-1] // binning
    blocks = lines[..., : n_cols * binning].reshape(*lines.shape[:-1], n_cols, binning)
    return np.asarray(blocks.mean(axis=-1), dtype=np.float32)
