import sys

from typer.testing import CliRunner

from tests.pretend_device import cupy_is
from tomopipe.cli import cli
from tomopipe.errors import TomopipeError


def _run(*arguments):
    return CliRunner().invoke(cli, ["lab", "bench", *arguments], env={"COLUMNS": "200"})


def test_cpu_compares_with_what_was_asked_for():
    result = _run("cpu", "--n", "64", "--rounds", "1", "--against", "finu", "--no-memory")
    assert result.exit_code == 0, result.output
    assert "n = 64, 96 angles" in result.output
    assert "finufft" in result.output
    assert "algotom fbp" not in result.output


def test_an_unknown_engine_is_named():
    result = _run("cpu", "--against", "abacus")
    assert isinstance(result.exception, TomopipeError)
    assert "abacus" in str(result.exception)
    assert "scikit-image" in str(result.exception)


def test_gpu_prints_all_that_there_is_to_know(monkeypatch, tmp_path, xp):
    monkeypatch.setitem(sys.modules, "tomocupy", None)
    with cupy_is(monkeypatch, xp):
        result = _run("gpu", str(tmp_path), "--n", "64", "--rows", "3", "--block", "2")
    assert result.exit_code == 0, result.exception
    for words in ["irfft2", "staged by 1 thread", "FFT", "stated GB",
                  "runs of 512 samples", "3 rows from a file to a file"]:  # fmt: skip
        assert words in result.output


def test_gpu_says_that_there_is_none(monkeypatch):
    with cupy_is(monkeypatch, None):
        result = _run("gpu", "--quick")
    assert isinstance(result.exception, TomopipeError)
    assert "no GPU to measure" in str(result.exception)
