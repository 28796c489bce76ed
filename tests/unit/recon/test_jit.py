"""Compiled code is kept: by type of CPU, not beside the package, whole when several keep it.

The code of kernels runs without numba.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_name

from tomopipe.recon.jit import kernel

pytestmark = pytest.mark.slow
HOME = Path(__file__).parents[3]
MODULE = """
from tomopipe.recon.jit import compiled

@compiled
def double(x):
    return x + x
"""
KERNELS = """
from tomopipe.recon.jit import kernel

@kernel
def _sum(lines, factor, weight):
    total = weight - weight
    for line in range(lines.shape[0]):
        for x in range(lines.shape[1]):
            total += lines[line, x] * factor
    return total * weight

@kernel
def add(lines, factor, weight, pair, out):
    out[0] += _sum(lines, factor, weight) + len(pair)

@kernel
def add_copy(lines, out):
    out[0] = lines.copy()[0, 1]
"""
CALL = """
import sys, time
from pathlib import Path
from package.module import double

while sys.argv[1] and not Path(sys.argv[1]).exists():
    time.sleep(0.001)
print([double(eval(value)) for value in sys.argv[2:]], sum(double.stats.cache_hits.values()))
"""


KERNEL = """
import sys
import numpy as np
from package.kernels import add, add_copy

lines = np.arange(24, dtype=sys.argv[1]).reshape(4, 6)
few = lines[:, :3], lines[::-2, 1:], lines[:, ::2], lines[1:1], np.asfortranarray(lines)
for counts in (lines, *few):
    out = np.zeros(1)
    add(counts, 3, 0.5, (0,) * 7, out)
    add(counts, 3, np.float32(0.5), (), out)
    assert out[0] == 3.0 * counts.sum() + 7
loads_numba = "numba" in sys.modules
add_copy(lines, out)
print(out[0], loads_numba)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a process that calls compiled functions of a package that cannot be written."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text(MODULE)
    (package / "kernels.py").write_text(KERNELS)
    package.chmod(0o555)
    for name in ("NUMBA_CACHE_DIR", "TOMOPIPE_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("PYTHONPATH", f"{HOME}:{tmp_path}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def started(*arguments, program=CALL, stdin=None, **environment):
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=os.environ | environment, cwd=tmp_path, text=True,
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    yield started
    assert sorted(os.listdir(package)) == ["kernels.py", "module.py"]


def test_of_several_that_need_the_same_code_one_compiles(tmp_path, start):
    go = tmp_path / "go"
    started = [start(str(go), value) for value in ("3", "3", "3", "2.5")]
    go.touch()
    texts = sorted(process.communicate()[0] for process in started)
    assert texts == ["[5.0] 0\n", "[6] 0\n", "[6] 1\n", "[6] 1\n"]
    assert start("", "3", "2.5").communicate() == ("[6, 5.0] 2\n", "")
    folder = tmp_path / "user" / "tomopipe" / f"numba-{get_host_cpu_name()}"
    assert len(list(folder.rglob("module.double-*.nbc"))) == 2


def test_only_those_wait_that_need_the_code_which_another_process_compiles(tmp_path, start):
    hold = """import sys
from tomopipe.recon.jit import lock_of_processes
with lock_of_processes("a"): print("locked", flush=True); sys.stdin.read()"""
    look = """import sys
from tomopipe.recon import jit
jit._COMPILING_S = float(sys.argv[2])
with jit.lock_of_processes(sys.argv[1]): print("here")"""
    holder = start(program=hold, stdin=subprocess.PIPE)
    assert holder.stdout.readline() == "locked\n"
    assert start("b", "1e9", program=look).communicate()[0] == "here\n"
    waits = start("a", "1e9", program=look)
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(1)
    holder.communicate()
    assert waits.communicate()[0] == "here\n"


def test_where_the_users_cache_cannot_be_written_it_is_the_campaigns(tmp_path, start):
    (tmp_path / "user").write_text("a file")
    start("", "3", TOMOPIPE_RUN="results/.runs/1").communicate()
    assert list((tmp_path / ".snakemake" / "tomopipe").rglob("module.double-*.nbc"))
    out, err = start("", "3", NUMBA_CACHE_DIR=str(tmp_path / "user" / "x")).communicate()
    assert out == "[6] 0\n"
    assert err.count("\n") == 1
    assert "set NUMBA_CACHE_DIR to a writable folder" in err


def test_code_that_cannot_be_stored_is_said_and_ends_nothing(tmp_path, start):
    start("", "3").communicate()
    (first,) = (tmp_path / "user").rglob("*.1.nbc")
    first.with_name(first.name.replace(".1.nbc", ".2.nbc")).mkdir()  # no file can take its place
    out, err = start("", "2.5").communicate()
    assert out == "[5.0] 0\n"
    assert err.count("cannot be cached") == 1


def test_stored_code_of_kernels_runs_without_numba_on_arrays_of_any_layout(tmp_path, start):
    for dtype in ("uint16", "float32"):
        assert start(dtype, program=KERNEL).communicate()[0] == "1.0 True\n"
        assert start(dtype, program=KERNEL).communicate() == ("1.0 False\n", "")
    stored = {path.name.rpartition("-")[0] for path in (tmp_path / "user").rglob("*.o")}
    assert stored == {"package.kernels.add"}  # the other one allocates


def test_damaged_code_and_that_of_another_source_is_compiled_again(tmp_path, start):
    start("uint16", program=KERNEL).communicate()
    (path, *_) = (tmp_path / "user").rglob("*.o")
    path.write_bytes(path.read_bytes()[:-1])
    texts = [start("uint16", program=KERNEL).communicate()[0] for _ in range(2)]
    assert texts == ["1.0 True\n", "1.0 False\n"]
    kernels = tmp_path / "package" / "kernels.py"
    kernels.write_text(KERNELS.replace("* factor", "* factor * 2"))
    out, err = start("uint16", program=KERNEL).communicate()
    assert not out
    assert "AssertionError" in err


def test_kernels_that_cannot_be_stored_run_and_it_is_said(tmp_path, start):
    (tmp_path / "file").touch()
    out, err = start(
        "uint16", program=KERNEL, NUMBA_CACHE_DIR=str(tmp_path / "file" / "x")
    ).communicate()
    assert out == "1.0 True\n"
    assert err.count("cannot be cached") == 1


def test_a_kernel_refuses_numbers_that_it_would_cut():
    @kernel
    def store(out, value):
        out[0] = value

    with pytest.raises(TypeError):
        store(np.zeros(1), np.float16(0.5))
