"""Running jobs of a campaign, from their status files, step by step."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, InventoryRows, read_inventory
from tomopipe.campaign.counted_jobs import counted
from tomopipe.campaign.failures import STEPS, is_made
from tomopipe.campaign.files import LOGS, Logs
from tomopipe.campaign.job_status import JobStatus, end_of, position, read_job
from tomopipe.campaign.lock import Run, under_way
from tomopipe.campaign.results import read_cor_json
from tomopipe.errors import TomopipeError
from tomopipe.reruns.made_again import why_again
from tomopipe.run.progress import Progress, Step

_SCAN_STEPS = ("try_recon", "predict_cor", "full_recon")
_TAIL_LINES = 12


@dataclass(frozen=True)
class StepStatus:
    """The jobs of one step, counted; seconds.

    `queued` counts those to do, of the run under way or else of the next one.
    """

    step: str
    queued: int
    running: int
    done: int
    failed: int
    lost: int
    left_s: float | None = None  # until the run under way is done with it


@dataclass(frozen=True)
class Status:
    """The jobs of a campaign."""

    steps: tuple[StepStatus, ...]
    jobs: tuple[JobStatus, ...]

    def with_state(self, *states: str) -> list[JobStatus]:
        """Return the jobs in one of these states."""
        return [job for job in self.jobs if job.state in states]


def read_status(campaign: Campaign, *, now_s: float | None = None) -> Status:
    """Read the status files of a campaign, as of `now_s` (Unix seconds).

    Nodes whose clocks differ by minutes would make jobs look lost. While a run is under way the
    jobs are those of this run. Else queued are the jobs of a scan that must still run before its
    volume exists; `tomopipe plan` shows the next run.
    """
    run = under_way(campaign.directory)
    progress = _progress(campaign, run) if run and run.events else None
    now_s = time.time() if now_s is None else now_s
    logs = campaign.logs
    paths = sorted(logs.status_folder.glob("*/*.json"))
    results = [read_job(path, now_s=now_s) for path in paths]
    jobs = [job for job in results if job and _counts(job, run, progress)]
    if run is None:  # the numbers of one are those of its jobs
        jobs = counted(campaign, jobs, why_again(campaign))
    jobs = sorted(
        (_with_log(job, logs) for job in jobs),
        key=lambda job: (position(job.step), job.step, job.start_s, job.key),
    )
    of_run = progress.steps if progress else {}
    waiting = {s: of_run[s].waiting for s in of_run} if of_run else _waiting(campaign, jobs)
    names = {*waiting, *(of_run or (job.step for job in jobs))}
    steps = [
        _summary(step, [job for job in jobs if job.step == step], waiting.get(step, 0))
        for step in sorted(names, key=lambda step: (position(step), step))
    ]
    if of_run:
        steps = [_of_run(step, of_run[step.step]) for step in steps if step.step in of_run]
    return Status(tuple(steps), tuple(jobs))


def _progress(campaign: Campaign, run: Run) -> Progress | None:
    """Read how far a run is; None while it does not know its jobs yet."""
    events = campaign.directory / LOGS.of_runs / Path(run.events).name
    progress = Progress(events, campaign.logs)
    progress.read()
    return progress if progress.steps else None


def _counts(job: JobStatus, run: Run | None, progress: Progress | None) -> bool:
    """Tell whether a job is of the run under way, if there is one, and not tried again, or well."""
    if run is None or job.state == "done":
        return True
    name = "" if job.key == "campaign" else job.key
    goes_on = progress is not None and progress.goes_on(job.step, name, job.end_s or 0.0)
    return job.start_s >= run.start_s and not (job.state == "failed" and goes_on)


def _of_run(status: StepStatus, step: Step) -> StepStatus:
    """Return the numbers of the run under way."""
    return replace(
        status,
        running=step.n["running"],
        done=step.done,
        failed=step.n["failed"],
        left_s=step.left_s,
    )


def as_record(status: Status) -> dict[str, Any]:
    """Return the content that `tomopipe status --json` prints."""
    return asdict(status)


def _with_log(job: JobStatus, logs: Logs[Path]) -> JobStatus:
    if job.state != "done":
        with suppress(OSError):
            return replace(job, log_tail=end_of(logs.log(job.step, job.key), _TAIL_LINES))
    return job


def _waiting(campaign: Campaign, jobs: Iterable[JobStatus]) -> Counter[str]:
    """Count the remaining jobs of each step."""
    path = campaign.files.inventory
    if not path.is_file():
        return Counter()
    rows: InventoryRows = read_inventory(path)
    not_queued = {("full_recon", scan) for scan in _without_volume(campaign, rows)}
    scans = campaign.selected_scans(rows)
    no_search = [scan for scan in scans if not campaign.needs_search(scan, rows[scan])]
    not_queued |= {(step, scan) for scan in no_search for step in STEPS}
    not_queued |= {
        (job.step, job.key) for job in jobs if job.state in ("running", "failed", "lost")
    }
    return Counter(
        step
        for scan in scans
        if scan not in campaign.failures
        for step in _SCAN_STEPS
        if (step, scan) not in not_queued and not is_made(campaign.files, step, scan)
    )


def _without_volume(campaign: Campaign, rows: InventoryRows) -> Iterator[str]:
    """Name the scans that get no volume, as they have no COR."""
    files, decided_s, resolved = campaign.files, 0.0, dict[str, Any]()
    with suppress(OSError, TomopipeError):
        decided_s, resolved = files.cor_table.stat().st_mtime, read_cor_json(files.cor_table)
    for scan in rows:
        if scan not in resolved:
            with suppress(OSError):  # without a prediction nothing is decided
                if files.prediction(scan).stat().st_mtime < decided_s:
                    yield scan


def _summary(step: str, jobs: Sequence[JobStatus], queued: int) -> StepStatus:
    counts = Counter(job.state for job in jobs)
    return StepStatus(
        step=step,
        queued=queued,
        running=counts["running"],
        done=counts["done"],
        failed=counts["failed"],
        lost=counts["lost"],
    )
