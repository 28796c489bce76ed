"""What shares a submission, and what a submission asks for."""

import re
import types
from pathlib import Path

import pytest

from snakemake_executor_plugin_tomopipe import ExecutorSettings
from snakemake_executor_plugin_tomopipe.batches import batch_cores, pack
from snakemake_executor_plugin_tomopipe.queue import is_temporary
from tomopipe.campaign.slurm import call, node_mb, sinfo, unknown_names

SETTINGS = ExecutorSettings()


def job(rule="volume", attempt=1, threads=1, jobs=(), **resources):
    """As much of a job, or of a group of jobs, as packing needs."""
    asked = {"mem_mb": 400, "runtime": 20, "batch": 20, "cpu_ms": 2000} | resources
    return types.SimpleNamespace(
        rule=types.SimpleNamespace(name=rule),
        attempt=attempt,
        threads=threads,
        resources=asked,
        is_group=lambda: bool(jobs),
        toposorted=[[member] for member in jobs],
    )


def sizes(jobs):
    return [len(batch.jobs) for batch in pack(jobs, SETTINGS, 4)]


def test_no_batch_holds_more_than_its_rule_says_or_computes_too_long():
    assert sizes(job() for _ in range(45)) == [20, 20, 5]
    assert sizes(job(batch=10) for _ in range(15)) == [10, 5]
    assert sizes(job(gpu=1, batch=10) for _ in range(3)) == [3]
    assert sizes(job(gpu=1, batch=1) for _ in range(3)) == [1, 1, 1]  # set-resources
    assert sizes(job(cpu_ms=100_000) for _ in range(6)) == [4, 2]
    assert sizes([job(), job(cpu_ms=10**9), job(), job()]) == [1, 1, 2]
    assert sizes([job(batch=None), job(batch=None)]) == [1, 1]  # a rule of the user's


def test_other_rules_and_places_and_what_must_be_alone_have_batches_of_their_own():
    assert sizes([job(), job("stack"), job(), job("stack")]) == [2, 2]
    assert sizes([job(slurm_partition="a"), job(slurm_partition="b")]) == [1, 1]
    assert sizes([job(qos="a"), job(slurm_qos="a"), job(slurm_extra="--x")]) == [2, 1]
    assert sizes([job(gpu=1), job(gpu=0), job(gpu=1)]) == [2, 1]
    assert sizes([job(attempt=2), job(attempt=2)]) == [1, 1]


@pytest.mark.parametrize(
    ("threads", "cpu_ms", "cores", "mem_mb", "runtime"),
    [(1, 100, 2, 800, 200), (1, 400, 3, 1200, 140), (1, 900, 4, 1600, 100), (3, 9, 3, 400, 400)],
)
def test_a_submission_asks_for_the_cores_that_its_jobs_keep_busy(
    threads, cpu_ms, cores, mem_mb, runtime
):
    (batch,) = pack([job(threads=threads, cpu_ms=cpu_ms) for _ in range(20)], SETTINGS, 4)
    assert (batch.cores, batch.mem_mb, batch.runtime_min) == (cores, mem_mb, runtime)


def test_small_jobs_that_follow_each_other_ask_for_their_own_time_not_ten_minutes_each():
    def minutes(**resources):
        (batch,) = pack([job(cpu_ms=100, **resources) for _ in range(20)], SETTINGS, 2)
        return batch.cores, batch.runtime_min

    assert minutes(runtime=10, wall_s=9) == (2, 10)
    assert minutes(runtime=10, wall_s=90) == (2, 15)  # ten after another
    assert minutes(runtime=20, wall_s=90) == (2, 200)  # as a user's profile says
    assert minutes(runtime=2, wall_s=9) == (2, 2)


@pytest.mark.parametrize("gpu", [{"gpu": 1}, {"gres": "gpu:1"}])
def test_volumes_on_a_gpu_follow_each_other_with_the_memory_and_cores_of_one(gpu):
    jobs = [job(threads=16, runtime=10, wall_s=90, mem_mb=mb, **gpu) for mb in (400, 900, 400)]
    (batch,) = pack(jobs, SETTINGS, 4)
    assert (batch.cores, batch.mem_mb, batch.runtime_min) == (16, 900, 10)
    (batch,) = pack(jobs * 5, SETTINGS, 64)  # 15 volumes of 90 s
    assert (batch.cores, batch.mem_mb, batch.runtime_min) == (16, 900, 23)


def test_a_chain_takes_the_memory_of_its_largest_job_and_the_time_of_both():
    tried, predicted = job("try"), job("predict", mem_mb="<TBD>", runtime=10)
    (batch,) = pack([job(jobs=(tried, predicted))], SETTINGS, 4)
    assert (batch.mem_mb, batch.runtime_min, batch.rules) == (400, 30, "try+predict")


def test_a_submission_keeps_six_tenths_of_its_cores_busy():
    start_s = 3.0
    for cpu_s in (0.0, 1.0, 2.0, 8.0, 30.0, 1000.0):
        n_cores = batch_cores(cpu_s)
        shares = [(start_s + cpu_s) / (n * start_s + cpu_s) for n in (n_cores, n_cores + 1)]
        assert shares[0] >= 0.6 > shares[1]


@pytest.fixture
def say_sinfo(tmp_path, monkeypatch):
    """Let sinfo print these lines."""

    def say(*lines):
        said = "".join(f"echo '{line}'\n" for line in lines)
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\n{said}")
        (tmp_path / "sinfo").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        sinfo.cache_clear()

    yield say
    sinfo.cache_clear()


@pytest.mark.parametrize(
    ("limit", "asked"), [("1:30:00", 90), ("1-00:00:00", 500), ("infinite", 500)]
)
def test_no_submission_asks_for_more_time_than_its_partition_gives(say_sinfo, limit, asked):
    say_sinfo("q*|10:00", f"p|{limit}")
    (batch,) = pack([job(runtime=500, slurm_partition="p")], SETTINGS, 4)
    assert batch.runtime_min == asked


def test_no_submission_asks_for_more_memory_than_a_node_of_its_partition_has(say_sinfo):
    say_sinfo("q*|64000", "p|1000", "p|2000")
    (batch,) = pack([job(mem_mb=3000, slurm_partition="p")], SETTINGS, 4)
    assert batch.mem_mb == 2000
    assert [node_mb("p,q"), node_mb("p")] == [64000, 2000]


def test_a_submission_has_the_name_of_its_run_whatever_else_a_user_asks_for():
    (batch,) = pack([job(slurm_extra="-J mine --comment=mine")], SETTINGS, 4)
    batch.jobs = []
    assert batch.options("tomopipe-1", Path("logs/%j.log"), ".")[-2:] == [
        "--job-name=tomopipe-1",
        f"--comment={batch.mark} : ",
    ]


@pytest.mark.parametrize("extra", ["-x a,b", "-xa,b", "--exclude a,b", "--exclude=a -Q -x b"])
def test_nodes_that_a_user_excludes_stay_excluded_beside_ours(extra):
    (batch,) = pack([job(slurm_extra=extra)], SETTINGS, 4)
    batch.jobs = []
    options = batch.options("tomopipe-1", Path("logs/%j.log"), ".", {"d", "c"})
    assert options[-3] == "--exclude=a,b,c,d"  # of two the last counts


def test_the_partition_of_the_environment_counts_where_a_profile_names_none(say_sinfo, monkeypatch):
    say_sinfo("q*|10:00", "p|1:30:00")
    monkeypatch.setenv("SBATCH_PARTITION", "p")
    (batch,) = pack([job(runtime=500)], SETTINGS, 4)
    assert batch.runtime_min == 90


def test_slurm_gets_no_filter_of_the_user_and_nothing_of_the_job_around(monkeypatch):
    """As where SQUEUE_PARTITION hides jobs, or an salloc asked for memory by core."""
    ours = ("SLURM_CONF", "SBATCH_ACCOUNT", "SLURM_HINT")
    for name in (*ours, "SQUEUE_PARTITION", "SCANCEL_USER", "SINFO_PARTITION", "SACCT_FORMAT"):
        monkeypatch.setenv(name, "x")
    assert _variables() == {*ours}
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "50")
    assert _variables() == {"SLURM_CONF", "SBATCH_ACCOUNT"}


def _variables():
    lines = call(["env"], within_s=10).stdout.splitlines()
    names = {line.partition("=")[0] for line in lines}
    return {name for name in names if re.match("(S(LURM|BATCH|QUEUE|CANCEL|INFO|ACCT))_", name)}


def test_the_names_of_a_profile_are_checked_for_a_user_without_a_name(
    say_sinfo, tmp_path, monkeypatch
):
    say_sinfo("p|1:30:00")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987654)
    profile = tmp_path / "profile.yaml"
    profile.write_text("default-resources: {slurm_partition: q}\n")
    assert "SLURM has no partition q; it has p." in unknown_names(profile)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Socket timed out on send/recv operation", True),
        ("AssocGrpSubmitJobsLimit; Batch job submission failed: Job violates accounting/QOS", True),
        ("Job violates accounting/QOS policy (job submit limit, user's size ...)", True),
        ("QOSMaxCpuPerJobLimit; Job violates accounting/QOS policy (job submit limit", False),
        ("Invalid account or account/partition combination specified", False),
    ],
)
def test_only_refusals_that_pass_are_waited_for(text, expected):
    assert is_temporary(text) == expected


@pytest.mark.parametrize("key", ["qos", "reservation"])
def test_a_setting_of_the_executor_is_an_option_of_each_submission(key):
    (batch,) = pack([job()], ExecutorSettings(**{key: "night"}), 4)
    assert f"--{key}=night" in batch.places
