"""Time, its spread, and memory."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_N_DRAWS = 4000
Clock = Callable[[], float]


@dataclass(frozen=True)
class Interval:
    """A median and the interval that holds it with 95 % probability."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


NO_INTERVAL = Interval(float("nan"), float("nan"), float("nan"))


def median_interval(values: ArrayLike) -> Interval:
    """Return the median of some numbers and its bootstrap interval, the same for the same numbers.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        One per round.

    Returns
    -------
    Interval
        With one value, that value three times.
    """
    numbers = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).choice(numbers, (_N_DRAWS, len(numbers)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Interval(float(np.median(numbers)), float(low), float(high))


def rotate(
    candidates: Mapping[str, Callable[[], Any]],
    n_rounds: int,
    *,
    clock: Clock = time.process_time,
    progress: Callable[[str], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Run every candidate once per round, beginning with another one each time.

    Parameters
    ----------
    candidates : mapping of str to callable
        What to time.
    n_rounds : int
        Rounds; what slows a shared machine down then slows all candidates of a round.
    clock : callable
        Seconds; CPU time of this process and its threads by default.
    progress : callable, optional
        Told the name of the candidate about to run.

    Returns
    -------
    dict of str to ndarray, shape (n_rounds,)
        Seconds.
    """
    seconds = {name: np.zeros(n_rounds) for name in candidates}
    for number in range(n_rounds):
        for name in rotated(list(candidates), number):
            if progress is not None:
                progress(name)
            started = clock()
            candidates[name]()
            seconds[name][number] = clock() - started
    return seconds


def rotated(names: list[str], number: int) -> list[str]:
    """Return the names in the order of a round: another one first each time."""
    first = number % max(len(names), 1)
    return names[first:] + names[:first]


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a process of its own and return what it returns."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def peak_bytes_of(run: Callable[[], Any]) -> int:
    """Return by how much a call raises the memory of this process, at its peak.

    Parameters
    ----------
    run : callable
        What to measure. Where the system cannot forget an earlier peak (all but Linux), call this
        in a new process, before anything large.

    Returns
    -------
    int
        Bytes of resident memory.
    """
    forgotten = _forget_peak()
    before = _status_bytes("VmRSS") if forgotten else _peak_bytes()
    run()
    return max((_status_bytes("VmHWM") if forgotten else _peak_bytes()) - before, 0)


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
