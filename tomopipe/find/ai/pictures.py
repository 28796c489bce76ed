"""Pictures around each rival: the seam of the sinogram, and slices on both sides of the rival.

At the true COR a line and its counterpart half a turn later, mirrored about it, cancel. And the
artefacts of a wrong COR c + d and of c - d are mirror images of each other if c is right.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.find.ai.recipe import Recipe
from tomopipe.find.clean import band_pass, bin_columns
from tomopipe.find.seen import Seen
from tomopipe.find.slices import Reconstruct
from tomopipe.geometry import bin_cor

SEAM_PLANES, WINDOW_PLANES = 2, 3
_N_WINDOWS = 2
_ANGLES_PER_COLUMN = 1.5
_RADIUS = 0.42  # of the disc in which windows lie, in columns


def seam_pictures(
    seen: Seen, binning: int, rivals_px: NDArray[np.float64], recipe: Recipe
) -> NDArray[np.float16]:
    """Make the residual and the mean of opposed lines around each rival.

    Parameters
    ----------
    seen : Seen
        The scan.
    binning : int
        Of the columns.
    rivals_px : ndarray of float, shape (n_rivals,)
        Unbinned px; NaN where there is none.
    recipe : Recipe
        Sizes.

    Returns
    -------
    ndarray of float16, shape (n_rivals, 2, seam_lines, seam_cols)
        In units of the lines' standard deviation, 0 outside of the overlap; all 0 where the scan
        has no opposed lines.
    """
    shape = (len(rivals_px), SEAM_PLANES, recipe.seam_lines, recipe.seam_cols)
    pictures = np.zeros(shape, np.float16)
    images = None if seen.turn.full else seen.opposed_images
    opposed = images or seen.opposed_rows
    if opposed is None:
        return pictures
    opposed = opposed.binned(binning)
    n_lines, n_cols = opposed.here.shape
    some = np.linspace(0, n_lines - 1, recipe.seam_lines).round().astype(int)
    long_px = max(4.0, recipe.seam_long * n_cols)
    here = band_pass(opposed.here[some], 1.0, long_px)
    flipped = band_pass(np.ascontiguousarray(opposed.flipped[some]), 1.0, long_px)
    unit = float(np.sqrt(np.mean(here**2) + np.mean(flipped**2))) or 1.0
    column = np.arange(recipe.seam_cols) - recipe.seam_cols // 2
    for i, cor in enumerate(bin_cor(rivals_px, binning=binning)):
        if np.isnan(cor):
            continue
        at = round(float(cor)) + column
        other = at - (round(2 * float(cor)) - (n_cols - 1))
        both = (at >= 0) & (at < n_cols) & (other >= 0) & (other < n_cols)
        left, right = here[:, at[both]] / unit, flipped[:, other[both]] / unit
        pictures[i, 0][:, both] = np.clip(left - right, -9, 9)
        pictures[i, 1][:, both] = np.clip(left + right, -9, 9)
    return pictures


def window_pictures(
    seen: Seen, rivals_px: NDArray[np.float64], reconstruct: Reconstruct, recipe: Recipe
) -> NDArray[np.float16]:
    """Make windows of the slice at each rival c, and of those at c + d and c - d.

    Parameters
    ----------
    seen : Seen
        The scan; its first sinogram is used.
    rivals_px : ndarray of float, shape (n_rivals,)
        Unbinned px; NaN where there is none.
    reconstruct : callable
        Makes slices of one sinogram at several CORs.
    recipe : Recipe
        Sizes.

    Returns
    -------
    ndarray of float16, shape (n_rivals, 3, window, 2 * window)
        The slice at c, the difference of those at c + d and c - d, and what their mean has more
        than the slice at c; the same two windows, side by side, for all rivals.
    """
    size = recipe.window
    pictures = np.zeros((len(rivals_px), WINDOW_PLANES, size, _N_WINDOWS * size), np.float16)
    there = np.flatnonzero(np.isfinite(rivals_px))
    binning = max(1, round(seen.n_cols / recipe.slice_cols))
    if not there.size or seen.n_cols // binning < 2 * size:
        return pictures
    sinogram, theta_rad = _binned(seen, binning)
    n = sinogram.shape[1]
    pad = max(4, n // 4)
    wide = np.pad(sinogram, ((0, 0), (pad, pad)), mode="edge")
    places = bin_cor(rivals_px[there], binning=binning) + pad
    steps = recipe.slice_step * np.array([0.0, 1.0, -1.0])
    slices = reconstruct(wide, theta_rad, (places[:, None] + steps).reshape(-1))
    inner = slice(pad, pad + n)
    here, plus, minus = (
        slices[:, inner, inner].reshape(len(there), 3, n, n).swapaxes(0, 1).astype(np.float64)
    )
    disc = np.hypot(*np.meshgrid(*2 * [np.arange(n) - n / 2])) < _RADIUS * n
    middle, unit = float(here[:, disc].mean()), float(here[:, disc].std()) or 1.0
    planes = np.stack([here - middle, plus - minus, 0.5 * (plus + minus) - here], axis=1) / unit
    corners = _corners(here, disc, size)
    cut = [planes[:, :, y : y + size, x : x + size] for y, x in corners]
    pictures[there] = np.clip(np.concatenate(cut, axis=3), -9, 9)
    return pictures


def _binned(seen: Seen, binning: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Average blocks of columns, and of neighbouring angles where there are more than needed."""
    binned = bin_columns(seen.sinograms[0], binning)
    n_cols = binned.shape[1]
    group = max(1, int(len(binned) / (_ANGLES_PER_COLUMN * n_cols)))
    n = len(binned) // group
    theta_rad = seen.turn.theta_rad[: n * group].reshape(n, group).mean(axis=1)
    return binned[: n * group].reshape(n, group, n_cols).mean(axis=1), theta_rad


def _corners(
    slices: NDArray[np.float64], disc: NDArray[np.bool_], size: int
) -> list[tuple[int, int]]:
    """Upper left corners of the windows with the most texture in the mean over the rivals."""
    n = slices.shape[1]
    gradient = np.hypot(*np.gradient(ndimage.gaussian_filter(slices, (0, 1, 1)), axis=(1, 2)))
    texture = ndimage.uniform_filter(np.where(disc, gradient.mean(axis=0), 0.0), size)
    half, corners = size // 2, []
    texture[:half], texture[:, :half] = -1.0, -1.0
    texture[n - half :], texture[:, n - half :] = -1.0, -1.0
    for _ in range(_N_WINDOWS):
        y, x = np.unravel_index(int(np.argmax(texture)), texture.shape)
        y0 = int(np.clip(y - half, 0, n - size))
        x0 = int(np.clip(x - half, 0, n - size))
        corners.append((y0, x0))
        texture[max(0, y - half) : y + half, max(0, x - half) : x + half] = -1.0
    return corners
