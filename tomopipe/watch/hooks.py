"""Hooks: users' commands, called on events, that can neither block nor end a run."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMIT_S = 30.0
END_S = 10.0  # at the end of a watch, all together
_MOST_AT_ONCE = 4
_LOOK_S = 0.05
_LOG_BYTES = 10e6


class Hooks:
    """Runs commands one after the other, a few at once, each for a limited time.

    What they print goes to `log`, which is begun again when it is large.
    """

    def __init__(self, directory: Path, log: Path, limit_s: float = LIMIT_S) -> None:
        self._directory, self._log, self._limit_s = directory, log, limit_s
        with suppress(FileNotFoundError):
            if log.stat().st_size > _LOG_BYTES:
                log.unlink()
        self._queue: list[tuple[str, Mapping[str, Any]]] = []
        self._running: list[tuple[subprocess.Popen[bytes], str, float]] = []

    def call(self, command: str, facts: Mapping[str, Any]) -> None:
        """Queue a shell command, with JSON on its stdin."""
        self._queue.append((command, facts))

    def look(self, once: Callable[[str, str], None]) -> None:
        """Start queued commands, end hanging ones; report each failing command once."""
        for running in list(self._running):
            process, command, began_s = running
            status = process.poll()
            if status is None and time.monotonic() - began_s < self._limit_s:
                continue
            self._running.remove(running)
            fault = f"failed: exit status {status}"
            if status is None:
                self._kill(process)
                fault = f"hung and was ended after {self._limit_s:g} s"
            if status != 0:
                text = f"{fault}, see {self._log}; said once, the watch goes on."
                once(f"hook {command}", f"hooks.on_scan ({command}) {text}")
        while self._queue and len(self._running) < _MOST_AT_ONCE:
            command, facts = self._queue.pop(0)
            try:
                self._running.append((self._start(command, facts), command, time.monotonic()))
            except OSError as error:
                once(f"hook {command}", f"hooks.on_scan ({command}) failed: {error}")

    def _start(self, command: str, facts: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # a pipe would block if the command does not read
        with tempfile.TemporaryFile() as stream, open(self._log, "ab") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {facts.get('scan', '')}\n".encode())
            log.flush()
            stream.write(json.dumps(facts).encode())
            stream.seek(0)
            return subprocess.Popen(
                command,
                shell=True,
                cwd=self._directory,
                stdin=stream,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @staticmethod
    def _kill(process: "subprocess.Popen[bytes]") -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self, once: Callable[[str, str], None], limit_s: float = END_S) -> None:
        """Call what is queued, for a limited time; end what runs then."""
        end_s = time.monotonic() + limit_s
        while (self._queue or self._running) and time.monotonic() < end_s:
            self.look(once)
            time.sleep(_LOOK_S)
        if n := len(self._queue) + len(self._running):
            calls = f"{n} call{'s' * (n > 1)}"
            once("hooks", f"hooks.on_scan: {calls} ended or not made: {limit_s:g} s were over.")
        for process, *_ in self._running:
            self._kill(process)
