"""Sharpness of slices: the right COR gives few edges and few grey values.

A wrong COR turns each point into an arc or a ring. Two measures of a slice detect this at any
angles, also over less than 180 degrees and for truncated objects: the entropy of its grey values
[1]_ and the ratio of the L1 to the L2 norm of its gradient. Both also change slowly with the COR:
not the extreme of a wide sweep counts but the deepest dip below its running median. A sweep on
binned columns finds it, one at full size refines it.

References
----------
.. [1] T. Donath et al., "Toward optimal estimation of the center of rotation", J. Opt. Soc. Am. A
   23, 1048 (2006).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.angle_order import average_angles
from tomopipe.cor.answer import refine_peak
from tomopipe.cor.clean_rows import MIN_OVERLAP, Image, bin_columns, binning_to
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sharpness import disc, sharpness
from tomopipe.geometry import bin_cor, unbin_cor
from tomopipe.recon.fbp import sweep
from tomopipe.recon.plan import make_plan

_COARSE_COLS, _FINE_COLS = 128, 448  # about so many columns are left by binning
_ANGLES_PER_COLUMN = 1.5
_MAX_ROWS = 2  # sinograms that vote
_COARSE_BLUR_PX, _FINE_BLUR_PX = 0.6, 1.8  # fine slices are noisier
_BATCH = 32  # slices held at a time
_FINE_CORS = 16  # a batch of the engine

Reconstruct = Callable[[Image, NDArray[np.float64], NDArray[np.float64]], Image]
"""From a sinogram (n_angles, n_cols), angles in radians and CORs (n_cor,) in its pixels to slices
(n_cor, n_cols, n_cols), the axis at [n_cols // 2 - 1, n_cols // 2]."""


def reconstruct(
    sinogram: Image,
    theta_rad: NDArray[np.float64],
    cor_px: NDArray[np.float64],
    threads: int | None = None,
) -> Image:
    """Reconstruct one sinogram at several CORs, as `Reconstruct`; threads None: all cores."""
    plan = make_plan(theta_rad, sinogram.shape[1], edge_slopes_per_px=None)
    return np.asarray(sweep(sinogram, plan, cor_px, threads=threads), dtype=np.float32)


def repeating_edges(
    sinogram: Image, theta_rad: NDArray[np.float64], pad: int, reconstruct: Reconstruct
) -> Callable[[NDArray[np.float64]], Image]:
    """Return what makes slices, edges repeated: a truncated object gets no bright rim."""
    n = sinogram.shape[1]
    wide = np.pad(sinogram, ((0, 0), (pad, pad)), mode="edge")
    first = wide.shape[1] // 2 - n // 2
    inner = slice(first, first + n)
    return lambda cor_px: reconstruct(wide, theta_rad, cor_px + pad)[:, inner, inner]


def coarse_slices(
    prepared: Prepared, reconstruct: Reconstruct
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure small slices over the whole detector, of up to two sinograms.

    Returns cor_px (n,), every half a binned column where at least 8 % of them overlap, and
    `MEASURES` of each sinogram (n_sinograms, 3, n), higher is sharper.
    """
    binning = binning_to(_COARSE_COLS, prepared.n_cols)
    n_binned = prepared.n_cols // binning
    binned_px = np.arange(MIN_OVERLAP * n_binned, (1 - MIN_OVERLAP) * n_binned - 1, 0.5)
    cor_px = unbin_cor(binned_px, binning=binning)
    theta_rad, sinograms = prepared.angles.theta_rad, prepared.sinograms[:_MAX_ROWS]
    measures = [_curves(s, theta_rad, cor_px, binning, reconstruct) for s in sinograms]
    return cor_px, np.array(measures)


def _curves(
    sinogram: Image,
    theta_rad: NDArray[np.float64],
    cor_px: NDArray[np.float64],
    binning: int,
    reconstruct: Reconstruct,
    *,
    fine: bool = False,
) -> NDArray[np.float64]:
    """Measures (3, n_cor) of slices of a binned sinogram, a few slices at a time."""
    binned, theta_rad = _bin(sinogram, theta_rad, binning)
    n = binned.shape[1]
    slices_at = repeating_edges(binned, theta_rad, max(4, n // (8 if fine else 4)), reconstruct)
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
    """Return curves (..., n_cor) less their medians, over the mean distance from these."""
    away = curves - np.median(curves, axis=-1, keepdims=True)
    return np.asarray(away / np.maximum(np.abs(away).mean(axis=-1, keepdims=True), 1e-30))


def _bin(
    sinogram: Image, theta_rad: NDArray[np.float64], binning: int
) -> tuple[Image, NDArray[np.float64]]:
    """Average neighbouring columns, and neighbouring angles where there are more than needed."""
    binned = bin_columns(sinogram, binning)
    group = max(1, int(len(binned) / (_ANGLES_PER_COLUMN * binned.shape[1])))
    return average_angles(binned, theta_rad, group)


def refine_slices(
    prepared: Prepared, near_px: float, reach_px: float, reconstruct: Reconstruct
) -> float:
    """Refine a COR by entropy and edges of finer slices.

    The search reaches 1.5 pixels of the fine slices further than `reach_px`.
    """
    binning = binning_to(_FINE_COLS, prepared.n_cols)
    reach_px += 1.5 * binning
    cor_px = near_px + np.linspace(-reach_px, reach_px, _FINE_CORS)
    step_px = cor_px[1] - cor_px[0]
    theta_rad, sinograms = prepared.angles.theta_rad, prepared.sinograms[:_MAX_ROWS]
    curves = np.concatenate(
        [_curves(s, theta_rad, cor_px, binning, reconstruct, fine=True)[:2] for s in sinograms]
    )
    reach, height = max(2, round(2 * binning / step_px)), in_own_units(curves).mean(axis=0)
    return float(cor_px[0] + step_px * refine_peak(height, int(np.argmax(height)), reach))
