"""Sinogram rows to samples on rays, and these spread on the grid, compiled; slices innermost.

Rows are padded, transformed, filtered and centred; samples lie in the order of grid tiles.
"""

import itertools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.jit import aligned_empty, kernel
from tomopipe.recon.lanefft import fft
from tomopipe.recon.plan import DEGREE, MARGIN, WIDTH, Plan, tap_polynomials
from tomopipe.recon.simd import (
    finite_or_zero,
    halves,
    load,
    load_pair,
    prefetch,
    splat,
    store,
    store_pair,
    transpose,
)


@kernel
def _pack(
    flat: Any, start: int, pitch: int, n_slices: int, n_cols: int, out: Any, taper: Any, lanes: Any
) -> None:
    """Gather one angle of all slices, the slices innermost; pad with the edge values that fade."""
    n_lanes = len(lanes)
    column = 0
    if n_slices == n_lanes:
        while column + n_lanes <= n_cols:
            transpose(flat, start + column, pitch, out, column * n_lanes, n_lanes, lanes)
            for c in range(column, column + n_lanes):
                store(out, c * n_lanes, finite_or_zero(load(out, c * n_lanes, lanes)))
            column += n_lanes
    for c in range(column, n_cols):
        for j in range(n_lanes):
            out[c * n_lanes + j] = flat[start + c + j * pitch] if j < n_slices else 0.0
        store(out, c * n_lanes, finite_or_zero(load(out, c * n_lanes, lanes)))
    n_right = len(taper) // 2
    left, right = load(out, 0, lanes), load(out, (n_cols - 1) * n_lanes, lanes)
    for c in range(n_right):
        store(out, (n_cols + c) * n_lanes, right * splat(taper[c], lanes))
    for c in range(n_right, len(taper)):
        store(out, (n_cols + c) * n_lanes, left * splat(taper[c], lanes))


@kernel
def put_centred(
    re: Any, im: Any, factor: Any, k: int, wr: Any, wi: Any, out: Any, index: int, lanes: Any
) -> None:
    """Store the sample of bin k: spectrum times factor times weight (negative to conjugate)."""
    fr, fi = load_pair(factor, 2 * len(lanes) * k, lanes)
    store_pair(out, index, (re * fr - im * fi) * wr, (re * fi + im * fr) * wi, lanes)


@kernel
def rows_to_samples(
    values: Any,
    starts: Any,
    pitch: int,
    n_slices: int,
    n_cols: int,
    weights: Any,
    signs: Any,
    factor: Any,
    taper: Any,
    factors: Any,
    table: Any,
    phases: Any,
    samples: Any,
    first: int,
    work: Any,
    lanes: Any,
) -> None:
    """Fill the samples of some angles, neighbours in a chunk, from `first` in it on.

    Row s of the angle i lies in the flat `values` from `starts[i] + s * pitch` on: n_slices rows,
    at most L, of n_cols columns. `weights`, `signs` (n_chunk,): weight and sign (-1 to conjugate)
    of each projection; `factor` ((P/2 + 1) * 2 * L,): half the filter times exp(-2 pi i k cor / P),
    for each bin and slice; `taper`: share of the edge values in the P - n_cols columns of padding;
    `factors`, `table`, `phases`: the transform of length P/2, and exp(2 pi i k / P); `samples`
    (n_chunk * (P/2 + 1) * 2 * L,): output; `work`: scratch (2 * P * L,); `lanes`: a tuple of length
    L.
    """
    n_lanes = len(lanes)
    half = (n_cols + len(taper)) // 2
    for i in range(len(starts)):
        a = first + i
        _pack(values, starts[i], pitch, n_slices, n_cols, work, taper, lanes)
        out_start = fft(work, np.int64(0), work, half, factors, table, lanes)
        wr, wi = splat(weights[a], lanes), splat(weights[a] * signs[a], lanes)
        out = a * (half + 1) * 2 * n_lanes
        for k in range(half // 2 + 1):
            # the spectra of the even and of the odd points, times 2, from one bin and its mirror
            b, m = out_start + 2 * n_lanes * k, out_start + 2 * n_lanes * ((half - k) % half)
            sr, si = load_pair(work, b, lanes)
            tr, ti = load_pair(work, m, lanes)
            er, ei, dr, di = sr + tr, si - ti, sr - tr, si + ti
            cr, ci = splat(phases[2 * k], lanes), splat(phases[2 * k + 1], lanes)
            vr, vi = dr * ci + di * cr, di * ci - dr * cr  # -i phase (s - conj t)
            to, mirror = out + 2 * n_lanes * k, out + 2 * n_lanes * (half - k)
            put_centred(er + vr, ei + vi, factor, k, wr, wi, samples, to, lanes)
            put_centred(er - vr, vi - ei, factor, half - k, wr, wi, samples, mirror, lanes)


TILE = 8  # cells; a tile of 16 slices with its margin fits in the first-level cache
BAND = 32  # cells; bands of one parity can be filled at the same time, being wider than the kernel
BATCH = 64  # samples whose weights are evaluated ahead
WIDE = (0,) * 16


@dataclass(frozen=True, eq=False)
class Chunk:
    """Angles spread together: neighbours in direction, hence a wedge of the grid."""

    angles: slice  # of the plan's order
    direction: NDArray[np.float64]  # (n_chunk, 2) grid cells per bin
    weights: NDArray[np.float32]  # (n_chunk,) of the projections
    signs: NDArray[np.float32]  # (n_chunk,) -1 to conjugate a projection
    order: NDArray[np.uint32]  # (n_chunk * n_bins,) angle in the chunk << 16 | bin, tile by tile
    even: list[tuple[int, int]]  # ranges of `order` that touch disjoint parts of the grid
    odd: list[tuple[int, int]]


_ordering = threading.Lock()


def chunks_of(plan: Plan, n_chunk: int) -> list[Chunk]:
    """Order the samples of a plan; done once per chunk size and kept in the plan."""
    key = ("chunks", n_chunk)
    with _ordering:  # threads that begin together wait for the first
        if key not in plan.cache:
            edges = [*range(0, plan.n_angles, n_chunk), plan.n_angles]
            plan.cache[key] = [_chunk(plan, slice(a, b)) for a, b in itertools.pairwise(edges)]
        chunks: list[Chunk] = plan.cache[key]
    return chunks


def _chunk(plan: Plan, angles: slice) -> Chunk:
    direction = plan.direction[angles] * (plan.n_grid / plan.n_padded)
    along = int(abs(direction[:, 1]).sum() > abs(direction[:, 0]).sum())
    order, starts = _sort(direction, plan.n_padded // 2 + 1, along, plan.n_grid)
    half = (len(starts) - 1) // 2  # bands of even number come first
    ranges = [(int(a), int(b)) for a, b in itertools.pairwise(starts)]
    return Chunk(
        angles=angles,
        direction=direction,
        weights=plan.weight[angles].astype(np.float32),
        signs=np.where(plan.flipped[angles], np.float32(1), np.float32(-1)),
        order=order,
        even=[(a, b) for a, b in ranges[:half] if b > a],
        odd=[(a, b) for a, b in ranges[half:] if b > a],
    )


def _sort(
    direction: NDArray[np.float64], n_bins: int, along: int, n_grid: int
) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Sort samples by band, tile and first cell: by cell in the tile, then by tile, counting."""
    n_bands = n_grid // BAND // 2 + 2
    n_tiles = n_grid // TILE + 3
    in_band = n_tiles * (BAND // TILE)
    n_samples = len(direction) * n_bins
    code = np.empty(n_samples, dtype=np.uint32)
    tile, in_tile = np.empty((2, n_samples), dtype=np.int32)
    _place(direction, n_bins, along, n_grid, n_bands, n_tiles, code, tile, in_tile)
    by_cell, _ = _counted(in_tile, np.arange(n_samples, dtype=np.int32), TILE * TILE)
    by_tile, starts = _counted(tile, by_cell, 2 * n_bands * in_band)
    return code[by_tile], starts[::in_band].copy()


def _counted(
    key: NDArray[np.int32], before: NDArray[np.int32], n_keys: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sort indices by key, keeping the order of equals; return where each key starts, too."""
    starts, order = np.zeros(n_keys + 1, dtype=np.int32), np.empty_like(before)
    _count(key, before, starts, np.empty_like(starts), order)
    return order, starts


@kernel
def _place(
    direction: Any,
    n_bins: int,
    along: int,
    n_grid: int,
    n_bands: int,
    n_tiles: int,
    code: Any,
    tile: Any,
    in_tile: Any,
) -> None:
    """Number samples (angle << 16 | bin), and find band and tile, and the cell in the tile."""
    for a in range(len(direction)):
        for k in range(n_bins):
            x = np.int64(np.ceil(direction[a, 0] * k - 2.5)) + n_grid // 2 + MARGIN
            y = np.int64(np.ceil(direction[a, 1] * k - 2.5)) + MARGIN
            u, v = (y, x) if along else (x, y)
            band = u // BAND
            rank = (band % 2) * n_bands + band // 2
            i = a * n_bins + k
            code[i] = (a << 16) | k
            tile[i] = (rank * n_tiles + v // TILE) * (BAND // TILE) + u % BAND // TILE
            in_tile[i] = y % TILE * TILE + x % TILE


@kernel
def _count(key: Any, before: Any, starts: Any, following: Any, order: Any) -> None:
    for value in key:
        starts[value + 1] += 1
    following[0] = 0
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
        following[k] = starts[k]
    for i in before:
        order[following[key[i]]] = i
        following[key[i]] += 1


def tap_table(beta: float) -> NDArray[np.float32]:
    """Return the taps' polynomials, highest power first: x in the lanes from 0, y from 8 on."""
    polynomials = tap_polynomials(beta)[::-1]
    table = np.zeros((len(polynomials), 16), dtype=np.float32)
    table[:, :WIDTH] = table[:, 8 : 8 + WIDTH] = polynomials
    return table.ravel()


def scratch() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return memory for taps and addresses of a batch of samples, for one call."""
    return aligned_empty(16 * BATCH), np.empty(2 * BATCH + 2, dtype=np.int64)


@kernel
def weigh(
    n_grid: int,
    n_bins: int,
    direction: Any,
    order: Any,
    first: int,
    last: int,
    taps: Any,
    weights: Any,
    offsets: Any,
    n_floats: int,
) -> None:
    """Evaluate taps and addresses of some samples; apart, so that their latency is hidden."""
    pitch = n_grid + 2 * MARGIN
    for i in range(first, last):
        a, k = np.int64(order[i]) >> 16, np.int64(order[i]) & 0xFFFF
        x, y = direction[a, 0] * k, direction[a, 1] * k
        cx, cy = np.ceil(x - 2.5), np.ceil(y - 2.5)
        t = halves(np.float32(2 * (cx - x) + 4), np.float32(2 * (cy - y) + 4), WIDE)
        w = load(taps, 0, WIDE)
        for d in range(DEGREE):
            w = w * t + load(taps, 16 * (d + 1), WIDE)
        store(weights, 16 * (i - first), w)
        cell = (np.int64(cy) + MARGIN) * pitch + np.int64(cx) + n_grid // 2 + MARGIN
        offsets[2 * (i - first)] = cell * n_floats
        offsets[2 * (i - first) + 1] = (a * n_bins + k) * n_floats


@kernel
def _add_run(
    grid: Any, pitch: int, samples: Any, weights: Any, offsets: Any, i: int, end: int, record: Any
) -> None:
    """Add samples of the same cells: five cells at a time stay in registers."""
    n_floats = len(record)
    cell = offsets[2 * i]
    for row in range(5):
        g0, g1 = load(grid, cell, record), load(grid, cell + n_floats, record)
        g2, g3 = load(grid, cell + 2 * n_floats, record), load(grid, cell + 3 * n_floats, record)
        g4 = load(grid, cell + 4 * n_floats, record)
        for j in range(i, end):
            w = 16 * j
            value = load(samples, offsets[2 * j + 1], record) * splat(weights[w + 8 + row], record)
            g0 = g0 + splat(weights[w], record) * value
            g1 = g1 + splat(weights[w + 1], record) * value
            g2 = g2 + splat(weights[w + 2], record) * value
            g3 = g3 + splat(weights[w + 3], record) * value
            g4 = g4 + splat(weights[w + 4], record) * value
        store(grid, cell, g0)
        store(grid, cell + n_floats, g1)
        store(grid, cell + 2 * n_floats, g2)
        store(grid, cell + 3 * n_floats, g3)
        store(grid, cell + 4 * n_floats, g4)
        cell += pitch


@kernel
def _add_batch(
    grid: Any, pitch: int, samples: Any, weights: Any, offsets: Any, n: int, record: Any
) -> None:
    """Add n samples, run by run of the same cells."""
    n_floats = len(record)
    for j in range(n):
        if j == 0 or offsets[2 * j] != offsets[2 * j - 2]:
            cell = offsets[2 * j] + 4 * n_floats  # those before it are mostly of the run before
            for _ in range(5):
                prefetch(grid, cell)
                prefetch(grid, cell + n_floats // 2)
                cell += pitch
    i = np.int64(0)
    while i < n:
        end = i + 1
        while end < n and offsets[2 * end] == offsets[2 * i]:
            end += 1
        _add_run(grid, pitch, samples, weights, offsets, i, end, record)
        i = end


@kernel
def spread(
    grid: Any,
    n_grid: int,
    samples: Any,
    n_bins: int,
    direction: Any,
    order: Any,
    first: int,
    last: int,
    taps: Any,
    weights: Any,
    offsets: Any,
    record: Any,
) -> None:
    """Add a range of the ordered samples to the half grids (rows * columns * 2 * L,) with margins.

    Slices lie innermost. `samples` (n_chunk * n_bins * 2 * L,) are those of a chunk, order[first :
    last] of which are spread (see `Chunk`); `taps` are from `tap_table`; `weights`, `offsets`:
    `scratch`; `record`: the width of a record, a tuple of length 2 L.
    """
    n_floats = len(record)
    pitch = (n_grid + 2 * MARGIN) * n_floats
    for start in range(first, last, BATCH):
        n = min(BATCH, last - start)
        weigh(n_grid, n_bins, direction, order, start, start + n, taps, weights, offsets, n_floats)
        for j in range(n):
            prefetch(samples, offsets[2 * j + 1])
            prefetch(samples, offsets[2 * j + 1] + n_floats // 2)
        _add_batch(grid, pitch, samples, weights, offsets, n, record)


@kernel
def spread_spectra(
    grid: Any,
    n_grid: int,
    spectra: Any,
    projection_weights: Any,
    signs: Any,
    factor: Any,
    direction: Any,
    order: Any,
    first: int,
    last: int,
    taps: Any,
    weights: Any,
    offsets: Any,
    samples: Any,
    lanes: Any,
    record: Any,
) -> None:
    """Add a range of the ordered samples of one slice to half grids with one COR per lane.

    Samples are made where they are spread, a batch at a time: they never leave the cache. `spectra`
    (n_chunk, n_bins) are the transforms of the padded rows of a chunk; `projection_weights`,
    `signs` and `factor` are as for `rows_to_samples`, `samples` is scratch (BATCH * 2 * L,), the
    rest as for `spread`.
    """
    n_floats = len(record)
    n_bins = spectra.shape[1]
    pitch = (n_grid + 2 * MARGIN) * n_floats
    for start in range(first, last, BATCH):
        n = min(BATCH, last - start)
        weigh(n_grid, n_bins, direction, order, start, start + n, taps, weights, offsets, n_floats)
        for j in range(n):
            a, k = np.int64(order[start + j]) >> 16, np.int64(order[start + j]) & 0xFFFF
            value = np.float32(2) * spectra[a, k]
            re, im = splat(value.real, lanes), splat(-value.imag, lanes)
            wr = splat(projection_weights[a], lanes)
            wi = splat(projection_weights[a] * signs[a], lanes)
            put_centred(re, im, factor, k, wr, wi, samples, j * n_floats, lanes)
            offsets[2 * j + 1] = j * n_floats
        _add_batch(grid, pitch, samples, weights, offsets, n, record)
