"""Memory of slices and batches: the peak memory of a volume, which its height does not change.

What the job of each step requests is in `jobs`; what it makes of the memory that it has, in
`tomopipe.stream.fit_options`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tomopipe.prep.recipe import STRIPE_BYTES, USUAL_SHAPES, gpu_correct_bytes, stripe_bytes
from tomopipe.recon import cuda
from tomopipe.recon.device import FEW_SLICES
from tomopipe.recon.gpu import pinned_bytes
from tomopipe.recon.plan import BATCH_SIZE, angles_at_once, half_grid_shape, padded_and_grid_size
from tomopipe.scans.chunks import DECODE_BYTES
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.output_size import BUFFER_BYTES, DEFLATE_BYTES, binned

BASE_BYTES = 400 * 2**20  # of any job: interpreter, libraries, compiled code
TALL = 32  # slices read at a time where memory allows
CORRECT_BYTES = 64 * 2**20
CUDA_BYTES = 2**27  # of the host: driver and libraries of a GPU (an estimate)
GPU_CORRECT_BYTES = 512 * 2**20  # bytes of float32 corrected at a time on a GPU
_WORKER_BYTES = 2_500_000_000  # bytes requested for each further worker
_LEAST_USED = 0.75  # least share of the threads used by workers with equally many
_TALLEST = 4 * TALL  # largest height of blocks that memory is requested for
_THREADS = 32  # threads whose scratch memory is counted
_USED = 0.8  # of the requested memory; the rest is a reserve


@dataclass(frozen=True)
class MemoryInputs:
    """The quantities that determine the memory of a job."""

    # projections, rows and columns of the detector
    n_angles: int
    n_rows: int
    n_cols: int
    itemsize: int = 4  # bytes per raw pixel
    binning: int = 1  # block-averaging factor
    # format of the volume
    output: str = "h5"
    compression: str = "none"
    stored_itemsize: int = 4  # bytes per voxel
    full_rotation: bool = True  # whether the angles cover 360 degrees
    decode_bytes: int = DECODE_BYTES  # for chunks decoded in threads
    on_gpu: bool = False  # whether a GPU computes, and not the host
    in_place: bool = False  # with a GPU: whether rows are read where they are uploaded from
    iterative: bool = False  # whether slices are computed by iteration
    widening: int = 1  # columns of a slice / columns of the binned detector: 2 in half acquisition
    # detector rows that corrections need on either side of a block; None: only flat, dark and
    # logarithm
    halo: int | None = None
    n_shapes: int = USUAL_SHAPES  # changes of the beam, with corrections
    threads: int = 1  # CPU threads


@dataclass(frozen=True)
class Blocks:
    """Division of a volume into blocks and batches."""

    batch_size: int  # slices computed at a time
    height: int  # detector rows read at a time: a multiple of batch_size * binning
    ahead: int = 1  # blocks read while another one is worked on: 0 or 1
    # batches of `batch_size` slices waiting to be written or being written: 1, with a GPU 2
    behind: int = 1
    # batches computed side by side, which share the threads: a team that works on one batch waits
    # for its slowest thread at every stage
    workers: int = 1


@dataclass(frozen=True)
class Resources:
    """What a job may use."""

    threads: int | None = None  # CPU threads; None: the cores this process may use
    # exceeded only if the smallest blocks need more; None: what suits a small machine
    memory_bytes: int | None = None
    scratch: str | None = None  # folder for a large temporary file; None: the system's


def slice_bytes(n_cols: int) -> int:
    """Return the size of a float32 slice (bytes)."""
    return 4 * n_cols**2


def writing_bytes(n_cols: int, output: str, compression: str) -> int:
    """Return the memory (bytes) of slices that wait to be written, or are being compressed."""
    volume_format = FORMATS[output]
    waiting = 4 * min(BUFFER_BYTES, 16 * slice_bytes(n_cols)) if volume_format.has_levels else 0
    deflated = DEFLATE_BYTES if volume_format.deflates and compression == "gzip" else 0
    return waiting + deflated


def engine_bytes(
    n_angles: int, n_cols: int, batch_size: int, *, groups: int = 1, threads: int = 1
) -> int:
    """Return the bytes the engine takes on the CPU beyond its input and output.

    `groups` batches of `batch_size` slices are computed side by side and share the order of the
    samples, which is stored in the plan.
    """
    n_bins, n_grid = _bins_and_grid(n_cols)
    ray = 8 * batch_size * n_bins
    n_chunk = angles_at_once(n_angles, n_bins)
    samples, making = ray * n_chunk, 32 * n_chunk * n_bins  # making of the order
    order = 4 * n_angles * n_bins
    scratch = max(_THREADS, threads) * batch_size * max(16 * n_bins, 24 * n_grid)
    half_grids = 8 * batch_size * math.prod(half_grid_shape(n_grid))
    return groups * (half_grids + samples + making + 12 * ray) + order + scratch


def _bins_and_grid(n_cols: int) -> tuple[int, int]:
    n_padded, n_grid = padded_and_grid_size(n_cols)
    return n_padded // 2 + 1, n_grid


def gpu_bytes(inputs: MemoryInputs, batch_size: int, *, stripes_together: bool = False) -> int:
    """Return the GPU memory (bytes) of a stream of batches of slices.

    Throughout: raw rows of two batches, sinograms, the order of the samples, slices three times
    (two being downloaded; if they are encoded, values once and stored numbers three times).
    Besides, one after the other: projections being corrected, with two copies; the engine. With
    corrections also a batch's raw rows with those around it, the rows kept for the next batch, and
    sinograms that are not binned yet.
    """
    binning, n_angles = inputs.binning, inputs.n_angles
    n_wide = inputs.widening * inputs.n_cols
    n_cols = max(n_wide // binning, 1)
    pixels = batch_size * binning * n_angles * n_wide
    order = 48 * n_angles * _bins_and_grid(n_cols)[0]
    throughout = 2 * inputs.itemsize * pixels + 4 * batch_size * n_angles * n_cols + order
    voxel = 12 if inputs.stored_itemsize == 4 else 4 + 3 * inputs.stored_itemsize
    throughout += (voxel * batch_size + 12) * n_cols**2  # with one slice that is being encoded
    # flats, darks, bad pixels, how the beam changes
    n_frames = 3 if inputs.halo is None else 5 + inputs.n_shapes
    throughout += 4 * n_frames * inputs.n_rows * inputs.n_cols
    correcting = 3 * min(GPU_CORRECT_BYTES, 4 * pixels)
    if inputs.halo is not None:
        throughout += inputs.itemsize * (pixels + 6 * inputs.halo * n_angles * n_wide)
        throughout += 4 * pixels if binning > 1 else 0
        rows = batch_size * binning
        correcting = gpu_correct_bytes(
            n_angles, rows, inputs.n_cols, inputs.halo, stripes_together=stripes_together
        )
    return throughout + max(correcting, cuda.engine_bytes(n_angles, n_cols, batch_size))


def largest_batch(needs: Callable[[int], int], memory_bytes: int, least: int = FEW_SLICES) -> int:
    """Return the largest batch size, at most 16, for which `needs` fits; `least` if none does."""
    batch_size = BATCH_SIZE
    while batch_size > least and needs(batch_size) > memory_bytes:
        batch_size //= 2
    return batch_size


def job_bytes(inputs: MemoryInputs, blocks: Blocks) -> int:
    """Return the peak memory of full_recon."""
    return sum(job_buffers(inputs, blocks).values())


def job_buffers(inputs: MemoryInputs, blocks: Blocks) -> dict[str, int]:
    """Return the bytes of everything that full_recon holds at its peak."""
    n_cols = inputs.widening * binned(inputs.n_cols, inputs.binning)
    one_slice, frame = slice_bytes(n_cols), 4 * inputs.n_rows * inputs.n_cols
    if inputs.on_gpu:
        computing = {
            "driver and libraries of the GPU": CUDA_BYTES,
            "dark, gain, nearest valid column of pixels, and their copies for upload": 6 * frame,
            "pinned batches": batches_pinned_bytes(inputs, blocks),
        }
    else:
        computing = _host_buffers(inputs, blocks, n_cols)
    return {
        "interpreter, libraries, compiled code": BASE_BYTES,
        "mean flat and dark": 2 * frame,
        **_block_buffers(inputs, blocks, frame),
        **computing,
        "slice being encoded, clipped": one_slice,
        "slice being encoded, as stored": one_slice,
        "middle slice": one_slice,
        "middle slice, as stored": one_slice,
        "projections being normalised": CORRECT_BYTES,
        "chunks being decoded": inputs.decode_bytes,
        "slices waiting for chunks, or compressed": writing_bytes(
            n_cols, inputs.output, inputs.compression
        ),
    }


def _host_buffers(inputs: MemoryInputs, blocks: Blocks, n_cols: int) -> dict[str, int]:
    """Return the bytes of sinograms, engine and slices if the host computes."""
    n_angles, batch = inputs.n_angles, blocks.batch_size * slice_bytes(n_cols)
    all_at_once = inputs.iterative or inputs.widening > 1
    n_at_once = n_angles if all_at_once else angles_at_once(n_angles, n_cols)
    sinograms = 4 * blocks.workers * blocks.batch_size * n_at_once * n_cols
    if inputs.iterative:
        engine = {
            "order of the samples": 100 * n_angles * n_cols,
            "40 images for each slice": 40 * batch,
        }
    else:
        of_batches = {"groups": blocks.workers, "threads": inputs.threads}
        engine = {"engine": engine_bytes(n_angles, n_cols, blocks.batch_size, **of_batches)}
    return {
        "sinograms": sinograms,
        "sinograms, weighted by the overlap of sides": sinograms if inputs.full_rotation else 0,
        "sinograms, not widened yet": sinograms // inputs.widening * (inputs.widening > 1),
        **engine,
        "slices being computed": blocks.workers * batch,
        "slices being written": blocks.behind * batch,
    }


def batches_pinned_bytes(inputs: MemoryInputs, blocks: Blocks) -> int:
    """Return the pinned memory (bytes) of batches, which CuPy pools by size.

    Two batches of raw rows, the first one of all with the rows around, and a last one that is
    smaller; slices with their middle rows and columns: one batch more than wait to be written, and
    a smaller one; the middle slice.
    """
    row = inputs.n_angles * inputs.n_cols * inputs.itemsize
    n_cols = inputs.widening * binned(inputs.n_cols, inputs.binning)
    rows = blocks.batch_size * inputs.binning
    raw = pinned_bytes(min(rows, inputs.n_rows) * row)
    first = pinned_bytes(min(rows + 2 * (inputs.halo or 0), inputs.n_rows) * row)
    slices = pinned_bytes(blocks.batch_size * n_cols**2 * inputs.stored_itemsize)
    slices += 2 * pinned_bytes(4 * blocks.batch_size * n_cols)
    raw_bytes = 5 * raw // 2 + (first if first > raw else 0)
    return raw_bytes + (2 * blocks.behind + 3) * slices // 2 + pinned_bytes(4 * n_cols**2)


def _block_buffers(inputs: MemoryInputs, blocks: Blocks, frame: int) -> dict[str, int]:
    """Return the bytes of blocks of rows and their correction, without `batches_pinned_bytes`."""
    row = 0 if inputs.in_place else inputs.n_angles * inputs.n_cols  # pixels
    in_work = (blocks.workers - 1) * blocks.batch_size * inputs.binning
    in_work = -(-in_work // max(blocks.height, 1)) * blocks.height  # batches keep their whole block
    n_rows, halo = (1 + blocks.ahead) * blocks.height, inputs.halo
    if halo is None:
        return {"raw rows": (n_rows + in_work) * row * inputs.itemsize}
    on_host = not inputs.on_gpu  # which corrects
    return {
        "raw rows": ((blocks.height if on_host else n_rows) + 2 * halo) * row * inputs.itemsize,
        "corrected rows": 4 * (n_rows + in_work) * row * on_host,
        "changes of the beam, bad pixels": (2 + inputs.n_shapes) * frame,
        "projections being corrected": 3 * CORRECT_BYTES * on_host,
        "stripes": max(STRIPE_BYTES, stripe_bytes(inputs.n_angles, inputs.n_cols)) * on_host,
    }


def standard_blocks(inputs: MemoryInputs) -> Blocks:
    """Return the blocks that a job requests memory for.

    If corrections need many neighbouring rows, blocks are as tall as these, within limits: a block
    of 32 rows with 70 on either side is five times the work of its rows, one of 80 less than three
    times. There are as many workers as threads, if each further one needs at most 2.5 GB.
    """
    batch = BATCH_SIZE * inputs.binning
    around = min(-(-(inputs.halo or 0) // batch) * batch, _TALLEST * inputs.binning)
    blocks = Blocks(BATCH_SIZE, max(TALL * inputs.binning, around), behind=1 + inputs.on_gpu)
    most = job_bytes(inputs, blocks) + (inputs.threads - 1) * _WORKER_BYTES
    return with_workers(inputs, blocks, most, inputs.n_rows)


def with_workers(inputs: MemoryInputs, blocks: Blocks, memory_bytes: int, n_rows: int) -> Blocks:
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


# Jobs request megabytes (10^6 bytes); the rules multiply them by the attempt number.


def bytes_to_use(requested_mb: int) -> int:
    """Return the memory (bytes) that a job plans with."""
    return int(_USED * 1e6 * requested_mb)


def requested_mb(n_bytes: int) -> int:
    """Return the memory (MB) that a job requests to plan with `n_bytes`."""
    return math.ceil(n_bytes / (_USED * 1e6))
