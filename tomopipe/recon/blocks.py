"""How much memory a block of rows takes, and how many rows fit in a given memory."""

from __future__ import annotations

from tomopipe.recon.plan import MARGIN, OVERSAMPLING, fast_even_size

LANES = 16
BASE_BYTES = 400 * 2**20  # interpreter, libraries, compiled code


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
        The half grids, two grid-sized temporaries, one chunk of samples and the plan.
    """
    n_grid = fast_even_size(max(int(OVERSAMPLING * n_cols) + 1, 8 * MARGIN))
    grid = 8 * lanes * (n_grid // 2 + 1 + 2 * MARGIN) * (n_grid + 2 * MARGIN)
    samples = 8 * lanes * min(n_angles, 128) * (3 * n_cols)
    return 2 * grid + samples + 32 * n_angles * n_cols


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
        Bytes: raw block, corrected block with one temporary, images, engine, interpreter.
    """
    cols = max(n_cols // binning, 1)
    slices = max(rows // binning, 1)
    raw = rows * n_angles * n_cols * (itemsize + 8)
    images = 2 * 4 * slices * cols**2
    return BASE_BYTES + raw + images + engine_bytes(n_angles, cols, min(LANES, slices))


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
        Unbinned rows: a multiple of `LANES` * `binning` where that fits, else of `binning`; at
        least `binning`, even if that takes more than the memory.
    """

    def fits(slices: int) -> bool:
        rows = slices * binning
        return peak_bytes(n_angles, n_cols, rows, itemsize, binning) <= memory_bytes

    slices = 1
    while fits(2 * slices) and slices < 2**20:
        slices *= 2
    step = slices // 2
    while step:
        slices += step if fits(slices + step) else 0
        step //= 2
    return (slices - slices % LANES if slices >= LANES else slices) * binning
