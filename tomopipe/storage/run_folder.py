"""The folder of a run: what its jobs write lies there until it is renamed to its place.

The main process makes the folder, with a name that never comes again, when it begins, and hands the
name to its jobs. A later run renames it away before it looks at any result: so a job that outlived
its main process, or waited in a queue meanwhile, cannot rename anything over a newer result, on no
file system. What jobs say of their results lies there, too, until the main process has gathered it.

The runs of one watcher share a folder, and each has a part of it: `arrivals-3`, which finds the
CORs of the scans in its `scans.json` and hands over what it learnt, or `tail-2`, which makes the
rest and alone writes the record. A part that is taken away ends its jobs as a newer run does.
"""

import getpass
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.errors import RunEndedError, room_for

VARIABLE = "TOMOPIPE_RUN"
"""Environment variable with the folder of the run, relative to the campaign; "" outside a run."""
_RUNS, _SAID = ".runs", "said"
SCANS = "scans.json"  # of a part: those that it is about
ARRIVALS, TAIL = "arrivals", "tail"


def begin(results: Path) -> Path:
    """End all earlier runs and make the folder of a new one; return it.

    Parameters
    ----------
    results : Path
        The results folder, relative to the campaign as the working directory.
    """
    end_all(results)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = results / _RUNS / f"{stamp}-{secrets.token_hex(4)}"
    about = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": user_name(),
        "start": time.time(),
    }
    with room_for(results):
        (folder / _SAID).mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def add_part(run: Path, name: str, paths: Collection[str]) -> Path:
    """Make the part of a run that sees these raw files alone, spelt as the config spells them."""
    folder = run / name
    with room_for(run):
        (folder / _SAID).mkdir(parents=True)
        (folder / SCANS).write_text(json.dumps(sorted(paths)), encoding="utf-8")
    return folder


def end_part(folder: Path) -> None:
    """Take a part of a run away: what its jobs still write goes nowhere."""
    aside = folder.with_name(f"ended-{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def part() -> str:
    """Return which part of a watcher's run this process is of, ARRIVALS or TAIL; else ""."""
    folder = Path(os.environ.get(VARIABLE, ""))
    return folder.name.partition("-")[0] if folder.parent.parent.name == _RUNS else ""


def taken() -> frozenset[str] | None:
    """Return the raw files that this part of a run sees; None: all there are."""
    if not part():
        return None
    path = Path(os.environ[VARIABLE], SCANS)
    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunEndedError(f"{path}: the watcher of this run has ended it.") from None


def hand_over(record: dict[str, Any]) -> None:
    """Leave what this part has learnt to the run: the next tail takes it in."""
    folder = Path(os.environ[VARIABLE])
    path = handed_over(folder)
    temporary = folder / path.name
    with suppress(FileNotFoundError):  # ended meanwhile
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(path)


def handed_over(part_folder: Path) -> Path:
    """Return where a part leaves what it learnt."""
    return part_folder.parent / _SAID / f"record@{part_folder.name}"


def end_all(results: Path) -> None:
    """Take the folders of all runs away: what their jobs still write goes nowhere."""
    for folder in earlier(results):
        # first the name, in one step; what is inside goes afterwards
        aside = folder.with_name(f"ended-{secrets.token_hex(8)}")
        with suppress(FileNotFoundError):
            folder.rename(aside)
    for folder in (results / _RUNS).glob("ended-*"):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        (results / _RUNS).rmdir()


def earlier(results: Path) -> list[Path]:
    """Return the folders of runs that did not end by themselves, and of the one that runs."""
    folders = (results / _RUNS).glob("*")
    return sorted(path for path in folders if not path.name.startswith("ended-"))


def current() -> Path | None:
    """Return the folder of the run that this process belongs to; None outside a run.

    Raises
    ------
    RunEndedError
        If that run has ended.
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


def say(step: str, key: str, record: dict[str, Any]) -> None:
    """Leave word of what a job has made, for the main process to gather; outside a run nowhere."""
    folder = current()
    if folder is None:
        return
    path = said_path(folder, step, key)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with room_for(folder):
        temporary.write_text(json.dumps(record), encoding="utf-8")
        temporary.replace(path)


def said_path(folder: Path, step: str, key: str) -> Path:
    """Return where a job of a run leaves word."""
    # names of scans are file names; long ones leave room for the step
    return folder / _SAID / f"{step}@{key}"[:250]


def all_said(results: Path) -> Iterator[dict[str, Any]]:
    """Yield what the jobs of all runs that are there have said."""
    for folder in earlier(results):
        for said in (folder / _SAID, *sorted(folder.glob(f"{TAIL}-*/{_SAID}"))):
            for path in sorted(said.glob("*@*")):
                with suppress(OSError, ValueError):
                    yield json.loads(path.read_text(encoding="utf-8"))


def user_name() -> str:
    """Return the name of whoever runs this, or the number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return str(os.getuid())
