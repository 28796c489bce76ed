"""CPU time and cores of jobs, estimated from the sizes of their scans.

For the costs that `plan` shows, and for SLURM: its executor packs submissions by CPU time
(decision 24).
"""

import math

from tomopipe.campaign.campaign import Campaign, InventoryRows
from tomopipe.config import FullReconBlock
from tomopipe.config.blocks import ITERATIONS

_LARGE_BYTES = 1_000_000_000  # a raw file of this size has a submission of its own
_TRY_BYTES = 300_000_000  # size of a raw file from which a sweep uses two cores
_SLICE_S = 0.015  # CPU time of a slice of 1024 columns
_ITERATION_S = 7e-8  # of one iteration of a slice: for each column, by columns and angles
_CORE_S = 4.0  # CPU time that justifies starting another core
# CPU time of a job: of any, and of some for each byte of the raw file
_JOB_S = 0.4
_BYTE_S = {"try_recon": 8e-8, "predict_cor": 3e-8, "export_stack": 3e-9}
MOST_CORES = 16


def is_large(n_bytes: int) -> bool:
    """Tell whether a scan's volume has a submission of its own."""
    return n_bytes >= _LARGE_BYTES


def try_cores(n_bytes: int) -> int:
    """Return the cores that the sweep of a scan can use."""
    return 2 if n_bytes >= _TRY_BYTES else 1


def volume_cores(shape: tuple[int, int, int], options: FullReconBlock) -> int:
    """Return the cores that a volume can use: of a scan of (n_angles, n_rows, n_cols)."""
    if options.device == "cuda":
        return MOST_CORES
    return max(1, math.ceil(min(MOST_CORES, volume_s(shape, options) / _CORE_S)))


def volume_s(shape: tuple[int, int, int], options: FullReconBlock) -> float:
    """Estimate the CPU time of a volume (s); on a GPU it takes less."""
    n_angles, (n_rows, n_cols) = shape[0], (number / options.binning for number in shape[1:])
    if options.algorithm == "fbp":
        return _JOB_S + n_rows * _SLICE_S * (n_cols / 1024) ** 2.2
    n_iterations = options.iterations or ITERATIONS[options.algorithm]
    return _JOB_S + n_rows * n_iterations * _ITERATION_S * n_cols * (n_cols + n_angles)


def job_s(step: str, n_bytes: int) -> float:
    """Estimate the CPU time (s) of another step's job, from the size of the raw file."""
    return _JOB_S + _BYTE_S[step] * n_bytes


def cpu_s(campaign: Campaign, step: str, key: str, rows: InventoryRows) -> float:
    """Estimate the CPU time (s) of a job; 0 of tables, and of stitching, which copies."""
    if step == "full_recon":
        n_angles, n_rows, n_cols = (
            int(rows[key][name]) for name in ("n_angles", "n_rows", "n_cols")
        )
        return volume_s((n_angles, n_rows, n_cols), campaign.for_scan(key).config.full_recon)
    return job_s(step, campaign.scans[key].n_bytes or 0) if step in _BYTE_S else 0.0
