"""What a job of each step takes: cores, memory, GPU and time, from the sizes of its scans.

The rules have these numbers as `resources`, which `tomopipe.run.job_resources` asks for; `plan`
shows the CPU time, and the executor for SLURM packs submissions by it (decision 24).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import InventoryRows
from tomopipe.config import FullReconBlock
from tomopipe.config.step_blocks import ITERATIONS
from tomopipe.prep.half_acquisition import FACTOR
from tomopipe.prep.recipe import USUAL_SHAPES, most_shapes
from tomopipe.resources.disk import is_half_volume, output_bytes
from tomopipe.resources.memory import (
    BASE_BYTES,
    MemoryInputs,
    job_bytes,
    requested_mb,
    slice_bytes,
    standard_blocks,
    writing_bytes,
)
from tomopipe.stitching.blending import BLOCK_ROWS, HALO_ROWS
from tomopipe.volume_formats import IN_TIME
from tomopipe.volumes.output_size import BUFFER_BYTES, binned

START_S = 2.0
"""CPU time in which Snakemake starts a job: 28 jobs of the demonstration took a minute."""
_JOB_S = 0.4  # CPU time of any job
_SLICE_S = 0.015  # CPU time of a slice of 1024 columns
_ITERATION_S = 7e-8  # of one iteration of a slice: for each column, by columns and angles
_CORE_S = 4.0  # CPU time that justifies starting another core
MOST_CORES = 16
_TRY_BYTES = 300_000_000  # size of a raw file from which a sweep uses two cores
_REGISTER_BYTES = 512 * 2**20  # bytes for finding the overlap of volumes
_MARGIN = 3  # time requested / time expected
_BYTES_PER_S = 100e6  # read and written

Shape = tuple[int, int, int]  # projections, rows, columns


class Job(NamedTuple):
    """A job: its scans are one, or for stitching those of a stack that have a volume."""

    campaign: Campaign
    step: str
    scans: Sequence[str]
    rows: InventoryRows
    cors_px: Mapping[str, float]
    stack: str = ""
    gpu_cores: int = MOST_CORES  # cores of a volume on a GPU

    @property
    def scan(self) -> str:
        """The scan, or the first one of a stack."""
        return self.scans[0]

    @property
    def shape(self) -> Shape:
        """Projections, rows and columns of the scan."""
        row = self.rows[self.scan]
        return int(row["n_angles"]), int(row["n_rows"]), int(row["n_cols"])

    @property
    def raw_bytes(self) -> int:
        """The size of the raw file; 0 if unknown."""
        return self.campaign.scans[self.scan].n_bytes or 0

    @property
    def of_scan(self) -> Campaign:
        """The campaign with the options of the scan."""
        return self.campaign.for_scan(self.scan)

    @property
    def options(self) -> FullReconBlock:
        """The options of the volume of the scan."""
        return self.of_scan.config.full_recon

    @property
    def halo(self) -> int | None:
        """Rows that corrections need on either side of a block; None without corrections."""
        return correction_halo(self.of_scan, self.rows[self.scan])

    @property
    def n_shapes(self) -> int:
        """The largest number of changes of the beam."""
        return most_shapes(self.of_scan.config.preprocess)

    @property
    def is_half(self) -> bool:
        """Whether the slices of the scan, at its COR, are twice as wide as the detector."""
        return is_half_volume(self.campaign, self.rows[self.scan], self.cors_px[self.scan])

    @property
    def volume_bytes(self) -> int:
        """The size of the volumes of all scans."""
        return sum(
            output_bytes(self.campaign, "full_recon", self.rows[scan], self.cors_px[scan])
            for scan in self.scans
        )


def correction_halo(campaign: Campaign, row: Mapping[str, Any]) -> int | None:
    """Return the rows that corrections need around a block; None if there are no corrections.

    `row` is the scan's row of the inventory; without energy, distance or pixel size there and
    in the configuration, typical values are used.
    """
    from tomopipe.prep.recipe import USUAL, expected_halo  # slow to load

    result = {name: float(row[name]) for name in USUAL if row.get(name)}
    config = campaign.config
    numbers = result | config.input.model_dump(exclude_defaults=True)
    return expected_halo(config.preprocess, int(row["n_rows"]), int(row["n_cols"]), numbers)


class Need(NamedTuple):
    """What a job requests; `mem_mb` in its first attempt."""

    mem_mb: int
    threads: int = 1
    gpu: int = 0


# ---- each step: its request, and its CPU time ------------------------------------------------


def _try_recon(job: Job) -> Need:
    campaign = job.of_scan
    is_corrected = not campaign.config.preprocess.is_plain
    mem_mb = try_recon_mb(job.campaign.scans[job.scan].n_bytes, is_corrected=is_corrected)
    return Need(
        mem_mb + _beam_mb(job),
        threads=_sweep_cores(job),
        # with device: auto jobs on one machine share its GPUs by themselves
        gpu=int(campaign.config.try_recon.device == "cuda"),
    )


def _beam_mb(job: Job) -> int:
    """Return the memory (MB) of changes of the beam beyond those that are usual."""
    return math.ceil(4e-6 * (job.n_shapes - USUAL_SHAPES) * math.prod(job.shape[1:]))


def _sweep_cores(job: Job) -> int:
    return 1 + (job.raw_bytes >= _TRY_BYTES)


def try_recon_mb(n_bytes: int | None, *, is_corrected: bool) -> int:
    """Return the memory (MB) of rows and one sweep of a raw file of `n_bytes`."""
    raw_mb = 100.0 if n_bytes is None else n_bytes / 1e6
    return int(min(1500, 600 + 9 * raw_mb) + 0.1 * raw_mb + 1000 * is_corrected)


def _predict_cor(job: Job) -> Need:
    n_angles, _, n_cols = job.shape
    rows = job.campaign.files.rows(job.scan)
    n_bytes = rows.stat().st_size if rows.exists() else 32 * n_angles * n_cols
    return Need(predict_cor_mb(n_bytes / 2**20))


def predict_cor_mb(rows_mb: float) -> int:
    """Return the memory (MB) for finding the COR, from the size of rows.h5."""
    return int(min(1000, 600 + 20 * rows_mb) + 8 * rows_mb)


def _full_recon(job: Job) -> Need:
    threads, halo = _volume_cores(job), job.halo
    mem_mb = full_recon_mb(
        job.shape,
        job.options,
        is_half=job.is_half,
        halo=halo,
        n_shapes=job.n_shapes,
        threads=threads,
    )
    return Need(mem_mb, threads, gpu=int(job.options.device == "cuda"))


def full_recon_mb(
    shape: Shape,
    options: FullReconBlock = FullReconBlock(),
    *,
    is_half: bool = False,
    halo: int | None = None,
    n_shapes: int = USUAL_SHAPES,
    threads: int = 1,
) -> int:
    """Return the memory (MB) for a volume with the standard blocks.

    `halo` is the number of rows that corrections need on either side of a block, None without
    corrections, `n_shapes` the number of changes of the beam. The file, which is not open, is
    assumed to need decoding in blocks.
    """
    inputs = MemoryInputs(
        *shape,
        binning=options.binning,
        output=options.output,
        compression=options.compression,
        stored_itemsize=np.dtype(options.dtype).itemsize,
        on_gpu=options.device == "cuda",
        iterative=options.algorithm != "fbp",
        widening=FACTOR if is_half else 1,
        halo=halo,
        n_shapes=n_shapes,
        threads=1 if options.device == "cuda" else threads,
    )
    return requested_mb(job_bytes(inputs, standard_blocks(inputs)))


def _volume_cores(job: Job) -> int:
    """Return the cores that a volume can use."""
    if job.options.device == "cuda":
        return job.gpu_cores
    return max(1, math.ceil(min(MOST_CORES, volume_s(job.shape, job.options) / _CORE_S)))


def volume_s(shape: Shape, options: FullReconBlock) -> float:
    """Estimate the CPU time of a volume (s); on a GPU it takes less."""
    n_angles, (n_rows, n_cols) = shape[0], (number / options.binning for number in shape[1:])
    if options.algorithm == "fbp":
        return _JOB_S + n_rows * _SLICE_S * (n_cols / 1024) ** 2.2
    n_iterations = options.iterations or ITERATIONS[options.algorithm]
    return _JOB_S + n_rows * n_iterations * _ITERATION_S * n_cols * (n_cols + n_angles)


def _stitch(job: Job) -> Need:
    is_time = job.stack in job.campaign.config.stitch.time
    return Need(stitch_mb(job.shape[2], job.options, is_half=job.is_half, is_time=is_time))


def stitch_mb(
    n_cols: int,
    options: FullReconBlock = FullReconBlock(),
    *,
    is_half: bool = False,
    is_time: bool = False,
) -> int:
    """Return the memory (MB) for stitching volumes of `n_cols` columns.

    It covers slices of two volumes with their halo, and a block being blended and written; in time
    layers of one volume that are read and written, whatever the number of time points.
    """
    n_x = binned(FACTOR * n_cols if is_half else n_cols, options.binning)
    if is_time:
        read = min(BUFFER_BYTES, 16 * slice_bytes(n_x))
        copying = BASE_BYTES + read + 2 * slice_bytes(n_x)
        return math.ceil(1.2 * (copying + writing_bytes(n_x, IN_TIME, options.compression)) / 1e6)
    n_slices = 2 * (BLOCK_ROWS + 2 * HALO_ROWS) + 4 * BLOCK_ROWS + 6
    stitching = BASE_BYTES + _REGISTER_BYTES + n_slices * slice_bytes(n_x)
    total = stitching + writing_bytes(n_x, options.output, options.compression)
    return math.ceil(1.2 * total / 1e6)


def _export_stack(job: Job) -> Need:
    if job.of_scan.config.preprocess.is_plain:
        return Need(export_stack_mb())
    n_angles, _, n_cols = job.shape
    return Need(export_stack_mb(n_angles, n_cols, halo=job.halo or 0) + _beam_mb(job))


def export_stack_mb(n_angles: int = 0, n_cols: int = 0, *, halo: int | None = None) -> int:
    """Return the memory (MB) for a stack: two blocks of 256 MiB, and the interpreter.

    With corrections also a block of all angles with `halo` rows around; None: no corrections.
    """
    return 900 if halo is None else int(2100 + 8e-6 * halo * n_angles * n_cols)


class _Step(NamedTuple):
    need: Callable[[Job], Need]
    cpu_s: Callable[[Job], float] = lambda job: 0.0
    cores: Callable[[Job], int] = lambda job: 1


def _by_frames(byte_s: float) -> Callable[[Job], float]:
    """Return a CPU time (s) per byte of the frames (two bytes a pixel)."""
    return lambda job: _JOB_S + byte_s * 2 * math.prod(job.shape)


NEEDS = {
    "try_recon": _Step(_try_recon, _by_frames(8e-8), _sweep_cores),
    "predict_cor": _Step(_predict_cor, _by_frames(3e-8)),
    "full_recon": _Step(
        _full_recon,
        lambda job: volume_s(job.shape, job.options),
        _volume_cores,
    ),
    "stitch": _Step(_stitch),  # it copies
    "export_stack": _Step(_export_stack, _by_frames(3e-9)),
}
"""The steps whose rules have `requests`: those of scans and stacks."""


def need(job: Job) -> Need:
    """Return what a job requests."""
    return NEEDS[job.step].need(job)


def cpu_s(campaign: Campaign, step: str, key: str, rows: InventoryRows) -> float:
    """Estimate the CPU time (s) of a job; 0 for tables, and for stitching, which copies."""
    return NEEDS[step].cpu_s(Job(campaign, step, (key,), rows, {})) if step in NEEDS else 0.0


def planned(
    campaign: Campaign, step: str, key: str, rows: InventoryRows, gpu_cores: int = MOST_CORES
) -> tuple[float, int]:
    """Return the CPU time of a job (s), with its start, and its cores."""
    job = Job(campaign, step, (key,), rows, {}, gpu_cores=gpu_cores)
    cores = NEEDS[step].cores(job) if step in NEEDS else 1
    return START_S + cpu_s(campaign, step, key, rows), cores


def wall_s(job: Job, threads: int) -> int:
    """Return three times the expected time of a job (s): it computes, reads and writes."""
    if job.step == "stitch":
        n_bytes = 2 * job.volume_bytes
    else:
        n_bytes = job.raw_bytes + (job.volume_bytes if job.step == "full_recon" else 0)
    computing_s = cpu_s(job.campaign, job.step, job.scan, job.rows)
    return math.ceil(_MARGIN * (computing_s / threads + n_bytes / _BYTES_PER_S))
