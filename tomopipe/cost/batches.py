"""Batches: jobs that share one submission to a cluster, and their cores.

A submission asks for no more cores than its jobs keep busy. A batch holds the jobs of several
scans. It is closed when it is full, and when jobs are decided again, since its own may run by then.
A large scan has a submission of its own.
"""

import math

from tomopipe.config import FullReconBlock

_LARGE_BYTES = 1_000_000_000  # a raw file of this size has a submission of its own
_BATCH_BYTES = 4_000_000_000  # size of the raw files in one submission
_TRY_BYTES = 300_000_000  # size of a raw file from which a sweep uses two cores
_SLICE_S = 0.015  # CPU time of a slice of 1024 columns
_CORE_S = 4.0  # CPU time that justifies starting another core
_START_S = 3.0  # of a submission: Snakemake and imports, on one core
_USED = 0.6  # of the cores and the time that a submission holds
# CPU time of a job: of any, and of some for each byte of the raw file
_JOB_S = 0.4
_BYTE_S = {"try_recon": 8e-8, "predict_cor": 3e-8, "export_stack": 3e-9}
MOST_CORES = 16
_ALL_CORES = 10_000


class Batches:
    """The batches of a run, by kind; a scan stays in its batch."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], str] = {}
        self._open: dict[str, tuple[str, object, int, int]] = {}
        self._n_batches = 0

    def batch_of(self, kind: str, scan: str, n_bytes: int, *, size: int, when: object) -> str:
        """Return the batch of a scan's jobs: `kind` and a number.

        A batch has at most `size` scans; `n_bytes` is the size of the scan's raw file; `when`
        differs each time that jobs are decided again.
        """
        if (kind, scan) not in self._of:
            batch, since, n_scans, sum_bytes = self._open.get(kind, ("", None, 0, 0))
            full = n_scans >= size or sum_bytes + n_bytes > _BATCH_BYTES
            if since != when or full:
                self._n_batches += 1
                batch, n_scans, sum_bytes = f"{kind}{self._n_batches}", 0, 0
            self._open[kind] = batch, when, n_scans + 1, sum_bytes + n_bytes
            self._of[kind, scan] = batch
        return self._of[kind, scan]


def is_large(n_bytes: int) -> bool:
    """Tell whether a scan's volume has a submission of its own."""
    return n_bytes >= _LARGE_BYTES


def try_cores(n_bytes: int) -> int:
    """Return the cores that the sweep of a scan can use."""
    return 2 if n_bytes >= _TRY_BYTES else 1


def volume_cores(shape: tuple[int, int, int], options: FullReconBlock) -> int:
    """Return the cores that a volume can use: of a scan of (n_angles, n_rows, n_cols)."""
    return max(1, math.ceil(min(MOST_CORES, volume_s(shape, options) / _CORE_S)))


def volume_s(shape: tuple[int, int, int], options: FullReconBlock) -> float:
    """Estimate the CPU time of a volume (s); infinite where it uses all that it gets."""
    if options.algorithm != "fbp" or options.device == "cuda":
        return math.inf
    _, n_rows, n_cols = (number / options.binning for number in shape)
    return _JOB_S + n_rows * _SLICE_S * (n_cols / 1024) ** 2.2


def job_s(step: str, n_bytes: int) -> float:
    """Estimate the CPU time (s) of another step's job, from the size of the raw file."""
    return _JOB_S + _BYTE_S[step] * n_bytes


def batch_cores(cpu_s: float) -> int:
    """Return the most cores of which jobs of so much CPU time use 0.6, with their start.

    The start and the jobs use `start + jobs` of the `n * start + jobs` core-seconds held.
    """
    n_cores = (cpu_s * (1 / _USED - 1) + _START_S / _USED) / _START_S
    return int(min(_ALL_CORES, max(1, n_cores)))
