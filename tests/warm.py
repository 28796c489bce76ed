"""An interpreter for tests whose programs are forks of a process that has all packages loaded.

Loading takes most of the time of a job, and of a call of Snakemake. `python()` is a program that
takes a script, or -m and snakemake or tomopipe, as Python does. It (warm.c) sends them, with its
folder, environment and standard streams, to a server, and ends as the process that the server forks
for them; signals are passed on, and that process is killed if this program is. In it
`sys.executable` is this program, so that Snakemake starts its scripts in the same way.

All else, everything where TOMOPIPE_TEST_PLAIN is set, and everything without pidfd_open (a Linux of
2019) or a C compiler runs in a Python of its own. Of a package on PYTHONPATH that replaces modules
(`put_before` in tests/workflow/conftest.py) these are imported anew, and all that import them; else
all are.
"""

import atexit
import builtins
import gc
import importlib
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

PLAIN = "TOMOPIPE_TEST_PLAIN"
PLAIN_JOBS = "TOMOPIPE_TEST_PLAIN_JOBS"  # of SLURM: a fork is no child of its job
FIRST = "TOMOPIPE_TEST_FIRST"  # a module whose function `first` is called before
_OURS = ("tomopipe", "snakemake_executor_plugin_tomopipe", "snakemake_logger_plugin_tomopipe")
MODULES = [
    *("snakemake.cli", "tomopipe.cli", "tomopipe.commands.next_run", "tomopipe.run.ending"),
    *("h5py", "tifffile", "PIL.Image", "tomopipe.reruns.settle", "tomopipe.volumes.volume"),
    *("tomopipe.steps.inventory", "tomopipe.steps.try_recon", "tomopipe.steps.predict_cor"),
    *("tomopipe.steps.fix_cor", "tomopipe.steps.resolve_cor", "tomopipe.steps.sidecar"),
    *("tomopipe.steps.full_recon", "tomopipe.steps.stitch", "tomopipe.steps.export_stack"),
    *("tomopipe.steps.export_star", "tomopipe.steps.report", "tomopipe.reruns.making"),
    # what is imported on first use
    *("tomopipe.scans.datasets", "tomopipe.scans.nxtomo", "tomopipe.cor.methods", "scipy.linalg"),
    *("tomopipe.cor.ai.finder", "tomopipe.cor.classical"),
    *("snakemake_logger_plugin_tomopipe", "snakemake.report.html_reporter", "smart_open"),
    *("snakemake.profiles", "snakemake.storage", "nbformat", "tomopipe.run.beginning"),
    *("tomopipe.cor.sample_motion", "tomopipe.cor.angular_range", "pandas", "platformdirs"),
    *("tomopipe.cor.stated_angles", "tomopipe.recon.compiled", "tomopipe.scans.hdf5_scan"),
    *("tomopipe.volumes.slice_kernels", "scipy.signal.windows"),
    *("tomopipe.cli.run", "tomopipe.cli.pages", "tomopipe.review.app", "tomopipe.review.serve"),
    *("uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "uvicorn.loops.auto"),
    *("uvicorn.lifespan.on", "rich.console", "rich.table", "argparse_dataclass", "starfile"),
    *("tomopipe.run.upkeep", "tomopipe.commands.run_request", "tomopipe.commands.stop"),
    *("tomopipe.cor.off_line", "tomopipe.cor.roll", "tomopipe.cor.air_level"),
    *("tomopipe.cor.adjacent", "tomopipe.cor.axial_motion", "tomopipe.cor.opposing_misfit"),
    *("tomopipe.cor.turn_changes", "tomopipe.cor.kernels", "tomopipe.run.workers"),
    "tomopipe.cor.size_change",
    *("tomopipe.cor.lateral_drift", "packaging.version", "graphlib", "pandas.io.formats.csvs"),
]

_servers: list[subprocess.Popen] = []
_users: dict[str, set[str]] = {}  # of each of our modules, in the server: those that import it


def python(by: Sequence[str] = ()) -> str:
    """Return the path of the interpreter; the server ends with this process.

    `by` is a command that starts the server, such as one that gives rights away.
    """
    return _python(tuple(by))


@cache
def _python(by: tuple[str, ...]) -> str:
    if not hasattr(os, "pidfd_open") or not shutil.which("cc"):
        return sys.executable
    folder = tempfile.TemporaryDirectory(prefix="warm-")  # whose path is short
    atexit.register(folder.cleanup)
    return start(Path(folder.name), MODULES, by=by)


def start(
    folder: Path,
    modules: Sequence[str],
    environment: Mapping[str, str] | None = None,
    by: Sequence[str] = (),
) -> str:
    """Start a server that has imported `modules`; return the path of its interpreter."""
    address, program = folder / "warm.socket", folder / "python"
    log = folder / "warm.out"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*by, sys.executable, __file__, str(address), str(program), *modules],
            env=os.environ | dict(environment or {}),
            stdin=subprocess.PIPE,  # which ends with this process
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    texts = {"ADDRESS": address, "PYTHON": sys.executable, "PLAIN": PLAIN, "PLAIN_JOBS": PLAIN_JOBS}
    named = [f'-D{name}="{text}"' for name, text in texts.items()]
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-O1", "-Wall", "-o", program, *named, source], check=True)
    while not address.exists():
        assert server.poll() is None, log.read_text()
        time.sleep(0.02)
    _servers.append(server)
    return str(program)


def ask(address, words, folder, environment, streams):
    """Have the server fork a process; return a file with lines: its pid, and then its status."""
    umask = os.umask(0)
    os.umask(umask)
    variables = [f"{name}={value}" for name, value in environment.items()]
    texts = [folder, str(umask), str(len(words)), *words, *variables]
    request = b"\0".join([os.fsencode(text) for text in texts])
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"%12d" % len(request)], streams)
        server.sendall(request)
        return server.makefile()


def _load_the_rest() -> None:
    """Load what is loaded on first use: most compiled kernels, tables of numba, a template."""
    import numpy as np
    from PIL import Image
    from snakemake_interface_report_plugins.registry import ReportPluginRegistry
    from snakemake_interface_scheduler_plugins.registry import SchedulerPluginRegistry
    from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

    from tomopipe import api
    from tomopipe.recon.jit import load_tables
    from tomopipe.report.render import templates
    from tomopipe.simulate.phantom import KINDS, project
    from tomopipe.volumes.slice_kernels import extremes_and_sums

    templates().get_template("page.html.j2")
    Image.init()
    load_tables()
    for registry in (ReportPluginRegistry, SchedulerPluginRegistry, StoragePluginRegistry):
        registry()  # looks through all that is installed, none of which is ours
    theta_deg = np.linspace(0, 180, 61)
    rows = project(KINDS["rock"](64, 16, 0), np.deg2rad(theta_deg), 31.5, 16, 64).swapaxes(0, 1)
    api.find_cor(rows[:2], theta_deg, methods=["classical"])
    for n in (3, 16):  # as in jobs of two rows, and in sweeps
        api.sweep(rows[0], theta_deg, 31.5 + np.arange(n), device="cpu")
        extremes_and_sums(api.reconstruct(rows[:n], theta_deg, 31.5, device="cpu"), 4)


def _serve(address: str) -> list[bytes]:
    """Fork for each request; return it, in the process that is to do it.

    Who asks is told the end of that process, which is killed with who asks.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    os.rename(f"{address}.new", address)
    running: dict[socket.socket, tuple[int, int]] = {}  # the process of each, and its end
    while True:
        ends = (end for _, end in running.values())
        ready = select.select([listening, 0, *running, *ends], [], [])[0]
        if 0 in ready:
            os._exit(0)
        for stream, (pid, end) in list(running.items()):
            if stream in ready and end not in ready:
                os.kill(pid, signal.SIGKILL)
            if stream in ready or end in ready:
                _tell(stream, os.waitpid(pid, 0)[1])
                os.close(end)
                stream.close()
                del running[stream]
        if listening in ready:
            stream, _ = listening.accept()
            request, streams = _request(stream)
            if not request:
                stream.close()
            elif (pid := os.fork()) == 0:
                for other in (listening, stream, *running):
                    other.close()
                for _, end in running.values():
                    os.close(end)
                for standard, descriptor in enumerate(streams):
                    os.dup2(descriptor, standard)
                    os.close(descriptor)
                return request.split(b"\0")
            else:
                _tell(stream, pid)
                running[stream] = pid, os.pidfd_open(pid)
            for descriptor in streams:
                os.close(descriptor)


def _request(stream: socket.socket) -> tuple[bytes, list[int]]:
    """Receive a request and standard streams; nothing from who was killed meanwhile."""
    size, streams, _, _ = socket.recv_fds(stream, 12, 3)
    request = b""
    while len(request) < int(size or 0):
        if not (part := stream.recv(1 << 20)):
            return b"", streams
        request += part
    return request, streams


def _tell(stream: socket.socket, number: int) -> None:
    with suppress(OSError):  # who asked was killed
        stream.sendall(b"%d\n" % number)


def _load(modules: Sequence[str]) -> None:
    """Import modules, and note for each of ours which modules import it."""
    plain = builtins.__import__

    def noted(name, globals=None, locals=None, fromlist=(), level=0):
        if globals and name.partition(".")[0] in _OURS:
            for each in (name, *(f"{name}.{part}" for part in fromlist or ())):
                _users.setdefault(each, set()).add(globals["__name__"])
        return plain(name, globals, locals, fromlist, level)

    builtins.__import__ = noted
    for module in modules:
        importlib.import_module(module)
    builtins.__import__ = plain


def _forget(folders: set[str]) -> None:
    """Let modules that folders of the path replace be imported anew, and all that import them."""
    ours = {name for name in sys.modules if name.partition(".")[0] in _OURS}
    changed: set[str] = set()
    for folder in folders:
        found = _replaced(Path(folder))
        changed |= ours if found is None else found
    todo = list(changed)
    while todo:
        new = _users.get(todo.pop(), set()) - changed
        changed |= new
        todo += new
    for name in changed & ours:
        package, _, module = name.rpartition(".")
        if package in sys.modules:
            vars(sys.modules[package]).pop(module, None)
        del sys.modules[name]
    importlib.invalidate_caches()


def _replaced(folder: Path) -> set[str] | None:
    """Name the modules that a folder replaces; None if it may change any."""
    package, loaded = folder / "tomopipe", sys.modules.get("tomopipe")
    if loaded and str(package) in loaded.__path__:
        return set()
    if not package.is_dir():
        return None
    found = set()
    for path in package.rglob("*.py"):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        if path.name != "__init__.py":
            found.add(name)
        elif not path.read_text().startswith("__path__.append("):
            return None
        elif in_server := sys.modules.get(name.removesuffix(".__init__")):
            in_server.__path__.insert(0, str(path.parent))
    # a copy of it is only to tell where another workflow is
    return found if (folder / "Snakefile").exists() else found - {"tomopipe.paths"}


def _prepare(request: list[bytes], program: str, before: str) -> list[str]:
    """Take over the folder, the environment and the path of modules; return the arguments."""
    folder, umask, n_words, *rest = request
    words = [os.fsdecode(word) for word in rest[: int(n_words)]]
    os.setsid()
    os.chdir(folder)
    os.umask(int(umask))
    os.environ.clear()
    os.environb.update(entry.split(b"=", 1) for entry in rest[int(n_words) :])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable = program
    first = os.getcwd() if words[0] == "-m" else os.path.dirname(os.path.abspath(words[0]))
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:] = [first, *filter(None, path.split(os.pathsep)), *sys.path[1:]]
    if path != before:
        _forget(set(path.split(os.pathsep)) - {"", *before.split(os.pathsep)})
    if numba := sys.modules.get("numba"):
        numba.config.reload_config()  # as of the environment
    return words


def _do(words: list[str]) -> int:
    """Run a script or module as Python does; return the exit status, or minus a signal."""
    try:
        if name := os.environ.get(FIRST):
            importlib.import_module(name).first(words)
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return (end.code or 0) & 255
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        return -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _leave() -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        if _status < 0:
            signal.signal(-_status, signal.SIG_DFL)
            os.kill(os.getpid(), -_status)
        os._exit(_status)  # taking all modules down takes as long as a small job


if __name__ == "__main__":
    _status = 0
    atexit.register(_leave)  # before all others, so that it is called last
    _address, _program, *_modules = sys.argv[1:]
    _before = os.environ.get("PYTHONPATH", "")
    _load(_modules)
    if "numba" in sys.modules:
        _load_the_rest()
    threading.Timer.daemon = True  # Snakemake's would hold each process a second after its end
    gc.collect()
    gc.freeze()  # which would be copied into each fork
    _status = _do(_prepare(_serve(_address), _program, _before))
