"""The memory, time, cores and GPU that a SLURM job requests, from the size of its scan.

The rules have them as `resources` (`asks` and `takes` of workflow/rules/common.smk), the executor
for SLURM passes them to sbatch; the needs of a job of each step are in `cost` and `stream.memory`.

A node gets these numbers and the parameters of its jobs from a file for each job in the folder of
the run, which the main process writes before it submits the job.
"""

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tomopipe import cost
from tomopipe.campaign.log import read_job, status_path
from tomopipe.errors import RunEndedError
from tomopipe.reruns.made_from import as_text
from tomopipe.reruns.parameters import is_open, parameters
from tomopipe.reruns.settle import Settled
from tomopipe.run import launch
from tomopipe.stitching.blending import stitch_mb
from tomopipe.storage import run_folder
from tomopipe.storage.json_files import json_or
from tomopipe.stream import memory

_SENT = "sent"  # in the folder of a run
_LARGE_BYTES = 1_000_000_000  # a volume of a raw file of this size has a submission of its own
_TRY_BYTES = 300_000_000  # size of a raw file from which a sweep uses two cores
_ALONE_MS = 10**9  # CPU time with which a job has a submission of its own
_MARGIN = 3  # factor of the estimate
_LEAST_MIN = 10
_BYTES_PER_S = 100e6  # read and written


@lru_cache(maxsize=8)  # Snakemake asks for one number after the other
def request(settled: Settled, step: str, key: str, attempt: int) -> dict[str, int]:
    """Return the request of a job of a scan or stack, and write it for the node.

    `threads`, `mem_mb` and `gpu`; `attempts_left` after this one. Empty while a table is missing on
    which they depend.
    """
    if not is_open(settled, step, key):
        return {}
    result = _NUMBERS[step](settled, key)
    result["mem_mb"] *= attempt
    result["attempts_left"] = (
        1 + int(launch.option("--retries", "--restart-times", "-T") or 0) - attempt
    )
    run = run_folder.current() if launch.is_remote() else None
    if run is not None:
        path = _sent_file(run, step, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result | {"job": parameters(settled, step, key)}), "utf-8")
    return result


@lru_cache(maxsize=64)
def sent(step: str, key: str) -> dict[str, Any]:
    """Return on a node the request of a job, with its parameters as `job`."""
    run = run_folder.current()
    content: dict[str, Any] = json_or(_sent_file(run, step, key), {}) if run else {}
    if not content:
        raise RunEndedError(f"{run}: no request for {step} of {key} there; nothing was made.")
    return content


def at_work(settled: Settled, run: Path) -> set[str]:
    """Return the submissions of a killed run whose results are still needed.

    These have a job without an end, whether it has begun or not, whose provenance statement, as
    written for the node, equals the present target.
    """
    return {
        number
        for number, logs in run_folder.submissions(run).items()
        if any(_is_needed(settled, run, status_path(log)) for log in logs)
    }


def _is_needed(settled: Settled, run: Path, path: Path) -> bool:
    """Tell whether a job of a run, by its status file, is still to make what is needed."""
    step, key = path.parent.name, path.name.removesuffix(".json")
    status = json_or(settled.campaign.directory / path, {})
    is_of_run = Path(status.get("run", "")).name == run.name
    is_known = key in settled.campaign.scans or key in settled.campaign.config.stitch.stacks
    if (is_of_run and status.get("state") != "running") or not is_known:
        return False
    statement = json_or(_sent_file(run, step, key), {}).get("job", {}).get("made_from")
    return is_open(settled, step, key) and statement == as_text(
        settled.target.statement(step, key, settled.cors)
    )


def _sent_file(run: Path, step: str, key: str) -> Path:
    return run / _SENT / step / f"{key}.json"


def cpu_ms(settled: Settled, step: str, key: str) -> int:
    """Return the CPU time by which the executor for SLURM groups jobs; 0 without SLURM."""
    if not (launch.is_remote() and is_open(settled, step, key)):
        return 0
    is_large = step == "full_recon" and _bytes(settled, key) >= _LARGE_BYTES
    if is_large or _was_killed_before(settled, step, key):
        return _ALONE_MS  # if it is killed alone, it is to blame
    return int(min(1000 * cost.cpu_s(settled.campaign, step, key, settled.rows), _ALONE_MS))


def runtime_min(settled: Settled, step: str, key: str, threads: int) -> int:
    """Return the time that a submitted job requests in its first attempt, in minutes."""
    return max(_LEAST_MIN, math.ceil(wall_s(settled, step, key, threads) / 60))


def wall_s(settled: Settled, step: str, key: str, threads: int) -> int:
    """Return three times the expected time of a submitted job; 0 for a job that is not."""
    if not (launch.is_remote() and is_open(settled, step, key)):
        return 0
    cpu_s = cost.cpu_s(settled.campaign, step, key, settled.rows)
    return math.ceil(_MARGIN * (cpu_s / threads + _io_bytes(settled, step, key) / _BYTES_PER_S))


def _was_killed_before(settled: Settled, step: str, key: str) -> bool:
    """Tell whether a job was killed in the last run, perhaps by the fault of another job."""
    job = read_job(settled.campaign.logs.status(step, key))
    return job is not None and job.state in ("running", "lost")


def _io_bytes(settled: Settled, step: str, key: str) -> int:
    """Return the bytes of raw files and volumes that a job reads and writes."""
    scans = settled.target.stacks(settled.cors)[key].scans if step == "stitch" else (key,)
    made = sum(
        cost.output_bytes(
            settled.campaign, "full_recon", settled.rows[scan], _cor_px(settled, scan)
        )
        for scan in scans
        if step in ("stitch", "full_recon")
    )
    return 2 * made if step == "stitch" else made + _bytes(settled, key)


def _bytes(settled: Settled, scan: str) -> int:
    return settled.campaign.scans[scan].n_bytes or 0


def _shape(settled: Settled, scan: str) -> tuple[int, int, int]:
    row = settled.rows[scan]
    return int(row["n_angles"]), int(row["n_rows"]), int(row["n_cols"])


def _cor_px(settled: Settled, scan: str) -> float:
    return float(settled.cors[scan]["cor_px"])


def _is_half(settled: Settled, scan: str) -> bool:
    """Tell whether the slices of a scan, at its COR, are twice as wide as the detector."""
    return cost.is_half_volume(settled.campaign, settled.rows[scan], _cor_px(settled, scan))


def _try_recon(settled: Settled, scan: str) -> dict[str, int]:
    campaign, n_bytes = settled.campaign.for_scan(scan), settled.campaign.scans[scan].n_bytes
    return {
        "threads": 1 + ((n_bytes or 0) >= _TRY_BYTES),
        "mem_mb": memory.try_recon_mb(n_bytes, is_corrected=campaign.is_corrected),
        # with device: auto jobs on one machine share its GPUs by themselves
        "gpu": int(campaign.config.try_recon.device == "cuda"),
    }


def _predict_cor(settled: Settled, scan: str) -> dict[str, int]:
    n_angles, _, n_cols = _shape(settled, scan)
    rows = settled.campaign.files.rows(scan)
    n_bytes = rows.stat().st_size if rows.exists() else 32 * n_angles * n_cols
    return {"mem_mb": memory.predict_cor_mb(n_bytes / 2**20)}


def _full_recon(settled: Settled, scan: str) -> dict[str, int]:
    campaign, row = settled.campaign.for_scan(scan), settled.rows[scan]
    options, shape = campaign.config.full_recon, _shape(settled, scan)
    threads = cost.volume_cores(shape, options)
    mem_mb = memory.full_recon_mb(
        shape,
        options,
        is_half=_is_half(settled, scan),
        halo=campaign.correction_halo(row),
        threads=threads,
    )
    return {"threads": threads, "mem_mb": mem_mb, "gpu": int(options.device == "cuda")}


def _stitch(settled: Settled, name: str) -> dict[str, int]:
    scan = settled.target.stacks(settled.cors)[name].scans[0]
    options, n_cols = settled.campaign.for_scan(scan).config.full_recon, _shape(settled, scan)[2]
    return {"mem_mb": stitch_mb(n_cols, options, is_half=_is_half(settled, scan))}


def _export_stack(settled: Settled, scan: str) -> dict[str, int]:
    campaign = settled.campaign.for_scan(scan)
    if not campaign.is_corrected:
        return {"mem_mb": memory.export_stack_mb()}
    n_angles, _, n_cols = _shape(settled, scan)
    halo = campaign.correction_halo(settled.rows[scan]) or 0
    return {"mem_mb": memory.export_stack_mb(n_angles, n_cols, halo=halo)}


_NUMBERS: dict[str, Callable[[Settled, str], dict[str, int]]] = {
    "try_recon": _try_recon,
    "predict_cor": _predict_cor,
    "full_recon": _full_recon,
    "stitch": _stitch,
    "export_stack": _export_stack,
}
