"""Start the next run from the page, watch it and stop it: only where `--allow-run` was given.

What is started is fixed when the server starts. Nothing that a browser sends becomes part of a
command; it can say no more than "start" and "stop".
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import LOGS
from tomopipe.errors import TomopipeError
from tomopipe.paths import workflow_folder

_STEPS = re.compile(rb"^(\d+) of (\d+) steps \(\d+%\) done$", re.MULTILINE)
_TOTAL = re.compile(rb"^total\s+(\d+)$", re.MULTILINE)
_PROGRESS_BYTES = 2**16
_TAIL_BYTES, _TAIL_LINES = 4096, 15


def run_command(directory: Path, config: Path, profile: str, cores: str) -> list[str]:
    """Return the command of the next run.

    Parameters
    ----------
    directory, config : Path
        The campaign folder and its configuration file.
    profile : str
        workstation, the name of a profile of the person (slurm), or the path of one.
    cores : str
        Number of cores on this machine, or all; "" leaves it to the profile.
    """
    home = workflow_folder()
    own = home / "profiles" / profile
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(home / "Snakefile")),
        *("--profile", str(own) if profile == "workstation" else profile),
        *("--directory", str(directory), "--configfile", str(config)),
        *(("--cores", cores) if cores else ()),
    ]


class Runner:
    """One run of the workflow at a time.

    Parameters
    ----------
    directory : Path
        The campaign folder.
    command : sequence of str
        What a run is, from `run_command`.
    """

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        self._directory = directory
        self._command = list(command)
        self._log = directory / LOGS.review_run
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the next run; it goes on when the server ends.

        Raises
        ------
        TomopipeError
            If one is under way.
        """
        with self._lock:
            if self._is_running():
                raise TomopipeError("a run is under way already: it was started from this page.")
            if self._is_locked():
                raise TomopipeError(_LOCKED)
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._stopping = False

    def stop(self) -> None:
        """Interrupt the run, as Ctrl-C does: its jobs are ended, what is done stays.

        Raises
        ------
        TomopipeError
            If this server has started none that still runs.
        """
        with self._lock:
            if self._process is None or not self._is_running():
                raise TomopipeError("no run that was started from this page is under way.")
            self._stopping = True
            with suppress(ProcessLookupError):  # it ended at this moment
                os.killpg(self._process.pid, signal.SIGINT)

    def state(self) -> dict[str, Any]:
        """Return what the page shows of the run."""
        with self._lock:
            running = self._is_running()
            found: dict[str, Any] = {"state": "idle", "stopping": running and self._stopping}
            if running:
                found["state"] = "running"
            elif self._is_locked():
                found |= {"state": "elsewhere", "error": _LOCKED}
            elif self._process is not None:
                stopped = self._stopping
                status = self._process.returncode
                done = "stopped" if stopped else "done" if status == 0 else "failed"
                found |= {"state": done, "exit_status": status}
            if self._process is not None:
                found |= self._progress()
        return found

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _is_locked(self) -> bool:
        return any((self._directory / ".snakemake" / "locks").glob("*.lock"))

    def _progress(self) -> dict[str, Any]:
        try:
            with open(self._log, "rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _PROGRESS_BYTES))
                text = stream.read()
        except OSError:
            return {}
        steps = _STEPS.findall(text)
        totals = _TOTAL.findall(text)  # said before the first job has ended
        known = int(totals[-1]) if totals else None
        n_done, n_all = map(int, steps[-1]) if steps else (0, known)
        tail = text[-_TAIL_BYTES:].decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        return {"n_done": n_done, "n_all": n_all, "tail": "\n".join(tail)}


_LOCKED = (
    "a run that was started elsewhere is under way in this campaign, or one was killed: "
    "then `snakemake --unlock`, as the README says."
)
