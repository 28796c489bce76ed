"""Progress of a run: the events that its main process reports, and the jobs of each step.

The logger plugin and the Snakefile write the events to a file that the environment names, a line of
JSON each: of jobs, by number, `began` (with step, name, reason), `ended`, `failed` (with error) and
`again` (another attempt); `totals`, the number of jobs of each step; `planned`, for each step the
CPU time (s, null: unknown) and cores of its jobs, with the steps whose number of jobs is open as
`about`; `says`, a message; and facts about the run.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import plain_error
from tomopipe.campaign.files import Logs
from tomopipe.campaign.log import CLOCKS_S, JobStatus, position, read_job, status_path
from tomopipe.paths import no_pipe

VARIABLE = "TOMOPIPE_EVENTS"
"""Environment variable with the file for the events; without it they are written nowhere."""
PREFIX = "tomopipe: "
"""Beginning of our own lines in the log of a run."""
FORCE = "TOMOPIPE_FORCE"
"""Environment variable of a run that starts although the disk is too small."""
_LOOK_S = 5.0
_OPEN = ("queued", "running")
_MOST_ERROR = 700  # characters
_MOST_LINES = 40  # of an error that names a scan in each
_OVER = ("done", "failed", "stopped")
_UNPLANNED: tuple[float | None, int] = (1.0, 1)  # of jobs without a plan: they are alike
_TARGETS = ("all", "predictions", "total")  # rules without work


def is_read() -> bool:
    """Tell whether the events of this run are read."""
    return bool(os.environ.get(VARIABLE))


def tell(**event: Any) -> None:
    """Write an event of this run."""
    if is_read():
        write(Path(os.environ[VARIABLE]), **event)


def say(line: str, *, shown: bool = False) -> None:
    """Print a line into the log of this run; `shown`: `tomopipe run` shows it at once."""
    print(f"{PREFIX}{line}", file=sys.stderr)
    if shown:
        tell(says=line)


def write(events: Path, **event: Any) -> None:
    """Append an event of a run to its file."""
    with open(no_pipe(events), "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"at": time.time(), **event}) + "\n")


def error_of(log: Path, step: str, since_s: float) -> str:
    """Return the error that a job wrote beside its log since a time; "" if it wrote none."""
    job = read_job(status_path(log))
    is_new = job and job.state == "failed" and (job.end_s or 0.0) > since_s - CLOCKS_S
    text = plain_error(job.error, step).rstrip(".") if job and is_new else ""
    lines = text.splitlines()
    if (more := len(lines) - _MOST_LINES) > 0:
        lines[_MOST_LINES - 1 : -1] = [f"  ... and {more} more, in its log"]
    return "\n".join(map(_shortened, lines))


def _shortened(line: str) -> str:
    half = _MOST_ERROR // 2  # the remedy is at the end
    return line if len(line) <= _MOST_ERROR else f"{line[:half]} ... {line[-half:]}"


@dataclass
class Job:
    """A job, by its latest attempt: queued, running, done, failed, or again (it waits for one)."""

    step: str
    name: str
    begun_s: float = 0.0  # Unix seconds
    state: str = ""
    wall_s: float = 0.0
    error: str = ""
    threads: int = 1
    cpu_s: float | None = None  # with its start; None: not measured

    @property
    def key(self) -> str:
        """Its scan, stack or series; `campaign` if it has none."""
        return self.name or "campaign"


@dataclass
class Step:
    """The jobs of one step that have begun, by number, and their number in each state."""

    total: int = 0  # including those that have not begun
    jobs: dict[int, Job] = field(default_factory=dict)
    n: Counter[str] = field(default_factory=Counter)
    # CPU time (s; None: unknown) and cores of its jobs, by key, as planned
    planned: dict[str, tuple[float | None, int]] = field(default_factory=dict)
    is_about: bool = False  # whether a table that is not made yet decides on its jobs

    @property
    def done(self) -> int:
        """Number of finished jobs."""
        return self.n["done"]

    @property
    def waiting(self) -> int:
        """Number of jobs that have not begun."""
        return max(0, self.total - self.done - self.n["failed"] - self.n["running"])

    @property
    def running(self) -> dict[str, Job]:
        """The jobs at work, by key."""
        return {job.key: job for job in self.jobs.values() if job.state == "running"}

    def plan_of(self, key: str) -> tuple[float | None, int]:
        """Return the CPU time and the cores that are planned for a job."""
        return self.planned.get(key, _UNPLANNED)

    def to_do(self, *, also_over: bool = False) -> list[tuple[str, tuple[float | None, int]]]:
        """Return the jobs that are not over, by key, and what is planned for them."""
        states = {job.key: job.state for job in self.jobs.values()}
        keys = dict.fromkeys([*self.planned, *states])
        left = [key for key in keys if also_over or states.get(key) not in _OVER]
        return [(key, self.plan_of(key)) for key in [*left, *[""] * (self.total - len(keys))]]


class Progress:
    """State of a run from its events so far.

    On a cluster a job is running, and done, once its status file says so: Snakemake reports its
    submission as its start, and its end up to a minute late. A job that ends because somebody
    stopped the run (the fact `stopped`) has not failed.
    """

    def __init__(self, events: str | os.PathLike[str], logs: Logs[Path]) -> None:
        self._path, self._offset = Path(events), 0
        self.logs, self._looked_at_s = logs, 0.0
        self._steps: dict[str, Step] = {}
        self._jobs: dict[int, Job] = {}
        self.begun_s: float | None = None  # of the run, Unix seconds
        # the configuration (`campaign`), whether Snakemake `executes` jobs, on a cluster
        # (`remote`), its `cores` on one machine, the CPU time in which a job starts (`start_s`),
        # whether the run `is_whole`, or was `stopped` (by which `user`, `at_s`) or `refused`;
        # messages (`said`)
        self.facts: dict[str, Any] = {}
        # kind (began, failed, again, says), step, name, and reason or error; the reader empties it
        self.news: list[tuple[str, str, str, str]] = []

    @property
    def steps(self) -> dict[str, Step]:
        """The steps with jobs, in the order of the work."""
        result = {
            name: step
            for name, step in self._steps.items()
            if name not in _TARGETS and (step.total or step.is_about)
        }
        return dict(sorted(result.items(), key=lambda item: position(item[0])))

    @property
    def counts(self) -> tuple[int, int]:
        """Finished jobs and all jobs, of all steps."""
        steps = self.steps.values()
        return sum(step.done for step in steps), sum(step.total for step in steps)

    @property
    def failed(self) -> list[Job]:
        """The jobs that have failed and, so far, are not tried again."""
        return [job for job in self._jobs.values() if job.state == "failed"]

    def log_of(self, step: str, name: str) -> Path | None:
        """Return the log of a job; None if it has written none, as it never started."""
        log = self.logs.log(step, name or "campaign")
        jobs = [job for job in self._steps[step].jobs.values() if job.name == name]
        if any(job.state != "failed" for job in jobs):  # another attempt writes it again
            return log
        status = log.stat() if log.is_file() else None
        began_s = max(job.begun_s for job in jobs)
        is_its_own = status and status.st_size and status.st_mtime > began_s - CLOCKS_S
        return log if is_its_own else None

    def read(self, pause_s: float = 0.0) -> bool:
        """Read the events since the last call; tell whether there was anything new.

        A failure, and the events after it, are left until it is `pause_s` old: another attempt of
        the job is reported some moments later.
        """
        text, before = b"", self._offset
        with suppress(OSError), open(no_pipe(self._path), "rb") as stream:
            stream.seek(self._offset)
            text = stream.read()
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            event: dict[str, Any] = {}
            with suppress(ValueError):  # cut by a full disk, and glued to the next one
                event = json.loads(line)
            if "failed" in event and time.time() - event["at"] < pause_s:
                break
            self._offset += len(line)
            self._apply(event)
        return bool(self._read_statuses() or self._offset > before)

    def _read_statuses(self) -> bool:
        """Find the jobs that have begun or ended on a cluster; tell whether there are any."""
        if not self.facts.get("remote") or time.monotonic() - self._looked_at_s < _LOOK_S:
            return False
        self._looked_at_s = time.monotonic()
        return sum(self._update(job) for job in self._jobs.values() if job.state in _OPEN) > 0

    def _update(self, job: Job) -> bool:
        """Read the status file of a job; tell whether it has begun or ended since."""
        status = read_job(self.logs.status(job.step, job.key))
        if status is None or status.start_s < job.begun_s - CLOCKS_S:
            return False  # of an earlier run or attempt
        if status.state == "done" and status.wall_s is not None:
            job.wall_s, job.cpu_s = status.wall_s, self._cpu_s(status)
            self._set(job, "done")
        elif job.state == "queued" and not status.error:  # else it is that of the last attempt
            job.begun_s = status.start_s
            self._set(job, "running")
        else:
            return False
        return True

    def _cpu_s(self, status: JobStatus) -> float | None:
        start_s: float = self.facts.get("start_s", 0.0)
        return None if status.cpu_s is None else start_s + status.cpu_s

    def _set(self, job: Job, state: str) -> None:
        n = self._steps[job.step].n
        n[job.state] -= 1
        n[state] += 1
        job.state = state

    def _apply(self, event: Mapping[str, Any]) -> None:
        if self.begun_s is None:
            self.begun_s = event.get("at")
        if "planned" in event:
            self._plan(event["planned"], event.get("about", ()))
        elif "totals" in event:
            for name, total in event["totals"].items():
                step = self._steps.setdefault(name, Step())
                step.total = max(total, len(step.jobs))
        elif "began" in event:
            self._begin(event)
        elif "says" in event:
            self.news.append(("says", "", "", event["says"]))
            self.facts.setdefault("said", []).append(event["says"])
        elif kinds := event.keys() & {"ended", "failed", "again"}:
            self._change(event, *kinds)
        else:
            self.facts |= event

    def _plan(self, planned: Mapping[str, Mapping[str, Any]], about: Collection[str]) -> None:
        """Take over a plan; steps whose number was open follow it alone."""
        for name in {*self._steps, *planned, *about}:
            step, jobs = self._steps.setdefault(name, Step()), planned.get(name, {})
            was_about, step.is_about = step.is_about, name in about
            if was_about:
                step.planned, step.total = {}, 0
            step.planned |= {key: (seconds, threads) for key, (seconds, threads) in jobs.items()}
            step.total = max(step.total, len(step.jobs), len(jobs))

    def _begin(self, event: Mapping[str, Any]) -> None:
        number, step = event["began"], self._steps.setdefault(event["step"], Step())
        job = self._jobs.setdefault(number, Job(event["step"], event["name"]))
        step.jobs[number], job.begun_s = job, event["at"]
        job.threads = event.get("threads", 1)
        step.total = max(step.total, len(step.jobs))  # a checkpoint adds jobs
        # on a cluster jobs wait in its queue, or for one of the main process's few cores
        self._set(job, "queued" if self.facts.get("remote") else "running")
        self.news.append(("began", job.step, job.name, event["reason"]))

    def _change(self, event: Mapping[str, Any], kind: str) -> None:
        if (job := self._jobs.get(event[kind])) is None:
            return
        if kind == "ended":
            if job.state != "done":  # else its status file has its time
                job.wall_s = event["at"] - job.begun_s
                status = read_job(self.logs.status(job.step, job.key))
                if status and status.start_s > job.begun_s - CLOCKS_S:
                    job.cpu_s = self._cpu_s(status)
            self._set(job, "done")
        elif self.facts.get("stopped"):
            self._set(job, "stopped")
        else:
            job.error = event.get("error", "")
            self._set(job, kind)
            self.news.append((kind, job.step, job.name, job.error))
