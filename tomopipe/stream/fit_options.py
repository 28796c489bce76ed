"""The options of full_recon: checked, and fitted to a scan."""

import logging
import math
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from tomopipe.config import FullReconBlock, PreprocessBlock
from tomopipe.config.spans import check_place, first_and_last
from tomopipe.config.step_blocks import ITERATIONS
from tomopipe.errors import ScanError
from tomopipe.geometry import bin_cor, pixels_per_cm
from tomopipe.prep.correct import Corrections
from tomopipe.prep.half_acquisition import (
    FACTOR,
    HalfAcquisition,
    is_half_acquisition,
    plan_of,
)
from tomopipe.prep.recipe import most_shapes
from tomopipe.recon.angular_sampling import is_full_rotation, unpaired
from tomopipe.recon.device import FEW_SLICES, held_gpu
from tomopipe.recon.gpu import CudaDevice
from tomopipe.recon.iterative import make_projector, solve_slices, solver
from tomopipe.recon.plan import EdgeSlopes, binned_edge_slopes
from tomopipe.recon.transfer import DeviceTransfer
from tomopipe.resources.memory import (
    TALL,
    Blocks,
    MemoryInputs,
    gpu_bytes,
    job_bytes,
    largest_batch,
    with_workers,
)
from tomopipe.scans.chunks import DECODE_BYTES
from tomopipe.scans.scan import Scan
from tomopipe.stream.recon_task import ReconTask
from tomopipe.stream.source import check_scratch
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.output_size import StackGeometry, binned, extent

_MACHINE_SHARE = 0.7  # share of the memory of a machine that has less than requested
GPU_SHARE = 0.8  # share of the free memory of a GPU, as memory is fragmented

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VolumeOptions:
    """Options of a volume; `pixel_size_um` is for attenuation per cm, None: that of the file."""

    cor_px: float
    full: FullReconBlock
    preprocess: PreprocessBlock
    pixel_size_um: float | None

    @property
    def unit(self) -> str:
        """Unit of the values of the volume."""
        return {"per_pixel": "1/pixel", "per_cm": "1/cm"}[self.full.unit]

    @property
    def needs_range(self) -> bool:
        """Whether the range of an integer type has to be measured on sample slices."""
        return np.dtype(self.full.dtype).kind == "u" and isinstance(self.full.value_range, str)


def check_options(target: VolumeOptions, scratch: str | None) -> None:
    """Raise for options that do not go together, what is not installed, an unusable folder."""
    full = target.full
    if full.algorithm != "fbp" and full.device == "cuda":
        raise ValueError(f"device: cuda does fbp only; set auto or cpu for {full.algorithm}")
    if full.algorithm != "fbp" and target.preprocess.half_acquisition == "yes":
        raise ValueError(f"half_acquisition: yes needs fbp; set auto or no for {full.algorithm}")
    FORMATS[full.output].check_package()
    check_scratch(scratch)


def fit_task(
    scan: Scan,
    target: VolumeOptions,
    corrections: Corrections,
    edge_slopes_per_px: EdgeSlopes,
    *,
    device: str,
    memory_bytes: int,
    stack: ExitStack,
) -> tuple[ReconTask, tuple[Blocks, Blocks]]:
    """Fit the options to the scan, to the memory, and to a GPU, which `stack` lets go.

    Returns what all batches share, and the blocks: to read the scan, and to read a scratch file. A
    GPU corrects raw rows itself; the host gets corrected rows.
    """
    last_col = scan.first_col + scan.n_cols - 1
    check_place(target.cor_px, scan.first_col, last_col, scan.detector_cols)
    rows = first_and_last("full_recon.rows", target.full.rows, scan.n_rows)
    used = None if target.preprocess.is_plain else corrections
    inputs = _memory_inputs(scan, target, used)
    # fewer slices at a time do not pay
    least_bytes = int(gpu_bytes(replace(inputs, on_gpu=True), FEW_SLICES) / GPU_SHARE)
    gpu = stack.enter_context(held_gpu("cpu" if inputs.iterative else device, least_bytes))
    if gpu:
        inputs = replace(inputs, on_gpu=True, in_place=scan.chunks is None)
    both_blocks = _fit_blocks(scan, inputs, rows, usable_bytes(memory_bytes))
    task = _plan_slices(
        scan,
        target,
        rows,
        edge_slopes_per_px,
        is_half=inputs.widening > 1,
        batch_size=both_blocks[0].batch_size,
        xp=gpu.xp if gpu else np,
    )
    if gpu:
        return _fit_gpu(task, inputs, used, gpu), both_blocks
    return replace(task, corrections=used, corrected=used is not None), both_blocks


def _plan_slices(
    scan: Scan,
    target: VolumeOptions,
    rows: tuple[int, int],
    edge_slopes_per_px: EdgeSlopes,
    *,
    is_half: bool,
    batch_size: int,
    xp: ModuleType,
) -> ReconTask:
    """Return the task of some rows, without corrections; `is_half`: of doubled width."""
    full, binning = target.full, target.full.binning
    if scan.n_cols < binning:
        raise ScanError(f"full_recon.binning: {binning} is more than the {scan.n_cols} columns")
    size = StackGeometry(scan.n_cols, rows[1] + 1 - rows[0], binning)
    # incomplete blocks of columns are dropped before the width is doubled
    n_voxels = FACTOR * size.volume_cols * binning if is_half else scan.n_cols
    cor_px = float(bin_cor(target.cor_px, x0=scan.first_col, binning=binning))
    slopes = binned_edge_slopes(edge_slopes_per_px, binning)
    half = HalfAcquisition(size.volume_cols, cor_px, unpaired(scan.theta_rad), slopes)
    engine = {"filter": full.filter, "xp": xp, "batch_size": batch_size}
    return ReconTask(
        scan=scan,
        plan=plan_of(scan.theta_rad, half, is_half, **engine),
        cor_px=cor_px,
        scale=_per_pixel(scan, target) / binning,
        first_row=rows[0],
        last_row=rows[0] + size.rows * size.binning_rows,
        crop=(
            _crop("crop_y", full.crop_y, n_voxels, binning),
            _crop("crop_x", full.crop_x, n_voxels, binning),
        ),
        binning=binning,
        binning_rows=size.binning_rows,
        minus_log=target.preprocess.minus_log,
        threads=scan.threads,
        batch_size=batch_size,
        half=half if is_half else None,
        iterative=_iterations(scan, full, size.volume_cols, cor_px, batch_size),
    )


def _fit_gpu(
    task: ReconTask, inputs: MemoryInputs, corrections: Corrections | None, gpu: CudaDevice
) -> ReconTask:
    """Return the task in batches that fit in the free memory of a GPU."""
    free = gpu.free_bytes()
    batch_size = min(task.batch_size, gpu_batch(inputs, free))
    logger.info("%.3g GB of the GPU are free: %d slices at a time", free / 1e9, batch_size)
    if corrections:
        together = are_stripes_together(inputs, batch_size, free)
        corrections = replace(corrections, stripes_together=together)
    transfer = DeviceTransfer(gpu, threads=task.scan.threads)
    return replace(task, corrections=corrections, batch_size=batch_size, transfer=transfer)


def _fit_blocks(
    scan: Scan, inputs: MemoryInputs, rows: tuple[int, int], memory_bytes: int
) -> tuple[Blocks, Blocks]:
    """Choose the blocks that fit in memory: to read the scan, and to read a scratch file."""
    chunk_rows, n_rows = scan.chunks[1] if scan.chunks else 1, rows[1] + 1 - rows[0]
    blocks = choose_blocks(inputs, memory_bytes, chunk_rows=chunk_rows, n_rows=n_rows)
    logger.info(
        "%s: %.3g GB of %.3g GB", blocks, job_bytes(inputs, blocks) / 1e9, memory_bytes / 1e9
    )
    return blocks, choose_blocks(inputs, memory_bytes, n_rows=n_rows)


def _iterations(
    scan: Scan, full: FullReconBlock, n_cols: int, cor_px: float, batch_size: int
) -> Callable[[Any], Any] | None:
    """Return what reconstructs sinograms iteratively; None: filtered backprojection."""
    if full.algorithm == "fbp":
        return None
    projector = make_projector(scan.theta_rad, n_cols, cor_px)
    n_iterations = full.iterations or ITERATIONS[full.algorithm]
    solve = solver(full.algorithm, projector, n_iterations, full.tv_strength)
    threads = min(scan.threads, batch_size)
    return partial(solve_slices, projector=projector, solve=solve, threads=threads)


def _per_pixel(scan: Scan, target: VolumeOptions) -> float:
    """Return the factor from attenuation per unbinned pixel to the unit of the volume."""
    if target.full.unit == "per_pixel":
        return 1.0
    return pixels_per_cm(target.pixel_size_um or scan.pixel_size_um)


def _memory_inputs(
    scan: Scan, target: VolumeOptions, corrections: Corrections | None
) -> MemoryInputs:
    """Return what determines the memory where the host computes."""
    full, decode_bytes = target.full, 0
    # sets of flats that the file dates may be more than the options say
    n_shapes = len(corrections.beam.shapes) if corrections else 0
    if scan.chunks and scan.threads > 1:
        one_bytes = 3 * math.prod(scan.chunks) * scan.dtype.itemsize
        decode_bytes = max(one_bytes, min(DECODE_BYTES, scan.threads * one_bytes))
    return MemoryInputs(
        scan.n_angles,
        scan.n_rows,
        scan.n_cols,
        itemsize=scan.dtype.itemsize,
        binning=full.binning,
        output=full.output,
        compression=full.compression,
        stored_itemsize=np.dtype(full.dtype).itemsize,
        full_rotation=is_full_rotation(scan.theta_rad),
        decode_bytes=decode_bytes,
        iterative=full.algorithm != "fbp",
        widening=_widening(scan, target),
        halo=corrections.halo if corrections else None,
        n_shapes=max(most_shapes(target.preprocess), n_shapes),
        threads=scan.threads,
    )


def _widening(scan: Scan, target: VolumeOptions) -> int:
    """Return the ratio of the columns of a slice to those of the binned detector: 1 or 2."""
    half = is_half_acquisition(
        target.full.half_acquisition(target.preprocess.half_acquisition),
        full_rotation=is_full_rotation(scan.theta_rad),
        cor_px=target.cor_px,
        n_cols=scan.n_cols,
        first_col=scan.first_col,
    )
    return FACTOR if half else 1


def _crop(name: str, crop: str | list[int], n_cols: int, binning: int) -> slice:
    """Turn a crop in unbinned voxels, ends included, into a slice of binned ones."""
    if isinstance(crop, str):
        return slice(0, n_cols // binning)
    first, _ = first_and_last(f"full_recon.{name}", crop, n_cols, "within the slices of")
    start = min(first // binning, n_cols // binning - 1)
    return slice(start, start + binned(extent(crop, n_cols), binning))


def usable_bytes(requested_bytes: int) -> int:
    """Return the memory (bytes) that a job may use: as requested, if the machine has that much."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(requested_bytes, int(_MACHINE_SHARE * machine_bytes))


def choose_blocks(
    inputs: MemoryInputs, memory_bytes: int, *, chunk_rows: int = 1, n_rows: int = 0
) -> Blocks:
    """Choose the largest useful blocks that fit in memory.

    If chunks span many rows, each read decodes every chunk it touches; blocks are then as tall as
    the chunks if possible, else as tall as memory allows, without reading ahead. `memory_bytes` is
    exceeded only if the smallest blocks need more. A chunk spans `chunk_rows` detector rows;
    `n_rows` of them are used, 0: all.
    """
    n_rows = n_rows or inputs.n_rows

    def lowest(batch_size: int, ahead: int = 1) -> Blocks:
        return Blocks(batch_size, batch_size * inputs.binning, ahead, 1 + inputs.on_gpu)

    least = lowest(largest_batch(lambda n: job_bytes(inputs, lowest(n)), memory_bytes))
    if job_bytes(inputs, least) > memory_bytes:
        least = replace(least, ahead=0, behind=1)
    if inputs.in_place:  # one batch at a time
        return least
    whole_chunks = math.lcm(least.height, chunk_rows)
    if whole_chunks > n_rows:
        whole_chunks = -(-min(chunk_rows, n_rows) // least.height) * least.height
    target = max(TALL * inputs.binning, whole_chunks)
    if inputs.halo:  # rows read twice or more: taller blocks where memory allows
        target = max(target, -(-2 * inputs.halo // least.height) * least.height)
    tallest = []
    for ahead in (least.ahead, 0) if chunk_rows > TALL * inputs.binning else (least.ahead,):
        low = replace(least, ahead=ahead)
        empty_bytes, one_row_bytes = (job_bytes(inputs, replace(low, height=h)) for h in (0, 1))
        rows = (memory_bytes - empty_bytes) // (one_row_bytes - empty_bytes)
        height = min(rows // low.height * low.height, target)
        tallest.append(replace(low, height=max(low.height, height)))
    blocks = max(tallest, key=lambda blocks: blocks.height)  # the first, ahead, if none is taller
    if blocks.height > whole_chunks:
        blocks = replace(blocks, height=blocks.height - blocks.height % whole_chunks)
    return with_workers(inputs, blocks, memory_bytes, n_rows)


def gpu_batch(inputs: MemoryInputs, free_bytes: int) -> int:
    """Return the batch size, 1 to 16, for the free memory of a GPU."""
    return largest_batch(lambda n: gpu_bytes(inputs, n), int(GPU_SHARE * free_bytes), least=1)


def are_stripes_together(inputs: MemoryInputs, batch_size: int, free_bytes: int) -> bool:
    """Tell whether a GPU has memory to remove the stripes of all rows of a batch in one call."""
    return gpu_bytes(inputs, batch_size, stripes_together=True) <= GPU_SHARE * free_bytes
