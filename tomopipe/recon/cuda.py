"""The engine on a GPU: kernels of its own (`gridding.cu`) between transforms.

Angles are taken in chunks, wedges of the grid, whose samples are written in the order of the
grid's tiles. A tile's samples are summed in shared memory; neighbouring tiles overlap and are added
to the grid atomically: images of two runs agree to float rounding, not to the bit.

If the kernels fail, or do not compile, `tomopipe.recon.portable` computes instead.
"""

import functools
from collections.abc import Callable
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tomopipe.arrays import fft_of
from tomopipe.recon import portable
from tomopipe.recon.angular_sampling import overlap_weights
from tomopipe.recon.plan import (
    MARGIN,
    WIDTH,
    Plan,
    half_grid_shape,
    padded_and_grid_size,
    tap_polynomials,
)

TILE = 8  # cells; a tile with its margin takes 18 kB of shared memory for 16 slices
GPU_ANGLES = 512  # angles whose samples a GPU holds at a time
MAX_RUN = 512  # largest number of samples of a tile per block
STRIPE = 32  # bins, rows or pixels transposed at a time
_THREADS = 256  # threads per block

is_plain = (
    False  # whether to avoid our kernels; decided by `tomopipe.recon.device` once per process
)

SOURCE = "".join(
    f"#define {name} {value}\n"
    for name, value in [
        ("WIDTH", WIDTH), ("TILE", TILE), ("MARGIN", MARGIN), ("STRIPE", STRIPE)
    ]
) + Path(__file__).with_name("gridding.cu").read_text(encoding="utf-8")  # fmt: skip


def reconstruct_batch(
    sinograms: Any, plan: Plan, cor_px: Any, images: Any, *, transformed: bool = False
) -> None:
    """Reconstruct a few slices at once, into contiguous `images` (n_slices, n_cols, n_cols).

    Sinograms (n_slices or 1, n_angles, n_cols) are on the device of the plan; one with many CORs is
    transformed once. If `transformed`, spectra are given instead: `portable.padded_spectra`, angles
    in the plan's order. `cor_px` is (n_slices,), on the host.
    """
    if is_plain:
        portable.reconstruct_batch(sinograms, plan, cor_px, images, transformed=transformed)
        return
    xp, n_slices, n_grid = plan.xp, len(cor_px), plan.n_grid
    tables, (factor, weights) = _tables(plan), _of_cor(plan, cor_px)
    grid = xp.zeros((*plan.half_grid_shape, n_slices), dtype=xp.complex64)
    for first in range(0, plan.n_angles, GPU_ANGLES):
        angles = slice(first, min(first + GPU_ANGLES, plan.n_angles))
        if transformed:
            spectra = xp.ascontiguousarray(sinograms[:, angles])
        else:
            spectra = _spectra(sinograms, plan, weights, angles)
        _spread_spectra(spectra, plan, factor, angles, grid)
        del spectra  # its memory serves the next chunk
    half = xp.empty((n_slices, n_grid, n_grid // 2 + 1), dtype=xp.complex64)
    launch(
        xp, "fold", (-(-half.shape[2] // STRIPE), n_grid), (_THREADS,),
        (grid, half, np.int32(n_grid), np.int32(n_slices)), 8 * n_slices * (STRIPE + 1),
    )  # fmt: skip
    del grid
    whole = fft_of(xp).irfft2(half, norm="forward", overwrite_x=True)
    squares = -(-plan.n_cols // STRIPE)
    launch(
        xp, "crop", (squares, squares, n_slices), (STRIPE, _THREADS // STRIPE),
        (whole, *tables["correction"], images, np.int32(n_grid), np.int32(plan.n_cols)),
        4 * STRIPE * (STRIPE + 1),
    )  # fmt: skip


def engine_bytes(n_angles: int, n_cols: int, batch_size: int) -> int:
    """Return the GPU memory (bytes) of computing slices, without the order of the samples.

    One after the other: padded rows and samples of `GPU_ANGLES` projections, with half grids; half
    grids three times (folded, transformed, and the transform's own, which it keeps).
    """
    n_padded, n_grid = padded_and_grid_size(n_cols)
    grid = 8 * batch_size * prod(half_grid_shape(n_grid))
    samples = min(GPU_ANGLES, n_angles) * (n_padded // 2 + 1)
    # plans of transforms keep as much memory as they transform
    return max(samples * (40 * batch_size + 160) + 2 * grid, 3 * grid + 8 * samples * batch_size)


def sweep_gpu_bytes(n_angles: int, n_cols: int, batch_size: int, *, is_half: bool = False) -> int:
    """Return the GPU memory of a sweep: sinograms, sample order, two batches of slices.

    Sinograms are the spectra that all CORs share; of half acquisition a widened one for each slice.

    Parameters
    ----------
    n_angles, n_cols : int
        Projections, and columns of the detector.
    batch_size : int
        Slices computed at a time.
    is_half : bool
        Whether slices have twice the columns of the detector.

    Returns
    -------
    int
        Bytes.
    """
    n_bins = padded_and_grid_size(n_cols)[0] // 2 + 1
    row = 4 * (batch_size + 2) * n_cols if is_half else 32 * n_bins
    engine = engine_bytes(n_angles, n_cols, batch_size)
    return n_angles * (row + 48 * n_bins) + 8 * batch_size * n_cols**2 + engine


def _tables(plan: Plan) -> dict[str, Any]:
    """Return a plan's arrays for the kernels, copied to the device once."""
    if "tables" not in plan.cache:
        xp = plan.xp
        signs = np.stack([np.ones(plan.n_angles), np.where(plan.flipped, -1, 1)], axis=1)
        plan.cache["tables"] = {
            "angles": xp.asarray(plan.angle_order.astype(np.int32)),
            "weights": xp.asarray((plan.weight[:, None] * signs).astype(np.float32)).view(
                xp.complex64
            ),
            "taper": xp.asarray(plan.taper),
            "unpaired": xp.asarray(plan.unpaired[plan.angle_order])[:, None],
            "correction": [xp.asarray(axis.astype(np.float32)) for axis in plan.correction],
        }
    tables: dict[str, Any] = plan.cache["tables"]
    return tables


def _of_cor(plan: Plan, cor_px: Any) -> tuple[Any, Any]:
    """Return the centring factor of each slice, and the weights of its columns over 360 degrees.

    If all slices share a COR, its arrays are reused for the next batch, which may be smaller.
    """
    n, last = len(cor_px), plan.cache.get("of a COR")
    if last and len(last[1]) >= n and (cor_px == last[0]).all():
        return last[1][:n], last[2]
    xp, weights, is_shared = plan.xp, None, (cor_px == cor_px[0]).all()
    cor = xp.asarray(cor_px)
    factor = _centring_factor(plan, cor)
    if plan.full_rotation:
        several = cor[:1] if is_shared else cor
        weights = overlap_weights(plan.n_cols, several, np.zeros(1, bool), xp)
    if is_shared:
        plan.cache["of a COR"] = float(cor_px[0]), factor, weights
    return factor, weights


def _centring_factor(plan: Plan, cor_px: Any) -> Any:
    """Return filter times phase shift of the axis to 0, for each slice and bin."""
    xp = plan.xp
    cycles = (xp.arange(plan.n_padded // 2 + 1) / plan.n_padded) * cor_px[:, None]
    return (xp.exp(2j * np.pi * (cycles % 1)) * xp.asarray(plan.gain)).astype(xp.complex64)


def _spectra(sinograms: Any, plan: Plan, weights: Any, angles: slice) -> Any:
    """Weigh, pad and transform rows of some angles: (n_slices or 1, n_chunk, n_bins)."""
    xp, tables, chosen = plan.xp, _tables(plan), _tables(plan)["angles"][angles]
    rows, n_chunk = sinograms, len(chosen)
    if plan.full_rotation:
        if plan.unpaired.any():
            weights = xp.where(tables["unpaired"][angles], xp.float32(1), weights)
        rows = rows[:, chosen] * weights
        chosen = xp.arange(n_chunk, dtype=np.int32)
    rows = xp.ascontiguousarray(rows, dtype=xp.float32)
    padded = xp.empty((len(rows), n_chunk, plan.n_padded), dtype=xp.float32)
    launch(
        xp, "pad", (n_chunk, len(rows)), (_THREADS,),
        (rows, chosen, tables["taper"], padded,
         np.int32(rows.shape[1]), np.int32(plan.n_cols), np.int32(plan.n_padded)),
    )  # fmt: skip
    return fft_of(xp).rfft(padded, axis=-1)


def _spread_spectra(spectra: Any, plan: Plan, factor: Any, angles: slice, grid: Any) -> None:
    """Centre the spectra of some angles and add them to half grids (row, column, slice)."""
    xp, (n_slices, n_bins) = plan.xp, factor.shape
    if ("ordered", angles.start) not in plan.cache:
        plan.cache["ordered", angles.start] = ordered_samples(plan, angles)
    rank, cells, weights, runs = plan.cache["ordered", angles.start]
    n_chunk = spectra.shape[1]
    samples = xp.empty((len(cells), n_slices), dtype=xp.complex64)
    pitch = n_chunk * n_bins if len(spectra) > 1 else 0
    launch(
        xp, "centre", (-(-n_bins // STRIPE), n_chunk), (_THREADS,),
        (spectra, factor, _tables(plan)["weights"][angles], rank, samples,
         np.int64(pitch), np.int32(n_bins), np.int32(n_slices)), 8 * n_slices * (STRIPE + 1),
    )  # fmt: skip
    n_cols = plan.half_grid_shape[1]
    launch(
        xp, "spread", (len(runs) - 1,), (2 * n_slices,),
        (samples, cells, weights, runs, grid, np.int32(-(-n_cols // TILE)), np.int32(n_cols)),
        8 * n_slices * (TILE + WIDTH - 1) ** 2,
    )  # fmt: skip


def ordered_samples(plan: Plan, angles: slice) -> tuple[Any, Any, Any, Any]:
    """Sort the samples of some angles by the tile and the first cell they touch, and weigh them.

    These are returned:

    - rank, uint32 (n_samples,): where each sample in (angle, bin) comes in that order;
    - cells, int32 (n_samples,), in order: number of the tile times TILE^2, plus the first cell in
      it; the others are the 5 x 5 cells from there on, which may lie in the next tile;
    - weights, float32 (n_samples, 10), in order: five weights along x, then five along y;
    - runs, int32 (n_runs + 1,): first sample of each run of at most `MAX_RUN` samples of one tile;
      the last one is n_samples.
    """
    xp = plan.xp
    radius = xp.arange(plan.n_padded // 2 + 1) * (plan.n_grid / plan.n_padded)
    position = (xp.asarray(plan.direction[angles])[:, None, :] * radius[:, None]).reshape(-1, 2)
    first = xp.ceil(position - WIDTH / 2)
    column = first[:, 0].astype(xp.int32) + (plan.n_grid // 2 + MARGIN)
    row = first[:, 1].astype(xp.int32) + MARGIN
    tile = row // TILE * -(-plan.half_grid_shape[1] // TILE) + column // TILE
    cells = (tile * TILE + row % TILE) * TILE + column % TILE
    order = xp.argsort(cells)
    cells, n = cells[order], len(cells)
    tile, number = cells // TILE**2, xp.arange(n, dtype=np.int32)
    begins = number % MAX_RUN == 0
    begins[1:] |= tile[1:] != tile[:-1]
    rank = xp.empty(n, dtype=xp.uint32)
    rank[order] = number.astype(xp.uint32)
    t = (2 * (first - position) + WIDTH - 1)[order].astype(xp.float32)
    taps = xp.asarray(tap_polynomials(plan.beta), dtype=xp.float32)
    weights = xp.zeros((n, 2, WIDTH), dtype=xp.float32)
    for coefficients in taps[::-1]:
        weights *= t[:, :, None]
        weights += coefficients
    runs = xp.concatenate([xp.flatnonzero(begins), xp.asarray([n])]).astype(xp.int32)
    return rank, cells, weights.reshape(n, 2 * WIDTH), runs


def launch(
    xp: ModuleType,
    name: str,
    blocks: tuple[int, ...],
    threads: tuple[int, ...],
    arguments: tuple[Any, ...],
    shared_bytes: int = 0,
) -> None:
    """Queue a kernel of `SOURCE`."""
    kernel(xp, SOURCE, name)(blocks, threads, arguments, shared_mem=shared_bytes)


@functools.cache
def kernel(xp: ModuleType, source: str, name: str) -> Callable[..., None]:
    """Return a kernel of a source; CuPy compiles it when it is called first, for each device."""
    result: Callable[..., None] = _module(xp, source).get_function(name)
    return result


@functools.cache
def _module(xp: ModuleType, source: str) -> Any:
    return xp.RawModule(code=source)
