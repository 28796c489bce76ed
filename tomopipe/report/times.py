"""Run times of the jobs, from their status files."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomopipe.report.records import StepTimes
from tomopipe.report.sources import Reader, number, text

#: Order of the steps on the page.
STEP_ORDER = (
    "inventory",
    "try_recon",
    "predict_cor",
    "fix_cor",
    "resolve_cor",
    "sidecar",
    "full_recon",
    "stitch",
    "export_stack",
    "export_star",
)


@dataclass(frozen=True)
class JobTime:
    """One job: its step, scan (or series), and times in Unix seconds."""

    step: str
    name: str
    state: str
    start_s: float | None
    end_s: float | None
    host: str = ""
    reason: str = ""
    slurm_job: str = ""
    n_cores: float | None = None  # requested
    cpu_s: float | None = None
    asked_mb: float | None = None
    peak_mb: float | None = None

    @property
    def is_running(self) -> bool:
        """True if the job has not written its end, and its run is active."""
        return self.state == "running"

    @property
    def wall_s(self) -> float | None:
        """Seconds from start to end; None if it has not ended."""
        if self.start_s is None or self.end_s is None:
            return None
        return max(0.0, self.end_s - self.start_s)


def read_jobs(reader: Reader, folder: Path) -> list[JobTime]:
    """Read every status file below `folder`, in order of step and name."""
    order = {step: i for i, step in enumerate(STEP_ORDER)}
    jobs = []
    for path in reader.files(folder, "*/*.json"):
        if path.parent.name == "report":
            continue  # the job of this report
        data = reader.json(path)
        if data is None:
            continue
        jobs.append(
            JobTime(
                step=path.parent.name,
                name=path.name.removesuffix(".json"),
                state="lost" if _is_lost(data, reader.base) else text(data.get("state")),
                start_s=number(data.get("start")),
                end_s=number(data.get("end")),
                host=text(data.get("host")),
                reason=text(data.get("error")),
                slurm_job=text(data.get("slurm_job")),
                n_cores=number(_part(data, "asked").get("cores")),
                cpu_s=number(_part(data, "used").get("cpu_s")),
                asked_mb=number(_part(data, "asked").get("mem_mb")),
                peak_mb=number(_part(data, "used").get("peak_mb")),
            )
        )
    return sorted(jobs, key=lambda j: (order.get(j.step, len(order)), j.step, j.name))


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _is_lost(data: Mapping[str, Any], folder: Path) -> bool:
    """Tell whether the run of a job that has not written its end is over."""
    run = text(data.get("run"))
    return data.get("state") == "running" and run != "" and not (folder / run).is_dir()


def step_times(jobs: Iterable[JobTime]) -> tuple[StepTimes, ...]:
    """Sum up the jobs step by step; times are of ended jobs only."""
    groups: dict[str, list[JobTime]] = defaultdict(list)
    for job in jobs:
        groups[job.step].append(job)
    found = []
    for step, group in groups.items():
        ended = [(j.wall_s, j.name) for j in group if j.wall_s is not None and not j.is_running]
        walls_s = [wall_s for wall_s, _ in ended]
        longest_s, longest = max(ended, default=(None, ""))
        found.append(
            StepTimes(
                step=step,
                n_done=sum(j.state == "done" for j in group),
                n_failed=sum(j.state == "failed" for j in group),
                n_running=sum(j.is_running for j in group),
                sum_s=sum(walls_s),
                median_s=statistics.median(walls_s) if walls_s else None,
                longest_s=longest_s,
                longest=longest,
            )
        )
    return tuple(found)
