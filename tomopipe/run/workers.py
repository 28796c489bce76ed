"""Workers: processes that the jobs of scans share, so that not each of them loads all packages.

Snakemake starts a Python for the script of each job. Where its own process (on a cluster: that of a
submission) has several such jobs to run, it offers workers at a socket. The script hands its job
over there, and ends as the job ends. A worker is a Python in the same folder and environment. It
loads the step and forks for each job, so that jobs leave each other nothing, and a crash costs
one. Jobs on a GPU are run by the worker itself, one after the other, as a fork cannot use the
context of CUDA; a worker in which one fails ends. Without a worker a script does its job itself.
"""

import atexit
import gc
import importlib
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener, Pipe, wait
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "TOMOPIPE_WORKERS"
"""Environment variable with the address at which workers are offered."""
_BACKLOG = 128  # scripts that begin at the same time
# In the temporary folder, of this user alone. Machines may share it: on another one nobody listens.
_FOLDER, _SOCKET = f"tomopipe-{socket.gethostname()[:24]}-", "workers"
_PROGRAM = "from tomopipe.run.workers import work; work({}, on_gpu={})"


class _Place(NamedTuple):
    """What all jobs of a worker have in common."""

    folder: str
    environment: tuple[tuple[str, str], ...]
    gpu_job_mb: int  # memory of a job on a GPU, so that pinned memory has one size; 0: no GPU


class _Job(NamedTuple):
    script: str  # the file that Snakemake wrote, with the parameters of the job
    step: str

    @property
    def modules(self) -> tuple[str, ...]:
        return f"tomopipe.steps.{self.step}", "tomopipe.reruns.making"


# ---- in the Python that Snakemake starts for a script ----------------------------------------


def hand_over(snakemake: Any) -> None:
    """Let a worker run this script, and end as it does; return if none does.

    What the script loads then is not examined for garbage: `making` collects again.
    """
    job = _Job(sys.argv[0], Path(snakemake.log[0]).parent.name)
    if job.modules[0] in sys.modules:  # this is a worker
        return
    gc.disable()
    if not (address := os.environ.get(VARIABLE)):
        return
    resources = snakemake.resources
    gpu_job_mb = int(resources.get("mem_mb", 1)) if resources.get("gpu") else 0
    place = _Place(os.getcwd(), tuple(sorted(os.environ.items())), gpu_job_mb)
    try:
        main = Client(address, family="AF_UNIX")
        main.send((place, job))
        main.recv()  # the job has begun
    except (EOFError, OSError):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the job has it, too
    try:
        status = main.recv()
    except (EOFError, OSError):  # Snakemake was killed
        status = 1
    if status < 0:
        with suppress(OSError):  # of SIGKILL
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


# ---- in the process of Snakemake -------------------------------------------------------------


class _Worker:
    def __init__(self, place: _Place) -> None:
        self.place, (self.stream, its) = place, Pipe()
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM.format(its.fileno(), place.gpu_job_mb > 0)],
                cwd=place.folder,
                env=dict(place.environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )

    def run(self, job: _Job, client: Connection) -> int:
        """Run a job; return its exit status, or minus the signal that ended it."""
        self.stream.send(job)
        pid, status = self.stream.recv()  # EOFError if the worker cannot load the step
        if status is not None:
            raise EOFError("the job was killed before it began: the script does it")
        try:
            client.send(pid)
            is_killed = client in wait([client, self.stream])
        except OSError:
            is_killed = True
        if is_killed:  # the script
            _kill(pid)
        try:
            return int(self.stream.recv()[1])
        except (EOFError, OSError):  # the worker has ended, with its job or before
            if pid != self.process.pid:
                _kill(pid)
            return self.process.wait()

    def end(self) -> None:
        """End it; it runs no job."""
        self.stream.close()
        self.process.wait()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


_offered: list[Listener] = []  # by this process: another run may have started it
_idle: list[_Worker] = []
_changing = threading.Lock()


def offer() -> None:
    """Offer workers to the jobs that this process starts, until it ends."""
    if _offered:
        return
    _remove_killed()
    folder = tempfile.mkdtemp(prefix=_FOLDER)
    try:
        listener = Listener(os.path.join(folder, _SOCKET), "AF_UNIX", _BACKLOG)
    except OSError:  # its path is too long: each job runs by itself
        os.rmdir(folder)
        return
    _offered.append(listener)
    os.environ[VARIABLE] = str(listener.address)
    threading.Thread(target=_listen, args=(listener,), daemon=True).start()
    atexit.register(_close)


def _remove_killed() -> None:
    """Remove the folders of this user's processes that were killed: nobody listens there."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:  # of others, or just made
            try:
                probe.connect(str(folder / _SOCKET))
            except ConnectionRefusedError:
                shutil.rmtree(folder, ignore_errors=True)


def _close() -> None:
    """End all workers."""
    listener = _offered.pop()
    folder = os.path.dirname(str(listener.address))
    listener.close()
    shutil.rmtree(folder, ignore_errors=True)
    with _changing:
        while _idle:
            _idle.pop().end()


def _listen(listener: Listener) -> None:
    with suppress(OSError):  # closed
        while True:
            threading.Thread(target=_serve, args=(listener.accept(),), daemon=True).start()


def _serve(client: Connection) -> None:
    """Run the job of a script by a worker."""
    with client, suppress(EOFError, OSError):
        place, job = client.recv()
        worker = _worker(place)
        status = worker.run(job, client)
        if worker.process.poll() is None:
            with _changing:
                _idle.append(worker)
        client.send(status)


def _worker(place: _Place) -> _Worker:
    """Return an idle worker of a place, or a new one, which replaces one of another place."""
    with _changing:
        usable = [worker for worker in _idle if worker.place == place]
        last = (usable or _idle)[-1:]
        for worker in last:
            _idle.remove(worker)
    if usable:
        return usable[-1]
    for worker in last:
        worker.end()
    return _Worker(place)


# ---- in a worker -----------------------------------------------------------------------------


def work(descriptor: int, *, on_gpu: bool) -> None:
    """Run jobs until Snakemake ends; return in the fork of a job, at its end."""
    main = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if on_gpu:
        from tomopipe.recon import gpu

        gpu.volumes_follow = True
    while job := _next_job(main):
        for module in job.modules:
            importlib.import_module(module)
        if on_gpu:
            _answer(main, os.getpid())
            _run(job)
            gc.unfreeze()  # what the job froze at its end
            _answer(main, os.getpid(), 0)
            continue
        if "tomopipe.recon.jit" in sys.modules:
            _load_the_rest()
        gc.freeze()  # shared with the fork
        if not (pid := os.fork()):
            _answer(main, os.getpid())  # before it begins, even if the worker is killed
            main.close()
            _run(job)
            return
        _answer(main, pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _load_the_rest() -> None:
    """Load what a job with compiled code loads while it runs, up to half a second of CPU time."""
    of_numpy = "numpy.fft", "numpy.ma", "numpy.polynomial"
    of_step = ["tomopipe.cor.ai.finder"] if "tomopipe.steps.predict_cor" in sys.modules else []
    for module in "h5py", "tomopipe.recon.compiled", *of_numpy, *of_step:
        importlib.import_module(module)
    from tomopipe.recon import jit

    jit.load_tables()


def _answer(main: Connection, pid: int, status: int | None = None) -> None:
    """Report that a job begins, or how it ended."""
    with suppress(OSError):  # Snakemake was killed
        main.send((pid, status))


def _next_job(main: Connection) -> _Job | None:
    with suppress(EOFError, OSError):
        job: _Job = main.recv()
        return job
    return None


def _run(job: _Job) -> None:
    """Run a script as Python does; a failure ends the process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [job.script]
    try:
        runpy.run_path(job.script, run_name="__main__")
    except SystemExit as end:  # made earlier in this run
        if end.code:
            raise
    signal.signal(signal.SIGINT, signal.SIG_IGN)
