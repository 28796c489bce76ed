"""The lock of a campaign's watcher; its file names the watcher, and the processes it runs."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tomopipe.campaign.files import LOGS
from tomopipe.errors import TomopipeError, room_for
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import in_folder, is_copied, named

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
            if isinstance(error, BlockingIOError) or is_watched(directory):
                raise TomopipeError(
                    f"{path}: this campaign is watched{_by_whom(path)}. `tomopipe stop` ends it."
                ) from None
        yield stream


def is_watched(directory: Path) -> bool:
    """Tell whether a watcher, which may be on another machine, renews its lock."""
    try:
        status = (directory / LOGS.watch_lock).stat()
    except OSError:
        return False
    if status.st_size == 0 or time.time() - status.st_mtime >= _STALE_S:
        return False
    return not _is_copied(directory, json_or(directory / LOGS.watch_lock, {}))


def _is_copied(directory: Path, about: Mapping[str, Any]) -> bool:
    return is_copied(about, (directory / LOGS.watch_lock).parent)


def _by_whom(path: Path) -> str:
    """Say who holds a lock; nothing while it is written."""
    about = json_or(path, {})
    return " since {start} by process {pid} on {host}".format(**about) if "start" in about else ""


def write_holder(lock: IO[str], processes: Mapping[str, int]) -> None:
    """Write this process, and the numbers of those that it runs by name, into its lock."""
    parts = {name: named(pid) for name, pid in processes.items()}
    about = named(os.getpid()) | in_folder(Path(lock.name).parent) | {"start": time.ctime()}
    text = json.dumps(about | {"parts": parts})
    with room_for(lock.name):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), text.encode())  # nothing is left to write when it is closed


def watcher_processes(directory: Path) -> dict[str, dict[str, Any]]:
    """Return by name what identifies the processes that the last watcher ran (`named`)."""
    about = json_or(directory / LOGS.watch_lock, {})
    if "machine" not in about or _is_copied(directory, about):  # of an earlier version, or campaign
        return {}
    parts: dict[str, dict[str, Any]] = about.get("parts", {})
    return parts
