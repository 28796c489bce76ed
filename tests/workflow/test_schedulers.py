"""Other schedulers than SLURM: a submit command that starts the job script beside it."""

import pytest

from tests.workflow.conftest import new_campaign, plan, snakemake

SUBMIT = """#!/bin/sh
echo 'campaign: {{' > "{config}"
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
    run = snakemake(
        campaign,
        *("--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit)),
        *("--jobs", "2", "--latency-wait", "60", "--seconds-between-status-checks", "1"),
        *("--group-components", "try=2"),
    )
    assert run.status == 0, run.text
    made = {path.name for path in campaign.glob("results/*_rec.h5")}
    assert made == {f"{scan}_rec.h5" for scan in SCANS}
    assert len(list(campaign.glob("results/relion/stacks/*.mrcs"))) == len(SCANS)
    # sweeps and predictions in one, volumes, stacks
    assert len(submitted.read_text().splitlines()) == 1 + 2 + 2
    config.write_text(text)
    assert plan(campaign) == (0, frozenset())
