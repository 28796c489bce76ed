"""Whether a process named by a lock, a record or the folder of a run is alive, dead or unknown.

Processes of other machines and containers (which may share our hostname) are unknown, and those of
other users where Linux hides them (hidepid).
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def named(pid: int) -> dict[str, Any]:
    """Return the identity of a process of this machine, to be stored; `is_alive` reads it.

    `born` is its start in Linux's clock ticks, "" if it has ended or is hidden.
    """
    cells = _cells(pid)
    return {
        "host": socket.gethostname(),
        "machine": machine(),
        "pid": pid,
        "born": "" if cells[:1] in ([], ["Z"]) else cells[19],
        "start_s": time.time(),
    }


def is_alive(name: Mapping[str, Any]) -> bool | None:
    """Tell whether the process described by `named` is running; None: unknown, so it may be.

    Zombies, later processes of the same number, and processes from before the last boot do not
    count as running.
    """
    pid, since = name.get("pid"), name.get("born")
    if not isinstance(pid, int) or name.get("machine") != machine():
        return False if _is_before_boot(name) else None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # of another user
    if cells := _cells(pid):
        return cells[0] != "Z" and since in (None, "", cells[19])
    return None if since else True  # its number may have been reused


def in_folder(folder: Path) -> dict[str, Any]:
    """Return the identity of a folder, which a copy does not share, to be added to `named`."""
    return {"folder": os.path.realpath(folder), "inode": os.stat(folder).st_ino}


def is_copied(name: Mapping[str, Any], folder: Path) -> bool:
    """Tell whether a file with `named` and `in_folder` was copied into this folder.

    A renamed folder keeps its inode; one that is mounted again, perhaps with other inodes, keeps
    its path. Both may differ for files written by another machine: then False.
    """
    path, inode = name.get("folder"), name.get("inode")
    if not (path and inode) or name.get("machine") != machine():
        return False
    return path != os.path.realpath(folder) and inode != os.stat(folder).st_ino


@contextmanager
def sign_of_life(give: Callable[[], None], *, every_s: float, name: str) -> Iterator[None]:
    """Call `give` repeatedly in a thread of this name until the block has ended."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            give()

    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def machine() -> str:
    """Name the running kernel and the process namespace: hosts and containers may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_before_boot(name: Mapping[str, Any]) -> bool:
    """Tell whether a process ran under an earlier kernel of this host."""
    theirs, start_s = name.get("machine"), name.get("start_s")
    if name.get("host") != socket.gethostname() or not isinstance(theirs, str):
        return False
    if theirs.split()[:1] == machine().split()[:1] or not isinstance(start_s, int | float):
        return False
    return start_s < time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _cells(pid: int) -> list[str]:
    """Return the fields after the name in Linux's /proc/PID/stat: state, ..., start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
