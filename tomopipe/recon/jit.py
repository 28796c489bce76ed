"""Compilation of kernels, the cache of their code, and threads that share calls of a function.

Code is stored in `NUMBA_CACHE_DIR`, else in the user's cache, else in the campaign, in a folder for
each type of CPU, as nodes of a cluster differ.
"""

import fcntl
import functools
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import numba
import numpy as np
from llvmlite.binding import get_host_cpu_name
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numpy.typing import NDArray

from tomopipe.storage import run_folder

logger = logging.getLogger(__name__)
_config: Any = numba.config
_COMPILING_S = 60.0  # longest wait for another process that compiles


class _Dispatcher(CPUDispatcher):
    """A function whose code one process at a time compiles or loads.

    The first jobs of a campaign begin together: one compiles, the others load. Two processes at
    once could both write numba's index of a function, and assign wrong code to its types.
    """

    def compile(self, sig: Any) -> Any:
        with global_compiler_lock, _lock_of_processes():
            try:
                code = super().compile(sig)
            except OSError as error:  # compiled, but not stored
                _warn_not_stored(str(error))
                return super().compile(sig)
            if sum(self.stats.cache_misses.values()):
                _report_compilation()
            return code


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function on its first call, without the GIL; keep the code where it can be.

    Parameters
    ----------
    function : callable
        Of arrays and numbers, in the part of Python that numba compiles.
    **options
        Of `numba.njit`, such as `fastmath`.

    Returns
    -------
    callable
        With the parameters and results of `function`.
    """
    dispatcher = _Dispatcher(function, targetoptions={"nopython": True, "nogil": True, **options})
    if folder := cache_folder():
        of_others, _config.CACHE_DIR = _config.CACHE_DIR, folder
        with suppress(RuntimeError):  # the folder was removed since
            dispatcher.enable_caching()
        _config.CACHE_DIR = of_others
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel: they are run in ordinary threads on disjoint parts of the output."""
    return compiled(function, boundscheck=False, error_model="numpy")


@functools.cache
def load_tables() -> None:
    """Load what numba loads with the first call of any compiled function, 0.4 s of CPU time."""
    numba.njit(lambda: 0)()


_holders: list[bool] = []  # not empty during nested calls of `compile`


@contextmanager
def _lock_of_processes() -> Iterator[None]:
    """Wait while another process compiles, with a time limit."""
    if _holders or not cache_folder():
        yield
        return
    end = time.monotonic() + _COMPILING_S
    with open(os.path.join(cache_folder(), "lock"), "w") as lock:
        with suppress(OSError):  # a file system without locks
            while time.monotonic() < end:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
        _holders.append(True)
        try:
            yield
        finally:
            _holders.pop()


def cpu_name() -> str:
    """Return the type of CPU for which code is compiled."""
    return str(_config.CPU_NAME or get_host_cpu_name())


@functools.cache
def cache_folder(campaign: str = "") -> str:
    """Return the first writable folder for this type of CPU; "" if there is none.

    `campaign` is a folder to use after the user's cache; in a job, "", the current one.
    """
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parents = [_config.CACHE_DIR or os.path.join(user, "tomopipe")]
    if campaign or os.environ.get(run_folder.VARIABLE):
        parents.append(os.path.abspath(os.path.join(campaign, ".snakemake/tomopipe")))
    for parent in parents:
        folder = os.path.join(parent, f"numba-{cpu_name()}")
        try:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
        except OSError as error:
            reason = str(error)
    _warn_not_stored(reason)
    return ""


@functools.cache
def _warn_not_stored(reason: str) -> None:
    """Log the consequence and the remedy, once."""
    logger.warning(
        "compiled code cannot be cached, so each job compiles for 10 s (%s): set "
        "NUMBA_CACHE_DIR to a writable folder",
        reason,
    )


@functools.cache
def _report_compilation() -> None:
    logger.info("compiling for this processor (%s), once: up to 40 s of CPU time", cpu_name())


def thread_count(threads: int | None = None) -> int:
    """Return the number of threads: as requested, else the cores this process may use."""
    if threads is not None:
        return max(int(threads), 1)
    return min(len(os.sched_getaffinity(0)), numba.get_num_threads())


def aligned_empty(n: int) -> NDArray[np.float32]:
    """Return n floats that begin at a cache line; NumPy aligns to 16 bytes only."""
    block = np.empty(n + 16, dtype=np.float32)
    offset = -(block.ctypes.data // 4) % 16
    return block[offset : offset + n]


@kernel
def aligned(block: Any) -> Any:
    """Return a block of floats from its first cache line on; for kernels (see `aligned_empty`)."""
    return block[(-(block.ctypes.data // 4)) % 16 :]


class Team:
    """Threads that share the calls of a stage; `run` returns when all have ended."""

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

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)  # those that wait, if a call failed


def parts(n: int, n_parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into at most `n_parts` (first, last) ranges of nearly equal length."""
    edges = [n * i // n_parts for i in range(n_parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]
