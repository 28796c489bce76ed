"""What relies on the insides of Snakemake and of its SLURM plugin."""

import asyncio
import sys
import types

import pytest
from snakemake.io import flag
from snakemake.jobs import Job
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.script import PythonScript

from tomopipe.campaign import log
from tomopipe.campaign.slurm import NOT_CANCELLED, cancel
from tomopipe.errors import RunEndedError
from tomopipe.run.snakemake_internals import (
    MOST_READY,
    fork_scripts,
    no_job_fits,
    other_executor,
    remove_only_in_run,
    schedule_greedily,
    spare_what_no_rule_uses,
    start_without_timers,
    try_no_more,
)
from tomopipe.storage import run_folder as runs
from tomopipe.storage.atomic import take_away


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


@pytest.mark.parametrize("is_final", [True, False])
def test_a_job_that_failed_on_its_data_is_not_tried_again(monkeypatch, is_final):
    monkeypatch.setattr(
        JobScheduler,
        "_handle_error",
        lambda _, job, *__: again.append(job.restart_times > job.attempt - 1),
    )
    again = []
    try_no_more(lambda job: is_final)
    job = types.SimpleNamespace(restart_times=2, attempt=1, is_group=lambda: False)
    JobScheduler._handle_error(None, job)
    assert again == [not is_final]


@pytest.mark.parametrize(
    ("executor", "is_refused"), [("slurm", True), ("tomopipe", False), ("local", False)]
)
def test_the_other_executor_for_slurm_is_refused(executor, is_refused):
    workflow = types.SimpleNamespace(executor_plugin=types.SimpleNamespace(name=executor))
    assert bool(other_executor(workflow)) == is_refused


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
