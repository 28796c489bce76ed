"""The folder of a run: its jobs write their results there and rename them when complete.

The main process makes the folder, with a unique name, when it begins, and gives the name to its
jobs. A later run renames it before it looks at any result. So a job that outlived its main process,
or waited in a queue meanwhile, cannot replace a newer result, on any file system.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tomopipe.errors import RunEndedError, TomopipeError, on_os_error, room_for
from tomopipe.paths import no_pipe

VARIABLE = "TOMOPIPE_RUN"
"""Environment variable with the folder of the run, relative to the campaign; "" outside a run."""
_RUNS, _SUBMITTED = ".runs", "submitted"


def new_id() -> str:
    """Return the id of a new run: its start time and a random part."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def begin(results: Path, run_id: str = "") -> Path:
    """End all earlier runs and make the folder of a new one; return it.

    `results` is relative to the campaign as the working directory.
    """
    end_all(results)
    folder = of(results, run_id or new_id())
    what, advice = f"{folder.parent}: cannot be made a folder", " Move away what is there."
    with room_for(results), on_os_error(what, advice):
        folder.mkdir(parents=True)
    return folder


def of(results: Path, run_id: str) -> Path:
    """Return the folder of a run."""
    return results / _RUNS / run_id


def shared_file(rule: str, name: str) -> str:
    """Return the path of a file that some jobs of this run share, and that ends with it."""
    return os.path.join(os.environ.get(VARIABLE, ""), rule, f"{name}.h5")


def slurm_name(run_id: str) -> str:
    """Return the name that all jobs of a run have in SLURM, by its id or its folder."""
    return f"tomopipe-{run_id.rpartition('-')[2]}"


def end_all(results: Path) -> None:
    """Remove the folders of all runs: their jobs' later results are dropped."""
    runs = results / _RUNS
    if runs.is_symlink():  # to a folder of others
        raise TomopipeError(f"{runs}: a link, expected a folder of tomopipe. Remove the link.")
    for folder in set(runs.glob("*")) - set(runs.glob("ended-*")):
        with suppress(FileNotFoundError):  # renamed in one step, then removed
            folder.rename(runs / f"ended-{secrets.token_hex(8)}")
    for folder in runs.glob("ended-*"):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        runs.rmdir()


def current() -> Path | None:
    """Return the folder of the run that this process belongs to; None outside a run.

    RunEndedError if that run has ended.
    """
    name = os.environ.get(VARIABLE, "")
    if not name:
        return None
    folder = Path(name)
    if folder.parent.name != _RUNS or not folder.is_dir():
        raise RunEndedError(
            f"{folder}: the run of this job has ended, or a newer run has begun since: nothing "
            "is written. The newer run writes the results."
        )
    return folder


def note_submission(number: str, logs: Iterable[str]) -> None:
    """Note the jobs of a submission to a cluster, by their logs: the next run may need them."""
    folder = Path(os.environ.get(VARIABLE) or os.devnull, _SUBMITTED)
    with suppress(OSError):  # no run, or no room: then the next one makes their results again
        folder.mkdir(exist_ok=True)
        (folder / number).write_text("".join(f"{log}\n" for log in logs), encoding="utf-8")


def submissions(run: Path) -> dict[str, list[str]]:
    """Return the logs of the jobs of each submission of a run, by its number."""
    return {
        path.name: no_pipe(path).read_text(encoding="utf-8").splitlines()
        for path in (run / _SUBMITTED).glob("*")
    }


def warn_once(key: str, text: str) -> bool:
    """Store a warning for the end of this run; return whether it is the first of this key.

    Outside a run nothing is stored, and the answer is yes.
    """
    folder = current()
    with suppress(FileExistsError):
        if folder is not None:
            with open(folder / f"warning-{key}", "x", encoding="utf-8") as file:
                file.write(text)
        return True
    return False


def warnings() -> list[str]:
    """Return the warnings that the jobs of this run have stored."""
    name = os.environ.get(VARIABLE, "")
    return [path.read_text("utf-8") for path in Path(name).glob("warning-*")] if name else []
