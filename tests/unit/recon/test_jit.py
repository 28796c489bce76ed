"""Compiled code is kept: by type of CPU, not beside the package, whole when several keep it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite.binding import get_host_cpu_name

pytestmark = pytest.mark.slow
HOME = Path(__file__).parents[3]
MODULE = """
from tomopipe.recon.jit import compiled

@compiled
def double(x):
    return x + x
"""
CALL = """
import sys, time
from pathlib import Path
from package.module import double

while sys.argv[1] and not Path(sys.argv[1]).exists():
    time.sleep(0.001)
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


def test_of_several_that_need_the_same_code_one_compiles(tmp_path, start):
    go = tmp_path / "go"
    started = [start(str(go), value) for value in ("3", "3", "3", "2.5")]
    go.touch()
    texts = sorted(process.communicate()[0] for process in started)
    assert texts == ["[5.0] 0\n", "[6] 0\n", "[6] 1\n", "[6] 1\n"]
    assert start("", "3", "2.5").communicate() == ("[6, 5.0] 2\n", "")
    folder = tmp_path / "user" / "tomopipe" / f"numba-{get_host_cpu_name()}"
    assert len(list(folder.rglob("module.double-*.nbc"))) == 2


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
