"""Flats, darks and angles in files named by a pattern: of each scan, or of its series."""

import os

import h5py
import numpy as np
import pytest
import tifffile

from tests.phantoms import write_scan
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.reading import raw_scan
from tomopipe.commands.check import examine
from tomopipe.config import parse_config
from tomopipe.errors import TomopipeError
from tomopipe.reruns.settle import expected_inventory
from tomopipe.reruns.target import Target

SIZE = {"n_cols": 16, "n_rows": 2, "n_angles": 5}
SCANS = ("a_1", "a_2", "b_1")


@pytest.fixture
def folder(tmp_path):
    """Scans without flats and darks; those lie in files named after scans or series."""
    levels = {"a_1": 1000, "a_2": 2000, "b_1": 3000}
    for place in ("raw", "flats", "tiff", "series", "angles"):
        (tmp_path / place).mkdir()
    for name in SCANS:
        path = tmp_path / "raw" / f"{name}.h5"
        write_scan(path, **SIZE)
        with h5py.File(path, "r+") as file, h5py.File(tmp_path / f"flats/{name}.h5", "w") as to:
            for key in ("data", "data_white", "data_dark", "theta"):
                to[f"exchange/{key}"] = file[f"exchange/{key}"][()]
            to["exchange/data_white"][...] = levels[name]
            del file["exchange/data_white"], file["exchange/data_dark"]
        frame = np.full((2, 16), levels[name] + 1, "u2")
        tifffile.imwrite(tmp_path / "tiff" / f"{name}.tif", frame)
        (tmp_path / "tiff" / name).mkdir()
        tifffile.imwrite(tmp_path / "tiff" / name / "one.tif", frame + 1)
        (tmp_path / "angles" / f"{name}.txt").write_text("\n".join(map(str, range(5))))
    for name, level in (("a", 700), ("b", 800)):
        tifffile.imwrite(tmp_path / "series" / f"{name}.tif", np.full((2, 16), level, "u2"))
    (tmp_path / "seen").mkdir()
    return tmp_path


def look(folder, flats, darks="none", **blocks):
    data = {"campaign": {"scans": ["raw/*.h5"]}, "preprocess": {"flats": flats, "darks": darks}}
    return campaign_from_data(data | blocks, folder)


def flat_levels(campaign):
    """What each scan's flats are when it is opened with the options of its steps."""
    levels = {}
    for scan in SCANS:
        with raw_scan(campaign, scan).open() as found:
            levels[scan] = float(found.flat.mean())
    return levels


@pytest.mark.parametrize(
    ("pattern", "levels"),
    [
        ("flats/{scan}.h5", [1000, 2000, 3000]),
        ("series/{series}.tif", [700, 700, 800]),
        (["tiff/{scan}.tif", "tiff/{scan}"], [1001.5, 2001.5, 3001.5]),
        ("flats/a_1.h5", [1000, 1000, 1000]),
    ],
)
def test_each_scan_is_given_its_own(folder, monkeypatch, pattern, levels):
    monkeypatch.chdir(folder)
    campaign = look(folder, pattern)
    assert flat_levels(campaign) == dict(zip(SCANS, levels, strict=True))
    rows = expected_inventory(campaign, folder / "seen")
    assert {row["keep"] for row in rows.values()} == {"true"}
    shared = campaign.for_scan("a_2").shared_files
    assert shared
    assert all((folder / path).exists() for path in shared)


def test_darks_and_angles_too_and_by_an_override(folder, monkeypatch):
    monkeypatch.chdir(folder)
    campaign = look(
        folder,
        "flats/{scan}.h5",
        "flats/{scan}.h5",
        input={"angles": "angles/{scan}.txt"},
        overrides=[{"scans": ["b_1"], "preprocess": {"flats": "series/{series}.tif"}}],
    )
    assert flat_levels(campaign) == {"a_1": 1000, "a_2": 2000, "b_1": 800}
    assert campaign.for_scan("a_1").shared_files == ["angles/a_1.txt", "flats/a_1.h5"]
    assert campaign.for_scan("b_1").config.input.angles == "angles/b_1.txt"
    assert campaign.shared_files == []
    rows = expected_inventory(campaign, folder / "seen")
    assert "angles angles/a_2.txt, 4 degrees" in rows["a_2"]["found"]


def test_one_file_that_changes_concerns_its_scans_alone(folder):
    def contents():
        target = Target(look(folder, "series/{series}.tif"))
        return [target.raw(scan) for scan in SCANS]

    before = contents()
    tifffile.imwrite(folder / "series" / "b.tif", np.ones((4, 16), "f4"))
    after = contents()
    assert [a != b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_a_file_that_is_missing_is_named_with_its_scan(folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.unlink(folder / "flats" / "a_2.h5")
    campaign = look(folder, "flats/{scan}.h5")
    (line,) = [text for text in examine(campaign).errors if "no such file" in text]
    assert line.startswith("flats/a_2.h5: no such file; preprocess.flats")
    assert line.endswith("for a_2")
    row = expected_inventory(campaign, folder / "seen")["a_2"]
    assert row["keep"] == "false"
    assert row["reason"] == "flats/a_2.h5: no such file"


@pytest.mark.parametrize("pattern", ["flats/{sacn}.h5", "flats/{scan.h5"])
def test_other_braces_are_an_error(pattern):
    for blocks in ({"preprocess": {"flats": pattern}}, {"input": {"angles": pattern}}):
        with pytest.raises(TomopipeError, match=r"only \{scan\} and \{series\} in braces"):
            parse_config({"campaign": {"scans": ["a"]}, **blocks})
