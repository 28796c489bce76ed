"""Minimum total variation: about the right axis a slice of little variation fits the sinogram.

About any axis some slice nearly fits, more so where the sample leaves the field of view or the scan
covers less than 180 degrees. But half the squared misfit plus the weighted total variation of the
best non-negative slice is least about the right axis. A bounded number of steps [1]_ from an empty
slice approximates it, the same for all axes: starting from the slice of another axis would favour
that axis. No slice fits what a drifting beam adds to a projection: it is subtracted where there is
air. No slice fits fixed patterns either: a misfit that is the same at all angles counts less, the
more dust the air shows, by the covariance of dust and noise.

References
----------
.. [1] A. Beck, M. Teboulle, "Fast gradient-based algorithms for constrained total variation image
   denoising and deblurring problems", IEEE Trans. Image Process. 18, 2419 (2009).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.answer import MIN_ANGLES, refine_peak
from tomopipe.cor.mass import NO_FIXED_PATTERN, has_air, subtract_drift
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sinograms import Image, SortedAngles, average_angles, bin_columns, binning_to
from tomopipe.geometry import bin_cor
from tomopipe.recon.iterative import (
    about,
    largest_gain,
    make_projector,
    total_variation,
    variation_weight,
)

_STRENGTH = 3e-3  # weight of the variation, over the largest value of the backprojected sinogram
_INNER = 5  # steps of the variation in each
_CLEAN = 0.01  # of the height of the sample: dust that counts as much as all other misfits


@dataclass(frozen=True)
class Size:
    """How much of a sinogram is used."""

    columns: int  # averaged until about so many are left, as are angles
    angles: int
    steps: int  # iterations for one slice
    side: float  # of the slice, over the columns: the sample may leave the field of view


@dataclass(frozen=True)
class Search:
    """Where and how the minimum is searched for."""

    coarse: Size  # of the first two grids
    fine: Size  # of the last one
    first: float = 0.2  # ends of the first grid, as shares of the columns
    last: float = 0.8
    n_axes: int = 20  # in the first grid


_SHORT_RAD = np.deg2rad(2.0)  # less than 180 degrees by more
SHORT = Search(Size(64, 60, 50, 1.6), Size(96, 90, 60, 1.6))
# 180 degrees or more: costs differ more
HALF = Search(Size(48, 45, 40, 2.0), Size(80, 120, 50, 2.0))
FULL = Search(Size(48, 60, 20, 2.2), Size(72, 90, 40, 2.2), 0.03, 0.97, 32)


@dataclass(frozen=True, eq=False)
class MinimumTotalVariation:
    """The axis of minimum total variation, and how much larger the cost of other axes is."""

    best_px: float  # COR of the minimum
    # (n_cor,): axes that were tried, ascending, denser near the minimum
    cor_px: NDArray[np.float64]
    # (n_cor,): `total_variation_cost` of each over that of the minimum, less 1
    excess: NDArray[np.float64]


def minimum_total_variation(prepared: Prepared) -> MinimumTotalVariation | None:
    """Find the axis of minimum total variation, from the first sinogram of a scan.

    The axis is searched for from 0.2 to 0.8 of the columns, over 360 degrees from 0.03 to 0.97.
    None if the minimum is at an end of this range, if the data are not line integrals or have too
    few angles, and over 360 degrees with air on both sides, where opposing rows suffice.
    """
    if len(prepared.rows.theta_rad) < MIN_ANGLES or not prepared.rows.minus_log:
        return None
    sinogram, angles = prepared.sinograms[0], prepared.angles
    if angles.full_rotation:
        if has_air(prepared.plain[0]):
            return None
        return _search(sinogram, angles, FULL, NO_FIXED_PATTERN)
    steady, pattern = subtract_drift(sinogram)
    return _search(steady, angles, SHORT if angles.gap_rad > _SHORT_RAD else HALF, pattern)


def _search(
    sinogram: Image, angles: SortedAngles, search: Search, pattern: tuple[float, float]
) -> MinimumTotalVariation | None:
    """Search the whole range, then twice on finer grids about the minimum so far."""
    wide_px = np.linspace(search.first, search.last, search.n_axes) * (sinogram.shape[1] - 1)
    wide = total_variation_cost(sinogram, angles, wide_px, search.coarse, pattern)
    if not 0 < int(np.argmin(wide)) < search.n_axes - 1:
        return None
    near_px = _around(wide_px, wide, 3.0)
    near = total_variation_cost(sinogram, angles, near_px, search.coarse, pattern)
    fine_px = _around(near_px, near, 8.0 / 3.0)
    fine = total_variation_cost(sinogram, angles, fine_px, search.fine, pattern)
    best = refine_peak(-fine, int(np.argmin(fine)))
    best_px = float(np.interp(best, np.arange(len(fine_px)), fine_px))
    lowest = min(wide.min(), near.min())
    cor_px, excess = np.append(fine_px, best_px), np.append(fine / fine.min() - 1, 0.0)
    for wider_px, cost in ((near_px, near), (wide_px, wide)):  # beyond the finer grid
        beyond = (wider_px < cor_px.min()) | (wider_px > cor_px.max())
        cor_px = np.append(cor_px, wider_px[beyond])
        excess = np.append(excess, cost[beyond] / lowest - 1)
    order = np.argsort(cor_px)
    return MinimumTotalVariation(best_px, cor_px[order], excess[order])


def _around(
    cor_px: NDArray[np.float64], cost: NDArray[np.float64], closer: float
) -> NDArray[np.float64]:
    """Seven axes about the best one, `closer` times denser."""
    step_px = float(cor_px[1] - cor_px[0]) / closer
    return np.asarray(cor_px[int(np.argmin(cost))] + step_px * np.arange(-3, 4))


def total_variation_cost(
    sinogram: Image,
    angles: SortedAngles,
    cor_px: NDArray[np.float64],
    size: Size,
    pattern: tuple[float, float] = NO_FIXED_PATTERN,
) -> NDArray[np.float64]:
    """Half the squared misfit plus the weighted variation of the best slice of each axis (n_cor,).

    `pattern` describes fixed patterns, as `tomopipe.cor.mass.subtract_drift` measures them.
    """
    binning = binning_to(size.columns, sinogram.shape[1])
    together = max(1, len(sinogram) // size.angles)
    data, theta_rad = average_angles(bin_columns(sinogram, binning), angles.theta_rad, together)
    n_angles, n_cols = data.shape
    n = 2 * round(size.side * n_cols / 2)
    projector = make_projector(theta_rad, n, (n - 1) / 2)
    gain = 1.05 * largest_gain(projector, 8)
    counts = _counts(n_cols, binning, pattern)
    binned_px = bin_cor(cor_px, binning=binning)
    sinograms = np.zeros((len(binned_px), n_angles, n), np.float32)
    sinograms[..., :n_cols] = data

    def weigh(misfits: Image) -> Image:
        """Weigh misfits: 0 beyond the detector, less where they are the same at all angles."""
        weighted = np.zeros_like(misfits)
        same = misfits[..., :n_cols].mean(axis=-2, keepdims=True)
        weighted[..., :n_cols] = misfits[..., :n_cols] + (same @ counts - same)
        return weighted

    # Shifted in Fourier space: interpolation would smooth more between pixels than at them.
    projector = about(projector, binned_px)
    images = total_variation(
        sinograms, projector, strength=_STRENGTH, n_iterations=size.steps, least=0.0, gain=gain,
        weigh=weigh, n_inner=_INNER,
    )  # fmt: skip
    misfits = projector.project(images) - sinograms
    down, across = np.diff(images, axis=1)[:, :, :-1], np.diff(images, axis=2)[:, :-1]
    variation = np.hypot(down, across).sum(axis=(1, 2), dtype=float)
    weight = variation_weight(sinograms, projector, _STRENGTH)
    square = np.sum(misfits * weigh(misfits), axis=(1, 2), dtype=float)
    return np.asarray(0.5 * square + weight * variation)


def _counts(n_cols: int, binning: int, pattern: tuple[float, float]) -> Image:
    """Weights of a misfit that is the same at all angles, shape (n_cols, n_cols).

    The inverse of its covariance: 1 for what slice and noise leave at each column by itself, and
    dust that neighbouring columns share.
    """
    rms, reach_px = pattern
    apart = np.subtract.outer(np.arange(n_cols), np.arange(n_cols)) * binning / reach_px
    shared = (rms / _CLEAN) ** 2 * np.exp(-(apart**2))
    return np.linalg.inv(np.eye(n_cols) + shared).astype(np.float32)
