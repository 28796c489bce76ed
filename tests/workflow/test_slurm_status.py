"""Status and report of a campaign that a real SLURM works on."""

import json
import os
import signal
import subprocess

import pytest

from tests import warm
from tests.waiting import ended, until
from tests.workflow.conftest import HOME, command, failing, new_campaign
from tests.workflow.test_slurm import cluster, init  # noqa: F401
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.status import read_status

pytestmark = pytest.mark.slurm
SLOW = "time.sleep(40)"


@pytest.fixture
def run(tmp_path, cluster):  # noqa: F811
    """Start Snakemake on a campaign whose volumes take long; it ends with the test."""
    campaign = new_campaign(tmp_path / "my campaign", {"a_1": 48.0, "a_2": 48.5})
    init(campaign, cluster, apart=True)
    environment = os.environ | cluster | failing(tmp_path, "full_recon", "a_1", SLOW)
    call = command(campaign, "--profile", "slurm", "--retries", "0", python=warm.python())
    with open(tmp_path / "run.log", "w") as log:
        process = subprocess.Popen(call, env=environment, cwd=HOME, stdout=log, stderr=log)

    yield campaign
    process.send_signal(signal.SIGINT)  # jobs are cancelled at once
    process.wait(60)


@pytest.fixture
def full_cluster():
    """Jobs that hold every node; call it to end them."""
    nodes = subprocess.run(["sinfo", "-h", "-p", "cpu", "-o", "%D"], capture_output=True, text=True)  # noqa: PLW1510
    sbatch = ["sbatch", "--parsable", "--exclusive", "--output=/dev/null", "--wrap", "sleep 600"]
    numbers = [
        subprocess.run(sbatch, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(int(nodes.stdout))
    ]

    def end():
        subprocess.run(["scancel", *numbers], check=False)

    yield end
    end()


def test_running_and_cancelled_jobs(full_cluster, run):
    def status():
        return read_status(load_campaign(run))

    def volumes(*states):
        return [job for job in status().with_state(*states) if job.step == "full_recon"]

    until((run / "results" / "inventory.tsv").exists)  # until then no scan is known
    full_cluster()
    running = until(lambda: [job for job in volumes("running") if job.key == "a_1"])
    assert running[0].slurm_job
    subprocess.run(["scancel", running[0].slurm_job], check=True)
    # long before three minutes without a heartbeat have passed
    # "failed" if the other volume is done, so that the run ends at once
    (lost,) = until(lambda: volumes("lost", "failed"), seconds=100)
    assert lost.key == "a_1"
    assert f"SLURM job {lost.slurm_job}: CANCELLED" in lost.error
    until(lambda: {job.key for job in volumes("done")} == {"a_2"})
    _, shown = ended(warm.python(), "-m", "tomopipe", "status", run, "--json")
    states = {(job["step"], job["key"]): job["state"] for job in json.loads(shown)["jobs"]}
    assert states["full_recon", "a_1"] in ("lost", "failed")  # failed once the run has ended
