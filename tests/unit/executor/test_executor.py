"""The executor for SLURM in real runs of Snakemake, with each answer of SLURM."""

import json
import os
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.unit.executor.conftest import until
from tomopipe.storage import run_folder

pytestmark = pytest.mark.slow


def test_jobs_share_submissions_whatever_their_names(cluster):
    scans = ["a $HOME", "b'c", 'd"e', "f;g", "größe"]
    options = ("--default-resources", "slurm_partition=p,q", "slurm_account=mine", "qos=high")
    options += ("slurm_extra='--mail-user=\"a b\" --licenses=x'",)
    status, text = cluster.run(*scans, options=options)
    assert status == 0, text
    assert cluster.made == set(scans)
    assert [cluster.targets(n) for n in (1, 2)] == [4, 1]
    assert cluster.n_submissions == 2
    asked = cluster.options(1)
    wanted = {"partition": "p,q", "account": "mine", "qos": "high", "mail-user": "a b"}
    wanted |= {"licenses": "x", "export": "ALL", "chdir": str(cluster.folder)}
    assert asked.items() >= wanted.items()
    # 20 s of work keep 5 cores busy; 4 is the limit
    assert (asked["cpus-per-task"], asked["mem"], asked["time"]) == ("4", "400", "10")
    assert not list(cluster.folder.glob(".snakemake/slurm_logs/*/*"))
    assert "SLURM jobid 1" in text


def test_a_site_that_passes_no_environment_gets_the_run_in_the_command(cluster):
    cluster.environment[run_folder.VARIABLE] = "a $run's folder"
    (cluster.slurm / "bare").touch()
    status, text = cluster.run("a", job='echo "$TOMOPIPE_RUN" > run; [ -z "$XDG_CONFIG_HOME" ]')
    assert status == 0, text
    assert (cluster.folder / "run").read_text() == "a $run's folder\n"


def test_a_failed_job_stops_no_other_and_is_tried_again_alone_with_more_memory(cluster):
    status, text = cluster.run(*"abcd", job='[ "$SCAN" != b ]', options=("--retries", "1"))
    assert status == 1
    assert cluster.made == set("acd")
    assert [cluster.targets(n) for n in (1, 2)] == [4, 1]
    assert cluster.n_submissions == 2
    assert [cluster.options(n)["mem"] for n in (1, 2)] == ["400", "200"]
    assert text.count("Finished jobid") == 3
    assert "a submission of volume failed: SLURM job 2: FAILED; see .snakemake/slurm_logs/" in text


def test_a_job_that_failed_on_its_data_is_not_submitted_again(cluster):
    job = '[ "$SCAN" != b ] || { says failed "ScanError: every value is 0.0"; exit 1; }'
    status, text = cluster.run(*"ab", job=job, options=("--retries", "2"))
    assert status == 1
    assert cluster.made == {"a"}
    assert cluster.n_submissions == 1
    assert "every value is 0.0" in text


def test_who_was_in_a_submission_that_slurm_ended_comes_back_alone(cluster):
    # b ends it when the others are done
    job = """if [ "$SCAN" = b ] && [ ! -e ended ]; then
  while [ $(ls out 2>/dev/null | wc -l) -lt 2 ]; do sleep 0.1; done
  touch ended; echo NODE_FAIL > "$FAKE_SLURM/$SLURM_JOB_ID.state"; sleep 1000
fi"""
    status, text = cluster.run(*"abc", job=job, options=("--retries", "1"))
    assert status == 0, text
    assert cluster.made == set("abc")
    assert [cluster.targets(n) for n in (1, 2)] == [3, 1]
    assert cluster.n_submissions == 2
    assert "failed: SLURM job 1: NODE_FAIL; see" in text
    assert ["1"] in cluster.calls("scancel")  # SLURM may have queued it again


def test_a_submission_that_slurm_has_queued_again_goes_on(cluster):
    """The accounting shows how it ended for some seconds, until it has the new attempt, too."""
    job = """here="$FAKE_SLURM/$SLURM_JOB_ID"
if [ "$SCAN" = b ]; then
  touch "$here.again"; echo PREEMPTED > "$here.state"; sleep 3; rm "$here.state" "$here.again"
fi"""
    status, text = cluster.run(*"abc", job=job)
    assert status == 0, text
    assert cluster.made == set("abc")
    assert cluster.n_submissions == 1
    assert not cluster.calls("scancel")


POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job "
POLICY += "submit limit, user's size and/or time limits)"


def test_what_slurm_does_not_take_now_is_sent_again(cluster):
    errors = (
        "sbatch: error: Unable to contact slurm controller (connect failure)",
        f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}",
    )
    cluster.answer("sbatch", *([1, error, False] for error in errors))
    status, text = cluster.run("a", "b")
    assert status == 0, text
    assert cluster.made == {"a", "b"}
    assert cluster.n_submissions == 1
    assert text.count("SLURM takes no submission now") == 1
    assert "Error in rule" not in text


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_submission_without_an_answer_is_not_sent_twice(cluster, is_taken):
    error = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    cluster.answer("sbatch", [1, error, is_taken])
    # the controller is slow for a while
    cluster.answer("squeue", [1, "slurm_load_jobs error: Unable to contact slurm", False])
    status, text = cluster.run("a", "b")
    assert status == 0, text
    assert (cluster.n_submissions, cluster.made) == (1, {"a", "b"})


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}", "QOSMaxWallDuration"),
        ("", "sbatch ended with 1 and no message"),
    ],
)
def test_what_slurm_refuses_is_a_failure_of_those_jobs(cluster, error, says):
    cluster.answer("sbatch", [1, error, False])
    status, text = cluster.run("a", "b")
    assert status == 1
    assert text.count("a submission of volume failed: ") == 1
    assert text.count("Error in rule volume") == 2
    for scan in "ab":
        status = json.loads((cluster.folder / f"logs/status/volume/{scan}.json").read_text())
        assert (status["state"], says in status["error"]) == ("failed", True)


def test_an_exception_while_submitting_is_a_failure_of_those_jobs(cluster):
    (cluster.folder / ".snakemake").mkdir()
    (cluster.folder / ".snakemake" / "slurm_logs").touch()  # where a folder is needed
    status, text = cluster.run("a", "b")
    assert status == 1
    assert "a submission of volume failed: [Errno 20] Not a directory: " in text
    assert text.count("Error in rule volume") == 2


@pytest.mark.parametrize("tools", [["sacct"], ["sacct", "squeue"]])
def test_where_slurm_does_not_answer_it_is_asked_again(cluster, tools):
    error = "error: slurm_persist_conn_open_without_init: failed to open persistent connection"
    for tool in tools:
        cluster.answer(tool, *4 * [[1, error, False]])
    status, text = cluster.run("a", "b")
    assert status == 0, text
    assert text.count("SLURM does not answer, it is asked again") == len(tools) - 1
    assert len(cluster.calls("sacct")) > 4 * (len(tools) - 1)
    assert cluster.n_submissions == 1


def test_an_earlier_job_of_the_same_number_is_another_one(cluster):
    """Where SLURM counts anew, as after a new installation, its accounting knows both."""
    (cluster.slurm / "earlier").touch()
    status, text = cluster.run("a", job="sleep 5; false")
    assert status == 1
    assert "Finished jobid" not in text
    assert "a submission of volume failed: SLURM job 1: FAILED" in text


def test_without_accounting_squeue_says_how_jobs_are(cluster):
    answer = [1, "Slurm accounting storage is disabled", False]
    cluster.answer("sacct", *200 * [answer])
    status, _ = cluster.run(*"abc", job='[ "$SCAN" != b ]')
    assert (status, cluster.made) == (1, set("ac"))


def test_a_submission_that_slurm_has_forgotten_is_no_hang(cluster):
    job = (
        'if [ "$SCAN" = b ]; then echo FORGOTTEN > "$FAKE_SLURM/$SLURM_JOB_ID.state"; sleep 99; fi'
    )
    status, text = cluster.run(*"abc", job=job)
    assert (status, cluster.made) == (1, set("ac"))
    assert "SLURM job 1: no longer known" in text


def interrupt(process: subprocess.Popen) -> None:
    """Press Ctrl-C; again if Python's main thread slept on, as it does where another took it."""
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=60)
            return
    raise AssertionError("still at work")


def test_a_run_that_is_interrupted_cancels_its_own_submissions_alone(cluster):
    options = ("--tomopipe-submissions", "2")
    process = cluster.start(*"abcdefghijklm", job="sleep 1000", options=options)
    until(lambda: (cluster.slurm / "2.pid").exists() and cluster.calls("squeue"))
    interrupt(process)
    assert process.returncode == 1
    assert sorted(cluster.calls("scancel")[0]) == ["1", "2"]
    assert cluster.n_submissions == 2  # the others waited for a place
    states = {(cluster.slurm / f"{n}.state").read_text() for n in (1, 2)}
    assert states == {"CANCELLED by 1000"}


def test_a_submission_without_an_answer_is_cancelled_by_the_name_of_the_run(cluster):
    cluster.answer("sbatch", [1, "Socket timed out on send/recv operation", True])
    cluster.answer("squeue", *200 * [[1, "Unable to contact slurm controller", False]])
    process = cluster.start("a", job="sleep 1000")
    until(lambda: (cluster.slurm / "calls").exists() and cluster.calls("squeue"))
    interrupt(process)
    name = cluster.options(1)["job-name"]
    assert [call[0] for call in cluster.calls("scancel")] == [f"--name={name}"]


def test_a_run_that_is_to_end_waits_for_what_slurm_has_and_submits_no_more(cluster):
    job = "while [ ! -e go ]; do sleep 0.1; done"
    options = ("--tomopipe-submissions", "1", "--retries", "1")
    process = cluster.start(*"abcdefgh", job=job, options=options)
    until(lambda: len(list(cluster.folder.glob("logs/status/volume/*.json"))) == 4)
    os.kill(process.pid, signal.SIGTERM)
    (cluster.folder / "go").touch()
    text, _ = process.communicate(timeout=120)
    assert (process.returncode, cluster.n_submissions, len(cluster.made)) == (1, 1, 4)
    assert "Error in rule" not in text
