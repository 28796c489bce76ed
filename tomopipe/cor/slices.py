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
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.answer import refine_peak
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sinograms import MIN_OVERLAP, Image, average_angles, bin_columns, binning_to
from tomopipe.geometry import bin_cor, unbin_cor
from tomopipe.recon.fbp import sweep
from tomopipe.recon.jit import compiled
from tomopipe.recon.plan import make_plan

RADIUS = 0.45  # of the disc that is measured, over the columns
MEASURES = ("entropy", "edges", "negativity")
_LEVELS = 64  # grey values of the entropy
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


def disc(n: int) -> NDArray[np.bool_]:
    """Pixels of an (n, n) slice that are measured."""
    offset = np.arange(n) - n / 2
    return np.asarray(np.hypot(offset, offset[:, None]) < RADIUS * n)


def sharpness(slices: Image, window: tuple[float, float], blur_px: float) -> NDArray[np.float64]:
    """How few grey values, edges and negative values slices (n_cor, n, n) have: (3, n_cor).

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
    scale = _LEVELS / max(high - low, 1e-30)
    _measure(
        np.ascontiguousarray(slices, dtype=np.float32),
        taps.astype(np.float32), first, last, np.float32(low), np.float32(scale), measures,
    )  # fmt: skip
    return measures.T


@partial(compiled, error_model="numpy")
def _blurred(image, taps, across, out):  # type: ignore[no-untyped-def]
    """Gaussian smoothing along both axes; edge values are repeated beyond the slice."""
    n = image.shape[0]
    reach = len(taps) - 1
    wide = np.empty(n + 2 * reach, np.float32)
    for y in range(n):
        wide[:reach] = image[y, 0]
        wide[reach : reach + n] = image[y]
        wide[reach + n :] = image[y, n - 1]
        for x in range(n):
            across[y, x] = taps[0] * wide[x + reach]
        for k in range(1, reach + 1):
            for x in range(n):
                across[y, x] += taps[k] * (wide[x + reach - k] + wide[x + reach + k])
    for y in range(n):
        for x in range(n):
            out[y, x] = taps[0] * across[y, x]
        for k in range(1, reach + 1):
            above, below = max(0, y - k), min(n - 1, y + k)
            for x in range(n):
                out[y, x] += taps[k] * (across[above, x] + across[below, x])


@partial(compiled, error_model="numpy")
def _measure(slices, taps, first, last, low, scale, measures):  # type: ignore[no-untyped-def]
    """Fill measures (n_cor, 3) slice by slice."""
    n = slices.shape[1]
    across = np.empty((n, n), np.float32)
    smooth = np.empty((n, n), np.float32)
    count = np.empty(_LEVELS, np.int64)
    for i in range(len(slices)):
        _blurred(slices[i], taps, across, smooth)
        count[:] = 0
        norm1, norm2, total, negative, n_inside = 0.0, 0.0, 0.0, 0.0, 0
        for y in range(n):
            for x in range(first[y], last[y] + 1):
                value = smooth[y, x]
                right = smooth[y, min(x + 1, n - 1)] - value
                down = smooth[min(y + 1, n - 1), x] - value
                square = right * right + down * down
                norm1 += np.sqrt(square)
                norm2 += square
                total += abs(value)
                negative += max(-value, np.float32(0))
                level = int((value - low) * scale)
                count[min(max(level, 0), _LEVELS - 1)] += 1
                n_inside += 1
        entropy = 0.0
        for level in range(_LEVELS):
            if count[level] > 0:
                entropy += count[level] / n_inside * np.log(count[level] / n_inside)
        measures[i, 0] = entropy
        measures[i, 1] = -norm1 / max(np.sqrt(norm2 * n_inside), 1e-30)
        measures[i, 2] = -negative / max(total, 1e-30)
