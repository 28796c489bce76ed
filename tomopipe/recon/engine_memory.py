"""Memory of the engine, and the batch size that fits on a GPU.

With n columns, na angles and a batch of L slices, P = 2 n the padded row and M = 1.125 n the grid
(both rounded up), the engine needs, in bytes,

    half grids   8 L (M/2 + 7) (M + 6)
    samples      8 L (P/2 + 1) na, of at most as many angles as `angles_at_once` tells
    order        4 na (P/2 + 1), kept in the plan; as much again per chunk while it is made
    scratch      some rows and columns per thread

and a sweep the spectra of its sinogram besides, 8 na (P/2 + 1). None depends on the height of the
volume, nor on the number of CORs. Several groups of L slices side by side share only the order.
"""

import math
from collections.abc import Callable

from tomopipe.recon.plan import half_grid_shape, padded_and_grid_size

BATCH_SIZE = 16
GPU_ANGLES = 512  # whose samples a GPU holds at a time
GPU_CORRECT_BYTES = 512 * 2**20  # of float32, corrected at a time on a GPU
_GPU_SHARE = 0.8  # of what is free on a GPU: memory is fragmented
BASE_BYTES = 400 * 2**20  # interpreter, libraries, compiled code
CHUNK_BYTES = 4 * 2**20  # of samples between two stages
_THREADS = 32  # whose scratch is counted


def engine_bytes(
    n_angles: int,
    n_cols: int,
    batch_size: int = BATCH_SIZE,
    *,
    groups: int = 1,
    threads: int = _THREADS,
) -> int:
    """Return the bytes the engine takes beyond its input and output: see the module.

    So many `groups` of `batch_size` slices are computed side by side, and share the CPU threads.
    """
    n_padded, n_grid = padded_and_grid_size(n_cols)
    n_bins = n_padded // 2 + 1
    grid = 8 * batch_size * math.prod(half_grid_shape(n_grid))
    ray = 8 * batch_size * n_bins
    n_chunk = angles_at_once(n_angles, n_bins)
    samples, making = ray * n_chunk, 32 * n_chunk * n_bins
    order = 4 * n_angles * n_bins
    scratch = max(_THREADS, threads) * batch_size * max(16 * n_bins, 24 * n_grid)
    return groups * (grid + samples + making + 12 * ray) + order + scratch


def angles_at_once(n_angles: int, n_bins: int) -> int:
    """Return how many angles make a chunk: as many as the caches hold samples of.

    Neither threads nor the batch size have a say: in other chunks sums are rounded otherwise, up to
    4e-5 of the range of a slice.
    """
    return min(max(CHUNK_BYTES // (8 * BATCH_SIZE * n_bins), 1), n_angles)


def sweep_bytes(n_angles: int, n_cols: int, batch_size: int = BATCH_SIZE) -> int:
    """Return the peak memory of a sweep that hands its slices on batch by batch.

    That is of spectra with a temporary, one batch of slices, engine and interpreter.
    """
    spectra = 32 * n_angles * _n_bins(n_cols)
    images = 4 * batch_size * n_cols**2
    return BASE_BYTES + spectra + images + engine_bytes(n_angles, n_cols, batch_size)


def gpu_bytes(
    n_angles: int,
    n_cols: int,
    slices: int,
    itemsize: int,
    binning: int = 1,
    stored_itemsize: int = 4,
    *,
    halo: int = 0,
    correct_bytes: int | None = None,
) -> int:
    """Return the bytes of a GPU that a stream of batches of `slices` takes.

    Throughout: raw rows of two batches (of `itemsize` bytes per pixel), sinograms, the order of the
    samples, slices three times (two being downloaded; if they are encoded to `stored_itemsize`
    bytes per voxel, values once and stored numbers three times).
    Besides, one after the other: projections being corrected, with two copies; padded rows and
    samples of `GPU_ANGLES` projections, with half grids; half grids three times (folded,
    transformed, and the transform's own, which it keeps). With corrections beyond flat, dark and
    logarithm, which take `correct_bytes` at a time, also a batch's raw rows with those around it
    (`halo` on either side), the rows kept for the next batch, and sinograms that are not binned
    yet. `binning` is that of rows and columns.
    """
    cols = max(n_cols // binning, 1)
    n_bins = _n_bins(cols)
    pixels = slices * binning * n_angles * n_cols
    remaining = 2 * itemsize * pixels + 4 * slices * n_angles * cols + 48 * n_angles * n_bins
    voxel = 12 if stored_itemsize == 4 else 4 + 3 * stored_itemsize
    remaining += (voxel * slices + 12) * cols**2  # with one slice that is being encoded
    correcting = 3 * min(GPU_CORRECT_BYTES, 4 * pixels)
    if correct_bytes is not None:
        remaining += itemsize * (pixels + 6 * halo * n_angles * n_cols)
        remaining += 4 * pixels if binning > 1 else 0
        correcting = correct_bytes
    return remaining + max(correcting, _gpu_engine_bytes(n_angles, cols, slices))


def gpu_sweep_bytes(n_angles: int, n_cols: int, batch_size: int = BATCH_SIZE) -> int:
    """Return the memory of a GPU that a sweep takes: as `sweep_bytes`, with the samples' order."""
    n_bins = _n_bins(n_cols)
    spectra = 32 * n_angles * n_bins
    images = 8 * batch_size * n_cols**2
    order = 48 * n_angles * n_bins
    return spectra + images + order + _gpu_engine_bytes(n_angles, n_cols, batch_size)


def _gpu_engine_bytes(n_angles: int, n_cols: int, slices: int) -> int:
    """Return what slices take of a GPU while they are computed."""
    n_padded, n_grid = padded_and_grid_size(n_cols)
    grid = 8 * slices * math.prod(half_grid_shape(n_grid))
    samples = min(GPU_ANGLES, n_angles) * (n_padded // 2 + 1)
    # plans of transforms keep their memory: as much as they transform
    return max(samples * (40 * slices + 160) + 2 * grid, 3 * grid + 8 * samples * slices)


def _n_bins(n_cols: int) -> int:
    return padded_and_grid_size(n_cols)[0] // 2 + 1


def slices_on_gpu(free_bytes: int, needs: Callable[[int], int]) -> int:
    """Return the batch size, 16 at most, whose `needs(batch size)` fit on a GPU; 1 in any case."""
    sizes = (BATCH_SIZE, BATCH_SIZE // 2, BATCH_SIZE // 4, BATCH_SIZE // 8)
    return next((n for n in sizes if needs(n) <= _GPU_SHARE * free_bytes), 1)
