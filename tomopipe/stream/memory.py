"""Memory of full_recon: what a job takes, as a formula, and the blocks that fit in what it has.

With na angles, n columns (n' after binning), batches of L slices, w workers that compute side
by side, blocks of h detector rows and s bytes per raw pixel, a job takes at most

    400 MiB      the interpreter, libraries, compiled code
    8 R n        averages of flats and darks of the R rows of the detector
    2 h na n s   the block in work and the next one; one block if there is no next
    (w - 1) L b na n s  besides, in whole blocks: rows that are still computed with (b: binning)
    4 w L na n'  sinograms, twice for a full 360-degree rotation: na is the number of angles
                 of a chunk (`tomopipe.recon.engine_memory.angles_at_once`), but for a GPU, by
                 iteration and in half acquisition, where all are made at once
    engine       see `tomopipe.recon.engine_memory`; w groups
    4 (w + 1) L n'^2  slices: computed, being written; with a GPU 4 (w + 2), some wait
    16 n'^2      one slice being encoded, the middle one
    64 MiB       corrections, a batch of projections at a time
    256 MiB      chunks being decoded in threads, where that is done; at least 3 chunks
    768 MiB      slices waiting for a layer of chunks (OME-Zarr), or 192 n'^2 if that is less
    256 MiB      slices being compressed in threads (HDF5 with gzip)
    4 w L na n   besides, in half acquisition, where n' is twice the binned detector
    800 na n' + 160 L n'^2  instead of the engine, where slices are computed by iteration
    2 L b na n s pinned copies of two batches, where a GPU computes

and with corrections beyond flat, dark and logarithm, which need t rows more on either side, also
(where a GPU makes them, only 2 t na n s and 20 R n)

    (h + 2 t) na n s + 8 h na n     instead of the blocks: raw ones, corrected ones and the next;
                 with several workers 4 (w - 1) L b na n besides, in whole blocks
    20 R n       more flats, bad pixels
    192 MiB      a batch of projections being corrected
    512 MiB      sinograms whose stripes are being removed; at least 24 na n

None of it depends on the height of the volume. (R n is the detector, not the volume: 34 MB for
2048 x 2048.)
"""

import math
import os
from dataclasses import dataclass, replace

from tomopipe.prep.correct import STRIPE_BYTES
from tomopipe.prep.recipe import stripe_bytes
from tomopipe.recon.engine_memory import BASE_BYTES, BATCH_SIZE, angles_at_once, engine_bytes
from tomopipe.scans.chunks import DECODE_BYTES
from tomopipe.volumes.output_size import binned, slice_bytes, writing_bytes

TALL = 32  # slices read at a time where memory allows
CORRECT_BYTES = 64 * 2**20
_LEAST_BATCH = 4
_WORKER_BYTES = 2_500_000_000  # that a job asks for per further worker
_MACHINE_SHARE = 0.7  # of the memory of a machine that is smaller than what was asked for
_LEAST_USED = 0.75  # of the threads, if not every worker has as many
_TALLEST = 4 * TALL  # that memory is asked for


@dataclass(frozen=True)
class MemoryInputs:
    """What the memory of a job depends on."""

    # projections, rows and columns of the detector
    n_angles: int
    n_rows: int
    n_cols: int
    itemsize: int = 4  # bytes per raw pixel
    binning: int = 1  # block-averaging factor
    # format of the volume
    output: str = "h5"
    compression: str = "none"
    full_rotation: bool = True  # whether the angles cover 360 degrees
    decode_bytes: int = DECODE_BYTES  # for chunks decoded in threads
    on_gpu: bool = False  # whether a GPU computes, and not the host
    iterative: bool = False  # whether slices are computed by iteration
    widening: int = 1  # columns of a slice over those of the binned detector: 2 in half acquisition
    # detector rows that corrections need on either side of a block; None: there are none but flat,
    # dark and logarithm
    halo: int | None = None
    threads: int = 1  # CPU threads


@dataclass(frozen=True)
class Blocks:
    """How a volume is cut up."""

    batch_size: int  # slices computed at a time
    height: int  # detector rows read at a time: a multiple of batch_size * binning
    ahead: int = 1  # blocks read while another one is worked on: 0 or 1
    # batches of `batch_size` slices that wait to be written, or are being written: 1, of a GPU 2
    behind: int = 1
    # batches computed side by side, which share the threads: a team that works on one batch waits
    # for its slowest thread at every stage
    workers: int = 1


def job_bytes(inputs: MemoryInputs, blocks: Blocks) -> int:
    """Return the peak memory of a job, by the formula of this module."""
    n_cols = inputs.widening * binned(inputs.n_cols, inputs.binning)
    one_slice = slice_bytes(n_cols)
    all_at_once = inputs.on_gpu or inputs.iterative or inputs.widening > 1
    made = inputs.n_angles if all_at_once else angles_at_once(inputs.n_angles, n_cols)
    sinograms = 4 * blocks.workers * blocks.batch_size * made * n_cols
    row = inputs.n_angles * inputs.n_cols * inputs.itemsize
    pinned = (blocks.batch_size * inputs.binning + (inputs.halo or 0)) * row
    return (
        BASE_BYTES
        + 8 * inputs.n_rows * inputs.n_cols
        + _block_bytes(inputs, blocks)
        + (2 if inputs.full_rotation else 1) * sinograms
        + (sinograms // inputs.widening if inputs.widening > 1 else 0)
        + (
            800 * inputs.n_angles * n_cols + 40 * blocks.batch_size * one_slice
            if inputs.iterative
            else engine_bytes(
                inputs.n_angles,
                n_cols,
                blocks.batch_size,
                groups=blocks.workers,
                threads=inputs.threads,
            )
        )
        + (blocks.workers + blocks.behind) * blocks.batch_size * one_slice
        + 4 * one_slice
        + CORRECT_BYTES
        + inputs.decode_bytes
        + writing_bytes(n_cols, inputs.output, inputs.compression)
        + 2 * pinned * inputs.on_gpu
    )


def _block_bytes(inputs: MemoryInputs, blocks: Blocks) -> int:
    """Return what the blocks of detector rows take, and correcting them."""
    row = inputs.n_angles * inputs.n_cols
    in_work = (blocks.workers - 1) * blocks.batch_size * inputs.binning
    in_work = -(-in_work // max(blocks.height, 1)) * blocks.height  # batches keep their whole block
    raw = (1 + blocks.ahead) * blocks.height * row * inputs.itemsize
    if inputs.halo is None:
        return raw + in_work * row * inputs.itemsize
    if inputs.on_gpu:
        around = 2 * inputs.halo * row * inputs.itemsize
        return raw + around + 20 * inputs.n_rows * inputs.n_cols
    return (
        (blocks.height + 2 * inputs.halo) * row * inputs.itemsize
        + 4 * ((1 + blocks.ahead) * blocks.height + in_work) * row
        + 20 * inputs.n_rows * inputs.n_cols
        + 3 * CORRECT_BYTES
        + max(STRIPE_BYTES, stripe_bytes(inputs.n_angles, inputs.n_cols))
    )


@dataclass(frozen=True)
class Resources:
    """What a job may use."""

    threads: int | None = None  # CPU threads; None: the cores this process may use
    # exceeded only if the smallest blocks need more; None: what suits a small machine
    memory_bytes: int | None = None
    scratch: str | None = None  # folder for a large temporary file; None: the system's


def usable_bytes(asked_bytes: int) -> int:
    """Return what a job may take: what was asked for, if the machine has that much to give."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(asked_bytes, int(_MACHINE_SHARE * machine_bytes))


def standard_blocks(inputs: MemoryInputs) -> Blocks:
    """Return the blocks that a job is to have memory for.

    Where corrections need many rows around, as tall as those within reason: a block of 32 rows
    with 70 on either side is five times the work of its rows, one of 80 less than three times.
    As many workers as threads, where each further one takes no more than 2.5 GB.
    """
    batch = BATCH_SIZE * inputs.binning
    around = min(-(-(inputs.halo or 0) // batch) * batch, _TALLEST * inputs.binning)
    blocks = Blocks(BATCH_SIZE, max(TALL * inputs.binning, around), behind=1 + inputs.on_gpu)
    most = job_bytes(inputs, blocks) + (inputs.threads - 1) * _WORKER_BYTES
    return _with_workers(inputs, blocks, most, inputs.n_rows)


def choose_blocks(
    inputs: MemoryInputs, memory_bytes: int, *, chunk_rows: int = 1, n_rows: int = 0
) -> Blocks:
    """Choose the largest blocks that fit, up to what pays.

    Where chunks span many rows each read decodes every chunk it touches, so that blocks are as
    tall as the chunks if they can be, else as tall as memory allows, without reading ahead.
    `memory_bytes` is exceeded only if the smallest blocks need more. A chunk spans `chunk_rows`
    detector rows; `n_rows` of them are used, 0: all.
    """
    n_rows = n_rows or inputs.n_rows

    def fits(blocks: Blocks) -> bool:
        return job_bytes(inputs, blocks) <= memory_bytes

    possible = (
        Blocks(batch_size, batch_size * inputs.binning, behind=1 + inputs.on_gpu)
        for batch_size in (BATCH_SIZE, BATCH_SIZE // 2, _LEAST_BATCH)
    )
    smallest = Blocks(_LEAST_BATCH, _LEAST_BATCH * inputs.binning, ahead=0)
    least = next(filter(fits, possible), smallest)
    whole_chunks = math.lcm(least.height, chunk_rows)
    if whole_chunks > n_rows:
        whole_chunks = -(-min(chunk_rows, n_rows) // least.height) * least.height
    target = max(TALL * inputs.binning, whole_chunks)
    if inputs.halo:  # rows read twice or more: taller blocks where memory allows
        target = max(target, -(-2 * inputs.halo // least.height) * least.height)
    aheads = (1, 0) if chunk_rows > TALL * inputs.binning else (least.ahead,)
    tallest = [_tallest(inputs, least, ahead, target, memory_bytes) for ahead in aheads]
    blocks = max(tallest, key=lambda blocks: blocks.height)  # the first, ahead, if none is taller
    if blocks.height > whole_chunks:
        blocks = replace(blocks, height=blocks.height - blocks.height % whole_chunks)
    return _with_workers(inputs, blocks, memory_bytes, n_rows)


def _with_workers(inputs: MemoryInputs, blocks: Blocks, memory_bytes: int, n_rows: int) -> Blocks:
    """Return blocks with as many workers as there are threads, memory and batches for."""
    if inputs.on_gpu or inputs.iterative:  # a GPU computes; iterations have threads of their own
        return blocks
    n_batches = -(-n_rows // (blocks.batch_size * inputs.binning))
    for workers in range(min(inputs.threads, n_batches), 1, -1):
        more = replace(blocks, workers=workers)
        used = workers * (inputs.threads // workers)
        if used >= _LEAST_USED * inputs.threads and job_bytes(inputs, more) <= memory_bytes:
            return more
    return blocks


def _tallest(
    inputs: MemoryInputs, least: Blocks, ahead: int, target: int, memory_bytes: int
) -> Blocks:
    """Return the tallest blocks that fit, as far as wanted."""
    batch = least.height
    ahead = min(ahead, least.ahead)
    empty_bytes, one_row_bytes = (
        job_bytes(inputs, Blocks(least.batch_size, h, ahead, least.behind)) for h in (0, 1)
    )
    row_bytes = one_row_bytes - empty_bytes
    height = (memory_bytes - empty_bytes) // row_bytes // batch * batch
    return Blocks(least.batch_size, max(batch, min(height, target)), ahead, least.behind)
