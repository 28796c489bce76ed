"""The executor for SLURM in real runs of Snakemake, with each answer of SLURM."""

import json
import os
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.waiting import until
from tomopipe.storage import run_folder

pytestmark = pytest.mark.slow


def test_jobs_share_submissions_whatever_their_names_and_the_environment_of_the_site(cluster):
    cluster.environment[run_folder.VARIABLE] = "a $run's folder"
    (cluster.slurm / "bare").touch()
    (cluster.slurm / "says").write_text("Welcome\nSubmitted batch job {number}\n5 jobs wait")
    cluster.answer("sbatch", [0, "sbatch: warning: no such site module", True])
    scans = ["a $HOME", "b'c", 'd"e', "f;g", "größe"]
    options = ("--default-resources", "slurm_partition=p,q", "slurm_account=mine", "qos=high")
    options += ("slurm_extra='--mail-user=\"a b\" --licenses=x'",)
    job = 'echo "$TOMOPIPE_RUN" > run; [ -z "$XDG_CONFIG_HOME" ]'
    status, text = cluster.run(*scans, job=job, options=options)
    assert status == 0, text
    assert cluster.made == set(scans)
    assert (cluster.folder / "run").read_text() == "a $run's folder\n"
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


def test_a_failed_job_stops_no_other_and_comes_back_alone_unless_its_data_are_at_fault(cluster):
    job = """case "$SCAN" in
  b) false;;
  c) says failed "every value is 0.0" ScanError; exit 1;;
esac"""
    status, text = cluster.run(*"abcd", job=job, options=("--retries", "1"))
    assert status == 1
    assert cluster.made == set("ad")
    assert [cluster.targets(n) for n in (1, 2)] == [4, 1]
    assert cluster.n_submissions == 2
    assert [cluster.options(n)["mem"] for n in (1, 2)] == ["400", "200"]
    assert "volume:scan=b" in (cluster.slurm / "2.script").read_text()
    submitted = cluster.folder / "results" / ".runs" / "1" / "submitted"
    assert (submitted / "2").read_text() == "logs/volume/b.log\n"
    assert text.count("Finished jobid") == 2
    assert (
        "a submission of volume failed: SLURM job 2: FAILED on node1; see .snakemake/slurm_logs/"
        in text
    )
    assert "every value is 0.0" in text


def test_a_submission_that_slurm_ended_goes_on_if_queued_again_or_is_submitted_anew(cluster):
    """The accounting shows how it ended for some seconds, until it has the new attempt, too."""
    job = """here="$FAKE_SLURM/$SLURM_JOB_ID"
if [ "$SCAN" = b ] && [ ! -e ended ]; then
  echo JobHeldUser > "$here.again"; echo PREEMPTED > "$here.state"
  n=$(grep -c sacct "$FAKE_SLURM/calls"); asked $((n + 2)); rm "$here.state" "$here.again"
  while [ $(ls out 2>/dev/null | wc -l) -lt 2 ]; do sleep 0.1; done
  touch ended; echo NODE_FAIL > "$here.state"; sleep 1000
fi"""
    status, text = cluster.run(*"abc", job=job, options=("--retries", "1"))
    assert status == 0, text
    assert cluster.made == set("abc")
    assert [cluster.targets(n) for n in (1, 2)] == [3, 1]
    assert cluster.n_submissions == 2
    assert text.count("a submission of volume failed") == 1
    assert "failed: SLURM job 1: NODE_FAIL on node1; see" in text
    assert text.count("SLURM job 1 stays in the queue until somebody acts: JobHeldUser\n") == 1
    assert cluster.calls("scancel") == [["1"]]  # SLURM may have queued it again


POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job "
POLICY += "submit limit, user's size and/or time limits)"
NO_ANSWER = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


def test_what_slurm_does_not_take_now_is_sent_again_and_nothing_is_sent_twice(cluster):
    cluster.answer(
        "sbatch",
        [1, "sbatch: error: Unable to contact slurm controller (connect failure)", False],
        [1, f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", False],
        [1, NO_ANSWER, False],
        [1, NO_ANSWER, True],
    )
    # when it is to say whether it has the submission, the controller is slow for a while
    slow = [1, "slurm_load_jobs error: Unable to contact slurm", False]
    cluster.answer("squeue", slow, [0, "", True], slow, [0, "", True], slow)
    status, text = cluster.run("a", "b")
    assert status == 0, text
    assert (cluster.n_submissions, cluster.made) == (1, {"a", "b"})
    assert len(cluster.calls("sbatch")) == 4
    assert text.count("SLURM takes no submission now") == 1
    assert "Error in rule" not in text


def test_what_slurm_refuses_is_a_failure_of_those_jobs(cluster):
    limit = f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{POLICY}"
    cluster.answer("sbatch", [1, limit, False], [1, "", False])
    status, text = cluster.run(*"abcde")
    assert status == 1
    assert text.count("a submission of volume failed: ") == 2
    assert text.count("Error in rule volume") == 5
    paths = [cluster.folder / f"logs/status/volume/{scan}.json" for scan in "abcde"]
    ends = [json.loads(path.read_text()) for path in paths]
    assert {end["state"] for end in ends} == {"failed"}
    assert sum("QOSMaxWallDuration" in end["error"] for end in ends) == 4
    assert sum("sbatch ended with 1 and no message" in end["error"] for end in ends) == 1


def test_an_exception_while_submitting_is_a_failure_of_those_jobs(cluster):
    (cluster.folder / ".snakemake").mkdir()
    (cluster.folder / ".snakemake" / "slurm_logs").touch()  # where a folder is needed
    status, text = cluster.run("a", "b")
    assert status == 1
    assert "a submission of volume failed: [Errno 20] Not a directory: " in text
    assert text.count("Error in rule volume") == 2


def test_where_slurm_does_not_answer_it_is_asked_again(cluster):
    error = "error: slurm_persist_conn_open_without_init: f\udcfcr failed to open connection"
    cluster.answer("sacct", *8 * [[1, error, False]])
    cluster.answer("squeue", *4 * [[1, error, False]])  # then it answers alone
    status, text = cluster.run("a", "b", job="asked 10")
    assert status == 0, text
    assert text.count("SLURM does not answer, it is asked again") == 1
    assert cluster.n_submissions == 1


@pytest.mark.parametrize("says", ["{number};far", "Submitted batch job {number} on cluster far"])
def test_jobs_of_another_cluster_are_followed_and_cancelled_there(cluster, says):
    (cluster.slurm / "far").touch()
    (cluster.slurm / "says").write_text(says)
    status, text = cluster.run("a", job="asked 5")
    assert status == 0, text
    process = cluster.start("b", job="sleep 1000")
    until((cluster.slurm / "2.pid").exists)
    until(lambda: "--clusters=far" in cluster.calls("squeue")[-1])
    interrupt(process)
    assert (cluster.slurm / "2.state").read_text() == "CANCELLED by 1000"


def test_a_submission_without_a_number_is_looked_for_in_the_queue(cluster):
    (cluster.slurm / "says").write_text("accepted")
    status, text = cluster.run("a")
    assert (status, cluster.n_submissions) == (0, 1), text
    cluster.answer("sbatch", [0, "welcome", False])  # accepted, and dropped
    status, text = cluster.run("b")
    assert (status, cluster.n_submissions) == (1, 1)
    assert "sbatch gave no job number, and the job is not in the queue: welcome" in text


def test_an_earlier_job_of_the_same_number_is_another_one(cluster):
    """Where SLURM counts anew, as after a new installation, its accounting knows both."""
    (cluster.slurm / "earlier").touch()
    status, text = cluster.run("a", job="asked 3; false")
    assert status == 1
    assert "Finished jobid" not in text
    assert "a submission of volume failed: SLURM job 1: FAILED" in text


def test_without_accounting_squeue_says_how_jobs_are_and_what_it_forgot_is_no_hang(cluster):
    answer = [1, "Slurm accounting storage is disabled", False]
    cluster.answer("sacct", *200 * [answer])
    job = """here="$FAKE_SLURM/$SLURM_JOB_ID"
if [ "$SLURM_JOB_ID" = 2 ]; then echo FORGOTTEN > "$here.state"; sleep 99; fi
mkdir "$here.one" """  # by one job of the first submission alone
    status, text = cluster.run(*"abcde", job=job)
    assert (status, len(cluster.made)) == (1, 1)
    assert "SLURM job 1: FAILED" in text
    assert "SLURM job 2: no longer known" in text


def test_without_a_log_a_failure_says_what_is_not_there(cluster):
    says = "a submission of volume failed: SLURM job 1: FAILED on node1 without a log: "
    status, text = cluster.run("a", job="rm -r .snakemake; false")
    removed = f"{cluster.folder}/.snakemake/slurm_logs/volume was removed meanwhile\n"
    assert (status, says + removed in text) == (1, True), text
    (cluster.slurm / "apart").touch()
    status, text = cluster.run("a", job="false")
    says = says.replace("job 1", "job 2")
    lacking = f"{cluster.folder} must be there, under this path, on all nodes\n"
    assert (status, says + lacking in text) == (1, True), text


def test_outputs_that_this_host_does_not_see_are_a_failure_that_says_so(cluster):
    """As where its file system is not that of the nodes; one later than latency-wait counts."""
    job = """echo COMPLETED > "$FAKE_SLURM/$SLURM_JOB_ID.state"
if [ "$SCAN" = a ]; then sleep 5; else sleep 99; fi"""
    options = ("--retries", "1", "--latency-wait", "2")
    status, text = cluster.run("a", "b", job=job, options=options)
    assert (status, cluster.made, cluster.n_submissions) == (1, {"a"}, 2)
    why = "COMPLETED, but out/b is not here 8 s later (4 times latency-wait): "
    assert "SLURM job 1 has ended, and out/" in text
    for number in (1, 2):
        failure = f"a submission of volume failed: SLURM job {number}: {why}"
        assert text.count(failure) == 1, text
    assert why in json.loads((cluster.folder / "logs/status/volume/b.json").read_text())["error"]


def status_of(cluster, scan: str) -> dict:
    return json.loads((cluster.folder / f"logs/status/volume/{scan}.json").read_text())


def test_a_node_on_which_nothing_begins_gets_no_more_jobs_and_its_log_says_why(cluster):
    (cluster.slurm / "broken").write_text("node1")
    options = ("--default-resources", "slurm_extra='--exclude=node7'", "--retries", "1")
    status, text = cluster.run("a", "b", options=options)
    assert (status, cluster.made) == (0, {"a", "b"}), text
    why = "SLURM job 1: FAILED on node1, exit code 127:0, log: "
    assert f"a submission of volume failed: {why}" in text
    assert "python9: not found; see " in text
    assert text.count("node1: no more jobs of this run go there, while there are other nodes") == 1
    excluded = [cluster.options(n).get("exclude") for n in range(1, cluster.n_submissions + 1)]
    assert excluded == ["node7", *["node7,node1"] * (cluster.n_submissions - 1)]


def test_a_library_that_a_node_cannot_load_is_tried_elsewhere_and_on_all_if_none_is_left(cluster):
    job = """says failed "a library cannot be loaded" LibraryError ', "of_machine": true'; exit 1"""
    status, text = cluster.run("a", job=job, options=("--retries", "2"))
    assert (status, cluster.n_submissions) == (1, 3)
    excluded = [cluster.options(n).get("exclude") for n in (1, 2, 3)]
    assert excluded == [None, "node1", None]  # with both, SLURM refuses
    assert text.count("no more jobs of this run go there") == 2


@pytest.mark.parametrize(
    ("exit_code", "line", "says"),
    [
        (
            "0:9",
            "slurmstepd: error: Exceeded job memory limit",
            "on node1, exit code 0:9 (SIGKILL), log: Exceed",
        ),
        ("1:0", "Command x died with <Signals.SIGSEGV: 11>", "on node1, a process died with SIGSE"),
    ],
)
def test_how_slurm_ended_a_job_stands_in_its_status(cluster, exit_code, line, says):
    """Its own status ends with its start; the accounting knows of its end later than squeue."""
    cluster.answer("sacct", [0, "", False])
    job = f"""here="$FAKE_SLURM/$SLURM_JOB_ID"
echo "{line}" >> .snakemake/slurm_logs/volume/$SLURM_JOB_ID.log
printf {exit_code} > "$here.exit"; echo FAILED > "$here.state"; sleep 1000"""
    status, text = cluster.run("a", job=job)
    assert status == 1
    assert status_of(cluster, "a")["state"] == "running"
    assert says in status_of(cluster, "a")["error"]
    assert says in text


@pytest.mark.parametrize("line", ["Command x died with <Signals.SIGKILL: 9>", "oom_kill event"])
def test_a_node_where_a_job_is_killed_before_it_begins_gets_more_jobs(cluster, line):
    job = f"""here="$FAKE_SLURM/$SLURM_JOB_ID"; rm logs/status/volume/$SCAN.json
echo "{line}" >> .snakemake/slurm_logs/volume/$SLURM_JOB_ID.log
case "{line}" in oom*) printf 0:9 > "$here.exit";; esac; echo FAILED > "$here.state"; sleep 1000"""
    status, text = cluster.run("a", job=job, options=("--retries", "1"))
    assert status == 1
    assert "SIGKILL" in text
    assert "no more jobs of this run" not in text
    assert [cluster.options(n).get("exclude") for n in (1, 2)] == [None, None]


def interrupt(process: subprocess.Popen) -> None:
    """Press Ctrl-C; again if Python's main thread slept on, as it does where another took it."""
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=60)
            return
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("still at work")


def test_a_run_that_is_interrupted_cancels_its_own_submissions_alone(cluster):
    """One that sbatch gave no number of is cancelled by the name of the run, as the real user."""
    cluster.environment["LOGNAME"] = "somebody"  # as su leaves it
    cluster.answer("sbatch", *2 * [[0, "", True]], [1, NO_ANSWER, True])
    cluster.answer("squeue", *200 * [[1, "Unable to contact slurm controller", False]])
    options = ("--tomopipe-submissions", "3")
    process = cluster.start(*"abcdefghijklm", job="sleep 1000", options=options)
    until(lambda: (cluster.slurm / "3.pid").exists() and cluster.calls("squeue"))
    interrupt(process)
    assert process.returncode == 1
    numbers, (name, user) = cluster.calls("scancel")
    assert sorted(numbers) == ["1", "2"]
    assert name == f"--name={cluster.options(3)['job-name']}"
    assert user == f"--user={os.getuid()}"
    assert cluster.n_submissions == 3  # the others waited for a place
    states = {(cluster.slurm / f"{n}.state").read_text() for n in (1, 2)}
    assert states == {"CANCELLED by 1000"}


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
