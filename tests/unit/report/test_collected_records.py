"""What the report reads of a campaign: states, failures, series, times, broken files."""

import dataclasses
import json
import os
import re
import subprocess
from collections import defaultdict
from types import SimpleNamespace

import h5py
import pytest

from tests import report_campaign
from tests.report_campaign import NASTY, write_json
from tomopipe.campaign.failures import read_failures
from tomopipe.campaign.results import Model
from tomopipe.campaign.state.sentences import warnings_of
from tomopipe.campaign.state.signs import State
from tomopipe.report.collected_records import collect, collect_failures, collect_scans, commit
from tomopipe.report.scan_records import other_cor_px
from tomopipe.reruns.receipts import write_receipt
from tomopipe.scans.metadata import IN_ORDER
from tomopipe.steps.report import report


def every_state(folder):
    return report_campaign.every_state(folder, plane_px=0)


def by_name(made, **changed):
    record = collect(made.campaign(**changed), points=True)
    return {scan.name: scan for scan in record.scans}, record


def groups(record):
    found = defaultdict(lambda: defaultdict(str))
    for group in record.alerts:
        for alert in group.alerts:
            for scan in alert.scans:
                found[group.title][scan.name] += alert.text
    return found


def test_every_scan_is_in_its_state(tmp_path):
    scans, record = by_name(every_state(tmp_path).write())
    ok = {f"bone_{i:03d}": "ok" for i in range(1, 5)}
    assert {name: scan.state for name, scan in scans.items()} == ok | {
        "bone_005": "doubtful",  # accepted with 0.52 where 0.50 is the limit
        "bone_006": "fixed",
        "bone_007": "manual",
        "bone_008": "filled",
        "bone_009": "skipped",
        "bone_010": "unselected",
        NASTY: "failed",
        "Knochen größe 三_1": "failed",
        "wood_1": "unresolved",
    }
    other_counts = {"ok": 4, "failed": 2, "pending": 0, "unswept": 0}
    assert record.counts == dict.fromkeys(State, 1) | other_counts
    assert not record.notes


def test_an_aborted_scan_that_somebody_selected_says_so(tmp_path):
    made = report_campaign.Made(tmp_path)
    reason = "aborted: 70 frames for 121 angles in /exchange/theta"
    for name, select in (("bone_1", "yes"), ("bone_2", "auto")):
        made.scan(name, select=select, keep=False, reason=f"{reason}; {IN_ORDER}")
    scans, _ = by_name(made.write())
    assert warnings_of(scans["bone_1"]) == (f"selected in scans.tsv: {reason}",)
    assert scans["bone_2"].state is State.SKIPPED
    assert warnings_of(scans["bone_2"]) == ()


@pytest.mark.parametrize("of_wrong", ["auto", "manual", "outlier", "flagged"])
def test_a_prediction_that_its_series_contradicts_is_doubtful(tmp_path, of_wrong):
    """One of eight is off by 0.5 px; the others are never named, whatever it is."""
    made = report_campaign.Made(tmp_path)
    for index in range(8):
        name, cor_px = f"bone_{index}", round(512 + 0.04 * index + 0.5 * (index == 6), 2)
        source = of_wrong if index == 6 and of_wrong != "flagged" else "auto"
        flagged = index == 6 and of_wrong in ("flagged", "outlier")
        manual = str(cor_px) if source == "manual" else ""
        made.scan(name, index=index, manual=manual)
        made.predict(name, cor_px)
        made.fix(name, f"{cor_px}", f"{cor_px}", source, flagged=flagged, reason="x" * flagged)
        made.resolve(name, cor_px, source)
    scans, record = by_name(made.write())
    states = {"auto": "doubtful", "manual": "manual", "outlier": "fixed", "flagged": "doubtful"}
    assert scans["bone_6"].state == states[of_wrong]
    assert {scan.state for name, scan in scans.items() if name != "bone_6"} == {"ok"}
    why = "+0.50 px off its series (scatter 0.00 px)"
    assert (scans["bone_6"].why == why) is (of_wrong == "auto")
    assert (groups(record)["Doubtful predictions"]["bone_6"] == why) is (of_wrong == "auto")


def test_a_view_that_is_not_swept_is_no_alert_and_its_earlier_prediction_does_not_count(tmp_path):
    made = report_campaign.Made(tmp_path)
    reason = "not swept (try_recon.every: 2); from the line over time of bone.nx"
    for index in range(4):
        made.scan(f"bone@{index}", index=index)
        made.predict(f"bone@{index}", 512.0)  # of all, before `every` was set
        cors = ("512.00", "512.00", "auto") if index % 2 == 0 else (None, "512.05", "time")
        made.fix(f"bone@{index}", *cors, reason=reason * (index % 2))
        made.resolve(f"bone@{index}", float(cors[1]), cors[2])
    scans, record = by_name(made.write())
    assert [scan.state for scan in scans.values()] == ["ok", "unswept"] * 2
    assert [scan.prediction is None for scan in scans.values()] == [False, True] * 2
    assert (scans["bone@1"].why, scans["bone@1"].to_do) == (reason, "")
    assert not groups(record)


_RANGE = "{start: 0, stop: 180}"


@pytest.mark.parametrize("others_agree", [True, False])
@pytest.mark.parametrize(
    ("advice", "of_all", "angles"),
    [
        ("the projections show 180: if so, set {}", f"input.angles: {_RANGE}", _RANGE),
        ("it is the axis of a pattern, or the angles are wrong ({})", "input.angles", "..."),
    ],
)
def test_advice_on_angles_names_the_scan_where_others_agree_with_theirs(
    tmp_path, others_agree, advice, of_all, angles
):
    of_all = advice.format(of_all)
    made = report_campaign.Made(tmp_path)
    for index in range(3):
        is_wrong = index == 1 or not others_agree
        verdict = ("ambiguous", of_all) if is_wrong else ()
        made.scan(f"bone_{index}", index=index)
        made.predict(f"bone_{index}", 512.0, 0.9, *verdict)
    few = "90 angles for 181 frames: {}, or to a file of 181 lines"
    in_file = few.format("set input.angles to {start: 0, stop: 180}")
    made.scan("bone_3", index=3, keep=False, reason=in_file)
    scans, _ = by_name(made.write(fixes=False, cor=False))
    in_table = 'set overrides: [{scans: ["bone_3"], input: {angles: {start: 0, stop: 180}}}]'
    assert scans["bone_3"].why == few.format(in_table)  # as `check` says
    of_one = advice.format(f'overrides: [{{scans: ["bone_1"], input: {{angles: {angles}}}}}]')
    assert scans["bone_1"].prediction.reason == (of_one if others_agree else of_all)
    assert scans["bone_0"].prediction.reason == ("" if others_agree else of_all)


def test_a_reason_with_advice_is_given_once(tmp_path):
    made = report_campaign.Made(tmp_path)
    cause = "the pattern stays in place, or the angles are wrong (input.angles)"
    of_fix = f"no COR (prediction: {cause}), and none in the series to fill it from"
    for index in range(2):
        made.scan(f"bone_{index}", index=index)
        made.predict(f"bone_{index}", *(((512.0, 0.9), (512.0, 0.3, "ambiguous", cause))[index]))
    made.fix("bone_0", "512.00", "512.00", "auto")
    made.fix("bone_1", None, None, "missing", reason=of_fix)
    scans, _ = by_name(made.write(cor=False))
    assert scans["bone_1"].why.count("the pattern stays in place") == 1


@pytest.mark.parametrize("n_dark", [1, 2, 3])
def test_advice_on_projections_to_skip_can_be_copied(tmp_path, n_dark):
    made = report_campaign.Made(tmp_path)
    for index in range(3):
        dark = "a is dark (input: {skip_projections: [0]} leaves it out)" * (index < n_dark)
        made.scan(f"bone_{index}", index=index, warnings=dark)
    skipped = {"skip_projections": [[40, 49]]}
    scans, _ = by_name(made.write(fixes=False, cor=False), input=skipped)
    of_all = "input: {skip_projections: [[40, 49], 0]}"
    of_one = f'overrides: [{{scans: ["bone_0"], {of_all}}}]'
    (warning,) = scans["bone_0"].warnings
    assert warning == f"a is dark ({of_one if n_dark == 1 else of_all} leaves it out)"
    assert len(scans["bone_2"].warnings) == (n_dark == 3)


@pytest.mark.parametrize("other", [{"n_cols": 768}, {"pixel_size_um": 1.3}])
def test_only_scans_of_one_width_and_pixel_size_are_compared(tmp_path, other):
    """Every fourth of 24 scans is cropped, or binned otherwise; of both kinds one COR is wrong."""
    made = report_campaign.Made(tmp_path)
    for index in range(24):
        row = {"n_cols": 1024, "pixel_size_um": 0.65}
        cor_px = 512.0
        if index % 4 == 0:
            row |= other
            cor_px = 505.0
        name, cor_px = f"bone_{index:02d}", f"{cor_px + 7.0 * (index in (11, 12)):.2f}"
        made.scan(name, index=index, **row)
        made.predict(name, float(cor_px))
        made.fix(name, cor_px, cor_px, "auto")
        made.resolve(name, float(cor_px), "auto")
    scans, _ = by_name(made.write())
    assert [name for name, s in scans.items() if s.state == "doubtful"] == ["bone_11", "bone_12"]


def test_scans_of_one_recorded_height_are_compared(tmp_path):
    """Three heights in no order, 10 px apart: one COR is 5 px off those of its height."""
    made = report_campaign.Made(tmp_path)
    for index, place in enumerate((0, 2, 2, 1, 0, 1, 1, 2, 0, 0, 1, 2, 0, 2, 1)):
        name, cor_px = f"bone_{index:02d}", f"{505 + 10 * place + 5 * (index == 6):.2f}"
        made.scan(name, index=index, height_mm=4.0 * place)
        made.predict(name, float(cor_px))
        made.fix(name, cor_px, cor_px, "auto")
        made.resolve(name, float(cor_px), "auto")
    scans, _ = by_name(made.write())
    assert [name for name, s in scans.items() if s.state == "doubtful"] == ["bone_06"]


@pytest.mark.parametrize(("n_scans", "state"), [(6, "ok"), (7, "doubtful")])
def test_a_cor_by_hand_outside_of_the_limit_is_no_point_of_the_line(tmp_path, n_scans, state):
    """Without it, six scans have five: too few."""
    made = report_campaign.Made(tmp_path)
    for index in range(n_scans):
        name, cor_px = f"bone_{index}", f"{512 + 30 * (index == 1) + 0.5 * (index == 3):.2f}"
        source = "manual" if index == 1 else "auto"
        made.scan(name, index=index, manual=cor_px if index == 1 else "")
        made.predict(name, float(cor_px))
        made.fix(name, cor_px, cor_px, source, flagged=index == 1)
        made.resolve(name, float(cor_px), source)
    assert by_name(made.write())[0]["bone_3"].state == state


def test_without_the_points_of_curves_a_scan_is_in_the_same_state(tmp_path):
    made = every_state(tmp_path)
    _, record = by_name(made)
    found = collect_scans(made.campaign())
    for whole, scan in zip(record.scans, found, strict=True):
        assert (scan.name, scan.state, scan.reason) == (whole.name, whole.state, whole.reason)
        assert scan.doubts == whole.doubts
        curves, wholes = (
            scan_record.prediction.curves if scan_record.prediction else ()
            for scan_record in (scan, whole)
        )
        assert [dataclasses.replace(curve, cor_px=(), score=()) for curve in wholes] == list(curves)


def test_what_needs_attention(tmp_path):
    made = every_state(tmp_path)
    made.scan("metal_1", series="metal", manual="1024,5")
    made.scan("metal_2", series="metal", index=2, manual="1024")  # one past the last column
    made.scan("metal_3", series="metal", index=3, manual="1023")
    _, record = by_name(made.write())
    found = groups(record)
    assert set(found["Failed"]) == {NASTY, "Knochen größe 三_1"}
    assert "constant frames" in found["Failed"]["Knochen größe 三_1"]
    assert set(found["Ignored values of the campaign table"]) == {"metal_1", "metal_2"}
    assert set(found["Filled"]) == {"bone_008"}
    assert set(found["Outliers"]) == {"bone_006"}
    assert set(found["Doubtful predictions"]) == {"bone_005"}  # 0.52; 0.61 is far enough from 0.5
    assert set(found["Warnings"]) == {"bone_002"}
    assert next(iter(found)) == "Failed"


def test_a_volume_of_a_cor_of_before_does_not_count(tmp_path):
    made = report_campaign.Made(tmp_path)
    made.results.mkdir()
    for name, cor_px in (("a_1", 43.0), ("a_2", 48.99)):
        made.scan(name, series="a", manual="43")
        made.resolve(name, 43.0, "manual")
        made.volume(name, n=40, cor_px=cor_px)
        os.utime(made.results / f"{name}_rec.h5", (1e9, 1e9))
    made.status("full_recon", "a_2", 3.0, state="failed", error="OSError: disk full")
    why = {"full_recon": "COR of a_2: 48.99 -> 43.00"}
    record = collect(made.write().campaign(), points=True, why=lambda step, _: why.get(step, ""))
    scans = {scan.name: scan for scan in record.scans}
    assert [scans[name].reached for name in ("a_1", "a_2")] == ["volume", "COR"]
    assert [failure.step for failure in scans["a_2"].failures] == ["full_recon"]
    again = "volume of COR 48.99, made again by the next run"
    assert groups(record)["Pending changes"] == {"a_2": again}
    report(made.page, made.campaign(), why=lambda step, _: why.get(step, ""))
    page = made.page.read_text()
    assert "<b>1</b> of 2 reconstructed" in page
    assert f'<td class="reason">{again}; full_recon: OSError: disk full' in page
    assert "Volume of COR 48.99, made again by the next run." in page


def test_a_filled_cor_of_a_run_of_some_scans_is_that_of_the_volume(tmp_path):
    """Such a run writes no tables: without methods a COR follows from those by hand."""
    made = report_campaign.Made(tmp_path)
    made.results.mkdir()
    made.scan("a_1", series="a", index=1, manual="43")
    for index, source in enumerate(("series-mean", "default", "series-mean", "auto"), 2):
        made.scan(f"a_{index}", series="a", index=index)
        made.volume(f"a_{index}", n=0, cor_px=43.0, source=source)
    (made.results / "made" / "full_recon" / "a_4.json").unlink()  # as a run withdraws it
    scans, _ = by_name(made.write(cor=False))
    states = {name: (scan.state, *scan.shown) for name, scan in scans.items()}
    assert states == {
        "a_1": ("manual", 43.0, "manual"),
        "a_2": ("doubtful", 43.0, "series-mean"),
        "a_3": ("filled", 43.0, "default"),
        "a_4": ("pending", None, ""),
        "a_5": ("pending", None, ""),
    }
    assert scans["a_2"].why == "filled with 43.00 px, error unknown"


@pytest.mark.parametrize("manual", ["", "512"])
def test_after_a_run_that_was_stopped_earlier_results_are_named_as_such(tmp_path, manual):
    made = report_campaign.Made(tmp_path)
    for name in ("a_1", "a_2"):
        made.scan(name, series="a", manual=manual)
        made.predict(name, 512.0)
        (made.results / "try_center" / name / "center_of_rotation.txt").touch()
        made.volume(name, n=0, cor_px=512.0)
        made.resolve(name, 512.0, "manual" if manual else "auto")
    for step in ("predict_cor", "full_recon"):
        (made.results / "made" / step / "a_1.json").unlink()  # as a run withdraws them
    record = collect(made.write().campaign(), why=lambda step, _: f"{step} differs")
    of_both = [
        f"{what} of earlier options or files ({step} differs), made again by the next run"
        for what, step in (("prediction", "predict_cor"), ("volume", "full_recon"))
    ]
    scans = {scan.name: scan.for_next_run for scan in record.scans}
    assert scans == {"a_1": tuple(of_both[1:] if manual else of_both), "a_2": ()}


def test_a_job_whose_run_is_over_does_not_run(tmp_path):
    """Its status stays as it was when it was killed, and its result may be whole."""
    made = report_campaign.Made(tmp_path)
    made.scan("a_1")
    made.status("full_recon", "a_1", 0, "running", run="results/.runs/1")
    (tmp_path / "results" / ".runs" / "1").mkdir(parents=True)
    scans, _ = by_name(made.write())
    assert scans["a_1"].reached == "running full_recon"
    made.status("full_recon", "a_1", 0, "running", heartbeat=1_732_000_060.0)  # long ago
    assert by_name(made)[0]["a_1"].reached == ""
    made.status("full_recon", "a_1", 0, "running", run="results/.runs/1")
    (tmp_path / "results" / ".runs" / "1").rmdir()
    scans, _ = by_name(made.write())
    assert scans["a_1"].reached == ""


def test_on_missing_block_leaves_fix_tables_alone(tmp_path):
    """No cor.json, since resolve_cor stopped: the scan without a COR is told from the others."""
    scans, _ = by_name(every_state(tmp_path).write(cor=False))
    assert scans["wood_1"].state == "unresolved"
    assert scans["bone_001"].state == "ok"
    made = every_state(tmp_path / "b").write(cor=False)
    scans, _ = by_name(made, resolve_cor={"default_px": 512.0})
    assert scans["wood_1"].state == "doubtful"


def test_a_recorded_failure_is_told_with_the_end_of_its_log(tmp_path):
    made = report_campaign.Made(tmp_path)
    made.scan("a_1", series="a")
    record = {"bytes": 3, "mtime_ns": 7, "reason": "killed on node7"}
    write_json(record, made.results / "failed/try_recon/a_1.json")
    made.log("try_recon", "a_1", "first\n" + "x" * 20_000 + "\nlast line\n")
    failures = read_failures(made.results, {"a_1": SimpleNamespace(n_bytes=3, mtime_ns=7)})
    campaign = dataclasses.replace(made.write(cor=False).campaign(), failures=failures)
    record = collect(campaign)
    assert [scan.state for scan in record.scans] == ["failed"]
    (failure,) = record.failures
    assert failure.error == "killed on node7"
    assert failure.log == os.path.join("logs", "try_recon", "a_1.log")
    assert failure.log_tail.endswith("last line")
    assert "first" not in failure.log_tail


def test_a_later_success_makes_a_failure_void(tmp_path):
    made = every_state(tmp_path)
    made.status("full_recon", "bone_001", 5, "failed", error="OSError: disk full")
    scans, record = by_name(made.write())
    assert scans["bone_001"].state == "ok"
    assert "bone_001" not in {f.key for f in record.failures}


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_failed_job_that_is_no_longer_wanted_is_not_told(tmp_path, is_wanted):
    made = every_state(tmp_path)
    series = "bone" if is_wanted else "gone"
    for step, key in (("stitch", "tall"), ("fix_cor", series), ("export_star", "campaign")):
        made.status(step, key, 1, "failed", error="TomopipeError: x")
    members = ["bone_001", "bone_002" if is_wanted else "none"]
    _, record = by_name(
        made.write(), stitch={"stacks": {"tall": members}}, export_star={"enabled": is_wanted}
    )
    told = {f.step for f in record.failures if f.error == "x"}
    assert told == ({"stitch", "fix_cor", "export_star"} if is_wanted else set())


def test_failures_alone_are_those_of_the_whole_record_and_need_no_result_of_a_scan(tmp_path):
    campaign = every_state(tmp_path).write().campaign()
    told = collect(campaign).failures
    assert len(told) > 1
    for path in (tmp_path / "results" / "try_center").glob("*/try.json"):
        path.unlink()
        path.mkdir()  # reading it fails
    assert collect_failures(campaign) == told


def test_refused_names_are_skipped_with_their_reason(tmp_path):
    made = every_state(tmp_path)
    for folder in ("day1", "day2"):
        made.inventory.append(
            {"scan": "twice", "path": f"{folder}/twice.h5", "series": "", "index": 0}
            | {"keep": False, "reason": "two files with one name"}
        )
    _, record = by_name(made.write())
    twice = [s for s in record.scans if s.name == "twice"]
    assert [(s.state, s.reason) for s in twice] == [("skipped", "two files with one name")] * 2


def test_series_are_in_order_with_median_and_limit(tmp_path):
    _, record = by_name(every_state(tmp_path).write())
    bone = next(s for s in record.series if s.key == "bone")
    assert [s.index for s in bone.scans] == [1, 2, 3, 4, 5, 6, 7, 8, 10]  # 9 is skipped
    assert bone.median_px == pytest.approx(512.85)  # of the values before fixing, hand-set one too
    assert bone.limit_px == 10.0


def test_a_table_of_a_series_that_is_gone_is_not_read(tmp_path):
    made = every_state(tmp_path).write()
    old = made.results / "fix_cor" / "zzz.tsv"
    old.write_text((made.results / "fix_cor/bone.tsv").read_text().replace("548.50", "1.00"))
    scans, _ = by_name(made)
    assert scans["bone_006"].fix.before_px == 548.5


def test_a_failed_prediction_is_listed_though_filled(tmp_path):
    made = every_state(tmp_path)
    made.cor[name := "Knochen größe 三_1"] = {"cor_px": 512.0, "source": "default"}
    made.status("predict_cor", name, 1.5)
    scans, record = by_name(made.write())
    assert scans[name].state == "filled"
    assert ("predict_cor", "constant frames") in {(f.step, f.error) for f in record.failures}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "results/inventory.tsv",
        "results/cor.json",
        "results/fix_cor/bone.tsv",
        "results/try_center/bone_001/prediction.json",
        "logs/status/full_recon/bone_001.json",
    ],
)
def test_a_broken_file_is_noted_and_left_out(tmp_path, path):
    made = every_state(tmp_path).write()
    for content in (b"", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / path).write_bytes(content)
        _, record = by_name(made)
        assert [note.path for note in record.notes] == [path], content[:9]
        assert len(record.scans) == 13


@pytest.mark.parametrize(
    "prediction",
    [
        {"best_cor_px": "NaN", "confidence": [], "methods": 3},
        {"methods": {"classical": {"curve": {"cor_px": [1, None, 3], "score": [1, 2, "x", 4]}}}},
        {"confidence": True, "model": 7, "methods": {"a": {"curve": {"cor_px": 1}}}},
    ],
)
def test_a_prediction_with_odd_values_is_no_trouble(tmp_path, prediction):
    made = every_state(tmp_path).write()
    path = made.results / "try_center" / "bone_001" / "prediction.json"
    path.write_text(json.dumps(prediction))
    scans, _ = by_name(made)
    found = scans["bone_001"].prediction
    assert found.best_cor_px is None
    assert (found.confidence, found.model) == (None, None)
    assert all(len(c.cor_px) == len(c.score) for c in found.curves)


def test_models_and_seeds_are_on_record(tmp_path):
    made = every_state(tmp_path)
    for name in ("bone_001", "bone_002"):
        path = made.results / "try_center" / name / "prediction.json"
        data = json.loads(path.read_text())
        write_json(data | {"method": "ai", "model": {"name": "small", "sha256": "ab" * 32}}, path)
    write_json({"seed": 42, "scans": {"a_1": {}}}, tmp_path / "truth.json")
    campaign = collect(made.write().campaign())
    assert campaign.models == {Model("small", "ab" * 32): 2}
    assert campaign.seed == "42"
    report(made.page, made.campaign())
    html = made.page.read_text(encoding="utf-8").split('id="provenance"')[1]
    assert "small, 2 predictions" in html
    assert "ab" * 32 in html
    for foreign in ({"seed": 5}, {"seed": 5, "scans": 3}, [1]):
        write_json(foreign, tmp_path / "truth.json")
        found = collect(made.campaign())
        assert (found.seed, found.notes) == ("", ())


def test_the_commit_of_a_checkout_is_named(tmp_path):
    assert commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a").write_text("1")
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    commit.cache_clear()
    clean = commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "a").write_text("2")
    commit.cache_clear()
    assert commit(tmp_path) == f"{clean}-dirty"


def test_what_try_recon_noted_is_told(tmp_path):
    made = every_state(tmp_path).write()
    path = made.results / "try_center" / "bone_002" / "try.json"
    grid = json.loads(path.read_text())
    write_json(grid | {"half_acquisition": True, "notes": ["3 frames were empty"]}, path)
    (path.parent.parent / "bone_003" / "try.json").write_text("{")
    path = made.results / "try_center" / "bone_001" / "prediction.json"
    found = {"roll_px_per_100_rows": -0.254, "roll_error_px_per_100_rows": 0.0831}
    found |= {"warnings": ["4 of 121 projections are dark"]}
    found |= {"roll_deg": 0.312, "pitch": {"deg": -0.08, "error_deg": 0.01, "rim_px": 0.2}}
    write_json(json.loads(path.read_text()) | found, path)
    path = made.results / "try_center" / "bone_003" / "prediction.json"
    write_json(json.loads(path.read_text()) | {"pitch": None}, path)
    made.status("full_recon", "bone_001", 5, warning="volume: half of its voxels")
    scans, record = by_name(made)
    assert "volume: half of its voxels" in groups(record)["Warnings"]["bone_001"]
    assert scans["bone_002"].warnings == (
        *("no theta: 0 to 180 assumed", "3 frames were empty"),
        "half acquisition: slices twice as wide as the detector",
    )
    assert "3 frames were empty" in groups(record)["Warnings"]["bone_002"]
    assert "4 of 121 projections are dark" in groups(record)["Warnings"]["bone_001"]
    assert [note.path for note in record.notes] == ["results/try_center/bone_003/try.json"]
    report(made.page, made.campaign())
    page = made.page.read_text(encoding="utf-8")
    assert "pitch of 0.08 ± 0.01°, roll -0.25 ± 0.08 px per 100 rows" in page
    assert "roll of +0.31° corrected, pitch" in page
    assert page.count("pitch not measured") == 1
    assert "4 of 121 projections are dark" in page


@pytest.mark.parametrize("manual", ["", "512"])
def test_a_cor_by_hand_of_a_file_that_was_replaced_after_its_sweep_is_named(tmp_path, manual):
    made = report_campaign.Made(tmp_path)
    for name in ("a_1", "a_2"):
        made.scan(name, series="a", manual=manual)
        made.predict(name, 512.0)
        made.volume(name, n=0, cor_px=512.0)
        made.resolve(name, 512.0, "manual" if manual else "auto")
        write_json(
            {"made_from": {"raw": ["raw 7:1"]}}, made.results / f"try_center/{name}/try.json"
        )
        raw = ["raw 7:1" if name == "a_1" else "raw 7:2", "raw 9:3"]  # and flats of all
        write_json({"made_from": {"raw": raw}}, made.results / f"made/full_recon/{name}.json")
    scans = {scan.name: scan.warnings for scan in collect(made.write().campaign()).scans}
    warning = (
        "the raw file was replaced after its sweep: is COR 512 by hand of the new one? "
        "`tomopipe run --predict a_2` measures it"
    )
    assert scans == {"a_1": (), "a_2": (warning,) if manual else ()}


def test_a_failed_sweep_leaves_no_slices(tmp_path):
    made = every_state(tmp_path).write()
    path = made.results / "try_center" / "bone_002" / "try.json"
    write_json({"failed": "no angles"}, path)
    scans, _ = by_name(made)
    swept = {name: scans[name].swept for name in ("bone_001", "bone_002", "bone_006")}
    assert swept == {"bone_001": True, "bone_002": False, "bone_006": False}


def test_the_cor_of_a_volume_is_that_of_its_receipt_only_as_long_as_both_belong_together(tmp_path):
    """The receipt of this volume states another COR on purpose, to see which of both is read."""
    volume, table, receipt = (tmp_path / name for name in ("a_rec.h5", "cor.json", "a.json"))
    with h5py.File(volume, "w") as file:
        file["provenance/json"] = json.dumps({"cor": {"cor_px": 40.0}})
    os.utime(volume, (1e9, 1e9))
    table.touch()

    def read_px(cor_px=20.0):
        return other_cor_px(volume, cor_px, table, receipt)

    assert read_px() == 40.0  # no receipt
    write_receipt(receipt, {"step": "full_recon", "cor_px": 30.0}, [volume.name], {}, {}, tmp_path)
    assert (read_px(), read_px(30.0)) == (30.0, None)
    os.utime(volume, (5e8, 5e8))  # as a copy of it, or another one
    assert (read_px(), read_px(40.0)) == (40.0, None)
    for content in ("{", "[]", '{"files": [], "made_from": 3}'):
        receipt.write_text(content)
        assert read_px() == 40.0
