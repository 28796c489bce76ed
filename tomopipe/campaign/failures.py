"""Records of jobs that failed finally, so that the next run continues without their scans.

A record is results/failed/<step>/<scan>.json; it counts only while size and time of the raw file
are unchanged. Only try_recon and predict_cor have records: later steps fail as Snakemake jobs. A
stack that its scan is to blame for says so itself (`failed_stack`).
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign import slurm
from tomopipe.campaign.files import VOLUMES, Files, Logs
from tomopipe.campaign.job_status import CLOCKS_S, STEP_ORDER, JobStatus, read_job
from tomopipe.campaign.log import status_path
from tomopipe.campaign.results import center_by_hand
from tomopipe.storage.atomic import write_json
from tomopipe.storage.json_files import json_or, text

STEPS = ("try_recon", "predict_cor")
Stat = tuple[int | None, int | None]  # size in bytes, modification time in ns


@dataclass(frozen=True)
class JobError:
    """What a cluster `said` of a job that failed: `error` and `slurm_job`."""

    said: dict[str, str]
    inputs: set[str]
    outputs: set[str]


JOB_ERRORS: dict[str, JobError] = {}
"""Jobs of the run of this process that failed, by their log."""


@dataclass(frozen=True)
class Failure:
    """A job that was killed, or an error it recorded, with the end of its log."""

    step: str
    scan: str
    reason: str
    log: str = ""
    log_tail: str = ""


def read_failures(results: Path, files: Mapping[str, Stat]) -> dict[str, Failure]:
    """Return the failures that still count, by scan; `files`: size and time of raw files now."""
    failures, kept = {}, Files(results)
    for step in STEPS:
        for path in sorted(kept.failure(step, "").parent.glob("*.json")):
            scan = path.name.removesuffix(".json")
            # an unreadable record forgets the failure: the job is tried again
            record = json_or(path, {})
            if record and (record.get("bytes"), record.get("mtime_ns")) == files.get(scan):
                failures[scan] = Failure(step, scan, str(record.get("reason", "")))
    return failures


def record_failures(
    results: Path, logs: Path, files: Mapping[str, Stat], *, since: float
) -> list[Failure]:
    """Record every job that started after `since` (Unix seconds), did not end and left no output.

    Of several that were killed together, in one SLURM job, none: nobody knows whose fault it was.
    `files`: size and modification time (ns) of each scan's raw file. Returns the new records.
    """
    found, kept = list[tuple[JobStatus, str]](), Files(results)
    for step in STEPS:
        for path in sorted(Logs(logs).status(step, "").parent.glob("*.json")):
            job = read_job(path)
            reason = _reason(job, since)
            if job and reason and job.key in files and not is_made(kept, step, job.key):
                found.append((job, reason))
    killed = Counter(job.slurm_job for job, _ in found if job.slurm_job and job.state != "failed")
    recorded = []
    for job, reason in found:
        if job.state != "failed" and killed[job.slurm_job] > 1:
            continue
        n_bytes, mtime_ns = files[job.key]
        write_json(
            {"step": job.step, "reason": reason, "bytes": n_bytes, "mtime_ns": mtime_ns},
            kept.failure(job.step, job.key),
        )
        recorded.append(Failure(job.step, job.key, reason))
    return recorded


def record_not_begun(
    logs: Path, jobs: Iterable[tuple[Path, Mapping[str, str]]], *, since: float
) -> list[JobStatus]:
    """Write for jobs of a run, begun at `since`, that failed without it the status that they lack.

    `jobs` are their logs, and what is known, `error` and `slurm_job`; those of no step of ours are
    left out. Returns what was written. A log of before is removed, as by a job that begins.
    """
    recorded = []
    for log, said in jobs:
        path, now_s = status_path(log), time.time()
        if log.parents[1] != logs or path.parent.name not in STEP_ORDER:
            continue
        if log.exists() and log.stat().st_mtime < since:
            log.unlink()
        ended = {"state": "failed", "start": now_s, "end": now_s, "may_pass": True}
        write_json({**said, **ended}, path)
        if job := read_job(path):
            recorded.append(job)
    return recorded


def note_error(
    log: str, inputs: Iterable[str], outputs: Iterable[str], error: str, slurm_job: str = ""
) -> None:
    """Keep what a cluster said of a job that failed, perhaps before it began."""
    said = {"error": error, "slurm_job": slurm_job}
    said = {key: value for key, value in said.items() if value}
    JOB_ERRORS[str(log)] = JobError(said, {*map(str, inputs)}, {*map(str, outputs)})


def not_begun(run: str) -> list[tuple[str, dict[str, str]]]:
    """Return the logs of the jobs that failed finally without a status of this run, and why.

    Without those that only follow on another of them.
    """
    failed = dict(JOB_ERRORS)
    states = {log: _state_in(run, log) for log in failed}
    missing = {path for log in failed if states[log] != "done" for path in failed[log].outputs}
    return [
        (log, job.said) for log, job in failed.items() if not (states[log] or job.inputs & missing)
    ]


def _state_in(run: str, log: str) -> str:
    """Return the state of the job of a log in a run; "" if it has not begun there."""
    status = json_or(status_path(log), {})
    return text(status.get("state")) if status.get("run") == run else ""


def plain_error(text: str, step: str) -> str:
    """Return an error as a job notes it, without the name of its class and the step."""
    return re.sub(rf"^((Tomopipe|Scan|Device)Error: )?({step}: )?", "", text)


def _reason(job: JobStatus | None, since: float) -> str:
    if job is None or job.start_s < since or job.state == "done":
        return ""
    if job.state == "failed":
        # Errors caused by a scan are caught and are results. The others (a full disk, a wrong
        # installation) would affect every scan of the campaign, except too little memory.
        return f"failed: {job.error}" if job.error.startswith("MemoryError") else ""
    number = job.slurm_job
    ended = slurm.job_states([number]).get(number, "") if number else ""
    of_slurm = f", SLURM job {number} ({ended})" if ended in slurm.ENDED else ""
    return f"killed or timed out on {job.host or 'its node'}{of_slurm}; see the log"


def begun(logs: Logs[Path], step: str) -> set[str]:
    """Name the scans of which a job of a step has begun, by one listing, not a look for each."""
    with suppress(FileNotFoundError):
        return {name.removesuffix(".json") for name in os.listdir(logs.status(step, "").parent)}
    return set()


def has_no_end(log: Path, *, since: float) -> bool:
    """Tell from the status beside its log whether a job began after `since`, and was killed."""
    job = _begun(log, since)
    return job is not None and job.state in ("running", "lost")


def _begun(log: Path, since: float) -> JobStatus | None:
    """Return the status beside the log of a job; None if it began before `since`."""
    job = read_job(status_path(log))
    return job if job is not None and job.start_s >= since - CLOCKS_S else None


def is_made(files: Files[Path], step: str, key: str) -> bool:
    """Tell whether the result of a scan, or a stack, exists; a volume counts in any format."""
    made = {
        "try_recon": [files.sweep(key)],  # the last that it writes
        "predict_cor": [files.prediction(key)],
        "full_recon": [files.volume(key, output) for output in VOLUMES],
        "stitch": [files.stitched(key, output) for output in VOLUMES],
        "export_stack": [files.stack(key)],
    }
    return any(path.exists() for path in made.get(step, ()))


def failed_stack(files: Files[Path], scan: str) -> str:
    """Say why the job of a scan left no stack for RELION; "" if it did, or has not run."""
    with suppress(FileNotFoundError):  # one that is temporary
        if files.stack(scan).stat().st_size:
            return ""
    return text(json_or(files.stack_meta(scan), {}).get("failed"))


def forget(results: Path, scans: Iterable[str], *, dry_run: bool = False) -> list[str]:
    """Forget records, failed predictions and stacks, so that the next run tries these scans again.

    A COR that somebody wrote into center_of_rotation.txt stays. Returns the scans that had such a
    record.
    """
    forgotten, kept = [], Files(results)
    for scan in scans:
        paths = [kept.failure(step, scan) for step in STEPS]
        prediction = json_or(kept.prediction(scan), {})
        if prediction.get("verdict") == "failed":
            paths += [kept.prediction(scan), *kept.of_try_recon(scan)]
            if center_by_hand(kept.center(scan), prediction.get("cor_px")) is None:
                paths.append(kept.center(scan))
        if failed_stack(kept, scan):
            paths += kept.of_export_stack(scan)
        present = [path for path in paths if os.path.lexists(path)]
        for path in present if not dry_run else ():
            path.unlink()
        if present:
            forgotten.append(scan)
    return forgotten
