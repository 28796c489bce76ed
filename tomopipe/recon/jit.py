"""Compilation of kernels, and the cache of their code.

Code is kept in `NUMBA_CACHE_DIR`, else in the user's cache, else in the campaign, in a folder for
each type of CPU, as nodes of a cluster differ.
"""

import fcntl
import functools
import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
import numpy as np
from llvmlite.binding import get_host_cpu_name
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys
from numpy.typing import NDArray

from tomopipe.storage import run_folder

logger = logging.getLogger(__name__)
_config: Any = numba.config
_COMPILING_S = 60.0  # that a process waits for another one's code


class _Kept(FunctionCache):
    """Code on disk, compiled by one process while others that need it wait.

    The first jobs of a campaign begin together. Without the lock on storing two of them could write
    the index of a function at once, and give one's types the other's code.
    """

    _compiling: Any = None  # the locked file of the process that compiles

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # memory of arrays that kernels make
        result = self._from_disk(sig, target_context)
        if result is None and self._compiling is None:
            self._wait_for_turn()
            result = self._from_disk(sig, target_context)
            if result is not None:
                self._end_turn()
        return result

    def _from_disk(self, sig: Any, target_context: Any) -> Any:
        """Load without the tables of all that numba can compile: 0.3 s (`refresh`)."""
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            with open(os.path.join(self.cache_path, "lock"), "w") as lock:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
                super().save_overload(sig, data)
        except OSError as error:
            _say_not_kept(error)
        self._end_turn()

    def _wait_for_turn(self) -> None:
        """Wait while another process compiles this function, but no longer than that may take."""
        end = time.monotonic() + _COMPILING_S
        with suppress(OSError):  # a file system without locks, or a folder that is gone
            name = f"{self._cache_file._index_name}.compiling"
            self._compiling = open(os.path.join(self.cache_path, name), "w")  # noqa: SIM115
            while time.monotonic() < end:
                try:
                    return fcntl.flock(self._compiling, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.05)

    def _end_turn(self) -> None:
        if self._compiling is not None:
            self._compiling.close()
            self._compiling = None


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function on its first call, without the GIL; keep the code where it can be."""
    dispatcher = numba.njit(nogil=True, **options)(function)
    if folder := _cache_folder():
        of_others, _config.CACHE_DIR = _config.CACHE_DIR, folder
        with suppress(RuntimeError):  # the folder is gone since
            dispatcher._cache = _Kept(function)
        _config.CACHE_DIR = of_others
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a kernel: they are run in ordinary threads on disjoint parts of the output."""
    return compiled(function, boundscheck=False, error_model="numpy")


@functools.cache
def _cache_folder() -> str:
    """Return the first folder that can be written; "" if none can."""
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parents = [_config.CACHE_DIR or os.path.join(user, "tomopipe")]
    if os.environ.get(run_folder.VARIABLE):
        parents.append(os.path.abspath(".snakemake/tomopipe"))
    for parent in parents:
        folder = os.path.join(parent, f"numba-{_config.CPU_NAME or get_host_cpu_name()}")
        try:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
        except OSError as error:
            reason = error
    _say_not_kept(reason)
    return ""


_not_kept: list[OSError] = []


def _say_not_kept(reason: OSError) -> None:
    """Say once what it costs, and what to do."""
    if not _not_kept:
        logger.warning(
            "compiled code cannot be kept, and each job takes 10 s to compile (%s): set "
            "NUMBA_CACHE_DIR to a folder that can be written",
            reason,
        )
    _not_kept.append(reason)


def thread_count(threads: int | None = None) -> int:
    """Return the threads to use: those asked for, else the cores this process may run on."""
    if threads is not None:
        return max(int(threads), 1)
    return min(len(os.sched_getaffinity(0)), numba.get_num_threads())


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
