"""The lock of a campaign's watcher; its file names the watcher, and the processes it runs."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tomopipe.campaign.files import LOGS
from tomopipe.errors import TomopipeError
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import born

_STALE_S = 120.0


@contextmanager
def only_watcher(directory: Path) -> Iterator[IO[str]]:
    """Hold the lock of the watcher of a campaign, or refuse."""
    path = directory / LOGS.watch_lock
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # if the file server has no locks, the file is used: its writer renews it
            status = os.fstat(stream.fileno())
            fresh = status.st_size and time.time() - status.st_mtime < _STALE_S
            if isinstance(error, BlockingIOError) or fresh:
                raise TomopipeError(
                    f"{path}: this campaign is watched{_by_whom(path)}. `tomopipe stop` ends it."
                ) from None
        yield stream


def _by_whom(path: Path) -> str:
    """Say who holds a lock; nothing while it is written."""
    about = json_or(path, {})
    return " since {start} by process {pid} on {host}".format(**about) if "start" in about else ""


def write_holder(lock: IO[str], processes: Mapping[str, int]) -> None:
    """Write this process, and the numbers of those that it runs by name, into its lock."""
    parts = {name: (pid, born(pid)) for name, pid in processes.items()}
    about = {"host": socket.gethostname(), "pid": os.getpid(), "start": time.ctime()}
    lock.seek(0)
    lock.truncate()
    lock.write(json.dumps(about | {"parts": parts}))
    lock.flush()


def watcher_processes(directory: Path) -> dict[str, tuple[int, str]]:
    """Read number and start of the processes that a watcher runs on this machine, by name."""
    about = json_or(directory / LOGS.watch_lock, {})
    is_here = about.get("host") == socket.gethostname()
    parts = about.get("parts", {}) if is_here else {}
    return {name: (pid, start) for name, (pid, start) in parts.items()}
