"""Fourier transforms of many signals at once, the signals innermost.

Point j of all signals is one record of 2 L floats: L real parts, then L imaginary parts. Each
butterfly works on whole vectors, and no twiddle factor is loaded more than once per vector: four
times as fast as a library that transforms signal after signal. Stockham's algorithm with factors
5, 3, 8, 4, 2; the sign of the exponent is always +. Real signals of length 2 h are complex ones of
length h whose real parts are the even points.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.jit import kernel
from tomopipe.recon.simd import load_pair, splat, store_pair


def factors_of(n: int) -> NDArray[np.int64]:
    """Return the radices of a transform of length n, which has no factors but 2, 3 and 5."""
    results = []
    rest = n
    for radix in (5, 3, 8, 4, 2):
        while rest % radix == 0:
            results.append(radix)
            rest //= radix
    if rest != 1:
        raise ValueError(f"transform length: expected factors 2, 3 and 5 only, got {n}")
    if results[-1:] == [2] and results[-2:-1] == [8]:
        results[-2:] = [4, 4]  # 8 times 2 costs more
    return np.array(results, dtype=np.int64)


def twiddles_of(n: int) -> NDArray[np.float32]:
    """Return the twiddle factors of all passes, (re, im) pairs in the order of their use."""
    table: list[NDArray[np.complex128]] = [np.empty(0, dtype=np.complex128)]
    length = n
    for radix in factors_of(n):
        p = np.arange(length // radix)[:, None]
        table.append(np.exp(2j * np.pi * p * np.arange(1, radix) / length).ravel())
        length //= radix
    return np.concatenate(table).astype(np.complex64).view(np.float32)


@lru_cache
def tables_of(n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return radices and twiddle factors of a transform of length n, as `fft` needs them."""
    return factors_of(n), twiddles_of(n)


@lru_cache
def real_twiddles_of(n: int) -> NDArray[np.float32]:
    """Return exp(2 pi i k / n) for k = 0 ... n // 2 as (re, im) pairs."""
    return np.exp(2j * np.pi * np.arange(n // 2 + 1) / n).astype(np.complex64).view(np.float32)


@kernel
def _twiddle(table: Any, t: int, lanes: Any) -> Any:
    return splat(table[t], lanes), splat(table[t + 1], lanes)


@kernel
def _put(dst: Any, index: int, re: Any, im: Any, twiddle: Any, lanes: Any) -> None:
    """Store a record times a twiddle factor."""
    wr, wi = twiddle
    store_pair(dst, index, re * wr - im * wi, re * wi + im * wr, lanes)


@kernel
def _pass2(
    src: Any, a: int, dst: Any, b: int, m: int, s: int, table: Any, t: int, lanes: Any
) -> None:
    n_lanes = len(lanes)
    step = 2 * n_lanes * s
    for p in range(m):
        w = _twiddle(table, t, lanes)
        t += 2
        for q in range(s):
            i = a + 2 * n_lanes * (q + s * p)
            o = b + 2 * n_lanes * (q + s * 2 * p)
            r0, i0 = load_pair(src, i, lanes)
            r1, i1 = load_pair(src, i + step * m, lanes)
            store_pair(dst, o, r0 + r1, i0 + i1, lanes)
            _put(dst, o + step, r0 - r1, i0 - i1, w, lanes)


@kernel
def _pass3(
    src: Any, a: int, dst: Any, b: int, m: int, s: int, table: Any, t: int, lanes: Any
) -> None:
    n_lanes = len(lanes)
    step = 2 * n_lanes * s
    half, root = splat(np.float32(0.5), lanes), splat(np.float32(0.8660254037844386), lanes)
    for p in range(m):
        w1 = _twiddle(table, t, lanes)
        w2 = _twiddle(table, t + 2, lanes)
        t += 4
        for q in range(s):
            i = a + 2 * n_lanes * (q + s * p)
            o = b + 2 * n_lanes * (q + s * 3 * p)
            r0, i0 = load_pair(src, i, lanes)
            r1, i1 = load_pair(src, i + step * m, lanes)
            r2, i2 = load_pair(src, i + 2 * step * m, lanes)
            tr, ti = r1 + r2, i1 + i2
            vr, vi = root * (r1 - r2), root * (i1 - i2)
            ur, ui = r0 - half * tr, i0 - half * ti
            store_pair(dst, o, r0 + tr, i0 + ti, lanes)
            _put(dst, o + step, ur - vi, ui + vr, w1, lanes)
            _put(dst, o + 2 * step, ur + vi, ui - vr, w2, lanes)


@kernel
def _pass4(
    src: Any, a: int, dst: Any, b: int, m: int, s: int, table: Any, t: int, lanes: Any
) -> None:
    n_lanes = len(lanes)
    step = 2 * n_lanes * s
    for p in range(m):
        w1 = _twiddle(table, t, lanes)
        w2 = _twiddle(table, t + 2, lanes)
        w3 = _twiddle(table, t + 4, lanes)
        t += 6
        for q in range(s):
            i = a + 2 * n_lanes * (q + s * p)
            o = b + 2 * n_lanes * (q + s * 4 * p)
            r0, i0 = load_pair(src, i, lanes)
            r1, i1 = load_pair(src, i + step * m, lanes)
            r2, i2 = load_pair(src, i + 2 * step * m, lanes)
            r3, i3 = load_pair(src, i + 3 * step * m, lanes)
            er, ei, fr, fi = r0 + r2, i0 + i2, r0 - r2, i0 - i2
            gr, gi, hr, hi = r1 + r3, i1 + i3, r1 - r3, i1 - i3
            store_pair(dst, o, er + gr, ei + gi, lanes)
            _put(dst, o + step, fr - hi, fi + hr, w1, lanes)
            _put(dst, o + 2 * step, er - gr, ei - gi, w2, lanes)
            _put(dst, o + 3 * step, fr + hi, fi - hr, w3, lanes)


@kernel
def _pass5(
    src: Any, a: int, dst: Any, b: int, m: int, s: int, table: Any, t: int, lanes: Any
) -> None:
    n_lanes = len(lanes)
    step = 2 * n_lanes * s
    c1, s1 = (
        splat(np.float32(0.30901699437494745), lanes),
        splat(np.float32(0.9510565162951535), lanes),
    )
    c2, s2 = (
        splat(np.float32(-0.8090169943749475), lanes),
        splat(np.float32(0.5877852522924731), lanes),
    )
    for p in range(m):
        for q in range(s):
            i = a + 2 * n_lanes * (q + s * p)
            o = b + 2 * n_lanes * (q + s * 5 * p)
            r0, i0 = load_pair(src, i, lanes)
            r1, i1 = load_pair(src, i + step * m, lanes)
            r2, i2 = load_pair(src, i + 2 * step * m, lanes)
            r3, i3 = load_pair(src, i + 3 * step * m, lanes)
            r4, i4 = load_pair(src, i + 4 * step * m, lanes)
            ar, ai, br, bi = r1 + r4, i1 + i4, r2 + r3, i2 + i3
            dr, di, er, ei = r1 - r4, i1 - i4, r2 - r3, i2 - i3
            store_pair(dst, o, r0 + ar + br, i0 + ai + bi, lanes)
            ur, ui = r0 + c1 * ar + c2 * br, i0 + c1 * ai + c2 * bi
            vr, vi = s1 * dr + s2 * er, s1 * di + s2 * ei
            _put(dst, o + step, ur - vi, ui + vr, _twiddle(table, t, lanes), lanes)
            _put(dst, o + 4 * step, ur + vi, ui - vr, _twiddle(table, t + 6, lanes), lanes)
            ur, ui = r0 + c2 * ar + c1 * br, i0 + c2 * ai + c1 * bi
            vr, vi = s2 * dr - s1 * er, s2 * di - s1 * ei
            _put(dst, o + 2 * step, ur - vi, ui + vr, _twiddle(table, t + 2, lanes), lanes)
            _put(dst, o + 3 * step, ur + vi, ui - vr, _twiddle(table, t + 4, lanes), lanes)
        t += 8


@kernel
def _pass8(
    src: Any, a: int, dst: Any, b: int, m: int, s: int, table: Any, t: int, lanes: Any
) -> None:
    n_lanes = len(lanes)
    step = 2 * n_lanes * s
    root = splat(np.float32(0.7071067811865476), lanes)
    for p in range(m):
        for q in range(s):
            i = a + 2 * n_lanes * (q + s * p)
            o = b + 2 * n_lanes * (q + s * 8 * p)
            r0, i0 = load_pair(src, i, lanes)
            r4, i4 = load_pair(src, i + 4 * step * m, lanes)
            r2, i2 = load_pair(src, i + 2 * step * m, lanes)
            r6, i6 = load_pair(src, i + 6 * step * m, lanes)
            ar, ai, br, bi = r0 + r4, i0 + i4, r0 - r4, i0 - i4
            cr, ci, dr, di = r2 + r6, i2 + i6, r2 - r6, i2 - i6
            e0r, e0i, e2r, e2i = ar + cr, ai + ci, ar - cr, ai - ci
            e1r, e1i, e3r, e3i = br - di, bi + dr, br + di, bi - dr
            r1, i1 = load_pair(src, i + step * m, lanes)
            r5, i5 = load_pair(src, i + 5 * step * m, lanes)
            r3, i3 = load_pair(src, i + 3 * step * m, lanes)
            r7, i7 = load_pair(src, i + 7 * step * m, lanes)
            ar, ai, br, bi = r1 + r5, i1 + i5, r1 - r5, i1 - i5
            cr, ci, dr, di = r3 + r7, i3 + i7, r3 - r7, i3 - i7
            o0r, o0i, o2r, o2i = ar + cr, ai + ci, ci - ai, ar - cr  # o2 times i
            br, bi, dr, di = br - di, bi + dr, br + di, bi - dr
            o1r, o1i = root * (br - bi), root * (br + bi)  # times exp(i pi / 4)
            o3r, o3i = root * (dr + di), root * (dr - di)  # times exp(3 i pi / 4): (-o3r, o3i)
            store_pair(dst, o, e0r + o0r, e0i + o0i, lanes)
            _put(dst, o + step, e1r + o1r, e1i + o1i, _twiddle(table, t, lanes), lanes)
            _put(dst, o + 2 * step, e2r + o2r, e2i + o2i, _twiddle(table, t + 2, lanes), lanes)
            _put(dst, o + 3 * step, e3r - o3r, e3i + o3i, _twiddle(table, t + 4, lanes), lanes)
            _put(dst, o + 4 * step, e0r - o0r, e0i - o0i, _twiddle(table, t + 6, lanes), lanes)
            _put(dst, o + 5 * step, e1r - o1r, e1i - o1i, _twiddle(table, t + 8, lanes), lanes)
            _put(dst, o + 6 * step, e2r - o2r, e2i - o2i, _twiddle(table, t + 10, lanes), lanes)
            _put(dst, o + 7 * step, e3r + o3r, e3i - o3i, _twiddle(table, t + 12, lanes), lanes)
        t += 14


@kernel
def fft(src: Any, start: int, work: Any, n: int, factors: Any, table: Any, lanes: Any) -> int:
    """Transform n records, in the flat `src` from element `start` on.

    `work` (2 * n * 2 * L,) is scratch, and holds the result from the element on that is returned: 0
    or n * 2 * L; `src` may be `work` with `start` = 0. `factors` and `table` are from `factors_of`
    and `twiddles_of`; `lanes`: the width, a tuple of length L.
    """
    size = n * 2 * len(lanes)
    target = size if start == 0 else 0
    stride, length, t = np.int64(1), n, np.int64(0)  # constants would be compiled as variants
    for radix in factors:
        m = length // radix
        if radix == 4:
            _pass4(src, start, work, target, m, stride, table, t, lanes)
        elif radix == 8:
            _pass8(src, start, work, target, m, stride, table, t, lanes)
        elif radix == 2:
            _pass2(src, start, work, target, m, stride, table, t, lanes)
        elif radix == 3:
            _pass3(src, start, work, target, m, stride, table, t, lanes)
        else:
            _pass5(src, start, work, target, m, stride, table, t, lanes)
        t += 2 * m * (radix - 1)
        src, start, target = work, target, size - target
        stride *= radix
        length = m
    return start
