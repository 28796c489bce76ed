"""Wait for what another process does."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def until(
    check: Callable[[], Any], what: str | Callable[[], str] = "", seconds: float = 300
) -> Any:
    """Return what `check` gives, once it is true; fail and say `what` did not come in time."""
    end = time.monotonic() + seconds
    while not (found := check()):
        said = what() if callable(what) else what
        assert time.monotonic() < end, f"not within {seconds} s: {said}"
        time.sleep(0.1)
    return found


def ended(
    *command: object, cwd: Path | None = None, env: dict | None = None, seconds: float = 600
) -> tuple[int, str]:
    """Run a command, with our environment and more; return its status and all that it says."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=os.environ | (env or {}), timeout=seconds, check=False,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout
