"""Spreading on a GPU: a CUDA kernel over samples in the order of grid cells.

The only stage that is written for the GPU; all others are `tomopipe.recon.portable`. As on the
CPU the slices lie innermost. A group of 2 L threads, one per float of a record, takes a piece of
the ordered samples, sums runs that share the same 5 x 5 cells in registers, and adds the sums to
the grid. Neighbouring pieces may meet in a cell, hence atomic additions: images of two runs agree
to float rounding, not to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from tomopipe.recon import gridding_kernel
from tomopipe.recon.plan import MARGIN, Plan

PIECE = 256  # samples per group of threads
_THREADS = 256  # per block

SOURCE = r"""
extern "C" __global__ void spread(
    const float* samples, const unsigned int* order, const int* cell, const float* weights,
    float* grid, const long long n_samples, const int pitch, const int record, const int piece)
{
    const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const long long first = thread / record * piece;
    const int lane = (int)(thread % record);
    const long long last = first + piece < n_samples ? first + piece : n_samples;
    float sum[25];
    int at = -1;
    for (long long i = first; i <= last; ++i) {
        const int here = i < last ? cell[i] : -1;
        if (here != at) {
            if (at >= 0) {
                #pragma unroll
                for (int tap = 0; tap < 25; ++tap) {
                    const long long to = at + (long long)(tap / 5) * pitch + tap % 5;
                    atomicAdd(grid + to * record + lane, sum[tap]);
                }
            }
            #pragma unroll
            for (int tap = 0; tap < 25; ++tap) sum[tap] = 0.0f;
            at = here;
        }
        if (i < last) {
            const float* w = weights + 10 * i;
            const float value = samples[(long long)order[i] * record + lane];
            #pragma unroll
            for (int row = 0; row < 5; ++row) {
                const float part = w[5 + row] * value;
                #pragma unroll
                for (int col = 0; col < 5; ++col) sum[5 * row + col] += w[col] * part;
            }
        }
    }
}
"""


def ordered_samples(plan: Plan, angles: slice) -> tuple[Any, Any, Any]:
    """Sort the samples of some angles by the first cell they touch, and weigh them.

    Parameters
    ----------
    plan : Plan
        The plan; its array module does the work.
    angles : slice
        Which angles of the plan's order.

    Returns
    -------
    order : array of uint32, shape (n_samples,)
        Index of each sample in (angle, bin).
    cell : array of int32, shape (n_samples,)
        Its first cell in the half grid; the others are the 5 x 5 cells from there on.
    weights : array of float32, shape (n_samples, 10)
        Five weights along x, then five along y.
    """
    xp = plan.xp
    radius = xp.arange(plan.n_padded // 2 + 1) * (plan.n_grid / plan.n_padded)
    position = (xp.asarray(plan.direction[angles])[:, None, :] * radius[:, None]).reshape(-1, 2)
    first = xp.ceil(position - gridding_kernel.WIDTH / 2)
    column = first[:, 0].astype(xp.int32) + (plan.n_grid // 2 + MARGIN)
    row = first[:, 1].astype(xp.int32) + MARGIN
    cell = row * plan.half_grid_shape[1] + column
    order = xp.argsort(cell)
    t = (2 * (first - position) + gridding_kernel.WIDTH - 1)[order].astype(xp.float32)
    taps = xp.asarray(
        gridding_kernel.tap_polynomials(gridding_kernel.WIDTH, plan.beta), dtype=xp.float32
    )
    weights = xp.zeros((len(t), 2, gridding_kernel.WIDTH), dtype=xp.float32)
    for coefficients in taps[::-1]:
        weights *= t[:, :, None]
        weights += coefficients
    return order.astype(xp.uint32), cell[order], weights.reshape(-1, 2 * gridding_kernel.WIDTH)


def spread_cuda(samples_of: Callable[[slice], Any], plan: Plan, n_slices: int, n_chunk: int) -> Any:
    """Make half grids of samples; see `tomopipe.recon.portable.reconstruct_lanes`."""
    xp = plan.xp
    n_rows, n_cols = plan.half_grid_shape
    grid = xp.zeros((n_rows, n_cols, n_slices), dtype=xp.complex64)
    launch = _kernel(xp)
    for first in range(0, plan.n_angles, n_chunk):
        angles = slice(first, min(first + n_chunk, plan.n_angles))
        key = ("ordered", first, n_chunk)
        if key not in plan.cache:
            plan.cache[key] = ordered_samples(plan, angles)
        order, cell, weights = plan.cache[key]
        samples = xp.ascontiguousarray(samples_of(angles).reshape(n_slices, -1).T)
        n_threads = -(-len(order) // PIECE) * 2 * n_slices
        arguments = (
            samples, order, cell, weights, grid,
            np.int64(len(order)), np.int32(n_cols), np.int32(2 * n_slices), np.int32(PIECE),
        )  # fmt: skip
        launch((-(-n_threads // _THREADS),), (_THREADS,), arguments)
    return xp.ascontiguousarray(xp.moveaxis(grid, 2, 0))


@functools.cache
def _kernel(xp: ModuleType) -> Any:
    """Compile the kernel, when it is called first, for each device."""
    return xp.RawKernel(SOURCE, "spread")
