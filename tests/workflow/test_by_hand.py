"""What people do by hand between runs: edit results, do without prediction, share a campaign."""

import json
import os
import stat

import h5py
from typer.testing import CliRunner

from tests.workflow.conftest import configure, new_campaign, plan, snakemake, table
from tests.workflow.test_reruns import TAIL, changed, expect
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.failures import forget
from tomopipe.cli import cli
from tomopipe.cor.outliers import EDITED, EMPTIED, NOT_ASKED
from tomopipe.report.collected_records import collect


def sidecar(campaign, scan):
    """Return what it states, but for the folder of the campaign, which was copied."""
    found = json.loads((campaign / "raw" / f"{scan}.cor.json").read_text())
    del found["campaign"]
    return found


def center_of(campaign, scan):
    return campaign / "results" / "try_center" / scan / "center_of_rotation.txt"


def record(campaign, scan):
    found = collect(load_campaign(campaign))
    return next(scan_record for scan_record in found.scans if scan_record.name == scan), found


def test_a_cor_edited_in_its_file_is_manual_everywhere(campaign):
    # so that the mean of its neighbours is not the COR of a_2
    table(campaign, "a_3\tauto\t51.00\t")
    assert snakemake(campaign).status == 0
    before = sidecar(campaign, "a_2")
    found = center_of(campaign, "a_2").read_text()
    jobs = {"fix_cor:a", "resolve_cor", *changed("a_2"), *TAIL}
    center_of(campaign, "a_2").write_text("50.25\n")
    expect(campaign, jobs)
    written = sidecar(campaign, "a_2")
    assert [written[key] for key in ("cor_px", "source", "reason")] == [50.25, "manual", EDITED]
    assert written["method"] is written["confidence"] is None
    scan, report = record(campaign, "a_2")
    assert (scan.state, scan.reason, scan.prediction.confidence) == ("manual", EDITED, None)
    assert not [group.title for group in report.alerts if group.level == "bad"]

    center_of(campaign, "a_2").write_text("")
    assert snakemake(campaign).jobs == jobs
    written = sidecar(campaign, "a_2")
    assert (written["source"], written["confidence"]) == ("neighbours", None)
    assert written["reason"].startswith(EMPTIED)

    center_of(campaign, "a_2").write_text(found)
    assert snakemake(campaign).jobs == jobs
    assert sidecar(campaign, "a_2") == before


def test_the_cor_that_somebody_set_is_the_reason_of_fix_cor(campaign):
    def reason():
        jobs = json.loads(CliRunner().invoke(cli, ["plan", "--json", str(campaign)]).stdout)
        return [job["reason"] for job in jobs if job["rule"] == "fix_cor"]

    center = center_of(campaign, "a_2")
    before = center.read_text().strip()
    table(campaign, f"a_2\tauto\t{before}\t")  # as it was predicted
    assert reason() == [f"COR of a_2: {before}, by hand"]
    table(campaign)
    center.write_text("50.25\n")
    assert reason() == [f"COR of a_2: {before} -> 50.25, by hand"]
    center.unlink()  # it is predicted again
    assert reason() == ["no prediction yet: a_2"]


def test_a_raw_folder_that_is_read_only_for_a_while_leaves_no_sidecar_behind(campaign):
    raw, of_results = campaign / "raw", campaign / "results" / "sidecars" / "a_2.cor.json"
    raw.chmod(0o555)
    table(campaign, "a_2\tauto\t50.25\t")
    assert changed("a_2") < snakemake(campaign).jobs
    assert json.loads(of_results.read_text())["cor_px"] == 50.25
    assert sidecar(campaign, "a_2")["source"] != "manual"  # it cannot be removed
    raw.chmod(0o755)
    assert "sidecar" in snakemake(campaign).jobs
    assert sidecar(campaign, "a_2")["cor_px"] == 50.25
    assert not of_results.exists()
    assert CliRunner().invoke(cli, ["verify", str(campaign)]).exit_code == 0
    assert snakemake(campaign).jobs == frozenset()


def test_a_cor_edited_in_its_file_outlives_a_lost_prediction_and_a_retry(campaign):
    center_of(campaign, "a_2").write_text("50.25\n")
    assert snakemake(campaign).status == 0
    for _ in range(2):  # the second time its job has left the file as it was
        center_of(campaign, "a_2").with_name("prediction.json").unlink()
        run = snakemake(campaign)
        assert "predict_cor:a_2" in run.jobs
        assert "full_recon:a_2" not in run.jobs
        assert center_of(campaign, "a_2").read_text() == "50.25\n"
    with h5py.File(campaign / "raw" / "b_2.h5", "r+") as file:
        file["exchange/data"][...] = 7
    snakemake(campaign)
    center_of(campaign, "b_2").write_text("45.75\n")
    assert forget(campaign / "results", ["a_2", "b_2"]) == ["b_2"]
    run = snakemake(campaign)
    assert {"try_recon:b_2", "predict_cor:b_2"} <= run.jobs, run.text
    written = sidecar(campaign, "b_2")
    assert [written[key] for key in ("cor_px", "source", "reason")] == [45.75, "manual", EDITED]


def test_verify_misses_nothing_that_was_removed_on_purpose(campaign):
    def call(*words):
        done = CliRunner().invoke(cli, [*words, "-C", str(campaign)])
        return done.exit_code, done.output

    prediction = center_of(campaign, "a_2").with_name("prediction.json")
    prediction.write_text(json.dumps(json.loads(prediction.read_text()) | {"verdict": "failed"}))
    assert call("retry", "a_2") == (0, "Will be tried again: a_2\n")
    assert call("verify")[0] == 0
    (campaign / "results" / "b_1_rec.h5").unlink()
    assert "results/b_1_rec.h5: missing\n" in call("verify")[1]
    table(campaign, "b_1\tno\t\t")  # no run makes it
    assert call("verify")[0] == 0
    (campaign / "raw" / "a_1.h5").rename(campaign / "raw" / "a_9.h5")
    assert "1 volume" in call("clean", "--gone")[1]
    assert call("verify")[0] == 0


def test_a_group_shares_a_campaign_without_prediction(tmp_path):
    """By hand and by default; with umask 002 the group may change whatever a run has made."""
    umask = os.umask(0o002)
    try:
        campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.5, "a_2": 49.0, "b_1": 45.0})
        configure(campaign, "predict_cor", methods=[])
        configure(campaign, "resolve_cor", default_px=49.0)
        table(campaign, "a_1\tauto\t48.50\t")
        run = snakemake(campaign, environment={})
    finally:
        os.umask(umask)
    assert run.status == 0, run.text
    private = [
        str(path.relative_to(campaign))
        for path in campaign.rglob("*")
        if not path.is_symlink() and not path.stat().st_mode & stat.S_IWGRP
    ]
    assert private == []
    assert plan(campaign) == (0, frozenset())
    resolved = json.loads((campaign / "results" / "cor.json").read_text())
    # a COR by hand is that of its scan alone
    assert resolved["a_1"] == {"cor_px": 48.5, "source": "manual"}
    assert resolved["a_2"] == {"cor_px": 49.0, "source": "default"}
    assert resolved["b_1"] == {"cor_px": 49.0, "source": "default"}
    scan, report = record(campaign, "a_2")
    assert (scan.state, scan.failures, report.failures) == ("filled", (), ())
    assert scan.reason == NOT_ASKED
