"""The campaign table: what is read, what `check` says, and edits that leave all else alone."""

import hashlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomopipe.campaign.files import history_of
from tomopipe.campaign.table import (
    Row,
    check_table,
    did_you_mean,
    edit_table,
    read_table,
    table_sha256,
)
from tomopipe.cor.cor_value import CorText
from tomopipe.errors import TomopipeError

MESSY = (
    "\ufeff# made by hand\r\n"
    "\r\n"
    "who\tcor_px\tscan\tselect\tnote\tmore\r\n"
    "Eva\t1024.5\tgröße 001\t\t \tx\r\n"
    "  # größe 002 was bad\r\n"
    '\t"1,024"\t"a ""b"""\tno\t"one, two"\r\n'
    "\t\t\t\r\n"
    "Uwe\t \tshort"
)


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table and gives its path."""

    def make(text):
        path = tmp_path / "scans.tsv"
        path.write_bytes(text.encode())
        return path

    return make


def test_reads_any_order_of_columns_comments_blank_lines_bom_and_crlf(table):
    assert read_table(table(MESSY)) == [
        Row("größe 001", "auto", CorText("1024.5"), "", 4),
        Row('a "b"', "no", CorText("1,024"), "one, two", 6),
        Row("short", "auto", CorText(""), "", 8),
    ]


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", " \r\n"])
def test_an_emptied_table_is_refused_and_the_message_says_where_its_cors_are(table, content):
    path = table(content)
    history_of(path).write_text("time\n")
    for use in (read_table, lambda path: edit_table(path, {"a": {"cor_px": "5"}})):
        with pytest.raises(
            TomopipeError, match=r"scans.tsv: is empty.*\.cor\.json.*history"
        ) as error:
            use(path)
    assert path.read_bytes() == content.encode()
    path.unlink()
    assert str(history_of(path)) in str(error.value)
    assert edit_table(path, {"a": {"cor_px": "5"}})  # a new one begins with a header


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_bytes(b"scan\tcor_px\ngr\xf6\xdfe\t5\n")
    (row,) = read_table(path)
    assert row.scan == os.fsdecode(b"gr\xf6\xdfe")
    edit_table(path, {row.scan: {"cor_px": "6"}})
    assert path.read_bytes() == b"scan\tcor_px\ngr\xf6\xdfe\t6\n"


def test_a_note_of_a_spreadsheet_is_read_and_keeps_its_bytes(tmp_path):
    path = tmp_path / "scans.tsv"
    path.write_bytes(b"scan\tcor_px\tnote\na\t6\xb5\t5 \xb0C\nb\t\tgr\xc3\xbcn\n")
    first, second = read_table(path)
    assert (first.cor.text, first.note, second.note) == ("6µ", "5 °C", "grün")
    edit_table(path, {"b": {"cor_px": "6"}})
    assert path.read_bytes() == b"scan\tcor_px\tnote\na\t6\xb5\t5 \xb0C\nb\t6\tgr\xc3\xbcn\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"scna\tcor_px\na\t5\n", "expected a header line with the columns scan, .*'scna, cor_px'"),
        (b"scan\tcor_px\tcor_px\n", "got cor_px twice"),
        ("scan\tcor_px\n".encode("utf-16"), "expected UTF-8 text"),
        ("scan\tcor_px\n".encode("utf-16-le"), "expected UTF-8 text"),
        (b"scan\tnote\na\t\nb\tx\0y\n", r"line 3: expected UTF-8 text, got a NUL"),
        (b"scan\tfull_recon.filter\na\thann\n", r"line 1: column full_recon\.filter: an option"),
        (b"scan\tCOR_PX\na\t5\n", r"line 1: column 'COR_PX' is none of.*did you mean cor_px\?"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "scans.tsv"
    path.write_bytes(content)
    for use in (read_table, lambda p: edit_table(p, {"a": {"cor_px": "1"}})):
        with pytest.raises(TomopipeError, match=rf"(?s)scans\.tsv: .*{message}"):
            use(path)
    assert path.read_bytes() == content


def test_check_names_line_and_remedy_of_each_problem():
    rows = [
        Row("tooth_001", line=2),
        Row("tooth_01", cor=CorText("1024,5"), line=3),
        Row("", cor=CorText("5"), line=5),
        Row("other", cor=CorText("nan"), line=6),
        Row("tooth_002", extra="77", line=7),
    ]
    problems = check_table(rows, ["tooth_001", "tooth_002"])
    assert problems == [
        "line 3: no scan tooth_01 in the campaign; did you mean tooth_001?",
        "line 3: cor_px of tooth_01 is '1024,5', which counts as no COR; write 1024.5, or nothing",
        "line 5: the scan is missing; write its name or remove the row",
        "line 6: no scan other in the campaign",
        "line 6: cor_px of other is 'nan', which counts as no COR; write a number with a decimal "
        "point, such as 1024.50, or nothing",
        "line 7: '77' has no column header and is not read",
    ]
    assert check_table([Row("tooth_003")], ["tooth_001"], {"tooth_003": ""}) == [
        "line 0: no scan tooth_003 in the campaign any more; if its file was renamed, write the "
        "new name"
    ]
    assert check_table([Row("tooth_001", "yes", CorText("1024.5"), "fine", 2)], ["tooth_001"]) == []


def test_edit_changes_the_touched_cells_and_no_other_byte(table):
    path = table(MESSY)
    edits = {"größe 001": {"cor_px": "1000.25"}, 'a "b"': {"cor_px": "", "select": "yes"}}
    assert edit_table(path, edits)
    expected = MESSY.replace("Eva\t1024.5\t", "Eva\t1000.25\t").replace('\t"1,024"\t', "\t\t")
    assert path.read_bytes().decode() == expected.replace("\tno\t", "\tyes\t")


def test_edit_pads_short_rows_and_adds_rows_and_columns(table):
    path = table(MESSY)
    edit_table(path, {"short": {"note": "look"}, "new": {"cor_px": "7"}})
    expected = MESSY + "\t\tlook\r\n" + "\t7\tnew\tauto\t\t\r\n"
    assert path.read_bytes().decode() == expected
    path = table("scan\n# why\nb\na")
    edit_table(path, {"a": {"cor_px": "5"}})
    assert path.read_text() == "scan\tcor_px\n# why\nb\na\t5"
    edit_table(path, {"c": {"cor_px": "6"}})
    assert path.read_text() == "scan\tcor_px\n# why\nb\na\t5\nc\t6\n"


def test_edit_makes_the_table(tmp_path):
    path = tmp_path / "new" / "scans.tsv"
    assert edit_table(path, {"a": {"cor_px": "5", "note": "by eye"}})
    assert path.read_text() == "scan\tselect\tcor_px\tnote\na\tauto\t5\tby eye\n"
    assert read_table(path) == [Row("a", "auto", CorText("5"), "by eye", 2)]


def test_names_that_look_like_something_else_are_quoted(tmp_path):
    path = tmp_path / "scans.tsv"
    for scan in ("#1", '"x"', " y "):
        edit_table(path, {scan: {"cor_px": "5"}})
    assert [row.scan for row in read_table(path)] == ["#1", '"x"', " y "]
    written = ['"#1"', '"""x"""', '" y "']
    assert path.read_text().splitlines()[1:] == [f"{name}\tauto\t5\t" for name in written]


def test_an_edit_that_changes_nothing_does_not_write(table):
    path = table("scan\tnote\na\tx\n")
    os.utime(path, ns=(1, 1))
    assert not edit_table(path, {"a": {"note": "x", "cor_px": ""}, "b": {"cor_px": ""}})
    assert path.stat().st_mtime_ns == 1


def test_edits_may_be_made_from_the_rows(table):
    path = table("scan\tcor_px\na\t5\nb\t6\n")
    edit_table(path, lambda rows: {row.scan: {"note": f"was {row.cor.text}"} for row in rows})
    assert path.read_text() == "scan\tcor_px\tnote\na\t5\twas 5\nb\t6\twas 6\n"
    assert table_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_columns_of_ones_own_pass(table):
    header = "scan sample temperature scan_id date node old_cor Größe µm beam.hutch 1 "
    assert read_table(table(header.replace(" ", "\t") + "\na\n")) == [Row("a", line=2)]


def test_every_select_that_is_none_is_named(table):
    path = table("scan\tselect\na\tYes\nb\tno\nc\tnone\nd\t\ne\tja\nf\tTRUE\n")
    with pytest.raises(TomopipeError) as raised:
        read_table(path)
    assert str(raised.value).splitlines() == [
        f"{path}: line 2: select of a is 'Yes'; expected auto, yes or no; did you mean yes?",
        f"{path}: line 4: select of c is 'none'; expected auto, yes or no; did you mean no?",
        f"{path}: line 6: select of e is 'ja'; expected auto, yes or no",
        f"{path}: line 7: select of f is 'TRUE'; expected auto, yes or no; did you mean yes?",
    ]


def test_edit_refuses_what_a_cell_cannot_hold(table):
    path = table("scan\tcor_px\na\t5\na\t6\n")
    for text, name in [
        ("one\ttwo", "a tab"),
        ("one\r\ntwo", "a line break"),
        ("\0", r"the control character U\+0000"),
        ("\u2028", r"U\+2028"),
        ("\ud800", "half a character"),
    ]:
        with pytest.raises(TomopipeError, match=f"contains {name}|{name}; a cell cannot"):
            edit_table(path, {"a": {"note": text}})
        with pytest.raises(TomopipeError, match=f"contains {name}|{name}; a cell cannot"):
            edit_table(path, {f"a{text}": {"note": "x"}})
    with pytest.raises(TomopipeError, match="no column colour; expected select, cor_px, note"):
        edit_table(path, {"a": {"colour": "red"}})
    with pytest.raises(TomopipeError, match=r"scan a is on lines 2 and 3\. Keep one"):
        edit_table(path, {"a": {"cor_px": "7"}})
    assert path.read_text() == "scan\tcor_px\na\t5\na\t6\n"


def test_a_file_is_meant_by_the_name_of_its_scan():
    known = [f"leaf_{number:03d}" for number in range(1, 8)]
    for name in ("leaf_002.h5", "raw/leaf_002.h5", "/data/leaf_009/leaf_002.nxs", "raw/leaf_002"):
        assert did_you_mean(name, known) == "; did you mean leaf_002?"
    assert did_you_mean("leaf_02", known) == "; did you mean leaf_002?"


def test_the_same_number_with_other_zeros_is_meant_first():
    names = [f"tooth_{number:03d}" for number in (10, 1, 101, 11)]
    assert did_you_mean("tooth_01", names) == "; did you mean tooth_001?"
    assert did_you_mean("tooth_0010", names) == "; did you mean tooth_010?"
    assert did_you_mean("tooth", ["5tooth", "tooth_1"]) == "; did you mean 5tooth?"


def test_a_scan_of_a_far_number_is_not_meant_but_the_range_is_named():
    names = [f"leaf_{number:03d}" for number in range(1, 13)]
    for name in ("leaf_340", "leaf_0340.h5", "leaf_500"):
        assert did_you_mean(name, names) == "; there are leaf_001 to leaf_012"
    assert did_you_mean("leaf_99", ["leaf_7"]) == "; there is leaf_7"
    assert did_you_mean("leaf_013", names) in {f"; did you mean {near}?" for near in names}
    assert did_you_mean("tooth_99", names) == ""


@pytest.mark.parametrize(("name", "scan"), [("1", "001"), ("10", "010"), ("1E+03", "1e3")])
def test_a_name_that_a_spreadsheet_took_for_a_number_is_known_again(name, scan):
    hint = f"; did you mean {scan}? Spreadsheets and YAML drop leading zeros"
    assert did_you_mean(name, ["011", "1e3", "010", "001"]) == hint


names = st.text(
    st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=6
)


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names, names, max_size=4), names)
def test_what_is_edited_is_read_back_whatever_the_names(tmp_path, notes, last):
    path = tmp_path / "scans.tsv"
    path.unlink(missing_ok=True)
    for scan, note in notes.items():
        edit_table(path, {scan: {"note": note}})
    edit_table(path, {last: {"cor_px": "5"}})
    found = {row.scan: row for row in read_table(path)}
    assert {scan: found[scan].note for scan in notes} == notes
    assert found[last].cor.text == "5"
    assert len(found) == len({*notes, last})
