"""Progress of a run: the events that its main process reports, and their sums by step.

The logger plugin and the Snakefile write them to a file that the environment names, a line of JSON
each: `began` (number of the job; step, name, reason), `ended`, `failed` (error) and `again` (it is
tried once more) of jobs; `totals`, the jobs of steps, done or not, at any time; `says`; facts.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import plain_error
from tomopipe.campaign.files import Logs
from tomopipe.campaign.job_status import CLOCKS_S, position, read_job
from tomopipe.campaign.log import status_path

VARIABLE = "TOMOPIPE_EVENTS"
"""Environment variable with the file for the events; without it they are written nowhere."""
FORCE = "TOMOPIPE_FORCE"
"""Environment variable of a run that starts although the disk is too small."""
_LOOK_S = 5.0
_AGAIN_S = 1.0  # after a failure, until Snakemake has said whether it tries again
_MOST_ERROR = 700  # characters
_TARGETS = ("all", "predictions", "total")  # rules that are not work


def is_read() -> bool:
    """Whether the events of this run are read."""
    return bool(os.environ.get(VARIABLE))


def tell(**event: Any) -> None:
    """Write an event."""
    if is_read():
        with open(os.environ[VARIABLE], "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": time.time(), **event}) + "\n")


def error_of(log: Path, step: str, since_s: float) -> str:
    """Return the error that a job noted beside its log; "" if it noted none since then."""
    job = read_job(status_path(log))
    is_new = job and job.state == "failed" and (job.end_s or 0.0) > since_s - CLOCKS_S
    text = plain_error(job.error, step).rstrip(".") if job and is_new else ""
    half = _MOST_ERROR // 2  # what to do stands at the end
    return text if len(text) <= _MOST_ERROR else f"{text[:half]} ... {text[-half:]}"


@dataclass
class Step:
    """The jobs of one step by number, with name and start (Unix seconds).

    `over` are those that have ended on their node, with their duration (s): Snakemake does not know
    yet; `again` those that failed and wait for another attempt.
    """

    total: int = 0
    queued: dict[int, tuple[str, float]] = field(default_factory=dict)
    running: dict[int, tuple[str, float]] = field(default_factory=dict)
    over: dict[int, tuple[str, float]] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    again: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    walls_s: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of finished jobs."""
        return len(self.walls_s) + len(self.over)

    @property
    def waiting(self) -> int:
        """Number of jobs that have not begun."""
        return max(0, self.total - self.done - len(self.failed) - len(self.running))

    @property
    def left_s(self) -> float | None:
        """Seconds until the step is done with as many jobs at a time as now; None: unknown."""
        walls_s = [*self.walls_s, *(wall_s for _, wall_s in self.over.values())]
        if not (walls_s and self.running):
            return None
        # running jobs are half done on average
        return statistics.median(walls_s) * (self.waiting / len(self.running) + 0.5)


class Progress:
    """State of a run from its events so far.

    On a cluster a job is running, and done, once its status file says so: Snakemake names it when
    it is submitted, and asks the scheduler once a minute. A job that ends because somebody stopped
    the run (`is_stopped`) has not failed.
    """

    def __init__(
        self,
        events: str | os.PathLike[str],
        logs: Logs[Path],
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_stopped = is_stopped
        self._path, self._offset = Path(events), 0
        self.logs, self._looked_at_s = logs, 0.0
        self._steps: dict[str, Step] = {}
        self._step_of: dict[int, str] = {}
        self._sent_s: dict[int, float] = {}
        self._began_s: dict[tuple[str, str], float] = {}  # of step and name, the latest
        # reported once: the configuration (`campaign`), whether Snakemake `executes` jobs and they
        # are `remote`, the lines about scans without COR or volume (`unfinished`), others (`said`)
        self.facts: dict[str, Any] = {}
        # what (began, failed, again: it is tried again; says), step, name, and reason or error; the
        # reader empties it
        self.news: list[tuple[str, str, str, str]] = []
        # errors of jobs that may be tried again, with the time of reading
        self._errors: dict[int, tuple[float, str]] = {}

    @property
    def steps(self) -> dict[str, Step]:
        """The steps with jobs, in the order of the work."""
        found = {name: step for name, step in self._steps.items() if name not in _TARGETS}
        return dict(sorted(found.items(), key=lambda item: position(item[0])))

    @property
    def counts(self) -> tuple[int, int]:
        """Finished jobs and all jobs, of all steps."""
        steps = self.steps.values()
        return sum(step.done for step in steps), sum(step.total for step in steps)

    def goes_on(self, step: str, name: str, failed_s: float) -> bool:
        """Tell whether a job that failed then (Unix seconds) has begun again, or will."""
        jobs = self._steps.get(step, Step())
        present = (*jobs.queued.values(), *jobs.running.values())
        return name in jobs.again.values() or any(
            known == name and begun_s > failed_s for known, begun_s in present
        )

    def log_of(self, step: str, name: str) -> Path | None:
        """Return the log of a job; None if it has written none, as one that never started."""
        log, began_s = self.logs.log(step, name or "campaign"), self._began_s.get((step, name), 0.0)
        found = log.stat() if log.is_file() else None
        is_its_own = found and found.st_size and found.st_mtime > began_s - CLOCKS_S
        return log if is_its_own else None

    def read(self, *, at_end: bool = False) -> bool:
        """Read the events since the last call; tell whether there was anything new.

        A failure is news after a moment, or `at_end`: it may be tried again.
        """
        text = b""
        with suppress(OSError), open(self._path, "rb") as stream:
            stream.seek(self._offset)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))
        return any([self._look(), self._tell_failures(at_end), whole])

    def _tell_failures(self, at_end: bool) -> bool:
        """Make news of failures that are final; tell whether there were any."""
        old_s = time.monotonic() - _AGAIN_S
        final = [n for n, (read_s, _) in self._errors.items() if at_end or read_s < old_s]
        for number in final:
            step = self._step_of[number]
            name, (_, error) = self._steps[step].failed[number], self._errors.pop(number)
            self.news.append(("failed", step, name, error))
        return bool(final)

    def _look(self) -> bool:
        """Find the jobs that have left the queue of a cluster, and those that have ended there."""
        if not self.facts.get("remote") or time.monotonic() - self._looked_at_s < _LOOK_S:
            return False
        self._looked_at_s = time.monotonic()
        went_on = [
            self._follow(number, name, step)
            for name, step in self._steps.items()
            for number in [*step.queued, *step.running]
        ]
        return any(went_on)

    def _follow(self, number: int, name: str, step: Step) -> bool:
        """Read the status file of a job; tell whether it has begun or ended since."""
        jobs = step.queued if number in step.queued else step.running
        key, _ = jobs[number]
        job = read_job(self.logs.status(name, key or "campaign"))
        if job is None or job.start_s < self._sent_s[number] - CLOCKS_S:
            return False  # of an earlier run or attempt
        if job.state == "done" and job.wall_s is not None:
            step.over[number] = key, job.wall_s
        elif jobs is step.queued:
            step.running[number] = key, job.start_s
        else:
            return False
        del jobs[number]
        return True

    def _take(self, event: Mapping[str, Any]) -> None:
        if "totals" in event:
            for name, total in event["totals"].items():
                step = self._steps.setdefault(name, Step())
                step.total = max(total, len(step.begun))
        elif "began" in event:
            number, name = event["began"], event["step"]
            step = self._steps.setdefault(name, Step())
            self._try_again(number)
            step.begun.add(number)
            step.total = max(step.total, len(step.begun))  # a checkpoint adds jobs
            self._step_of[number], self._sent_s[number] = name, event["at"]
            self._began_s[name, event["name"]] = event["at"]
            step.again.pop(number, None)
            # on a cluster the main process has few cores for its own jobs, too
            jobs = step.queued if self.facts.get("remote") else step.running
            jobs[number] = event["name"], event["at"]
            self.news.append(("began", name, event["name"], event["reason"]))
        elif "again" in event:
            self._try_again(event["again"])
        elif "ended" in event or "failed" in event:
            self._end(event)
        elif "says" in event:
            self.news.append(("says", "", "", event["says"]))
            self.facts.setdefault("said", []).append(event["says"])
        else:
            self.facts |= event

    def _end(self, event: Mapping[str, Any]) -> None:
        number = event.get("ended", event.get("failed"))
        step = self._steps.get(self._step_of.get(number, ""), Step())
        if number in step.over:
            name, wall_s = step.over.pop(number)
        else:
            jobs = step.queued if number in step.queued else step.running
            if number not in jobs:
                return
            name, began_s = jobs.pop(number)
            wall_s = event["at"] - began_s
        if "ended" in event:
            step.walls_s.append(wall_s)
        elif not self._is_stopped():
            step.failed[number] = name
            self._errors[number] = time.monotonic(), event.get("error", "")

    def _try_again(self, number: int) -> None:
        """Take back that a job has failed finally."""
        step_name = self._step_of.get(number, "")
        step = self._steps.get(step_name, Step())
        if number in step.failed:
            step.again[number] = step.failed.pop(number)
            _, error = self._errors.pop(number, (0.0, ""))
            self.news.append(("again", step_name, step.again[number], error))
