"""Workers: jobs that share what is loaded, and nothing else."""

import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest

from tomopipe.paths import workflow_folder
from tomopipe.run import beginning, workers
from tomopipe.workflow_steps import STEPS

pytestmark = pytest.mark.slow

HEAD = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, {home!r})
from tomopipe.run.workers import hand_over
out = Path({out!r})
hand_over(SimpleNamespace(log=["logs/{step}/a.log"], resources={resources!r}))
def say(*words):
    out.write_text(" ".join(map(str, words)))
loaded = "tomopipe.steps.{step}" in sys.modules
"""


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Workers, offered by this process to the scripts that it starts in a folder."""
    ends = []
    monkeypatch.setattr("atexit.register", ends.append)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(workers.VARIABLE, "of a run that has started this one")
    workers.offer()
    workers.offer()  # once
    folder = os.path.dirname(os.environ[workers.VARIABLE])
    assert os.stat(folder).st_mode & 0o777 == 0o700  # only its user may send what is run
    yield
    (end,) = ends
    end()
    assert not os.path.exists(folder)


def test_the_folder_of_a_killed_run_goes_with_the_next_run_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    home = os.path.dirname(os.path.dirname(os.path.dirname(workers.__file__)))
    offers = "from tomopipe.run import workers; workers.offer(); print(flush=True); input()"
    command, environment = (sys.executable, "-c", offers), os.environ | {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    killed, alive = (
        subprocess.Popen(command, cwd=home, env=environment, **pipes) for _ in range(2)
    )
    with killed, alive:
        killed.stdout.readline(), alive.stdout.readline()
        killed.kill()
        killed.wait()
        begins = tmp_path / f"{workers._FOLDER}begins"  # its process does not listen yet
        begins.mkdir()
        there = {*tmp_path.iterdir()}
        monkeypatch.setattr(workers, "_FOLDER", "tomopipe-another-machine-")
        workers._remove_killed()
        assert {*tmp_path.iterdir()} == there
        monkeypatch.undo()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        workers._remove_killed()
        assert len(there) == 3
        assert len({*tmp_path.iterdir()}) == 2
        begins.rmdir()
        alive.communicate(b"\n")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def start(tmp_path):
    """Call it with the lines of a script: the process that Snakemake would start."""

    def started(name, lines, *, step="sidecar", **resources):
        out, script = tmp_path / f"{name}.out", tmp_path / f"{name}.py"
        home = os.path.dirname(os.path.dirname(os.path.dirname(workers.__file__)))
        head = HEAD.format(home=home, out=str(out), step=step, resources=resources)
        script.write_text(f"{head}{lines}\n")
        return subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True)

    return started


@pytest.fixture
def run(start, tmp_path):
    """Call it as `start`: the exit status, and the words that the script says."""

    def ended(name, lines, **more):
        process = start(name, lines, **more)
        process.communicate(timeout=120)
        out = tmp_path / f"{name}.out"
        return process.returncode, out.read_text().split() if out.exists() else []

    return ended


WHO = "say(os.getppid(), os.getpid(), loaded)"


def said(path):
    """Wait for the words of a script that goes on."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(FileNotFoundError):
            if words := path.read_text().split():
                return words
        time.sleep(0.02)
    raise AssertionError(f"{path}: nothing")


def is_alive(pid):
    with suppress(psutil.NoSuchProcess):  # one that nobody waits for stays as a zombie
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    return False


def test_jobs_are_processes_of_their_own_that_load_nothing(offered, run):
    lines = "import builtins\nleft = hasattr(builtins, 'left'); builtins.left = 1\n"
    (first, one), (second, two) = (
        run(name, lines + "say(os.getppid(), os.getpid(), loaded, left)") for name in "ab"
    )
    assert (first, second) == (0, 0)
    assert one[0] == two[0] != str(os.getpid())  # the worker
    assert one[1] != two[1]
    assert one[2:] == two[2:] == ["True", "False"]


def test_a_job_with_compiled_functions_loads_no_package(offered, run):
    slice_of_ones = """
import h5py
import numpy as np
from tomopipe.recon.compiled import reconstruct_batch
from tomopipe.recon.plan import make_plan
plan = make_plan([0.0, 1.0, 2.0], 32)
images = np.empty((1, 32, 32), np.float32)
reconstruct_batch(np.ones((1, 3, 32), np.float32), plan, np.full(1, 16.0), images, 1)
"""
    exec(slice_of_ones, {})  # its code is stored
    lines = f"""
before = set(sys.modules)
{slice_of_ones}
say(images.any(), *{{name.partition(".")[0] for name in set(sys.modules) - before}})
"""
    assert run("a", lines, step="full_recon") == (0, ["True"])


def test_a_search_loads_none_of_the_packages_that_all_of_them_need(offered, run):
    lines = "say(*{'scipy.ndimage', 'scipy.fft', 'scipy.special'} - set(sys.modules))"
    assert run("a", lines, step="predict_cor") == (0, [])


def test_a_script_ends_as_its_job_and_the_next_goes_on(offered, run):
    _, (worker, *_) = run("a", WHO)
    for lines, status in (
        ("sys.exit(3)", 3),
        ("raise ValueError('no')", 1),
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ):
        assert run("b", lines)[0] == status
    assert run("c", WHO)[1][0] == worker


def test_with_a_killed_script_ends_its_job(offered, start, run, tmp_path):
    script = start("a", f"{WHO}\ntime.sleep(600)")
    worker, pid, _ = said(tmp_path / "a.out")
    script.kill()
    script.communicate()
    assert run("b", WHO)[0] == 0
    assert not is_alive(pid)
    assert is_alive(worker)


def test_with_a_script_that_is_killed_before_its_job_begins_ends_the_job(start, tmp_path):
    start("a", f"{WHO}\ntime.sleep(600)").kill()  # which writes the script
    worker = workers._Worker(workers._Place(str(tmp_path), tuple(os.environ.items()), 0))
    client, its = workers.Pipe()
    its.close()
    job = workers._Job(str(tmp_path / "a.py"), "sidecar")
    assert worker.run(job, client) == -signal.SIGKILL
    assert worker.process.poll() is None
    worker.end()


def test_a_worker_finishes_its_job_and_ends_when_snakemake_is_killed(start, tmp_path):
    start("a", f"say('first'); time.sleep(0.5); {WHO}").kill()
    worker = workers._Worker(workers._Place(str(tmp_path), tuple(os.environ.items()), 0))
    worker.stream.send(workers._Job(str(tmp_path / "a.py"), "sidecar"))
    pid, _ = worker.stream.recv()
    worker.stream.close()
    assert worker.process.wait(60) == 0
    assert said(tmp_path / "a.out")[1] == str(pid)


def test_with_a_killed_worker_ends_its_job_alone(offered, start, run, tmp_path):
    script = start("a", f"{WHO}\ntime.sleep(600)")
    worker, pid, _ = said(tmp_path / "a.out")
    os.kill(int(worker), signal.SIGKILL)
    script.communicate(timeout=60)
    assert script.returncode == -signal.SIGKILL
    code, words = run("b", WHO)
    assert code == 0
    assert words[0] != worker
    assert not is_alive(pid)


def test_a_job_is_announced_before_it_begins_whatever_happens_to_its_worker(monkeypatch):
    ours, its = multiprocessing.Pipe()
    ours.send(workers._Job("a.py", "sidecar"))
    first = []
    monkeypatch.setattr(os, "fork", lambda: 0)  # as in the fork
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(workers, "_run", lambda job: first.append(ours.poll() and ours.recv()))
    before = signal.getsignal(signal.SIGINT)
    try:
        workers.work(os.dup(its.fileno()), on_gpu=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert first == [(os.getpid(), None)]


def test_volumes_on_a_gpu_have_one_process_until_one_fails(offered, run):
    def volume(name, lines="", mem_mb=1000):
        count = "import tomopipe as t\nt.n = getattr(t, 'n', 0) + 1\nsay(os.getpid(), t.n)\n"
        return run(name, count + lines, gpu=1, mem_mb=mem_mb)

    code, (pid, n) = volume("a")
    assert (code, n) == (0, "1")
    assert volume("b", "sys.exit()") == (0, [pid, "2"])  # of what it has made before
    code, (other, n) = volume("c", mem_mb=2000)  # whose pinned memory has other sizes
    assert (code, n) == (0, "1")
    assert volume("d", "raise MemoryError", mem_mb=2000) == (1, [other, "2"])
    code, (third, n) = volume("e", mem_mb=2000)
    assert (code, n) == (0, "1")
    assert volume("f", "os.kill(os.getpid(), 9)", mem_mb=2000) == (-9, [third, "2"])
    assert volume("g", mem_mb=2000)[1][1] == "1"


def test_another_number_of_threads_has_a_worker_of_its_own(offered, run, monkeypatch):
    (_, one), (_, same) = run("a", WHO), run("b", WHO)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code, other = run("c", "say(os.getppid(), os.environ['OMP_NUM_THREADS'])")
    assert one[0] == same[0]
    assert (code, other[1]) == (0, "7")
    assert not is_alive(one[0])  # no more processes than jobs


@pytest.mark.parametrize("step", ["sidecar", "no_step"])
def test_without_a_worker_a_script_does_its_job(run, step, monkeypatch, tmp_path, request):
    if step == "sidecar":
        monkeypatch.setenv(workers.VARIABLE, str(tmp_path / "nobody"))
    else:
        request.getfixturevalue("offered")  # and ends, as it cannot load the step
    code, (parent, _, loaded) = run("a", WHO, step=step)
    assert (code, parent, loaded) == (0, str(os.getpid()), "False")


def test_where_no_socket_can_be_made_none_is_offered(tmp_path, monkeypatch):
    (long := tmp_path / ("long" * 30)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.delenv(workers.VARIABLE, raising=False)
    workers.offer()
    assert workers.VARIABLE not in os.environ
    assert not [*long.iterdir()]


def test_the_jobs_of_scans_are_handed_over_before_they_load_anything():
    heads = {
        path.stem: path.read_text().split("\n")
        for path in (workflow_folder() / "workflow" / "scripts").glob("*.py")
    }
    shared = {step for step, lines in heads.items() if "run.workers" in lines[0]}
    assert shared == {name for name, step in STEPS.items() if step.key == "scan"}
    for step in shared:
        assert heads[step][2].startswith("hand_over(snakemake)")
        importlib.import_module(f"tomopipe.steps.{step}")  # what a worker loads


@pytest.mark.parametrize(
    ("n_jobs", "call", "offers"),
    [
        (2, "snakemake --cores 2", True),
        (1, "snakemake --cores 2", False),  # as after the edit of a COR
        (2, "snakemake --cores 2 -n", False),
        (2, "snakemake --executor tomopipe", False),  # the submissions do
        (None, "snakemake --target-jobs a b --allowed-rules try_recon", True),
        (None, "snakemake --target-jobs a --allowed-rules try_recon", False),
    ],
)
def test_workers_are_offered_where_several_jobs_of_scans_run(monkeypatch, n_jobs, call, offers):
    offered = []
    monkeypatch.setattr(workers, "offer", lambda: offered.append(1))
    monkeypatch.setattr(sys, "argv", call.split())
    jobs = [SimpleNamespace(scan="a")] * (n_jobs or 0) + [SimpleNamespace(scan="")]
    beginning._offer_workers(SimpleNamespace(jobs=jobs) if n_jobs else None)
    assert bool(offered) == offers
