import json
import os

from tests.report_campaign import Made
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.state import State
from tomopipe.cli.outcome import _places, _table, _truth, show


def test_the_source_is_that_of_the_cor_shown_not_of_a_cell_that_was_ignored():
    ignored = "5000.00 is off the detector (0 to 159)"
    entry = {"scan": "a_1", "source": "manual", "confidence": 1.0, "state": "", "why": ignored}
    entry["warnings"] = []
    columns = _table([entry], {"a_1": (86.12, "ai")}, {}).columns
    shown = {str(column.header): [str(cell) for cell in column.cells] for column in columns}
    assert (shown["COR"], shown["source"], shown["remark"]) == (["86.12"], ["ai"], [ignored])


def test_a_scan_that_is_ok_with_a_warning_is_marked():
    row = {"source": "ai", "confidence": 1.0, "why": ""}
    entries = [
        row | {"scan": "a_1", "state": State.OK, "warnings": ["projections 3 and 4 are black"]},
        row | {"scan": "a_2", "state": State.OK, "warnings": []},
        row | {"scan": "a_3", "state": State.DOUBTFUL, "warnings": ["one more"]},
    ]
    table = _table(entries, {entry["scan"]: (86.12, "ai") for entry in entries}, {})
    cells = {str(c.header): [str(cell) for cell in c.cells] for c in table.columns}
    assert cells["state"] == ["ok (warning)", "ok", "doubtful"]
    assert cells["remark"] == ["projections 3 and 4 are black", "", ""]


def test_scans_that_share_a_fault_are_one_row(tmp_path):
    row = {"source": "", "warnings": []}
    names = [f"a_{number:02}" for number in range(1, 13)]
    entries = [
        row | {"scan": scan, "state": State.SKIPPED, "confidence": None, "why": "no darks"}
        for scan in names
    ]
    good = {"confidence": 1.0, "state": State.OK, "why": ""}
    entries += [row | good | {"scan": scan} for scan in ("b_1", "b_2")]
    cors = dict.fromkeys(names, (None, "")) | dict.fromkeys(("b_1", "b_2"), (86.12, "ai"))
    scans, *_, remarks = (
        [str(c) for c in column.cells] for column in _table(entries, cors, {}).columns
    )
    assert scans == ["12 scans (a_01, a_02, a_03, ...)", "b_1", "b_2"]
    assert remarks == ["no darks", "", ""]


def test_a_run_that_ended_before_cor_json_shows_its_cors_as_they_are(tmp_path, capsys):
    made = Made(tmp_path)
    for index, (name, px, manual) in enumerate(
        [("a_1", 50.0, ""), ("a_2", 65.97, ""), ("b_1", 41.0, "55")]
    ):
        made.scan(name, series=name[0], index=index, manual=manual)
        made.predict(name, px, confidence=0.93)
    made.fix("a_1", 50.0, 50.0, "auto", series="a")
    made.fix("a_2", 65.97, 50.0, "outlier", series="a", flagged=True, reason="15.97 px off")
    made.write(cor=False)
    show(made.campaign(), is_whole=False)
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {cells[0]: cells[1:5] for cells in said if cells[:1] != []}
    assert found["a_1"] == ["50.00", "auto", "0.93", "ok"]
    assert found["a_2"] == ["50.00", "outlier", "0.93", "fixed"]
    assert found["b_1"] == ["55.00", "manual", "0.93", "manual"]
    assert found["1"][:3] == ["scan", "needs", "review:"]


def test_what_waits_for_the_next_run_is_said(tmp_path, capsys):
    made = Made(tmp_path)
    made.results.mkdir()
    made.scan("a_2", series="a", index=2, manual="43")
    made.resolve("a_2", 43.0, "manual")
    made.volume("a_2", n=0, cor_px=48.99)
    os.utime(made.results / "a_2_rec.h5", (1e9, 1e9))
    made.scan("a_1", series="a", manual="52.25")
    made.predict("a_1", 49.5)
    made.resolve("a_1", 49.5, "auto")
    made.write()
    show(made.campaign(), is_whole=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "a_1 49.50 auto" in said
    assert "a_2 43.00 manual manual volume of COR 48.99, made again by the next run" in said
    assert "52.25 by hand waits for the next run; +2.75 px from the prediction" in said


def test_volumes_are_named_where_there_are_any(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    assert _places(load_campaign(tmp_path), []) == ""
    (tmp_path / "results" / "stitched").mkdir(parents=True)
    (tmp_path / "results" / "stitched" / "bone_rec.h5").touch()
    (tmp_path / "results" / "a_1_rec.h5").touch()
    shown = _places(load_campaign(tmp_path), ["a_1"])
    assert "results/<scan>_rec.h5" in shown
    assert "results/stitched/<stack>_rec.h5" in shown
    # not those of scans without a COR
    assert "<scan>" not in _places(load_campaign(tmp_path), [])


def test_the_truth_of_a_simulated_campaign_stands_beside_the_cors(tmp_path):
    known = {"scans": {"a_1": {"cor_px": 86.0, "special": ["fixed pattern"]}}}
    (tmp_path / "truth.json").write_text(json.dumps(known))
    entry = {"scan": "a_1", "confidence": 1.0, "state": "ok", "why": "", "warnings": []}
    columns = _table([entry], {"a_1": (86.12, "ai")}, _truth(tmp_path)).columns
    shown = {str(column.header): [str(cell) for cell in column.cells] for column in columns}
    assert (shown["true COR"], shown["error"], shown["remark"]) == (
        ["86.00"], ["+0.12"], ["fixed pattern"],
    )  # fmt: skip
    for content in ('{"scans": {"a_1": {"cor_px": "left"}}}', "[]", "no JSON"):  # of others
        (tmp_path / "truth.json").write_text(content)
        assert _truth(tmp_path) == {}
