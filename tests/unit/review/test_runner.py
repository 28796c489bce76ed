"""Runs that the page starts: only if allowed, only the command of the server, and one at a time."""

import json
import sys
import time

import pytest
from typer.testing import CliRunner

from tests.review_campaign import browser, make_campaign, sign_in
from tomopipe.campaign import lock
from tomopipe.cli import cli
from tomopipe.errors import TomopipeError
from tomopipe.review.app import make_app
from tomopipe.review.runner import Runner
from tomopipe.review.security import CSRF_HEADER, Keys
from tomopipe.review.store import Store
from tomopipe.run.launch import run_command

pytestmark = pytest.mark.slow

# In the place of Snakemake: says how it was called, counts, and waits to be interrupted.
STUB = """
import json, sys, time
from tomopipe.run.progress import tell
json.dump(sys.argv[1:], open("called.json", "w"))
tell(totals={"all": 1, "full_recon": 7})

def make(jobs):
    for job in jobs:
        tell(began=job, step="full_recon", name=f"a_{job}", reason="", local=True)
        tell(ended=job)

make(range(3))
print("rule x", flush=True)
try:
    time.sleep(float(sys.argv[1]))
    make(range(3, 7))
    print("the end", flush=True)
    sys.exit(int(sys.argv[2]))
except KeyboardInterrupt:
    open("interrupted", "w").close()
    sys.exit(130)
"""


def stub(seconds=0, status=0):
    return [sys.executable, "-c", STUB, str(seconds), str(status)]


@pytest.fixture
def runner(tmp_path):
    made = []

    def make(*arguments):
        made.append(Runner(tmp_path, stub(*arguments)))
        return made[-1]

    yield make
    for runner in made:
        if runner.state()["state"] == "running":
            runner.stop()


def until(runner, wanted):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = runner.state()
        if all(state.get(key) == value for key, value in wanted.items()):
            return state
        time.sleep(0.02)
    raise AssertionError(f"expected {wanted}, got {state}")


def test_a_run_tells_how_far_it_is_and_ends(runner):
    short = runner(1)
    assert short.state()["state"] == "idle"
    short.start()
    until(short, {"state": "running", "n_done": 3, "n_all": 7})
    state = until(short, {"state": "done", "exit_status": 0, "n_done": 7})
    assert "the end" in state["tail"]


def test_the_number_of_jobs_is_known_before_the_first_has_ended(tmp_path):
    says = (
        "import time, tomopipe.run.progress as p; p.tell(totals={'stitch': 7}); "
        "p.tell(says='full'); time.sleep(60)"
    )
    runner = Runner(tmp_path, [sys.executable, "-c", says])
    runner.start()
    until(runner, {"state": "running", "n_done": 0, "n_all": 7, "said": ["full"]})
    runner.stop()
    until(runner, {"state": "stopped"})


def test_a_run_that_ends_badly_says_so(runner, tmp_path):
    bad = runner(0, 3)
    bad.start()
    assert "the end" in until(bad, {"state": "failed", "exit_status": 3})["tail"]
    assert lock.read(tmp_path) is None


def test_a_run_is_interrupted_as_by_ctrl_c(runner, tmp_path):
    long = runner(60)
    with pytest.raises(TomopipeError, match="no run"):
        long.stop()
    long.start()
    until(long, {"n_done": 3})
    with pytest.raises(TomopipeError, match="under way already"):
        long.start()
    long.stop()
    until(long, {"state": "stopped", "exit_status": 130})
    assert (tmp_path / "interrupted").exists()


def test_a_run_of_somebody_else_is_reported_and_not_joined(runner, tmp_path):
    lock.take(tmp_path, run := lock.new_run(tmp_path, host="elsewhere", machine="another"))
    blocked = runner(0)
    assert blocked.state()["state"] == "elsewhere"
    with pytest.raises(TomopipeError, match="on elsewhere"):
        blocked.start()
    assert not (tmp_path / "called.json").exists()
    lock.release(tmp_path, run)
    blocked.start()
    until(blocked, {"state": "done"})


@pytest.fixture
def client(tmp_path):
    """A signed-in browser of a server, which may start runs if `allow` says so."""

    def make(*, allow=True, seconds=0):
        folder = make_campaign(tmp_path / "campaign")
        keys = Keys()
        runner = Runner(folder, stub(seconds)) if allow else None
        app = make_app(Store(folder, folder / "config.yaml"), keys, runner=runner)
        return sign_in(app, keys), folder, app

    return make


@pytest.mark.parametrize("what", ["start", "stop"])
def test_403_without_allow_run(client, what):
    signed_in, folder, _ = client(allow=False)
    answer = signed_in.post(f"/api/run/{what}", json={})
    assert answer.status_code == 403
    assert "--allow-run" in answer.json()["error"]
    assert signed_in.get("/api/run").json() == {"state": "not allowed"}
    assert lock.read(folder) is None


def test_nothing_of_a_request_becomes_part_of_the_command(client):
    signed_in, folder, _ = client()
    orders = {"profile": "/tmp/evil", "cores": "1; touch evil", "command": ["touch", "evil"]}
    answer = signed_in.post("/api/run/start?cores=99&profile=evil", json=orders)
    assert answer.status_code == 202
    end = time.monotonic() + 60
    while signed_in.get("/api/run").json()["state"] == "running" and time.monotonic() < end:
        time.sleep(0.02)
    assert signed_in.get("/api/run").json()["state"] == "done"
    assert json.loads((folder / "called.json").read_text()) == ["0", "0"]


def test_a_start_needs_cookie_origin_and_key_like_every_write(client):
    signed_in, folder, app = client()
    assert browser(app).post("/api/run/start", json={}).status_code == 403
    for name, other in (("origin", "http://evil.example"), (CSRF_HEADER, "x")):
        kept = signed_in.headers.pop(name)
        assert signed_in.post("/api/run/start", json={}).status_code == 403
        headers = {name: other}
        assert signed_in.post("/api/run/start", json={}, headers=headers).status_code == 403
        signed_in.headers[name] = kept
    assert signed_in.get("/api/run/start").status_code == 405
    host = {"host": "evil.example", "origin": "http://evil.example"}
    assert signed_in.post("/api/run/start", json={}, headers=host).status_code == 403
    assert not (folder / "called.json").exists()


def test_two_starts_are_one_run(client):
    signed_in, _, _ = client(seconds=30)
    assert signed_in.post("/api/run/start", json={}).status_code == 202
    second = signed_in.post("/api/run/start", json={})
    assert second.status_code == 422
    assert "under way already" in second.json()["error"]
    assert signed_in.post("/api/run/stop", json={}).status_code == 202


def test_the_command_is_that_of_the_options(tmp_path):
    config = tmp_path / "config.yaml"
    command = run_command(tmp_path, config, "workstation", ["--cores", "2"])
    assert command[1:6] == ["-m", "snakemake", "--logger", "tomopipe", "--nolock"]
    assert command[command.index("--profile") + 1].endswith("profiles/workstation")
    assert command[-2:] == ["--cores", "2"]
    cluster = run_command(tmp_path, config, "slurm")
    assert cluster[cluster.index("--profile") + 1] == "slurm"
    assert "--cores" not in cluster
    assert "slurm" not in run_command(tmp_path, config, "slurm", ["--profile=own"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--allow-run", "--cores", "2; x"], "expected a number or all"),
        (["--allow-run", "--cores", "0"], "expected a number or all"),
        (["--cores", "2"], "--allow-run"),
        (["--profile", "slurm"], "--allow-run"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    shown = CliRunner().invoke(cli, ["review", str(tmp_path), *options], env={"COLUMNS": "200"})
    assert shown.exit_code == 2
    assert message in shown.output
