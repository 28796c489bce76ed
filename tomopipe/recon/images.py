"""Half grids to images, compiled: fold, transform, crop, correct; slices innermost."""

from typing import Any

import numpy as np

from tomopipe.recon.jit import kernel
from tomopipe.recon.lanefft import fft
from tomopipe.recon.plan import MARGIN
from tomopipe.recon.simd import load, load_pair, splat, store, store_pair, transpose

TOGETHER = 4  # columns gathered at once: neighbours in memory


@kernel
def fold(grid: Any, n_grid: int, lanes: Any) -> None:
    """Fold the margins in; see `tomopipe.recon.portable.fold`."""
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
    keep = np.empty(n_grid * record, dtype=np.float32)
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
def transform_rows(
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
def transform_columns(
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

    `grid` is from `transform_rows`. `correction` (n_cols,): one over the kernel's transform of each
    row; `factors`, `table`, `phases`: the transform of length M / 2, and exp(2 pi i k / M); `work`:
    scratch ((TOGETHER + 2) * M * L,).
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    pitch = (n_grid + 2 * MARGIN) * record
    n_rows = len(correction)
    spectra = work[: TOGETHER * n_grid * n_lanes]
    scratch = work[len(spectra) :]
    for column in range(first, last, TOGETHER):
        n = min(TOGETHER, last - column)
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
def unpack(
    grid: Any, n_grid: int, images: Any, first: int, last: int, work: Any, lanes: Any
) -> None:
    """Copy rows first ... last - 1 of all slices, from `transform_columns`, to the images.

    `images` is (n_slices, n_cols, n_cols), n_slices at most L; `work`: scratch for one row of each
    slice (L * (n_cols + 2 * L),). Writing to the images directly would, where n_cols is a power of
    two, put all slices in the same few lines of the cache.
    """
    n_lanes = len(lanes)
    record = 2 * n_lanes
    n_slices, _, n_cols = images.shape
    flat = images.reshape(-1)
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
                store(flat, to + c, load(work, j * pitch + c, lanes))
            for c in range(n_cols - n_cols % n_lanes, n_cols):
                flat[to + c] = work[j * pitch + c]
