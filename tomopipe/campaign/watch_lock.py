"""A watched campaign: the lock of its watcher, and the raw files that a run of it sees."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tomopipe.campaign.files import LOGS
from tomopipe.errors import TomopipeError, room_for
from tomopipe.storage.json_files import json_or
from tomopipe.storage.processes import in_folder, is_alive, is_copied, named

FILES = "TOMOPIPE_FILES"
"""Environment variable of a watcher's run: a JSON list of raw files, the only ones that it sees."""
_STALE_S = 120.0


@contextmanager
def only_watcher(directory: Path) -> Iterator[IO[str]]:
    """Hold the lock of the watcher of a campaign, or refuse; touch it to show life."""
    path = directory / LOGS.watch_lock
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # if the file server has no locks, the age of the file counts
            if isinstance(error, BlockingIOError) or is_watched(directory):
                about = json_or(path, {"start": "now", "pid": "?", "host": "?"})
                raise TomopipeError(
                    "{}: this campaign is watched since {start} by process {pid} on {host}. "
                    "`tomopipe stop` ends it.".format(path, **about)
                ) from None
        about = named(os.getpid()) | in_folder(path.parent) | {"start": time.ctime()}
        with room_for(path):
            stream.truncate(0)
            stream.write(json.dumps(about))
            stream.flush()
        try:
            yield stream
        finally:
            stream.truncate(0)  # its age counts no more


def is_watched(directory: Path, by: str = "") -> bool:
    """Tell whether a watcher shows life, on any machine or on that one (`processes.machine`)."""
    path = directory / LOGS.watch_lock
    about = json_or(path, {})
    if not about or by not in ("", about.get("machine")) or is_copied(about, path.parent):
        return False
    alive = is_alive(about)
    return time.time() - path.stat().st_mtime < _STALE_S if alive is None else alive


def complete_files(directory: Path) -> frozenset[str] | None:
    """Return the raw files that a watcher's run sees; None in other runs, which see all."""
    if not (path := os.environ.get(FILES)):
        return None
    files = json_or(directory / path, None)
    if not isinstance(files, list):
        raise TomopipeError(f"{directory / path}: missing or damaged; the next run writes it.")
    return frozenset(files)
