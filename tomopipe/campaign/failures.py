"""Records of jobs that failed finally, so that the next run continues without their scans.

A record is results/failed/<step>/<scan>.json; it counts only while size and time of the raw file
are unchanged. Only try_recon and predict_cor have records: later steps fail as Snakemake jobs, and
export_stack writes an error of the scan as its result (`failed_stack`).
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.files import LOGS, VOLUMES, Files, Logs
from tomopipe.campaign.log import JobStatus, end_of, read_jobs, status_in_run, status_path
from tomopipe.campaign.results import center_by_hand, read_inventory
from tomopipe.campaign.state.signs import State
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage.atomic import write_json
from tomopipe.storage.json_files import in_file, json_or, text
from tomopipe.workflow_steps import SEARCH_STEPS, STEPS

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign
    from tomopipe.campaign.raw_files import CampaignScan

Why = Callable[[str, str], str]
"""Returns why the next run makes the result of a step and a scan or stack again, or ""."""
_CANCELLED = re.compile(r"SLURM job \S+: CANCELLED")
OF_SCANS = tuple(step.name for step in STEPS.values() if step.key == "scan")


def all_right(_step: str, _key: str) -> str:
    """Return "": no result is made again."""
    return ""


def read_failures(results: Path, scans: "Mapping[str, CampaignScan]") -> dict[str, JobStatus]:
    """Return the failures of scans that still count."""
    failures, paths_of = {}, Files(results)
    for step in SEARCH_STEPS:
        for path in sorted(paths_of.failure(step, "").parent.glob("*.json")):
            name = path.name.removesuffix(".json")
            # without a readable record the job is tried again
            record, scan = json_or(path, {}), scans.get(name)
            is_of_it = scan and record and all(record.get(k) == v for k, v in _stat(scan).items())
            if is_of_it:
                failures[name] = JobStatus(step, name, "failed", error=text(record.get("reason")))
    return failures


def _stat(scan: "CampaignScan") -> dict[str, int | None]:
    return {"bytes": scan.n_bytes, "mtime_ns": scan.mtime_ns}


def record_failures(campaign: "Campaign", *, since: float) -> list[JobStatus]:
    """Record every job that started after `since` (Unix seconds), did not end and left no receipt.

    An earlier result may be there: without a record its job would hold up all others in each run.
    Jobs that were killed together, in one SLURM job, are not recorded: any of them may be to blame.
    Returns the new records. Jobs of later steps get no record: the status of those that were killed
    says so.
    """
    files, logs = campaign.files, campaign.logs
    jobs = read_jobs(logs.status_folder)
    ended = [(job, reason) for job in jobs if (reason := _reason(job, since))]
    for job, reason in ended:
        if job.step not in SEARCH_STEPS and job.state != "failed":
            path = logs.status(job.step, job.key)
            end = {"state": "failed", "error": reason, "is_killed": True}
            write_json(json_or(path, {}) | end, path)
    unfinished = [
        (job, reason)
        for job, reason in ended
        if job.step in SEARCH_STEPS
        and job.key in campaign.scans
        and not files.receipt(job.step, job.key).exists()
    ]
    killed = Counter(
        job.slurm_job for job, _ in unfinished if job.slurm_job and job.state != "failed"
    )
    recorded = []
    for job, reason in unfinished:
        if job.state != "failed" and killed[job.slurm_job] > 1:
            continue
        record = {"step": job.step, "reason": reason} | _stat(campaign.scans[job.key])
        write_json(record, files.failure(job.step, job.key))
        recorded.append(replace(job, state="failed", error=reason))
    return recorded


def forget_running(logs: Logs[Path], *, since: float) -> None:
    """Remove the status of jobs that began after `since` and ended as somebody stopped the run."""
    for job in read_jobs(logs.status_folder):
        if job.state in ("running", "lost") and job.start_s >= since and not job.error:
            logs.status(job.step, job.key).unlink(missing_ok=True)


def record_end(log: str, error: str, slurm_job: str, *, is_killed: bool) -> None:
    """Write into the status of a job how a cluster ended it.

    A job that has not begun in this run has failed, and its earlier log is removed. For a running
    job this is written only if SLURM has killed it: else the job writes its end itself.
    """
    path, now_s = Path(log), time.time()
    if path.parts[-3:-2] != (LOGS.folder,):
        return
    if not (status := status_in_run(path)):
        path.unlink(missing_ok=True)
        status = {"slurm_job": slurm_job, "state": "failed", "may_pass": True}
        status |= {"start": now_s, "end": now_s}
    elif not (is_killed and status.get("state") == "running"):
        return
    write_json(status | {"error": error}, status_path(path))


def plain_error(text: str, step: str) -> str:
    """Return the error of a job without the step, and in old records without our class."""
    return re.sub(rf"^((Tomopipe|Scan|Device)Error: )?({step}: )?", "", text)


def _reason(job: JobStatus, since: float) -> str:
    if job.start_s < since or job.state == "done":
        return ""
    if job.state == "failed":
        # Errors caused by a scan are caught and are results. The others (a full disk, a wrong
        # installation) would affect every scan of the campaign, except too little memory.
        return f"failed: {job.error}" if job.error.startswith("MemoryError") else ""
    of_slurm = f", {job.error}" if job.error else ""
    return f"killed or timed out on {job.host or 'its node'}{of_slurm}; see the log"


def is_made(files: Files[Path], step: str, key: str) -> bool:
    """Tell whether a result exists, by its `last` file; a volume counts in any format."""
    last = STEPS[step].last if step in STEPS else ""
    return bool(last) and any(files.named(last, key, output).exists() for output in VOLUMES)


def failed_stack(files: Files[str], scan: str) -> str:
    """Return why the job of a scan left no stack for RELION; "" if it did, or has not run."""
    with suppress(FileNotFoundError):  # it is temporary
        if os.stat(files.stack(scan)).st_size:
            return ""
    return text(in_file(files.stack_meta(scan), "failed"))


def forget(results: Path, scans: Iterable[str], *, dry_run: bool = False) -> list[str]:
    """Remove records, failed predictions and stacks: the next run tries these scans again.

    A COR that a person wrote into center_of_rotation.txt stays. Returns the scans with such files.
    """
    forgotten, paths_of = [], Files(results)
    for scan in scans:
        paths = [paths_of.failure(step, scan) for step in SEARCH_STEPS]
        prediction = json_or(paths_of.prediction(scan), {})
        if prediction.get("verdict") == "failed":
            paths += [paths_of.prediction(scan), *paths_of.outputs("try_recon", scan)]
            if center_by_hand(paths_of.center(scan), prediction.get("cor_px")) is None:
                paths.append(paths_of.center(scan))
        if failed_stack(Files(str(results)), scan):
            paths += paths_of.outputs("export_stack", scan)
        present = [path for path in paths if os.path.lexists(path)]
        for path in present if not dry_run else ():
            path.unlink()
        if present:
            forgotten.append(scan)
    return forgotten


def present_jobs(
    campaign: "Campaign",
    why: Why,
    read: Callable[[Path], Mapping[str, Any] | None] = lambda path: json_or(path, {}),
) -> list[JobStatus]:
    """Return the jobs by their present results, with the end of the log of those that are not done.

    A job that was killed and recorded has failed, and so has one whose result is an error; one
    whose submission somebody cancelled before it began is pending. A job that failed to replace an
    up-to-date result is done, without a time. Failures of scans and stacks that are not selected,
    or no longer in the campaign, are omitted, and those of COR finding if the campaign table has
    the COR. `read` reads the status files.
    """
    from tomopipe.campaign.selection import advice_on_skipping  # both slow to load
    from tomopipe.campaign.series import needs_search

    omitted, selected, result = set[tuple[str, str]](), list[str](), []
    with suppress(OSError, TomopipeError):
        rows = read_inventory(campaign.files.inventory)
        selected = campaign.selected_scans(rows)
        with_cor = [scan for scan in selected if not needs_search(campaign, scan, rows[scan])]
        omitted = {*product(OF_SCANS, {*rows} - {*selected}), *product(SEARCH_STEPS, with_cor)}
    # results may be errors even if the status of their job was removed
    jobs = {key: JobStatus(*key, "") for key in product(_MAY_BE_ERRORS, selected)}
    names = {"stack": {*campaign.config.stitch.names}}
    if campaign.scans:  # else their disk is not mounted
        names["scan"] = {*campaign.scans}
    for job in (*read_jobs(campaign.logs.status_folder, read), *campaign.failures.values()):
        jobs[job.step, job.key] = job
    for (step, key), job in jobs.items():
        has_failed, is_selected = job.state in ("failed", "lost"), (step, key) not in omitted
        kind = STEPS[step].key if step in STEPS else ""
        is_gone = key not in names.get(kind, (key,))
        if is_gone or (has_failed and not is_selected):  # its result is not needed
            continue
        is_done = job.state in ("done", "") and is_selected
        error_in = _MAY_BE_ERRORS.get(step)
        if is_done and error_in and (error := error_in(campaign, key)):
            result.append(with_log(replace(job, state="failed", error=error), campaign.logs))
        elif has_failed and is_made(campaign.files, step, key) and not why(step, key):
            result.append(replace(job, state="done", end_s=None, error=""))
        elif has_failed and _is_cancelled(job):
            result.append(replace(job, state=State.PENDING))
        elif job.state:
            result.append(with_log(job, campaign.logs))
    n_scans = Counter(error for error, _ in {(job.error, job.key) for job in result})
    return [
        replace(
            job,
            error=advice_on_skipping(
                campaign, job.key, job.error, is_shared=2 * n_scans[job.error] > len(selected)
            ),
        )
        for job in result
    ]


def _is_cancelled(job: JobStatus) -> bool:
    """Tell whether somebody has cancelled the submission of a job, before or after it began."""
    if job.state == "lost" or job.is_killed:
        return _CANCELLED.search(job.error) is not None
    return not job.host and _CANCELLED.match(job.error) is not None  # else it has a record


def with_log(job: JobStatus, logs: Logs[Path]) -> JobStatus:
    """Return a job with the end of its log if it is not done, and with the last line as error."""
    if job.state == "done":
        return job
    tail, error = end_of(logs.log(job.step, job.key)), plain_error(job.error, job.step)
    if job.state == "failed" and not error:
        last = next((line for line in reversed(tail.splitlines()) if line.strip()), "")
        error = last or "the job ended without a result"
    return replace(job, error=error, log_tail=tail)


def _error_in_stack(campaign: "Campaign", scan: str) -> str:
    return failed_stack(campaign.paths, scan) if campaign.makes_star else ""


def _error_in_prediction(campaign: "Campaign", scan: str) -> str:
    """Return why a prediction failed; "" if it did not, or if a COR was set by hand."""
    if scan not in campaign.scans:
        return ""
    path, content = campaign.paths.prediction(scan), {}
    with suppress(OSError), open(no_pipe(path), "rb") as stream:
        if b'"failed"' in stream.read():  # rare; parsing all files takes longer
            content = json_or(path, {})
    if content.get("verdict") != "failed":
        return ""
    by_hand = campaign.scans[scan].manual.px, center_by_hand(campaign.files.center(scan), None)
    is_replaced = by_hand != (None, None)
    return "" if is_replaced else text(content.get("reason")) or "prediction failed"


_MAY_BE_ERRORS: dict[str, Callable[["Campaign", str], str]] = {
    "predict_cor": _error_in_prediction,
    "export_stack": _error_in_stack,
}
"""The steps whose result may be an error, and what reads it."""
