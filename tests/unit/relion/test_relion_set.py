"""One binning for the set of a campaign: decided once, from all scans, and kept."""

import json

import pytest

from tests.phantoms import write_scan
from tests.step_calls import export_stack
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.relion.relion_set import (
    campaign_binning,
    decide_binning,
    failed_stacks,
    read_binning,
    star_options,
)
from tomopipe.reruns.settle import expected_inventory
from tomopipe.reruns.target import Target
from tomopipe.storage.atomic import write_json

N_ANGLES, N_ROWS = 9, 4
# so many columns need 1, 2 and 3 with stacks of at most 2000 bytes after the header
WIDTHS = {"a_1": 12, "b_1": 40, "c_1": 96}
STAR = {"max_stack_gb": 3.1e-6}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for scan, n_cols in WIDTHS.items():
        size = {"theta_deg": range(N_ANGLES), "n_rows": N_ROWS, "n_cols": n_cols}
        write_scan(tmp_path / "raw" / f"{scan}.h5", **size)
    return tmp_path


def campaign_of(folder, scans, **blocks):
    """A campaign in which these scans have a COR."""
    config = {"campaign": {"scans": ["raw/*.h5"]}, "export_star": STAR} | blocks
    campaign = campaign_from_data(config, folder)
    expected_inventory(campaign, campaign.results)
    write_json({scan: {"cor_px": 5.0} for scan in scans}, campaign.results / "cor.json")
    return campaign


def binning_path(campaign):
    return campaign.results / "relion" / "binning.json"


def make_stack(campaign, scan, *, alone=False):
    """Run export_stack as its job does, or of this scan `alone`; return the binning."""
    star = campaign.config.export_star
    place = campaign.results / "relion" / "stacks"
    decided = campaign_binning(campaign)
    least = None if alone else decide_binning(binning_path(campaign), star.binning, decided)
    options = star.model_dump(include={"binning", "max_stack_gb", "rows", "max_tilts"})
    stated = Target(campaign).statement("export_stack", scan)
    meta = export_stack(
        campaign.scans[scan].path, place / f"{scan}.mrcs", place / f"{scan}.json",
        least_binning=least, made_from=stated, **options,
    )  # fmt: skip
    return meta["binning"]


def test_each_scan_alone_would_have_its_own(folder):
    campaign = campaign_of(folder, WIDTHS)
    assert [make_stack(campaign, scan, alone=True) for scan in WIDTHS] == [1, 2, 3]


def test_one_binning_for_all_scans_that_have_a_cor_and_can_be_small(folder):
    assert make_stack(campaign_of(folder, ["a_1"]), "a_1") == 1
    too_large = campaign_of(folder, WIDTHS, export_star={"max_stack_gb": 1.09e-6})
    assert campaign_binning(too_large) is None
    binning_path(too_large).unlink()
    campaign = campaign_of(folder, ["a_1", "b_1"])
    assert [make_stack(campaign, scan) for scan in ("a_1", "b_1")] == [2, 2]
    stated = json.loads((campaign.results / "relion/binning.json").read_text())
    assert (stated["binning"], stated["scans"]) == (2, 2)
    assert stated["options"]["max_stack_gb"] == 3.1e-6


def test_a_later_scan_that_needs_more_gets_more_alone(folder):
    campaign = campaign_of(folder, ["a_1", "b_1"])
    make_stack(campaign, "a_1")
    before = binning_path(campaign).read_bytes()
    campaign = campaign_of(folder, WIDTHS)
    assert make_stack(campaign, "c_1") == 3
    assert make_stack(campaign, "b_1") == 2
    assert binning_path(campaign).read_bytes() == before


def test_options_that_make_all_stacks_anew_decide_anew(folder):
    assert make_stack(campaign_of(folder, WIDTHS), "a_1") == 3
    same = campaign_of(folder, WIDTHS, preprocess={"air_px": 1})
    assert campaign_binning(same)["binning"] == 3
    for blocks in (
        {"export_star": {"max_stack_gb": 1e-3}},
        {"export_star": STAR | {"rows": [0, 0]}, "input": {"every": 3}},
        {"export_star": STAR | {"rows": [0, 0]}, "input": {"average": 3}},
    ):
        make_stack(campaign_of(folder, WIDTHS, export_star=STAR | {"rows": [0, 0]}), "a_1")
        other = campaign_of(folder, WIDTHS, **blocks)
        assert campaign_binning(other)["binning"] == 1
        assert make_stack(other, "a_1") == 1
        assert read_binning(binning_path(other))["binning"] == 1


@pytest.mark.parametrize("binning", ["2", None, [2], 0])
def test_a_damaged_binning_is_decided_again(folder, binning):
    campaign = campaign_of(folder, WIDTHS)
    make_stack(campaign, "a_1")
    path = binning_path(campaign)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"binning": binning}))
    assert read_binning(path) is None
    assert make_stack(campaign, "a_1") == 3


def test_a_given_binning_leaves_nothing_to_decide(folder):
    make_stack(campaign_of(folder, WIDTHS), "a_1")
    campaign = campaign_of(folder, WIDTHS, export_star={"binning": 2})
    assert campaign_binning(campaign) is None
    assert make_stack(campaign, "a_1") == 2
    assert not binning_path(campaign).exists()


def test_without_tables_each_scan_stands_for_itself(folder):
    campaign = campaign_from_data({"campaign": {"scans": ["raw/*.h5"]}}, folder)
    assert campaign_binning(campaign) is None
    assert decide_binning(binning_path(campaign), "auto", None) is None


def test_options_of_the_set_name_what_is_unusual(folder):
    overrides = [
        {"scans": ["b_1"], "preprocess": {"half_acquisition": "yes"}},
        {"scans": ["c_1"], "full_recon": {"algorithm": "cgls", "rows": [0, 2]}},
    ]
    campaign = campaign_of(folder, WIDTHS, overrides=overrides)
    assert star_options(campaign, ["a_1"]) == {"hand": -1}
    assert star_options(campaign, WIDTHS) == {
        "hand": -1,
        "half_acquisition": {"b_1": "yes", "c_1": "no"},
        "other_rows": ["c_1"],
    }


@pytest.mark.parametrize(
    ("star", "there", "is_made"),
    [
        ({}, (), False),
        ({"enabled": "auto"}, (), False),
        ({"enabled": "auto", "hand": -1}, (), True),  # a key, with the value that it has anyway
        ({}, ("tomograms.star", "names.tsv"), True),  # of an earlier run
        ({}, ("names.tsv",), True),  # which is repaired
        ({}, ("tomograms.star",), False),  # of somebody else
        ({"enabled": False, "hand": 1}, ("tomograms.star", "names.tsv"), False),
        ({"enabled": True}, (), True),
    ],
)
def test_a_set_is_made_where_it_is_asked_for_or_there_already(folder, star, there, is_made):
    (folder / "results/relion").mkdir(parents=True)
    for name in there:
        (folder / "results/relion" / name).touch()
    blocks = {"export_star": star} if star else {}
    campaign = campaign_from_data({"campaign": {"scans": ["raw/*.h5"]}} | blocks, folder)
    assert campaign.makes_star is is_made
    write_json({scan: {"cor_px": 5.0} for scan in WIDTHS}, campaign.results / "cor.json")
    write_json({"failed": "too wide"}, campaign.files.stack_meta("a_1"))
    assert (failed_stacks(campaign, WIDTHS) == {"a_1": "too wide"}) is is_made
