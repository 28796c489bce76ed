"""Whether a process named by a lock, a record or the folder of a run is alive, dead or unknown.

Processes of other machines and containers (which may share our hostname) are unknown, and those of
other users where Linux hides them (hidepid). What psutil does not give: decision 39. And this
process without garbage collection.
"""

import gc
import getpass
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

    `born` is its start in seconds after boot, "" if it has ended or is hidden.
    """
    return {
        "host": socket.gethostname(),
        "machine": machine(),
        "user": user_name(),
        "pid": pid,
        "born": _born(pid) or "",
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
    if (born := _born(pid)) is None:
        return None if since else True  # its number may have been reused
    return born != "" and since in (None, "", born)


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


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: where much is read that stays it takes a third of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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


def _born(pid: int) -> str | None:
    """Return the start of a process in seconds after boot, "" if it has ended, None if hidden.

    Not in Unix seconds, which psutil computes from the clock: it may be set meanwhile.
    """
    import psutil  # not for commands that look at no lock

    try:
        boot_s = psutil.boot_time()  # first: psutil before 7 keeps it for create_time
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{process.create_time() - boot_s:.2f}"
    except psutil.ZombieProcess:
        return ""
    except (psutil.Error, OSError):
        return None


def user_name() -> str:
    """Return the name of the user, or the number if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return str(os.getuid())
