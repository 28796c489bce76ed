"""Log and status file of a job: written by the job, and read by all other processes."""

import json
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import LOGS, Logs, job_name
from tomopipe.errors import (
    PixelsError,
    RunEndedError,
    ScanError,
    TomopipeError,
    is_of_the_scan,
    library_error,
    reason_of,
    room_for,
)
from tomopipe.paths import no_pipe
from tomopipe.storage import run_folder
from tomopipe.storage.atomic import why_not_replaced
from tomopipe.storage.json_files import json_or, number, text
from tomopipe.storage.lock import is_copy
from tomopipe.storage.processes import sign_of_life
from tomopipe.workflow_steps import STEPS

#: Seconds between two heartbeats of a job.
HEARTBEAT_S = 60.0
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Seconds without a heartbeat after which a running job is lost: three of its beats.
LOST_S = 180.0
#: Difference between the clocks of nodes and file servers.
CLOCKS_S = 5.0
_POSITIONS = {step: number for number, step in enumerate(STEPS)}
_TAIL_BYTES, _TAIL_LINES = 8192, 25


@contextmanager
def log_to(path: str | os.PathLike[str]) -> Iterator[None]:
    """Send the messages of this process to standard error and to a log, which is overwritten."""
    log = Path(path)
    log.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.FileHandler(no_pipe(log), mode="w", encoding="utf-8", errors="backslashreplace"),
        logging.StreamHandler(sys.stderr),
    ]
    handlers[1].setLevel(logging.WARNING)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(handler)
    try:
        yield
    except TomopipeError as error:
        root.error("this job failed: %s", error)
        sys.excepthook = _hide_message  # a job that ends with it has said it
        raise
    except Exception:
        root.exception("this job failed")
        raise
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def _hide_message(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Print a traceback of other errors than messages."""
    if not isinstance(error, TomopipeError):
        sys.__excepthook__(kind, error, trace)


def status_path(log: str | os.PathLike[str]) -> Path:
    """Return logs/status/<step>/<key>.json for logs/<step>/<key>.log."""
    path = Path(log)
    # with_suffix would take a dot inside the scan's name for the suffix
    key = path.name.removesuffix(".log")
    return Logs(path.parent.parent).status(path.parent.name, key)


def status_in_run(log: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the status of a job in this run; {} before its first attempt."""
    status, run = json_or(status_path(log), {}), os.environ.get(run_folder.VARIABLE)
    return status if run and status.get("run") == run else {}


def data_error(log: str | os.PathLike[str]) -> TomopipeError | None:
    """Return the error of an earlier attempt of a job in this run if no attempt can avoid it.

    None after a kill, or if memory, disk space or a file was missing.
    """
    status = status_in_run(log)
    errors = {each.__name__: each for each in (ScanError, PixelsError, TomopipeError)}
    error = errors.get(status.get("type", ""))
    is_final = status.get("state") == "failed" and not status.get("may_pass")
    return error(status.get("error")) if error and is_final else None


@contextmanager
def job(log: str | os.PathLike[str], outputs: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Run one job: log to `log`, and write its start, heartbeat and end beside it.

    It fails at once if one of its `outputs`, or its folder, is write-protected. One that failed on
    its data and is tried again by Snakemake fails as before, and computes nothing.

    A job that is killed leaves a status with a start and no end, by which `onerror` recognises it.
    `state` is running, done or failed; times are Unix seconds. While the job runs, `heartbeat` is
    at most `HEARTBEAT_S` old: if it is much older, or the folder of its `run` has been removed, the
    job is lost. `cpu_s` is the CPU time of a job that is done.

    Yields a dict whose entries are added to the status at the end.
    """
    path, earlier_error = status_path(log), data_error(log)
    more: dict[str, Any] = {}
    status: dict[str, Any] = {
        "step": path.parent.name,
        "key": path.name.removesuffix(".json"),
        "state": "running",
        "start": time.time(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "run": os.environ.get(run_folder.VARIABLE, ""),
    }
    before_s = _cpu_s()
    _write(status | {"heartbeat": status["start"]}, path)

    def beat() -> None:
        # a full disk, or a file server without answer for a minute, must not end the job
        with suppress(OSError, RunEndedError):
            _write(status | {"heartbeat": time.time()}, path)

    try:
        with log_to(log), sign_of_life(beat, every_s=HEARTBEAT_S, name="heartbeat"):
            if earlier_error:
                raise earlier_error
            if why := next(filter(None, map(why_not_replaced, outputs)), ""):
                raise TomopipeError(why)
            yield more
    except Exception as error:  # of the log, too: without an end the job would count as killed
        unloaded = library_error(error)
        failed = {"state": "failed", "end": time.time(), "error": _lines_of(unloaded or error)}
        failed |= {"type": type(error).__name__, "may_pass": not is_of_the_scan(error)}
        failed |= {"of_machine": True} if unloaded else {}
        with suppress(RunEndedError):
            _write(status | failed, path)
        raise
    end = {"state": "done", "end": time.time(), "cpu_s": round(_cpu_s() - before_s, 2)}
    _write(status | more | end, path)


def _cpu_s() -> float:
    """Return the CPU time of this process and of its ended children."""
    return sum(os.times()[:4])


def _lines_of(error: Exception) -> str:
    """Return the text of an error; lines, such as one for each scan, stay lines."""
    if not isinstance(error, TomopipeError):
        return reason_of(error)
    return "\n".join(line.rstrip() for line in str(error).strip().splitlines())


def _write(status: dict[str, Any], path: Path) -> None:
    """Write a status atomically, without a flush to disk: a power cut may lose it."""
    run_folder.current()  # raises once the run has ended: the status may be that of a newer run
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}"[:200])
        try:
            temporary.write_text(json.dumps(status, indent=1, sort_keys=True), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # the disk may be full


@dataclass(frozen=True)
class JobStatus:
    """One job that has begun; times in Unix seconds."""

    # step, and the scan, series or campaign
    step: str
    key: str
    # running, done, failed, or lost: without an end, while its heartbeat is old, its run is over,
    # or SLURM has ended it; pending: an attempt failed, and the run was stopped before the next
    state: str
    start_s: float = 0.0
    end_s: float | None = None
    cpu_s: float | None = None  # of its computing; None before its end
    # where it runs
    host: str = ""
    slurm_job: str = ""
    error: str = ""  # why it failed, or how SLURM ended it
    warning: str = ""  # about its result
    is_killed: bool = False  # of one that failed: it ended without saying why
    log_tail: str = ""  # end of its log, for jobs that are not done, as `present_jobs` reads it

    @property
    def name(self) -> str:
        """Its scan, stack or series as people write it, or campaign."""
        return job_name(self.step, self.key)

    @property
    def log(self) -> str:
        """Path of its log in the campaign."""
        return LOGS.log(self.step, self.key)

    @property
    def wall_s(self) -> float | None:
        """Seconds from start to end; None if it has not ended."""
        return None if self.end_s is None else max(0.0, self.end_s - self.start_s)


def position(step: str) -> int:
    """Return the position of a step in the order of the work; others come last."""
    return _POSITIONS.get(step, len(_POSITIONS))


def read_job(path: Path) -> JobStatus | None:
    """Read a status file; None if it is missing, being replaced, or foreign."""
    return _parse(path, json_or(path, {}))


def read_jobs(
    status_folder: Path,
    read: Callable[[Path], Mapping[str, Any] | None] = lambda path: json_or(path, {}),
) -> list[JobStatus]:
    """Read the status files of a campaign with `read`, in order of step, begin and name."""
    paths = (path for path in status_folder.glob("*/*.json") if not path.name.startswith("."))
    in_copy = cache(lambda: is_copy(status_folder.parents[1]))
    jobs = (_parse(path, read(path) or {}, in_copy) for path in sorted(paths, key=str))
    return sorted(filter(None, jobs), key=lambda job: (position(job.step), job.step, job.start_s))


def _parse(
    path: Path, data: Mapping[str, Any], in_copy: Callable[[], bool] = lambda: False
) -> JobStatus | None:
    """Return the status in the content of a file; None if it has no start."""
    start_s, state = number(data.get("start")), text(data.get("state"))
    if start_s is None:
        return None
    if state == "running":
        beat_s = number(data.get("heartbeat")) or start_s
        run = text(data.get("run"))  # relative to the campaign
        is_over = bool(run) and (not (path.parents[3] / run).is_dir() or in_copy())
        is_silent = time.time() - beat_s > LOST_S
        state = "lost" if is_over or is_silent or data.get("error") else state
    return JobStatus(
        step=path.parent.name,
        key=path.name.removesuffix(".json"),
        state=state,
        start_s=start_s,
        end_s=number(data.get("end")),
        cpu_s=number(data.get("cpu_s")),
        host=text(data.get("host")),
        slurm_job=text(data.get("slurm_job")),
        error=text(data.get("error")),
        warning=text(data.get("warning")),
        is_killed=data.get("is_killed") is True,
    )


def end_of(log: Path) -> str:
    """Read the last lines of a log, without reading the rest of it; "" if it cannot be read."""
    try:
        with open(no_pipe(log), "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])
