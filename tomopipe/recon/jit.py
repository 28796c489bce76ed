"""Compilation of kernels, the store of their code, and threads that share calls of a function.

Code is stored in `NUMBA_CACHE_DIR`, else in the user's cache, else in the campaign, in a folder for
each type of CPU, as nodes of a cluster differ. Stored code of kernels is loaded without numba.
"""

import ctypes
import fcntl
import functools
import hashlib
import importlib
import itertools
import logging
import operator
import os
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from numpy.typing import NDArray

from tomopipe.paths import no_pipe
from tomopipe.storage import run_folder

logger = logging.getLogger(__name__)
ENTRY = "kernel"  # the symbol of stored code
Kinds = tuple[Any, ...]  # of arguments: what the code of a kernel depends on
_Code = tuple[Callable[..., Any], Callable[..., bytes]]  # and what packs the arguments, as words
_FORMATS = {float: "d", np.float32: "f4x", int: "q"}  # of words, for `struct`
_COMPILING_S = 60.0  # longest wait for another process that compiles


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Let numba compile a function on its first call, without the GIL; keep the code if possible.

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
    from tomopipe.recon.machine_code import Dispatcher  # numba: 0.3 s

    dispatcher = Dispatcher(function, targetoptions={"nopython": True, "nogil": True, **options})
    if folder := cache_folder():
        dispatcher.store_in(folder)
    return dispatcher


class Intrinsic:
    """The name of a function of `tomopipe.recon.vectors`, for kernels."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def for_numba(self) -> Any:
        """The function, which numba knows."""
        return getattr(importlib.import_module("tomopipe.recon.vectors"), self.name)


class Kernel:
    """A function that changes arrays; its code is loaded, and compiled where none is stored.

    Arguments are arrays, numbers (int, float, float32), and tuples, of which only the length
    counts. A kernel that Python calls returns nothing, and neither raises nor allocates: else its
    code needs numba while it runs, and is not stored. Kernels run in ordinary threads, on disjoint
    parts of the output. `options` are of `numba.njit`, such as `fastmath`.
    """

    def __init__(self, function: Any, **options: Any) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._options = {"nogil": True, "boundscheck": False, "error_model": "numpy", **options}
        self.code: dict[Kinds, _Code] = {}
        self._loading = threading.RLock()

    def __call__(self, *args: Any) -> None:
        """Run the code for arguments of these kinds."""
        kinds: list[Any] = []
        words: list[Any] = []
        for value in args:
            if isinstance(value, np.ndarray):
                strides = value.strides
                layout = "C" if value.flags.c_contiguous else "lines"
                if layout == "lines" and strides[-1] != value.itemsize:
                    layout = "A"
                kinds.append((value.dtype.str, value.ndim, layout))
                words += [value.__array_interface__["data"][0], *value.shape, *strides]
            elif isinstance(value, tuple):
                kinds.append(len(value))
            elif isinstance(value, float | np.float32):
                kinds.append(float if isinstance(value, float) else np.float32)
                words.append(value)
            else:
                kinds.append(int)
                words.append(operator.index(value))
        code, pack = self.code.get(key := tuple(kinds)) or self._load(key)
        code(pack(*words))

    @functools.cached_property
    def for_numba(self) -> Any:
        """The function as numba calls it in other kernels."""
        import numba

        of, names = self.function, self.function.__code__.co_names
        used = {name: of.__globals__[name] for name in names if name in of.__globals__}
        functions = {
            name: value.for_numba
            for name, value in used.items()
            if isinstance(value, Kernel | Intrinsic)
        }
        function = FunctionType(of.__code__, of.__globals__ | functions, of.__name__)
        return numba.njit(**self._options)(function)

    def _load(self, kinds: Kinds) -> "_Code":
        """Return the code for arguments of these kinds, stored or compiled."""
        with self._loading:
            if kinds not in self.code:
                path, folder = "", cache_folder()
                if folder:
                    name = f"{self.function.__module__}.{self.function.__name__}"
                    state = _state_of_kernels(self.function.__code__.co_filename)
                    digest = hashlib.sha256(repr([state, kinds]).encode()).hexdigest()[:16]
                    path = os.path.join(folder, f"{name}-{digest}.o")
                if (stored := read_code(path)) is None:
                    from tomopipe.recon.machine_code import compile_kernel  # numba: 0.3 s

                    code = compile_kernel(self, kinds, path)
                else:
                    code = linked(stored)
                self.code[kinds] = code, struct.Struct(_format_of(kinds)).pack
        return self.code[kinds]


def _format_of(kinds: Kinds) -> str:
    """Return the format of the words of a call; an array has address, shape and strides."""
    formats = [
        f"{1 + 2 * kind[1]}q" if isinstance(kind, tuple) else _FORMATS.get(kind, "")
        for kind in kinds
    ]
    return "=" + "".join(formats)


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Return a function as a `Kernel`.

    Parameters
    ----------
    function : callable
        It changes arrays, as `Kernel` says.
    **options
        Of `numba.njit`, such as `fastmath`.

    Returns
    -------
    Kernel
        It is compiled when it is called.
    """
    return Kernel(function, **options)


@functools.cache
def _state_of_kernels(source: str) -> str:
    return code_state([*Path(__file__).parent.glob("*.py"), Path(source)])


def code_state(sources: Iterable[Path]) -> str:
    """Return a digest of all that compiled code depends on, beside the type of CPU."""
    stats = sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sources)
    text = repr([_compilers(), _cpu_features(), stats])
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _compilers() -> tuple[str, ...]:
    return version("numba"), version("llvmlite"), sys.version


def read_code(path: str) -> bytes | None:
    """Return stored code; None if there is none, or it is damaged."""
    try:
        content = no_pipe(Path(path)).read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def write_code(path: str, code: bytes) -> None:
    """Store code; it is there as a whole, or a warning says that it is not."""
    if not path:
        return
    try:
        temporary = Path(f"{path}.{os.getpid()}")  # readable by those who share the folder
        temporary.write_bytes(hashlib.sha256(code).digest() + code)
        temporary.replace(path)
    except OSError as error:
        warn_not_stored(str(error))


@functools.cache
def target_machine() -> Any:
    """Return what makes code for this CPU, as numba does."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu_name(),
        features=_cpu_features(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )


_engines: list[Any] = []  # their code lives as long as they


c_function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
"""The function at an address, which takes the words of a call; without the GIL."""


def linked(code: bytes) -> Callable[..., Any]:
    """Return a C function for code; the GIL is released while it runs."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return c_function(engine.get_function_address(ENTRY))


@functools.cache
def load_tables() -> None:
    """Load what first calls of kernels load, and where numba is loaded its tables: 0.4 CPU s."""
    code_state(())
    target_machine()
    aligned_empty(0)  # what NumPy has for ctypes
    if "numba" in sys.modules:
        import numba

        numba.njit(lambda: 0)()


_holders: list[bool] = []  # not empty during nested calls of `compile`


@contextmanager
def lock_of_processes(code: str = "") -> Iterator[None]:
    """Wait, with a time limit, while another process compiles this code; "": that of numba."""
    if _holders or not cache_folder():
        yield
        return
    end = time.monotonic() + _COMPILING_S
    with open(os.path.join(cache_folder(), "lock"), "w") as lock:
        with suppress(OSError):  # a file system without locks
            while time.monotonic() < end:
                try:
                    # a byte of the file for each code
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, zlib.crc32(code.encode()))
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
    return os.environ.get("NUMBA_CPU_NAME") or str(llvm.get_host_cpu_name())


def _cpu_features() -> str:
    return os.environ.get("NUMBA_CPU_FEATURES") or str(llvm.get_host_cpu_features().flatten())


@functools.cache
def cache_folder(campaign: str = "") -> str:
    """Return the first writable folder for this type of CPU; "" if there is none.

    `campaign` is a folder to use after the user's cache; in a job, "", the current one.
    """
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parents = [os.environ.get("NUMBA_CACHE_DIR") or os.path.join(user, "tomopipe")]
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
    warn_not_stored(reason)
    return ""


@functools.cache
def warn_not_stored(reason: str) -> None:
    """Log the consequence and the remedy, once."""
    logger.warning(
        "compiled code cannot be cached, so each job compiles, up to a minute (%s): set "
        "NUMBA_CACHE_DIR to a writable folder",
        reason,
    )


@functools.cache
def report_compilation() -> None:
    """Log, once, why a job takes longer."""
    logger.info("compiling for this processor (%s), once: up to a minute of CPU time", cpu_name())


def thread_count(threads: int | None = None) -> int:
    """Return the number of threads: as requested, else the cores this process may use.

    Parameters
    ----------
    threads : int, optional
        Request; less than 1 counts as 1. None: `NUMBA_NUM_THREADS`, at most the cores, else these.

    Returns
    -------
    int
        At least 1.
    """
    if threads is not None:
        return max(int(threads), 1)
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(os.environ.get("NUMBA_NUM_THREADS") or cores))


def aligned_empty(n: int) -> NDArray[np.float32]:
    """Return n floats that begin at a cache line; NumPy aligns to 16 bytes only."""
    block = np.empty(n + 16, dtype=np.float32)
    offset = -(block.ctypes.data // 4) % 16
    return block[offset : offset + n]


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
