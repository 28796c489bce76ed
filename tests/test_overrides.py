"""Options that differ for a series or a scan: who gets them, and what reaches the steps."""

import pytest

from tomopipe.campaign import as_json, campaign_from_data
from tomopipe.config import parse_config
from tomopipe.disk import output_bytes
from tomopipe.errors import TomopipeError

NAMES = ("tooth_1", "tooth_2", "foam_1")


def campaign(folder, *overrides, **blocks):
    (folder / "raw").mkdir(exist_ok=True)
    for name in NAMES:
        (folder / "raw" / f"{name}.h5").write_bytes(b"x")
    data = {"campaign": {"scans": ["raw/*.h5"]}, "overrides": list(overrides), **blocks}
    return campaign_from_data(data, folder)


def options(found, scan):
    own = found.for_scan(scan)
    return as_json(own.preprocess_options() | own.config.full_recon.model_dump())


def test_a_series_and_a_scan_differ_and_the_others_stay_as_they_were(tmp_path):
    plain = campaign(tmp_path)
    found = campaign(
        tmp_path,
        {"series": ["tooth"], "full_recon": {"filter": "hann"}},
        {"scans": ["tooth_2"], "preprocess": {"stripes": {"method": "vo"}}},
    )
    assert options(found, "foam_1") == options(plain, "foam_1")
    assert options(found, "tooth_1") != options(plain, "tooth_1")
    one, two = (found.for_scan(name).config for name in ("tooth_1", "tooth_2"))
    assert (one.full_recon.filter, two.full_recon.filter) == ("hann", "hann")
    assert (one.preprocess.stripes.method, two.preprocess.stripes.method) == ("none", "vo")


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
    found = campaign(
        tmp_path,
        {"scans": ["foam_1"], "preprocess": {"flats": "other.h5", "darks": "none"}},
        preprocess={"flats": "shared.h5"},
    )
    assert found.for_scan("foam_1").shared_files() == ["other.h5"]
    assert found.for_scan("tooth_1").shared_files() == ["shared.h5"]
    entries = {entry["scan"]: entry for entry in found.inventory_entries()}
    assert (entries["foam_1"]["flats"], entries["foam_1"]["darks"]) == ("other.h5", "none")
    assert "flats" not in entries["tooth_1"]
    before = {scan: found.raw_signature(scan) for scan in NAMES}, found.files_signature()
    (tmp_path / "other.h5").write_bytes(b"new")
    again = campaign(
        tmp_path,
        {"scans": ["foam_1"], "preprocess": {"flats": "other.h5", "darks": "none"}},
        preprocess={"flats": "shared.h5"},
    )
    changed = [scan for scan in NAMES if again.raw_signature(scan) != before[0][scan]]
    assert changed == ["foam_1"]
    assert again.files_signature() != before[1]


def test_projections_of_one_scan_are_left_out_in_all_steps(tmp_path):
    plain = campaign(tmp_path)
    found = campaign(
        tmp_path,
        {"scans": ["foam_1"], "input": {"skip_angles": [[80.0, 90.0]], "every": 2}},
        {"scans": ["foam_1"], "input": {"every": 1}},
        {"scans": ["tooth_*"], "input": {"energy_kev": 30.0}},
    )
    skipped = {"known": {"skip_angles": [[80.0, 90.0]]}}
    assert found.for_scan("foam_1").preprocess_options() == plain.preprocess_options() | skipped
    assert found.preprocess_options() == plain.preprocess_options()
    assert found.inventory_options() == plain.inventory_options()
    entries = {entry["scan"]: entry for entry in found.inventory_entries()}
    assert entries["foam_1"]["known"] == skipped["known"]
    assert entries["tooth_1"]["known"] == {"energy_kev": 30.0}


def test_half_acquisition_and_memory_may_differ_too(tmp_path):
    found = campaign(
        tmp_path,
        {
            "scans": ["tooth_1"],
            "preprocess": {"half_acquisition": "yes", "phase": {"method": "paganin"}},
            "full_recon": {"binning": 2},
        },
    )
    assert found.for_scan("tooth_1").preprocess_options()["half_acquisition"] == "yes"
    assert "half_acquisition" not in found.preprocess_options()
    assert found.for_scan("tooth_1").correction_halo(100, 100) is not None
    assert found.correction_halo(100, 100) is None
    shape = {"n_angles": "10", "n_rows": "100", "n_cols": "100"}
    sizes = {
        scan: output_bytes(found, "full_recon", shape | {"scan": scan})
        for scan in ("tooth_1", "tooth_2")
    }
    # binned by 2, but twice as wide
    assert sizes["tooth_1"] * 2 == sizes["tooth_2"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"scans": ["a"], "full_recon": {"filtre": "hann"}}, r"1: full_recon\.filtre: got 'hann'"),
        ({"scans": ["a"], "full_recon": {"binning": 0}}, r"1: full_recon\.binning: got 0"),
        (
            {"scans": ["a"], "preprocess": {"stripes": {"method": "x"}}},
            r"preprocess\.stripes\.meth",
        ),
        ({"scans": ["a"], "input": {"skip_angles": [[5.0, 4.0]]}}, r"input\.skip_angles: got"),
        ({"scans": ["a"], "preprocess": {"phase": 3}}, r"1: preprocess\.phase"),
        ({"scans": ["a"], "full_recon": {"output": "zarr"}}, "the same for all scans"),
        ({"full_recon": {"binning": 2}}, "needs scans or series"),
        ({"scans": ["a"], "try_recon": {}}, "overrides"),
    ],
)
def test_what_is_wrong_is_named(override, said):
    with pytest.raises(TomopipeError, match=said):
        parse_config({"campaign": {"scans": ["raw/*.h5"]}, "overrides": [override]})


def test_a_scan_or_series_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(
        TomopipeError, match=r"overrides 1: scans: there is no toth_1; did you mean"
    ):
        campaign(tmp_path, {"scans": ["toth_1"]})
    with pytest.raises(TomopipeError, match="series: there is no bone"):
        campaign(tmp_path, {"series": ["bone"]})
    assert campaign(tmp_path, {"scans": ["later_*"], "full_recon": {"binning": 2}})


def test_an_empty_block_is_none():
    assert parse_config({"campaign": {"scans": ["a"]}, "overrides": None}).overrides == []
