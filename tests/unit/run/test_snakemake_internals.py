"""What relies on the insides of Snakemake and of its SLURM plugin."""

import asyncio
import logging
import sys
import threading
import types

import pytest
from snakemake.io import flag
from snakemake.jobs import GroupJob, Job
from snakemake.logging import logger
from snakemake.resources import Resource, Resources
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.script import PythonScript

from tomopipe.campaign import log
from tomopipe.campaign.slurm import NOT_CANCELLED, await_controller, cancel, node_mb, sinfo
from tomopipe.errors import RunEndedError
from tomopipe.run.snakemake_internals import (
    MOST_READY,
    ask_for_cores_used,
    at_submission,
    batch_size,
    cancel_jobs,
    fork_scripts,
    keep_what_is_made,
    no_job_fits,
    not_begun,
    one_start_per_submission,
    remove_only_in_run,
    schedule_greedily,
    see_cancelled_jobs,
    spare_what_no_rule_uses,
    start_without_timers,
    too_old,
)
from tomopipe.storage import run_folder as runs
from tomopipe.storage.atomic import take_away

slurm = pytest.importorskip("snakemake_executor_plugin_slurm")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run that this process belongs to."""
    monkeypatch.chdir(tmp_path)
    folder = runs.begin(tmp_path / "results")
    monkeypatch.setenv(runs.VARIABLE, str(folder))
    return folder


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_result_goes_in_the_run_and_stays_after_it(tmp_path, run, is_folder):
    path = tmp_path / "results" / "a_rec"
    for ended in (False, True):
        file = path / "0.tif" if is_folder else path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a volume")
        if not ended:
            take_away(path)
            assert not path.exists()
            assert {entry.name for entry in run.iterdir()} == {"said", "run.json"}
    runs.end_all(tmp_path / "results")
    with pytest.raises(RunEndedError, match="the run of this job has ended"):
        take_away(path)
    assert file.read_text() == "a volume"


def test_snakemake_removes_results_that_way(tmp_path, run, monkeypatch):
    monkeypatch.setattr(Job, "remove_existing_output", Job.remove_existing_output)
    remove_only_in_run()
    path = tmp_path / "results" / "a_rec.h5"
    path.write_text("a volume of the newer run")
    runs.end_all(tmp_path / "results")

    class Made:
        output, log = [str(path)], []

    with pytest.raises(RunEndedError):
        asyncio.run(Job.remove_existing_output(Made()))
    assert path.exists()


@pytest.mark.parametrize(
    ("number", "restarts", "there", "kept"),
    [
        ("37", "1", True, True),
        ("38", "1", True, False),
        ("37", "", True, False),
        ("37", "1", False, False),
    ],
    ids=["again", "another job", "first time", "one is gone"],
)
def test_what_a_job_made_before_slurm_queued_it_again_is_kept(
    tmp_path, run, monkeypatch, number, restarts, there, kept
):
    def made_again(script, path, edit):
        asked.append(path)

    asked = []
    monkeypatch.setattr(PythonScript, "execute_script", made_again)
    monkeypatch.setattr(Job, "remove_existing_output", Job.remove_existing_output)
    monkeypatch.setattr("tomopipe.run.warm_start.is_worth_it", lambda step: False)
    fork_scripts(types.SimpleNamespace(current_basedir=Place(tmp_path / "rules")))
    remove_only_in_run()
    monkeypatch.setenv("SLURM_JOB_ID", "37")
    paths = [tmp_path / "results" / name for name in ("try.json", "try.tif")]
    with log.job(tmp_path / "logs" / "try_recon" / "a.log"):
        for path in paths:
            path.write_text("a sweep")
    if not there:
        paths[1].unlink()
    monkeypatch.setenv("SLURM_JOB_ID", number)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)

    class Made:
        output, log, params = list(map(str, paths)), ["logs/try_recon/a.log"], {}
        path = Place(tmp_path / "scripts" / "try_recon.py")
        container_img = conda_env = env_modules = bench_record = None

    made = Made()
    PythonScript.execute_script(made, "x.py")
    assert asked == ([] if kept else ["x.py"])
    made.log = [Log(path) for path in made.log]
    asyncio.run(Job.remove_existing_output(made))
    assert [path.exists() for path in paths] == [kept, kept]


class Place(str):
    """A path as Snakemake has it."""

    def get_path_or_uri(self, secret_free):
        return str(self)


class Log(str):
    """A log that Snakemake removes before a job."""

    async def remove(self, remove_non_empty_dir):
        pass


def test_the_status_of_a_newer_run_stays(tmp_path, run):
    file = tmp_path / "logs" / "full_recon" / "a.log"
    with pytest.raises(MemoryError), log.job(file):  # noqa: PT012
        runs.end_all(tmp_path / "results")
        log.status_path(file).write_text("of the newer run")
        raise MemoryError
    assert log.status_path(file).read_text() == "of the newer run"
    with pytest.raises(RunEndedError), log.job(file):
        pass
    assert log.status_path(file).read_text() == "of the newer run"


@pytest.mark.parametrize(
    ("threads", "used", "cores", "mem_mb"),
    [(1, 2, 2, 800), (1, 9, 4, 1600), (3, 2, 3, 400), (1, 1, 1, 400)],
)
def test_a_submission_asks_for_the_cores_that_its_jobs_use(
    monkeypatch, threads, used, cores, mem_mb
):
    monkeypatch.setattr(GroupJob, "resources", GroupJob.resources)
    ask_for_cores_used(lambda jobs: used if len(jobs) == 20 else 0)
    settings = types.SimpleNamespace(attempt=1)
    workflow = types.SimpleNamespace(local_exec=False, execution_settings=settings)
    dag = types.SimpleNamespace(workflow=workflow)
    asked = {"_cores": threads, "_nodes": 1, "mem_mb": 400, "runtime": 20}
    said = {"resources": asked, "threads": threads, "pipe_group": None, "dag": dag}
    jobs = [type("Job", (), said) for _ in range(20)]
    limits = Resources({"_cores": Resource("_cores", 4)})
    group = GroupJob("try1", frozenset(jobs), limits)
    group.toposorted = [jobs]
    n_layers = 20 // (4 // threads)
    for _ in range(2):
        assert group.threads == cores
        assert dict(group.resources)["mem_mb"] == mem_mb
        assert dict(group.resources)["runtime"] == 20 * n_layers
    assert limits["_cores"].value == 4


def test_the_plugin_sees_that_a_job_was_cancelled(monkeypatch):
    monkeypatch.setattr(slurm, "query_job_status", slurm.query_job_status)
    see_cancelled_jobs()
    said = "printf '12|CANCELLED by 1000\\n13|RUNNING\\n14|PREEMPTED\\n'"
    states, _ = asyncio.run(slurm.query_job_status(said, logging.getLogger()))
    assert states == {"12": "CANCELLED", "13": "RUNNING", "14": "CANCELLED"}
    assert asyncio.run(slurm.query_job_status("false", logging.getLogger())) == (None, None)


@pytest.mark.parametrize(("executor", "n_refused"), [("slurm", 1), ("local", 0), ("dryrun", 0)])
def test_a_plugin_too_old_stops_only_runs_on_slurm(monkeypatch, executor, n_refused):
    workflow = types.SimpleNamespace(executor_plugin=types.SimpleNamespace(name=executor))
    assert not too_old(workflow)
    monkeypatch.setitem(sys.modules, slurm.__name__, types.ModuleType(slurm.__name__))
    for change in (see_cancelled_jobs, one_start_per_submission, lambda: at_submission({})):
        change()  # finds nothing to change
    found = too_old(workflow)
    assert found.count("too old: pip install 'snakemake-executor-plugin-slurm>=2.5'") == n_refused


@pytest.mark.parametrize(
    ("local", "nodes", "cores", "refused"),
    [
        (True, None, 2, ""),
        (True, None, 0, "--cores 0"),
        (True, 0, 2, ""),  # of a run on this machine Snakemake heeds the cores
        (False, 100, None, ""),
        (False, 0, None, "--jobs 0"),
        (False, None, None, ""),
    ],
)
def test_a_limit_with_which_no_job_can_run_is_refused(local, nodes, cores, refused):
    workflow = types.SimpleNamespace(local_exec=local, nodes=nodes, _cores=cores)
    assert no_job_fits(workflow).partition(":")[0] == refused


@pytest.fixture(autouse=True)
def _other_sinfo():
    yield
    sinfo.cache_clear()


def say(tool, folder, monkeypatch, *lines):
    said = "".join(f"echo '{line}'\n" for line in lines)
    (folder / tool).write_text(f"#!/bin/sh\n{said}")
    (folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def say_sinfo(folder, monkeypatch, *lines):
    say("sinfo", folder, monkeypatch, *lines)
    say("scontrol", folder, monkeypatch, "UP")
    sinfo.cache_clear()


@pytest.mark.parametrize(
    ("state", "has_log", "says"),
    [
        ("FAILED", False, "node1 cannot write {folder}: it must be there"),
        ("FAILED", True, "no luck; see .snakemake/slurm_logs/12.log"),
        ("CANCELLED", False, "no luck"),
    ],
)
def test_a_node_that_does_not_see_the_campaign_is_named(
    tmp_path, monkeypatch, state, has_log, says
):
    monkeypatch.chdir(tmp_path)
    said = []
    monkeypatch.setattr(logger, "error", said.append)
    monkeypatch.setattr(JobScheduler, "_handle_error", JobScheduler._handle_error)
    for kind in (Job, GroupJob):
        monkeypatch.setattr(kind, "log_error", lambda *_, **__: None)
    keep_what_is_made(*[lambda job: False] * 3)
    say("squeue", tmp_path, monkeypatch, f"{state}|node1")
    log = tmp_path / ".snakemake" / "slurm_logs" / "12.log"
    if has_log:
        log.parent.mkdir(parents=True)
        log.write_text("Traceback")
    job = failed_job("a_1")
    msg = "no luck\nsbatch call:\n    sbatch --parsable -p cpu"
    GroupJob.log_error(types.SimpleNamespace(jobs=[job]), msg=msg, aux_logs=[str(log)])
    Job.log_error(job, "no luck", aux_logs=[str(log)])
    assert len(said) == 2
    for line in said:
        says = says.format(folder=tmp_path)
        assert line.startswith(f"a submission of full_recon failed: {says}")
        assert "sbatch" not in line


def failed_job(scan, step="full_recon", number=1):
    rule, log = types.SimpleNamespace(name=step), [f"logs/{step}/{scan}.log"]
    return type("Job", (), {"rule": rule, "jobid": number, "log": log})


REFUSED = """SLURM sbatch failed. The error message was 'sbatch: error: invalid partition: x
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    sbatch call:
        sbatch --parsable --comment 'x' -p x
For further error details see the cluster/cloud log and the log files of the involved rule(s)."""
CANCELLED = """SLURM-job '12' failed, SLURM status is: 'CANCELLED'. Reason: Unknown.For further
error details see the cluster/cloud log and the log files of the involved rule(s)."""


@pytest.mark.parametrize(
    ("msg", "said"),
    [
        (
            REFUSED,
            "sbatch: error: invalid partition: x; Batch job submission failed: Invalid partition "
            "name specified",
        ),
        (CANCELLED, "SLURM job 12: CANCELLED"),
        ("it's full.For further error details see the cluster/cloud log", "it's full."),
        (None, "it ended before it began; see .snakemake/x.log"),
    ],
)
def test_what_is_said_of_a_submission_is_known_at_the_end_of_a_run(
    tmp_path, run, monkeypatch, msg, said
):
    monkeypatch.setattr(JobScheduler, "_handle_error", JobScheduler._handle_error)
    for kind in (Job, GroupJob):
        monkeypatch.setattr(kind, "log_error", lambda *_, **__: None)
    keep_what_is_made(*[lambda job: False] * 3)
    volume, tried = failed_job("a_1"), failed_job("a_2", "try_recon", 2)
    follows, done = failed_job("a_2", "predict_cor", 3), failed_job("a_3", number=4)
    Job.log_error(volume, msg, external_jobid="12")
    group = type("Group", (), {"jobs": [tried, follows]})
    GroupJob.log_error(group, msg, external_jobid="12")
    needs = {volume: {done: set()}, tried: {}, follows: {tried: set()}}
    workflow = types.SimpleNamespace(
        scheduler=types.SimpleNamespace(failed={volume, group}),
        dag=types.SimpleNamespace(dependencies=needs),
        logger_manager=types.SimpleNamespace(get_logfile=lambda: [tmp_path / ".snakemake/x.log"]),
    )
    with log.job(volume.log[0]):
        pass
    runs.end_all(tmp_path / "results")
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(tmp_path / "results")))  # the next one
    begun = failed_job("a_4", number=5)
    with log.job(begun.log[0]):
        pass
    workflow.scheduler.failed.add(begun)
    needs[begun] = {}
    found = {"error": said, "slurm_job": "12"}
    assert sorted(not_begun(workflow)) == [
        ("logs/full_recon/a_1.log", found),
        ("logs/try_recon/a_2.log", found),  # not what only follows on it
    ]


@pytest.mark.parametrize(
    ("made", "final", "killed", "tried_again"),
    [
        # nobody had begun; a had, with b; c failed by itself
        ("", "", "", ["abc"]),
        ("", "", "a", ["a", "bc"]),
        ("", "", "ab", ["a", "b", "c"]),
        ("a", "", "b", ["b", "c"]),
        ("a", "", "", ["bc"]),
        ("a", "b", "c", ["c"]),
    ],
)
def test_what_was_at_work_when_a_submission_was_killed_is_tried_again_alone(
    monkeypatch, made, final, killed, tried_again
):
    async def nothing(*_, **__):
        pass

    monkeypatch.setattr(JobScheduler, "_handle_error", lambda _, job, *__: ready.add(job))
    keep_what_is_made(
        lambda job: job.scan in made,
        lambda job: job.scan in final,
        lambda job: job.scan in killed and job.step == "try",
    )
    ready = set()
    workflow = types.SimpleNamespace(
        async_run=asyncio.run,
        execution_settings=types.SimpleNamespace(attempt=1),
    )
    dag = types.SimpleNamespace(
        workflow=workflow,
        dependencies={},
        _group={},
        _ready_jobs=ready,
        _running=set(),
        finish=nothing,
        toposorted=lambda jobs, **_: [[j for j in members if j in jobs] for members in steps],
    )
    said = {"dag": dag, "restart_times": 2, "jobid": 1, "rule": types.SimpleNamespace(name="x")}
    steps = [
        [type("Job", (), said | {"scan": scan, "step": step}) for scan in "abc"]
        for step in ("try", "predict")
    ]
    for before, after in zip(*steps, strict=True):
        dag.dependencies |= {before: {}, after: {before: set()}}
    group = GroupJob("try1", frozenset([*steps[0], *steps[1]]), Resources({}))
    group.finalize()
    monkeypatch.setattr(GroupJob, "postprocess", nothing)
    scheduler = types.SimpleNamespace(
        workflow=types.SimpleNamespace(async_run=asyncio.run, dag=dag),
        get_executor=lambda _: types.SimpleNamespace(handle_job_error=lambda _: None),
        running={group},
        failed=set(),
        finished_jobs=0,
        _free_resources=lambda _: None,
    )
    JobScheduler._handle_error(scheduler, group)
    assert sorted("".join(sorted({job.scan for job in part.jobs})) for part in ready) == tried_again
    assert {len(part.jobs) / len({job.scan for job in part.jobs}) for part in ready} == {2}
    assert {job.scan for job in scheduler.failed} == set(final)
    if len(tried_again) > 1:
        assert {part.attempt for part in ready} == {2}
        assert all(dag._group[job] is part for part in ready for job in part.jobs)


def refuse(folder, monkeypatch, *lines):
    """Have scancel note its arguments, and say why it does not do it."""
    said = "".join(f"echo 'scancel: error: {line}' >&2\n" for line in lines)
    script = f'#!/bin/sh\necho "$@" >> {folder}/asked\n{said}exit {int(bool(lines))}\n'
    (folder / "scancel").write_text(script)
    (folder / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


AWAY, ENDED = "Unable to contact slurm controller", "Invalid job id specified"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ([], ""),
        (["Kill job error on job id 41: " + AWAY], "40 41 42"),
        (["Kill job error on job id 41: " + ENDED], "40 42"),
        ([f"Kill job error on job id {n}: {ENDED}" for n in (40, 41, 42)], ""),
    ],
    ids=["cancelled", "away", "one has ended", "all have ended"],
)
def test_jobs_that_could_not_be_cancelled_are_named(tmp_path, monkeypatch, said, left):
    refuse(tmp_path, monkeypatch, *said)
    found = cancel(["40", "41", "42"])
    assert (tmp_path / "asked").read_text() == "40 41 42\n"
    assert found.rpartition(": scancel ")[2] == left
    assert found.startswith(NOT_CANCELLED) == bool(left)


def test_a_job_that_failed_is_cancelled_before_it_is_tried_again(tmp_path, monkeypatch, capsys):
    """After a node failure SLURM has queued it again."""
    for name in ("cancel_jobs", "report_job_error"):
        monkeypatch.setattr(slurm.Executor, name, getattr(slurm.Executor, name))
    asked, again = tmp_path / "asked", []
    monkeypatch.setattr(
        slurm.Executor, "report_job_error", lambda *_, msg: again.append((asked.read_text(), msg))
    )
    cancel_jobs()
    refuse(tmp_path, monkeypatch)
    executor = types.SimpleNamespace(_submitted_job_clusters=set())
    executor.cancel_jobs = lambda jobs: slurm.Executor.cancel_jobs(executor, jobs)
    job, unknown = (types.SimpleNamespace(external_jobid=number) for number in ("37", None))
    slurm.Executor.report_job_error(executor, job, msg="NODE_FAIL")
    assert again == [("37\n", "NODE_FAIL")]
    slurm.Executor.report_job_error(executor, unknown, msg="not submitted")
    assert again[1:] == [("37\n", "not submitted")]
    assert capsys.readouterr().err == ""
    refuse(tmp_path, monkeypatch, AWAY)
    executor._submitted_job_clusters = {"a"}
    slurm.Executor.cancel_jobs(executor, [job, unknown])
    assert asked.read_text() == "37\n--clusters=all 37\n"
    assert capsys.readouterr().err.startswith(f"tomopipe: {NOT_CANCELLED}: ")


def test_jobs_whose_states_are_just_asked_for_are_cancelled_too(tmp_path, monkeypatch):
    """The plugin takes them off its list meanwhile."""
    for name in ("cancel", "cancel_jobs", "check_active_jobs"):
        monkeypatch.setattr(slurm.Executor, name, getattr(slurm.Executor, name))
    monkeypatch.setattr(slurm.Executor, "shutdown", lambda _: None)
    first, second, ended = (types.SimpleNamespace(external_jobid=n) for n in ("37", "38", "36"))

    async def ask(executor, jobs):
        executor.active_jobs.append(second)  # submitted meanwhile
        executor.cancel()
        for job in jobs[1:]:
            yield job

    monkeypatch.setattr(slurm.Executor, "check_active_jobs", ask)
    cancel_jobs()
    refuse(tmp_path, monkeypatch)
    executor = object.__new__(slurm.Executor)
    executor.lock, executor.wait, executor.active_jobs = threading.Lock(), True, [ended, first]
    executor._submitted_job_clusters = set()
    settings = types.SimpleNamespace(init_seconds_before_status_checks=0)
    executor.workflow = types.SimpleNamespace(
        executor_plugin=types.SimpleNamespace(common_settings=settings)
    )

    async def end():
        executor.wait = False

    executor.sleep = end
    asyncio.run(executor._wait_for_jobs())
    assert sorted((tmp_path / "asked").read_text().split()) == ["36", "37", "38"]


class Batch:
    """As much of a group job as the plugin's arguments need."""

    threads, attempt, jobs = 4, 1, ()
    resources = types.SimpleNamespace(runtime=500, get={"mem_mb": 3000, "slurm_partition": "p"}.get)


def test_the_snakemake_of_a_submission_runs_its_jobs_itself(monkeypatch):
    plain = lambda executor, job: "--target-jobs a:scan=1 --cores all"  # noqa: E731
    monkeypatch.setattr(slurm.Executor, "get_job_args", plain)
    monkeypatch.setattr(
        slurm.Executor, "additional_general_args", slurm.Executor.additional_general_args
    )
    one_start_per_submission()
    arguments = slurm.Executor.get_job_args(None, Batch())
    assert arguments.endswith("--cores all --cores 4 --resources mem_mb=3000")
    assert slurm.Executor.additional_general_args(None) == "--keep-going"


@pytest.mark.parametrize(
    ("limit", "asked"), [("1:30:00", 90), ("1-00:00:00", 500), ("infinite", 500)]
)
def test_no_submission_asks_for_more_time_than_its_partition_gives(
    tmp_path, monkeypatch, limit, asked
):
    say_sinfo(tmp_path, monkeypatch, "q*|10:00", f"p|{limit}")
    plain = lambda job, params, **_: f"sbatch -p p -t {job.resources.runtime} --mem 3000"  # noqa: E731
    monkeypatch.setattr(slurm, "get_submit_command", plain)
    at_submission({})
    assert slurm.get_submit_command(Batch(), {}) == f"sbatch -p p -t {asked} --mem 3000"


def test_a_submission_waits_for_a_controller_that_is_down(tmp_path, monkeypatch):
    """Not where one of two is down, where SLURM does not say, nor longer than it is told."""
    said = []
    log = tmp_path / "asked"
    script = f"#!/bin/sh\necho . >> {log}\n[ $(wc -l < {log}) -lt 3 ] && echo DOWN || echo UP\n"
    say("scontrol", tmp_path, monkeypatch, "")
    (tmp_path / "scontrol").write_text(script)
    await_controller(said.append, look_s=0.01)
    assert log.read_text().split() == [".", ".", "."]
    assert said == ["SLURM's controller is down: waiting for it up to 10 min"]
    say("scontrol", tmp_path, monkeypatch, "DOWN")
    await_controller(said.append, within_s=0.1, look_s=0.01)
    assert len(said) == 2
    for lines in (["primary is UP", "backup is DOWN"], ["who knows"]):
        say("scontrol", tmp_path, monkeypatch, *lines)
        await_controller(said.append, within_s=60, look_s=60)
    assert len(said) == 2


def test_no_submission_asks_for_more_memory_than_a_node_of_its_partition_has(tmp_path, monkeypatch):
    say_sinfo(tmp_path, monkeypatch, "q*|64000", "p|1000", "p|2000")
    plain = lambda job, params, **_: "sbatch -p p -t 500 --mem 3000"  # noqa: E731
    monkeypatch.setattr(slurm, "get_submit_command", plain)
    at_submission({})
    assert slurm.get_submit_command(Batch(), {}) == "sbatch -p p -t 500 --mem 2000"
    assert [node_mb("p,q"), node_mb("p")] == [64000, 2000]
    plain = lambda executor, job: "--target-jobs a:scan=1 --cores all"  # noqa: E731
    monkeypatch.setattr(slurm.Executor, "get_job_args", plain)
    monkeypatch.setattr(
        slurm.Executor, "additional_general_args", slurm.Executor.additional_general_args
    )
    one_start_per_submission()
    # its Snakemake then runs fewer of its jobs at a time
    assert slurm.Executor.get_job_args(None, Batch()).endswith(" --resources mem_mb=2000")


def test_no_submission_excludes_the_node_that_a_requeued_job_does_not_have_yet(
    tmp_path, monkeypatch
):
    say_sinfo(tmp_path, monkeypatch, "p|infinite")
    plain = lambda job, params, failed_nodes: f"sbatch --exclude={','.join(failed_nodes)}"  # noqa: E731
    monkeypatch.setattr(slurm, "get_submit_command", plain)
    at_submission({})
    call = slurm.get_submit_command(Batch(), {}, failed_nodes={"node1", "None assigned"})
    assert call == "sbatch --exclude=node1"


@pytest.mark.parametrize(
    ("output", "conda_env", "is_searched", "has_spec"),
    [
        ("a.h5", None, False, False),
        (flag("a.h5", "pipe"), None, True, False),
        ("a.h5", "env.yaml", False, True),
    ],
)
def test_what_no_rule_uses_is_not_looked_for(monkeypatch, output, conda_env, is_searched, has_spec):
    """Nothing of it is lost for rules of others, in whose workflow tomopipe may be a module."""
    plain = {name: Job.__dict__[name] for name in ("is_pipe_or_service_input", "conda_env_spec")}
    for name, kept in plain.items():
        monkeypatch.setattr(Job, name, kept)  # and so it is again after the test
    rules = [types.SimpleNamespace(output=[output], conda_env=conda_env)]
    spare_what_no_rule_uses(types.SimpleNamespace(rules=rules))
    found = [Job.__dict__[name] is kept for name, kept in plain.items()]
    assert found == [is_searched, has_spec]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [([], "greedy"), (["--scheduler", "ilp"], "ilp"), (["--scheduler=ilp"], "ilp")],
)
def test_jobs_are_chosen_by_the_greedy_scheduler_unless_another_was_asked_for(
    monkeypatch, arguments, chosen
):
    monkeypatch.setattr(sys, "argv", ["snakemake", *arguments])
    scheduler = types.SimpleNamespace(
        _job_selector="ilp", job_selector_greedy="greedy", subsample=None
    )
    settings = types.SimpleNamespace(scheduler="ilp")
    schedule_greedily(types.SimpleNamespace(scheduler=scheduler, scheduling_settings=settings))
    assert (scheduler._job_selector, settings.scheduler) == (chosen, chosen)
    assert scheduler.subsample == MOST_READY
    scheduler.subsample = 7  # --scheduler-subsample 7
    schedule_greedily(types.SimpleNamespace(scheduler=scheduler, scheduling_settings=settings))
    assert scheduler.subsample == 7


@pytest.mark.parametrize(
    ("limit", "kept"), [((100, 1), None), ((100, 60), "timers"), ((7, 1), "timers")]
)
def test_only_the_default_limit_of_starts_is_lifted(limit, kept):
    scheduler = types.SimpleNamespace(job_rate_limiter="timers")
    limit = types.SimpleNamespace(max_jobs=limit[0], timespan=limit[1])
    settings = types.SimpleNamespace(max_jobs_per_timespan=limit)
    workflow = types.SimpleNamespace(scheduler=scheduler, scheduling_settings=settings)
    start_without_timers(workflow)
    assert scheduler.job_rate_limiter == kept
    settings.max_jobs_per_timespan = None
    start_without_timers(workflow)


def test_groups_of_others_keep_their_sizes():
    sizes = {"align2": 5, "try": 20}
    workflow = types.SimpleNamespace(group_settings=types.SimpleNamespace(group_components=sizes))
    found = {name: batch_size(workflow, name) for name in ("align2", "align3", "try", "try12")}
    assert found == {"align2": 5, "align3": 1, "try": 20, "try12": 20}
