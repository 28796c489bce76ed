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
values = [double(eval(value)) for value in sys.argv[2:]]
n_loaded = sum(code.metadata is None for code in double.overloads.values())
print(values, n_loaded)
if n_loaded == len(values) and {"scipy.linalg", "numba.np.arraymath"} & set(sys.modules):
    print("loaded what compiles", file=sys.stderr)
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
    assert start("", "3", "2.5").communicate() == ("[6, 5.0] 2\n", "")  # and no tables of numba
    folder = tmp_path / "user" / "tomopipe" / f"numba-{get_host_cpu_name()}"
    codes = list(folder.glob("module.double-*.code"))
    assert len(codes) == 2
    # a damaged file is compiled again, and so is a function whose source is another
    for code in codes:
        content = bytearray(code.read_bytes())
        content[-1] ^= 1
        code.write_bytes(content)
    assert [start("", "3").communicate()[0] for _ in range(2)] == ["[6] 0\n", "[6] 1\n"]
    (tmp_path / "package" / "module.py").write_text(MODULE.replace("x + x", "x + x + x"))
    assert [start("", "3").communicate()[0] for _ in range(2)] == ["[9] 0\n", "[9] 1\n"]
    assert len(list(folder.glob("module.double-*"))) == 2


def test_where_the_users_cache_cannot_be_written_it_is_the_campaigns(tmp_path, start):
    (tmp_path / "user").write_text("a file")
    start("", "3", TOMOPIPE_RUN="results/.runs/1").communicate()
    assert list((tmp_path / ".snakemake" / "tomopipe").rglob("module.double-*.code"))
    out, err = start("", "3", NUMBA_CACHE_DIR=str(tmp_path / "user" / "x")).communicate()
    assert out == "[6] 0\n"
    assert err.count("\n") == 1
    assert "set NUMBA_CACHE_DIR to a writable folder" in err


def test_code_that_cannot_be_stored_is_said_and_ends_nothing(tmp_path, start):
    start("", "2.5").communicate()
    (code,) = (tmp_path / "user").rglob("*.code")
    code.unlink()
    code.mkdir()  # no file can take its place
    out, err = start("", "2.5").communicate()
    assert out == "[5.0] 0\n"
    assert err.count("cannot be cached") == 1
    assert [path.name for path in code.parent.glob("module.double-*")] == [code.name]
