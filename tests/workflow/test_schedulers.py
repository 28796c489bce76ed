"""Jobs on nodes: without a run, and by other schedulers than SLURM."""

from pathlib import Path

import pytest

from tests.workflow.conftest import configure, new_campaign, plan, snakemake, succeeds
from tomopipe.storage import run_folder

SUBMIT = """#!/bin/sh
echo 'full_recon: {{binning: wrong}}' > "{config}"
echo "$1" >> "{submitted}"
sh "$1" > /dev/null 2>&1 &
echo $!
"""
SCANS = {"a_1": 48.0, "a_2": 48.5}


def test_cluster_generic_runs_a_campaign_in_groups(tmp_path):
    """The call of docs/how-to/cluster.md; the file of --configfile is edited, badly, meanwhile."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    campaign = new_campaign(tmp_path / "campaign", SCANS)
    submit, submitted = tmp_path / "mysubmit", tmp_path / "submitted"
    config = campaign / "config.yaml"
    text = config.read_text()
    submit.write_text(SUBMIT.format(submitted=submitted, config=config))
    submit.chmod(0o755)
    succeeds(
        campaign,
        *("--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit)),
        *("--jobs", "2", "--latency-wait", "60", "--seconds-between-status-checks", "1"),
        *("--group-components", "try=2"),
    )
    made = {path.name for path in campaign.glob("results/*_rec.h5")}
    assert made == {f"{scan}_rec.h5" for scan in SCANS}
    assert len(list(campaign.glob("results/relion/stacks/*.mrcs"))) == len(SCANS)
    # sweeps and predictions in one, volumes, stacks
    assert len(submitted.read_text().splitlines()) == 1 + 2 + 2
    config.write_text(text)
    assert plan(campaign) == (0, frozenset())


def files(campaign: Path) -> dict[Path, tuple[int, int]]:
    """List all files but Snakemake's own, with their times and sizes."""
    own = (campaign / ".snakemake", campaign / "snakemake.out")
    paths = [path for path in campaign.rglob("*") if not set(own) & {path, *path.parents}]
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths}


@pytest.mark.parametrize("run", ["", "results/.runs/20260101-000000-0", "results/made"])
def test_a_job_without_the_id_of_a_run_says_so_and_touches_nothing(campaign, run):
    """A site that passes no environment, a run that has ended, a folder that is no run."""
    configure(campaign, "full_recon", binning=2)  # settling would withdraw receipts
    before = files(campaign)
    job = snakemake(
        campaign,
        *("--target-jobs", "full_recon:scan=a_1", "--allowed-rules", "full_recon", "--force"),
        *("--nolock", "--no-hooks", "--mode", "remote"),
        environment={run_folder.VARIABLE: run},
    )
    assert job.status == 1
    said = job.text.strip().splitlines()
    assert len(said) == 1, job.text
    assert said[0].startswith("tomopipe: ")
    assert "no run of the campaign" in said[0] or "the run of this job has ended" in said[0]
    assert files(campaign) == before
