"""A sweep: one sinogram reconstructed with many CORs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tomopipe.recon import portable
from tomopipe.recon.fbp import checked_cor, fill_batch
from tomopipe.recon.plan import Plan


def sweep(sinogram: Any, plan: Plan, cor_px: ArrayLike, *, threads: int | None = None) -> Any:
    """Reconstruct one sinogram with each of many CORs: (n_cor, n_cols, n_cols), [y, x].

    The slices are those of `reconstruct`, whose parameters and errors these are; what does not
    depend on the COR (padding, transform, order of the samples, kernel weights) is done once.
    """
    shape = (np.size(cor_px), plan.n_cols, plan.n_cols)
    images = plan.xp.empty(shape, dtype=plan.xp.float32)
    for _ in sweep_batches(sinogram, plan, cor_px, threads=threads, out=images):
        pass
    return images


def shared_spectra(sinogram: Any, plan: Plan) -> Any:
    """Return what all CORs of a sinogram share: the spectra of its rows, (1, n_angles, P/2 + 1).

    None over 360 degrees, where columns are weighed for each COR before.
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
    """Yield the slices of a sweep, `plan.batch_size` at a time: which CORs, and their slices.

    They are put into `out` (n_cor, n_cols, n_cols); None: into a buffer that each batch overwrites,
    so that memory does not grow with the number of CORs. `spectra`: those of `shared_spectra`, if
    they are at hand.
    """
    if sinogram.shape != (plan.n_angles, plan.n_cols):
        raise ValueError(
            f"sinogram: expected shape ({plan.n_angles}, {plan.n_cols}), got {sinogram.shape}"
        )
    cor = checked_cor(cor_px, np.size(cor_px))
    xp, size = plan.xp, (min(plan.batch_size, len(cor)), plan.n_cols, plan.n_cols)
    buffer = xp.empty(size, dtype=xp.float32) if out is None else out
    if spectra is None:
        spectra = shared_spectra(sinogram, plan)
    transformed = spectra is not None
    rows = spectra if transformed else sinogram[None]
    for first in range(0, len(cor), plan.batch_size):
        batch = slice(first, min(first + plan.batch_size, len(cor)))
        images = buffer[: batch.stop - first] if out is None else out[batch]
        fill_batch(rows, plan, cor[batch], images, threads, transformed=transformed)
        yield batch, images
