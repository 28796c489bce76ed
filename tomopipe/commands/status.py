"""Running jobs of a campaign, from their status files, step by step."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import counted
from tomopipe.campaign.files import LOGS
from tomopipe.campaign.lock import Run, under_way
from tomopipe.campaign.log import JobStatus, end_of, position, read_jobs
from tomopipe.reruns.reasons import why_again
from tomopipe.run.progress import Progress, Step

_TAIL_LINES = 12


@dataclass(frozen=True)
class StepStatus:
    """Numbers of jobs of one step, and times in seconds.

    `queued` are the pending jobs of the current run, 0 without a run.
    """

    step: str
    queued: int
    running: int
    done: int
    failed: int
    lost: int
    left_s: float | None = None  # until the current run has finished this step


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

    If the clocks of nodes differ by minutes, jobs look lost. During a run only its jobs are
    returned; `tomopipe plan` shows those of the next one.
    """
    run = under_way(campaign.directory)
    progress = _progress(campaign, run) if run and run.events else None
    now_s = time.time() if now_s is None else now_s
    logs = campaign.logs
    jobs = read_jobs(logs.status_folder, now_s=now_s)
    jobs = [job for job in jobs if _counts(job, run, progress)]
    if run is None:  # during a run, count only its jobs
        jobs = counted(campaign, jobs, why_again(campaign))
    for number, job in enumerate(jobs):
        with suppress(OSError):
            if job.state != "done":
                tail = end_of(logs.log(job.step, job.key), _TAIL_LINES)
                jobs[number] = replace(job, log_tail=tail)
    of_run = progress.steps if progress else {}
    names = sorted(of_run or {job.step for job in jobs}, key=lambda step: (position(step), step))
    steps = (
        _summary(step, [job for job in jobs if job.step == step], of_run.get(step))
        for step in names
    )
    return Status(tuple(steps), tuple(jobs))


def _progress(campaign: Campaign, run: Run) -> Progress | None:
    """Read the progress of a run; None until it knows its jobs."""
    events = campaign.directory / LOGS.of_runs / Path(run.events).name
    progress = Progress(events, campaign.logs)
    progress.read()
    return progress if progress.steps else None


def _counts(job: JobStatus, run: Run | None, progress: Progress | None) -> bool:
    """Tell whether a job is done, or of the current run (if there is one) and not retried."""
    if run is None or job.state == "done":
        return True
    name = "" if job.key == "campaign" else job.key
    goes_on = progress is not None and progress.goes_on(job.step, name, job.end_s or 0.0)
    return job.start_s >= run.start_s and not (job.state == "failed" and goes_on)


def _summary(step: str, jobs: Sequence[JobStatus], of_run: Step | None) -> StepStatus:
    """Count the jobs of a step; during a run, as the run counts them."""
    states = Counter(job.state for job in jobs)
    n, left_s = (of_run.n, of_run.left_s) if of_run else (states, None)
    waiting = of_run.waiting if of_run else 0
    counts = (n["running"], n["done"], n["failed"], states["lost"])
    return StepStatus(step, waiting, *counts, left_s)
