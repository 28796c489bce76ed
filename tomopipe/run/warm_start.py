"""Scripts of rules start as forks of a process that has loaded their packages.

Loading Python, NumPy, SciPy, h5py and numba takes a second, more than the work on a small scan. A
server of `multiprocessing` loads them once for each Snakemake, and ends with it. A job stays a
process of its own, which can be killed without harm to another.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import threading
import types
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import wait

_NUMERIC = ("try_recon", "predict_cor", "full_recon", "export_stack")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_lock = threading.Lock()
_started = threading.Event()


def is_worth_it(step: str) -> bool:
    """Tell whether to fork the script of a step: it loads much, or all is loaded already."""
    return sys.platform == "linux" and (_started.is_set() or step in _NUMERIC)


def run_script(script: str, more: Mapping[str, str]) -> int:
    """Run a Python script in a forked process, in this working directory.

    Its environment is this one and `more`. Returns its exit status; of a process that was killed,
    minus the signal. OSError if no process can be started.
    """
    context = multiprocessing.get_context("forkserver")
    with _lock:
        if not _started.is_set():
            _start_server()
        # in the lock, as the start of the server changes this environment for a moment
        process = context.Process(target=_run, args=(script, {**os.environ, **more}))
        # otherwise the fork would run the main module of this process again
        main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            process.start()
        finally:
            sys.modules["__main__"] = main
    wait([process.sentinel])
    with _lock:  # start() also reaps the processes of other threads; a status is read once
        process.join()
    return int(process.exitcode or 0)


def _start_server() -> None:
    """Start the server; it loads BLAS before the number of cores of a job is known."""
    before = {name: os.environ[name] for name in THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        forkserver.set_forkserver_preload(["tomopipe.run.preloaded"])
        forkserver.ensure_running()
        _started.set()
    finally:
        for name in THREADS:
            del os.environ[name]
        os.environ.update(before)


def _run(script: str, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script]
    sys.path.insert(0, os.path.dirname(script))
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not call them
