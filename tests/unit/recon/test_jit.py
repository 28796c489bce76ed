"""Compiled code is kept: by type of CPU, not beside the package, whole when several keep it."""

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite.binding import get_host_cpu_name

from tomopipe.recon import jit

pytestmark = pytest.mark.slow
HOME = Path(__file__).parents[3]
MODULE = """
from tomopipe.recon.jit import compiled

@compiled
def double(x):
    return x + x
"""
# between reading and writing numba's index of a function there is time for another process
CALL = """
import sys, time
from numba.core.caching import IndexDataCacheFile as File
from package.module import double

load = File._load_index
File._load_index = lambda self: (load(self), time.sleep(0.3 * len(sys.argv[1])))[0]
print([double(eval(value)) for value in sys.argv[2:]], sum(double.stats.cache_hits.values()))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a process that calls a compiled function of a package that cannot be written."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text(MODULE)
    package.chmod(0o555)
    for name in ("NUMBA_CACHE_DIR", "TOMOPIPE_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PYTHONPATH", f"{HOME}:{tmp_path}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def started(*arguments, **environment):
        return subprocess.Popen(
            [sys.executable, "-c", CALL, *arguments],
            env=os.environ | environment, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    yield started
    assert os.listdir(package) == ["module.py"]


def test_two_processes_at_once_keep_both_and_a_third_compiles_nothing(tmp_path, start):
    both = [start("slowly", value) for value in ("3", "2.5")]
    assert [process.communicate()[0] for process in both] == ["[6] 0\n", "[5.0] 0\n"]
    assert start("", "3", "2.5").communicate() == ("[6, 5.0] 2\n", "")
    folder = tmp_path / "user" / "tomopipe" / f"numba-{get_host_cpu_name()}"
    assert len(list(folder.rglob("module.double-*.nbc"))) == 2


def test_of_several_that_need_the_same_code_one_compiles(start):
    started = [start("slowly", "3") for _ in range(4)]
    assert sorted(process.communicate()[0] for process in started) == ["[6] 0\n"] + 3 * ["[6] 1\n"]


def test_kept_code_runs_without_the_tables_of_all_that_numba_can_compile(tmp_path):
    code = """
import sys, numpy as np
from tomopipe.prep.host_kernels import median_of_square, running_median
values = np.random.default_rng(0).normal(size=(4, 30, 40)).astype(np.float32)
print(float(median_of_square(values, 3).sum() + running_median(values[0], 5).sum()))
print("numba.np.linalg" in sys.modules)
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(HOME)}
    (first, loaded), (second, still) = (
        subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).split()
        for _ in range(2)
    )
    assert (first, loaded, still) == (second, "True", "False")


def is_free(path):
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_process_that_was_killed_while_it_compiled_keeps_nobody_waiting(tmp_path, start):
    start("", "3").communicate()
    for path in (tmp_path / "user").rglob("*.nb[ci]"):
        path.unlink()
    killed = start("slowly", "3")
    compiling = next((tmp_path / "user").rglob("*.compiling"))
    while is_free(compiling):
        assert killed.poll() is None
    killed.kill()
    killed.communicate()
    assert start("", "3").communicate()[0] == "[6] 0\n"


def test_where_the_users_cache_cannot_be_written_it_is_the_campaigns(tmp_path, start):
    (tmp_path / "user").write_text("a file")
    start("", "3", TOMOPIPE_RUN="results/.runs/1").communicate()
    assert list((tmp_path / ".snakemake" / "tomopipe").rglob("module.double-*.nbc"))
    out, err = start("", "3", NUMBA_CACHE_DIR=str(tmp_path / "user" / "x")).communicate()
    assert out == "[6] 0\n"
    assert err.count("\n") == 1
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in err


def test_a_cache_that_is_full_is_said_once_and_ends_nothing(monkeypatch, caplog):
    def full(*_):
        raise OSError("Disk quota exceeded")

    monkeypatch.setattr(jit, "_not_kept", [])
    monkeypatch.setattr(jit.FunctionCache, "save_overload", full)
    with caplog.at_level(logging.WARNING):
        assert [jit.compiled(lambda x, n=n: x + n)(3) for n in (1, 2)] == [4, 5]
    assert [record.message.count("Disk quota exceeded") for record in caplog.records] == [1]
