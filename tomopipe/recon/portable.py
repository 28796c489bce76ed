"""The reconstruction in plain lines, and what a sweep and a projector need of its stages.

Arrays are (slices, ...). What computes volumes, `tomopipe.recon.compiled` on the CPU and
`tomopipe.recon.cuda` on a GPU, does the same with the slices innermost; tests hold all together,
and a GPU is held to these lines before it is used.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import fft_of
from tomopipe.recon import gridding_kernel
from tomopipe.recon.angular_sampling import overlap_weights
from tomopipe.recon.plan import MARGIN, Plan, image_positions


def reconstruct(sinograms: Any, plan: Plan, cor_px: NDArray[np.float64]) -> Any:
    """Return slices of sinograms (n_slices or 1, n_angles, n_cols), on the CPU."""
    rows = sinograms[:, plan.angle_order]
    if plan.full_rotation:
        rows = rows * overlap_weights(plan.n_cols, cor_px, plan.unpaired[plan.angle_order])
    cycles = (np.arange(plan.n_padded // 2 + 1) / plan.n_padded) * cor_px[:, None]
    samples = padded_spectra(rows, plan) * (np.exp(2j * np.pi * cycles) * plan.gain)[:, None, :]
    samples *= plan.weight[:, None]
    samples = np.where(plan.flipped[:, None], samples.conj(), samples).astype(np.complex64)
    spread = spreading_matrix(plan, slice(0, plan.n_angles)) @ samples.reshape(len(samples), -1).T
    return to_images(fold(spread.T.reshape(-1, *plan.half_grid_shape)), plan)


def padded_spectra(rows: Any, plan: Plan) -> Any:
    """Pad rows with their edge values, which fade as the plan says, and transform them.

    Rows are (..., n_cols); what is not finite counts as 0. Returns complex64 (..., P/2 + 1),
    neither filtered nor centred.
    """
    xp, n_cols = plan.xp, plan.n_cols
    rows = xp.where(xp.isfinite(rows), rows, xp.float32(0))
    taper, n_right = xp.asarray(plan.taper), len(plan.taper) // 2
    padded = xp.empty((*rows.shape[:-1], plan.n_padded), dtype=xp.float32)
    padded[..., :n_cols] = rows
    padded[..., n_cols : n_cols + n_right] = rows[..., -1:] * taper[:n_right]
    padded[..., n_cols + n_right :] = rows[..., :1] * taper[n_right:]
    return fft_of(xp).rfft(padded, axis=-1)


def spreading_matrix(plan: Plan, angles: slice) -> Any:
    """Return the weights of samples in grid cells: (cells of the half grid, n_chunk * n_bins)."""
    from scipy.sparse import csr_array

    radius = np.arange(plan.n_padded // 2 + 1) * (plan.n_grid / plan.n_padded)
    position = plan.direction[angles, None, :] * radius[:, None]
    first: NDArray[np.float64] = np.ceil(position - gridding_kernel.WIDTH / 2)
    cell = first[..., None] + np.arange(gridding_kernel.WIDTH)  # (n_chunk, n_bins, axis, tap)
    distance = cell - position[..., None]
    weight = gridding_kernel.kernel_values(distance, plan.beta)
    n_rows, n_cols = plan.half_grid_shape
    cell = cell.astype(np.int64)
    column = cell[..., 0, None, :] + plan.n_grid // 2 + MARGIN
    row = cell[..., 1, :, None] + MARGIN
    values: NDArray[np.float32] = (weight[..., 1, :, None] * weight[..., 0, None, :]).astype("f4")
    sample = np.arange(values[..., 0, 0].size).reshape(values.shape[:2])[..., None, None]
    where = ((row * n_cols + column).ravel(), np.broadcast_to(sample, values.shape).ravel())
    return csr_array((values.ravel(), where), shape=(n_rows * n_cols, sample.size))


def fold(grid: Any) -> Any:
    """Fold the margins of half grids in and complete the rows that are their own mirror image.

    The grid (n_slices, *Plan.half_grid_shape), what the rays of the upper half plane have left, is
    overwritten. Returns a view (n_slices, M // 2 + 1, M): the upper half of a spectrum whose image
    is real.
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
    """Transform folded half grids to slices [y, x], (n_slices, n_cols, n_cols)."""
    xp, fft = plan.xp, fft_of(plan.xp)
    columns, rows = xp.asarray(image_positions(plan.n_cols) % plan.n_grid)
    correction = xp.asarray(plan.correction, dtype=xp.float32)
    half = fft.ifft(half_spectrum, axis=2, norm="forward")[:, :, columns]
    half *= correction[0]
    image = fft.irfft(half, n=plan.n_grid, axis=1, norm="forward")[:, rows]
    image *= correction[1][:, None]
    return image
