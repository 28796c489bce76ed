"""The history of the campaign table: every change of a person, and what can be taken back."""

import getpass
import os
import re
import subprocess
import sys
from functools import partial
from itertools import pairwise

import pytest

from tomopipe.campaign.files import history_of
from tomopipe.campaign.table import edit_table, read_table
from tomopipe.commands.history import last_act, read_history, record_changes, undoing

EMPTY = {"select": "auto", "cor_px": "", "note": ""}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_text("# of the beamtime\nscan\tselect\tcor_px\tnote\na_1\t\t500\tby eye\n")
    return path


def edit(table, edits, by="page", undoes="", tell=pytest.fail):
    then = partial(record_changes, table=table, by=by, undoes=undoes, tell=tell)
    return edit_table(table, edits, then)


def cells(table):
    """The cells of each scan, as the page reads them."""
    return {
        row.scan: {"select": row.select, "cor_px": row.cor.text, "note": row.note}
        for row in read_table(table)
    }


def changes(table):
    return [entry[-4:] for entry in read_history(table)]


def undo(table, by=("page",)):
    """Take the last act back; return its scans."""
    act = last_act(table, cells(table), by=by)
    edits = {scan: before for scan, (before, _) in undoing(act).items()}
    assert not act or edit(table, edits, undoes=act[0].act)
    return list(edits)


def test_a_change_is_a_line_with_who_when_scan_from_and_to(table):
    edit(table, {"a_1": {"cor_px": "512.00", "select": "auto"}, "b": {"select": "no"}})
    edit(table, {"a_1": {"cor_px": "512.00"}})  # as it is
    first, second = read_history(table)
    assert first[-4:] == ("a_1", "cor_px", "500", "512.00")
    assert second[-4:] == ("b", "select", "auto", "no")
    assert (first.who, first.by, first.act) == (getpass.getuser(), "page", second.act)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.time)
    lines = history_of(table).read_text().splitlines()
    assert (history_of(table).name, len(lines)) == ("scans.history.tsv", 3)
    assert lines[0].split("\t")[-3:] == ["column", "from", "to"]


@pytest.mark.parametrize("n_bytes", [1, 4, 12, 40])
def test_a_torn_last_line_is_read_over_and_never_joined_to_the_next(table, n_bytes):
    edit(table, {"a_1": {"cor_px": "512.00"}})
    edit(table, {"b": {"cor_px": "513.00"}})
    path = history_of(table)
    os.truncate(path, path.stat().st_size - n_bytes)
    assert changes(table) == [("a_1", "cor_px", "500", "512.00")]
    edit(table, {"c": {"cor_px": "514.00"}})
    assert changes(table) == [("a_1", "cor_px", "500", "512.00"), ("c", "cor_px", "", "514.00")]


WRITER = """
import sys
from pathlib import Path
from tests.unit.commands.test_history import edit
table, name = Path(sys.argv[1]), sys.argv[2]
for number in range(8):
    cells = {"cor_px": "5", "note": "x"}
    edit(table, {f"{name}_{number}": cells, "both": {"note": f"{name} {number}"}})
"""


@pytest.mark.slow
def test_lines_of_no_column_are_skipped_and_line_ends_of_windows_read(table):
    edit(table, {"a_1": {"note": "axis"}})
    history = history_of(table)
    text = history.read_text()
    history.write_text(text + text.splitlines()[1].replace("\tnote\t", "\tcolour\t") + "\n")
    assert changes(table) == [("a_1", "note", "by eye", "axis")]
    history.write_bytes(history.read_bytes().replace(b"\n", b"\r\n"))
    assert undo(table) == ["a_1"]
    assert cells(table)["a_1"]["note"] == "by eye"


def test_two_writers_lose_no_line_and_their_lines_are_in_the_order_of_the_edits(table):
    start = [sys.executable, "-c", WRITER, str(table)]
    writers = [subprocess.Popen([*start, name]) for name in ("ada", "bob")]
    assert [writer.wait() for writer in writers] == [0, 0]
    entries = read_history(table)
    assert len(entries) == 2 * 8 * 3
    notes = [(entry.before, entry.after) for entry in entries if entry.scan == "both"]
    assert all(after == before for (_, after), (before, _) in pairwise(notes))
    acts = [entry.act for entry in entries]
    assert len(set(acts)) == 16
    assert acts == [act for act in dict.fromkeys(acts) for _ in range(3)]
    assert len(cells(table)) == 1 + 2 * 8 + 1  # of the table none is lost, either
    assert {path.name for path in table.parent.iterdir()} == {table.name, history_of(table).name}


def test_one_undo_takes_all_of_an_act_back_and_the_next_one_goes_on(table):
    before = cells(table)
    edit(table, {"a_1": {"cor_px": "512.00"}})
    edit(table, {"a_1": {"cor_px": "513.00"}, "b": {"cor_px": "513.00", "note": "x"}})
    assert undo(table) == ["a_1", "b"]
    assert cells(table) == before | {"a_1": before["a_1"] | {"cor_px": "512.00"}, "b": EMPTY}
    assert undo(table) == ["a_1"]
    assert cells(table) == before | {"b": EMPTY}
    assert undo(table) == []  # an undo is not taken back
    assert [bool(entry.undoes) for entry in read_history(table)] == [False] * 4 + [True] * 4


def test_what_somebody_has_taken_back_already_needs_no_undo(table):
    edit(table, {"a_1": {"cor_px": "513.00"}})
    edit(table, {"b": {"cor_px": "513.00"}})
    edit_table(table, {"b": {"cor_px": ""}})
    assert undo(table) == ["a_1"]


def test_acts_of_others_and_by_other_means_stay(table, monkeypatch):
    edit(table, {"a_1": {"cor_px": "513.00"}})
    edit(table, {"a_1": {"note": "y"}}, by="cor set")
    monkeypatch.setenv("LOGNAME", "somebody")
    edit(table, {"b": {"cor_px": "7.00"}})
    assert undo(table) == ["b"]
    assert undo(table) == []
    monkeypatch.undo()
    assert undo(table) == ["a_1"]
    assert cells(table)["a_1"] == {"select": "auto", "cor_px": "500", "note": "y"}


def test_all_lines_of_an_act_are_written_or_none(table):
    """The size of files is limited as a full disk would."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.commands.test_history import edit\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "table, told = Path(sys.argv[1]), []\n"
        "edit(table, {'a_1': {'cor_px': '1'}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "assert edit(table, {f'b_{n}': {'cor_px': '1'} for n in range(20)}, tell=told.append)\n"
        "assert 'cannot be written' in told[0], told\n"
    )
    subprocess.run([sys.executable, "-c", code, str(table)], check=True)
    assert changes(table) == [("a_1", "cor_px", "500", "1")]
    assert len(cells(table)) == 21


def test_whoever_may_change_the_table_may_add_to_its_history(table):
    table.chmod(0o664)
    edit(table, {"a_1": {"cor_px": "512.00"}})
    assert history_of(table).stat().st_mode & 0o777 == 0o664
