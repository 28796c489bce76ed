"""Spreading on the grid, compiled: samples in the order of grid tiles, slices innermost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.recon import kernel as kaiser
from tomopipe.recon.jit import kernel
from tomopipe.recon.plan import MARGIN, Plan
from tomopipe.recon.simd import halves, lane, load, prefetch, store

TILE = 8  # cells; a tile of 16 slices with its margin fits in the first-level cache
BAND = 32  # cells; bands of one parity can be filled at the same time, being wider than the kernel
AHEAD = 8  # samples
WIDE = (0,) * 16


@dataclass(frozen=True, eq=False)
class Chunk:
    """Angles spread together: neighbours in direction, hence a wedge of the grid."""

    angles: slice  # of the plan's order
    direction: NDArray[np.float64]  # (n_chunk, 2) grid cells per bin
    order: NDArray[np.uint32]  # (n_chunk * n_bins,) angle in the chunk << 16 | bin, tile by tile
    even: list[tuple[int, int]]  # pieces of `order` that touch disjoint parts of the grid
    odd: list[tuple[int, int]]


def chunks_of(plan: Plan, n_chunk: int) -> list[Chunk]:
    """Order the samples of a plan; done once per chunk size and kept in the plan."""
    key = ("chunks", n_chunk)
    if key not in plan.cache:
        edges = range(0, plan.n_angles, n_chunk)
        plan.cache[key] = [_chunk(plan, slice(a, min(a + n_chunk, plan.n_angles))) for a in edges]
    return plan.cache[key]


def _chunk(plan: Plan, angles: slice) -> Chunk:
    direction = plan.direction[angles] * (plan.n_grid / plan.n_padded)
    along = int(abs(direction[:, 1]).sum() > abs(direction[:, 0]).sum())
    n_bins = plan.n_padded // 2 + 1
    order, starts = _sort(direction, n_bins, along, plan.n_grid)
    half = (len(starts) - 1) // 2  # bands of even number come first
    pieces = [(int(a), int(b)) for a, b in itertools.pairwise(starts)]
    return Chunk(
        angles=angles,
        direction=direction,
        order=order,
        even=[piece for piece in pieces[:half] if piece[1] > piece[0]],
        odd=[piece for piece in pieces[half:] if piece[1] > piece[0]],
    )


@kernel
def _tile(dx: float, dy: float, along: int, n_half: int, n_bands: int, n_tiles: int) -> Any:
    """Return the rank of a sample's tile: parity of the band, band, place in the band."""
    x, y = np.int64(np.floor(dx)) + n_half, np.int64(np.floor(dy))
    a, b = (y, x) if along else (x, y)
    band = a // BAND
    rank = (band % 2) * n_bands + band // 2
    return (rank * n_tiles + b // TILE) * (BAND // TILE) + (a % BAND) // TILE


@kernel
def _sort(direction: Any, n_bins: int, along: int, n_grid: int) -> Any:
    """Sort samples by tile, counting."""
    n_half = n_grid // 2 + 1
    n_bands = n_grid // BAND // 2 + 2
    n_tiles = n_grid // TILE + 2
    in_band = n_tiles * (BAND // TILE)
    count = np.zeros(2 * n_bands * in_band + 1, dtype=np.int64)
    for a in range(len(direction)):
        for k in range(n_bins):
            dx, dy = direction[a, 0] * k, direction[a, 1] * k
            count[_tile(dx, dy, along, n_half, n_bands, n_tiles) + 1] += 1
    count = np.cumsum(count)
    starts = count[::in_band].copy()
    order = np.empty(len(direction) * n_bins, dtype=np.uint32)
    for a in range(len(direction)):
        for k in range(n_bins):
            dx, dy = direction[a, 0] * k, direction[a, 1] * k
            tile = _tile(dx, dy, along, n_half, n_bands, n_tiles)
            order[count[tile]] = (a << 16) | k
            count[tile] += 1
    return order, starts


def tap_table(beta: float) -> NDArray[np.float32]:
    """Return the taps' polynomials, highest power first: x in the lanes from 0, y from 8 on."""
    polynomials = kaiser.tap_polynomials(kaiser.WIDTH, beta)[::-1]
    table = np.zeros((len(polynomials), 16), dtype=np.float32)
    table[:, : kaiser.WIDTH] = table[:, 8 : 8 + kaiser.WIDTH] = polynomials
    return table.ravel()


@kernel
def _add(grid: Any, at: int, value: Any, w: Any, record: Any) -> None:
    """Add a sample to five neighbouring cells of a row."""
    one = len(record)
    store(grid, at, load(grid, at, record) + lane(w, 0, record) * value)
    at += one
    store(grid, at, load(grid, at, record) + lane(w, 1, record) * value)
    at += one
    store(grid, at, load(grid, at, record) + lane(w, 2, record) * value)
    at += one
    store(grid, at, load(grid, at, record) + lane(w, 3, record) * value)
    at += one
    store(grid, at, load(grid, at, record) + lane(w, 4, record) * value)


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
    record: Any,
) -> None:
    """Add a piece of the ordered samples to the half grids.

    Parameters
    ----------
    grid : ndarray of float32, shape (rows * columns * 2 * L,)
        Half grids with margins, slices innermost.
    n_grid : int
        M.
    samples : ndarray of float32, shape (n_chunk * n_bins * 2 * L,)
        Samples of a chunk.
    n_bins : int
        Samples per ray.
    direction, order, first, last
        See `Chunk`; order[first:last] is spread.
    taps : ndarray of float32, shape ((DEGREE + 1) * 16,)
        From `tap_table`.
    record : tuple of length 2 L
        The width of a record.
    """
    one = len(record)
    pitch = (n_grid + 2 * MARGIN) * one
    n_taps = len(taps) // 16
    end = len(order) - 1
    for i in range(first, last):
        code = np.int64(order[i])
        a, k = code >> 16, code & 0xFFFF
        soon = np.int64(order[min(i + AHEAD, end)])
        ahead = ((soon >> 16) * n_bins + (soon & 0xFFFF)) * one
        prefetch(samples, ahead)
        prefetch(samples, ahead + one // 2)
        x, y = direction[a, 0] * k, direction[a, 1] * k
        cx, cy = np.ceil(x - 2.5), np.ceil(y - 2.5)
        t = halves(np.float32(2 * (cx - x) + 4), np.float32(2 * (cy - y) + 4), WIDE)
        w = load(taps, 0, WIDE)
        for d in range(1, n_taps):
            w = w * t + load(taps, 16 * d, WIDE)
        value = load(samples, (a * n_bins + k) * one, record)
        at = (np.int64(cy) + MARGIN) * pitch + (np.int64(cx) + n_grid // 2 + MARGIN) * one
        _add(grid, at, lane(w, 8, record) * value, w, record)
        _add(grid, at + pitch, lane(w, 9, record) * value, w, record)
        _add(grid, at + 2 * pitch, lane(w, 10, record) * value, w, record)
        _add(grid, at + 3 * pitch, lane(w, 11, record) * value, w, record)
        _add(grid, at + 4 * pitch, lane(w, 12, record) * value, w, record)
