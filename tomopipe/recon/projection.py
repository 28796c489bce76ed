"""Projection of slices, compiled; slices innermost. It is the adjoint of backprojection.

A projection is a line through the spectrum of the slice (central slice theorem). The stages of the
engine follow each other in reverse, from images to the half grid, to samples on rays, to rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.compiled import centring_factor, half_grid, taps_of, width
from tomopipe.recon.jit import aligned_empty, kernel
from tomopipe.recon.lanefft import fft, tables_of
from tomopipe.recon.plan import MARGIN, Plan, angles_at_once
from tomopipe.recon.simd import load, load_pair, splat, store, store_pair, transpose
from tomopipe.recon.spread import BATCH, chunks_of, scratch, weigh


def project_batch(
    images: NDArray[np.float32],
    plan: Plan,
    cor_px: NDArray[np.float64],
    sinograms: NDArray[np.float32],
) -> None:
    """Fill `sinograms` (n_slices, n_angles, up to P columns) with the line integrals of slices.

    `images` are (n_slices, n_cols, n_cols), `cor_px` (n_slices,), n_slices <= plan.batch_size; both
    arrays are contiguous. The gain of the plan is 1 / P, half of it in the first and last bin.
    """
    n_slices, n_angles, n_columns = sinograms.shape
    n_cols = plan.n_cols
    n_grid, n_padded, lanes = plan.n_grid, plan.n_padded, (0,) * width(n_slices, plan.batch_size)
    record, n_bins = lanes + lanes, n_padded // 2 + 1
    across, down = plan.correction.astype(np.float32)
    work = aligned_empty(4 * len(lanes) * max(n_grid, n_padded))
    factor = 4 * centring_factor(plan, cor_px, len(lanes))
    n_chunk = angles_at_once(n_angles, n_bins)
    samples = aligned_empty(n_chunk * n_bins * len(record))
    with half_grid(plan, len(lanes)) as grid:
        tall = aligned_empty(n_cols**2 * len(lanes))
        about, transform = (n_slices, n_cols, across, down, n_grid), tables_of(n_grid)
        _transform_columns(images.reshape(-1), *about, *transform, grid, tall, work, lanes)
        _transform_rows(grid, n_grid, n_cols, *transform, work, lanes)
        _unfold(grid, n_grid, lanes)
        for chunk in chunks_of(plan, n_chunk):
            ordered = chunk.direction, chunk.order, taps_of(plan.beta), *scratch()
            _interpolate(grid, n_grid, samples, n_bins, *ordered, record)
            starts = plan.angle_order[chunk.angles] * n_columns
            located = starts, n_angles * n_columns, n_slices, n_columns
            tables = chunk.signs, factor, *tables_of(n_padded)
            _to_rows(samples, n_padded, *tables, sinograms.reshape(-1), *located, work, lanes)


@kernel
def _transform_columns(
    images: Any,
    n_slices: int,
    n_cols: int,
    across: Any,
    down: Any,
    n_grid: int,
    factors: Any,
    table: Any,
    grid: Any,
    tall: Any,
    work: Any,
    lanes: Any,
) -> None:
    """Transform the columns of slices, and put them in the upper rows of the half grids.

    `across`, `down` (n_cols,): one over the kernel's transform of each column, with sign, and row;
    `factors`, `table`: the transform of length M = n_grid; `tall` (n_cols**2 * L,) and `work`
    (4 * M * L,) are scratch.
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = (n_grid + 2 * MARGIN) * record
    zero = splat(np.float32(0), lanes)
    for y in range(n_cols):
        column = 0
        if n_slices == n_lanes:
            while column + n_lanes <= n_cols:
                i = y * n_cols + column
                transpose(images, i, n_cols * n_cols, tall, i * n_lanes, n_lanes, lanes)
                column += n_lanes
        for c in range(column, n_cols):
            i = y * n_cols + c
            for j in range(n_lanes):
                value = images[j * n_cols * n_cols + i] if j < n_slices else np.float32(0)
                tall[i * n_lanes + j] = value
    for c in range(n_cols):
        for y in range(n_grid):
            store_pair(work, y * record, zero, zero, lanes)
        for y in range(n_cols):
            value = load(tall, (y * n_cols + c) * n_lanes, lanes) * splat(down[y], lanes)
            store(work, ((y - (n_cols // 2 - 1)) % n_grid) * record, value)
        start = fft(work, np.int64(0), work, n_grid, factors, table, lanes)
        weight = splat(across[c], lanes)
        for row in range(n_grid // 2 + 1):
            re, im = load_pair(work, start + row * record, lanes)
            to = (MARGIN + row) * pitch + (MARGIN + c) * record
            store_pair(grid, to, re * weight, im * weight, lanes)


@kernel
def _transform_rows(
    grid: Any, n_grid: int, n_cols: int, factors: Any, table: Any, work: Any, lanes: Any
) -> None:
    """Transform rows of columns: the upper half of conjugate spectra; `work`: (4 * M * L,)."""
    record = 2 * len(lanes)
    zero = splat(np.float32(0), lanes)
    for row in range(n_grid // 2 + 1):
        begin = ((MARGIN + row) * (n_grid + 2 * MARGIN) + MARGIN) * record
        for c in range(n_grid):
            store_pair(work, c * record, zero, zero, lanes)
        for c in range(n_cols):
            re, im = load_pair(grid, begin + c * record, lanes)
            store_pair(work, ((c - n_cols // 2) % n_grid) * record, re, im, lanes)
        start = fft(work, np.int64(0), work, n_grid, factors, table, lanes)
        for c in range(n_grid):
            re, im = load_pair(work, start + c * record, lanes)
            store_pair(grid, begin + c * record, re, im, lanes)


@kernel
def _unfold(grid: Any, n_grid: int, lanes: Any) -> None:
    """Continue the upper halves of spectra into the margins: the adjoint of `fold`."""
    record = 2 * len(lanes)
    pitch = (n_grid + 2 * MARGIN) * record
    top, zero = n_grid // 2, splat(np.float32(0), lanes)
    for j in range(2 * MARGIN):
        # the conjugate of the mirror image through the origin, in the middle of the columns
        row = j - MARGIN if j < MARGIN else top + 1 + j - MARGIN
        mirror = -row if row < 0 else n_grid - row
        begin, source = (MARGIN + row) * pitch + MARGIN * record, (MARGIN + mirror) * pitch
        for c in range(n_grid):
            other = (n_grid - c) % n_grid
            re, im = load_pair(grid, source + (MARGIN + other) * record, lanes)
            store_pair(grid, begin + c * record, re, zero - im, lanes)
    for row in range(top + 1 + 2 * MARGIN):
        for c in range(MARGIN):
            left, right = row * pitch + c * record, row * pitch + (MARGIN + c) * record
            re, im = load_pair(grid, left + n_grid * record, lanes)
            store_pair(grid, left, re, im, lanes)
            re, im = load_pair(grid, right, lanes)
            store_pair(grid, right + n_grid * record, re, im, lanes)


@kernel
def _interpolate(
    grid: Any,
    n_grid: int,
    samples: Any,
    n_bins: int,
    direction: Any,
    order: Any,
    taps: Any,
    weights: Any,
    offsets: Any,
    record: Any,
) -> None:
    """Fill the samples of a chunk from the half grids: the adjoint of `spread`, as there."""
    n_floats = len(record)
    pitch = (n_grid + 2 * MARGIN) * n_floats
    for start in range(0, len(order), BATCH):
        n = min(BATCH, len(order) - start)
        weigh(n_grid, n_bins, direction, order, start, start + n, taps, weights, offsets, n_floats)
        for j in range(n):
            cell, w = offsets[2 * j], 16 * j
            total = splat(np.float32(0), record)
            for row in range(5):
                part = splat(weights[w], record) * load(grid, cell, record)
                for tap in range(1, 5):
                    value = load(grid, cell + tap * n_floats, record)
                    part = part + splat(weights[w + tap], record) * value
                total = total + splat(weights[w + 8 + row], record) * part
                cell += pitch
            store(samples, offsets[2 * j + 1], total)


@kernel
def _to_rows(
    samples: Any,
    n_padded: int,
    signs: Any,
    factor: Any,
    factors: Any,
    table: Any,
    values: Any,
    starts: Any,
    pitch: int,
    n_slices: int,
    n_cols: int,
    work: Any,
    lanes: Any,
) -> None:
    """Fill the rows of the angles of a chunk from their samples.

    Row s of the angle i lies in the flat `values` from `starts[i] + s * pitch` on. `signs`
    (n_chunk,): -1 to conjugate; `factor` ((P/2 + 1) * 2 * L,): exp(-2 pi i k cor / P) times 2 / P,
    half of it in the first and last bin; `factors`, `table`: the transform of length P; `work`:
    scratch (4 * P * L,).
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    zero = splat(np.float32(0), lanes)
    n_bins = n_padded // 2 + 1
    for i in range(len(starts)):
        sign = splat(signs[i], lanes)
        for k in range(n_bins):
            re, im = load_pair(samples, (i * n_bins + k) * record, lanes)
            fr, fi = load_pair(factor, k * record, lanes)
            im = im * sign
            store_pair(work, k * record, re * fr - im * fi, re * fi + im * fr, lanes)
        for k in range(n_bins, n_padded):
            store_pair(work, k * record, zero, zero, lanes)
        begin = fft(work, np.int64(0), work, n_padded, factors, table, lanes)
        for j in range(n_slices):
            for c in range(n_cols):
                values[starts[i] + j * pitch + c] = work[begin + c * record + j]
