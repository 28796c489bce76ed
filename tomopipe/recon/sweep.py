"""Many CORs of one sinogram as one operation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tomopipe.recon.fbp import checked_cor, fill_lanes
from tomopipe.recon.plan import Plan


def sweep(sinogram: Any, plan: Plan, cor_px: ArrayLike, *, threads: int | None = None) -> Any:
    """Reconstruct one sinogram with each of many CORs.

    The images are those of `reconstruct`; the sinogram is padded, transformed and filtered once
    for as many CORs as the plan has lanes.

    Parameters
    ----------
    sinogram : array of float32, shape (n_angles, n_cols)
        Corrected sinogram.
    plan : Plan
        From `tomopipe.recon.plan.make_plan`.
    cor_px : array_like of float, shape (n_cor,)
        CORs, unbinned detector pixels.
    threads : int or None
        CPU threads; None means the cores this process may use.

    Returns
    -------
    array of float32, shape (n_cor, n_cols, n_cols)
        One slice [y, x] per COR.

    Raises
    ------
    ValueError
        If the shape does not fit the plan, or a COR is not finite.
    """
    if sinogram.shape != (plan.n_angles, plan.n_cols):
        raise ValueError(
            f"sinogram: expected shape ({plan.n_angles}, {plan.n_cols}), got {sinogram.shape}"
        )
    cor = checked_cor(cor_px, np.size(cor_px))
    images = plan.xp.empty((len(cor), plan.n_cols, plan.n_cols), dtype=plan.xp.float32)
    for first in range(0, len(cor), plan.lanes):
        some = slice(first, first + plan.lanes)
        fill_lanes(sinogram[None], plan, cor[some], images[some], threads)
    return images
