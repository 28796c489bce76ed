"""Reconstruction of sinograms batch by batch, and sweeps: one sinogram with many CORs."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.recon import cuda, portable
from tomopipe.recon.gpu import free_memory, out_of_memory
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
        Corrected (after -log); non-finite values count as 0.
    plan : Plan
        A ValueError says what does not fit it.
    cor_px : float or array_like of float, shape (n_rows,)
        Unbinned detector pixels, finite; one for all rows, or one each.
    threads : int or None
        None: the cores this process may use.
    out : array of float32, shape (n_rows, n_cols, n_cols), optional
        Memory for the slices; fresh memory costs up to a fifth of the time.

    Returns
    -------
    array of float32, shape (n_rows, n_cols, n_cols)
        Linear attenuation per pixel, [row, y, x]; on the device of the plan.

    Notes
    -----
    If memory runs out, fewer slices are computed at a time, also in later calls with this plan.
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

    def fill(batch: slice) -> None:
        fill_batch(sinograms[batch], plan, cor[batch], images[batch], threads)

    for _ in in_batches(plan, len(cor), fill):
        pass
    return images


def in_batches(plan: Plan, n: int, make: Callable[[slice], Any]) -> Iterator[tuple[slice, Any]]:
    """Yield batches of n slices, `plan.batch_size` at a time, and the result of `make` for each.

    If memory runs out, a batch is repeated with half as many slices, as are all later ones of this
    plan.
    """
    first = 0
    while first < n:
        size = plan.cache.get("batch_size", plan.batch_size)
        batch = slice(first, min(first + size, n))
        try:
            made = make(batch)
        except Exception as error:
            # `make` may have halved it
            size = min(plan.cache.get("batch_size", size), batch.stop - first)
            if not out_of_memory(error) or size == 1:
                raise
        else:
            yield batch, made
            del made  # its memory serves the next batch
            first = batch.stop
            continue
        # only here: until the handler ends, the exception keeps the arrays of the batch alive
        logger.warning("out of memory: %d slices at a time", size // 2)
        plan.cache.clear()
        plan.cache["batch_size"] = size // 2
        free_memory(plan.xp)


def sweep(sinogram: Any, plan: Plan, cor_px: ArrayLike, *, threads: int | None = None) -> Any:
    """Reconstruct one sinogram with each of many CORs.

    Slices and errors are as for `reconstruct`; padding, transform, order of the samples and kernel
    weights, which do not depend on the COR, are computed once.

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols)
        One detector row, of the array module of the plan.
    plan : Plan
        Of `make_plan`.
    cor_px : array_like of float, shape (n_cor,)
        Columns of the sinogram.
    threads : int, optional
        Threads of the CPU; None: one for each core.

    Returns
    -------
    array of float32, shape (n_cor, n_cols, n_cols)
        Slices [y, x], attenuation per pixel.
    """
    shape = (np.size(cor_px), plan.n_cols, plan.n_cols)
    images = plan.xp.empty(shape, dtype=plan.xp.float32)
    for _ in sweep_batches(sinogram, plan, cor_px, threads=threads, out=images):
        pass
    return images


def shared_spectra(sinogram: Any, plan: Plan) -> Any:
    """Return the spectra of the rows, (1, n_angles, P/2 + 1), which all CORs share.

    None over 360 degrees, where columns are first weighted differently for each COR.
    """
    if plan.full_rotation or sinogram.shape[1] != plan.n_cols:
        return None
    return portable.padded_spectra(sinogram[plan.xp.asarray(plan.angle_order)], plan)[None]


def sweep_batches(
    sinogram: Any,
    plan: Plan,
    cor_px: ArrayLike,
    *,
    threads: int | None = None,
    out: Any = None,
    spectra: Any = None,
) -> Iterator[tuple[slice, Any]]:
    """Yield the slices of a sweep, `plan.batch_size` at a time.

    If memory runs out, the rest is computed with fewer slices at a time.

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols)
        One detector row, of the array module of the plan.
    plan : Plan
        Of `make_plan`.
    cor_px : array_like of float, shape (n_cor,)
        Columns of the sinogram.
    threads : int, optional
        Threads of the CPU; None: one for each core.
    out : array of float32, shape (n_cor, n_cols, n_cols), optional
        Where slices are stored. None: in memory that later batches overwrite, so that it does not
        grow with the number of CORs.
    spectra : array, optional
        From `shared_spectra`.

    Yields
    ------
    (slice, array of float32, shape (n, n_cols, n_cols))
        Which CORs, and their slices, [y, x].
    """
    if sinogram.shape != (plan.n_angles, plan.n_cols):
        raise ValueError(
            f"sinogram: expected shape ({plan.n_angles}, {plan.n_cols}), got {sinogram.shape}"
        )
    xp, cor = plan.xp, checked_cor(cor_px, np.size(cor_px))
    buffer = None

    def fill(batch: slice) -> Any:
        nonlocal buffer, spectra
        if spectra is None:
            spectra = shared_spectra(sinogram, plan)
        n = batch.stop - batch.start
        if out is not None:
            images = out[batch]
        elif buffer is not None:
            images = buffer[:n]
        else:
            images = xp.empty((n, plan.n_cols, plan.n_cols), dtype=xp.float32)
            buffer = images if xp is np else None  # CuPy gives the same memory again
        rows = sinogram[None] if spectra is None else spectra
        fill_batch(rows, plan, cor[batch], images, threads, transformed=spectra is not None)
        return images

    return in_batches(plan, len(cor), fill)


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
    """Reconstruct up to `plan.batch_size` slices from sinograms or (`transformed`) spectra."""
    if plan.xp is np:
        # compiled kernels: not loaded where the GPU does the work
        from tomopipe.recon import compiled

        make = compiled.sweep_batch if transformed else compiled.reconstruct_batch
        make(sinograms, plan, cor_px, images, threads)
        return
    if not transformed:
        sinograms = plan.xp.asarray(sinograms, dtype=plan.xp.float32)
    cuda.reconstruct_batch(sinograms, plan, cor_px, images, transformed=transformed)
