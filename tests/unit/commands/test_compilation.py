"""`tomopipe init` compiles once for a type of CPU what the first jobs of a campaign call."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.phantoms import write_scan
from tests.unit.conftest import init
from tomopipe.commands import compilation
from tomopipe.commands.compilation import compile_once  # not what tests/conftest.py puts there
from tomopipe.recon import jit

HOME = Path(__file__).parents[3]
JOBS = """
import gc, sys
from pathlib import Path
from tomopipe.recon.jit import Kernel
from tomopipe.recon.machine_code import Dispatcher, needing_numba
from tests.step_calls import full_recon, predict_in, try_in
from tomopipe.commands.compilation import N_PARTS, compile_kernels

def functions():
    every = ((each, each.signatures) for each in gc.get_objects() if type(each) is Dispatcher)
    kernels = ((each, each.code) for each in gc.get_objects() if type(each) is Kernel)
    return {f"{each.__module__} {each.__name__} {types}" for each, code in (*every, *kernels)
            if each.__module__.startswith("tomopipe.") for types in code}

for part in range(N_PARTS):
    compile_kernels(part, N_PARTS)
before = functions()
folder, raw = Path(sys.argv[1]), sys.argv[2]
try_in(folder, raw, width_px=10, threads=1)
assert predict_in(folder)["cor_px"] is not None
full_recon(raw, folder / "volume.h5", cor_px=48.5, threads=1)
assert not needing_numba
print(len(before), *sorted(functions() - before), sep="\\n")
"""


@pytest.mark.slow
def test_sweep_prediction_and_volume_call_nothing_else(tmp_path):
    scan = write_scan(tmp_path / "a_1.h5", cor_px=48.5, n_cols=96, n_rows=20, counts=5e4)
    words = [sys.executable, "-c", JOBS, tmp_path, scan.path]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=HOME)
    n_before, *others = done.stdout.splitlines()
    assert int(n_before) > 20
    assert others == []


@pytest.fixture
def calls(monkeypatch):
    """Calls of the program that compiles, with the folder of its cache."""
    made = []

    def run(words, *, env, check):
        made.append(Path(env["NUMBA_CACHE_DIR"]))

    monkeypatch.setattr(compilation.subprocess, "run", run)
    monkeypatch.delenv("TOMOPIPE_RUN", raising=False)
    monkeypatch.setattr(jit, "cache_folder", jit.cache_folder.__wrapped__)
    return made


@pytest.mark.parametrize("options", [(), ("-n",)])
def test_init_does_so_unless_it_only_shows(tmp_path, monkeypatch, options):
    folders = []
    monkeypatch.setattr(compilation, "compile_once", lambda folder, _: folders.append(folder))
    assert init(tmp_path / "c", "--no-slurm", *options).exit_code == 0
    assert folders == ([] if options else [tmp_path / "c"])


def test_it_is_done_once_for_a_processor_and_said(tmp_path, calls, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    n_parts, said = min(jit.thread_count(), compilation.N_PARTS), []
    for _ in range(2):
        compile_once(tmp_path, said.append)
    assert calls == [tmp_path / "cache"] * n_parts
    assert len(said) == 1
    assert f"compiling for this processor ({jit.cpu_name()}), once" in said[0]
    # another processor that uses the same home
    monkeypatch.setenv("NUMBA_CPU_NAME", "skylake")
    for _ in range(2):
        compile_once(tmp_path, said.append)
    assert len(calls) == 2 * n_parts
    assert "(skylake)" in said[1]


def test_where_the_home_cannot_be_written_it_is_done_for_the_campaign(tmp_path, calls, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        compile_once(tmp_path / "campaign", lambda text: None)
    # where a job, whose folder is the campaign's, looks
    monkeypatch.chdir(tmp_path / "campaign")
    monkeypatch.setenv("TOMOPIPE_RUN", "results/.runs/1")
    assert {Path(jit.cache_folder()).parent} == set(calls)


def test_a_fault_is_said_and_tried_again_the_next_time(tmp_path, calls, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    said = []

    def fails(words, **_):
        raise subprocess.CalledProcessError(1, words)

    with monkeypatch.context() as patch:
        patch.setattr(compilation.subprocess, "run", fails)
        compile_once(tmp_path, said.append)
    assert said[1] == "not compiled: the first jobs will be slower"
    compile_once(tmp_path, said.append)
    assert calls
