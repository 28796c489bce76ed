"""Series and index of a name; the reference size of a series."""

import pytest

from tomopipe.campaign.raw_files import encode_series, reference_size, split_name, undersized
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
