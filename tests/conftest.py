"""What every test may rely on: markers that say what a machine needs, and no silent skip in CI."""

import gc
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import cuda_on_cpu, pretend_cupy
from tests.pretend_device import REAL, LoggedDevice, PretendDevice
from tomopipe.recon import cuda
from tomopipe.recon.device import array_module, gpu_fault
from tomopipe.resources.memory import Blocks
from tomopipe.scans.scan import Scan
from tomopipe.steps import export_stack
from tomopipe.storage import shared
from tomopipe.stream import fit_options

# As in a job of the workflow: the workers of pytest-xdist share the cores already. Threads of torch
# that wait for one another compute as long as they do.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests press Ctrl-C, which what a shell started with & ignores.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _has_slurm() -> bool:
    # only where somebody said that jobs may be submitted: a login node has sinfo too
    if not os.environ.get("TOMOPIPE_TEST_SLURM") or shutil.which("sinfo") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0


def _has_gpu() -> bool:
    fault, is_there = gpu_fault()
    return is_there or not fault  # a GPU that cannot be used fails its tests


def browser_path() -> str | None:
    """Return the path of a Chromium; the shell opens a page in half of the time."""
    names = "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"
    return next(filter(None, map(shutil.which, names)), None)


def _may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", "-rnm", "true"], capture_output=True, check=False)
    return done.returncode == 0


NEEDS = {
    "slurm": (_has_slurm, "needs a SLURM test cluster and TOMOPIPE_TEST_SLURM=1"),
    "realdata": (
        lambda: "TOMOPIPE_TEST_DATA" in os.environ,
        "needs TOMOPIPE_TEST_DATA, the folder of tooth.h5",
    ),
    "browser": (browser_path, "needs Chromium"),
    "gpu": (_has_gpu, "needs a CUDA device"),
    "namespaces": (_may_unshare, "needs user and network namespaces: unshare -rnm"),
}


# What waits for SLURM first, what takes less than a second last: no worker is idle at the end.
ORDER = (
    "workflow/test_slurm",
    *("workflow/", "faults/", "unit/executor/"),
    *("browser/", "steps/", "lab/"),
)
# Each of their tests has a campaign of its own and takes seconds.
APART = {
    "failures",
    "overrides",
    "report",
    "reruns",
    "retention",
    "run",
    "trust",
    "watch",
    "ways_to_call",
}


def _scope(nodeid: str) -> str:
    """Name the tests that one worker of pytest-xdist runs: those of a file share fixtures."""
    file = nodeid.partition("::")[0]
    folder, _, name = file.removesuffix(".py").rpartition("/test_")
    if folder.endswith("workflow") and name in APART:
        return nodeid
    # one of them holds all nodes of the cluster
    return "slurm" if name.startswith("slurm") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object):
    """Share the tests out by file, in their order, and those of `APART` one by one."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(hookwrapper=True)
def pytest_collection():
    """Look for no garbage while thousands of tests come."""
    gc.disable()
    yield
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the slow tests do not even import the modules that are slow as a whole."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text("utf-8") or None


def _rank(item: pytest.Item) -> int:
    inside = item.nodeid.removeprefix("tests/")
    return next((n for n, start in enumerate(ORDER) if inside.startswith(start)), len(ORDER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; CI has all but a GPU, so there a skip is a failure."""
    items.sort(key=_rank)
    for name, (is_present, reason) in NEEDS.items():
        must_run = "CI" in os.environ and name != "gpu"
        marked = [item for item in items if item.get_closest_marker(name)]
        if marked and not must_run and not is_present():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Turn any other skip into a failure in CI."""
    outcome = yield
    report = outcome.get_result()
    if "CI" in os.environ and report.skipped and not item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture(autouse=True, scope="session")
def nothing_is_compiled_before_a_run():
    """What is not called takes a minute where nothing is compiled yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomopipe.commands.compilation.compile_once", lambda *_: None)
        yield


@pytest.fixture
def real_scan() -> Path:
    """The two rows of a tooth that come with TomoPy: COR 295.8 +- 0.3."""
    return Path(os.environ["TOMOPIPE_TEST_DATA"]) / "tooth.h5"


@pytest.fixture(params=["pretended", REAL])
def xp(request, monkeypatch):
    """CuPy, pretended and, where there is a GPU, real; see `BOTH_ORDERS` and `EVERY_MODULE`."""
    if request.param == "numpy":
        return np
    if request.param == "real":
        module = array_module("cuda")
        monkeypatch.setattr(cuda, "is_plain", False)  # own kernels, also where they fail
        return module
    pretend_cupy.install(monkeypatch)
    monkeypatch.setattr(cuda_on_cpu, "BACKWARDS", request.param == "backwards")
    return pretend_cupy.XP


@pytest.fixture
def divide(monkeypatch):
    """Call it with the sizes of the blocks in which volumes are then made, noted as `inputs`."""

    def in_blocks(*sizes, **more):
        blocks = Blocks(*sizes, **more)

        def choose(inputs, *_, **__):
            in_blocks.inputs.append(inputs)
            return blocks

        monkeypatch.setattr(fit_options, "choose_blocks", choose)
        return blocks

    in_blocks.inputs = []
    return in_blocks


@pytest.fixture
def reads(monkeypatch):
    """The rows that were read at a time: how many, and into which memory, if into any."""
    noted, read_rows = [], Scan.read_rows

    def note(scan, first, last, out=None):
        noted.append((last - first, out))
        return read_rows(scan, first, last, out)

    monkeypatch.setattr(Scan, "read_rows", note)
    return noted


@pytest.fixture
def refuse_to_open(monkeypatch):
    """Call it with a path and the number of the reason for which the system does not open it."""
    plain = open

    def refuse(path, number):
        def opened(name, *args, **options):
            if str(name) == str(path):
                raise OSError(number, os.strerror(number))
            return plain(name, *args, **options)

        monkeypatch.setattr("builtins.open", opened)

    return refuse


@pytest.fixture
def in_pieces(monkeypatch):
    """Call it with the bytes of a scan that stacks take at a time: the least there can be."""
    return lambda n_bytes=1: monkeypatch.setattr(export_stack, "_BLOCK_BYTES", n_bytes)


@pytest.fixture
def no_kernels(xp, monkeypatch):
    """Compute by plain operations: an own kernel is an error."""
    monkeypatch.setattr(cuda, "is_plain", True)
    monkeypatch.setattr(cuda, "kernel", lambda *_: pytest.fail("an own kernel"))


@pytest.fixture
def at_once(monkeypatch):
    """A writer does not wait for another."""
    monkeypatch.setattr(shared, "WAIT_S", 0)


@pytest.fixture
def gpu(xp):
    """A device, pretended or real, that logs its copies, and whose memory can be limited."""
    device = PretendDevice() if xp is pretend_cupy.XP else LoggedDevice(xp)
    yield device
    device.limit(0)
