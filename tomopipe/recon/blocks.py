"""How much memory a block of rows takes, and how many rows fit in a given memory.

With n columns, na angles and L lanes, P = 2 n the padded row and M = 1.125 n the grid (both rounded
up), the engine needs, in bytes,

    half grids   8 L (M/2 + 7) (M + 6)
    samples      8 L (P/2 + 1) na, at most 64 MiB (or one angle)
    order        4 na (P/2 + 1), kept in the plan; as much again per chunk while it is made
    scratch      some rows and columns per thread

and a sweep the spectra of its sinogram besides, 8 na (P/2 + 1). None depends on the height of the
volume, nor on the number of CORs.
"""

from __future__ import annotations

import math

from tomopipe.recon.plan import MARGIN, OVERSAMPLING, fast_even_size

LANES = 16
BASE_BYTES = 400 * 2**20  # interpreter, libraries, compiled code
SAMPLES_BYTES = 64 * 2**20  # at most, for the samples between two stages
_THREADS = 32  # whose scratch is counted


def engine_bytes(n_angles: int, n_cols: int, lanes: int = LANES) -> int:
    """Return the bytes the engine takes beyond its input and output.

    Parameters
    ----------
    n_angles, n_cols : int
        Shape of a sinogram.
    lanes : int
        Slices computed at a time.

    Returns
    -------
    int
        The sum in the module's docstring.
    """
    n_bins = fast_even_size(2 * n_cols) // 2 + 1
    n_grid = fast_even_size(max(math.ceil(OVERSAMPLING * n_cols), 8 * MARGIN))
    grid = 8 * lanes * (n_grid // 2 + 1 + 2 * MARGIN) * (n_grid + 2 * MARGIN)
    ray = 8 * lanes * n_bins
    samples = max(ray, min(SAMPLES_BYTES, ray * n_angles))
    n_chunk = samples // ray
    order = 4 * n_angles * n_bins + 32 * n_chunk * n_bins
    scratch = _THREADS * lanes * max(16 * n_bins, 24 * n_grid)
    return grid + samples + order + scratch + 12 * ray


def sweep_bytes(n_angles: int, n_cols: int, lanes: int = LANES) -> int:
    """Return the peak memory of a sweep that hands its slices on batch by batch.

    Parameters
    ----------
    n_angles, n_cols : int
        Shape of the sinogram.
    lanes : int
        CORs computed at a time.

    Returns
    -------
    int
        Bytes: spectra with a temporary, one batch of slices, engine, interpreter.
    """
    spectra = 16 * n_angles * (fast_even_size(2 * n_cols) + 2)
    images = 4 * lanes * n_cols**2
    return BASE_BYTES + spectra + images + engine_bytes(n_angles, n_cols, lanes)


def peak_bytes(n_angles: int, n_cols: int, rows: int, itemsize: int, binning: int = 1) -> int:
    """Return the peak memory of a job that reconstructs a scan in blocks of rows.

    Independent of the height of the volume.

    Parameters
    ----------
    n_angles, n_cols : int
        Projections and detector columns.
    rows : int
        Detector rows per block, unbinned.
    itemsize : int
        Bytes per raw pixel.
    binning : int
        Block-averaging factor of rows and columns before reconstruction.

    Returns
    -------
    int
        Bytes: raw block, corrected block and its transposed copy, images, engine, interpreter.
    """
    cols = max(n_cols // binning, 1)
    slices = max(rows // binning, 1)
    block = rows * n_angles * n_cols * (itemsize + 8)
    images = 4 * slices * cols**2
    return BASE_BYTES + block + images + engine_bytes(n_angles, cols, lanes_for(slices))


def lanes_for(slices: int) -> int:
    """Return the lanes that so few slices take: 4, 8 or 16."""
    return 4 if slices <= 4 else 8 if slices <= 8 else LANES


def rows_per_block(
    n_angles: int, n_cols: int, memory_bytes: int, itemsize: int, binning: int = 1
) -> int:
    """Return the tallest block of rows that fits in a memory.

    Parameters
    ----------
    n_angles, n_cols : int
        Projections and detector columns.
    memory_bytes : int
        Memory the job may take.
    itemsize : int
        Bytes per raw pixel.
    binning : int
        Block-averaging factor.

    Returns
    -------
    int
        Unbinned rows: a multiple of `LANES` * `binning` where that fits, else 8, 4 or 1 times
        `binning`; at least `binning`, even if that takes more than the memory.
    """

    def fits(slices: int) -> bool:
        rows = slices * binning
        return peak_bytes(n_angles, n_cols, rows, itemsize, binning) <= memory_bytes

    if not fits(LANES):
        return binning * next((slices for slices in (8, 4) if fits(slices)), 1)
    slices = LANES
    while fits(2 * slices) and slices < 2**20:
        slices *= 2
    step = slices // 2
    while step >= LANES:
        slices += step if fits(slices + step) else 0
        step //= 2
    return slices * binning
