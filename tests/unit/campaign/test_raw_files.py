"""Series and index of a name."""

import pytest

from tomopipe.campaign.files import encode_series
from tomopipe.campaign.raw_files import split_name
from tomopipe.config import InventoryBlock
from tomopipe.errors import TomopipeError


@pytest.mark.parametrize(
    ("stem", "series", "index"),
    [
        ("sample_001", "sample", 1),
        ("12345", "", 12345),
        ("scan_2024-05-01", "scan_2024-05", 1),
        ("", "", 0),
        ("tête à 3", "tête à ", 3),
        ("sample1", "sample", 1),
        ("S_1.5", "S_1", 5),
        ("x_01_rec", "x_01_rec", 0),
        ("bone_001_0000", "bone", 1),  # ESRF
        ("bone_lumbar_12_0000", "bone_lumbar", 12),
        ("sample_0000", "sample", 0),
        ("x_12_0001", "x_12", 1),
        ("x_12_000", "x_12", 0),
        ("x_12-0000", "x_12", 0),
        ("7_0000", "", 7),
    ],
)
def test_split_name(stem, series, index):
    assert split_name(stem, InventoryBlock().series_pattern) == (series, index)


def test_split_name_with_a_pattern_of_the_user():
    assert split_name("run7_sampleA", r"^run(?P<s>)?(\d+)_") == ("", 7)
    assert split_name("sampleA_run7", r"(\w+)_run(\d+)$") == ("sampleA", 7)
    assert split_name("sampleA", r"^(\w+?)(?:_run(\d+))?$") == ("sampleA", 0)


def test_split_name_names_a_pattern_whose_index_is_no_number():
    with pytest.raises(TomopipeError, match=r"inventory\.series_pattern: .*digits; got 'one'"):
        split_name("sample_one", r"^(.*)_(.*)$")


def test_encode_series_is_a_file_name_and_one_to_one():
    keys = ["", "_", "%5F", "a", "a/b", "a%2Fb", "à b", ".", "..", ".a", "%2Ea", "\udcff"]
    keys += ["x" * 300, "x" * 301, "é" * 100, "é" * 100 + "/"]
    names = [encode_series(key) for key in keys]
    assert len(set(names)) == len(keys)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert 0 < len(name.encode()) <= 200
    assert names[:5] == ["_", "%5F", "%255F", "a", "a%2Fb"]
