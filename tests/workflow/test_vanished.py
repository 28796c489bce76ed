"""A file with the flats of one scan goes: that scan is skipped with a reason, the others run."""

import json
import shutil

import h5py
import pytest

from tests.workflow.conftest import (
    configure,
    failing,
    new_campaign,
    package_with,
    plan,
    snakemake,
    succeeds,
    table,
)
from tests.workflow.test_reruns import TAIL
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.results import read_tsv
from tomopipe.run.unfinished import set_remarks


def inventory(campaign):
    rows = read_tsv(campaign / "results" / "inventory.tsv", ("scan", "keep", "reason"))
    return {row["scan"]: row for row in rows}


def with_flats(folder, names):
    """Write a campaign whose scans have files of flats and darks of their own."""
    campaign = new_campaign(folder / "campaign", dict.fromkeys(names, 48.5))
    (campaign / "flats").mkdir()
    for name in names:
        shutil.copy(campaign / "raw" / f"{name}.h5", campaign / "flats" / f"{name}.h5")
    configure(campaign, "preprocess", flats="flats/{scan}.h5", darks="flats/{scan}.h5")
    return campaign


def test_flats_of_one_scan_that_vanish_cost_that_scan(tmp_path):
    campaign = with_flats(tmp_path, ("a_1", "a_2", "b_1"))
    gone = campaign / "flats" / "b_1.h5"
    gone.rename(campaign / "elsewhere.h5")  # missing from the first
    run = succeeds(campaign)
    assert {job for job in run.jobs if job.endswith(":b_1")} == set()
    assert {"full_recon:a_1", "full_recon:a_2"} <= run.jobs
    (campaign / "elsewhere.h5").rename(gone)
    assert snakemake(campaign).status == 0
    assert plan(campaign) == (0, frozenset())
    made = campaign / "results" / "b_1_rec.h5"
    before = made.read_bytes()

    gone.unlink()  # after the run
    (campaign / "flats" / "a_2.h5").unlink()
    (campaign / "results" / "a_1_rec.h5").unlink()
    run = succeeds(campaign)
    jobs = {"inventory", "fix_cor:a", "resolve_cor", "full_recon:a_1", "sidecar", *TAIL}
    assert run.jobs <= jobs
    assert {"inventory", "full_recon:a_1", "report"} <= run.jobs
    rows = inventory(campaign)
    assert [rows[name]["keep"] for name in ("a_1", "a_2", "b_1")] == ["true", "false", "false"]
    assert rows["b_1"]["reason"] == "flats/b_1.h5: no such file"
    assert list(json.loads((campaign / "results" / "cor.json").read_text())) == ["a_1"]
    assert "flats/b_1.h5: no such file" in (
        campaign / "results" / "report" / "index.html"
    ).read_text("utf-8")
    assert made.read_bytes() == before  # what was made stays
    assert plan(campaign) == (0, frozenset())


def test_flats_that_vanish_while_the_campaign_runs_cost_their_scan(tmp_path):
    campaign = with_flats(tmp_path, ("a_1", "b_1"))
    configure(campaign, "resolve_cor", on_missing="skip")
    gone = campaign / "flats" / "b_1.h5"
    as_it_ends = f"\n    os.unlink({str(gone)!r})\n    return rows\n\n\ndef _key("
    vanishing = package_with(
        tmp_path, "steps/inventory.py", "\n    return rows\n\n\ndef _key(", as_it_ends
    )
    run = snakemake(campaign, environment=vanishing)
    assert inventory(campaign)["b_1"]["keep"] == "true", run.text  # it was there then
    assert (campaign / "results" / "a_1_rec.h5").exists()
    assert not (campaign / "results" / "b_1_rec.h5").exists()
    path = campaign / "results" / "try_center" / "b_1" / "prediction.json"
    assert "flats/b_1.h5: no such file" in json.loads(path.read_text())["reason"]
    run = succeeds(campaign)
    assert inventory(campaign)["b_1"]["reason"] == "flats/b_1.h5: no such file"


def test_raw_files_that_vanish_during_the_run_do_not_empty_the_report(campaign, tmp_path):
    configure(campaign, "campaign", name="another name")
    move = f"os.rename({str(campaign / 'raw')!r}, {str(tmp_path / 'away')!r})"
    run = snakemake(campaign, environment=failing(tmp_path, "report", "campaign", move))
    assert run.status == 1
    log = campaign / "logs" / "report" / "campaign.log"
    assert "this folder has no raw files now" in log.read_text()
    assert ">a_1<" in (campaign / "results" / "report" / "index.html").read_text()


def test_a_raw_file_that_vanishes_while_stacks_are_written_costs_its_tomogram(campaign, tmp_path):
    (campaign / "results" / "relion" / "stacks" / "a_2.mrcs").unlink()
    raw, away = campaign / "raw" / "a_2.h5", tmp_path / "a_2.h5"
    vanishing = failing(tmp_path, "export_stack", "a_2", f"os.rename({str(raw)!r}, {str(away)!r})")
    run = snakemake(campaign, environment=vanishing)
    assert run.status == 3, run.text
    assert "RELION's set has 5 of 6 tomograms, not a_2: raw/a_2.h5: no such file" in run.text
    star = campaign / "results" / "relion" / "tomograms.star"
    page = campaign / "results" / "report" / "index.html"
    assert star.read_text().count("stacks/") == 5
    away.rename(raw)  # the same content: it only could not be read
    assert "raw/a_2.h5: no such file" in page.read_text()
    certain = plan(campaign)[1]
    run = snakemake(campaign)
    assert (run.status, run.jobs) == (0, {"export_stack:a_2", "export_star"}) == (0, certain)
    assert "no such file" not in page.read_text()
    assert star.read_text().count("stacks/") == 6
    assert set_remarks(load_campaign(campaign)) == []
    assert plan(campaign) == (0, frozenset())


@pytest.mark.parametrize("step", ["full_recon", "export_stack"])
def test_a_raw_file_that_is_back_for_the_next_attempt_costs_nothing(campaign, tmp_path, step):
    if step == "full_recon":
        table(campaign, "a_2\tauto\t49.25\t")
    else:
        (campaign / "results" / "relion" / "stacks" / "a_2.mrcs").unlink()
    raw = campaign / "raw" / "a_2.h5"
    job = f"""\
            if {step!r} != status["step"] or "a_2" != status["key"] or os.path.exists("away"):
                yield more
                return
            os.rename({str(raw)!r}, "away")
            try:
                yield more
            finally:
                os.link("away", {str(raw)!r})
"""
    vanishing = package_with(tmp_path, "campaign/log.py", "            yield more\n", job)
    succeeds(campaign, "--retries", "1", environment=vanishing)
    star = campaign / "results" / "relion" / "tomograms.star"
    assert star.read_text().count("stacks/") == 6
    assert plan(campaign) == (0, frozenset())


def test_a_folder_that_vanishes_while_stacks_are_written_empties_no_set(campaign, tmp_path):
    (campaign / "results" / "relion" / "stacks" / "a_1.mrcs").unlink()
    raw, away = campaign / "raw", tmp_path / "raw"
    # as a disk that is unmounted
    move = f"os.rename({str(raw)!r}, {str(away)!r}); os.mkdir({str(raw)!r})"
    run = snakemake(
        campaign, "--cores", "1", environment=failing(tmp_path, "export_stack", "a_1", move)
    )
    assert run.status == 1, run.text
    star = campaign / "results" / "relion" / "tomograms.star"
    assert star.read_text().count("stacks/") == 6


def test_an_override_of_a_scan_that_vanished_stops_no_other(campaign):
    path = campaign / "config.yaml"
    path.write_text(path.read_text() + "overrides: [{scans: [a_2], full_recon: {filter: hann}}]\n")
    assert snakemake(campaign).status == 0
    (campaign / "raw" / "a_2.h5").unlink()
    told = "overrides 1: scans: a_2 is no longer in the campaign"
    for jobs in ({"export_star"}, set()):  # also once the inventory has followed
        run = succeeds(campaign)
        assert run.jobs >= jobs
        assert told in run.text
    assert plan(campaign) == (0, frozenset())


def test_a_scan_whose_linked_data_come_later_is_taken_in(campaign):
    raw, data = campaign / "raw" / "a_2.h5", campaign / "a_2_data.h5"
    away = raw.rename(campaign / "away")
    with h5py.File(raw, "w") as file:
        file["exchange"] = h5py.ExternalLink("../a_2_data.h5", "exchange")
    run = snakemake(campaign)
    assert "full_recon:a_2" not in run.jobs
    assert "a_2_data.h5" in (campaign / "results" / "inventory.tsv").read_text()
    assert plan(campaign) == (0, frozenset())
    away.rename(data)
    assert {"inventory", "try_recon:a_2"} <= plan(campaign)[1]
