"""The folder of a run: who has the right to write, and what stays."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.harness import HOME, build
from tomopipe.errors import TomopipeError
from tomopipe.storage import run_folder as runs
from tomopipe.storage.atomic import whole

RESULTS = Path("results")


@pytest.fixture
def campaign(tmp_path, monkeypatch) -> Path:
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(runs.VARIABLE, "")
    return tmp_path


def test_no_two_runs_have_the_same_folder(campaign):
    names = {runs.begin(RESULTS) for _ in range(20)}
    assert len(names) == 20
    assert [*Path(RESULTS, ".runs").iterdir()] == [path for path in names if path.exists()]
    assert len(os.listdir(RESULTS / ".runs")) == 1


def test_a_file_in_place_of_the_folder_of_runs_is_kept_and_named(campaign):
    Path(RESULTS, ".runs").write_text("mine")
    with pytest.raises(TomopipeError, match=r"results/\.runs: cannot be made a folder .* Move"):
        runs.begin(RESULTS)
    assert Path(RESULTS, ".runs").read_text() == "mine"
    Path(RESULTS, ".runs").unlink()
    Path("others").mkdir()
    Path("others", "mine.txt").touch()
    Path(RESULTS, ".runs").symlink_to(Path("others").absolute())
    with pytest.raises(TomopipeError, match=r"results/\.runs: a link.* Remove the link"):
        runs.begin(RESULTS)
    assert Path("others", "mine.txt").exists()


def test_no_temporary_file_stays_of_a_run_that_was_killed(campaign, monkeypatch):
    folder = runs.begin(RESULTS)
    (folder / ".tmp-0-1.h5").write_bytes(b"half")
    (folder / ".tmp-0-2").mkdir()
    (folder / ".tmp-0-2" / "half.tif").write_bytes(b"half")
    (RESULTS / ".runs" / "ended-0").mkdir()  # killed while it took another one away
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(RESULTS)))
    assert not [path for path in Path("results/.runs").rglob("*") if path.is_file()]
    runs.end_all(RESULTS)
    assert os.listdir("results") == []


# ---- a job that stops at any call, and goes on when a newer run has ended ------------------


def write(kind: str, word: str) -> None:
    """Write a result as steps do: one file, or a folder of files."""
    with whole(f"results/{kind}") as temporary:
        if kind == "file.txt":
            temporary.write_text(word)
            return
        temporary.mkdir()
        for number in range(2):
            (temporary / f"{number}.tif").write_text(word)


# without this module, whose packages take a tenfold time to load
WRITER = f"""
import sys
from tomopipe.storage.atomic import whole
{inspect.getsource(write)}
write(sys.argv[1], "old")
"""


def content(kind: str) -> set[str]:
    path = Path("results", kind)
    files = [path] if path.is_file() else sorted(path.glob("*.tif"))
    return {file.read_text() for file in files}


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    if shutil.which("gcc") is None and "CI" not in os.environ:
        pytest.skip("needs gcc, for calls that stop")
    return build(tmp_path_factory.mktemp("shim"))


def start(shim: Path, folder: Path, kind: str, **faults: str) -> subprocess.Popen:
    state = folder / "state"
    state.write_bytes(bytes(16))
    python = {"PYTHONPATH": str(HOME), "PYTHONDONTWRITEBYTECODE": "1", "LD_PRELOAD": str(shim)}
    faults |= {"FAULT_ROOTS": str(folder / "results"), "FAULT_STATE": str(state)}
    options = {"env": os.environ | python | faults, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", WRITER, kind], **options)


def has_stopped(child: subprocess.Popen) -> bool:
    """Wait until a process stops itself, or ends."""
    while True:
        pid, status = os.waitpid(child.pid, os.WUNTRACED | os.WNOHANG)
        if pid:
            if os.WIFSTOPPED(status):
                return True
            child.returncode = os.waitstatus_to_exitcode(status)
            return False
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("kind", ["file.txt", "series"])
def test_the_newer_run_stands_wherever_the_older_one_stopped(
    campaign, monkeypatch, shim, kind, is_there
):
    log, number = campaign / "calls", 0
    while True:
        number += 1
        shutil.rmtree("results")
        RESULTS.mkdir()
        if is_there:
            write(kind, "before")
        monkeypatch.setenv(runs.VARIABLE, str(runs.begin(RESULTS)))
        child = start(
            shim, campaign, kind, FAULT_AT=str(number), FAULT_ACTION="STOP", FAULT_LOG=str(log)
        )
        if not has_stopped(child):
            break  # it has fewer calls
        monkeypatch.setenv(runs.VARIABLE, str(runs.begin(RESULTS)))
        write(kind, "new")
        os.kill(child.pid, signal.SIGCONT)
        said = child.communicate(timeout=60)[1]
        assert content(kind) == {"new"}, (number, said)
        runs.end_all(RESULTS)
        monkeypatch.setenv(runs.VARIABLE, "")
        assert os.listdir("results") == [kind], (number, said)
    assert child.returncode == 0, child.communicate()[1]
    assert content(kind) == {"old"}
    # what was tried: at least each write, sync and rename
    kinds = {line.split("\t")[1] for line in log.read_text().splitlines()}
    assert kinds == {"open", "write", "sync", "rename"}
    assert number > (5 if kind == "file.txt" else 10)


def test_jobs_of_a_run_leave_a_warning_of_each_key_once(campaign, monkeypatch):
    assert runs.warn_once("a", "outside a run")
    assert runs.warnings() == []
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(RESULTS)))
    assert [runs.warn_once(key, f"{key} µ") for key in "aba"] == [True, True, False]
    assert sorted(runs.warnings()) == ["a µ", "b µ"]
    runs.end_all(RESULTS)
    assert runs.warnings() == []
