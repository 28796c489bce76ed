"""The stages of the reconstruction compiled for the CPU.

Sixteen slices are innermost: coordinates, weights and addresses are computed once for all. Angles
are processed in chunks (wedges of the spectrum), so that the samples of a chunk stay in cache
between the transform of the rows and the spreading, and memory does not grow with the angles.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon import lanefft
from tomopipe.recon.angular_sampling import overlap_weights
from tomopipe.recon.jit import Team, aligned_empty, kernel, parts, thread_count
from tomopipe.recon.lanefft import fft
from tomopipe.recon.plan import MARGIN, Plan, angles_at_once
from tomopipe.recon.rows import Rows
from tomopipe.recon.simd import load, load_pair, splat, store, store_pair, transpose
from tomopipe.recon.spread import (
    BATCH,
    Chunk,
    chunks_of,
    rows_to_samples,
    scratch,
    spread,
    spread_spectra,
    tap_table,
)

MIN_LANES = 4
_TOGETHER = 4  # columns gathered at once: neighbours in memory

_Rows = tuple[NDArray[np.float32], NDArray[np.intp], int, int, int]  # of `rows_to_samples`


def reconstruct_batch(
    sinograms: NDArray[np.float32] | Rows,
    plan: Plan,
    cor_px: NDArray[np.float64],
    images: NDArray[np.float32],
    threads: int | None = None,
) -> None:
    """Reconstruct a few slices at once, into contiguous `images` (n_slices, n_cols, n_cols).

    Sinograms are (n_slices or 1, n_angles, n_cols): one for each slice, or one for all. `cor_px` is
    (n_slices,), n_slices <= plan.batch_size; threads None: the cores this process may use.
    """
    weights = overlap_weights(plan.n_cols, cor_px, plan.unpaired) if plan.full_rotation else None
    if isinstance(sinograms, Rows):
        rows_of = partial(_computed_rows, sinograms.of, weights)
    else:
        if weights is not None:
            sinograms = sinograms * weights
        elif len(sinograms) < len(cor_px):
            sinograms = np.broadcast_to(sinograms, (len(cor_px), *sinograms.shape[1:]))
        rows_of = partial(_stored_rows, np.ascontiguousarray(sinograms, np.float32))
    _reconstruct(partial(_fill_from_rows, rows_of), plan, cor_px, images, threads)


def _stored_rows(sinograms: NDArray[np.float32], angles: NDArray[np.intp]) -> _Rows:
    """Locate the rows of some angles."""
    n_slices, n_angles, n_cols = sinograms.shape
    return sinograms.reshape(-1), angles * n_cols, n_angles * n_cols, n_slices, n_cols


def _computed_rows(
    of: Callable[[NDArray[np.intp]], NDArray[np.float32]],
    weights: NDArray[np.float32] | None,
    angles: NDArray[np.intp],
) -> _Rows:
    """Compute the rows of some angles, and locate them."""
    values = of(angles)
    if weights is not None:
        weights = weights if weights.shape[1] == 1 else weights[:, angles]
        values = values * weights.transpose(1, 0, 2)
    n, n_slices, n_cols = values.shape
    return values.reshape(-1), np.arange(n) * (n_slices * n_cols), n_cols, n_slices, n_cols


def sweep_batch(
    spectra: NDArray[np.complex64],
    plan: Plan,
    cor_px: NDArray[np.float64],
    images: NDArray[np.float32],
    threads: int | None = None,
) -> None:
    """Reconstruct one slice with a few CORs; not over 360 degrees, where rows depend on the COR.

    `spectra` (1, n_angles, P/2 + 1) are the transforms of the padded rows, in the plan's order
    (`portable.padded_spectra`); the rest is as for `reconstruct_batch`.
    """
    _reconstruct(partial(_fill_from_spectra, spectra[0]), plan, cor_px, images, threads)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Slices that are computed together."""

    plan: Plan
    grid: NDArray[np.float32]  # half grids of the slices, innermost
    factor: NDArray[np.float32]  # from `centring_factor`
    lanes: tuple[int, ...]  # tuple of the number of lanes, which fits the slices
    team: Team


def _reconstruct(
    fill: Callable[[_Batch], None],
    plan: Plan,
    cor_px: NDArray[np.float64],
    images: NDArray[np.float32],
    threads: int | None,
) -> None:
    lanes = (0,) * width(len(cor_px), plan.batch_size)
    with half_grid(plan, len(lanes)) as grid, Team(thread_count(threads)) as team:
        batch = _Batch(plan, grid, centring_factor(plan, cor_px, len(lanes)), lanes, team)
        # as bytes, which the C library clears: faster than floats
        team.run(lambda a, b: grid[a:b].view(np.uint8).fill(0), parts(len(grid), team.threads))
        fill(batch)
        _finish(batch, images)


@contextmanager
def half_grid(plan: Plan, n_lanes: int) -> Iterator[NDArray[np.float32]]:
    """Lend half grids of slices, one for each thread that uses the plan at the same time."""
    unused: list[NDArray[np.float32]] = plan.cache.setdefault(("grids", n_lanes), [])
    try:
        grid = unused.pop()
    except IndexError:
        grid = aligned_empty(math.prod(plan.half_grid_shape) * 2 * n_lanes)
    yield grid
    unused.append(grid)


def width(n_slices: int, most: int) -> int:
    """Return the number of lanes for a number of slices: a power of two, at least `MIN_LANES`."""
    width = MIN_LANES
    while width < min(n_slices, most):
        width *= 2
    return width


def _spread_all(
    batch: _Batch, function: Callable[..., None], before: Any, chunk: Chunk, n_more: int, after: Any
) -> None:
    """Spread a chunk: bands of one parity side by side, or all in one call, in the same order.

    `n_more`: floats of scratch of a call, beside that of all.
    """
    n_samples, n_threads, plan = len(chunk.order), batch.team.threads, batch.plan
    before = batch.grid, plan.n_grid, *before, chunk.direction, chunk.order
    taps = taps_of(plan.beta)
    for ranges in (chunk.even, chunk.odd) if n_threads > 1 else ([(0, n_samples)],):
        joined = _joined(ranges, n_samples // (8 * n_threads))
        more = [scratch() + ((aligned_empty(n_more),) if n_more else ()) for _ in joined]
        calls = zip(joined, more, strict=True)
        batch.team.run(function, [(*before, *ends, taps, *own, *after) for ends, own in calls])


def _joined(ranges: list[tuple[int, int]], n_least: int) -> list[tuple[int, int]]:
    """Join ranges until each has `n_least` samples, as a call costs as much as hundreds."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and joined[-1][1] - joined[-1][0] < n_least:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined


def _fill_from_rows(rows_of: Callable[[NDArray[np.intp]], _Rows], batch: _Batch) -> None:
    """Make the samples of sinograms and spread them, chunk by chunk, shared out to the threads."""
    plan, lanes, n_threads = batch.plan, batch.lanes, batch.team.threads
    n_bins = plan.n_padded // 2 + 1
    n_chunk = angles_at_once(plan.n_angles, n_bins)
    samples = aligned_empty(n_chunk * n_bins * 2 * len(lanes))
    transform = lanefft.tables_of(plan.n_padded // 2)
    phases = lanefft.real_twiddles_of(plan.n_padded)
    tables = batch.factor, plan.taper, *transform, phases, samples
    works = [aligned_empty(2 * plan.n_padded * len(lanes)) for _ in range(n_threads)]

    def fill(chunk: Chunk, first: int, last: int, work: NDArray[np.float32]) -> None:
        located = rows_of(plan.angle_order[chunk.angles][first:last])
        of_chunk = chunk.weights, chunk.signs
        rows_to_samples(*located, *of_chunk, *tables, first, work, lanes)

    for chunk in chunks_of(plan, n_chunk):
        shares = zip(parts(len(chunk.weights), n_threads), works, strict=False)
        batch.team.run(fill, [(chunk, *ends, work) for ends, work in shares])
        _spread_all(batch, spread, (samples, n_bins), chunk, 0, (lanes + lanes,))


def _fill_from_spectra(spectra: NDArray[np.complex64], batch: _Batch) -> None:
    """Spread the samples of one slice, one COR per lane, in the order of `_fill_from_rows`."""
    plan, lanes = batch.plan, batch.lanes
    for chunk in chunks_of(plan, angles_at_once(plan.n_angles, plan.n_padded // 2 + 1)):
        before = spectra[chunk.angles], chunk.weights, chunk.signs, batch.factor
        n_more = 2 * len(lanes) * BATCH
        _spread_all(batch, spread_spectra, before, chunk, n_more, (lanes, lanes + lanes))


def centring_factor(plan: Plan, cor_px: NDArray[np.float64], width: int) -> NDArray[np.float32]:
    """Return half the filter times exp(-2 pi i k cor / P) as records, one lane per slice."""
    used = slice(len(cor_px))
    cor_px = cor_px[:1] if (cor_px == cor_px[0]).all() else cor_px  # one for all, mostly
    k = np.arange(plan.n_padded // 2 + 1)[:, None]
    phase = np.exp(-2j * np.pi * ((k / plan.n_padded * cor_px) % 1)) * (plan.gain[:, None] / 2)
    factor = aligned_empty(len(k) * 2 * width).reshape(len(k), 2, width)
    factor[...] = 0
    factor[:, 0, used], factor[:, 1, used] = phase.real, phase.imag
    return factor.ravel()


taps_of = lru_cache(tap_table)


def _finish(batch: _Batch, images: NDArray[np.float32]) -> None:
    """Transform the grid to images."""
    plan, grid, lanes, team = batch.plan, batch.grid, batch.lanes, batch.team
    n_grid, n_cols = plan.n_grid, plan.n_cols
    across, down = plan.correction.astype(np.float32)

    def share_out(stage: Callable[..., None], n: int, n_floats: int, *about: Any) -> None:
        """Give each thread a part of n lines, and scratch of so many floats per lane."""
        size = n_floats * len(lanes)
        calls = [
            (grid, n_grid, *about, *part, aligned_empty(size), lanes)
            for part in parts(n, team.threads)
        ]
        team.run(stage, calls)

    _fold(grid, n_grid, aligned_empty(2 * n_grid * len(lanes)), lanes)
    rows_like = across, *lanefft.tables_of(n_grid)
    share_out(_transform_rows, n_grid // 2 + 1, 4 * n_grid, *rows_like)
    columns_like = down, *lanefft.tables_of(n_grid // 2), lanefft.real_twiddles_of(n_grid)
    size = (_TOGETHER + 2) * n_grid
    share_out(_transform_columns, n_cols, size, *columns_like)
    about = images.reshape(-1), len(images), n_cols
    share_out(_unpack, n_cols, n_cols + 2 * len(lanes), *about)


@kernel
def _fold(grid: Any, n_grid: int, keep: Any, lanes: Any) -> None:
    """Fold the margins in; see `tomopipe.recon.portable.fold`. `keep`: scratch (2 * M * L,)."""
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = (n_grid + 2 * MARGIN) * record
    for row in range(n_grid // 2 + 1 + 2 * MARGIN):
        for c in range(2 * MARGIN):
            low = row * pitch + c * n_lanes
            high = low + n_grid * record
            store(grid, high, load(grid, high, lanes) + load(grid, low, lanes))
            low, high = low + MARGIN * record, high + MARGIN * record
            store(grid, low, load(grid, low, lanes) + load(grid, high, lanes))
    top = MARGIN + n_grid // 2
    for j in range(2 * (MARGIN + 1)):
        row = MARGIN + j if j <= MARGIN else top - (j - MARGIN - 1)
        mirror = MARGIN - j if j <= MARGIN else top + (j - MARGIN - 1)
        start = mirror * pitch + MARGIN * record
        for c in range(2 * n_grid):  # a row may be its own mirror image
            store(keep, c * n_lanes, load(grid, start + c * n_lanes, lanes))
        for c in range(n_grid):
            index = row * pitch + (MARGIN + c) * record
            other = ((n_grid - c) % n_grid) * record
            re, im = load_pair(grid, index, lanes)
            mirror_re, mirror_im = load_pair(keep, other, lanes)
            store_pair(grid, index, re + mirror_re, im - mirror_im, lanes)


@kernel
def _transform_rows(
    grid: Any,
    n_grid: int,
    correction: Any,
    factors: Any,
    table: Any,
    first: int,
    last: int,
    work: Any,
    lanes: Any,
) -> None:
    """Transform rows of the folded grid along x; keep the image's columns, in place.

    Rows first ... last - 1 of `grid` (0 is the spectrum's row 0) are overwritten. `correction`
    (n_cols,): one over the kernel's transform, with sign, of each column; `factors`, `table`: the
    transform of length M = n_grid; `work`: scratch (4 * M * L,); `lanes`: the width, a tuple of
    length L.
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = (n_grid + 2 * MARGIN) * record
    n_cols = len(correction)
    for row in range(first, last):
        start = (row + MARGIN) * pitch + MARGIN * record
        out_start = fft(grid, start, work, n_grid, factors, table, lanes)
        for c in range(n_cols):
            source = out_start + ((c - n_cols // 2) % n_grid) * record
            factor = splat(correction[c], lanes)
            re, im = load_pair(work, source, lanes)
            store_pair(grid, start + c * record, re * factor, im * factor, lanes)


@kernel
def _gather(grid: Any, n_grid: int, column: int, n: int, phases: Any, out: Any, lanes: Any) -> None:
    """Prepare half spectra of n columns for a complex transform of half the length."""
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = (n_grid + 2 * MARGIN) * record
    half = n_grid // 2
    for k in range(half // 2 + 1):
        cr, ci = splat(phases[2 * k], lanes), splat(phases[2 * k + 1], lanes)
        low = (k + MARGIN) * pitch + (MARGIN + column) * record
        high = (half - k + MARGIN) * pitch + (MARGIN + column) * record
        for c in range(n):
            sr, si = load_pair(grid, low + c * record, lanes)
            tr, ti = load_pair(grid, high + c * record, lanes)
            ur, ui, dr, di = sr + tr, si - ti, sr - tr, si + ti
            vr, vi = dr * ci + di * cr, dr * cr - di * ci  # minus, plus: i phase (s - conj t)
            store_pair(out, (c * half + k) * record, ur - vr, ui + vi, lanes)
            if k > 0:
                store_pair(out, (c * half + half - k) * record, ur + vr, vi - ui, lanes)


@kernel
def _transform_columns(
    grid: Any,
    n_grid: int,
    correction: Any,
    factors: Any,
    table: Any,
    phases: Any,
    first: int,
    last: int,
    work: Any,
    lanes: Any,
) -> None:
    """Transform columns to image values, in place: row r then holds the image's rows 2r, 2r + 1.

    `grid` is from `_transform_rows`. `correction` (n_cols,): one over the kernel's transform of
    each row; `factors`, `table`, `phases`: the transform of length M / 2, and exp(2 pi i k / M);
    `work`: scratch ((_TOGETHER + 2) * M * L,).
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = (n_grid + 2 * MARGIN) * record
    n_rows = len(correction)
    spectra = work[: _TOGETHER * n_grid * n_lanes]
    scratch = work[len(spectra) :]
    for column in range(first, last, _TOGETHER):
        n = min(_TOGETHER, last - column)
        _gather(grid, n_grid, column, n, phases, spectra, lanes)
        for i in range(n):
            out_start = fft(
                spectra, i * n_grid * n_lanes, scratch, n_grid // 2, factors, table, lanes
            )
            start = MARGIN * pitch + (MARGIN + column + i) * record
            for y in range(n_rows):
                source = out_start + ((y - (n_rows // 2 - 1)) % n_grid) * n_lanes
                to = start + y // 2 * pitch + y % 2 * n_lanes
                store(grid, to, load(scratch, source, lanes) * splat(correction[y], lanes))


@kernel
def _unpack(
    grid: Any,
    n_grid: int,
    images: Any,
    n_slices: int,
    n_cols: int,
    first: int,
    last: int,
    work: Any,
    lanes: Any,
) -> None:
    """Copy rows first ... last - 1 of all slices, from `_transform_columns`, to the images.

    `images` is the flat (n_slices, n_cols, n_cols), n_slices at most L; `work`: scratch for one row
    of each slice (L * (n_cols + 2 * L),). Writing to the images directly would, where n_cols is a
    power of two, put all slices in the same few lines of the cache.
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = n_cols + 2 * n_lanes
    for y in range(first, last):
        source = ((MARGIN + y // 2) * (n_grid + 2 * MARGIN) + MARGIN) * record + y % 2 * n_lanes
        column = 0
        while column + n_lanes <= n_cols:
            transpose(grid, source + column * record, record, work, column, pitch, lanes)
            column += n_lanes
        for c in range(column, n_cols):
            for j in range(n_lanes):
                work[j * pitch + c] = grid[source + c * record + j]
        for j in range(n_slices):
            to = (j * n_cols + y) * n_cols
            for c in range(0, n_cols - n_lanes + 1, n_lanes):
                store(images, to + c, load(work, j * pitch + c, lanes))
            for c in range(n_cols - n_cols % n_lanes, n_cols):
                images[to + c] = work[j * pitch + c]
