"""Start, follow and stop the next run from the page; only with `--allow-run`.

The command is fixed when the server starts. Nothing that a browser sends becomes part of it; a
browser can only start and stop.
"""

import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tomopipe.campaign import lock
from tomopipe.campaign.files import LOGS, Logs
from tomopipe.campaign.job_status import end_of
from tomopipe.campaign.lock import Run
from tomopipe.errors import TomopipeError
from tomopipe.run import launch
from tomopipe.run.progress import Progress

_TAIL_LINES = 15


class Runner:
    """One run of the workflow at a time; `command` is from `tomopipe.run.launch.run_command`."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        self._directory = directory
        self._command = list(command)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._run: Run | None = None
        self._progress: Progress | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the next run; it continues when the server ends.

        Raises TomopipeError if one is under way.
        """
        with self._lock:
            if self._is_running():
                raise TomopipeError("a run is under way already: it was started from this page.")
            if elsewhere := self._elsewhere():
                raise TomopipeError(elsewhere)
            self._process, self._run = launch.start(self._directory, self._command)
            self._progress = Progress(self._run.events, Logs(self._directory / LOGS.folder))
            self._stopping = False

    def stop(self) -> None:
        """Interrupt the run, as Ctrl-C does: its jobs are ended, finished results stay.

        Raises TomopipeError if no run of this server is active.
        """
        with self._lock:
            if self._run is None or not self._is_running():
                raise TomopipeError("no run that was started from this page is under way.")
            self._stopping = True
            launch.interrupt(self._run, sending=signal.SIGINT)

    def state(self) -> dict[str, Any]:
        """Return the state of the run for the page."""
        with self._lock:
            running = self._is_running()
            found: dict[str, Any] = {"state": "idle", "stopping": running and self._stopping}
            if running:
                found["state"] = "running"
            elif elsewhere := self._elsewhere():
                found |= {"state": "elsewhere", "error": elsewhere}
            elif self._process is not None:
                status = self._process.returncode
                done = "stopped" if self._stopping else "done" if status == 0 else "failed"
                found |= {"state": done, "exit_status": status}
            return found | self._how_far()

    def _is_running(self) -> bool:
        if self._process is None or self._process.poll() is None:
            return self._process is not None
        if self._run and self._process.returncode >= 0:  # not killed, perhaps before it began
            lock.release(self._directory, self._run)
        return False

    def _elsewhere(self) -> str:
        """Describe a run that was started elsewhere; "" if there is none."""
        if (run := lock.under_way(self._directory)) is not None:
            return f"a run that was started elsewhere is under way: {run}. `tomopipe stop` ends it."
        return ""

    def _how_far(self) -> dict[str, Any]:
        if self._run is None or self._progress is None:
            return {}
        self._progress.read()
        n_done, n_all = self._progress.counts
        tail = ""
        with suppress(OSError):
            tail = end_of(Path(self._run.log), _TAIL_LINES)
        said = self._progress.facts.get("said", [])
        return {"n_done": n_done, "n_all": n_all or None, "tail": tail, "said": said}
