"""Run times and memory of the jobs, from their status files."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from tomopipe.campaign.job_status import JobStatus, parse_job, position
from tomopipe.groups import grouped
from tomopipe.report.records import StepTimes
from tomopipe.report.sources import Reader


def read_jobs(reader: Reader, folder: Path) -> list[JobStatus]:
    """Read every status file below `folder`, in order of step and name."""
    jobs = []
    for path in sorted(folder.glob("*/*.json")):
        # temporary files, and the job of this report
        if not path.name.startswith(".") and path.parent.name != "report":
            jobs.append(parse_job(path, reader.json(path) or {}))
    begun = [job for job in jobs if job is not None]
    return sorted(begun, key=lambda job: (position(job.step), job.step, job.key))


def step_times(jobs: Iterable[JobStatus]) -> tuple[StepTimes, ...]:
    """Sum up the jobs step by step; times are of ended jobs only."""
    found = []
    for step, group in grouped((job.step, job) for job in jobs).items():
        ended = [(j.wall_s, j.key) for j in group if j.wall_s is not None]
        walls_s = [wall_s for wall_s, _ in ended]
        longest_s, longest = max(ended, default=(None, ""))
        found.append(
            StepTimes(
                step=step,
                n_done=sum(j.state == "done" for j in group),
                n_failed=sum(j.state == "failed" for j in group),
                n_running=sum(j.state == "running" for j in group),
                n_lost=sum(j.state == "lost" for j in group),
                sum_s=sum(walls_s),
                median_s=statistics.median(walls_s) if walls_s else None,
                longest_s=longest_s,
                longest=longest,
                peak_mb=max((j.used.get("peak_mb") or 0.0 for j in group), default=0.0) or None,
            )
        )
    return tuple(found)
