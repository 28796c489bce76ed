"""How the engine's kernels are compiled, and the threads they run in."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call; keep the code on disk where a folder can be written.

    Kernels release the GIL: they are run in ordinary threads on disjoint parts of the output.
    """
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # neither the package's nor the user's cache is writable
        logger.warning("compiled code cannot be kept (%s): set NUMBA_CACHE_DIR", error)
        return numba.njit(**options)(function)


def thread_count(threads: int | None = None) -> int:
    """Return the threads to use: those asked for, else the cores this process may run on."""
    if threads is not None:
        return max(int(threads), 1)
    return min(len(os.sched_getaffinity(0)), numba.get_num_threads())


class Team:
    """Threads that share the calls of a stage; `run` returns when all are done."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> None:
        """Call a function with each tuple of arguments."""
        if self._pool is None:
            for arguments in calls:
                function(*arguments)
            return
        for future in [self._pool.submit(function, *arguments) for arguments in calls]:
            future.result()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def aligned_empty(n: int) -> NDArray[np.float32]:
    """Return n floats that begin at a cache line.

    NumPy aligns to 16 bytes only: every 64-byte load or store would touch two cache lines.
    """
    block = np.empty(n + 16, dtype=np.float32)
    offset = -(block.ctypes.data // 4) % 16
    return block[offset : offset + n]


@kernel
def aligned(block: Any) -> Any:
    """Return a block of floats from its first cache line on; for kernels (see `aligned_empty`)."""
    return block[(-(block.ctypes.data // 4)) % 16 :]


def parts(n: int, n_parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into at most `n_parts` (first, last) pieces of nearly equal length."""
    edges = [n * i // n_parts for i in range(n_parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]
