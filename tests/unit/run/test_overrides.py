"""Options that differ for a series or a scan: who gets them, and what reaches the steps."""

import re

import pytest

from tomopipe.campaign.campaign import campaign_from_data, load_campaign
from tomopipe.campaign.reading import inventory_entries, raw_scan
from tomopipe.campaign.selection import unmatched_overrides
from tomopipe.config import parse_config
from tomopipe.errors import TomopipeError
from tomopipe.reruns.target import Target
from tomopipe.resources.disk import output_bytes
from tomopipe.resources.jobs import correction_halo

NAMES = ("tooth_1", "tooth_2", "foam_1")


def campaign(folder, *overrides, **blocks):
    (folder / "raw").mkdir(exist_ok=True)
    for name in NAMES:
        (folder / "raw" / f"{name}.h5").write_bytes(b"x")
    data = {"campaign": {"scans": ["raw/*.h5"]}, "overrides": list(overrides), **blocks}
    return campaign_from_data(data, folder)


def options(found, scan):
    return found.for_scan(scan).config.as_json("input", "preprocess", "full_recon")


def test_a_series_and_a_scan_differ_and_the_others_stay_as_they_were(tmp_path):
    plain = campaign(tmp_path)
    found = campaign(
        tmp_path,
        {"series": ["tooth"], "full_recon": {"filter": "hann"}},
        {"scans": ["tooth_2"], "preprocess": {"stripes": {"method": "vo"}}},
    )
    assert options(found, "foam_1") == options(plain, "foam_1")
    assert options(found, "tooth_1") != options(plain, "tooth_1")
    first, two = (found.for_scan(name).config for name in ("tooth_1", "tooth_2"))
    assert (first.full_recon.filter, two.full_recon.filter) == ("hann", "hann")
    assert (first.preprocess.stripes.method, two.preprocess.stripes.method) == ("none", "vo")


def test_the_last_of_several_wins_and_blocks_within_a_block_keep_their_other_keys(tmp_path):
    found = campaign(
        tmp_path,
        {"scans": ["*"], "preprocess": {"stripes": {"method": "sorting", "size_px": 5}}},
        {"scans": ["tooth_?"], "preprocess": {"stripes": {"size_px": 7}}},
        preprocess={"stripes": {"snr": 4.5}},
    )
    stripes = found.for_scan("tooth_1").config.preprocess.stripes
    assert (stripes.method, stripes.size_px, stripes.snr) == ("sorting", 7, 4.5)
    assert found.for_scan("foam_1").config.preprocess.stripes.size_px == 5


def test_flats_of_one_scan_are_its_own_input_and_known_to_the_inventory(tmp_path):
    own = {"preprocess": {"flats": "other.h5", "darks": "none"}}

    def found_now():
        return campaign(tmp_path, {"scans": ["foam_1"]} | own, preprocess={"flats": "shared.h5"})

    found = found_now()
    assert found.for_scan("foam_1").shared_files == ["other.h5"]
    assert found.for_scan("tooth_1").shared_files == ["shared.h5"]
    entries = {entry["scan"]: entry for entry in inventory_entries(found)}
    assert entries["foam_1"]["own"] == own
    assert "own" not in entries["tooth_1"]
    target = Target(found)
    before = {scan: target.raw(scan) for scan in NAMES}
    target.receipts.save()
    (tmp_path / "other.h5").write_bytes(b"new")
    target = Target(found_now())
    assert [scan for scan in NAMES if target.raw(scan) != before[scan]] == ["foam_1"]


def test_projections_of_one_scan_are_left_out_in_all_steps(tmp_path):
    plain = campaign(tmp_path)
    found = campaign(
        tmp_path,
        {"scans": ["foam_1"], "input": {"skip_angles": [[80.0, 90.0]], "every": 2}},
        {"scans": ["foam_1"], "input": {"every": 1}},
        {"scans": ["tooth_*"], "input": {"energy_kev": 30.0}},
    )
    skipped = {"skip_angles": [[80.0, 90.0]]}
    assert raw_scan(found, "foam_1").input.model_dump(exclude_defaults=True) == skipped
    assert found.config.reading() == plain.config.reading() == {}
    entries = {entry["scan"]: entry["own"] for entry in inventory_entries(found)}
    assert entries["foam_1"] == {"input": skipped}
    assert entries["tooth_1"] == {"input": {"energy_kev": 30.0}}


def test_half_acquisition_and_memory_may_differ_too(tmp_path):
    found = campaign(
        tmp_path,
        {
            "scans": ["tooth_1"],
            "preprocess": {"half_acquisition": "yes", "phase": {"method": "paganin"}},
            "full_recon": {"binning": 2},
        },
    )
    assert raw_scan(found, "tooth_1").preprocess.half_acquisition == "yes"
    assert found.config.preprocess.half_acquisition == "auto"
    row = {"n_rows": "100", "n_cols": "100"}
    assert correction_halo(found.for_scan("tooth_1"), row) is not None
    assert correction_halo(found, row) is None
    shape = {"n_angles": "10", "n_rows": "100", "n_cols": "100"}
    sizes = {
        scan: output_bytes(found, "full_recon", shape | {"scan": scan})
        for scan in ("tooth_1", "tooth_2")
    }
    # binned by 2, but twice as wide
    assert sizes["tooth_1"] * 2 == sizes["tooth_2"]


def test_the_grid_of_a_series_and_of_a_scan_is_its_own(tmp_path):
    found = campaign(
        tmp_path,
        {"series": ["tooth"], "try_recon": {"center_px": 1900, "width_px": 30}},
        {"scans": ["tooth_2"], "try_recon": {"center_px": 1950.5}},
        try_recon={"width_px": 80},
    )
    grids = [found.for_scan(scan).config.try_recon for scan in NAMES]
    assert [(g.center_px, g.width_px) for g in grids] == [(1900, 30), (1950.5, 30), (None, 80)]
    row = {"n_angles": "10", "n_rows": "1", "n_cols": "2048", "full_turn": "false"}
    n_bytes = [output_bytes(found, "try_recon", row | {"scan": scan}) for scan in NAMES]
    # so many slices of 1024 x 1024 voxels, and little else
    assert [n // (2 * 1024**2) for n in n_bytes] == [121, 121, 321]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"scans": ["a"], "full_recon": {"filtre": "hann"}}, r"1: full_recon\.filtre: .*filter\?"),
        ({"scans": ["a"], "full_recon": {"output": "zarr"}}, "the same for all scans"),
        ({"full_recon": {"binning": 2}}, "needs scans or series"),
        ({"scans": ["a"], "fix_cor": {}}, "overrides"),
    ],
)
def test_what_is_wrong_is_named(override, said):
    with pytest.raises(TomopipeError, match=said):
        parse_config({"campaign": {"scans": ["raw/*.h5"]}, "overrides": [override]})


def test_a_scan_or_series_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(TomopipeError, match=r"overrides 1: scans: there is no toth_1; did you"):
        campaign(tmp_path, {"scans": ["toth_1"]})
    said = r"config: overrides 1: series: there is no raw/a; expected .* one of foam, tooth$"
    with pytest.raises(TomopipeError, match=said):
        campaign(tmp_path, {"series": ["raw/a"]})
    path = tmp_path / "config.yaml"
    path.write_text("campaign: {scans: [raw/*.h5]}\noverrides: [{series: [raw/a]}]\n")
    with pytest.raises(TomopipeError, match="^" + re.escape(f"{path}: overrides 1: series:")):
        load_campaign(tmp_path)
    for known in ("results/try_center/tooth_7", "results/fix_cor/raw%2Fb.tsv"):  # of before
        (tmp_path / known).mkdir(parents=True)
    gone = {"scans": ["tooth_7"], "series": ["raw/b"]}
    assert unmatched_overrides(campaign(tmp_path, gone))[1] == [
        "overrides 1: scans: tooth_7 is no longer in the campaign",
        "overrides 1: series: raw/b is no longer in the campaign",
    ]
    assert campaign(tmp_path, {"scans": ["later_*"], "full_recon": {"binning": 2}})


def test_overrides_that_do_not_fit_together_are_named(tmp_path):
    with pytest.raises(TomopipeError, match="must be none where minus_log is false"):
        campaign(
            tmp_path,
            {"scans": ["foam_1"], "preprocess": {"minus_log": False}},
            {"scans": ["foam_1"], "preprocess": {"phase": {"method": "paganin"}}},
        ).for_scan("foam_1")
