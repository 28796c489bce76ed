"""The reconstruction in plain array operations, with the stages used by sweeps and projectors.

Arrays are (slices, ...). `tomopipe.recon.compiled` on the CPU and `tomopipe.recon.cuda` on a GPU
compute volumes in the same way with the slices innermost; tests compare all three, and a GPU is
compared with this module before it is used. If our kernels fail on a GPU, it computes with this
module, spreading the samples by a sparse matrix.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import fft_of, sparse_of
from tomopipe.recon.angular_sampling import overlap_weights
from tomopipe.recon.plan import MARGIN, WIDTH, Plan, image_positions, kernel_values

ANGLES = 64  # angles whose samples are weighted at a time


def reconstruct_batch(
    sinograms: Any,
    plan: Plan,
    cor_px: NDArray[np.float64],
    images: Any,
    *,
    transformed: bool = False,
) -> None:
    """Reconstruct slices on the device of the plan; see `tomopipe.recon.cuda.reconstruct_batch`.

    It takes 1 kB for each sample of an eighth of the projections, at most `ANGLES`, and two grids.
    """
    xp = plan.xp
    cycles = (xp.arange(plan.n_padded // 2 + 1) / plan.n_padded) * xp.asarray(cor_px)[:, None]
    factor = (xp.exp(2j * np.pi * (cycles % 1)) * xp.asarray(plan.gain))[:, None]
    grids = xp.zeros((len(cor_px), math.prod(plan.half_grid_shape)), xp.complex64)
    step = min(ANGLES, -(-plan.n_angles // 8))
    for first in range(0, plan.n_angles, step):
        angles = slice(first, min(first + step, plan.n_angles))
        if transformed:
            spectra = sinograms[:, angles]
        else:
            rows = sinograms[:, xp.asarray(plan.angle_order[angles])]
            if plan.full_rotation:
                unpaired = plan.unpaired[plan.angle_order[angles]]
                rows = rows * overlap_weights(plan.n_cols, cor_px, unpaired, xp)
            spectra = padded_spectra(rows, plan)
        samples = (spectra * factor).astype(xp.complex64)
        samples *= xp.asarray(plan.weight[angles, None].astype(np.float32))
        samples = xp.where(xp.asarray(plan.flipped[angles])[:, None], samples.conj(), samples)
        grids += (spreading_matrix(plan, angles) @ samples.reshape(len(samples), -1).T).T
    for grid, image in zip(grids.reshape(-1, 1, *plan.half_grid_shape), images, strict=True):
        image[...] = to_images(fold(grid), plan)[0]


def padded_spectra(rows: Any, plan: Plan) -> Any:
    """Pad rows with their edge values, which fade as the plan says, and transform them.

    Rows are (..., n_cols); non-finite values count as 0. Returns complex64 (..., P/2 + 1),
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
    xp, width = plan.xp, WIDTH
    radius = xp.arange(plan.n_padded // 2 + 1) * (plan.n_grid / plan.n_padded)
    position = xp.asarray(plan.direction[angles])[:, None] * radius[:, None]
    cell = xp.ceil(position - width / 2)[..., None] + xp.arange(width)
    # (n_chunk, n_bins, axis, tap)
    weight = kernel_values(cell - position[..., None], plan.beta, xp)
    values = (weight[..., 1, :, None] * weight[..., 0, None, :]).astype(xp.float32).ravel()
    n_rows, n_cols = plan.half_grid_shape
    cell = cell.astype(xp.int64)
    column = cell[..., 0, None, :] + plan.n_grid // 2 + MARGIN
    row = cell[..., 1, :, None] + MARGIN
    first = xp.arange(0, values.size + 1, width**2)  # of each sample
    by_sample = (
        (values, (row * n_cols + column).ravel(), first),
        (len(first) - 1, n_rows * n_cols),
    )
    return sparse_of(xp).csr_matrix(*by_sample).T


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
