"""Evidence of slices about the COR: sharpness, and minimum total variation.

Sharpness: a wrong COR turns each point into an arc or a ring. Two measures of a slice detect this
over any range of angles, also for truncated objects: the entropy of its grey values [1]_ and the
ratio of the L1 to the L2 norm of its gradient. Both also change slowly with the COR, so the
evidence is not the extreme of a wide sweep but the deepest dip below its running median. A sweep on
binned columns finds it, one at full size refines it.

Total variation: about any axis some slice nearly fits, more so where the sample leaves the field of
view or the scan covers less than 180 degrees. But half the squared misfit plus the weighted total
variation of the best non-negative slice is least about the right axis. A bounded number of steps
[2]_ from an empty slice approximates it, the same for all axes: starting from the slice of another
axis would favour that axis. No slice fits what a drifting beam adds to a projection: it is
subtracted where there is air. No slice fits fixed patterns either: a misfit that is the same at all
angles counts less, the more dust the air shows, by the covariance of dust and noise.

References
----------
.. [1] T. Donath et al., "Toward optimal estimation of the center of rotation", J. Opt. Soc. Am. A
   23, 1048 (2006).
.. [2] A. Beck, M. Teboulle, "Fast gradient-based algorithms for constrained total variation image
   denoising and deblurring problems", IEEE Trans. Image Process. 18, 2419 (2009).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.answer import MIN_ANGLES, refine_peak
from tomopipe.cor.kernels import LEVELS, measure
from tomopipe.cor.mass import NO_FIXED_PATTERN, subtract_drift
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sinograms import (
    MIN_OVERLAP,
    Image,
    SortedAngles,
    average_angles,
    bin_columns,
    binning_to,
)
from tomopipe.geometry import bin_cor, unbin_cor
from tomopipe.recon.fbp import sweep
from tomopipe.recon.iterative import (
    about,
    largest_gain,
    make_projector,
    total_variation,
    variation_weight,
)
from tomopipe.recon.plan import fast_even_size, make_plan

RADIUS = 0.45  # radius of the disc that is measured, share of the columns
MEASURES = ("entropy", "edges", "negativity")
_COARSE_COLS, _FINE_COLS = 128, 448  # columns left by binning, about
_ANGLES_PER_COLUMN = 1.5
_MAX_ROWS = 2  # sinograms that vote
_COARSE_BLUR_PX, _FINE_BLUR_PX = 0.6, 1.8  # fine slices are noisier
_BATCH = 32  # slices held at a time
_FINE_CORS = 16  # CORs at a time: a batch of the engine


def repeating_edges(
    sinogram: Image, theta_rad: NDArray[np.float64], pad: int
) -> Callable[[NDArray[np.float64]], Image]:
    """Return what makes slices of CORs, edges repeated: a truncated object gets no bright rim.

    Slices are (n_cor, n_cols, n_cols), the axis at [n_cols // 2 - 1, n_cols // 2].
    """
    n = sinogram.shape[1]
    wide = np.pad(sinogram, ((0, 0), (pad, pad)), mode="edge")
    plan = make_plan(theta_rad, wide.shape[1], edge_slopes_per_px=None)
    first = wide.shape[1] // 2 - n // 2
    inner = slice(first, first + n)
    return lambda cor_px: sweep(wide, plan, cor_px + pad)[:, inner, inner]


def coarse_slices(prepared: Prepared) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure small slices over the whole detector, of up to two sinograms.

    Returns cor_px (n,), every half a binned column where at least 8 % of them overlap, and
    `MEASURES` of each sinogram (n_sinograms, 3, n), higher is sharper.
    """
    binning = binning_to(_COARSE_COLS, prepared.n_cols)
    n_binned = prepared.n_cols // binning
    binned_px = np.arange(MIN_OVERLAP * n_binned, (1 - MIN_OVERLAP) * n_binned - 1, 0.5)
    cor_px = unbin_cor(binned_px, binning=binning)
    theta_rad, sinograms = prepared.angles.theta_rad, prepared.sinograms[:_MAX_ROWS]
    measures = [_curves(s, theta_rad, cor_px, binning) for s in sinograms]
    return cor_px, np.array(measures)


def _curves(
    sinogram: Image,
    theta_rad: NDArray[np.float64],
    cor_px: NDArray[np.float64],
    binning: int,
    *,
    fine: bool = False,
) -> NDArray[np.float64]:
    """Measures (3, n_cor) of slices of a binned sinogram, a few slices at a time."""
    binned = bin_columns(sinogram, binning)
    group = max(1, int(len(binned) / (_ANGLES_PER_COLUMN * binned.shape[1])))
    binned, theta_rad = average_angles(binned, theta_rad, group)
    n = binned.shape[1]
    slices_at = repeating_edges(binned, theta_rad, max(4, n // (8 if fine else 4)))
    binned_px = bin_cor(cor_px, binning=binning)
    window: tuple[float, float] | None = None
    parts = []
    # The first batch is spread over all CORs, for a grey window that suits them all.
    n_batches = max(1, -(-len(cor_px) // _BATCH))
    order = np.argsort(np.arange(len(cor_px)) % n_batches, kind="stable")
    for start in range(0, len(cor_px), _BATCH):
        batch = order[start : start + _BATCH]
        slices = slices_at(binned_px[batch])
        if window is None:
            low, high = np.percentile(slices[::4, disc(n)], [0.5, 99.5])
            window = float(low), float(high)
        parts.append(sharpness(slices, window, _FINE_BLUR_PX if fine else _COARSE_BLUR_PX))
    curves = np.empty((3, len(cor_px)))
    curves[:, order] = np.concatenate(parts, axis=1)
    return curves


def in_own_units(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return curves (..., n_cor) minus their medians, divided by the mean distance from them."""
    away = curves - np.median(curves, axis=-1, keepdims=True)
    return np.asarray(away / np.maximum(np.abs(away).mean(axis=-1, keepdims=True), 1e-30))


def refine_slices(prepared: Prepared, near_px: float, reach_px: float) -> float:
    """Refine a COR by entropy and edges of finer slices, 1.5 of their pixels beyond `reach_px`."""
    binning = binning_to(_FINE_COLS, prepared.n_cols)
    reach_px += 1.5 * binning
    cor_px = near_px + np.linspace(-reach_px, reach_px, _FINE_CORS)
    step_px = cor_px[1] - cor_px[0]
    theta_rad, sinograms = prepared.angles.theta_rad, prepared.sinograms[:_MAX_ROWS]
    curves = np.concatenate(
        [_curves(s, theta_rad, cor_px, binning, fine=True)[:2] for s in sinograms]
    )
    reach, height = max(2, round(2 * binning / step_px)), in_own_units(curves).mean(axis=0)
    return float(cor_px[0] + step_px * refine_peak(height, int(np.argmax(height)), reach))


def disc(n: int) -> NDArray[np.bool_]:
    """Pixels of an (n, n) slice that are measured."""
    offset = np.arange(n) - n / 2
    return np.asarray(np.hypot(offset, offset[:, None]) < RADIUS * n)


def sharpness(slices: Image, window: tuple[float, float], blur_px: float) -> NDArray[np.float64]:
    """Measure the sharpness of slices (n_cor, n, n) in three ways: (3, n_cor).

    In a disc about the axis, higher is sharper: minus the entropy of the grey values within the
    window, minus the L1 over the L2 norm of the gradient, minus the share of the L1 norm that is
    negative.
    """
    offset = np.arange(int(3 * blur_px + 0.5) + 1)
    taps = np.exp(-0.5 * (offset / blur_px) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    n = slices.shape[1]
    # First and last column of each row of the disc; an empty row has first > last.
    inside = disc(n)
    first = np.where(inside.any(axis=1), inside.argmax(axis=1), n)
    last = np.where(inside.any(axis=1), n - 1 - inside[:, ::-1].argmax(axis=1), -1)
    measures = np.empty((len(slices), len(MEASURES)))
    low, high = window
    scale = LEVELS / max(high - low, 1e-30)
    measure(
        np.ascontiguousarray(slices, dtype=np.float32),
        taps.astype(np.float32), first, last, np.float32(low), np.float32(scale),
        np.empty(n + 2 * (len(taps) - 1), np.float32), np.empty((2, n, n), np.float32),
        np.empty(LEVELS, np.int64), measures,
    )  # fmt: skip
    return measures.T


# weight of the variation, relative to the largest value of the backprojected sinogram
_STRENGTH = 3e-3
_INNER = 5  # steps of the variation in each iteration
_CLEAN = 0.01  # share of the height of the sample: dust that counts as much as all other misfits


@dataclass(frozen=True)
class Size:
    """Resolution of a search."""

    columns: int  # columns and angles are averaged down to about this number
    angles: int
    steps: int  # iterations for one slice
    side: float  # width of the slice over the columns: the sample may leave the field of view


@dataclass(frozen=True)
class Search:
    """Where and how the minimum is searched for."""

    coarse: Size  # of the first two grids
    fine: Size  # of the last one
    first: float = 0.2  # ends of the first grid, as shares of the columns
    last: float = 0.8
    n_axes: int = 20  # in the first grid


_SHORT_RAD = np.deg2rad(2.0)  # a range below 180 degrees by more than this is short
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
        if prepared.has_air:
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
    best, between = int(np.argmin(wide)), [1, 2, 4, 5]
    near = np.empty(len(near_px))
    near[::3] = wide[best - 1 : best + 2]  # the same axes
    near[between] = total_variation_cost(sinogram, angles, near_px[between], search.coarse, pattern)
    fine_px = _around(near_px, near, 8.0 / 3.0)
    fine = total_variation_cost(sinogram, angles, fine_px, search.fine, pattern)
    at = refine_peak(-fine, int(np.argmin(fine)))
    best_px = float(np.interp(at, np.arange(len(fine_px)), fine_px))
    lowest = min(wide.min(), near.min())
    cor_px, excess = np.append(fine_px, best_px), np.append(fine / fine.min() - 1, 0.0)
    for wider_px, cost in ((near_px, near), (wide_px, wide)):  # keep the cost beyond the finer grid
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
    """Half the squared misfit plus weighted variation of the best slice of each axis."""
    binning = binning_to(size.columns, sinogram.shape[1])
    together = max(1, len(sinogram) // size.angles)
    data, theta_rad = average_angles(bin_columns(sinogram, binning), angles.theta_rad, together)
    n_angles, n_cols = data.shape
    n = 2 * round(size.side * n_cols / 2)
    projector = make_projector(theta_rad, n, (n - 1) / 2, n_padded=fast_even_size(3 * n // 2))
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
    """Weights (n_cols, n_cols) of a misfit that is equal at all angles."""
    rms, reach_px = pattern
    apart = np.subtract.outer(np.arange(n_cols), np.arange(n_cols)) * binning / reach_px
    shared = (rms / _CLEAN) ** 2 * np.exp(-(apart**2))
    return np.linalg.inv(np.eye(n_cols) + shared).astype(np.float32)
