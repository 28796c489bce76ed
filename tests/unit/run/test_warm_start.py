import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from types import SimpleNamespace

import pytest

from tomopipe.run import snakemake_internals, warm_start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scripts are forked on Linux alone")


@pytest.fixture(scope="module", autouse=True)
def no_server_of_others():
    """A process has one server; another test of this one may have started it, for what it loads."""
    forkserver._forkserver._stop()


def script(folder, text, name="job.py"):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.slow
def test_statuses_of_scripts_that_run_at_once_are_their_own(tmp_path):
    wanted = [0, 3, 0, 7, 1, -signal.SIGKILL, 0, 5]
    ends = {-signal.SIGKILL: "os.kill(os.getpid(), 9)", 1: "raise ValueError('on purpose')"}
    scripts = [
        script(tmp_path, f"import os, sys\n{ends.get(status, f'sys.exit({status})')}\n", f"{i}.py")
        for i, status in enumerate(wanted)
    ]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda path: warm_start.run_script(path, {}), scripts)) == wanted


@pytest.mark.slow
def test_one_server_forks_all_scripts_and_has_loaded_their_packages(tmp_path):
    path = script(
        tmp_path,
        "import os, sys\n"
        "loaded = 'tomopipe.steps.full_recon' in sys.modules\n"
        "print(os.getppid(), loaded, file=open(f'{__file__}.{os.getpid()}', 'w'))\n",
    )
    # in a process that has loaded nothing of multiprocessing before, as Snakemake's
    command = "import os, sys; from tomopipe.run.warm_start import run_script\n"
    command += f"sys.exit(sum(run_script({path!r}, {{}}) for _ in range(3)))"
    subprocess.run([sys.executable, "-c", command], check=True)
    found = [output.read_text().split() for output in tmp_path.glob("job.py.*")]
    assert len(found) == 3
    assert len({parent for parent, _ in found}) == 1
    assert {loaded for _, loaded in found} == {"True"}


@pytest.mark.slow
def test_a_script_has_all_that_a_process_of_its_own_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("value = 5")
    path = script(
        tmp_path,
        "import atexit, json, os, sys, beside\n"
        "assert __name__ == '__main__' and sys.argv == [__file__] and beside.value == 5\n"
        "loaded = 'tomopipe.steps.full_recon' in sys.modules\n"
        "seen = os.environ.get('WANTED'), 'HOME' in os.environ\n"
        "found = [os.getpid(), os.getcwd(), *seen, loaded]\n"
        "atexit.register(lambda: json.dump(found, open('found.json', 'w')))\n",
    )
    monkeypatch.delenv("HOME")
    assert warm_start.run_script(path, {"WANTED": "1"}) == 0
    pid, folder, wanted, has_home, loaded = json.loads((tmp_path / "found.json").read_text())
    assert pid != os.getpid()
    assert (folder, wanted, has_home, loaded) == (str(tmp_path), "1", False, True)


NO_FILES = {"log": (), "output": ()}


@pytest.mark.parametrize(
    ("source", "more", "forked"),
    [
        ("scripts/try_recon.py", {}, True),
        ("scripts/of_little_import.py", {}, False),
        ("of_a_user/try_recon.py", {}, False),
        ("scripts/try_recon.py", {"conda_env": "env"}, False),
        ("scripts/try_recon.py", {"container_img": "image"}, False),
        ("scripts/try_recon.py", {"bench_record": object()}, False),
    ],
)
def test_scripts_of_this_workflow_are_forked(tmp_path, monkeypatch, source, more, forked):
    from snakemake.script import PythonScript

    called = []
    monkeypatch.setattr(
        PythonScript, "execute_script", lambda *_: called.append("process"), raising=True
    )
    monkeypatch.setattr(warm_start, "_started", threading.Event())

    def run_script(_, environment):
        called.append("fork")
        assert environment["OMP_NUM_THREADS"] == "3"
        return 0

    monkeypatch.setattr(warm_start, "run_script", run_script)

    def source_file(path):
        return SimpleNamespace(get_path_or_uri=lambda secret_free: str(tmp_path / path))

    snakemake_internals.fork_scripts(SimpleNamespace(current_basedir=source_file("rules")))
    (tmp_path / "rules").mkdir()
    apart = dict.fromkeys(("container_img", "conda_env", "env_modules", "bench_record")) | more
    PythonScript.execute_script(
        SimpleNamespace(path=source_file(source), resources={}, threads=3, **apart, **NO_FILES),
        "x.py",
    )
    assert called == ["fork" if forked else "process"]


def test_where_no_process_can_be_forked_the_script_gets_a_new_one(tmp_path, monkeypatch):
    from snakemake.script import PythonScript

    called = []

    def fails(*_):
        raise OSError("no room for a socket")

    monkeypatch.setattr(PythonScript, "execute_script", lambda *_: called.append("process"))
    monkeypatch.setattr(warm_start, "run_script", fails)
    rules = SimpleNamespace(get_path_or_uri=lambda secret_free: str(tmp_path / "rules"))
    snakemake_internals.fork_scripts(SimpleNamespace(current_basedir=rules))
    source = SimpleNamespace(
        get_path_or_uri=lambda secret_free: str(tmp_path / "scripts/try_recon.py")
    )
    apart = dict.fromkeys(("container_img", "conda_env", "env_modules", "bench_record"))
    PythonScript.execute_script(
        SimpleNamespace(path=source, resources={}, threads=3, **apart, **NO_FILES), "x.py"
    )
    assert called == ["process"]


@pytest.mark.slow
def test_what_is_loaded_can_be_forked(tmp_path):
    """A device that is open, or a thread, does not survive a fork."""
    for name in ("cupy", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('loaded before the fork')")
    check = "import threading, tomopipe.run.preloaded as _; assert threading.active_count() == 1"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run([sys.executable, "-c", check], env=os.environ | {"PYTHONPATH": path}, check=True)
