"""What relies on the insides of Snakemake and of its SLURM plugin."""

import asyncio
import logging

import pytest
from snakemake.jobs import Job

from tomopipe.campaign import log
from tomopipe.errors import RunEndedError
from tomopipe.run.snakemake_internals import remove_only_in_run, see_cancelled_jobs
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
            assert {one.name for one in run.iterdir()} == {"said", "run.json"}
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


def test_the_plugin_sees_that_a_job_was_cancelled(monkeypatch):
    monkeypatch.setattr(slurm, "query_job_status", slurm.query_job_status)
    see_cancelled_jobs()
    said = "printf '12|CANCELLED by 1000\\n13|RUNNING\\n'"
    states, _ = asyncio.run(slurm.query_job_status(said, logging.getLogger()))
    assert states == {"12": "CANCELLED", "13": "RUNNING"}
    assert asyncio.run(slurm.query_job_status("false", logging.getLogger())) == (None, None)
