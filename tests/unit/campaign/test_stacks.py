"""Stacks of a campaign: how they are declared, what `check` and the estimates say, the report."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.phantoms import write_scan
from tests.step_calls import stitch_time
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.stacks import declared_stacks, find_stacks
from tomopipe.cli import cli
from tomopipe.commands.check import examine
from tomopipe.commands.next_run import make_plan
from tomopipe.commands.status import read_status
from tomopipe.errors import TomopipeError
from tomopipe.report.collected_records import collect
from tomopipe.reruns.needed import expected_inventory
from tomopipe.resources.disk import disk_needed
from tomopipe.resources.jobs import Job, need, stitch_mb
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
    assert [*skipped_stacks(campaign, rows, rows)] == [f"stack t is not stitched: {reason}"]
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


def in_time(folder, **time):
    return campaign_of(folder, {}, stitch={"time": time})


def test_a_volume_in_time_is_of_a_series_or_of_what_is_listed(folder):
    campaign = campaign_of(folder, PAIR, stitch={"stacks": PAIR, "time": {"g": "a", "h": ["?_1"]}})
    found = [(s.name, s.scans, s.is_time, s.problem) for s in declared_stacks(campaign)]
    assert found == [
        ("t", ("a_1", "a_2"), False, ""),
        ("g", ("a_1", "a_2", "a_10"), True, ""),
        ("h", ("a_1", "b_1"), True, ""),
    ]
    with pytest.raises(TomopipeError, match="t is in stacks and in time: give one of them another"):
        campaign_of(folder, PAIR, stitch={"stacks": PAIR, "time": {"t": "a"}})


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("sample", "no series or scan sample in the campaign, whose series are a, b, c"),
        ("a_11", "no series or scan a_11 in the campaign, whose series are a, b, c; did you mean"),
        (["a_1", "a_*"], "a_1 appears in stitch.time more than once"),
        ([], "expected at least one scan, got none"),
        (["a_1", "c_1"], "a_1 has 4 rows and c_1 3; expected the same height"),
    ],
)
def test_check_says_what_is_wrong_with_a_volume_in_time(folder, entries, words):
    write_scan(folder / "raw" / "c_1.h5", **(SIZE | {"n_rows": 3, "pixel_size_um": 2.0}))
    campaign = in_time(folder, growth=entries, other="a")
    errors = [e for e in examine(campaign).errors if "stitch" in e]
    assert [e.startswith(f"stitch.time: growth: {words}") for e in errors] == [True], errors


def test_time_points_without_a_volume_are_gaps_unless_there_is_no_other(folder):
    (folder / "scans.tsv").write_text("scan\tselect\na_2\tno\n")
    write_scan(folder / "raw" / "a_2.h5", **(SIZE | {"n_cols": 30}))  # which is not read
    campaign = in_time(folder, growth="a")
    rows = expected_inventory(campaign, folder)
    (stack,) = find_stacks(campaign, rows, ["a_1", "a_2"])
    assert stack.problem == ""
    assert stack.gaps == {"a_2": "is unselected: select: no", "a_10": "has no COR"}
    assert stack.with_volume == ("a_1",)
    gap = "volume in time growth: 1 gap: a_2 (is unselected: select: no)"
    assert [*skipped_stacks(campaign, rows, rows)] == [gap]
    (stack,) = find_stacks(campaign, rows, [])
    assert stack.problem == "none of its scans will have a volume: a_1 has no COR"


def test_a_job_of_a_volume_in_time_asks_for_what_it_needs(folder):
    """Disk with levels, memory of one time point, time to read and write those with a volume."""
    campaign = in_time(folder, growth="a")
    rows = expected_inventory(campaign, folder)
    needed = disk_needed(campaign, [("stitch", "growth")], rows)
    assert needed == {"stitched volumes": 3 * int(8 / 7 * 4 * 4 * 32 * 32)}
    (stack,) = find_stacks(campaign, rows, ["a_1", "a_2"])
    cors_px = {"a_1": 16.0, "a_2": 16.0}
    job = Job(campaign, "stitch", stack.with_volume, rows, cors_px, "growth")
    assert need(job).mem_mb == stitch_mb(32, is_time=True)
    assert job.volume_bytes == 2 * 4 * 4 * 32 * 32


def test_report_and_commands_say_what_a_volume_in_time_is(folder):
    campaign = in_time(folder, growth="a")
    expected_inventory(campaign, campaign.results)
    known = {scan: {"cor_px": 16.0, "source": "auto"} for scan in ("a_1", "a_2")}
    (campaign.results / "cor.json").write_text(json.dumps(known))
    values = np.random.default_rng(0).normal(size=(4, 32, 32)).astype(np.float32)
    for scan in known:
        with new_volume(campaign.files.volume(scan, "h5"), values.shape) as put:
            put(0, values)
    volumes = {"a_1": campaign.files.volume("a_1", "h5"), "a_10": None}
    made = campaign.files.stitched("growth", "zarr"), campaign.files.shifts("growth")
    stitch_time(volumes, *made)
    report_campaign(campaign, folder / "page" / "index.html")
    page = (folder / "page" / "index.html").read_text()
    part = page.split('id="stacks"')[1].split("<section")[0]
    assert "2 × 4 × 32 × 32" in part
    assert "In time: a_1 to a_10; 1 gap: a_10 (has no COR)" in part
    assert "<img" not in part
    assert "could not be read" not in page
    call = CliRunner().invoke
    for words in (["view", str(folder), "growth"], ["convert", "tiff", str(folder), "growth"]):
        assert "a volume in time (t, z, y, x)" in str(call(cli, words).exception)
    done = call(cli, ["convert", "-n", "tiff", str(folder)])  # all others
    assert (done.exit_code, "growth" in done.output, "a_1_" in done.output) == (0, False, True)


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
