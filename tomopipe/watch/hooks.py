"""Hooks: users' commands, called on events, that can neither block nor end a watch."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMIT_S = 30.0
END_S = 10.0  # at the end of a watch, all together
_MOST_AT_ONCE = 4
_LOG_BYTES = 10e6


class Hooks:
    """Runs commands in threads, a few at once, each for a limited time.

    What they print goes to `log`, which is restarted when large. `once` reports, just once, each
    command that fails.
    """

    def __init__(
        self, directory: Path, log: Path, once: Callable[[str, str], None], limit_s: float = LIMIT_S
    ) -> None:
        self._directory, self._log, self._once, self._limit_s = directory, log, once, limit_s
        log.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if log.stat().st_size > _LOG_BYTES:
                log.unlink()
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE)
        self._calls: list[Future[None]] = []
        self._running: set[subprocess.Popen[bytes]] = set()

    def call(self, command: str, facts: Mapping[str, Any]) -> None:
        """Queue a shell command, with JSON on its stdin."""
        self._calls = [call for call in self._calls if not call.done()]
        self._calls.append(self._threads.submit(self._run, command, facts))

    def _run(self, command: str, facts: Mapping[str, Any]) -> None:
        try:
            with open(self._log, "ab") as log:
                log.write(f"{time.strftime('%H:%M:%S')} {facts.get('scan', '')}\n".encode())
                log.flush()
                process = subprocess.Popen(
                    command,
                    shell=True,
                    cwd=self._directory,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._running.add(process)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(json.dumps(facts).encode(), timeout=self._limit_s)
            fault = f"failed: exit status {process.returncode}" * (process.returncode != 0)
            if process.returncode is None:
                _kill(process)
                fault = f"timed out and was killed after {self._limit_s:g} s"
            self._running.discard(process)
        except OSError as error:
            fault = f"failed: {error}"
        if fault:
            text = f"{fault}, see {self._log}; reported only once, the watch goes on."
            self._once(f"hook {command}", f"hooks.on_scan ({command}) {text}")

    def end(self, limit_s: float = END_S) -> None:
        """Call what is queued, for a limited time; end what runs then."""
        if left := wait(self._calls, limit_s).not_done:
            calls = f"{len(left)} call{'s' * (len(left) > 1)}"
            self._once("hooks", f"hooks.on_scan: {calls} killed or not run in {limit_s:g} s.")
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
