"""Clean sinograms and projections before a finder looks: zingers, stripes, offsets, slow trends."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Standard deviation from the median absolute deviation of at most some 100 000 values."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // 100_000)]
    if flat.size == 0:
        return 0.0
    return 1.4826 * float(np.median(np.abs(flat - np.median(flat))))


def remove_zingers(sinogram: Image, limit_sigmas: float = 6.0) -> Image:
    """Replace single hot or cold values by the median of three angles.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Angles in order; or a projection, whose rows are as alike.
    limit_sigmas : float
        Smallest distance, in robust standard deviations of the noise, both from the median of
        three angles and from the median of five columns: the steep edge of a sample that moves
        from angle to angle is far from the first alone.

    Returns
    -------
    ndarray of float32, shape (n_angles, n_cols)
        A copy; the same values when there are fewer than 3 angles.
    """
    if len(sinogram) < 3:
        return sinogram.copy()
    padded = np.concatenate([sinogram[1:2], sinogram, sinogram[-2:-1]])
    before, here, after = padded[:-2], padded[1:-1], padded[2:]
    low, high = np.minimum(before, here), np.maximum(before, here)
    median = np.maximum(low, np.minimum(high, after))
    sigma = robust_sigma(np.diff(sinogram[:: max(1, len(sinogram) // 64)], axis=1)) / np.sqrt(2.0)
    limit = limit_sigmas * max(sigma, 1e-12)
    row, column = np.nonzero(np.abs(sinogram - median) > limit)
    around = np.clip(column[:, None] + np.arange(-2, 3), 0, sinogram.shape[1] - 1)
    along = np.median(sinogram[row[:, None], around], axis=1) if len(row) else np.zeros(0)
    alone = np.abs(sinogram[row, column] - along) > limit
    result = sinogram.copy()
    result[row[alone], column[alone]] = median[row[alone], column[alone]]
    return result


def remove_stripes(sinogram: Image, window_px: int = 15) -> Image:
    """Subtract what each column holds at all angles and its neighbours do not.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Any order of angles.
    window_px : int
        Only structure narrower than this is taken for a stripe.

    Returns
    -------
    ndarray of float32, shape (n_angles, n_cols)
        The sinogram less the median over angles, minus that median's own running median.
    """
    # 256 angles give the median well enough.
    column = np.median(sinogram[:: max(1, len(sinogram) // 256)], axis=0)
    stripe = column - ndimage.median_filter(column, size=window_px, mode="nearest")
    return sinogram - stripe.astype(np.float32)


def turning_share(sinogram: Image) -> float:
    """How much of what varies in a sinogram turns with the sample, by its change between angles.

    Offsets of rows and patterns of columns are removed (both do not turn); what is left of a sample
    is alike at neighbouring angles, noise is not.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Angles in order.

    Returns
    -------
    float
        Correlation of neighbouring angles: about 0 for noise, drift and fixed patterns, near 1 for
        a sample; -1 to 1.
    """
    n_angles, n_cols = sinogram.shape
    factor = max(1, n_cols // 64)
    wide = sinogram[:, : n_cols // factor * factor].reshape(n_angles, -1, factor).mean(axis=2)
    wide = wide.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    wide -= wide.mean(axis=0)
    energy = float(np.sum(wide**2))
    return float(np.sum(wide[1:] * wide[:-1])) / energy if energy > 0 else 0.0


def air_margins(sinogram: Image, share: float = 0.02) -> tuple[NDArray, NDArray] | None:
    """Mean of the left and the right margin of each row, if both margins see no object.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Line integrals, 0 in air.
    share : float
        Width of a margin as a share of the columns; at least 4 px.

    Returns
    -------
    tuple of ndarray, each of shape (n_angles,), or None
        None where a margin, its own drift aside, holds more than 2 % of the object's height.
    """
    width = max(4, round(share * sinogram.shape[1]))
    if sinogram.shape[1] < 4 * width:
        return None
    left, right = sinogram[:, :width], sinogram[:, -width:]
    some = sinogram[:: max(1, len(sinogram) // 64)]
    height = float(np.percentile(some, 95) - np.percentile(some, 5))
    left_mean, right_mean = left.mean(axis=1), right.mean(axis=1)
    # Beam drift moves both margins alike; an object in one of them moves with the angle.
    for margin in (left_mean, right_mean, left_mean - right_mean):
        if np.std(margin) > 0.02 * height or abs(np.median(margin)) > 0.1 * height:
            return None
    return left_mean, right_mean


def level_margins(sinogram: Image) -> Image:
    """Subtract from each row the line through its air margins, if both margins are air.

    Parameters
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Line integrals.

    Returns
    -------
    ndarray of float32, shape (n_angles, n_cols)
        Unchanged without air at both sides.
    """
    margins = air_margins(sinogram)
    if margins is None:
        return sinogram
    left, right = margins
    along = np.linspace(0.0, 1.0, sinogram.shape[1], dtype=np.float32)
    return sinogram - (left[:, None] * (1 - along) + right[:, None] * along).astype(np.float32)


def band_pass(lines: Image, short_px: float, long_px: float) -> Image:
    """Keep structure between two sizes along the columns (difference of Gaussians).

    Parameters
    ----------
    lines : ndarray of float32, shape (..., n_cols)
        Detector rows.
    short_px, long_px : float
        Standard deviations of the two Gaussians; 0 < short_px < long_px.

    Returns
    -------
    ndarray of float32, shape (..., n_cols)
        Edge values are repeated beyond the detector.
    """
    smooth = ndimage.gaussian_filter1d(lines, short_px, axis=-1, mode="nearest")
    return smooth - ndimage.gaussian_filter1d(lines, long_px, axis=-1, mode="nearest")


def clean_sinogram(sinogram: Image) -> Image:
    """Remove zingers and stripes, non-finite values before; angles in order."""
    finite = np.nan_to_num(sinogram, nan=0.0, posinf=0.0, neginf=0.0)
    return remove_stripes(remove_zingers(finite))


def shows_sample(sinograms: list[Image], least: float = 0.2) -> bool:
    """Whether something turns in at least half of the cleaned sinograms.

    On simulated scans `turning_share` was 0.7 to 1 with a sample, and below 0.04 without.
    """
    shares = [turning_share(sinogram) for sinogram in sinograms if len(sinogram) > 1]
    return bool(shares) and float(np.median(shares)) >= least
