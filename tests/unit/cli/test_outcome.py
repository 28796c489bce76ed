import json
import os

from tests.report_campaign import Made
from tomopipe.campaign.state import State
from tomopipe.cli.outcome import _table, _truth, show


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
