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
_MOST_AT_ONCE = 4


class Hooks:
    """Runs commands one after the other, a few at once, each for a limited time."""

    def __init__(self, directory: Path, limit_s: float = LIMIT_S) -> None:
        self._directory, self._limit_s = directory, limit_s
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
            said = "" if status == 0 else f"hooks.on_scan ({command}) failed: exit status {status}"
            if status is None:
                self._kill(process)
                said = f"hooks.on_scan ({command}) hung and was ended after {self._limit_s:g} s"
            if said:
                once(f"hook {command}", f"{said}; said once, the watch goes on.")
        while self._queue and len(self._running) < _MOST_AT_ONCE:
            command, facts = self._queue.pop(0)
            try:
                process = self._start(command, facts)
            except OSError as error:
                once(f"hook {command}", f"hooks.on_scan ({command}) failed: {error}")
                continue
            self._running.append((process, command, time.monotonic()))

    def _start(self, command: str, facts: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
        with tempfile.TemporaryFile() as stream:  # a pipe would block if the command does not read
            stream.write(json.dumps(facts).encode())
            stream.seek(0)
            return subprocess.Popen(
                command,
                shell=True,
                cwd=self._directory,
                stdin=stream,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @staticmethod
    def _kill(process: "subprocess.Popen[bytes]") -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        """End all running commands."""
        for process, *_ in self._running:
            self._kill(process)
