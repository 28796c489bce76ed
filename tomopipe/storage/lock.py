"""The lock of a campaign, logs/run.lock: one run at a time, or one watcher with its runs.

It names the process that holds it and never expires. The next run takes it over if that process is
proven dead on this host; with `tomopipe run --take-over` also from another host.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tomopipe.errors import RunEndedError, TomopipeError, room_for
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import in_folder, is_alive, is_copied, named, sign_of_life
from tomopipe.storage.run_folder import new_id
from tomopipe.storage.shared import locked, make_lock

LOGS, NAME = "logs", "run.lock"
LOCK = Path(LOGS, NAME)
"""Path of the lock in the folder of a campaign."""
FILES = "TOMOPIPE_FILES"
"""Environment variable of a watcher's run: a JSON list of raw files, the only ones that it sees."""
VARIABLE = "TOMOPIPE_LOCK"
"""Environment variable: id of the run for which the lock was taken before the run started."""


_TYPES: Mapping[str, Any] = {"pid": int, "inode": int, "start_s": int | float, "watcher": dict}
"""Types of the values of a lock; the others are texts."""


@dataclass(frozen=True)
class Run:
    """A run: its process, its log and its file of events."""

    id: str
    # of the main process of Snakemake, or of a watcher between two runs
    pid: int
    host: str
    user: str
    start_s: float  # when it began, Unix seconds
    # start time of the process, which distinguishes a later one of the same number; "" if unknown
    born: str
    machine: str  # its kernel and process namespace
    # folder of its lock: a lock that was copied with the campaign has no effect
    folder: str
    inode: int
    # paths of Snakemake's output, and of the events for `tomopipe.run.progress`; "" if Snakemake
    # was not started by tomopipe
    log: str = ""
    events: str = ""
    # process of the watcher, if there is one
    watcher: Mapping[str, Any] = field(default_factory=dict)
    # id of a dead run of this folder whose jobs in SLURM are still to be ended, or waited for
    before: str = ""

    def __str__(self) -> str:
        """Describe when, by whom and where it was started."""
        when = time.strftime("%a %d %b %H:%M", time.localtime(self.start_s))
        return f"started {when} by {self.user} on {self.host}, process {self.pid}"


def new_run(directory: Path, **more: Any) -> Run:
    """Return a new run of this process, without a lock yet."""
    folder = directory / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    process = named(os.getpid()) | in_folder(folder)
    return Run(**{"id": new_id()} | process | more)


def read(directory: Path) -> Run | None:
    """Return the run that holds the lock, dead or alive; None if none does."""
    path, names = directory / LOCK, {each.name for each in fields(Run)}
    try:  # another version may have more fields
        run = Run(**{name: value for name, value in json_or(path, {}).items() if name in names})
    except TypeError:  # none, or damaged
        return None
    return run if _is_whole(asdict(run)) and not is_copied(asdict(run), path.parent) else None


def _is_whole(values: Mapping[str, Any]) -> bool:
    """Tell whether all values of a lock have their types; no process has a number below 1."""
    if not all(isinstance(value, _TYPES.get(name, str)) for name, value in values.items()):
        return False
    pids = [each.get("pid") for each in (values, values["watcher"]) if each]
    return all(isinstance(pid, int) and pid > 0 for pid in pids)


def is_copy(directory: Path) -> bool:
    """Tell whether the lock came with a copy of the campaign that it locks."""
    path = directory / LOCK
    return is_copied(json_or(path, {}), path.parent)


def under_way(directory: Path) -> Run | None:
    """Return the run that holds the lock; None if none does, or it is proven dead."""
    run = read(directory)
    return run if run and _is_alive(run) is not False else None


def _is_alive(run: Run) -> bool | None:
    """Tell whether a run is alive, or its watcher, which starts the next run; None: unknown."""
    states = {is_alive(process) for process in (asdict(run), run.watcher) if process}
    return True if True in states else None if None in states else False


def has_watcher(directory: Path) -> bool:
    """Tell whether a watcher, or its run, holds the lock, and the watcher is not proven dead."""
    run = read(directory)
    return bool(run and run.watcher and is_alive(run.watcher) is not False)


def take(directory: Path, run: Run, *, take_over: bool = False) -> Run:
    """Take the lock for a run and return the run; raise while a run that may be alive holds it.

    `take_over`: also from a run of another host that may be alive.
    """
    path = directory / LOCK
    with locked(path):  # only one process takes it over
        if other := read(directory):
            alive = _is_alive(other)
            if alive or (alive is None and not take_over):
                raise TomopipeError(_refusal(path, other))
            # one that has not ended the jobs of another has none itself
            before = other.before or other.id
            run = replace(run, before=before if other.folder == run.folder else "")
        _put(path, run)
    return run


def hand_over(directory: Path, run: Run, after: Run) -> None:
    """Pass the lock on, from one run or process to another; RunEndedError if it was taken over."""
    path = directory / LOCK
    with locked(path):
        _refuse_lost(directory, run.id)
        _put(path, after)


def enter(directory: Path) -> Run:
    """Return the run of this Snakemake, which now holds the lock; raise if another holds it."""
    if not (given := os.environ.pop(VARIABLE, "")):
        return take(directory, new_run(directory))
    run = replace(_refuse_lost(directory, given), **named(os.getpid()))
    hand_over(directory, run, run)
    return run


@contextmanager
def held(directory: Path, run: Run, *, beat_s: float = 30.0) -> Iterator[None]:
    """Touch the lock of a run regularly; release it at the end unless a watcher continues."""

    def beat() -> None:
        if is_held(directory, run):
            with suppress(OSError):
                os.utime(directory / LOCK)

    try:
        with sign_of_life(beat, every_s=beat_s, name="lock"):
            yield
    finally:
        if not run.watcher or run.watcher.get("pid") == run.pid:
            release(directory, run)


def is_held(directory: Path, run: Run) -> bool:
    """Tell whether the lock is that of this run."""
    now = read(directory)
    return now is not None and now.id == run.id


def release(directory: Path, run: Run) -> None:
    """Remove the lock if it is that of this run, and there are no jobs of another to be ended."""
    now = read(directory)
    if now and now.id == run.id and not now.before:
        (directory / LOCK).unlink(missing_ok=True)


def complete_files(directory: Path) -> frozenset[str] | None:
    """Return the raw files that a watcher's run sees; None in other runs, which see all."""
    if not (path := os.environ.get(FILES)):
        return None
    files = json_or(directory / path, None)
    if not isinstance(files, list):
        raise TomopipeError(f"{directory / path}: missing or damaged; the next run writes it.")
    return frozenset(files)


def _put(path: Path, run: Run) -> None:
    """Write the lock, which `locked` holds, atomically: on a full disk it stays unchanged."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with room_for(path):
        make_lock(temporary, json.dumps(asdict(run)).encode())
    temporary.replace(path)


def _refuse_lost(directory: Path, run_id: str) -> Run:
    """Return the run with this id, which holds the lock; RunEndedError if it does not."""
    run = read(directory)
    if run is None or run.id != run_id:
        path = directory / LOCK
        why = f"a newer run has begun ({run})" if run else "the lock was removed"
        raise RunEndedError(f"{path}: {why}; this run ends.")
    return run


def _refusal(path: Path, run: Run) -> str:
    text = f"a run of this campaign is under way: {run}"
    commands = "`tomopipe status` shows it, `tomopipe stop` ends it"
    if _is_alive(run) is not None:
        return f"{text}; {commands}."
    with suppress(OSError):
        text += f", last sign of life {time.time() - path.stat().st_mtime:.0f} s ago"
    return (
        f"{text}; {commands} there. If it is dead, type tomopipe run --take-over (for snakemake "
        f"alone, remove {path})."
    )
