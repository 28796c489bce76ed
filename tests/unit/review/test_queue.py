"""The queue: what state a scan is in for a person, and which comes first."""

import dataclasses
import json
import re

import pytest

from tests.report_campaign import NASTY, every_state
from tests.review_campaign import TABLE, UNTOUCHED, client_of, make_campaign
from tomopipe.campaign.table import edit_table
from tomopipe.cor.outliers import EDITED
from tomopipe.errors import TomopipeError
from tomopipe.report.collected_records import collect
from tomopipe.review import queue as decisions
from tomopipe.review.queue import checked_cells, queue_entries, read_cells
from tomopipe.storage import shared


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    made = every_state(tmp_path_factory.mktemp("campaign"), plane_px=0).write()
    return collect(made.campaign())


CELLS = {
    "bone_007": {"select": "auto", "cor_px": "513.65", "note": ""},
    "bone_010": {"select": "no", "cor_px": "", "note": ""},
}


def entries(record, cells=CELLS):
    known = {scan.name for scan in record.scans}
    return queue_entries(record.scans, cells, known)


def by_name(record, cells=CELLS):
    return {entry["scan"]: entry for entry in entries(record, cells)}


def test_the_worst_come_first(record):
    order = [entry["scan"] for entry in entries(record)]
    assert order[:6] == [
        "wood_1",  # the least confident
        "bone_005",
        "bone_006",
        "bone_008",
        "Knochen größe 三_1",  # has no COR at all
        NASTY,
    ]
    # those that are well: with a warning of its file, then the least sure
    assert order[6:10] == ["bone_002", "bone_004", "bone_003", "bone_001"]
    assert order[-1] == "bone_010"


def test_a_confident_outlier_that_was_kept_comes_first(tmp_path):
    made = every_state(tmp_path, plane_px=0)
    made.predict("bone_006", 548.5, 0.99)
    (row,) = (row for row in made.fixes["bone"] if row["scan"] == "bone_006")
    why = "Measured 548.50, 35 px from its series; kept (confidence 0.99). The series gives 513.45."
    row |= {"after_px": "548.50", "source": "auto", "reason": why, "neighbours": ""}
    made.resolve("bone_006", 548.5, "auto")
    first = entries(collect(made.write().campaign()))[0]
    assert (first["scan"], first["state"], first["why"]) == ("bone_006", "doubtful", why)
    by_hand = CELLS | {"bone_006": {"select": "auto", "cor_px": "513.5", "note": ""}}
    assert entries(collect(made.campaign()), by_hand)[0]["scan"] == "wood_1"


def test_a_filled_cor_shows_its_error(record):
    scans = {scan.name: scan for scan in record.scans}
    fix = dataclasses.replace(scans["bone_008"].fix, fill_px=512.81, fill_error_px=6.3)
    scans["bone_008"] = dataclasses.replace(scans["bone_008"], fix=fix)

    def text_of(scan, cor_px=""):
        cells = {scan: {"select": "auto", "cor_px": cor_px, "note": ""}}
        (entry,) = queue_entries([scans[scan]], cells, scans)
        return entry["cor_text"]

    assert text_of("bone_008") == "512.8 ± 7"
    assert text_of("bone_008", "514") == "514.00"
    assert (text_of("bone_001"), text_of("Knochen größe 三_1")) == ("511.65", "")


@pytest.mark.parametrize("scan", ["bone_001", "bone_005", "bone_006", "bone_008"])
def test_a_cor_of_the_table_that_cannot_be_read_is_said_once(record, scan):
    cells = CELLS | {scan: {"select": "auto", "cor_px": "513,6", "note": ""}}
    entry = by_name(record, cells)[scan]
    said = "; ".join([entry["why"], *entry["warnings"]])
    assert said.count("'513,6' is not a number") == 1, said


def test_a_scan_that_is_ok_with_a_warning_comes_before_the_others_and_says_it(record):
    scans = {scan.name: scan for scan in record.scans}
    warnings = ("projections 3 and 4 are black", of_all := "theta in rad")
    scans = {name: dataclasses.replace(scan, warnings=(of_all,)) for name, scan in scans.items()}
    scans["bone_001"] = dataclasses.replace(scans["bone_001"], warnings=warnings)
    found = queue_entries(scans.values(), CELLS, scans)
    of_ok = [entry["scan"] for entry in found if entry["state"] == "ok"]
    assert of_ok[0] == "bone_001"
    entries = {entry["scan"]: entry["warnings"] for entry in found}
    assert (entries["bone_001"], entries["bone_002"]) == (["projections 3 and 4 are black"], [])


def test_a_decision_shows_before_the_next_run(record):
    cells = CELLS | {"wood_1": {"select": "auto", "cor_px": "401", "note": ""}}
    wood = by_name(record, cells)["wood_1"]
    assert (wood["state"], wood["cor_px"], wood["rerun"]) == ("manual", 401.0, True)
    assert not by_name(record)["wood_1"]["rerun"]
    assert not by_name(record)["bone_007"]["rerun"]  # the results were made with it
    moved = CELLS | {"bone_007": {"select": "auto", "cor_px": "513.66", "note": ""}}
    assert by_name(record, moved)["bone_007"]["rerun"]
    assert "from the median" in by_name(record)["bone_006"]["why"]
    by_hand = CELLS | {"bone_006": {"select": "auto", "cor_px": "513.5", "note": ""}}
    assert "from the median" not in by_name(record, by_hand)["bone_006"]["why"]


def test_a_refused_name_is_listed_and_cannot_be_decided(record):
    found = queue_entries(record.scans, CELLS, {"bone_001"})
    assert {e["scan"] for e in found if not e["refused"]} == {"bone_001"}
    assert len(found) == len(record.scans)


def test_a_file_edited_by_hand_is_manual_and_waits_for_no_run(tmp_path):
    made = every_state(tmp_path, plane_px=0)
    (row,) = (row for row in made.fixes["bone"] if row["scan"] == "bone_005")
    row |= {"before_px": "515.00", "after_px": "515.00", "source": "manual", "reason": EDITED}
    made.resolve("bone_005", 515.0, "manual")
    record = collect(made.write().campaign())
    (scan,) = (scan for scan in record.scans if scan.name == "bone_005")
    assert (scan.state, scan.source, scan.reason) == ("manual", "manual", EDITED)
    assert (scan.prediction.method, scan.prediction.confidence) == ("", None)
    entry = by_name(record)["bone_005"]
    assert (entry["state"], entry["source"], entry["confidence"]) == ("manual", "manual", None)
    assert (entry["cor_px"], entry["rerun"]) == (515.0, False)


def decide(table, scan, cells, seen, stamp=""):
    wanted = {scan: (cells, seen)}
    return decisions.decide(table, wanted, by="page", tell=pytest.fail, stamp=stamp)[scan]


def post(client, **decision):
    """Send one decision as the page does; return the answer for its scan."""
    answer = client.post("/api/decide", json={"decisions": [decision]})
    assert answer.status_code == 200
    assert answer.json()["problem"] == ""
    return answer.json()["rows"][decision["scan"]]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_text(TABLE)
    return path


def test_the_same_row_changed_twice_is_shown_and_not_overwritten(table):
    assert decide(table, "bone_001", {"cor_px": "512.00"}, UNTOUCHED).saved
    before = table.read_bytes()
    second = decide(table, "bone_001", {"cor_px": "700.00"}, UNTOUCHED)
    assert not second.saved
    assert second.cells == UNTOUCHED | {"cor_px": "512.00"}
    assert table.read_bytes() == before
    assert decide(table, "bone_001", {"cor_px": "700.00"}, second.cells).saved


def test_a_note_of_somebody_else_counts_as_a_change_of_the_row(table):
    edit_table(table, {"bone_001": {"note": "moved"}})
    assert not decide(table, "bone_001", {"cor_px": "512.00"}, UNTOUCHED).saved


def test_the_same_decision_twice_is_no_conflict(table):
    for _ in range(2):
        assert decide(table, "bone_001", {"cor_px": "512.00"}, UNTOUCHED).saved


def test_an_edit_of_the_same_row_in_that_moment_is_shown(table, monkeypatch):
    flush = shared.flush
    theirs = iter([TABLE + "bone_001\tauto\t500\t\t\n"])

    def late(temporary):
        flush(temporary)
        if text := next(theirs, None):
            table.write_text(text)

    monkeypatch.setattr(shared, "flush", late)
    outcome = decide(table, "bone_001", {"cor_px": "512.00"}, UNTOUCHED)
    assert (outcome.saved, outcome.cells["cor_px"]) == (False, "500")


def test_source_and_time_go_into_the_note_if_asked(table):
    decide(table, "bone_001", {"cor_px": "512.00"}, UNTOUCHED, stamp="review T")
    seen = read_cells(table)["bone_007"]
    decide(table, "bone_007", {"cor_px": "512.00"}, seen, stamp=decisions.stamp_now())
    notes = {scan: row["note"] for scan, row in read_cells(table).items()}
    assert notes["bone_001"] == "review T"
    assert re.fullmatch(r"by eye; review \d{4}-\d\d-\d\d \d\d:\d\d UTC", notes["bone_007"])


def test_cells_are_checked():
    checked = checked_cells("a", {"cor_px": " 12.5 ", "note": " x "}, 64)
    assert checked == {"cor_px": "12.50", "note": "x"}
    assert checked_cells("a", {"cor_px": "12,5"}, 64) == {"cor_px": "12.50"}
    assert checked_cells("a", {"cor_px": ""}, None) == {"cor_px": ""}
    assert checked_cells("a", {"cor_px": "1O24"}, 64, undo=True) == {"cor_px": "1O24"}
    for cells in ({"scan": "b"}, {"select": "maybe"}):
        with pytest.raises(TomopipeError, match="expected"):
            checked_cells("a", cells, 64)
    for note in ("a\0b", "a\tb", "a\nb", "\x1b[31m", "\ud800"):
        with pytest.raises(TomopipeError, match="a cell cannot"):
            checked_cells("a", {"note": note}, 64)


BODY = {"scan": "bone_001", "cells": {"cor_px": "512"}, "seen": UNTOUCHED}


def one_decision(**changes):
    return json.dumps({"decisions": [BODY | changes]}).encode()


NONSENSE = {
    "no object": b"[]",
    "no decision": b'{"decisions": [3]}',
    "half": b'{"decisions": [{"scan": "bone_001", "cells": {',
    "no utf-8": b"\xff",
    "deep lists": b"[" * 40_000,
    "a huge whole number": b'{"decisions": ' + b"9" * 5000 + b"}",
    "a number in a cell": one_decision(cells={"cor_px": 512}),
    "half a character": one_decision(scan="\ud800"),
    "a word for the stamp": one_decision(stamp="yes"),
}
REFUSED = {
    "another scan": one_decision(scan="bone_9"),
    "a tab in the note": one_decision(cells={"note": "a\tb"}),
    "no such select": one_decision(cells={"select": "maybe"}),
    "a huge cor": one_decision(cells={"cor_px": "9" * 5000}),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = make_campaign(tmp_path_factory.mktemp("page"))
    return folder, client_of(folder)


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_a_request_that_is_none_is_400(page, body):
    folder, client = page
    answer = client.post("/api/decide", content=body)
    assert (answer.status_code, answer.json()["error"][:8]) == (400, "expected")
    assert (folder / "scans.tsv").read_text() == TABLE


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_the_table_cannot_hold_is_422(page, body):
    folder, client = page
    answer = client.post("/api/decide", content=body)
    assert (answer.status_code, list(answer.json())) == (422, ["error"])
    assert (folder / "scans.tsv").read_text() == TABLE
    assert client.get("/api/queue").status_code == 200


def test_the_page_goes_on_while_the_table_has_an_error(tmp_path):
    folder = make_campaign(tmp_path)
    client = client_of(folder)
    (folder / "scans.tsv").write_text(TABLE.replace("no\t\t", "No\t\t"))
    found = client.get("/api/queue").json()
    assert "line 4: select of bone_010 is 'No'" in found["problem"]
    manual = {entry["scan"]: entry["manual"] for entry in found["scans"]}
    assert manual["bone_007"] == "513.65"
    answer = client.post("/api/decide", content=one_decision())
    assert (answer.status_code, "did you mean no?" in answer.json()["error"]) == (422, True)
    (folder / "scans.tsv").write_text(TABLE)
    assert client.get("/api/queue").json()["problem"] == ""
    assert post(client, **BODY)["saved"]
