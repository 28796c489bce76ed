"""Progress of a run: the events that its main process reports, and their sums by step.

The logger plugin and the Snakefile write them to a file that the environment names, a line of JSON
each: `began` (number of the job; step, name, reason), `ended`, `failed` (error) and `again` (it is
tried once more) of jobs; `totals`, the jobs of steps, done or not, at any time; `says`; facts.
"""

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import plain_error
from tomopipe.campaign.files import Logs
from tomopipe.campaign.log import CLOCKS_S, position, read_job, status_path

VARIABLE = "TOMOPIPE_EVENTS"
"""Environment variable with the file for the events; without it they are written nowhere."""
FORCE = "TOMOPIPE_FORCE"
"""Environment variable of a run that starts although the disk is too small."""
_LOOK_S = 5.0
_OPEN = ("queued", "running")
_MOST_ERROR = 700  # characters
_LONG_S = 60.0  # a job of which compiling is a small part
_TARGETS = ("all", "predictions", "total")  # rules that are not work


def is_read() -> bool:
    """Whether the events of this run are read."""
    return bool(os.environ.get(VARIABLE))


def tell(**event: Any) -> None:
    """Write an event of this run."""
    if is_read():
        write(Path(os.environ[VARIABLE]), **event)


def write(events: Path, **event: Any) -> None:
    """Append an event of a run to its file."""
    with open(events, "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"at": time.time(), **event}) + "\n")


def error_of(log: Path, step: str, since_s: float) -> str:
    """Return the error that a job noted beside its log; "" if it noted none since then."""
    job = read_job(status_path(log))
    is_new = job and job.state == "failed" and (job.end_s or 0.0) > since_s - CLOCKS_S
    text = plain_error(job.error, step).rstrip(".") if job and is_new else ""
    half = _MOST_ERROR // 2  # what to do stands at the end
    return text if len(text) <= _MOST_ERROR else f"{text[:half]} ... {text[-half:]}"


@dataclass
class Job:
    """A job, by its latest attempt: queued, running, done, failed, or again (it waits for one)."""

    step: str
    name: str
    begun_s: float = 0.0  # Unix seconds
    state: str = ""
    wall_s: float = 0.0
    error: str = ""


@dataclass
class Step:
    """The jobs of one step that have begun, by number, and how many there are in each state."""

    total: int = 0  # with those that have not begun
    jobs: dict[int, Job] = field(default_factory=dict)
    n: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Number of finished jobs."""
        return self.n["done"]

    @property
    def waiting(self) -> int:
        """Number of jobs that have not begun."""
        return max(0, self.total - self.done - self.n["failed"] - self.n["running"])

    @property
    def left_s(self) -> float | None:
        """Seconds until the step is done with as many jobs at a time as now; None: unknown.

        From long jobs, and those that began after the first one had ended: before it jobs compile,
        and read the program from the disk, which takes several times as long as a small job.
        """
        done = [job for job in self.jobs.values() if job.state == "done"]
        first_s = min((job.begun_s + job.wall_s for job in done), default=0.0)
        walls_s = [j.wall_s for j in done if j.begun_s >= first_s or j.wall_s >= _LONG_S]
        if not (walls_s and self.n["running"]):
            return None
        # running jobs are half done on average
        return statistics.median(walls_s) * (self.waiting / self.n["running"] + 0.5)


class Progress:
    """State of a run from its events so far.

    On a cluster a job is running, and done, once its status file says so: Snakemake names it when
    it is submitted, and asks the scheduler once a minute. A job that ends because somebody stopped
    the run (the fact `stopped`) has not failed.
    """

    def __init__(self, events: str | os.PathLike[str], logs: Logs[Path]) -> None:
        self._path, self._offset = Path(events), 0
        self.logs, self._looked_at_s = logs, 0.0
        self._steps: dict[str, Step] = {}
        self._jobs: dict[int, Job] = {}
        # reported once: the configuration (`campaign`), whether Snakemake `executes` jobs and they
        # are `remote`, whether it `is_whole`, and somebody `stopped` it; lines (`said`)
        self.facts: dict[str, Any] = {}
        # what (began, failed, again, says), step, name, and reason or error; the reader empties it
        self.news: list[tuple[str, str, str, str]] = []

    @property
    def steps(self) -> dict[str, Step]:
        """The steps with jobs, in the order of the work."""
        result = {name: step for name, step in self._steps.items() if name not in _TARGETS}
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
        """Return the log of a job; None if it has written none, as one that never started."""
        log = self.logs.log(step, name or "campaign")
        jobs = [job for job in self._steps[step].jobs.values() if job.name == name]
        if any(job.state != "failed" for job in jobs):  # another attempt writes it anew
            return log
        status = log.stat() if log.is_file() else None
        began_s = max(job.begun_s for job in jobs)
        is_its_own = status and status.st_size and status.st_mtime > began_s - CLOCKS_S
        return log if is_its_own else None

    def read(self, pause_s: float = 0.0) -> bool:
        """Read the events since the last call; tell whether there was anything new.

        A failure, and what follows it, is left until it is `pause_s` old: that the job is tried
        again is an event of its own, some moments later.
        """
        text, before = b"", self._offset
        with suppress(OSError), open(self._path, "rb") as stream:
            stream.seek(self._offset)
            text = stream.read()
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            event = json.loads(line)
            if "failed" in event and time.time() - event["at"] < pause_s:
                break
            self._offset += len(line)
            self._take(event)
        return bool(self._look() or self._offset > before)

    def _look(self) -> bool:
        """Find the jobs that have left the queue of a cluster, and those that have ended there."""
        if not self.facts.get("remote") or time.monotonic() - self._looked_at_s < _LOOK_S:
            return False
        self._looked_at_s = time.monotonic()
        return sum(self._follow(job) for job in self._jobs.values() if job.state in _OPEN) > 0

    def _follow(self, job: Job) -> bool:
        """Read the status file of a job; tell whether it has begun or ended since."""
        status = read_job(self.logs.status(job.step, job.name or "campaign"))
        if status is None or status.start_s < job.begun_s - CLOCKS_S:
            return False  # of an earlier run or attempt
        if status.state == "done" and status.wall_s is not None:
            job.wall_s = status.wall_s
            self._set(job, "done")
        elif job.state == "queued":
            job.begun_s = status.start_s
            self._set(job, "running")
        else:
            return False
        return True

    def _set(self, job: Job, state: str) -> None:
        n = self._steps[job.step].n
        n[job.state] -= 1
        n[state] += 1
        job.state = state

    def _take(self, event: Mapping[str, Any]) -> None:
        if "totals" in event:
            for name, total in event["totals"].items():
                step = self._steps.setdefault(name, Step())
                step.total = max(total, len(step.jobs))
        elif "began" in event:
            self._begin(event)
        elif "says" in event:
            self.news.append(("says", "", "", event["says"]))
            self.facts.setdefault("said", []).append(event["says"])
        elif number := event.keys() & {"ended", "failed", "again"}:
            self._change(event, *number)
        else:
            self.facts |= event

    def _begin(self, event: Mapping[str, Any]) -> None:
        number, step = event["began"], self._steps.setdefault(event["step"], Step())
        job = self._jobs.setdefault(number, Job(event["step"], event["name"]))
        step.jobs[number], job.begun_s = job, event["at"]
        step.total = max(step.total, len(step.jobs))  # a checkpoint adds jobs
        # on a cluster the main process has few cores for its own jobs, too
        self._set(job, "queued" if self.facts.get("remote") else "running")
        self.news.append(("began", job.step, job.name, event["reason"]))

    def _change(self, event: Mapping[str, Any], what: str) -> None:
        if (job := self._jobs.get(event[what])) is None:
            return
        if what == "ended":
            if job.state != "done":  # on its node
                job.wall_s = event["at"] - job.begun_s
            self._set(job, "done")
        elif self.facts.get("stopped"):
            self._set(job, "stopped")
        else:
            job.error = event.get("error", "")
            self._set(job, what)
            self.news.append((what, job.step, job.name, job.error))
