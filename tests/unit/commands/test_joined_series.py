"""Where most series have one scan, the pattern that joins them is named."""

import re

import pytest
import yaml

from tomopipe.campaign.raw_files import split_name
from tomopipe.commands.joined_series import warn_of_single_scans
from tomopipe.config import InventoryBlock


def warning_of(names, folders=None):
    pattern, folders = InventoryBlock().series_pattern, folders or [""] * len(names)
    series = [
        folder + split_name(name, pattern)[0] for name, folder in zip(names, folders, strict=True)
    ]
    return warn_of_single_scans(names, series, pattern)


@pytest.mark.parametrize(
    ("names", "n_series"),
    [
        ([f"rock_{n:03d}_tomo" for n in range(8)], 1),
        ([f"{rock}_{n}_rec" for rock in "ab" for n in range(5)], 2),
        ([f"s_{n:02d}_2026-05-{n:02d}_1{n:02d}4" for n in range(1, 9)], 1),
        ([f"scan{n}.{n}keV" for n in range(20, 25)], 1),
        ([f"wood_w{w}_h{h}_0001" for w in range(1, 4) for h in range(1, 5)], 3),
    ],
    ids=["a word behind", "two samples", "a date behind", "both numbers", "widths and heights"],
)
def test_the_pattern_makes_series_of_the_scans(names, n_series):
    """The line of the message, written into the configuration, joins them by their number."""
    warning = warning_of(names)
    text = re.search(r"inventory: \{.*?'\}", warning)[0]
    options = InventoryBlock(**yaml.safe_load(text)["inventory"])
    split = [split_name(name, options.series_pattern) for name in names]
    assert len({series for series, _ in split}) == n_series
    assert len(set(split)) == len(names)
    assert f"makes {n_series} series of {len(names)} scans" in warning


@pytest.mark.parametrize(
    "names",
    [
        [f"rock_{n}" for n in range(8)],
        ["rock", "bone", "wood", "shell"],
        ["rock_1_a", "rock_2_a"],
        [f"bone_{n:03d}_0000" for n in range(8)],
        [*(f"rock_{n}" for n in range(9)), "dark_1", "flat_1", "test_1"],
        [],
    ],
    ids=["one series", "words", "two scans", "of the ESRF", "as they are", "none"],
)
def test_series_that_are_right_or_cannot_be_joined(names):
    assert warning_of(names) == ""


@pytest.mark.parametrize("suffix", ["_0000", "_tomo"])
def test_no_pattern_joins_scans_of_different_folders(suffix):
    names = [f"bone_{n}{suffix}" for n in range(6)]
    assert warning_of(names, [f"bone_{n}/" for n in range(6)]) == ""
    two_days = ["day1/"] * 3 + ["day2/"] * 3
    assert ("makes 2 series" in warning_of(names, two_days)) == (suffix == "_tomo")
