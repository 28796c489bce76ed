"""Running jobs of a campaign, from their status files, step by step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import present_jobs, with_log
from tomopipe.campaign.files import LOGS
from tomopipe.campaign.log import JobStatus, position, read_jobs
from tomopipe.reruns.staleness import why_again
from tomopipe.run.forecast import Forecast, forecast
from tomopipe.run.progress import Progress, Step
from tomopipe.storage.lock import under_way


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


@dataclass(frozen=True)
class Status:
    """The jobs of a campaign."""

    steps: tuple[StepStatus, ...]
    jobs: tuple[JobStatus, ...]
    time: dict[str, Any] = field(default_factory=dict)  # of the current run, as `Forecast`

    def with_state(self, *states: str) -> list[JobStatus]:
        """Return the jobs in one of these states."""
        return [job for job in self.jobs if job.state in states]


def read_status(campaign: Campaign) -> Status:
    """Read the status files of a campaign.

    If the clocks of nodes differ by minutes, jobs look lost. During a run only its jobs are
    returned; `tomopipe plan` shows those of the next one.
    """
    run, of_run, failed = under_way(campaign.directory), dict[str, Step](), set[tuple[str, str]]()
    times: Forecast | None = None
    if run and run.events:
        progress = Progress(
            campaign.directory / LOGS.of_runs / Path(run.events).name, campaign.logs
        )
        progress.read()
        of_run, times = progress.steps, forecast(progress)
        failed = {(job.step, job.key) for job in progress.failed}
    if run is None:
        jobs = present_jobs(campaign, why_again(campaign))
    else:  # one that failed may be tried again
        jobs = [
            with_log(job, campaign.logs)
            for job in read_jobs(campaign.logs.status_folder)
            if job.state == "done" or job.start_s >= run.start_s
            if job.state != "failed" or not of_run or (job.step, job.key) in failed
        ]
    names = sorted(of_run or {job.step for job in jobs}, key=lambda step: (position(step), step))
    steps = tuple(_summary(step, jobs, of_run.get(step)) for step in names)
    return Status(steps, tuple(jobs), times.facts() if times else {})


def _summary(step: str, jobs: Sequence[JobStatus], of_run: Step | None) -> StepStatus:
    """Count the jobs of a step; while a run is under way, as it counts them."""
    states = Counter(job.state for job in jobs if job.step == step)
    n = of_run.n if of_run else states
    waiting = of_run.waiting if of_run else 0
    return StepStatus(step, waiting, n["running"], n["done"], n["failed"], states["lost"])
