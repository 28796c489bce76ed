"""Wait for what another process does."""

import time
from collections.abc import Callable
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
