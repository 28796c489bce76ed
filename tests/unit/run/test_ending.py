"""What happens after the last job: who ended the run, records, report, missing volumes."""

import json
import os
import re
import time

import h5py
import pytest

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.status import read_status
from tomopipe.reruns.settle import expected_inventory
from tomopipe.run.ending import (
    after_failure,
    ended_by_hand,
    say_warnings,
    unfinished_scans,
    volumes_of_before,
)
from tomopipe.storage.atomic import write_json


@pytest.fixture
def campaign(tmp_path):
    for name in ("a_1", "a_2"):
        write_scan(tmp_path / "raw" / f"{name}.h5", n_rows=1, n_cols=64, n_angles=31)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "results").mkdir()
    expected_inventory(load_campaign(tmp_path), tmp_path / "results")
    status = {"state": "running", "start": 100.0, "host": "node1"}
    write_json(status, tmp_path / "logs" / "status" / "try_recon" / "a_1.json")
    return tmp_path


def log(folder, text):
    path = folder / "snakemake.log"
    path.write_text(text)
    return [str(path)]


def test_killed_job_is_recorded_and_reported(campaign, capsys):
    after_failure(load_campaign(campaign), log(campaign, "Error in rule try_recon"), since=50.0)
    assert (campaign / "results" / "failed" / "try_recon" / "a_1.json").exists()
    assert "a_1" in (campaign / "results" / "report" / "index.html").read_text()
    assert "tomopipe retry a_1" in capsys.readouterr().err
    assert list(load_campaign(campaign).failures) == ["a_1"]


def test_jobs_killed_alike_are_one_line(campaign, capsys):
    statuses = campaign / "logs" / "status" / "try_recon"
    write_json(json.loads((statuses / "a_1.json").read_text()), statuses / "a_2.json")
    after_failure(load_campaign(campaign), log(campaign, "Error in rule try_recon"), since=50.0)
    why, then = [line for line in capsys.readouterr().err.splitlines() if "a_2" in line]
    assert why.startswith("tomopipe: 2 scans (a_1, a_2): try_recon ")
    assert then.startswith("tomopipe: 2 scans (a_1, a_2): skipped from the next call on")
    assert sorted(load_campaign(campaign).failures) == ["a_1", "a_2"]


def test_jobs_that_did_not_begin_are_told_once(campaign, capsys):
    table = {scan: {"cor_px": 32.0, "source": "ai"} for scan in ("a_1", "a_2")}
    write_json(table, campaign / "results" / "cor.json")
    logs, now_s = campaign / "logs" / "full_recon", time.time()
    for scan, start_s in {"a_1": now_s - 60, "a_2": now_s - 60}.items():
        status = {"state": "done", "start": start_s, "end": start_s}
        write_json(status, campaign / "logs" / "status" / "full_recon" / f"{scan}.json")
    logs.mkdir()
    (logs / "a_1.log").write_text("of the run before")
    os.utime(logs / "a_1.log", (now_s - 60, now_s - 60))
    failed = [
        (f"logs/full_recon/a_{n}.log", {"error": f"SLURM job {n}: CANCELLED", "slurm_job": str(n)})
        for n in (2, 1)
    ]
    failed += [("logs/mine/a_1.log", {"error": "x"}), ("x.log", {"error": "x"})]
    after_failure(load_campaign(campaign), [], failed, since=now_s - 30)
    said = [line for line in capsys.readouterr().err.splitlines() if "did not begin" in line]
    assert said == ["tomopipe: full_recon did not begin: 2 jobs, a_1, a_2: SLURM job 2: CANCELLED"]
    found = {job.key: job for job in read_status(load_campaign(campaign)).with_state("failed")}
    assert {scan: job.error for scan, job in found.items()} == {
        "a_1": "SLURM job 1: CANCELLED",
        "a_2": "SLURM job 2: CANCELLED",
    }
    assert (found["a_1"].slurm_job, found["a_1"].log_tail) == ("1", "")
    assert not (campaign / "logs" / "status" / "mine").exists()
    page = (campaign / "results" / "report" / "index.html").read_text()
    failures = page[page.index('id="h-failed"') :]
    assert all(f"SLURM job {n}: CANCELLED" in failures for n in (1, 2))
    assert re.search('<h3>Failed <span class="count">2<', page)


@pytest.mark.parametrize(
    "words", ["Terminating processes on user request", "Will exit after finishing currently"]
)
def test_run_ended_by_hand_blames_nobody(campaign, words):
    logs = log(campaign, f"...\n{words}, ...\n")
    assert ended_by_hand(logs)
    failed = [("logs/full_recon/a_1.log", {"error": "SLURM job 1: CANCELLED"})]
    after_failure(load_campaign(campaign), logs, failed, since=50.0)
    assert not (campaign / "results" / "failed").exists()
    assert not (campaign / "logs" / "status" / "full_recon").exists()


def test_log_that_cannot_be_read_is_no_hand(tmp_path):
    assert not ended_by_hand([str(tmp_path / "absent.log")])


def test_report_that_fails_does_not_hide_the_record(campaign, monkeypatch, capsys):
    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tomopipe.run.ending.report_campaign", broken)
    after_failure(load_campaign(campaign), [], since=50.0)
    assert (campaign / "results" / "failed" / "try_recon" / "a_1.json").exists()
    assert "disk full" in capsys.readouterr().err


def test_warnings_of_selected_scans_are_said(campaign, capsys):
    say_warnings(load_campaign(campaign))
    said = capsys.readouterr().err
    assert (
        "2 scans (a_1, a_2): energy_kev is unknown: 20 assumed for RELION. Set export_star." in said
    )
    with (campaign / "config.yaml").open("a") as config:
        config.write("export_star: {pixel_size_um: 1.3, energy_kev: 25}\n")
    say_warnings(load_campaign(campaign))
    assert not capsys.readouterr().err
    folder = campaign / "results" / "try_center"
    write_json({"warnings": ["40 of 121 projections are dark"]}, folder / "a_1/prediction.json")
    write_json({"verdict": "resolved"}, folder / "a_2" / "prediction.json")
    say_warnings(load_campaign(campaign))
    assert capsys.readouterr().err == "tomopipe: a_1: 40 of 121 projections are dark\n"
    status = campaign / "logs" / "status" / "full_recon" / "a_2.json"
    write_json({"warning": "volume: half of its voxels lie outside 0 to 1"}, status)
    say_warnings(load_campaign(campaign))
    assert "voxels outside full_recon.value_range, see the report: a_2\n" in capsys.readouterr().err
    status.unlink()
    write_json(
        {"warnings": [f"{n} are dark" for n in range(30)]}, folder / "a_2" / "prediction.json"
    )
    say_warnings(load_campaign(campaign))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "tomopipe: 11 more such lines: see the report"
    (campaign / "scans.tsv").write_text("scan\tselect\na_1\tno\na_2\tno\n")
    say_warnings(load_campaign(campaign))
    assert not capsys.readouterr().err


def test_scans_without_cor_or_volume_are_named(campaign):
    write_json({"a_1": {"cor_px": 31.5, "source": "auto"}}, campaign / "results" / "cor.json")
    (campaign / "results" / "a_1_rec.h5").write_bytes(b"x")
    prediction = campaign / "results/try_center/a_2/prediction.json"
    # stopped before or after predict_cor of a_2: only another run is needed
    for made in (False, True):
        if made:
            write_json({"cor_px": 31.5, "verdict": "resolved"}, prediction)
        lines = unfinished_scans(load_campaign(campaign))
        assert lines == ["no COR yet, the next run goes on with it: a_2"]
    write_json({"cor_px": None, "verdict": "flat"}, prediction)
    (line,) = unfinished_scans(load_campaign(campaign))
    assert line.startswith("no COR, and so no volume: a_2. Set one with")
    (campaign / "results" / "a_1_rec.h5").unlink()
    assert unfinished_scans(load_campaign(campaign)) == [line, "no volume: a_1"]


def test_a_volume_of_a_cor_of_before_is_named(campaign):
    cors = {scan: {"cor_px": 43.0, "source": "manual"} for scan in ("a_1", "a_2")}
    volumes = [campaign / "results" / f"{scan}_rec.h5" for scan in cors]
    for volume, cor_px in zip(volumes, (43.0, 48.99), strict=True):
        with h5py.File(volume, "w") as file:
            file["provenance/json"] = json.dumps({"cor": {"cor_px": cor_px}})
    write_json(cors, campaign / "results" / "cor.json")
    for volume in volumes:
        os.utime(volume, (1e9, 1e9))
    assert unfinished_scans(load_campaign(campaign)) == []
    (line,) = volumes_of_before(load_campaign(campaign))
    assert line == "volume of another COR, made again by the next run: a_2 (48.99)"


def test_a_scan_that_is_not_in_the_set_is_named_and_the_others_counted(campaign):
    cors = {scan: {"cor_px": 31.5, "source": "auto"} for scan in ("a_1", "a_2")}
    write_json(cors, campaign / "results" / "cor.json")
    for scan in cors:
        (campaign / "results" / f"{scan}_rec.h5").write_bytes(b"x")
    write_json({"failed": "damaged"}, campaign / "results/relion/stacks/a_2.json")
    (line,) = unfinished_scans(load_campaign(campaign))
    assert line.startswith("RELION's set has 1 of 2 tomograms, not a_2: damaged. ")
    (campaign / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5]}\nexport_star: {enabled: no}\n"
    )
    assert unfinished_scans(load_campaign(campaign)) == []


def test_a_damaged_table_is_said_by_status(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    campaign = load_campaign(tmp_path)
    campaign.results.mkdir()
    campaign.files.inventory.write_text("scan\tpath\tn_cols\tkeep\treason\n")
    assert unfinished_scans(campaign) == []  # no cor.json yet
    campaign.files.cor_table.write_text('{"a_1": {"cor_')
    (line,) = unfinished_scans(campaign)
    assert "cor.json: is damaged" in line
