"""The inventory: every file is a row, valid or with its first reason."""

import errno
import logging
import os
import threading
import time

import h5py
import numpy as np
import pytest
import tifffile

from tests.exchange_files import read_metadata
from tests.nxtomo_files import write_nxtomo
from tests.step_calls import inventory
from tomopipe.campaign.raw_files import split_name
from tomopipe.campaign.results import read_tsv
from tomopipe.campaign.state.facts import LOOK_AGAIN
from tomopipe.config import InventoryBlock
from tomopipe.errors import TomopipeError
from tomopipe.steps.inventory import COLUMNS, reference_size, undersized

N_ROWS, N_COLS = 2, 8
LONG_AGO = (1e9, 1e9)
FRAME = N_ROWS, N_COLS


def write(path, n_angles=40, *, theta=None, span_deg=180.0, written=None, dtype="u2", frame=FRAME):
    """Write a scan; theta "none" leaves it out, `written` frames of the shape claimed."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("exchange/data", (n_angles, *frame), dtype, chunks=(1, *frame))
        data[:written] = 100
        file["exchange/data_white"] = np.full((2, *frame), 200, dtype)
        file["exchange/data_dark"] = np.zeros((2, *frame), dtype)
        if not isinstance(theta, str):
            angles = np.linspace(0, span_deg, n_angles) if theta is None else theta
            file["exchange/theta"] = angles
    os.utime(path, LONG_AGO)


def entry(path, **changes):
    series, index = split_name(path.stem, InventoryBlock().series_pattern)
    found = {"scan": path.stem, "path": str(path), "series": series, "index": index, "reason": ""}
    return found | changes


def take(folder, entries=None, **options):
    """Run the step on the files of a folder; return rows by name."""
    entries = [entry(path) for path in sorted(folder.glob("*.h5"))] if entries is None else entries
    options = {"min_fraction": 0.5, **options}
    rows = inventory(entries, folder / "results" / "inventory.tsv", **options)
    return {row["scan"]: row for row in rows}


def kept(rows):
    return {name: row["keep"] for name, row in rows.items()}


def test_files_that_have_all_gone_leave_the_table_alone(tmp_path):
    for name in ("a_1.h5", "a_2.h5"):
        write(tmp_path / name)
    entries = [entry(path) for path in tmp_path.glob("*.h5")]
    (tmp_path / "a_1.h5").unlink()
    assert kept(take(tmp_path, entries)) == {"a_1": False, "a_2": True}
    table = (tmp_path / "results" / "inventory.tsv").read_bytes()
    (tmp_path / "a_2.h5").unlink()
    with pytest.raises(TomopipeError, match="no such file, nor one of the other scans"):
        take(tmp_path, entries)
    assert (tmp_path / "results" / "inventory.tsv").read_bytes() == table


def test_rows_and_table(tmp_path):
    write(tmp_path / "b_10.h5")
    write(tmp_path / "b_9.h5", theta="none")
    write(tmp_path / "a.h5", 20, dtype="f4")
    refused = entry(tmp_path / "b_1,5.h5", reason="the name has a ,")
    rows = take(tmp_path, [*(entry(p) for p in tmp_path.glob("*.h5")), refused])
    assert list(rows) == ["a", "b_9", "b_10", "b_1,5"]  # b_1,5 is series "b_1,"
    assert rows["b_10"] == {
        "scan": "b_10", "path": str(tmp_path / "b_10.h5"), "series": "b", "index": 10,
        "n_angles": 40, "n_rows": 2, "n_cols": 8, "bytes": 40 * 2 * 8 * 2,
        "keep": True, "reason": "", "warnings": "",
        "found": read_metadata(tmp_path / "b_10.h5").found,
        "full_turn": False, "linked": "",
        "pixel_size_um": None, "energy_kev": None, "distance_mm": None, "also_read": "",
        "height_mm": None,
        "time_s": None,
    }  # fmt: skip
    assert rows["b_9"]["reason"] == "no angles: set input.angles: {start: 0, stop: 180}"
    assert rows["b_1,5"]["reason"] == "the name has a ,"
    table = read_tsv(tmp_path / "results" / "inventory.tsv", COLUMNS)
    assert tuple(table[0]) == COLUMNS
    assert [(row["scan"], row["keep"], row["n_cols"]) for row in table] == [
        ("a", "true", "8"), ("b_9", "false", "8"), ("b_10", "true", "8"), ("b_1,5", "false", ""),
    ]  # fmt: skip


def test_equal_indices_are_in_order_of_name_and_two_of_one_name_are_both_rows(tmp_path):
    for name in ("s_01", "s-1", "s_2"):
        write(tmp_path / f"{name}.h5")
    twice = "two files have this name"
    entries = [entry(path) for path in tmp_path.glob("*.h5")]
    entries += [entry(tmp_path / folder / "s_3.h5", reason=twice) for folder in ("y", "x")]
    output = tmp_path / "inventory.tsv"
    rows = inventory(entries, output, min_fraction=0.5)
    assert [row["scan"] for row in rows] == ["s-1", "s_01", "s_2", "s_3", "s_3"]
    assert [row["reason"] for row in rows][3:] == [twice, twice]
    assert rows[3]["path"] < rows[4]["path"]


UNDERSIZED = "undersized: 19 projections over 86 degrees, less than 0.5 of the 40 of its series"


@pytest.mark.parametrize(
    ("n_angles", "options", "reason"),
    [
        (20, {"theta": np.arange(90.0)}, "aborted: 20 frames for 90 angles"),
        (40, {"theta": np.full(40, np.nan)}, "/exchange/theta: 40 of 40 angles not"),
        (40, {"written": 10}, "aborted: the first 10 of 40 frames"),
        (40, {"written": 0}, "aborted: the first 0 of 40 frames"),
        (19, {"span_deg": 81}, UNDERSIZED),
    ],
    ids=["2 longer theta", "2 angles", "3 part", "3 nothing", "4 undersized"],
)
def test_the_first_rule_that_fails_is_the_reason(tmp_path, n_angles, options, reason):
    for index in range(3):
        write(tmp_path / f"s_{index}.h5")
    write(tmp_path / "s_3.h5", n_angles, **options)
    rows = take(tmp_path)
    assert kept(rows) == {"s_0": True, "s_1": True, "s_2": True, "s_3": False}
    assert rows["s_3"]["reason"].startswith(reason)
    if "undersized" in reason:
        assert all(kept(take(tmp_path, min_fraction=0.4)).values())


FIRST_AND_LAST, STEP = {"start": 0, "stop": 180}, {"start": 0, "step": 4.5}


@pytest.mark.parametrize(
    ("n_angles", "theta", "reason"),
    [
        (30, np.linspace(0, 180, 40), "aborted: 30 frames for 40 angles in /exchange/theta"),
        (15, np.arange(15) * 4.5, "undersized: 15 projections over 68 degrees, less than 0.5"),
        (15, np.linspace(0, 180, 15), ""),
        (15, "none", "undersized: 15 projections with no angles but input.angles, less"),
        (30, "none", ""),
    ],
    ids=["listed", "list cut too", "coarse", "no list", "no list, more"],
)
def test_a_range_of_angles_makes_no_aborted_scan_a_whole_one(tmp_path, n_angles, theta, reason):
    """Spread over whatever frames there are it always covers 180 degrees."""
    for index in range(3):
        write(tmp_path / f"s_{index}.h5", theta="none" if isinstance(theta, str) else None)
    write(tmp_path / "s_3.h5", n_angles, theta=theta)
    rows = take(tmp_path, known={"angles": FIRST_AND_LAST})
    assert kept(rows) == {"s_0": True, "s_1": True, "s_2": True, "s_3": not reason}
    assert rows["s_3"]["reason"].startswith(reason)
    assert not any(rows[f"s_{index}"]["warnings"] for index in range(3))
    # of so many frames nothing but their number could tell
    may_be_aborted = n_angles == 30 and not reason
    assert ("30 projections, the series has 40" in rows["s_3"]["warnings"]) == may_be_aborted


def test_a_step_says_which_angles_an_aborted_scan_has(tmp_path):
    for index, n_angles in enumerate((40, 40, 15, 30)):
        write(tmp_path / f"s_{index}.h5", n_angles, theta="none")
    rows = take(tmp_path, known={"angles": STEP})
    assert kept(rows) == {"s_0": True, "s_1": True, "s_2": False, "s_3": True}
    assert rows["s_2"]["reason"].startswith("undersized: 15 projections over 68 degrees, less")
    lacking = "the angles cover 135 of 180 degrees, and slices lack the others"
    assert rows["s_3"]["warnings"] == lacking
    assert rows["s_3"]["n_cols"] == N_COLS  # `select: yes` can bring it back


@pytest.mark.parametrize(
    ("gap_deg", "known", "words"),
    [
        (0, {}, ""),
        (20, {}, "the angles cover 360 degrees except 21: with the axis off the middle"),
        (
            0,
            {"skip_angles": [[50, 90]]},
            "the angles cover 360 degrees except 42: with the axis off",
        ),
        (90, {}, ""),
    ],
    ids=["whole", "gap", "skipped", "three quarters"],
)
def test_a_turn_with_a_gap_is_warned_of(tmp_path, gap_deg, known, words):
    write(tmp_path / "a.h5", 360, theta=np.linspace(0, 359 - gap_deg, 360))
    warnings = take(tmp_path, known=known)["a"]["warnings"]
    assert warnings.startswith(words)
    assert bool(warnings) is bool(words)


@pytest.mark.parametrize(
    ("covered_deg", "is_stated", "says"),
    [
        (240, True, "the angles in use cover 240 of 360 degrees: slices are not widened"),
        (240, False, ""),
        (310, True, "the angles cover 360 degrees except 50"),
        (100, True, "the angles cover 102 of 180 degrees, and slices lack the others"),
    ],
)
def test_half_acquisition_of_a_part_of_a_turn_is_warned_of(tmp_path, covered_deg, is_stated, says):
    def change(entry):
        entry["instrument/detector/field_of_view"] = "Half" if is_stated else "Full"

    keys = np.array([1, *[0] * 63, 2])
    angles = np.array([0, *np.linspace(0, covered_deg, 63), 0])
    write_nxtomo(tmp_path / "a.h5", keys=keys, angles=angles, change=change)
    warnings = take(tmp_path)["a"]["warnings"]
    assert says in warnings
    assert bool(warnings) is bool(says)
    assert ";" not in warnings


@pytest.mark.parametrize(("unit", "factor"), [("rad", np.pi / 180), ("mdeg", 1000.0)])
def test_angles_in_another_unit_are_refused_until_the_unit_is_told(tmp_path, unit, factor):
    write(tmp_path / "s_1.h5")
    write(tmp_path / "s_2.h5", theta=np.linspace(0, 180, 40) * factor)
    row = take(tmp_path)["s_2"]
    assert not row["keep"]
    assert row["reason"].startswith("angles look like ")
    assert row["reason"].endswith("or deg if they are degrees (/exchange/theta)")
    assert row["n_cols"] is None  # not even `select: yes` takes it in
    with_unit = entry(tmp_path / "s_2.h5", own={"input": {"angle_unit": unit}})
    row = take(tmp_path, [entry(tmp_path / "s_1.h5"), with_unit])["s_2"]
    assert (row["keep"], row["reason"], row["warnings"]) == (True, "", "")
    assert "angles /exchange/theta, 180 degrees" in row["found"]
    assert all(kept(take(tmp_path, known={"angle_unit": "deg"})).values())


def aborted(n_angles, **options):
    """Describe a scan of 40 projections over 180 degrees that ended before."""
    return n_angles, {"span_deg": 180 / 39 * (n_angles - 1), **options}


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        ([(40, {}), (40, {}), *map(aborted, (9, 13, 5, 17))], [1, 1, 0, 0, 0, 0]),
        ([(200, {}), (40, {}), (40, {}), (40, {})], [1, 1, 1, 1]),
        ([(40, {}), (40, {}), aborted(20), aborted(19)], [1, 1, 1, 0]),
        ([(40, {}), (15, {})], [1, 1]),
        ([aborted(15)], [1]),
        ([(40, {}), *[aborted(15)] * 4], [1, 0, 0, 0, 0]),
        ([(720, {"span_deg": 360}), *[(181, {})] * 3], [1, 1, 1, 1]),
        ([*[(720, {"span_deg": 719})] * 3, (180, {"span_deg": 179})], [1, 1, 1, 1]),
        ([*[(720, {"span_deg": 719})] * 3, (180, {"span_deg": 160})], [1, 1, 1, 0]),
        ([*[(40, {"dtype": "u4"})] * 2, (40, {"dtype": "u1"})], [1, 1, 1]),
        ([*[(40, {"frame": (9, 16)})] * 2, (40, {"frame": (2, 5)})], [1, 1, 1]),
        ([*[(40, {"frame": (2, 5)})] * 2, aborted(15, frame=(9, 16))], [1, 1, 0]),
        ([*[(40, {"span_deg": 120})] * 2, *[(15, {"span_deg": 45})] * 3], [1, 1, 0, 0, 0]),
        ([(40, {"written": 3}), (40, {"written": 5}), aborted(12)], [0, 0, 0]),
    ],
    ids=[
        "most aborted", "one oversized", "half the size", "coarse", "single",
        "aborted at one frame",
        "360 degrees", "180 degrees beside 720", "less than 180 degrees beside 720",
        "type of pixels", "rows and columns", "large frames and aborted",
        "limited and aborted", "never written",
    ],
)  # fmt: skip
def test_undersized_in_its_series(tmp_path, scans, expected):
    """Of one series: (n_angles, options of write) of each scan, and which are kept."""
    for index, (n_angles, options) in enumerate(scans):
        write(tmp_path / f"s_{index}.h5", n_angles, **options)
    assert [*kept(take(tmp_path)).values()] == expected


def test_other_series_and_refused_and_broken_files_judge_nothing(tmp_path):
    write(tmp_path / "a_1.h5", 400)
    write(tmp_path / "s_1.h5", 20, span_deg=90)
    write(tmp_path / "s_2.h5", 400)
    (tmp_path / "s_3.h5").write_text("x" * 100_000)
    entries = [entry(path) for path in sorted(tmp_path.glob("*.h5"))]
    entries[2]["reason"] = "refused"
    expected = {"a_1": True, "s_1": True, "s_2": False, "s_3": False}
    assert kept(take(tmp_path, entries)) == expected


def test_any_file_is_a_row(tmp_path, caplog):
    write(tmp_path / "good_1.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    (tmp_path / "empty.h5").touch()
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "dangling.h5").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe.h5")
    whole = (tmp_path / "good_1.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["entry/data"] = 1
    (tmp_path / os.fsdecode(b"n\xe9 \xff $x 'y'.h5")).write_text("name that is not UTF-8")
    entries = [entry(path) for path in tmp_path.glob("*.h5")]
    entries += [entry(tmp_path / "gone.h5"), entry(tmp_path / ("x" * 300 + ".h5"))]
    for path in tmp_path.glob("*.h5"):
        if path.is_file():
            os.utime(path, LONG_AGO)
    with caplog.at_level(logging.INFO):
        rows = take(tmp_path, entries)
    assert len(rows) == 11
    assert [name for name, row in rows.items() if row["keep"]] == ["good_1"]
    starts = {
        "text": "not an HDF5 file", "empty": "empty file", "folder": "a folder",
        "dangling": "dangling symbolic link to gone", "pipe": "is a pipe, not a file",
        "cut": "truncated HDF5 file", "foreign": "no /exchange/data", "gone": "no such file",
    }  # fmt: skip
    for name, start in starts.items():
        assert rows[name]["reason"].startswith(start)
        assert rows[name]["n_cols"] is rows[name]["bytes"] is None
        assert f"{name} ({tmp_path / name}.h5) is skipped: {start}" in caplog.text
    assert "1 of 11 scans kept" in caplog.text
    assert len(read_tsv(tmp_path / "results" / "inventory.tsv", COLUMNS)) == 11


@pytest.mark.parametrize("module", ["layout", "datasets"])
def test_a_slip_in_a_reader_is_not_taken_for_damage(tmp_path, monkeypatch, caplog, module):
    write(tmp_path / "a_1.h5")
    with h5py.File(tmp_path / "a_1.h5", "a") as file:
        file["exchange/theta"].attrs["units"] = "deg"
        file["measurement/instrument/detector/pixel_size"] = "0.69 um"
    (tmp_path / "a_2.h5").write_bytes(b"no HDF5")
    monkeypatch.delattr(f"tomopipe.scans.{module}.text_of")
    rows = take(tmp_path)
    assert "tomopipe's own error" in rows["a_1"]["reason"]
    assert "NameError" in rows["a_1"]["reason"]
    assert "Traceback" in caplog.text
    assert rows["a_2"]["reason"].startswith("not an HDF5 file")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_what_the_system_does_not_give_now_is_looked_at_again(tmp_path, refuse_to_open, number):
    write(tmp_path / "a_1.h5")
    (tmp_path / "b_1.h5").write_bytes(b"damaged for good")
    refuse_to_open(tmp_path / "a_1.h5", number)
    rows = take(tmp_path, [entry(tmp_path / f"{name}.h5") for name in ("a_1", "b_1", "none")])
    assert rows["a_1"]["reason"].endswith(LOOK_AGAIN)
    assert not any(LOOK_AGAIN in rows[name]["reason"] for name in ("b_1", "none"))


def test_flats_elsewhere(tmp_path):
    write(tmp_path / "s_1.h5")
    with h5py.File(tmp_path / "s_1.h5", "r+") as file:
        del file["exchange/data_white"]
    os.utime(tmp_path / "s_1.h5", LONG_AGO)
    assert "no /exchange/data_white" in take(tmp_path)["s_1"]["reason"]
    assert take(tmp_path, flats="none")["s_1"]["keep"]


def test_a_writer_is_noticed_and_a_finished_one_is_not(tmp_path):
    for name in ("done_1", "grows_1", "in_place_1"):
        write(tmp_path / f"{name}.h5")
        os.utime(tmp_path / f"{name}.h5")
    images = tmp_path / "images_1"
    images.mkdir()
    tifffile.imwrite(images / "0.tif", np.ones((4, 6), "u2"))
    stop = threading.Event()

    def keep_writing():
        number = 1
        while not stop.wait(0.1):
            with open(tmp_path / "grows_1.h5", "ab") as stream:
                stream.write(b"\0" * 100)
            os.utime(tmp_path / "in_place_1.h5", (time.time() + number,) * 2)
            tifffile.imwrite(images / f"{number}.tif", np.ones((4, 6), "u2"))
            number += 1

    entries = [entry(path) for path in sorted(tmp_path.iterdir())]
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        rows = take(tmp_path, entries, flats="none", darks="none")
    finally:
        stop.set()
        writer.join()
    written = dict.fromkeys(("grows_1", "in_place_1", "images_1"), "still written")
    assert {name: row["reason"] for name, row in rows.items()} == {"done_1": ""} | written
    assert rows["grows_1"]["n_cols"] is None


def test_files_of_long_ago_are_not_waited_for(tmp_path, monkeypatch):
    for index in range(3):
        write(tmp_path / f"s_{index:03d}.h5")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("a pause"))
    assert all(kept(take(tmp_path)).values())


def test_the_table_is_the_same_each_time(tmp_path):
    write(tmp_path / "s_1.h5")
    (tmp_path / "s_2.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 100)
    os.utime(tmp_path / "s_2.h5", LONG_AGO)
    texts = []
    for _ in range(2):
        take(tmp_path)
        texts.append((tmp_path / "results" / "inventory.tsv").read_bytes())
    assert texts[0] == texts[1]
    assert b"broken HDF5 file" in texts[0]


def test_all_formats_are_judged_alike(tmp_path):
    for index in range(2):
        write_nxtomo(tmp_path / f"n_{index}.h5")
    write_nxtomo(tmp_path / "n_2.h5", change=lambda entry: entry.__delitem__("definition"))
    with h5py.File(tmp_path / "n_3.h5", "w") as file:
        file["entry/definition"] = "NXtomo"  # and nothing else
    write_nxtomo(tmp_path / "n_4.h5", angles=np.full(14, np.nan))
    images = tmp_path / "t_1"
    for folder, n in (("", 9), ("flats", 2), ("darks", 1)):
        (images / folder).mkdir(exist_ok=True)
        for number in range(n):
            tifffile.imwrite(images / folder / f"{number}.tif", np.full((4, 6), 7, "u2"))
    (images / "angles.txt").write_text("\n".join(map(str, range(0, 180, 20))))
    (tmp_path / "t_2").mkdir()
    for path in tmp_path.rglob("*.*"):
        os.utime(path, LONG_AGO)
    rows = take(tmp_path, [entry(path) for path in sorted(tmp_path.iterdir())])
    assert [name for name, keep in kept(rows).items() if keep] == ["n_0", "n_1", "n_2", "t_1"]
    assert list(rows) == ["n_0", "n_1", "n_2", "n_3", "n_4", "t_1", "t_2"]
    assert (rows["n_0"]["n_angles"], rows["n_0"]["bytes"]) == (6, 6 * 3 * 5 * 2)
    assert (rows["t_1"]["n_angles"], rows["t_1"]["bytes"]) == (9, 9 * 4 * 6 * 2)
    assert rows["n_3"]["reason"].startswith("/entry has no NXdetector with image_key")
    assert "6 of 6 angles not finite" in rows["n_4"]["reason"]
    assert rows["t_2"]["reason"].startswith("a folder without TIFF files")
    assert rows["n_0"]["found"] == rows["n_1"]["found"] != rows["t_1"]["found"]
    assert rows["t_1"]["found"].startswith("TIFF; projections images; angles angles.txt, 160 deg")


@pytest.mark.parametrize(
    ("theta_deg", "skip", "said"),
    [
        (
            np.tile(np.arange(0, 180, 4.5), 4),
            [],
            "4 turns of 180 degrees in one file: a time series?",
        ),
        (np.tile(np.arange(0, 180, 4.5), 4), [[40, 159]], ""),
        (np.arange(160) * 111.246 % 180, [], ""),
        (np.linspace(0, 360, 160), [], ""),
    ],
    ids=["turns", "the first one alone", "golden ratio", "one turn"],
)
def test_turns_in_one_file_are_named_with_how_to_use_one(tmp_path, theta_deg, skip, said):
    write(tmp_path / "s_1.h5", 160, theta=theta_deg)
    row = take(tmp_path, known={"skip_projections": skip})["s_1"]
    assert row["keep"]
    assert row["warnings"].startswith(said)
    assert bool(row["warnings"]) == bool(said)
    assert ";" not in row["warnings"]  # which would make two of one
    assert ("{skip_projections: [[40, 159]]} uses the first turn" in row["warnings"]) == bool(said)


def test_turns_of_an_entry_are_time_points_only_in_place_of_entries(tmp_path):
    keys, angles = np.array([1, *[0] * 120, 2]), np.array([0, *np.arange(0, 720, 6.0), 0])
    write_nxtomo(tmp_path / "a.nx", keys=keys, angles=angles)
    other = "(in place of `entries`, with input.entry) makes each a scan"
    for options, is_entry in (({}, False), ({"entry": "/entry0000"}, True)):
        warnings = take(tmp_path, [entry(tmp_path / "a.nx")], known=options)["a"]["warnings"]
        assert "`turns: 360` beside `glob` in campaign.scans" in warnings
        assert (other in warnings) == is_entry


@pytest.mark.parametrize("is_stated", [True, False])
def test_a_turn_of_half_acquisition_is_360_degrees(tmp_path, is_stated):
    def change(entry):
        entry["instrument/detector/field_of_view"] = "Half" if is_stated else "Full"

    keys, angles = np.array([1, *[0] * 180, 2]), np.array([0, *np.arange(0, 540, 3.0), 0])
    write_nxtomo(tmp_path / "a.h5", keys=keys, angles=angles, change=change)
    warnings = take(tmp_path)["a"]["warnings"]
    assert "`turns: 360`" in warnings
    assert "{skip_projections: [[120, 179]]} uses the first turn only" in warnings
    assert ("`turns: 180`" not in warnings) == is_stated
    assert ("{skip_projections: [[60, 179]]}" not in warnings) == is_stated


@pytest.mark.parametrize(
    ("end_deg", "last", "says"),
    [
        (180, 90, "the 90 projections in use cover 101 of 180 degrees, and slices lack the others"),
        (180, 155, ""),
        (360, 90, ""),
        (140, 160, "the angles cover 140 of 180 degrees, and slices lack the others"),
        (140, 90, "the angles cover 140 of 180 degrees"),
    ],
)
def test_less_than_180_degrees_in_the_file_or_in_use_are_named(tmp_path, end_deg, last, says):
    write(tmp_path / "s_1.h5", 160, theta=np.arange(160) * end_deg / 160)
    skipped = {"skip_projections": [[last, 159]]} if last < 160 else {}
    row = take(tmp_path, known=skipped)["s_1"]
    assert row["warnings"].startswith(says)
    assert bool(row["warnings"]) == bool(says)


@pytest.mark.parametrize(
    ("theta_deg", "skip", "says"),
    [
        (np.linspace(0, 180, 181), [[60, 80]], "59 and 81"),
        (np.linspace(0, 200, 201), [[60, 80]], "59 and 81"),
        (np.linspace(0, 180, 181), [[60, 66]], ""),  # slices hardly show it
        (np.linspace(0, 270, 271), [[100, 120]], "99 and 121"),
        (np.linspace(0, 270, 271), [[20, 60]], ""),  # measured half a turn later
        (np.linspace(-180, 180, 46), [[20, 22]], ""),
        (np.linspace(0, 360, 31) + np.random.default_rng(3).normal(0, 0.01, 31), [], ""),
        (np.arange(30) * 111.246, [], ""),  # golden ratio
        (np.arange(30) * 111.246, [[0, 1]], ""),
    ],
)
def test_a_gap_that_slices_show_is_named(tmp_path, theta_deg, skip, says):
    """Whether stated so by the file or by what is skipped."""
    write(tmp_path / "s_1.h5", len(theta_deg), theta=theta_deg)
    is_there = np.ones(len(theta_deg), bool)
    for first, last in skip:
        is_there[first : last + 1] = False
    write(tmp_path / "s_2.h5", np.count_nonzero(is_there), theta=theta_deg[is_there])
    rows = take(tmp_path, known={"skip_projections": skip}), take(tmp_path)
    for row in (rows[0]["s_1"], rows[1]["s_2"]):
        assert ("slices lack these" in row["warnings"]) == bool(says), row["warnings"]
        assert says in row["warnings"]


def test_a_gap_of_frames_that_were_not_written_is_named(tmp_path):
    """`select: yes` uses those on both sides."""
    write(tmp_path / "a_1.h5", 91, written=40)
    with h5py.File(tmp_path / "a_1.h5", "r+") as file:
        file["exchange/data"][50:] = 100
    row = take(tmp_path)["a_1"]
    assert row["reason"].startswith("10 of 91 frames were not written")
    assert "between 78 and 100 degrees, or half a turn away: slices lack these" in row["warnings"]


def test_an_aborted_scan_states_the_angles_that_it_has_for_who_selects_it(tmp_path):
    for number, n_angles in enumerate((160, 160, 30)):
        write(tmp_path / f"s_{number}.h5", n_angles, theta=np.arange(160) * 180 / 160)
    row = take(tmp_path)["s_2"]
    assert row["reason"].startswith("aborted")
    assert row["warnings"] == "the angles cover 34 of 180 degrees, and slices lack the others"


@pytest.mark.parametrize(
    ("end_deg", "angles", "says"),
    [
        (162, {"start": 0, "stop": 180}, "the angles of the file cover 162 degrees, those of "),
        (180, {"start": 0, "stop": 150}, "the angles cover 151 of 180 degrees, and slices lack"),
        (None, {"start": 0, "stop": 150}, "the angles cover 151 of 180 degrees, and slices lack"),
        (180, {"start": 10, "stop": 190}, ""),
    ],
)
def test_the_angles_that_are_told_are_those_of_the_options(tmp_path, end_deg, angles, says):
    theta = "none" if end_deg is None else np.arange(160) * end_deg / 160
    write(tmp_path / "s_1.h5", 160, theta=theta)
    row = take(tmp_path, known={"angles": angles})["s_1"]
    assert row["warnings"].startswith(says)
    assert bool(row["warnings"]) == bool(says)


@pytest.mark.parametrize(
    ("sizes", "reference"),
    [
        ([], 0),
        ([70], 70),
        ([100, 40], 100),
        ([100, 100, 100, 100], 100),
        ([100, 100, 12, 30, 45, 7, 60], 100),
        ([120, 1500, 300, 1497, 450, 70], 1500),
        ([100, 12, 30, 45, 7], 100),
        ([900, 500, 100, 100, 20, 30, 40], 100),
        ([100.0] * 50 + [210.0] * 2, 100),  # two long ones in a large series
        ([30.0, 40.0, 55.0] * 13 + [100.0] * 6, 100),
        ([*range(10, 60), 100, 100, 100], 100),  # many aborted at random
    ],
)
def test_reference_size(sizes, reference):
    assert reference_size(sizes) == reference


@pytest.mark.parametrize(
    ("n_frames", "covered_deg", "expected"),
    [
        (499, 80.0, True),
        (500, 80.0, False),  # half of them is kept
        (500, None, False),
        (20, 180.0, False),
    ],
)
def test_undersized_takes_few_projections_over_less_than_180_degrees(
    n_frames, covered_deg, expected
):
    assert undersized(n_frames, covered_deg, reference=1000.0, min_fraction=0.5) is expected
