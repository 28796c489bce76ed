"""The options of full_recon: checked, and fitted to a scan."""

import logging
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tomopipe.config import FullReconBlock, PreprocessBlock
from tomopipe.config.spans import check_place, first_and_last
from tomopipe.config.step_blocks import ITERATIONS
from tomopipe.errors import ScanError
from tomopipe.geometry import bin_cor, pixels_per_cm
from tomopipe.prep.correct import Corrections
from tomopipe.prep.half_acquisition import FACTOR, HalfAcquisition, is_half_acquisition
from tomopipe.recon.angular_sampling import is_full_rotation, unpaired
from tomopipe.recon.device import FEW_SLICES
from tomopipe.recon.gpu import CudaDevice, free_memory
from tomopipe.recon.iterative import make_projector, solve_slices, solver
from tomopipe.recon.plan import EdgeSlopes, binned_edge_slopes
from tomopipe.recon.transfer import DeviceTransfer
from tomopipe.resources.memory import (
    GPU_SHARE,
    Blocks,
    MemoryInputs,
    are_stripes_together,
    choose_blocks,
    gpu_batch,
    gpu_bytes,
    job_bytes,
)
from tomopipe.scans.chunks import DECODE_BYTES
from tomopipe.scans.scan import Scan
from tomopipe.stream.recon_task import ReconTask
from tomopipe.stream.source import Source
from tomopipe.stream.stream import sample_slices
from tomopipe.stream.try_sweep import plan_of
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.encoding import Encoding, encoding_of, robust_range
from tomopipe.volumes.output_size import StackGeometry, binned, extent
from tomopipe.volumes.volume_read import HEIGHT

UNITS = {"per_pixel": "1/pixel", "per_cm": "1/cm"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VolumeOptions:
    """Options of a volume; `pixel_size_um` is for attenuation per cm, None: that of the file."""

    cor_px: float
    full: FullReconBlock
    preprocess: PreprocessBlock
    pixel_size_um: float | None


def check_options(target: VolumeOptions) -> None:
    """Raise for options that do not go together, and for what is not installed."""
    full = target.full
    if full.algorithm != "fbp" and full.device == "cuda":
        raise ValueError(f"device: cuda does fbp only; set auto or cpu for {full.algorithm}")
    if full.algorithm != "fbp" and target.preprocess.half_acquisition == "yes":
        raise ValueError(f"half_acquisition: yes needs fbp; set auto or no for {full.algorithm}")
    FORMATS[full.output].check_package()


def fit_blocks(
    scan: Scan,
    target: VolumeOptions,
    memory_bytes: int,
    *,
    on_gpu: bool,
    halo: int | None,
) -> tuple[Blocks, Blocks]:
    """Choose the blocks that fit in memory: to read the scan, and to read a scratch file."""
    inputs = _memory_inputs(scan, target, on_gpu=on_gpu, halo=halo)
    first, last = first_and_last("full_recon.rows", target.full.rows, scan.n_rows)
    chunk_rows, n_rows = scan.chunks[1] if scan.chunks else 1, last + 1 - first
    blocks = choose_blocks(inputs, memory_bytes, chunk_rows=chunk_rows, n_rows=n_rows)
    logger.info(
        "%s: %.3g GB of %.3g GB", blocks, job_bytes(inputs, blocks) / 1e9, memory_bytes / 1e9
    )
    return blocks, choose_blocks(inputs, memory_bytes, n_rows=n_rows)


def least_gpu_bytes(scan: Scan, target: VolumeOptions, halo: int | None) -> int:
    """Return the least free memory (bytes) of a GPU, for a few slices: fewer do not pay."""
    inputs = _memory_inputs(scan, target, on_gpu=True, halo=halo)
    return int(gpu_bytes(inputs, FEW_SLICES) / GPU_SHARE)


def _memory_inputs(
    scan: Scan, target: VolumeOptions, *, on_gpu: bool, halo: int | None
) -> MemoryInputs:
    full, decode_bytes = target.full, 0
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
        on_gpu=on_gpu,
        in_place=on_gpu and scan.chunks is None,
        iterative=full.algorithm != "fbp",
        widening=_widening(scan, target),
        halo=halo,
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


def fit_task(
    scan: Scan,
    target: VolumeOptions,
    batch_size: int,
    gpu: CudaDevice | None,
    *,
    corrections: Corrections | None,
    edge_slopes_per_px: EdgeSlopes,
) -> ReconTask:
    """Fit the options to the scan, and the batches to the GPU that computes, if one does.

    A GPU corrects raw rows itself; the host gets corrected rows.
    """
    last_col = scan.first_col + scan.n_cols - 1
    check_place(target.cor_px, scan.first_col, last_col, scan.detector_cols)
    if scan.n_cols < target.full.binning:
        raise ScanError(
            f"full_recon.binning: {target.full.binning} is more than the {scan.n_cols} columns"
        )
    first, last = first_and_last("full_recon.rows", target.full.rows, scan.n_rows)
    binning = target.full.binning
    size = StackGeometry(scan.n_cols, last + 1 - first, binning)
    widening = _widening(scan, target)
    # incomplete blocks of columns are dropped before the width is doubled
    n_voxels = scan.n_cols if widening == 1 else widening * size.volume_cols * binning
    cor_px = float(bin_cor(target.cor_px, x0=scan.first_col, binning=binning))
    slopes = binned_edge_slopes(edge_slopes_per_px, binning)
    half = HalfAcquisition(size.volume_cols, cor_px, unpaired(scan.theta_rad), slopes)
    plan = plan_of(
        scan.theta_rad,
        half,
        widening > 1,
        filter=target.full.filter,
        xp=gpu.xp if gpu else np,
        batch_size=batch_size,
    )
    if gpu:
        halo = corrections.halo if corrections else None
        inputs, free = _memory_inputs(scan, target, on_gpu=True, halo=halo), gpu.free_bytes()
        batch_size = min(batch_size, gpu_batch(inputs, free))
        logger.info("%.3g GB of the GPU are free: %d slices at a time", free / 1e9, batch_size)
        if corrections:
            together = are_stripes_together(inputs, batch_size, free)
            corrections = replace(corrections, stripes_together=together)
    iterative = None
    if (full := target.full).algorithm != "fbp":
        projector = make_projector(scan.theta_rad, size.volume_cols, cor_px)
        n_iterations = full.iterations or ITERATIONS[full.algorithm]
        solve = solver(full.algorithm, projector, n_iterations, full.tv_strength)
        threads = min(scan.threads, batch_size)
        iterative = partial(solve_slices, projector=projector, solve=solve, threads=threads)
    per_pixel = 1.0
    if full.unit != "per_pixel":
        per_pixel = pixels_per_cm(target.pixel_size_um or scan.pixel_size_um)
    return ReconTask(
        scan=scan,
        plan=plan,
        cor_px=cor_px,
        scale=per_pixel / binning,
        first_row=first,
        last_row=first + size.rows * size.binning_rows,
        crop=(
            _crop("crop_y", target.full.crop_y, n_voxels, binning),
            _crop("crop_x", target.full.crop_x, n_voxels, binning),
        ),
        binning=binning,
        binning_rows=size.binning_rows,
        minus_log=target.preprocess.minus_log,
        corrected=corrections is not None and gpu is None,
        corrections=corrections if gpu else None,
        threads=scan.threads,
        transfer=DeviceTransfer(gpu, threads=scan.threads) if gpu else None,
        batch_size=batch_size,
        half=half if widening > 1 else None,
        iterative=iterative,
    )


def needs_range(target: VolumeOptions) -> bool:
    """Tell whether the range of an integer type has to be measured on sample slices."""
    return np.dtype(target.full.dtype).kind == "u" and isinstance(target.full.value_range, str)


def choose_encoding(task: ReconTask, source: Source, target: VolumeOptions) -> Encoding:
    """Return the encoding of values; the range of an integer type is measured on sample slices."""
    if not needs_range(target):
        fixed = None if isinstance(target.full.value_range, str) else target.full.value_range
        return encoding_of(target.full.dtype, fixed)
    low, high = robust_range(sample_slices(task, source), target.full.dtype)
    free_memory(task.plan.xp)  # above all pinned memory, which the volume needs in other sizes
    logger.info("%s stores %g to %g %s", target.full.dtype, low, high, UNITS[target.full.unit])
    return encoding_of(target.full.dtype, (low, high))


def describe(task: ReconTask, target: VolumeOptions) -> dict[str, Any]:
    """Describe the values and voxels of the volume."""
    size_um = target.pixel_size_um or task.scan.pixel_size_um
    voxel = {"voxel_size_um": size_um * task.binning} if size_um else {}
    if size_um and task.scan.pixel_ratio != 1:
        voxel[HEIGHT] = voxel["voxel_size_um"] * task.scan.pixel_ratio
    return {"units": UNITS[target.full.unit], "binning": task.binning, **voxel}
