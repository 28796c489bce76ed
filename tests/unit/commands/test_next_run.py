"""What `plan` and `check` say without a run; that plan equals runs is tested on real ones."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.rights import heeding
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.reading import raw_scan
from tomopipe.cli import cli
from tomopipe.commands import next_run
from tomopipe.commands.next_run import folded, make_plan, standing_failures
from tomopipe.commands.run_request import settled_for
from tomopipe.reruns.receipts import write_receipt
from tomopipe.reruns.settle import PlannedJob, expected_inventory
from tomopipe.reruns.target import Target
from tomopipe.resources.disk import disk_needed, output_bytes
from tomopipe.resources.jobs import START_S, cpu_s
from tomopipe.resources.memory import Resources
from tomopipe.steps.try_recon import TryFiles, try_recon
from tomopipe.storage.atomic import write_json


@pytest.fixture
def campaign(tmp_path):
    write_scan(tmp_path / "raw" / "a_1.h5", n_rows=4, n_cols=64, n_angles=31)
    write_scan(tmp_path / "raw" / "a_2.h5", n_rows=4, n_cols=64, n_angles=31, n_frames=9)
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    return tmp_path


def rows_of(folder):
    return expected_inventory(load_campaign(folder), folder)


def lines(folder, rows):
    found = standing_failures(load_campaign(folder), rows)
    return [f"{each.key}: {each.step}: {each.error}" for each in found]


def test_a_scan_whose_search_is_due_needs_no_retry(campaign):
    loaded = load_campaign(campaign)
    write_json({"verdict": "failed", "reason": "x"}, loaded.files.prediction("a_1"))
    steps = ("predict_cor", "full_recon")
    failures = [JobStatus(step, "a_1", "failed", error="x") for step in steps]
    assert "`tomopipe retry SCAN`: a_1." in next_run.retry_hint(loaded, failures, lambda *_: "")
    due = {"try_recon": "skip_projections"}
    assert next_run.retry_hint(loaded, failures, lambda step, _: due.get(step, "")) == ""


def test_volumes_whose_cors_are_not_known_yet_are_one_number_and_count_in_the_costs(campaign):
    plan = make_plan(load_campaign(campaign))
    assert plan.counts[-1] == "up to 1 volume, whose COR is not known yet, then sidecar"
    assert plan.summary == f"1 COR, 1 volume to make, about {plan.wall_s:.0f} s"
    n_cores = len(os.sched_getaffinity(0))
    assert plan.cpu_s / n_cores <= plan.wall_s <= plan.cpu_s  # steps follow each other
    assert not [job for job in plan.jobs if job.rule in ("full_recon", "sidecar")]
    said = " ".join(CliRunner().invoke(cli, ["plan", str(campaign)]).output.split())
    assert "1 report, up to 1 volume, whose COR is not known yet, then sidecar up to " in said
    (campaign / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_1\tauto\t32.00\t\n")
    by_hand = make_plan(load_campaign(campaign))
    assert by_hand.summary.startswith("1 volume to make, about ")
    assert [job.scan for job in by_hand.jobs if job.rule == "full_recon"] == ["a_1"]
    assert (by_hand.n_open, by_hand.n_bytes < plan.n_bytes) == (0, True)  # of the sweep


def test_stacks_that_follow_unknown_cors_are_counted_in_runs_that_write_them(campaign):
    without = make_plan(load_campaign(campaign))
    with (campaign / "config.yaml").open("a") as config:
        config.write("export_star: {enabled: true}\n")
    found = load_campaign(campaign)
    plan = make_plan(found)
    may_follow = "up to 1 volume and 1 stack, whose COR is not known yet, then sidecar"
    assert plan.counts[-1] == may_follow
    assert "export_star" in {job.rule for job in plan.jobs}  # the set is missing
    for path in Target(found).outputs("export_star", "campaign"):
        (campaign / path).parent.mkdir(parents=True, exist_ok=True)
        (campaign / path).touch()
    assert make_plan(found).counts[-1] == f"{may_follow}, export_star"
    assert plan.summary.startswith("1 COR, 1 volume, 1 stack to make")
    assert plan.n_bytes > without.n_bytes
    of_scan = make_plan(found, settled=settled_for(found, ["a_1"])[0])
    assert of_scan.counts[-1] == "up to 1 volume, whose COR is not known yet"
    assert of_scan.n_bytes < plan.n_bytes


def test_a_stitched_volume_that_waits_for_an_unknown_cor_is_named(campaign):
    write_scan(campaign / "raw" / "b_1.h5", n_rows=4, n_cols=64, n_angles=31)
    for stack, then in (("[a_1, b_1]", ", then stitch"), ("[b_1]", "")):
        stitch = f"stitch: {{time: {{t: {stack}}}}}\n"
        (campaign / "config.yaml").write_text(f"campaign: {{scans: [raw/*.h5]}}\n{stitch}")
        (campaign / "scans.tsv").write_text("scan\tcor_px\nb_1\t32.00\n")
        plan = make_plan(load_campaign(campaign))
        assert plan.counts[-1] == f"up to 1 volume, whose COR is not known yet{then}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode", "status", "says"),
    [
        ("raw", 0, 2, "this folder cannot be read"),
        ("results", 0o555, 1, "cannot be written"),  # the run would stop
    ],
)
def test_plan_names_folders_that_are_closed(campaign, name, mode, status, says):
    (campaign / "more").mkdir()
    shutil.move(campaign / "raw" / "a_1.h5", campaign / "more")
    (campaign / "config.yaml").write_text("campaign: {scans: [raw/*.h5, more/*.h5]}\n")
    (campaign / "results").mkdir()
    (campaign / name).chmod(mode)
    found, *said = heeding("plan", campaign)
    (campaign / name).chmod(0o755)
    assert (found, f"{campaign}/{name}: {says}" in "".join(said)) == (status, True), said


@pytest.mark.slow
def test_plan_names_write_protected_results(campaign):
    path = "results/try_center/a_1/rows.h5"
    (campaign / path).parent.mkdir(parents=True)
    (campaign / path).touch()
    write_receipt("results/made/try_recon/a_1.json", {}, [path], directory=campaign)
    (campaign / path).chmod(0o444)
    _, said, _ = heeding("plan", campaign)
    assert f"{path}: write-protected, and kept: " in said
    assert f"`chmod u+rwX {campaign / path}`" in " ".join(said.split())


@pytest.mark.parametrize(
    ("step", "options", "n_bytes"),
    [
        ("full_recon", "", 4 * 4 * 64 * 64),
        ("full_recon", "full_recon: {dtype: uint8, rows: [1, 2]}", 2 * 64 * 64),
        ("full_recon", "full_recon: {output: zarr}", 4 * 4 * 64 * 64 * 8 // 7),
        ("export_stack", "", 4 * 31 * 4 * 64),
        ("export_stack", "input: {every: 2}", 4 * 16 * 4 * 64),
        ("export_stack", "export_star: {binning: 2, max_tilts: 10}", 10 * 4 * 64),
        ("export_stack", "export_star: {max_stack_gb: 0.00001}", 10000),
    ],
)
def test_size_of_a_volume_or_stack(campaign, step, options, n_bytes):
    with (campaign / "config.yaml").open("a") as stream:
        stream.write(options + "\n")
    rows = rows_of(campaign)
    assert output_bytes(load_campaign(campaign), step, rows["a_1"]) == n_bytes
    kind = {"full_recon": "volumes", "export_stack": "stacks for RELION"}[step]
    jobs = [(step, "a_1"), ("predict_cor", "a_1")]
    assert disk_needed(load_campaign(campaign), jobs, rows) == {kind: n_bytes}


def test_failed_prediction_stands_until_somebody_sets_the_cor(campaign):
    path = campaign / "results" / "try_center" / "a_1" / "prediction.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"verdict": "failed", "reason": "zero frames"}))
    status = campaign / "logs" / "status" / "predict_cor" / "a_1.json"
    status.parent.mkdir(parents=True)
    status.write_text('{"state": "done", "start": 1}')
    rows = rows_of(campaign)
    assert lines(campaign, rows) == ["a_1: predict_cor: zero frames"]
    (center := path.with_name("center_of_rotation.txt")).write_text("31.5")
    assert lines(campaign, rows) == []
    center.unlink()
    (campaign / "scans.tsv").write_text("scan\tcor_px\na_1\t31.5\n")
    assert lines(campaign, rows) == []
    status = campaign / "logs" / "status" / "full_recon" / "a_1.json"
    status.parent.mkdir(parents=True)
    status.write_text(json.dumps({"start": 1, "state": "failed", "error": "full disk"}))
    assert lines(campaign, rows) == ["a_1: full_recon: full disk"]
    plan = make_plan(load_campaign(campaign))
    (volume,) = (job for job in plan.jobs if job.rule == "full_recon")
    assert (volume.scan, volume.reason) == ("a_1", "failed before, tried again")


@pytest.mark.parametrize(
    ("of_search", "due", "reason"),
    [
        ("no beam", (), "fails as its COR did, until its file or options change"),
        ("no beam", ("predict_cor",), "failed before, tried again"),
        ("no sample", (), "failed before, tried again"),
    ],
)
def test_a_volume_that_fails_as_its_cor_did_is_one_failure(of_search, due, reason):
    errors = {"predict_cor": of_search, "full_recon": "no beam"}
    failures = [JobStatus(step, "a_1", "failed", error=error) for step, error in errors.items()]
    jobs = [PlannedJob(rule, "a_1", "a", "not there yet") for rule in (*due, "full_recon")]
    jobs.append(PlannedJob("full_recon", "a_2", "a", "not there yet"))
    reasons = {(job.rule, job.scan): job.reason for job in next_run.tried_again(jobs, failures)}
    assert reasons["full_recon", "a_1"] == reason
    assert reasons["full_recon", "a_2"] == "not there yet"
    together = ["a_1: predict_cor, full_recon: no beam"]
    each = ["a_1: predict_cor: no sample", "a_1: full_recon: no beam"]
    assert [*next_run.failure_lines(failures)] == (together if of_search == "no beam" else each)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "try_recon: {width_px: 4, step_px: 0.5}",
        "try_recon: {width_px: 3, max_size_px: 24, row: [0.5, 0], format: tiff}",
        "try_recon: {width_px: 3}\npreprocess: {half_acquisition: 'yes'}",
    ],
)
def test_size_of_a_sweep_is_that_of_its_files(tmp_path, options):
    span_deg = 356 if "half" in options else 180
    theta_deg = np.linspace(0, span_deg, 90)
    write_scan(tmp_path / "raw" / "a_1.h5", n_rows=8, n_cols=128, theta_deg=theta_deg)
    (tmp_path / "config.yaml").write_text(f"campaign: {{scans: [raw/*.h5]}}\n{options}\n")
    found = load_campaign(tmp_path)
    expected = output_bytes(found, "try_recon", rows_of(tmp_path)["a_1"])
    files = [tmp_path / "sweep" / name for name in ("try.tif", "try.json", "rows.h5")]
    files[0].parent.mkdir()
    raw = replace(raw_scan(found, "a_1"), path=tmp_path / "raw/a_1.h5")
    record = try_recon(
        raw, TryFiles(*files), found.config.try_recon, resources=Resources(), made_from=None
    )
    assert "failed" not in record
    written = sum(path.stat().st_size for path in files[0].parent.iterdir())
    assert expected == pytest.approx(written, rel=0.15)


def test_the_first_plan_estimates_the_time_from_the_pixels(campaign):
    found, rows = load_campaign(campaign), rows_of(campaign)
    plan = make_plan(found)
    n_jobs = len(plan.jobs) + plan.n_open
    assert n_jobs >= 6  # inventory, sweep, prediction, series, CORs, volume
    assert plan.cpu_s > START_S * n_jobs
    said = " ".join(CliRunner().invoke(cli, ["plan", str(campaign)]).output.split())
    assert f"up to {plan.cpu_s:.0f} s of one core (" in said
    large = {"a_1": rows["a_1"] | {"n_angles": 2 * 31, "n_rows": 2048, "n_cols": 2048}}
    twice = {"a_1": large["a_1"] | {"n_rows": 4096}}
    for step in ("try_recon", "predict_cor", "export_stack"):
        small_s, large_s, twice_s = (cpu_s(found, step, "a_1", of) for of in (rows, large, twice))
        assert twice_s - large_s == pytest.approx(large_s - small_s, rel=1e-3)
        assert large_s > small_s > 0
    assert cpu_s(found, "full_recon", "a_1", large) > 100 * cpu_s(found, "full_recon", "a_1", rows)


def test_a_scan_called_campaign_has_a_row_of_its_own():
    jobs = [
        PlannedJob("full_recon", "campaign", "campaign", "COR"),
        PlannedJob("fix_cor", "", "campaign", "COR"),
        PlannedJob("report", "", "", "COR"),
    ]
    rows = [(row.of, row.steps) for row in folded(jobs)]
    assert rows == [
        ("campaign", ("full_recon",)),
        ("series campaign", ("fix_cor",)),
        ("campaign", ("report",)),
    ]
