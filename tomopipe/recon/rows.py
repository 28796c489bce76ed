"""Sinogram rows to samples on rays, compiled: pad, transform, filter, centre; slices innermost."""

from typing import Any

import numpy as np

from tomopipe.recon.jit import kernel
from tomopipe.recon.lanefft import fft
from tomopipe.recon.simd import finite_or_zero, load, load_pair, splat, store, store_pair, transpose


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
            column += n_lanes
    for c in range(column, n_cols):
        for j in range(n_lanes):
            out[c * n_lanes + j] = flat[start + c + j * pitch] if j < n_slices else 0.0
    for c in range(n_cols):
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
