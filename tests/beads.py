"""Scans of a few beads whose places are known, for tests of geometry."""

import h5py
import numpy as np


def project_beads(voxels, theta_rad, cor_px, shape, *, sigma_px=2.5):
    """Project Gaussian beads at voxels (x, row, y) of the unbinned volume: their attenuation."""
    n_rows, n_cols = shape
    images = np.zeros((len(theta_rad), n_rows, n_cols))
    for x, row, y in voxels:
        column = (
            cor_px
            + (x - n_cols // 2) * np.cos(theta_rad)
            - (y - (n_cols // 2 - 1)) * np.sin(theta_rad)
        )
        across = np.exp(-((np.arange(n_cols) - column[:, None]) ** 2) / (2 * sigma_px**2))
        down = np.exp(-((np.arange(n_rows) - row) ** 2) / (2 * sigma_px**2))
        images += down[:, None] * across[:, None, :]
    return images


def write_scan(path, attenuation, theta_deg=None, *, flat=60000.0, dark=100.0, **attributes):
    """Write a DXchange file of uint16 counts; `attributes` are datasets by their full path.

    `flat` and `dark` are whole numbers of counts, one for all pixels or one for each.
    """
    counts = np.round(dark + (flat - dark) * np.exp(-attenuation)).astype(np.uint16)
    with h5py.File(path, "w") as file:
        file["exchange/data"] = counts
        file["exchange/data_white"] = _twice(flat, counts.shape[1:])
        file["exchange/data_dark"] = _twice(dark, counts.shape[1:])
        if theta_deg is not None:
            file["exchange/theta"] = theta_deg
        for name, (value, units) in attributes.items():
            file[name] = value
            file[name].attrs["units"] = units
    return path


def _twice(frame, shape):
    return np.broadcast_to(frame, (2, *shape)).astype(np.uint16)


def centre_of_bead(image, x, y, radius):
    """Column and row of the centre of a bead at (x, y), without the rim of the others."""
    rows, columns = np.indices(image.shape)
    near = np.hypot(columns - x, rows - y) < 1.6 * radius
    # From a quarter to three quarters of the value: streaks around and noise inside do not count.
    level = np.percentile(image[near], 80)
    weight = np.where(near, (2 * image / level - 0.5).clip(0, 1), 0)
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()


def centroid_px(image, floor=0.3):
    """Column and row of the centre of what is brighter than `floor` of the peak."""
    weight = np.where(image > floor * image.max(), image, 0)
    rows, columns = np.indices(image.shape)
    return (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
