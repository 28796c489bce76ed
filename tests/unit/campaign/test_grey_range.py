"""The grey range of a campaign: from which sweeps, in which unit, and when it is measured anew."""

import pytest
import yaml

from tomopipe.campaign import grey_range
from tomopipe.campaign.campaign import load_campaign
from tomopipe.config import parse_config
from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import write_json

WINDOW = [-0.002, 0.01]


def campaign(folder, n_scans=1, *, windows=None, stated=None, **blocks):
    """Of scans with sweeps that have these windows, and corrections that they state."""
    full = {"dtype": "uint8", "value_range": "campaign"} | blocks.pop("full_recon", {})
    data = {"campaign": {"scans": ["raw/*.h5"]}, "full_recon": full, **blocks}
    (folder / "raw").mkdir(exist_ok=True)
    for i in range(n_scans):
        (folder / f"raw/a_{i}.h5").write_bytes(b"not read")
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    result = load_campaign(folder)
    for i, window in enumerate(windows if windows is not None else [WINDOW] * n_scans):
        sweep = {"window": window} if window else {"failed": "it is dark"}
        options = {"preprocess": stated} if stated else {}
        write_json(sweep | {"made_from": {"options": options}}, result.files.sweep(f"a_{i}"))
    return result


def rows(n_scans=1, **cells):
    return {f"a_{i}": {"scan": f"a_{i}", "keep": "true", **cells} for i in range(n_scans)}


def value_range(frozen):
    return pytest.approx(frozen["value_range"], abs=1e-12)


def test_it_spans_the_windows_of_all_sweeps_and_a_margin(tmp_path):
    windows = [[-0.002, 0.008], [0.0, 0.010], None]  # of the last the sweep failed
    frozen = grey_range.measure(campaign(tmp_path, 3, windows=windows), rows(3))
    # 5 % of 0.012 on each side, outwards to a hundredth of its decade (0.0001)
    assert value_range(frozen) == [-0.0026, 0.0106]
    assert frozen["n_scans"] == 2


def test_one_in_fifty_that_is_much_brighter_does_not_count(tmp_path):
    windows = [WINDOW] * 49 + [[-5, 5]]
    frozen = grey_range.measure(campaign(tmp_path, 50, windows=windows), rows(50))
    assert value_range(frozen) == [-0.0026, 0.0106]
    assert grey_range.measure(campaign(tmp_path, 2, windows=windows[-2:]), rows(2))["value_range"][
        1
    ] == pytest.approx(5.5)


def test_per_cm_it_is_in_the_unit_of_volumes(tmp_path):
    of_cm = campaign(tmp_path, full_recon={"unit": "per_cm"})
    frozen = grey_range.measure(of_cm, rows(pixel_size_um="2.0"))
    assert value_range(frozen) == [-13, 53]  # 1e4 / 2 pixels per cm
    assert grey_range.measure(of_cm, rows()) is None  # no pixel size


def test_sweeps_with_other_corrections_do_not_count(tmp_path):
    options = {"preprocess": {"zingers": {"threshold": 0.2}}}
    assert grey_range.measure(campaign(tmp_path, **options), rows()) is None
    stated = {"zingers": {"threshold": 0.2}}
    assert grey_range.measure(campaign(tmp_path, stated=stated, **options), rows())
    with pytest.raises(TomopipeError, match="no selected scan has one"):
        grey_range.with_new(campaign(tmp_path, **options), rows())


def test_it_is_frozen_until_the_file_goes_or_all_volumes_change(tmp_path):
    first, frozen = grey_range.with_new(campaign(tmp_path), rows())
    assert first.config.full_recon.value_range == frozen["value_range"]
    grey_range.freeze(first, frozen)
    # a later sweep is wider; the configuration has the range at once
    later = campaign(tmp_path, 2, windows=[WINDOW, [-1, 1]])
    assert later.config.full_recon.value_range == first.config.full_recon.value_range
    again, new = grey_range.with_new(later, rows(2))
    assert (again.config.full_recon, new) == (first.config.full_recon, None)
    for changed in (
        {"full_recon": {"dtype": "uint16"}},
        {"full_recon": {"unit": "per_cm"}},
        {"preprocess": {"zingers": {"threshold": 0.2}}},
    ):
        assert campaign(tmp_path, **changed).config.full_recon.value_range == "campaign"
    first.files.value_range.unlink()
    assert grey_range.is_open(campaign(tmp_path).config)


def test_without_integers_nothing_is_measured(tmp_path):
    assert not grey_range.is_open(campaign(tmp_path, full_recon={"dtype": "float32"}).config)
    some = {"full_recon": {"dtype": "float32"}, "overrides": [
        {"scans": ["a_0"], "full_recon": {"dtype": "uint16"}}]}  # fmt: skip
    assert grey_range.is_open(campaign(tmp_path, **some).config)


@pytest.mark.parametrize(
    ("full", "override", "words"),
    [
        ({}, {"value_range": "campaign"}, "is for all scans"),
        ({"value_range": "campaign"}, {"unit": "per_cm"}, "needs one full_recon.unit for all"),
    ],
)
def test_one_range_is_for_all_scans_and_in_one_unit(full, override, words):
    overrides = [{"scans": ["a_*"], "full_recon": override}]
    data = {"campaign": {"scans": ["*.h5"]}, "full_recon": full, "overrides": overrides}
    with pytest.raises(TomopipeError, match=words):
        parse_config(data)
