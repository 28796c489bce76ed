"""The folder of a run: its jobs write their results there and rename them when complete.

The main process makes the folder, with a unique name, when it begins, and gives the name to its
jobs. A later run renames it before it looks at any result. So a job that outlived its main process,
or waited in a queue meanwhile, cannot replace a newer result, on any file system. The jobs' records
of their results are there, too, until the main process has collected them.
"""

import getpass
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.errors import RunEndedError, room_for
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import in_folder, is_alive, is_copied, named

VARIABLE = "TOMOPIPE_RUN"
"""Environment variable with the folder of the run, relative to the campaign; "" outside a run."""
_RUNS, _RECORDS = ".runs", "said"


def begin(results: Path) -> Path:
    """End all earlier runs and make the folder of a new one; return it.

    `results` is relative to the campaign as the working directory.
    """
    end_all(results)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = results / _RUNS / f"{stamp}-{secrets.token_hex(4)}"
    with room_for(results):
        (folder / _RECORDS).mkdir(parents=True)
        about = named(os.getpid()) | in_folder(folder) | {"user": user_name()}
        (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def _renamed(folder: Path) -> Path:
    """Rename a folder in one step, if it is there, so that it can be removed at leisure."""
    aside = folder.with_name(f"ended-{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        folder.rename(aside)
    return aside


def end_all(results: Path) -> None:
    """Remove the folders of all runs: their jobs' later results are dropped."""
    for folder in earlier(results):
        _renamed(folder)
    for folder in (results / _RUNS).glob("ended-*"):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        (results / _RUNS).rmdir()


def earlier(results: Path) -> list[Path]:
    """Return the folders of runs that were killed, and of the current one."""
    folders = (results / _RUNS).glob("*")
    return sorted(path for path in folders if not path.name.startswith("ended-"))


def killed_here(results: Path, since_s: float) -> bool:
    """Tell whether the last run, begun at `since_s` (Unix seconds) or later, was killed here."""
    try:
        about = json.loads((earlier(results)[-1] / "run.json").read_text(encoding="utf-8"))
        return bool(about["start_s"] >= since_s and is_alive(about) is False)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def copied_s(results: Path) -> float | None:
    """Return when the campaign was copied while it ran, if nothing has run in the copy yet.

    In Unix seconds; None if it is no such copy.
    """
    for run in earlier(results)[-1:]:
        if is_copied(json_or(run / "run.json", {}), run):
            return os.stat(run / "run.json").st_ctime  # copies may keep the other times
    return None


def current() -> Path | None:
    """Return the folder of the run that this process belongs to; None outside a run.

    RunEndedError if that run has ended.
    """
    name = os.environ.get(VARIABLE, "")
    if not name:
        return None
    folder = Path(name)
    if not folder.is_dir():
        raise RunEndedError(
            f"{folder}: the run of this job has ended, or a newer run has begun since: nothing "
            "is written. Look at the newer run; it makes what is wanted now."
        )
    return folder


def warn_once(key: str, text: str) -> bool:
    """Leave a warning for the end of this run; tell whether no other job has left one of this key.

    Outside a run nothing is left, and the answer is yes.
    """
    folder = current()
    with suppress(FileExistsError):
        if folder is not None:
            with open(folder / f"warning-{key}", "x", encoding="utf-8") as file:
                file.write(text)
        return True
    return False


def warnings() -> list[str]:
    """Return the warnings that the jobs of this run have left."""
    name = os.environ.get(VARIABLE, "")
    return [path.read_text("utf-8") for path in Path(name).glob("warning-*")] if name else []


def results_of(folder: Path) -> Path:
    """Return the results folder that a run belongs to."""
    return folder.parent.parent


def write_job_record(step: str, key: str, record: dict[str, Any]) -> None:
    """Record what a job has made, for the main process to collect; not outside a run."""
    folder = current()
    if folder is None:
        return
    path = job_record_path(folder, step, key)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with room_for(folder):
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(path)


def job_record_path(folder: Path, step: str, key: str) -> Path:
    """Return the path of a job's record."""
    # names of scans are file names; long ones leave room for the step
    return folder / _RECORDS / f"{step}@{key}"[:250]


def job_records(results: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of the jobs of all existing runs."""
    for folder in earlier(results):
        for path in sorted((folder / _RECORDS).glob("*@*")):
            if record := json_or(path, {}):
                yield record


def user_name() -> str:
    """Return the name of the user, or the number if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return str(os.getuid())
