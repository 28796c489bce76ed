"""TomoGUI's forms: what they hold, what is junk, and which scan an entry means."""

import json

import pytest

from tomopipe.errors import TomopipeError
from tomopipe.io.tomogui import (
    match,
    read_batch_csv,
    read_cors,
    read_rot_cen,
    write_batch_csv,
    write_rot_cen,
)


def test_rot_cen_holds_text_with_two_decimals(tmp_path):
    path = tmp_path / "rot_cen.json"
    write_rot_cen({"/data/b.h5": 1024.5, "/data/größe 1.h5": 7.0}, path)
    data = json.loads(path.read_text())
    assert data == {"/data/b.h5": "1024.50", "/data/größe 1.h5": "7.00"}
    assert read_rot_cen(path) == {"/data/b.h5": 1024.5, "/data/größe 1.h5": 7.0}


def test_rot_cen_values_may_be_text_numbers_or_lists_of_one(tmp_path):
    path = tmp_path / "rot_cen.json"
    values = {"a": "1024.50", "b": 1024, "c": 7.25, "d": [9.5], "e": ["10"], "f": "", "g": None}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(values).encode())
    assert read_rot_cen(path) == {"a": 1024.5, "b": 1024.0, "c": 7.25, "d": 9.5, "e": 10.0}


@pytest.mark.parametrize("junk", ["1024,5", "middle", True, [1, 2], [], {}, float("nan"), [[5]]])
def test_rot_cen_with_junk_is_refused_by_entry(tmp_path, junk):
    path = tmp_path / "rot_cen.json"
    path.write_text(json.dumps({"/d/a.h5": 5, "/d/b.h5": junk}))
    with pytest.raises(TomopipeError, match=r"(?s)rot_cen\.json: expected one number.*/d/b\.h5: "):
        read_rot_cen(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "expected JSON"), ("[1, 2]", "got list"), ("", "expected JSON"), ("5", "got int")],
)
def test_rot_cen_that_is_no_object_is_refused(tmp_path, text, message):
    path = tmp_path / "rot_cen.json"
    path.write_text(text)
    with pytest.raises(TomopipeError, match=message):
        read_rot_cen(path)


def test_batch_csv_both_ways(tmp_path):
    path = tmp_path / "batch_cor_values.csv"
    write_batch_csv({"/data/b, 2.h5": 1024.5, "/data/a.h5": 7.0}, path)
    assert path.read_text() == 'Filename,COR\na.h5,7.00\n"b, 2.h5",1024.50\n'
    assert read_batch_csv(path) == {"a.h5": 7.0, "b, 2.h5": 1024.5}


def test_batch_csv_cannot_hold_two_files_of_one_name(tmp_path):
    path = tmp_path / "batch.csv"
    with pytest.raises(TomopipeError, match=r"two files are named a\.h5.*Use rot_cen\.json"):
        write_batch_csv({"/d1/a.h5": 1.0, "/d2/a.h5": 2.0}, path)
    assert not path.exists()
    write_batch_csv({"/d1/a.h5": 1.0, "/d2/a.h5": 1.0}, path)
    assert read_batch_csv(path) == {"a.h5": 1.0}


def test_batch_csv_of_other_programs(tmp_path):
    path = tmp_path / "batch.csv"
    path.write_bytes(b"\xef\xbb\xbfNo,Filename, COR\r\n1,a.h5, 7\r\n2,b.h5,\r\n3,c.h5\r\n\r\n")
    assert read_batch_csv(path) == {"a.h5": 7.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Filename,COR\na.h5,1024,5\n", "a.h5: '1024,5'"),
        ("Filename,COR\na.h5,nan\n", "a.h5: 'nan'"),
        ("Filename,COR\na.h5,5\na.h5,6\n", r"a.h5: '6' \(second value\)"),
        ("file,centre\na.h5,5\n", "columns Filename,COR; got 'file, centre'"),
        ("", "got 'nothing'"),
    ],
)
def test_batch_csv_with_junk_is_refused(tmp_path, text, message):
    path = tmp_path / "batch.csv"
    path.write_text(text)
    with pytest.raises(TomopipeError, match=message):
        read_batch_csv(path)


def test_the_form_is_told_by_content(tmp_path):
    path = tmp_path / "cors"
    path.write_text(' {"a": "5"}')
    assert read_cors(path) == {"a": 5.0}
    path.write_text("Filename,COR\nb.h5,6\n")
    assert read_cors(path) == {"b.h5": 6.0}
    with pytest.raises(TomopipeError, match=r"none: cannot be read"):
        read_cors(tmp_path / "none")


SCANS = {
    "a_1": "/data/raw/a_1.h5",
    "a_2": "/data/raw/a_2.h5",
    "scan_1.5": "/data/raw/scan_1.5.h5",
    "day1_x": "/data/day1/x.h5",
    "day2_x": "/data/day2/x.h5",
}


@pytest.mark.parametrize(
    ("entry", "scan"),
    [
        ("/data/raw/a_1.h5", "a_1"),
        ("/data/raw/../raw//./a_1.h5", "a_1"),
        ("/elsewhere/a_1.h5", "a_1"),
        ("a_1.hdf", "a_1"),
        ("a_1", "a_1"),
        (r"D:\beam time\a_1.h5", "a_1"),
        ("scan_1.5", "scan_1.5"),
        ("scan_1.5.h5", "scan_1.5"),
        ("/data/day1/../day2/x.h5", "day2_x"),
        ("day1_x.h5", "day1_x"),
    ],
)
def test_an_entry_means_the_scan_of_its_path_or_its_unique_name(entry, scan):
    assert match({entry: 5.0}, SCANS) == ({scan: 5.0}, [], {})


def test_entries_that_mean_no_scan_or_several():
    found = match({"/data/raw/a_9.h5": 5.0, "/old/x.h5": 6.0}, SCANS)
    assert found.matched == {}
    assert found.unmatched == ["/data/raw/a_9.h5"]
    assert found.ambiguous == {"/old/x.h5": ["day1_x", "day2_x"]}


def test_the_path_wins_over_the_name_in_any_order():
    entries = [("/old/a_1.h5", 6.0), ("/data/raw/a_1.h5", 5.0)]
    for order in (entries, entries[::-1]):
        assert match(dict(order), SCANS) == ({"a_1": 5.0}, ["/old/a_1.h5"], {})


def test_two_entries_for_one_scan_must_agree():
    entries = {"/old/a_1.h5": 6.0, "/older/a_1.h5": 5.0}
    assert match(entries, SCANS) == ({}, [], {entry: ["a_1"] for entry in entries})
    assert match(dict.fromkeys(entries, 5.0), SCANS) == ({"a_1": 5.0}, [], {})


def test_one_file_that_is_two_scans_gives_both_its_cor():
    scans = {"p_a": "/data/a.h5", "q_a": "/data/a.h5"}
    assert match({"/data/a.h5": 5.0}, scans).matched == {"p_a": 5.0, "q_a": 5.0}
    assert match({"a.h5": 5.0}, scans).ambiguous == {"a.h5": ["p_a", "q_a"]}
