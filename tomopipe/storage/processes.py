"""Whether a process of this machine lives, which a lock or a run's folder names."""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # of another user
    return _cells(pid)[:1] != ["Z"]


def born(pid: int) -> str:
    """Return the start time of a process in Linux's clock ticks; "" if it ended or is unknown."""
    cells = _cells(pid)
    return "" if cells[:1] in ([], ["Z"]) else cells[19]


def _cells(pid: int) -> list[str]:
    """Return what follows the name in Linux's /proc/PID/stat: state, ... , start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
