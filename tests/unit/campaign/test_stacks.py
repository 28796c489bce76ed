"""Stacks of a campaign: how they are declared, what `check` and the estimates say, the report."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.stacks import declared_stacks, find_stacks, stack_notes
from tomopipe.cli import cli
from tomopipe.commands.check import examine
from tomopipe.commands.next_run import make_plan
from tomopipe.commands.status import read_status
from tomopipe.report.collected_records import collect
from tomopipe.reruns.settle import expected_inventory
from tomopipe.resources.disk import disk_needed
from tomopipe.run.page import report_campaign
from tomopipe.run.unfinished import skipped_stacks
from tomopipe.storage.atomic import write_json
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.slow

SIZE = {"n_rows": 4, "n_cols": 32, "n_angles": 21}
PAIR = {"t": ["a_1", "a_2"]}


@pytest.fixture
def folder(tmp_path):
    for name in ("a_2", "a_10", "a_1", "b_1"):
        write_scan(tmp_path / "raw" / f"{name}.h5", pixel_size_um=2.0, **SIZE)
    return tmp_path


def campaign_of(folder, stacks, **blocks):
    config = {"campaign": {"scans": ["raw/*.h5"]}, "stitch": {"stacks": stacks}} | blocks
    (folder / "config.yaml").write_text(json.dumps(config))
    return load_campaign(folder)


def test_patterns_in_order_of_number_and_names_as_listed(folder):
    found = declared_stacks(campaign_of(folder, {"tall": ["b_1", "a_*"]}))
    assert [(s.scans, s.problem) for s in found] == [(("b_1", "a_1", "a_2", "a_10"), "")]


@pytest.mark.parametrize(
    ("stacks", "of_a_2", "words"),
    [
        ({"t": ["a_1", "a_3"]}, {}, "t: no scan a_3 in the campaign; did you mean a_"),
        ({"t": ["a_1"]}, {}, "t: expected at least two scans, got a_1"),
        ({"t": ["a_1", "a_2"], "u": ["a_2", "b_1"]}, {}, "u: a_2 appears in stitch.stacks more"),
        (PAIR, {"full_recon": {"binning": 2}}, "t: full_recon.binning is 1 for a_1 and 2 for a_2"),
        (PAIR, {"input": {"pixel_size_um": 3.5}}, "t: input.pixel_size_um is None for a_1 and 3"),
    ],
)
def test_check_names_what_is_wrong_with_a_stack(folder, stacks, of_a_2, words):
    overrides = [{"scans": ["a_2"]} | of_a_2] if of_a_2 else []
    errors = examine(campaign_of(folder, stacks, overrides=overrides)).errors
    assert any(f"stitch.stacks: {words}" in line for line in errors), errors


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"n_cols": 30, "pixel_size_um": 2.0}, "a_1 has 32 columns and c_1 30"),
        ({"pixel_size_um": 2.5}, "the pixels of a_1 have 2.0 um and those of c_1 2.5"),
    ],
)
def test_check_looks_into_the_files(folder, other, words):
    write_scan(folder / "raw" / "c_1.h5", **(SIZE | other))
    errors = examine(campaign_of(folder, {"t": ["a_1", "c_1"]})).errors
    assert any(words in line for line in errors), errors
    assert examine(campaign_of(folder, PAIR)).errors == []


def test_a_stack_whose_scan_is_unselected_is_not_joined_and_others_are(folder):
    (folder / "scans.tsv").write_text("scan\tselect\na_2\tno\n")
    campaign = campaign_of(folder, {"t": ["a_1", "a_2"], "u": ["a_10", "b_1"]})
    rows = expected_inventory(campaign, folder)
    reason = "a_2 is unselected: select: no"
    assert [s.problem for s in find_stacks(campaign, rows, rows)] == [reason, ""]
    assert stack_notes(campaign, rows) == (f"stack t will not be stitched: {reason}",)
    without = {scan: {"cor_px": 30.0, "source": "ai"} for scan in rows if scan != "b_1"}
    assert find_stacks(campaign, rows, without)[1].problem == "b_1 has no COR"
    findings = examine(campaign)
    assert findings.errors == []
    assert f"stack t will not be stitched: {reason}" in findings.warnings
    skipped = [*skipped_stacks(campaign, rows, without)]
    assert f"stack t is not stitched: {reason}" in skipped
    assert "stack u is not stitched: b_1 has no COR" in skipped


def test_disk_of_a_stack_is_at_most_that_of_its_volumes(folder):
    campaign = campaign_of(folder, PAIR)
    rows = expected_inventory(campaign, folder)
    needed = disk_needed(campaign, [("stitch", "t")], rows)
    assert needed == {"stitched volumes": 2 * 4 * 4 * 32 * 32}
    assert any("stitched volumes 0.033 MB" in note for note in examine(campaign).notes)


def test_report_shows_stacks_their_shifts_and_what_is_missing(folder):
    campaign = campaign_of(folder, {"tall <1>": ["a_1", "a_2"], "other": ["a_10", "x"]})
    expected_inventory(campaign, campaign.results)
    (campaign.results / "cor.json").write_text(
        json.dumps({scan: {"cor_px": 16.0, "source": "auto"} for scan in ("a_1", "a_2", "a_10")})
    )
    values = np.random.default_rng(0).normal(size=(6, 8, 8)).astype(np.float32)
    stitched = campaign.results / "stitched"
    with new_volume(stitched / "tall <1>_rec.h5", values.shape) as put:
        put(0, values)
    pair = {"z_px": 2.345, "y_px": 0.5, "x_px": -1.25, "overlap_rows": 1.655, "correlation": 0.98}
    found = {"shape": [6, 8, 8], "pairs": [{"scans": ["a_1", "a_2"]} | pair]}
    (stitched / "tall <1>.json").write_text(json.dumps(found))
    report_campaign(campaign, folder / "page" / "index.html")
    page = (folder / "page" / "index.html").read_text()
    part = page.split('id="stacks"')[1].split("<section")[0]
    for words in ("tall &lt;1&gt;", "6 × 8 × 8", "+2.35", "-1.25", "1.66", "0.98"):
        assert words in part or words.replace("2.35", "2.34") in part, words
    assert part.count("<img ") == 3
    assert "Not stitched: no scan x in the campaign</p>" in part
    with new_volume(stitched / "other_rec.h5", values.shape) as put:
        put(0, values)
    (stitched / "other.json").write_text(json.dumps({"made_from": {"scans": ["a_10", "a_2"]}}))
    report_campaign(campaign, folder / "page" / "index.html")
    shown = "no scan x in the campaign; the volume shown is an earlier one, of a_10, a_2</p>"
    assert shown in (folder / "page" / "index.html").read_text()


def failed_job(folder, stack, reason):
    path = folder / "logs" / "status" / "stitch" / f"{stack}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"start": 1, "end": 2, "state": "failed", "error": reason}))


def test_a_failed_stack_says_why_until_the_configuration_has_it_no_longer(folder):
    campaign = campaign_of(folder, {"t": ["a_1", "a_2"], "u": ["a_10", "b_1"]})
    expected_inventory(campaign, campaign.results)
    known = {scan: {"cor_px": 16.0, "source": "auto"} for scan in campaign.scans}
    (campaign.results / "cor.json").write_text(json.dumps(known))
    failed_job(folder, "t", "no overlap")
    failed_job(folder, "gone", "of before")
    found = collect(campaign)
    assert [(f.step, f.key, f.error) for f in found.failures] == [("stitch", "t", "no overlap")]
    assert [stack.problem for stack in found.stacks] == ["no overlap", "not stitched yet"]
    assert [job.key for job in read_status(campaign).jobs] == ["t"]
    assert [step.failed for step in read_status(campaign).steps if step.step == "stitch"] == [1]


def test_a_failed_stack_is_stitched_again_without_retry(folder):
    campaign = campaign_of(folder, PAIR)
    expected_inventory(campaign, campaign.results)
    failed_job(folder, "t", "no overlap")
    found = make_plan(campaign)
    assert (found.failures, found.retry) == (("t: stitch: no overlap",), "")
    done = CliRunner().invoke(cli, ["retry", "t", "-C", str(folder)])
    assert "t is a stack" in str(done.exception), done.exception
    scan = campaign.scans["b_1"]
    stat = {"bytes": scan.n_bytes, "mtime_ns": scan.mtime_ns}
    write_json({"step": "try_recon"} | stat, campaign.files.failure("try_recon", "b_1"))
    assert "`tomopipe retry SCAN`: b_1" in make_plan(load_campaign(folder)).retry
