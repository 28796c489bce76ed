"""Which series of a campaign are compared with each other."""

import pytest

from tests.nxtomo_files import write_nxtomo
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.series import compared_series, file_over_time, members_of, series_around


def test_series_are_compared_with_the_nearest_of_their_length():
    kinds = {f"s{n}": [3 if n % 2 else 1] for n in range(1, 24)}
    around = series_around(kinds)
    assert around["s11"] == [
        *((-8, "s3"), (-6, "s5"), (-4, "s7"), (-2, "s9")),
        *((2, "s13"), (4, "s15"), (6, "s17"), (8, "s19")),
    ]
    assert around["s1"] == [(2, "s3"), (4, "s5"), (6, "s7"), (8, "s9")]


def test_recorded_heights_bring_series_of_other_lengths_together():
    around = series_around({"a": [3, "height"], "b": [2], "c": [4, "height"], "d": [5]})
    assert around == {"a": [(2, "c")], "b": [], "c": [(-2, "a")], "d": []}


def campaign_of_views(folder, **options):
    """Return a campaign of two files of entries and two of one scan, by series."""
    for name, numbers in {"a": (0, 1, 2), "b": (0, 1, 2), "c_1": (0,), "c_2": (0,)}.items():
        for number in numbers:
            write_nxtomo(folder / f"{name}.nx", entry=f"/entry{number:04d}")
    scans = [{"glob": "*.nx", "entries": "all"}]
    campaign = campaign_from_data({"campaign": {"scans": scans}, **options}, folder)
    row = {"n_cols": "64", "keep": "true"}
    return (
        campaign,
        {"a": [f"a@000{n}" for n in range(3)], "c": ["c_1", "c_2"]},
        dict.fromkeys(campaign.scans, row),
    )


@pytest.mark.parametrize("fill", ["best", "series"])
def test_views_of_one_file_have_a_model_over_time_and_are_compared_with_no_other(tmp_path, fill):
    options = {"fix_cor": {"over_time": "line", "fill": fill}}
    campaign, series, rows = campaign_of_views(tmp_path, **options)
    file = "a.nx" if fill == "best" else ""
    assert file_over_time(campaign, series["a"]) == file
    assert file_over_time(campaign, series["c"]) == ""
    members = members_of(campaign, series["a"], rows)
    assert [entry.get("file", "") for entry in members] == [file] * 3
    assert not any("file" in entry for entry in members_of(campaign, series["c"], rows))
    compared = compared_series(campaign, {"a": series["a"], "b": ["b@0000"]}, rows)
    assert not any(compared.values())


def test_without_a_model_views_are_compared_as_other_series(tmp_path):
    campaign, series, rows = campaign_of_views(tmp_path)
    compared = compared_series(campaign, {"a": series["a"], "b": ["b@0000"]}, rows)
    assert compared == {"a": [(1, "b")], "b": [(-1, "a")]}
    assert file_over_time(campaign, series["a"]) == ""
