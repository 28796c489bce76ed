"""CORs of earlier work: what files hold, what is junk, which are taken, which scan is meant."""

import json

import pytest

from tomopipe.commands.cor_files import (
    match,
    merge_batch_csv,
    merge_rot_cen,
    read_cors,
)
from tomopipe.errors import TomopipeError
from tomopipe.steps.resolve_cor import rot_cen
from tomopipe.storage.atomic import write_json


def test_rot_cen_values_may_be_text_numbers_or_lists_of_one(tmp_path):
    path = tmp_path / "rot_cen.json"
    values = {"a": "1024.50", "b": 1024, "c": 7.25, "d": [9.5], "e": ["10"], "f": "", "g": None}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(values).encode())
    assert read_cors([path]).cors == {"a": 1024.5, "b": 1024.0, "c": 7.25, "d": 9.5, "e": 10.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[" * 20_000, "expected JSON"),
        ("", "expected rot_cen.json or a table .*got 'nothing'"),
    ],
)
def test_rot_cen_that_is_no_object_is_refused(tmp_path, text, message):
    path = tmp_path / "rot_cen.json"
    path.write_text(text)
    with pytest.raises(TomopipeError, match=message):
        read_cors([path])


def test_batch_csv_cannot_hold_two_files_of_one_name(tmp_path):
    path = tmp_path / "batch.csv"
    with pytest.raises(TomopipeError, match=r"two files are named a\.h5.*Use rot_cen\.json"):
        merge_batch_csv({"/d1/a.h5": 1.0, "/d2/a.h5": 2.0}, path)
    assert not path.exists()
    merge_batch_csv({"/d1/a.h5": 1.0, "/d2/a.h5": 1.0}, path)
    assert read_cors([path]).cors == {"a.h5": 1.0}


def test_batch_csv_of_other_programs(tmp_path):
    path = tmp_path / "batch.csv"
    path.write_bytes(b"\xef\xbb\xbfNo,Filename, COR\r\n1,a.h5, 7\r\n2,b.h5,\r\n3,c.h5\r\n\r\n")
    assert read_cors([path]).cors == {"a.h5": 7.0}
    path.write_text("Filename,COR,Row,Note\na.h5,7.50,5,\nb.h5,8,,5\nc.h5,,5,\n")
    assert read_cors([path]).cors == {"a.h5": 7.5, "b.h5": 8.0}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Filename,COR\na.h5,1024,5\n", "'1024,5'"),
        ("Filename,COR,Note\na.h5,1024,5,good\n", "'1024,5'"),
        ("Filename,COR\na.h5,5\na.h5,6\n", "'6' (second value)"),
    ],
)
def test_batch_csv_with_junk_is_refused_by_entry(tmp_path, text, shown):
    path = tmp_path / "batch.csv"
    path.write_text(text)
    assert read_cors([path])[:2] == ({}, {"a.h5": shown})


def test_junk_is_told_apart_and_so_are_two_values_of_one_entry(tmp_path):
    path = tmp_path / "rot_cen.json"
    path.write_text('{"a": "5", "b": {"c": 1}, "d": 1, "d": 2, "e": 7, "e": "7.0"}')
    cors, junk, _ = read_cors([path])
    assert cors == {"a": 5.0, "e": 7.0}
    assert junk == {"b": "'{\"c\": 1}'", "d": "'2' (second value)"}


def test_entries_of_others_stay_in_rot_cen(tmp_path):
    path = tmp_path / "rot_cen.json"
    theirs = {"/their/x_1.h5": [700.5], "/data/raw/../raw/a_1.h5": 1, "/their/junk.h5": "1024,5"}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(theirs).encode())
    others = merge_rot_cen({"/data/raw/a_1.h5": 512.25, "/data/raw/a_2.h5": 513.0}, path)
    assert others == ["/their/x_1.h5", "/their/junk.h5"]
    assert list(json.loads(path.read_text()).items()) == [
        ("/their/x_1.h5", [700.5]),
        ("/data/raw/../raw/a_1.h5", "512.25"),
        ("/their/junk.h5", "1024,5"),
        ("/data/raw/a_2.h5", "513.00"),
    ]
    fresh = tmp_path / "new.json"
    merge_rot_cen({"/b": 2, "/a": 1}, fresh)
    write_json(rot_cen({"/b": 2, "/a": 1}), path)
    assert fresh.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("text", ["[1]", "Filename,COR\n"])
@pytest.mark.parametrize("merge", [merge_rot_cen, merge_batch_csv])
def test_a_file_of_something_else_is_left_alone(tmp_path, merge, text):
    path = tmp_path / "file"
    path.write_text("x" if text.startswith("F") else text)
    before = path.read_bytes()
    with pytest.raises(TomopipeError, match="file: expected "):
        merge({"/a.h5": 1.0}, path)
    assert path.read_bytes() == before


def test_lines_of_others_stay_in_batch_csv(tmp_path):
    path = tmp_path / "batch.csv"
    path.write_text('No,Filename,COR,by\n1,x.h5,700,Ada\n2,a.h5,51,5,Bob\n3,"y, 1.h5",,\n4,b.h5\n')
    others = merge_batch_csv({"/data/a.h5": 512.25, "/data/b.h5": 7, "/data/c.h5": 8.0}, path)
    assert others == ["x.h5", "y, 1.h5"]
    assert path.read_text().splitlines() == [
        "No,Filename,COR,by",
        "1,x.h5,700,Ada",
        "2,a.h5,512.25,Bob",
        '3,"y, 1.h5",,',
        "4,b.h5,7.00,",
        ",c.h5,8.00,",
    ]


SCANS = {
    "a_1": "/data/raw/a_1.h5",
    "a_2": "/data/raw/a_2.h5",
    "scan_1.5": "/data/raw/scan_1.5.h5",
    "day1_x": "/data/day1/x.h5",
    "day2_x": "/data/day2/x.h5",
    "foam": "/data/raw/foam.nx",
    "foam@0003": "/data/raw/foam.nx@0003",
}


@pytest.mark.parametrize(
    ("entry", "scan"),
    [
        ("/data/raw/a_1.h5", "a_1"),
        ("/data/raw/../raw//./a_1.h5", "a_1"),
        ("/elsewhere/a_1.h5", "a_1"),
        ("a_1", "a_1"),
        (r"D:\beam time\a_1.h5", "a_1"),
        ("scan_1.5.h5", "scan_1.5"),
        ("/data/day1/../day2/x.h5", "day2_x"),
        ("day1_x.h5", "day1_x"),
        ("/data/raw/foam.nx", "foam"),
        ("/data/raw/foam.nx@0003", "foam@0003"),
        ("/elsewhere/foam.nx@0003", "foam@0003"),
    ],
)
def test_an_entry_means_the_scan_of_its_path_or_its_unique_name(entry, scan):
    assert match({entry: 5.0}, SCANS) == ({scan: 5.0}, [], {})


def test_entries_that_mean_no_scan_or_several():
    others = ["/data/raw/a_9.h5", "/data/raw/a_1.5um", "a_2.5um", "try_center/a_1.old"]
    found = match(dict.fromkeys(others, 5.0) | {"/old/x.h5": 6.0}, SCANS)
    assert found.matched == {}
    assert found.unmatched == others
    assert found.ambiguous == {"/old/x.h5": ["day1_x", "day2_x"]}


def test_the_path_wins_over_the_name_in_any_order_and_names_must_agree():
    entries = [("/old/a_1.h5", 6.0), ("/data/raw/a_1.h5", 5.0)]
    for order in (entries, entries[::-1]):
        assert match(dict(order), SCANS) == ({"a_1": 5.0}, ["/old/a_1.h5"], {})
    entries = {"/old/a_1.h5": 6.0, "/older/a_1.h5": 5.0}
    assert match(entries, SCANS) == ({}, [], {entry: ["a_1"] for entry in entries})
    assert match(dict.fromkeys(entries, 5.0), SCANS) == ({"a_1": 5.0}, [], {})


def test_one_file_that_is_two_scans_gives_both_its_cor():
    scans = {"p_a": "/data/a.h5", "q_a": "/data/a.h5"}
    assert match({"/data/a.h5": 5.0}, scans).matched == {"p_a": 5.0, "q_a": 5.0}
    assert match({"a.h5": 5.0}, scans).ambiguous == {"a.h5": ["p_a", "q_a"]}


def write_sidecar(folder, scan, cor_px, source):
    path = folder / f"{scan}.cor.json"
    path.write_text(json.dumps({"scan": scan, "cor_px": cor_px, "source": source}))
    return path


def named(entries):
    return {entry.rsplit("/", 1)[1]: value for entry, value in entries.items()}


def test_of_sidecars_manual_cors_are_taken(tmp_path):
    sources = ["manual", "ai", "auto", "outlier", "neighbours", "series-mean", "default"]
    paths = [
        write_sidecar(tmp_path, f"größe {number}.5", 1000.0 + number, source)
        for number, source in enumerate(sources)
    ]
    found = read_cors(paths)
    assert found.cors == {f"{tmp_path}/größe 0.5": 1000.0}
    assert len(found.skipped) == 6
    both = read_cors(paths, predicted=True)
    assert named(both.cors) == {f"größe {number}.5": 1000.0 + number for number in range(3)}


def test_of_several_files_the_last_counts(tmp_path):
    first, last = tmp_path / "rot_cen.json", tmp_path / "edited.csv"
    first.write_text('{"a_1": "5", "a_2": "6"}')
    last.write_text("Filename,COR\na_2,7\na_3,x\n")
    assert read_cors([first, last]) == ({"a_1": 5.0, "a_2": 7.0}, {"a_3": "'x'"}, {})


@pytest.mark.parametrize("text", ["{", '{"scan": 5, "source": "manual"}'])
def test_a_damaged_sidecar_costs_itself_alone(tmp_path, text):
    good, bad = write_sidecar(tmp_path, "a_1", 5.0, "manual"), tmp_path / "a_2.cor.json"
    bad.write_text(text)
    found = read_cors([bad, good])
    assert named(found.cors) == {"a_1": 5.0}
    assert "a_2.cor.json" in named(found.skipped)["a_2.cor.json"]


def test_a_sidecar_without_a_number_is_junk(tmp_path):
    one = write_sidecar(tmp_path, "a_1", "1024,5", "manual")
    two = write_sidecar(tmp_path, "a_2", None, "manual")
    assert named(read_cors([one, two]).junk) == {"a_1": "'1024,5'", "a_2": "'null'"}


def test_a_folder_says_what_to_name_instead(tmp_path):
    with pytest.raises(TomopipeError, match="a folder; name its files"):
        read_cors([tmp_path])
