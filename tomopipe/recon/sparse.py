"""Spreading as a sparse matrix: the plain statement of gridding, and the oracle of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon import gridding_kernel
from tomopipe.recon.plan import MARGIN, Plan


def spreading_matrix(plan: Plan, angles: slice) -> Any:
    """Return the weights of samples in grid cells: (cells of the half grid, n_chunk * n_bins)."""
    from scipy.sparse import csr_array

    radius = np.arange(plan.n_padded // 2 + 1) * (plan.n_grid / plan.n_padded)
    position = plan.direction[angles, None, :] * radius[:, None]
    first: NDArray[np.float64] = np.ceil(position - gridding_kernel.WIDTH / 2)
    cell = first[..., None] + np.arange(gridding_kernel.WIDTH)  # (n_chunk, n_bins, axis, tap)
    distance = cell - position[..., None]
    weight = gridding_kernel.kernel_values(distance, gridding_kernel.WIDTH, plan.beta)
    n_rows, n_cols = plan.half_grid_shape
    cell = cell.astype(np.int64)
    column = cell[..., 0, None, :] + plan.n_grid // 2 + MARGIN
    row = cell[..., 1, :, None] + MARGIN
    values: NDArray[np.float32] = (weight[..., 1, :, None] * weight[..., 0, None, :]).astype("f4")
    sample = np.arange(values[..., 0, 0].size).reshape(values.shape[:2])[..., None, None]
    where = ((row * n_cols + column).ravel(), np.broadcast_to(sample, values.shape).ravel())
    return csr_array((values.ravel(), where), shape=(n_rows * n_cols, sample.size))
