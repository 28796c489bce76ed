"""Decisions land in the campaign table, and nobody's edit is lost."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.review_campaign import TABLE, client_of, make_campaign
from tomopipe.errors import TomopipeError
from tomopipe.io import shared
from tomopipe.io.campaign_table import edit_table, table_sha256
from tomopipe.review import decisions
from tomopipe.review.decisions import checked_cells, decide, read_cells

EMPTY = {"select": "auto", "cor_px": "", "note": ""}


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


def test_an_edit_between_look_and_write_is_not_lost(table, monkeypatch):
    """Somebody saves in an editor at the worst moment, twice."""
    others = iter(["bone_003", "bone_004"])
    flush = shared._flush

    def late(temporary):
        flush(temporary)
        if other := next(others, None):
            table.write_text(table.read_text() + f"{other}\tauto\t500\t\t\n")

    monkeypatch.setattr(shared, "_flush", late)
    assert decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY).saved
    assert {"bone_001", "bone_003", "bone_004"} <= set(read_cells(table))


def test_an_edit_of_the_same_row_in_that_moment_is_shown(table, monkeypatch):
    flush = shared._flush
    theirs = iter([TABLE + "bone_001\tauto\t500\t\t\n"])

    def late(temporary):
        flush(temporary)
        if text := next(theirs, None):
            table.write_text(text)

    monkeypatch.setattr(shared, "_flush", late)
    outcome = decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY)
    assert (outcome.saved, outcome.cells["cor_px"]) == (False, "500")
    assert outcome.sha256 == table_sha256(table)


def test_a_table_that_cannot_be_written_is_said(table, monkeypatch):
    def broken(*_args, **_options):
        raise TomopipeError("scans.tsv: cannot be written (No space left on device).")

    monkeypatch.setattr(decisions, "edit_table", broken)
    with pytest.raises(TomopipeError, match="No space"):
        decide(table, "bone_001", {"cor_px": "512.00"}, EMPTY)


def test_many_at_once_lose_nothing(table):
    names = [f"wood_{at}" for at in range(24)]
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


@pytest.mark.parametrize("text", ["1024,5", "nan", "1024", "-1", "ten", "1e9"])
def test_what_is_no_column_of_the_detector_is_refused(text):
    with pytest.raises(TomopipeError, match="COR"):
        checked_cells("a", {"cor_px": text}, 1024)


def test_cells_are_checked():
    assert checked_cells("a", {"cor_px": " 12.5 ", "note": " x "}, 64) == {
        "cor_px": "12.50",
        "note": "x",
    }
    assert checked_cells("a", {"cor_px": ""}, None) == {"cor_px": ""}
    for cells in ({"scan": "b"}, {"cor_px": 12.5}, {"select": "maybe"}):
        with pytest.raises(TomopipeError, match="expected"):
            checked_cells("a", cells, 64)
    for note in ("a\0b", "a\tb", "a\nb", "\x1b[31m", "\ud800"):
        with pytest.raises(TomopipeError, match="a cell cannot"):
            checked_cells("a", {"note": note}, 64)


def test_two_editors_through_the_page(tmp_path):
    folder = make_campaign(tmp_path)
    ada, bob = client_of(folder), client_of(folder)
    first = {"scan": "bone_002", "cells": {"cor_px": "511.9"}, "seen": EMPTY}
    assert ada.post("/api/decide", json=first).json()["cells"]["cor_px"] == "511.90"
    other = first | {"scan": "bone_003"}
    assert bob.post("/api/decide", json=other).status_code == 200
    clash = bob.post("/api/decide", json=first | {"cells": {"cor_px": "400"}})
    assert clash.status_code == 409
    assert clash.json()["cells"]["cor_px"] == "511.90"
    by_name = {entry["scan"]: entry for entry in bob.get("/api/queue").json()["scans"]}
    assert by_name["bone_002"]["manual"] == "511.90"
    assert by_name["bone_002"]["state"] == "manual"
    assert by_name["bone_002"]["rerun"]
    cells = {"cor_px": ""}
    undone = {"scan": "bone_002", "cells": cells, "seen": clash.json()["cells"]}
    assert bob.post("/api/decide", json=undone).status_code == 200
    assert "bone_002\tauto\t\t" in (folder / "scans.tsv").read_text()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"scan": "bone_001", "cells": [], "seen": {}}', b"\xff"]
)
def test_nonsense_is_refused(tmp_path, body):
    folder = make_campaign(tmp_path)
    answer = client_of(folder).post("/api/decide", content=body)
    assert answer.status_code == 422
    assert (folder / "scans.tsv").read_text() == TABLE
