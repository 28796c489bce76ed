"""Memory requests of jobs, in megabytes (10^6 bytes), and the share they may use.

The rules multiply them by the number of the attempt. Numerical packages are imported in the
functions, so that parsing the Snakefile does not load them.
"""

import math

from tomopipe.config import FullReconBlock

_USED = 0.8  # of the requested memory; the rest is a reserve
_REGISTER_BYTES = 512 * 2**20  # for finding the overlap of volumes


def bytes_to_use(asked_mb: int) -> int:
    """Return the memory (bytes) that a job plans with."""
    return int(_USED * 1e6 * asked_mb)


def try_recon_mb(n_bytes: int | None, *, is_corrected: bool) -> int:
    """Return the memory for the rows of a raw file of so many bytes, and the sweep of one row."""
    raw_mb = 100.0 if n_bytes is None else n_bytes / 1e6
    return int(min(1500, 600 + 9 * raw_mb) + 0.1 * raw_mb + 1000 * is_corrected)


def predict_cor_mb(rows_mb: float) -> int:
    """Return the memory for finding the COR, from the size of rows.h5."""
    return int(min(1000, 600 + 20 * rows_mb) + 8 * rows_mb)


def full_recon_mb(
    shape: tuple[int, int, int],
    options: FullReconBlock = FullReconBlock(),
    *,
    is_half: bool = False,
    halo: int | None = None,
    threads: int = 1,
) -> int:
    """Return the memory for a volume, by the formula of `tomopipe.stream.memory`.

    `shape` is of projections, rows and columns; `halo` are the rows that corrections need on either
    side of a block, None without corrections.
    """
    from tomopipe.prep.half_acquisition import FACTOR
    from tomopipe.stream.memory import MemoryInputs, job_bytes, standard_blocks

    inputs = MemoryInputs(
        *shape,
        binning=options.binning,
        output=options.output,
        compression=options.compression,
        iterative=options.algorithm != "fbp",
        widening=FACTOR if is_half else 1,
        halo=halo,
        threads=1 if options.device == "cuda" else threads,
    )
    return math.ceil(job_bytes(inputs, standard_blocks(inputs)) / (_USED * 1e6))


def stitch_mb(
    n_cols: int, options: FullReconBlock = FullReconBlock(), *, is_half: bool = False
) -> int:
    """Return the memory for stitching volumes of so many columns.

    Slices: those of two volumes with their halo, and a block being blended and written.
    """
    from tomopipe.prep.half_acquisition import FACTOR
    from tomopipe.recon.engine_memory import BASE_BYTES
    from tomopipe.stitching.blending import BLOCK_ROWS, HALO_ROWS
    from tomopipe.volumes.output_size import binned, slice_bytes, writing_bytes

    n_x = binned(FACTOR * n_cols if is_half else n_cols, options.binning)
    n_slices = 2 * (BLOCK_ROWS + 2 * HALO_ROWS) + 4 * BLOCK_ROWS + 6
    stitching = BASE_BYTES + _REGISTER_BYTES + n_slices * slice_bytes(n_x)
    total = stitching + writing_bytes(n_x, options.output, options.compression)
    return math.ceil(1.2 * total / 1e6)


def export_stack_mb(n_angles: int = 0, n_cols: int = 0, *, halo: int | None = None) -> int:
    """Return the memory for a stack: blocks of 256 MiB, twice, and the interpreter.

    With corrections also a block of all angles with `halo` rows around; None: no corrections.
    """
    return 900 if halo is None else int(2100 + 8e-6 * halo * n_angles * n_cols)
