"""Jobs of a campaign, from their status files, and what a stopped run has left, by step."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import present_jobs, with_log
from tomopipe.campaign.files import LOGS
from tomopipe.campaign.log import JobStatus, position, read_jobs
from tomopipe.campaign.state.signs import State
from tomopipe.reruns.failed_results import why_again
from tomopipe.run.forecast import Forecast, forecast
from tomopipe.run.progress import Progress, Step
from tomopipe.storage.lock import under_way
from tomopipe.storage.processes import user_name

_ENDING_S = 120.0  # from the last event of a stopped run to its end, at most
_N_RUNS = 32  # whose events are not read again: more than have a log


@dataclass(frozen=True)
class StepStatus:
    """Numbers of jobs of one step, and times in seconds.

    `queued` are the pending jobs of the current run, or of one that was stopped; else 0. During a
    run all are its jobs.
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
    stopped: str = ""  # when the last run was stopped, by whom, and what remains
    counted: str = ""  # whose jobs the numbers are

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
        progress = _read(campaign, Path(run.events).name)
        of_run, times = progress.steps, forecast(progress)
        failed = {(job.step, job.key) for job in progress.failed}
    stopped = None if run else _stopped_run(campaign)
    if run is None:
        jobs = present_jobs(campaign, why_again(campaign))
    else:  # one that failed may be tried again
        jobs = [
            with_log(job, campaign.logs)
            for job in read_jobs(campaign.logs.status_folder)
            if job.state == "done" or job.start_s >= run.start_s
            if job.state != "failed" or not of_run or (job.step, job.key) in failed
        ]
    to_do = {name: _not_over(step) for name, step in stopped.steps.items()} if stopped else {}
    # of these only an error of an earlier attempt matters, such as a cancelled submission
    jobs = [
        replace(job, state=State.PENDING) if job.key in to_do.get(job.step, ()) else job
        for job in jobs
        if job.error or job.key not in to_do.get(job.step, ())
    ]
    of_jobs = {job.step for job in jobs} | {name for name, keys in to_do.items() if keys}
    names = sorted(of_run or of_jobs, key=lambda step: (position(step), step))
    steps = tuple(
        _summary(step, jobs, of_run.get(step), len(to_do.get(step, ()))) for step in names
    )
    text, counted = _stopped_text(stopped) if stopped else "", "Jobs of the campaign"
    if stopped:
        counted += f"; to do: those of the run of {_clock(stopped.begun_s)}, which was stopped"
    elif of_run:
        counted = f"Jobs of the run of {_clock(progress.begun_s)}"
    return Status(steps, tuple(jobs), times.facts() if times else {}, text, counted)


def _clock(at_s: float | None) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(at_s))


def _read(campaign: Campaign, events: str) -> Progress:
    """Read the events of a run that are new since the last call in this process."""
    progress = _progress(campaign.directory / LOGS.of_runs / events, campaign.logs)
    progress.read()
    progress.news.clear()
    return progress


_progress = lru_cache(maxsize=_N_RUNS)(Progress)


def _stopped_run(campaign: Campaign) -> Progress | None:
    """Return the last run if somebody stopped it before its end, and no other has run since."""
    events = sorted((campaign.directory / LOGS.of_runs).glob("*.jsonl"), reverse=True)
    for path in events:
        if (progress := _read(campaign, path.name)).facts.get("executes"):
            break  # others ran no jobs
    else:
        return None
    n_done, n_all = progress.counts
    if not progress.facts.get("stopped") or n_done == n_all:
        return None
    with suppress(OSError):  # at the end of each run this has its time
        if campaign.files.index.stat().st_mtime > path.stat().st_mtime + _ENDING_S:
            return None
    return progress


def _not_over(step: Step) -> list[str]:
    """Return the jobs of a run that has ended which are neither done nor failed, by key."""
    over = {job.key for job in step.jobs.values() if job.state in ("done", "failed")}
    return [key for key, _ in step.to_do(also_over=True) if key not in over]


def _stopped_text(run: Progress) -> str:
    """Say who stopped a run and when, and what remains, in volumes if there are any."""
    by, steps = run.facts["stopped"], run.steps
    step = steps.get("full_recon")
    n, n_all = (len(_not_over(step)), step.total) if step else (0, 0)
    what = f"{n} of {n_all} volumes" if n else ""
    n_done, n_all = run.counts
    when = _clock(by["at_s"])
    who = "you" if by["user"] == user_name() else by["user"]
    remain = f"{what or f'{n_all - n_done} of {n_all} jobs'} remain"
    return f"The last run was stopped by {who}, {when}: {remain}; `tomopipe run` goes on."


def _summary(step: str, jobs: Sequence[JobStatus], of_run: Step | None, n_left: int) -> StepStatus:
    """Count the jobs of a step; while a run is under way, as it counts them.

    `n_left`: its jobs that a stopped run has left.
    """
    states = Counter(job.state for job in jobs if job.step == step)
    n = of_run.n if of_run else states
    waiting = of_run.waiting if of_run else n_left
    return StepStatus(step, waiting, n["running"], n["done"], n["failed"], states["lost"])
