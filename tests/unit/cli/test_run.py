"""`tomopipe run` and `stop` with a stand-in for Snakemake; tests/workflow has the real one."""

import errno
import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.rights import heeding
from tomopipe.campaign.files import Files, Logs, encode_series
from tomopipe.campaign.slurm import NOT_CANCELLED
from tomopipe.cli import cli, terminal
from tomopipe.cli.terminal import Screen, near, step_line
from tomopipe.errors import NoRoomError
from tomopipe.run import launch
from tomopipe.run.forecast import Forecast
from tomopipe.run.launch import chosen_profile, run_command
from tomopipe.run.progress import VARIABLE, Progress, Step, tell
from tomopipe.storage import lock
from tomopipe.storage.atomic import write_json

pytestmark = pytest.mark.slow

TOLD = """
import sys; from tomopipe.run.progress import tell; tell(campaign={campaign}, executes=True)
"""
# a scan has a COR, and no volume
LACKING = """
import os; os.makedirs("results"); open("raw/a_1.h5", "w").close()
row = "a_1", "raw/a_1.h5", "8", "true", ""
lines = "\\t".join(("scan", "path", "n_cols", "keep", "reason")), "\\t".join(row), ""
open("results/inventory.tsv", "w").write("\\n".join(lines))
open("results/cor.json", "w").write('{"a_1": {"cor_px": 4.0, "source": "ai"}}')
"""
SAID = "print('tomopipe: no volume: a_1');"  # by the run itself, too
CAMPAIGN = {"campaign": {"scans": ["raw/*.h5"]}}


@pytest.fixture
def campaign(tmp_path):
    folder = tmp_path / "campaign"
    (folder / "raw" / "day1").mkdir(parents=True)
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    return folder


@pytest.fixture(autouse=True)
def _signals():
    """Begin without what a run in this process has set."""
    numbers = signal.SIGHUP, signal.SIGINT
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def does_alone(tmp_path, monkeypatch):
    """Have a run execute Python instead of Snakemake."""
    stub = tmp_path / "stub" / "snakemake"
    stub.mkdir(parents=True)
    (stub / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(stub.parent))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # two of one size may be made in a second
    return (stub / "__main__.py").write_text


@pytest.fixture
def does(does_alone):
    """Have a run execute Python, which first tells what Snakemake does."""
    return lambda code: does_alone(TOLD.format(campaign=CAMPAIGN) + code)


def begin(campaign):
    """Start a run, and do not wait for it."""
    return launch.start(campaign, run_command(campaign, None, chosen_profile(campaign)))


def call(*arguments):
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    return done.exit_code, done.output + str(done.exception or "")


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("tell(is_whole=True)", 0, "Nothing to do"),
        ("tell(says='7 MB needed.'); tell(is_whole=True)", 0, "7 MB needed."),
        (LACKING + "tell(is_whole=True)", 3, "tomopipe: no volume: a_1"),
        ("print('Error in DAG'); sys.exit(1)", 1, "Error in DAG"),
        (LACKING + SAID + "tell(is_whole=True); sys.exit(3)", 3, "tomopipe: no volume: a_1"),
        ("tell(executes=True); import os; os.kill(os.getpid(), 9)", 1, "killed: 0 of 0 jobs"),
        ("print('tomopipe: a_1: damaged: made again')", 0, "a_1: damaged"),
    ],
)
def test_the_exit_status_says_how_it_went(campaign, does, code, status, says):
    does(code)
    found, text = call("run", campaign / "raw" / "day1")
    assert (found, says in text) == (status, True), text
    assert text.count("no volume") <= 1


@pytest.mark.parametrize("name", ["config.yaml", "scans.tsv"])
def test_what_changed_during_a_run_is_named_at_its_end(campaign, does, name):
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\n")
    for path in campaign.iterdir():
        os.utime(path, (1e9, 1e9))
    edit = f"import os, time; os.utime('{name}', (time.time() + 1,) * 2); "
    for code, changed in ((edit, [name]), ("", [])):
        does(code + "tell(is_whole=True)")
        status, text = call("run", campaign)
        lines = [line for line in text.splitlines() if "changed during this run" in line]
        assert (status, [Path(line.split()[0]).name for line in lines]) == (0, changed), text
        os.utime(campaign / name, (1e9, 1e9))


@pytest.mark.parametrize(("event", "is_new"), [("ended=1", True), ("failed=1, error='x'", False)])
def test_the_table_of_cors_is_new_if_the_run_made_it_though_a_volume_failed(
    campaign, does, event, is_new
):
    begin_jobs = "tell(began=1, step='resolve_cor', name='', reason=''); "
    begin_jobs += "tell(began=2, step='full_recon', name='a_1', reason=''); "
    ends = f"tell(failed=2, error='no room'); tell({event}); sys.exit(1)"
    does(f"{LACKING}tell(is_whole=True); {begin_jobs}{ends}")
    text = call("run", campaign)[1]
    assert "results/cor.json" in text
    assert ("as of the last run of all scans" not in text) == is_new, text


def test_of_a_run_that_was_killed_no_text_of_snakemake_is_shown(campaign, does):
    does("print('Building DAG of jobs...', flush=True); import os; os.kill(os.getpid(), 9)")
    status, text = call("run", campaign)
    assert (status, "Building" in text, "\nkilled: 0 of 0 jobs" in text) == (1, False, True), text


def test_an_error_before_it_begins_stands_alone(campaign, does_alone):
    code = "import sys; print('Using profile'); sys.exit('tomopipe: scans.tsv: x\\nline 3: y')"
    does_alone(code)
    status, text = call("run", campaign)
    lines = text.splitlines()
    assert (status, lines[0].partition(";")[0]) == (1, "Running campaign")
    assert lines[1:3] == ["tomopipe: scans.tsv: x", "line 3: y"]
    (campaign / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\nnone: 1\n")
    status, text = call("run", campaign)
    assert status == 1
    assert text.startswith(f"{campaign / 'config.yaml'}: ")
    text = call("run", campaign, "--", "--configfile", "other.yaml")[1]
    assert text.startswith("Running campaign")  # which Snakemake reads


def test_an_error_of_snakemake_before_any_job_stands_alone(campaign, does):
    does("print('Date: today', 'Building DAG of jobs...', 'No rule', sep='\\n'); sys.exit(1)")
    status, text = call("run", campaign)
    assert (status, text.splitlines()[1:]) == (1, ["No rule", "no job began.", "1"])


def test_a_scan_that_is_named_as_a_target_is_told_how(campaign, does):
    (campaign / "raw" / "a_1.h5").touch()
    print_text = "print('Building DAG of jobs...', 'No rule to produce {} (if', sep='\\n');"
    does(print_text.format("a_2") + "sys.exit(1)")
    text = call("run", campaign, "--", "a_2")[1]
    expected = ["a_2: Snakemake has no rule for this target.", "no job began.", "1"]
    assert text.splitlines()[1:] == expected
    does(print_text.format("a_1") + "sys.exit(1)")
    text = call("run", campaign, "--", "a_1")[1]
    expected = ["a_1 is a scan; its volume: tomopipe run a_1", "no job began.", "1"]
    assert text.splitlines()[1:] == expected


def test_errors_of_snakemake_before_it_begins_are_one_sentence(campaign):
    for options, says in (
        (["--profile", "no/such"], "Error: profile directory given (no/such), but no"),
        (["--configfile", "none"], "FileNotFoundError: [Errno 2] No such file or directory"),
        (["--config", "none"], "ValueError: Invalid config definition: Config entries have to"),
    ):
        status, text = call("run", campaign, "--", *options)
        said, end = text.splitlines()[1:]
        assert (status, said[: len(says)], end) == (1, says, "1"), text


@pytest.mark.parametrize("options", [["--config=a.b=1"], ["-C", "c=2", "a.b=1", "--cores", "2"]])
def test_a_key_with_dots_is_refused_with_what_to_write(campaign, options):
    status, text = call("run", campaign, "--", *options)
    assert (status, text.startswith("--config a.b=1: Snakemake sets no key")) == (1, True), text
    assert "as a: {b: 1}" in text


def test_a_dry_run_shows_no_job_at_work(campaign, does_alone):
    code = "from tomopipe.run.progress import tell; print('full_recon: to be made');"
    does_alone(code + "tell(began=1, step='full_recon', name='a_1', reason='x')")
    status, text = call("run", campaign, "--", "-n")
    assert (status, text.splitlines()[1:]) == (0, ["full_recon: to be made"])


def test_a_cache_that_cannot_be_written_is_replaced_by_one_in_the_campaign(
    campaign, does, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/x")
    does("import os; print('tomopipe: cache in', os.environ['XDG_CACHE_HOME'])")
    text = call("run", campaign)[1]
    cache = campaign / ".snakemake" / "cache"
    assert f"tomopipe: cache in {cache}\n" in text
    monkeypatch.setenv("XDG_CACHE_HOME", str(campaign / "mine"))
    text = call("run", campaign)[1]
    assert f"tomopipe: cache in {campaign / 'mine'}\n" in text


def test_a_failed_job_is_named_with_its_log(campaign, does):
    code = (
        "tell(totals={'full_recon': 2}); t = dict(step='full_recon', reason='x');"
        "tell(began=1, name='a_1', **t); tell(ended=1); tell(began=2, name='a_2', **t);"
        "tell(failed=2); sys.exit(1)"
    )
    does(code)
    status, text = call("run", campaign)
    assert status == 1
    assert "failed: full_recon a_2\n" in text  # it never started
    log = campaign / "logs" / "full_recon" / "a_2.log"
    log.parent.mkdir()
    log.write_text("Traceback")
    does(code.replace("failed=2", "failed=2, error='no rows'"))
    text = call("run", campaign)[1]
    assert f"failed: full_recon a_2: no rows, see {near(log)}" in text
    assert "1 of 2, 1 failed" in text
    assert "1 of 2 jobs are done" in text
    os.utime(log, (1e9, 1e9))  # of an earlier run: this time the job never started
    assert "failed: full_recon a_2: no rows\n" in call("run", campaign)[1]


def test_a_run_that_failed_names_the_scans_that_only_retry_tries_again(campaign, does):
    for scan in ("a_1", "a_2"):
        (campaign / "raw" / f"{scan}.h5").touch()
        stat = (campaign / "raw" / f"{scan}.h5").stat()
        record = {"reason": "killed", "bytes": 0, "mtime_ns": stat.st_mtime_ns}
        path = Files(campaign / "results").failure("predict_cor", scan)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
    (campaign / "raw" / "a_3.h5").touch()  # no record: any run tries it again
    write_json({"start": 1, "state": "failed"}, Logs(campaign / "logs").status("try_recon", "a_3"))
    job = "tell(began=1, name='a_2', step='predict_cor', reason='x');"
    job += "tell(began=2, name='a_3', step='try_recon', reason='x');"
    does(job + "tell(failed=1, error='killed'); tell(failed=2); sys.exit(1)")
    status, text = call("run", campaign)
    assert status == 1
    assert "once the cause is fixed, `tomopipe run` goes on from there." in text
    assert "Try again with `tomopipe retry SCAN`: a_2.\n" in text  # a_1 was no part of this run
    does(job + "tell(stopped=True); tell(failed=1); sys.exit(1)")
    text = call("run", campaign)[1]
    assert "stopped: 0 of 2 jobs are done; `tomopipe run` goes on from there.\n" in text
    assert "retry" not in text


def test_a_full_disk_is_named_at_the_end_of_a_run_that_failed(campaign, does, monkeypatch):
    (campaign / "results").mkdir()
    does("sys.exit(1)")
    assert "no space left" not in call("run", campaign)[1]
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "wb"))  # noqa: SIM115
    status, text = call("run", campaign)
    assert status == 1
    assert text.count(f"tomopipe: {campaign / 'results'}: cannot be written: no ") == 1
    does("tell(is_whole=True)")
    assert "cannot be written" not in call("run", campaign)[1]


def test_scans_are_targets_and_others_are_refused(campaign, does_alone):
    does_alone("import sys; print('asked:', *sys.argv[1:])")
    for scan in ("a_1", "a_2", "a_3"):
        write_scan(campaign / "raw" / f"{scan}.h5", n_rows=2, n_cols=64, n_angles=21)
    (campaign / "raw" / "a_9.h5").write_bytes(b"no scan")  # no inventory has said so yet
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\na_1\tauto\t31\na_3\tno\t\n")
    text = call("run", campaign, "a_*", "--", "--cores", "2")[1]
    receipts = [f"results/made/{job}.json" for job in ("full_recon/a_1", "full_recon/a_2")]
    assert f" results/made/resolve_cor/campaign.json {' '.join(receipts)} --cores 2\n" in text
    assert "left out: a_3: it is not selected (select: no)." in text
    assert "left out: a_9: it is not selected (not an HDF5" in text
    assert text.count("`select: yes` in scans.tsv selects it") == 1  # a_3: a_9 cannot be read
    text = call("run", campaign, "a_*", "--gpus", "3", "--", "--cores", "2")[1]
    assert " --cores 2 --resources gpu=3\n" in text
    for options, says in (
        (("--gpus", "3", "--", "--resources=gpu=2"), "--gpus and --resources exclude each other"),
        (("--predict", "a_4"), "no scan a_4 in"),
        (("a_4",), "no scan a_4 in"),
        (("--predict", "a_3"), "a_3: it is not selected (select: no)"),
        (("a_3",), "a_3: it is not selected (select: no)"),
        (("--predict", "a_1", "-n"), "excludes --dry-run"),
        (("a_3", "-n"), "a_3: it is not selected (select: no)"),
        (("a_1", "--watch"), "exclude each other"),
    ):
        status, text = call("run", campaign, *options)
        assert status != 0
        assert says in " ".join(text.split())
        assert "asked" not in text


STOP = """
import os, signal, time
def catches(number):
    (caught,) = [line for line in open(f"/proc/{os.getppid()}/status") if "SigCgt" in line]
    return int(caught.split()[1], 16) >> (number - 1) & 1
while not catches(signal.SIGTERM):  # which the command forwards, too
    time.sleep(0.01)
os.kill(os.getppid(), signal.SIGINT)
signal.pause()
"""


def test_a_run_that_is_stopped_before_it_begins_says_so_and_has_failed(campaign, does_alone):
    does_alone(STOP)
    status, text = call("run", campaign)
    assert (status, "stopped before it began" in text) == (130, True), text
    assert "Traceback" not in text


def test_a_campaign_is_found_from_within_and_only_there(campaign, does):
    does("tell(is_whole=True)")
    (campaign / "raw" / "config.yaml").write_text("other: program\n")  # of something else
    assert call("run", "-C", campaign / "raw" / "day1")[0] == 0
    assert list((campaign / "logs" / "run").glob("*.log"))
    for nowhere in (campaign.parent, campaign / "raw" / "dya1"):
        status, text = call("status", nowhere)
        assert status == 1
        assert str(nowhere) in text


@pytest.mark.parametrize("words", [("run",), ("plan",), ("run", "--watch")])
def test_the_name_of_a_scan_is_no_folder_and_how_one_volume_is_made_is_said(campaign, words):
    status, text = call(*words, campaign / "a_1")
    assert status == 1
    assert f"{campaign / 'a_1'}: no such folder" in text
    assert f"{words[0]} CAMPAIGN a_1" in text


def test_the_profile_is_that_of_init(campaign):
    assert chosen_profile(campaign).endswith("profiles/workstation")
    (campaign / "slurm").mkdir()
    (campaign / "slurm" / "profile.yaml").touch()
    assert chosen_profile(campaign) == str(campaign / "slurm")
    (campaign / "Snakefile").touch()
    command = run_command(campaign, None, chosen_profile(campaign), ["--cores", "2"])
    assert command[command.index("--snakefile") + 1] == str(campaign / "Snakefile")
    assert "--configfile" not in command
    assert command[-2:] == ["--cores", "2"]
    (campaign / "slurm" / "profile.yaml").write_bytes(b"# f\xfcr uns\n")
    with pytest.raises(launch.TomopipeError, match=r"profile\.yaml: expected UTF-8 text"):
        run_command(campaign, None, chosen_profile(campaign))


def test_logs_of_old_runs_go(campaign, does):
    does("")
    folder = campaign / "logs" / "run"
    folder.mkdir(parents=True)
    for number in range(22):
        for end in (".log", ".jsonl"):
            (folder / f"202601{number:02}-120000{end}").touch()
    assert begin(campaign)[0].wait(60) == 0
    kept = sorted(path.name for path in folder.glob("202601*"))
    assert kept == [f"202601{n:02}-120000{end}" for n in range(3, 22) for end in (".jsonl", ".log")]
    assert call("run", campaign, "--", "-n")[0] == 0  # perhaps while a run writes the oldest
    assert sorted(path.name for path in folder.glob("202601*")) == kept


@pytest.mark.parametrize(
    ("options", "says", "ended_by"),
    [
        ([], "Stopped", signal.SIGINT),
        (["--finish"], "is in SLURM's queue, finishes", signal.SIGTERM),
        (["--now"], "Killed", signal.SIGKILL),
    ],
)
def test_a_second_run_says_who_runs_and_stop_ends_it(campaign, does, options, says, ended_by):
    does("import time; time.sleep(60)")
    process, run = begin(campaign)
    status, text = call("run", campaign)
    assert status == 1
    assert f"process {process.pid}" in text
    assert "tomopipe stop" in text
    status, text = call("stop", campaign / "raw", *options)
    assert (status, says in text) == (0, True), text
    assert process.wait(60) in (-ended_by, 1)  # 1: Python itself had just begun
    assert json.loads(Path(run.events).read_text().splitlines()[-1])["stopped"]
    status, text = call("stop", campaign)
    assert (status, "no run is under way" in text) == (1, True)
    assert "nowhere: no such folder" in call("stop", campaign / "nowhere")[1]


def test_stop_names_jobs_that_slurm_did_not_cancel(campaign, does):
    line = f"tomopipe: {NOT_CANCELLED}: no answer: scancel 40"
    does(f"""
import signal, time
def end(*_):
    print({line!r}, flush=True)
    sys.exit(1)
signal.signal(signal.SIGINT, end)
print({line!r}.replace("40", "38"))  # before a job was tried again
print("begun", flush=True)
time.sleep(60)
""")
    process, run = begin(campaign)
    while "begun" not in Path(run.log).read_text():
        time.sleep(0.05)
    status, text = call("stop", campaign)
    told = [number for number in ("38", "40") if f"scancel {number}" in text]
    assert (status, told) == (1, ["40"]), text
    assert process.wait(60) == 1


@pytest.mark.parametrize("way", ["moved", "linked", "copied"])
def test_a_copy_of_a_campaign_that_runs_is_no_run(campaign, does, way):
    does("import time; time.sleep(60)")
    process, run = begin(campaign)
    other = campaign.with_name("other")
    how = {"moved": shutil.move, "linked": lambda a, b: b.symlink_to(a), "copied": shutil.copytree}
    how[way](campaign, other)
    status, text = call("stop", other)
    if way == "copied":
        assert (status, "Stopping" in text, process.poll()) == (1, False, None), text
        while not Path(run.events).exists():
            time.sleep(0.01)
        does("")
        assert call("run", other)[0] == 0
        assert lock.under_way(campaign) == run
        launch.interrupt(run, sending=signal.SIGINT)
    assert process.wait(60) in (-signal.SIGINT, 1)


def test_a_run_hears_no_hangup_and_heeds_ctrl_c_also_from_the_background(campaign, does):
    does("import signal; print([signal.getsignal(one) for one in (1, 2)])")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process, run = begin(campaign)
    assert process.wait(60) == 0
    heeds = [signal.SIG_IGN, signal.default_int_handler]
    assert Path(run.log).read_text().startswith(str(heeds))


ELSEWHERE = {"host": "elsewhere", "machine": "another"}


def test_a_run_on_another_machine_keeps_others_out_until_somebody_says_that_it_is_dead(
    campaign, does, monkeypatch
):
    does("")
    monkeypatch.chdir(campaign)
    run = lock.new_run(campaign, **ELSEWHERE)
    lock.take(campaign, run)
    for options in ([], ["--watch"]):
        status, text = call("run", campaign, *options)
        assert (status, "on elsewhere" in text, "run --take-over (" in text) == (1, True, True)
    status, text = call("stop", campaign)
    assert (status, "on another machine" in text) == (1, True)
    assert lock.read(campaign) == run
    status, text = call("run", campaign, "--take-over")
    assert (status, "The last run was killed: this one goes on" in text) == (0, True), text
    assert lock.under_way(campaign) is None
    assert lock.read(campaign).before == run.id  # no Snakemake has begun, which ends its jobs


def test_only_a_run_that_begins_says_that_it_goes_on_from_a_killed_one(campaign, does, does_alone):
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    does(killed)
    assert "killed: 0 of 0 jobs" in call("run", campaign)[1]
    for stand_in, code, n_said in ((does_alone, "exit('refused')", 0), (does, "", 1)):
        stand_in(code)
        status, text = call("run", campaign)
        assert (status, text.count("The last run was killed")) == (1 - n_said, n_said), text


def test_a_command_that_only_looks_takes_no_lock_and_takes_nothing_over(campaign, does):
    does("")
    lock.take(campaign, run := lock.new_run(campaign, **ELSEWHERE))
    status, text = call("run", campaign, "--", "-n")
    assert (status, "goes on" in text) == (0, False), text
    assert lock.read(campaign) == run


@pytest.mark.parametrize("sending", [signal.SIGINT, signal.SIGKILL])
def test_a_run_of_somebody_else_that_cannot_be_stopped_is_not_said_to_be(
    campaign, does, monkeypatch, sending
):
    does("import time; time.sleep(60)")
    process, run = begin(campaign)

    def refuse(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        for name in ("kill", "killpg"):
            patch.setattr(launch.os, name, refuse)
        with pytest.raises(launch.TomopipeError, match="the run is not yours"):
            launch.interrupt(run, sending=sending)
    assert lock.read(campaign) == run
    process.kill()
    process.wait()


def test_ctrl_c_stops_a_run_also_where_no_event_can_be_written(campaign, does):
    does(f"""
import os, signal, time
time.sleep(1)  # what it has told is read
os.remove(os.environ[{VARIABLE!r}])
os.mkdir(os.environ[{VARIABLE!r}])
os.kill(os.getppid(), signal.SIGINT)
time.sleep(60)
""")
    status, text = call("run", campaign)
    assert (status, "stopped: 0 of 0 jobs are done" in text) == (130, True), text


def test_a_run_that_cannot_be_recorded_does_not_go_on(campaign, does, monkeypatch):
    does("import time; time.sleep(60)")
    spawned = []

    def refuse(_, mine, run):
        spawned.append(run.pid)
        raise NoRoomError(errno.ENOSPC, "run.lock: no space left")

    monkeypatch.setattr(lock, "hand_over", refuse)
    status, text = call("run", campaign)
    assert (status, "no space left" in text) == (1, True), text
    with pytest.raises(ProcessLookupError):
        os.kill(*spawned, 0)
    assert lock.read(campaign) is None


def test_jobs_are_summed_by_step_also_when_a_checkpoint_adds_some(tmp_path, monkeypatch):
    events = tmp_path / "events"
    monkeypatch.setenv(VARIABLE, str(events))
    tell(totals={"inventory": 1, "all": 1})
    progress = Progress(events, Logs(tmp_path))
    assert progress.read()
    assert not progress.read()
    tell(totals={"inventory": 1, "try_recon": 3, "full_recon": 3, "all": 1})
    for number in (1, 2):
        tell(began=number, step="try_recon", name=f"a_{number}", reason="not there yet")
    tell(failed=1)
    tell(again=1)
    tell(began=1, step="try_recon", name="a_1", reason="not there yet")
    tell(ended=2)
    progress.read()
    assert list(progress.steps) == ["inventory", "try_recon", "full_recon"]
    step = progress.steps["try_recon"]
    assert (step.done, step.n["running"], step.n["failed"], step.total) == (1, 1, 0, 3)
    assert progress.counts == (1, 7)


def test_a_job_that_somebody_stopped_has_not_failed_and_attempts_are_told_once(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    progress = Progress(tmp_path / "events", Logs(tmp_path))
    screen = Screen()
    for again in (True, True, False):
        tell(began=1, step="try_recon", name="a_1", reason="not there yet")
        tell(failed=1, error="no room")
        for _ in range(again):
            tell(again=1)
        progress.read()
        screen.show(progress)
        step = progress.steps["try_recon"]
        assert (step.n["again"], step.n["failed"]) == (again, not again)
    said = [line for line in capsys.readouterr().out.splitlines() if "a_1" in line]
    see = near(tmp_path / "try_recon" / "a_1.log")
    assert said == [f"failed: try_recon a_1: no room, see {see}", "tried again: try_recon a_1"]
    tell(stopped=True)
    tell(began=2, step="try_recon", name="a_2", reason="not there yet")
    tell(failed=2)
    progress.read()
    screen.show(progress, at_end=True)
    assert "a_2" not in capsys.readouterr().out
    assert [job.name for job in progress.failed] == ["a_1"]


def test_a_series_has_the_name_that_people_write(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    progress = Progress(tmp_path / "events", Logs(tmp_path))
    for number, reason in enumerate(("a COR changed", "not there yet")):
        tell(began=number, step="fix_cor", name=encode_series("10% größe"), reason=reason)
    tell(began=2, step="full_recon", name="10%25_001", reason="another COR")
    tell(failed=1, error="no room")
    progress.read()
    Screen().show(progress)
    lines = capsys.readouterr().out.splitlines()[:3]
    assert lines[0].startswith("failed: fix_cor 10% größe: no room, see ")
    assert lines[1:] == ["10% größe: a COR changed", "10%25_001: another COR"]


def test_jobs_of_a_submission_that_are_tried_again_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    progress = Progress(tmp_path / "events", Logs(tmp_path))
    for number in range(4):
        tell(began=number, step="full_recon", name=f"a_{number}", reason="not there yet")
    for number in range(4):
        tell(failed=number, error="SLURM job 7: CANCELLED")
    for number in range(3):  # the last one is not
        tell(again=number)
    see = tmp_path / "full_recon" / "a_3.log"
    see.parent.mkdir()
    see.write_text("killed")
    progress.read()
    Screen().show(progress)
    jobs = "3 jobs, full_recon a_0, full_recon a_1, full_recon a_2"
    lines = [line for line in capsys.readouterr().out.splitlines() if " a_" in line]
    assert lines == [
        f"failed: {jobs}: SLURM job 7: CANCELLED",
        f"failed: full_recon a_3: SLURM job 7: CANCELLED, see {near(see)}",
        f"tried again: {jobs}",
    ]


def test_a_failure_is_left_until_it_is_known_whether_the_job_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    progress = Progress(tmp_path / "events", Logs(tmp_path))
    tell(began=1, step="try_recon", name="a_1", reason="not there yet")
    tell(failed=1, error="no room")
    assert progress.read(60.0)
    assert not progress.read(60.0)
    assert progress.steps["try_recon"].n["running"] == 1
    tell(again=1)
    assert progress.read()
    assert [what for what, *_ in progress.news] == ["began", "failed", "again"]
    n = progress.steps["try_recon"].n
    assert (n["running"], n["failed"], n["again"]) == (0, 0, 1)


def test_a_job_of_a_cluster_runs_when_it_has_left_the_queue(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    logs = Logs(tmp_path)

    def say(scan, **status):
        path = logs.status("full_recon", scan)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(status))

    def read():  # anew: one that has read looks again some seconds later
        progress = Progress(tmp_path / "events", logs)
        progress.read()
        return progress.steps["full_recon"]

    say("a_2", state="done", start=1, end=2)  # of an earlier run
    tell(executes=True, remote=True)
    tell(totals={"full_recon": 2})
    for number, scan in enumerate(("a_1", "a_2")):
        tell(began=number, step="full_recon", name=scan, reason="")
    assert step_line("full_recon", read()).endswith("0 of 2, 2 in the queue")
    now_s = time.time()
    say("a_1", state="running", start=now_s)
    assert step_line("full_recon", read()).endswith("0 of 2, 1 running, 1 in the queue")
    # Snakemake hears of the end a minute later
    say("a_1", state="done", start=now_s, end=now_s + 30)
    say("a_2", state="running", start=now_s)
    assert step_line("full_recon", read()).endswith("1 of 2, 1 running")
    tell(ended=0)
    tell(ended=1)
    step = read()
    assert (step.done, step.total) == (2, 2)
    # ended on its node, but its results have not arrived
    tell(began=2, step="full_recon", name="a_3", reason="")
    say("a_3", state="done", start=time.time(), end=time.time() + 1)
    step = read()
    assert (step.done, step.n["failed"]) == (3, 0)
    tell(failed=2)
    step = read()
    assert (step.done, step.n["failed"]) == (2, 1)
    # a submission that somebody cancelled is in the queue again
    for number, state in ((3, "failed"), (4, "running")):  # before it began, or killed then
        say("a_3", state=state, start=time.time(), error="SLURM job 7: CANCELLED")
        tell(again=number - 1)
        tell(began=number, step="full_recon", name="a_3", reason="")
        assert read().n["queued"] == 1


def test_a_half_written_event_waits_for_its_end(tmp_path):
    events = tmp_path / "events"
    events.write_text('{"totals": {"stitch"')
    progress = Progress(events, Logs(tmp_path))
    assert not progress.read()
    with events.open("a") as stream:
        stream.write(": 2}}\n")
    assert progress.read()
    assert progress.counts == (0, 2)


def test_a_line_says_done_running_and_failed():
    step = Step(total=10, n=Counter(running=2, failed=1))
    assert step_line("full_recon", step).endswith("0 of 10, 2 running, 1 failed")
    volumes = Step(total=1, planned={"a_1": (9.0, 1)}, is_about=True)
    assert step_line("full_recon", volumes) == "full_recon   0 of about 1"
    page = Step(total=1, planned={"campaign": (2.0, 1)}, is_about=True)
    assert step_line("report", page) == step_line("report", Step(is_about=True))
    assert step_line("report", page) == "report       later"


def test_the_time_of_a_run_is_below_its_steps_and_at_last_in_total(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events"))
    progress, began_s = Progress(tmp_path / "events", Logs(tmp_path)), time.time() - 30
    tell(at=began_s, executes=True, cores=1)
    tell(planned={"try_recon": {"a_1": [90, 1]}}, about=["full_recon"])
    progress.read()
    Screen().show(progress)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1].partition(",")[0] for line in lines] == [
        "try_recon    0 of 1",
        "full_recon   later",
        "time         30 s so far",
    ]
    Screen().show(progress, at_end=True)
    assert capsys.readouterr().out.splitlines()[-1].endswith(" time         30 s in total")


@pytest.mark.parametrize(("is_live", "n_times"), [(True, 3), (False, 2)])
def test_the_time_left_which_takes_long_is_forecast_when_it_is_shown(
    is_live, n_times, tmp_path, monkeypatch, capsys
):
    now, n_made = [0.0], []
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: is_live, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal, "forecast", lambda _: n_made.append(0) or Forecast(now[0], 9.0))
    screen, progress = Screen(), Progress(tmp_path / "events", Logs(tmp_path))
    for look in range(11):
        now[0] = 100 + look / 5  # s
        screen.show(progress)
    screen.show(progress, at_end=True)
    assert len(n_made) == n_times
    assert "9 s left" in capsys.readouterr().out


def test_that_the_machine_is_busy_is_repeated_when_it_changed_or_after_ten_minutes(
    tmp_path, monkeypatch, capsys
):
    now, progress, shown = [0.0], Progress(tmp_path / "events", Logs(tmp_path)), []
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    slower = {True: 4.0, False: 5.0}
    monkeypatch.setattr(
        terminal, "forecast", lambda _: Forecast(now[0], 9.0, 9.0, slower=slower[now[0] < 100])
    )
    screen = Screen()
    for now[0] in range(0, 900, 61):  # s; without other news there is a line each minute
        screen.show(progress)
        if "busy" in capsys.readouterr().out:
            shown.append(now[0])
    assert shown == [61, 122, 732]


def test_a_plan_as_json_reports_faults_beside_it(campaign):
    for scan in ("a_1", "a_2"):
        write_scan(campaign / "raw" / f"{scan}.h5", n_rows=2, n_cols=64, n_angles=21)
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\na_11\t\t50\na_2\tno\t\n")
    done = CliRunner().invoke(cli, ["plan", "--json", str(campaign), "a_1", "a_2"])
    assert (done.exit_code, json.loads(done.stdout)[0]["rule"]) == (2, "inventory")
    left_out, fault = done.stderr.splitlines()
    assert left_out.startswith("left out: a_2: it is not selected")
    assert fault == "tomopipe: scans.tsv: line 2: no scan a_11 in the campaign; did you mean a_1?"


@pytest.mark.slow
def test_a_folder_that_cannot_be_entered_is_named_not_a_file_in_it(campaign):
    (campaign / "raw" / "a_1.h5").touch()
    closed = campaign / "results" / "try_center"
    closed.mkdir(parents=True)
    closed.chmod(0o600)
    status, printed, said = heeding("plan", campaign)
    closed.chmod(0o755)
    assert status == 1, said
    says = f"{closed}: cannot be written, and a run does. To get the right: "
    assert says in " ".join(printed.split())
