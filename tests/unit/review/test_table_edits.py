"""Decisions land in the campaign table, and nobody's edit is lost."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.review_campaign import TABLE, client_of, make_campaign
from tomopipe.campaign.table import edit_table
from tomopipe.errors import TomopipeError
from tomopipe.review import table_edits as decisions
from tomopipe.review.table_edits import checked_cells, read_cells
from tomopipe.storage import shared

EMPTY = {"select": "auto", "cor_px": "", "note": ""}


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


def test_a_decision_adds_a_row_and_leaves_every_other_byte(table):
    outcome = decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY)
    assert outcome.saved
    assert table.read_text() == TABLE + "bone_001\tauto\t512.00\t\t\n"
    assert outcome.cells == EMPTY | {"cor_px": "512.00"}


def test_rows_that_differ_are_merged(table):
    """Both people loaded the page before either decided."""
    assert decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY).saved
    assert decide(table, "bone_002", {"cor_px": "513.00"}, EMPTY).saved
    assert {scan: row["cor_px"] for scan, row in read_cells(table).items()} == {
        "bone_007": "513.65",
        "bone_010": "",
        "bone_001": "512.00",
        "bone_002": "513.00",
    }


def test_the_same_row_changed_twice_is_shown_and_not_overwritten(table):
    assert decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY).saved
    before = table.read_bytes()
    second = decide(table, "bone_001", {"cor_px": "700.00"}, EMPTY)
    assert not second.saved
    assert second.cells == EMPTY | {"cor_px": "512.00"}
    assert table.read_bytes() == before
    assert decide(table, "bone_001", {"cor_px": "700.00"}, second.cells).saved


def test_a_note_of_somebody_else_counts_as_a_change_of_the_row(table):
    edit_table(table, {"bone_001": {"note": "moved"}})
    assert not decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY).saved


def test_the_same_decision_twice_is_no_conflict(table):
    for _ in range(2):
        assert decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY).saved


def test_an_edit_of_the_same_row_in_that_moment_is_shown(table, monkeypatch):
    flush = shared.flush
    theirs = iter([TABLE + "bone_001\tauto\t500\t\t\n"])

    def late(temporary):
        flush(temporary)
        if text := next(theirs, None):
            table.write_text(text)

    monkeypatch.setattr(shared, "flush", late)
    outcome = decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY)
    assert (outcome.saved, outcome.cells["cor_px"]) == (False, "500")


@pytest.mark.slow
def test_many_at_once_lose_nothing(table):
    names = [f"wood_{number}" for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        saved = list(pool.map(lambda n: decide(table, n, {"cor_px": "9.00"}, EMPTY).saved, names))
    assert all(saved)
    assert len(set(names) & set(read_cells(table))) == len(names)


def test_source_and_time_go_into_the_note_if_asked(table):
    decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY, stamp="review T")
    seen = read_cells(table)["bone_007"]
    decide(table, "bone_007", {"cor_px": "512.00"}, seen, stamp=decisions.stamp_now())
    notes = {scan: row["note"] for scan, row in read_cells(table).items()}
    assert notes["bone_001"] == "review T"
    assert re.fullmatch(r"by eye; review \d{4}-\d\d-\d\d \d\d:\d\d UTC", notes["bone_007"])


@pytest.mark.parametrize("text", ["1024,5", "1024", "-1"])
def test_what_is_no_column_of_the_detector_is_refused(text):
    with pytest.raises(TomopipeError, match="COR"):
        checked_cells("a", {"cor_px": text}, 1024)


def test_cells_are_checked():
    assert checked_cells("a", {"cor_px": " 12.5 ", "note": " x "}, 64) == {
        "cor_px": "12.50",
        "note": "x",
    }
    assert checked_cells("a", {"cor_px": ""}, None) == {"cor_px": ""}
    assert checked_cells("a", {"cor_px": "1O24"}, 64, undo=True) == {"cor_px": "1O24"}
    for cells in ({"scan": "b"}, {"select": "maybe"}):
        with pytest.raises(TomopipeError, match="expected"):
            checked_cells("a", cells, 64)
    for note in ("a\0b", "a\tb", "a\nb", "\x1b[31m", "\ud800"):
        with pytest.raises(TomopipeError, match="a cell cannot"):
            checked_cells("a", {"note": note}, 64)


BODY = {"scan": "bone_001", "cells": {"cor_px": "512"}, "seen": EMPTY}


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
