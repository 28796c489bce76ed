"""Full reconstruction of slices, batch by batch."""

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.recon import cuda
from tomopipe.recon.array import free_memory, out_of_memory
from tomopipe.recon.plan import Plan

logger = logging.getLogger(__name__)


def reconstruct(
    sinograms: Any,
    plan: Plan,
    cor_px: ArrayLike,
    *,
    threads: int | None = None,
    out: Any = None,
) -> Any:
    """Reconstruct the slices of a block of rows.

    Parameters
    ----------
    sinograms : array of float32 or Rows, shape (n_rows, n_angles, n_cols)
        Corrected (after -log); values that are not finite count as 0.
    plan : Plan
        A ValueError says what does not fit it.
    cor_px : float or array_like of float, shape (n_rows,)
        Unbinned detector pixels, finite; one for all rows, or one each.
    threads : int or None
        None: the cores this process may use.
    out : array of float32, shape (n_rows, n_cols, n_cols), optional
        Where to put the slices; fresh memory costs up to a fifth of the time.

    Returns
    -------
    array of float32, shape (n_rows, n_cols, n_cols)
        Linear attenuation per pixel, [row, y, x]; on the device of the plan.

    Notes
    -----
    Where memory runs out, fewer slices are computed at a time, now and with this plan from then on.
    """
    if sinograms.ndim != 3 or sinograms.shape[1:] != (plan.n_angles, plan.n_cols):
        raise ValueError(
            f"sinograms: expected shape (n_rows, {plan.n_angles}, {plan.n_cols}), "
            f"got {sinograms.shape}"
        )
    cor = checked_cor(cor_px, len(sinograms))
    shape = (len(cor), plan.n_cols, plan.n_cols)
    images = plan.xp.empty(shape, dtype=plan.xp.float32) if out is None else out
    if images.shape != shape or images.dtype != np.float32 or not images.flags.c_contiguous:
        raise ValueError(f"out: expected contiguous float32 of shape {shape}, got {images.shape}")
    first, batch_size = 0, plan.cache.get("batch_size", plan.batch_size)
    while first < len(cor):
        batch = slice(first, first + batch_size)
        try:
            fill_batch(sinograms[batch], plan, cor[batch], images[batch], threads)
        except Exception as error:
            if not out_of_memory(error) or batch_size == 1:
                raise
            batch_size //= 2
            logger.warning("out of memory: %d slices at a time", batch_size)
            free_memory(plan.xp)
            plan.cache.clear()
            plan.cache["batch_size"] = batch_size
        else:
            first += batch_size
    return images


def checked_cor(cor_px: ArrayLike, n_slices: int) -> NDArray[np.float64]:
    """Return one finite COR per slice, or raise ValueError."""
    cor = np.broadcast_to(np.asarray(cor_px, dtype=np.float64), (n_slices,))
    if not np.isfinite(cor).all():
        raise ValueError(f"cor_px: expected finite numbers, got {cor[~np.isfinite(cor)][0]}")
    return cor


def fill_batch(
    sinograms: Any,
    plan: Plan,
    cor_px: NDArray[np.float64],
    images: Any,
    threads: int | None,
    *,
    transformed: bool = False,
) -> None:
    """Reconstruct at most `plan.batch_size` slices; one sinogram may serve many CORs.

    If `transformed`, its spectra are given instead, as to `cuda.reconstruct_batch`.
    """
    if plan.xp is np:
        # compiled kernels: not loaded where the GPU does the work
        from tomopipe.recon import compiled

        make = compiled.sweep_batch if transformed else compiled.reconstruct_batch
        make(sinograms, plan, cor_px, images, threads)
        return
    if not transformed:
        sinograms = plan.xp.asarray(sinograms, dtype=plan.xp.float32)
    cuda.reconstruct_batch(sinograms, plan, cor_px, images, transformed=transformed)
