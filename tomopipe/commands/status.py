"""Jobs of a campaign, from their status files, and what a stopped run has left, by step."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import present_jobs, with_log
from tomopipe.campaign.files import LOGS
from tomopipe.campaign.log import CLOCKS_S, JobStatus, position, read_jobs
from tomopipe.campaign.state.signs import State
from tomopipe.reruns.failed_results import why_again
from tomopipe.run.forecast import Forecast, forecast
from tomopipe.run.progress import Progress, Step
from tomopipe.storage import lock
from tomopipe.storage.processes import user_name

_ENDING_S = 120.0  # from the last event of a stopped run to its end, at most
_N_RUNS = 32  # whose events are not read again: more than have a log


@dataclass(frozen=True)
class StepStatus:
    """Numbers of jobs of one step, and times in seconds.

    `queued` are the pending jobs of the current run, or of one that was stopped or killed; else 0.
    During a run all are its jobs.
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
    ended: str = ""  # how the last run ended before its end: stopped or killed
    stopped: str = ""  # the same as a sentence, with the time and what remains
    counted: str = ""  # whose jobs the numbers are

    def with_state(self, *states: str) -> list[JobStatus]:
        """Return the jobs in one of these states."""
        return [job for job in self.jobs if job.state in states]


def read_status(campaign: Campaign) -> Status:
    """Read the status files of a campaign.

    If the clocks of nodes differ by minutes, jobs look lost. During a run only its jobs are
    returned; `tomopipe plan` shows those of the next one.
    """
    run, of_run = lock.under_way(campaign.directory), dict[str, Step]()
    failed = set[tuple[str, str]]()
    times: Forecast | None = None
    if run and run.events:
        progress = _read(campaign, Path(run.events).name)
        of_run, times = progress.steps, forecast(progress)
        failed = {(job.step, job.key) for job in progress.failed}
    cut = None if run else _cut_run(campaign)
    if run is None:
        jobs = present_jobs(campaign, why_again(campaign))
    else:  # one that failed may be tried again
        jobs = [
            with_log(job, campaign.logs)
            for job in read_jobs(campaign.logs.status_folder)
            if job.state == "done" or job.start_s >= run.start_s
            if job.state != "failed" or not of_run or (job.step, job.key) in failed
        ]
    to_do = _left_by(cut, jobs) if cut else {}
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
    ended, text, counted = "", "", "Jobs of the campaign"
    if cut:
        text, ended = _cut_text(cut, to_do), "stopped" if cut.facts.get("stopped") else "killed"
        counted += f"; to do: those of the run of {_clock(cut.begun_s)}, which was {ended}"
    elif of_run:
        counted = f"Jobs of the run of {_clock(progress.begun_s)}"
    elif run and not run.events:
        counted += " that have begun; a run that snakemake began itself does not say what is to do"
    return Status(steps, tuple(jobs), times.facts() if times else {}, ended, text, counted)


def _clock(at_s: float | None) -> str:
    return time.strftime("%a %d %b %H:%M", time.localtime(at_s))


def _read(campaign: Campaign, events: str) -> Progress:
    """Read the events of a run that are new since the last call in this process."""
    progress = _progress(campaign.directory / LOGS.of_runs / events, campaign.logs)
    progress.read()
    progress.news.clear()
    return progress


_progress = lru_cache(maxsize=_N_RUNS)(Progress)


def _cut_run(campaign: Campaign) -> Progress | None:
    """Return the last run if it was stopped or killed before its end, and no other has run since.

    A run that was killed still has the lock.
    """
    killed = lock.read(campaign.directory)
    events = sorted((campaign.directory / LOGS.of_runs).glob("*.jsonl"), reverse=True)
    for path in events:
        if (progress := _read(campaign, path.name)).facts.get("executes"):
            break  # others ran no jobs
    else:
        return None
    n_done, n_all = progress.counts
    if n_done == n_all:
        return None
    if killed and Path(killed.events).name == path.name:
        return progress
    if not progress.facts.get("stopped"):
        return None
    with suppress(OSError):  # at the end of each run this has its time
        if campaign.files.index.stat().st_mtime > path.stat().st_mtime + _ENDING_S:
            return None
    return progress


def _left_by(run: Progress, jobs: Sequence[JobStatus]) -> dict[str, list[str]]:
    """Return the jobs, by step, that a run which has ended has left; `jobs`: by their files.

    After a kill its jobs may have gone on, of which only their files know.
    """
    since_s = (run.begun_s or 0.0) - CLOCKS_S
    own = {
        (job.step, job.key)
        for job in jobs
        if job.state in ("running", "lost", "done") and job.start_s >= since_s
        if not run.facts.get("stopped")
    }
    return {
        name: [key for key in _not_over(step) if (name, key) not in own]
        for name, step in run.steps.items()
    }


def _not_over(step: Step) -> list[str]:
    """Return the jobs of a run that has ended which are neither done nor failed, by key."""
    over = {job.key for job in step.jobs.values() if job.state in ("done", "failed")}
    return [key for key, _ in step.to_do(also_over=True) if key not in over]


def _cut_text(run: Progress, to_do: Mapping[str, Sequence[str]]) -> str:
    """Say how a run ended, and when, and what remains, in volumes if there are any."""
    steps = run.steps
    n, n_all = len(to_do.get("full_recon", ())), run.counts[1]
    what = f"{n} of {steps['full_recon'].total} volumes" if n else ""
    if n and steps["full_recon"].is_about:  # resolve_cor decides
        what = f"about {n} volumes"
    remain = f"{what or f'{sum(map(len, to_do.values()))} of {n_all} jobs'} remain"
    if by := run.facts.get("stopped"):
        who = "you" if by["user"] == user_name() else by["user"]
        how = f" was stopped by {who}, {_clock(by['at_s'])}"
    else:
        how = f", begun {_clock(run.begun_s)}, ended without a word (killed, or its host went down)"
    return f"The last run{how}: {remain}; `tomopipe run` goes on."


def _summary(step: str, jobs: Sequence[JobStatus], of_run: Step | None, n_left: int) -> StepStatus:
    """Count the jobs of a step; while a run is under way, as it counts them.

    `n_left`: its jobs that a run has left which was stopped or killed.
    """
    states = Counter(job.state for job in jobs if job.step == step)
    n = of_run.n if of_run else states
    waiting = of_run.waiting if of_run else max(n_left, states[State.PENDING])
    return StepStatus(step, waiting, n["running"], n["done"], n["failed"], states["lost"])
