"""Objects whose sinogram and image are known exactly, and how far an image is from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# centre x, y and radii in units of n_cols, value; asymmetric, sharp edges
ELLIPSES = (
    (0.0, 0.0, 0.40, 0.44, 1.0),
    (0.10, -0.15, 0.08, 0.12, -0.4),
    (-0.16, 0.08, 0.06, 0.05, 0.6),
    (0.05, 0.25, 0.04, 0.03, 0.8),
    (-0.2, -0.2, 0.02, 0.05, -0.5),
)
# centre x, y and radius at 1/e in units of n_cols, value
BLOBS = ((0.0, 0.0, 0.12, 1.0), (0.12, -0.16, 0.04, -0.5), (-0.15, 0.1, 0.03, 0.7))
INSIDE = 0.45  # radius, in units of n_cols, within which images are compared
_FINE = (np.arange(4) + 0.5) / 4 - 0.5  # where a pixel is sampled

Axis = tuple[float, float]


def engine_axis(n_cols: int) -> Axis:
    """Return the voxel (x, y) of the axis in our slices."""
    return n_cols // 2, n_cols // 2 - 1


def sharp_sinogram(
    n_cols: int, theta_rad: NDArray[np.float64], cor_px: float
) -> NDArray[np.float32]:
    """Return the line integrals of the ellipses, averaged over detector pixels.

    Parameters
    ----------
    n_cols : int
        Detector columns.
    theta_rad : ndarray, shape (n_angles,)
        Projection angles.
    cor_px : float
        Column of the axis.

    Returns
    -------
    ndarray of float32, shape (n_angles, n_cols)
        Values are per pixel.
    """
    column = np.arange(n_cols)[:, None] + _FINE
    sinogram = np.zeros((len(theta_rad), n_cols), dtype=np.float32)
    cosine, sine = np.cos(theta_rad), np.sin(theta_rad)
    for x, y, radius_x, radius_y, value in _scaled(ELLIPSES, n_cols):
        centre = cor_px + x * cosine - y * sine
        width2 = (radius_x * cosine) ** 2 + (radius_y * sine) ** 2
        area = value * 2 * radius_x * radius_y
        for angle, half2 in enumerate(width2):
            chord = np.sqrt(np.clip(half2 - (column - centre[angle]) ** 2, 0, None))
            sinogram[angle] += area / half2 * chord.mean(axis=1)
    return sinogram


def sharp_image(n_cols: int, axis: Axis) -> NDArray[np.float64]:
    """Return the ellipses averaged over pixels, the axis at voxel (x, y) = `axis`."""
    image = np.zeros((n_cols, n_cols))
    at_x, at_y = np.arange(n_cols) - axis[0], np.arange(n_cols) - axis[1]
    for x, y, radius_x, radius_y, value in _scaled(ELLIPSES, n_cols):
        for fine_y in _FINE:
            across2 = ((at_y + fine_y - y) / radius_y) ** 2
            for fine_x in _FINE:
                inside = ((at_x + fine_x - x) / radius_x) ** 2 + across2[:, None] < 1
                image += value / len(_FINE) ** 2 * inside
    return image


def smooth_sinogram(
    n_cols: int, theta_rad: NDArray[np.float64], cor_px: float
) -> NDArray[np.float32]:
    """Return the line integrals of the Gaussian blobs; see `sharp_sinogram`."""
    sinogram = np.zeros((len(theta_rad), n_cols))
    for x, y, radius, value in _scaled(BLOBS, n_cols):
        centre = cor_px + x * np.cos(theta_rad) - y * np.sin(theta_rad)
        distance2 = (np.arange(n_cols) - centre[:, None]) ** 2
        sinogram += value * radius * np.sqrt(np.pi) * np.exp(-distance2 / radius**2)
    return sinogram.astype(np.float32)


def smooth_image(n_cols: int, axis: Axis) -> NDArray[np.float64]:
    """Return the Gaussian blobs, the axis at voxel (x, y) = `axis`."""
    image = np.zeros((n_cols, n_cols))
    at_x, at_y = np.arange(n_cols) - axis[0], np.arange(n_cols) - axis[1]
    for x, y, radius, value in _scaled(BLOBS, n_cols):
        distance2 = (at_x - x) ** 2 + ((at_y - y) ** 2)[:, None]
        image += value * np.exp(-distance2 / radius**2)
    return image


def psnr_db(
    image: NDArray[np.float32], truth: NDArray[np.float64], axis: Axis, *, fitted: bool = False
) -> float:
    """Return the peak signal-to-noise ratio inside a circle around the axis.

    Parameters
    ----------
    image, truth : ndarray, shape (n_cols, n_cols)
        What was reconstructed, and what is right.
    axis : tuple of float
        Voxel (x, y) of the axis.
    fitted : bool
        Fit gain and offset first, for engines that lose the mean.

    Returns
    -------
    float
        Decibels, relative to the range of the truth.
    """
    n_cols = len(truth)
    at_x, at_y = np.arange(n_cols) - axis[0], np.arange(n_cols) - axis[1]
    inside = at_x**2 + (at_y**2)[:, None] < (INSIDE * n_cols) ** 2
    found, right = image[inside].astype(np.float64), truth[inside]
    if fitted:
        gain, offset = np.polyfit(found, right, 1)
        found = gain * found + offset
    return float(20 * np.log10(np.ptp(truth) / np.sqrt(((found - right) ** 2).mean())))


def _scaled(shapes: tuple[tuple[float, ...], ...], n_cols: int) -> NDArray[np.float64]:
    """Return positions and radii in pixels, values as they are."""
    table = np.array(shapes)
    table[:, :-1] *= n_cols
    return table
