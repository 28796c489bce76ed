"""Which series of a campaign are compared with each other."""

import pytest

from tests.nxtomo_files import write_nxtomo
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.series import Selected, file_over_time, needs_search, series_around
from tomopipe.cor.outliers import NOT_ASKED
from tomopipe.errors import TomopipeError

ROW = {"n_cols": "64", "keep": "true"}


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
    """Return a campaign of two files of entries and two of one scan, and its series."""
    for name, numbers in {"a": (0, 1, 2), "b": (0, 1, 2), "c_1": (0,), "c_2": (0,)}.items():
        for number in numbers:
            write_nxtomo(folder / f"{name}.nx", entry=f"/entry{number:04d}")
    scans = [{"glob": "*.nx", "entries": "all"}]
    campaign = campaign_from_data({"campaign": {"scans": scans}, **options}, folder)
    return campaign, Selected(campaign, dict.fromkeys(campaign.scans, ROW))


@pytest.mark.parametrize("fill", ["best", "series"])
def test_views_of_one_file_have_a_model_over_time_and_are_compared_with_no_other(tmp_path, fill):
    options = {"fix_cor": {"over_time": "line", "fill": fill}}
    campaign, selected = campaign_of_views(tmp_path, **options)
    file = "a.nx" if fill == "best" else ""
    assert file_over_time(campaign, selected.series["a"]) == file
    assert [entry.get("file", "") for entry in selected.members("a")] == [file] * 3
    assert not any("file" in entry for entry in selected.members("c"))
    assert not selected.around("a") + selected.around("b")


def test_without_a_model_views_are_compared_as_other_series(tmp_path):
    campaign, selected = campaign_of_views(tmp_path)
    assert selected.around("a") == [f"b@000{n}" for n in range(3)]
    assert [entry["order"] for entry in selected.members_around("b")] == [-1] * 3
    assert file_over_time(campaign, selected.series["a"]) == ""


def swept(folder, *numbers, every=3, **options):
    """Return the views of a file that have a sweep, by their names."""
    for number in numbers:
        write_nxtomo(folder / "a.nx", entry=f"/entry{number:04d}")
    for name in {"c_1", "c_2"} - {path.stem for path in folder.iterdir()}:
        write_nxtomo(folder / f"{name}.nx", entry="/entry0000")
    data = {"campaign": {"scans": [{"glob": "*.nx", "entries": "all"}]}}
    campaign = campaign_from_data(data | {"try_recon": {"every": every}, **options}, folder)
    return campaign, [s for s in campaign.scans if needs_search(campaign, s, ROW)]


def test_each_nth_view_of_a_file_has_a_sweep_and_the_same_ones_when_others_come(tmp_path):
    first = ["a@0002", "a@0005", "c_1", "c_2"]
    assert swept(tmp_path, 2, 3, 4, 5, 6)[1] == first
    assert swept(tmp_path, 7)[1] == first
    campaign, names = swept(tmp_path, 8, 9)
    assert names == ["a@0002", "a@0005", "a@0008", "c_1", "c_2"]
    rows = dict.fromkeys(campaign.scans, ROW)
    members = {e["scan"]: e for e in Selected(campaign, rows).members("a")}
    assert members["a@0003"]["no_cor_reason"] == "not swept (try_recon.every: 3)"
    assert "no_cor_reason" not in members["a@0005"]
    assert len(swept(tmp_path, every=1)[1]) == 10


def test_overrides_of_views_by_a_pattern_of_their_file(tmp_path):
    overrides = [
        {"scans": ["a@*"], "full_recon": {"binning": 2}},
        {"scans": ["a@0003"], "try_recon": {"every": 1}},
    ]
    campaign, names = swept(tmp_path, 2, 3, 4, overrides=overrides)
    assert names == ["a@0002", "a@0003", "c_1", "c_2"]
    binning = {s: campaign.for_scan(s).config.full_recon.binning for s in campaign.scans}
    assert binning == {"a@0002": 2, "a@0003": 2, "a@0004": 2, "c_1": 1, "c_2": 1}
    assert campaign.for_scan("a@0004").config.input.entry == "/entry0004"


def test_without_methods_a_view_without_sweep_is_for_the_default_as_all_others(tmp_path):
    campaign, _ = swept(tmp_path, 2, 3, predict_cor={"methods": []})
    rows = dict.fromkeys(campaign.scans, ROW)
    (_, second) = Selected(campaign, rows).members("a")
    assert second["no_cor_reason"] == NOT_ASKED


def test_a_scan_whose_roll_is_measured_is_swept_though_its_cor_is_known(tmp_path):
    (tmp_path / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\nc_1\tauto\t3\t\n")
    auto, given = ({"roll_deg": value} for value in ("auto", 0.5))
    assert swept(tmp_path, every=1)[1] == ["c_2"]
    assert swept(tmp_path, every=1, preprocess=auto)[1] == ["c_1", "c_2"]
    overrides = [{"scans": ["c_1"], "preprocess": given}]
    assert swept(tmp_path, every=1, preprocess=auto, overrides=overrides)[1] == ["c_2"]
    with pytest.raises(TomopipeError, match=r"needs try_recon\.every: 1"):
        swept(tmp_path, preprocess=auto)
