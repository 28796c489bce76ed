"""The stages of the reconstruction over any array module: the same lines for NumPy and CuPy.

Arrays are (slices, ...). The compiled stages for the CPU (`tomopipe.recon.compiled`) do the same
with the slices innermost; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tomopipe.arrays import fft_of
from tomopipe.recon.angular_sampling import overlap_weights
from tomopipe.recon.blocks import CARD_ANGLES
from tomopipe.recon.plan import MARGIN, Plan, image_positions

Spread = Callable[[Callable[[slice], Any], Plan, int, int], Any]


def padded_spectra(rows: Any, plan: Plan) -> Any:
    """Pad rows with their edge values, which fade as the plan says, and transform them.

    Parameters
    ----------
    rows : array of float32, shape (..., n_cols)
        Sinograms; what is not finite counts as 0.
    plan : Plan
        The plan.

    Returns
    -------
    array of complex64, shape (..., P/2 + 1)
        Neither filtered nor centred.
    """
    xp, n_cols = plan.xp, plan.n_cols
    rows = xp.where(xp.isfinite(rows), rows, xp.float32(0))
    taper, n_right = xp.asarray(plan.taper), len(plan.taper) // 2
    padded = xp.empty((*rows.shape[:-1], plan.n_padded), dtype=xp.float32)
    padded[..., :n_cols] = rows
    padded[..., n_cols : n_cols + n_right] = rows[..., -1:] * taper[:n_right]
    padded[..., n_cols + n_right :] = rows[..., :1] * taper[n_right:]
    return fft_of(xp).rfft(padded, axis=-1)


def centre(spectra: Any, plan: Plan, cor_px: Any, angles: slice) -> Any:
    """Filter, move the axis of each slice to 0, weigh angles, turn them to the upper half plane.

    Parameters
    ----------
    spectra : array of complex64, shape (n_slices or 1, n_chunk, n_bins)
        Spectra of some angles, in the plan's order.
    plan : Plan
        The plan.
    cor_px : array of float64, shape (n_slices,)
        COR of each slice.
    angles : slice
        Which angles of the plan's order.

    Returns
    -------
    array of complex64, shape (n_slices, n_chunk, n_bins)
        The samples to spread.
    """
    xp = plan.xp
    turn = (xp.arange(plan.n_padded // 2 + 1) / plan.n_padded) * xp.asarray(cor_px)[:, None]
    factor = (xp.exp(2j * np.pi * (turn % 1)) * xp.asarray(plan.gain)).astype(xp.complex64)
    samples = spectra * factor[:, None, :]
    # real and imaginary parts by numbers of their own: conjugates and weights in one pass
    signs = np.stack([np.ones(len(plan.flipped)), np.where(plan.flipped, -1, 1)], axis=1)
    weight = xp.asarray((plan.weight[:, None] * signs)[angles], dtype=xp.float32)
    parts = samples.view(xp.float32).reshape(*samples.shape, 2)
    parts *= weight[:, None, :]
    return samples


def fold(grid: Any) -> Any:
    """Fold the margins of half grids in and complete the rows that are their own mirror image.

    Parameters
    ----------
    grid : array of complex64, shape (n_slices, *Plan.half_grid_shape)
        What the rays of the upper half plane have left; overwritten.

    Returns
    -------
    array of complex64, shape (n_slices, M // 2 + 1, M)
        A view: the upper half of a spectrum whose image is real.
    """
    n_grid = grid.shape[2] - 2 * MARGIN
    grid[..., MARGIN : 2 * MARGIN] += grid[..., n_grid + MARGIN :]
    grid[..., n_grid : n_grid + MARGIN] += grid[..., :MARGIN]
    inner = grid[..., MARGIN : n_grid + MARGIN]
    top = MARGIN + n_grid // 2
    for row, mirror in [(MARGIN + j, MARGIN - j) for j in range(MARGIN + 1)] + [
        (top - j, top + j) for j in range(MARGIN + 1)
    ]:
        reflected = inner[:, mirror, ::-1].conj().copy()
        inner[:, row, 0] += reflected[:, -1]
        inner[:, row, 1:] += reflected[:, :-1]
    return inner[:, MARGIN : top + 1]


def to_images(half_spectrum: Any, plan: Plan) -> Any:
    """Transform folded half grids to images.

    Parameters
    ----------
    half_spectrum : array of complex64, shape (n_slices, M // 2 + 1, M)
        From `fold`.
    plan : Plan
        The plan.

    Returns
    -------
    array of float32, shape (n_slices, n_cols, n_cols)
        Slices [y, x].
    """
    xp, fft = plan.xp, fft_of(plan.xp)
    columns, rows = xp.asarray(image_positions(plan.n_cols) % plan.n_grid)
    correction = xp.asarray(plan.correction, dtype=xp.float32)
    half = fft.ifft(half_spectrum, axis=2, norm="forward")[:, :, columns]
    half *= correction[0]
    image = fft.irfft(half, n=plan.n_grid, axis=1, norm="forward")[:, rows]
    image *= correction[1][:, None]
    return image


def reconstruct_lanes(
    sinograms: Any,
    plan: Plan,
    cor_px: Any,
    spread: Spread,
    *,
    n_chunk: int = CARD_ANGLES,
    transformed: bool = False,
) -> Any:
    """Reconstruct a few slices at once.

    Parameters
    ----------
    sinograms : array of float32, shape (n_slices or 1, n_angles, n_cols)
        On the device of the plan. One sinogram with many CORs is transformed once.
    plan : Plan
        The plan.
    cor_px : array of float64, shape (n_slices,)
        COR of each slice.
    spread : callable
        Makes half grids (n_slices, *Plan.half_grid_shape) of samples:
        spread(samples_of, plan, n_slices, n_chunk), with samples_of(angles) giving those of a
        slice of the plan's order.
    n_chunk : int
        Angles at a time: bounds the memory.
    transformed : bool
        Spectra are given instead of sinograms: `padded_spectra`, angles in the plan's order.

    Returns
    -------
    array of float32, shape (n_slices, n_cols, n_cols)
        The slices.
    """
    xp = plan.xp
    cor_px = xp.asarray(cor_px, dtype=xp.float64)

    def samples_of(angles: slice) -> Any:
        if transformed:
            return centre(sinograms[:, angles], plan, cor_px, angles)
        chosen = plan.angle_order[angles]
        rows = sinograms[:, xp.asarray(chosen)]
        if plan.full_turn:
            rows = rows * overlap_weights(plan.n_cols, cor_px, plan.unpaired[chosen], xp)
        return centre(padded_spectra(rows, plan), plan, cor_px, angles)

    return to_images(fold(spread(samples_of, plan, len(cor_px), n_chunk)), plan)
