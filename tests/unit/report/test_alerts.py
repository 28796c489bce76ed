"""What the report asks people to look at."""

from pathlib import Path

import pytest

from tests.report_campaign import USUAL
from tomopipe.cor.outliers import Fix
from tomopipe.report.alerts import alert_groups, common_warnings
from tomopipe.report.records import ScanRecord

WITHOUT = Fix("a", 1, None, None, "", False, "no neighbours", None, ())
KEPT = {"keep": "true", "reason": "", "n_cols": "64"}


@pytest.mark.parametrize(
    ("facts", "source"),
    [
        ({"row": KEPT | {"keep": "false", "reason": "empty file (0 bytes)"}}, "file"),
        ({"row": KEPT, "decided": True, "fix": WITHOUT}, "COR"),
        ({"row": KEPT, "decided": True, "cor_px": 30.0, "source": "manual"}, None),
    ],
)
@pytest.mark.parametrize("volume", [None, Path("results/a_1_rec.h5")])
def test_a_volume_that_no_run_makes_now_is_named(facts, source, volume):
    scan = ScanRecord(name="a_1", path="", series="a", index=1, volume=volume, **USUAL, **facts)
    groups = {group.title: group.alerts for group in alert_groups([scan])}
    assert ("Outdated volumes" in groups) == (source is not None and volume is not None)
    if source and volume:
        line = groups["Outdated volumes"][0].text
        assert line.startswith(f"a_1_rec.h5 is of the {source} that was there before")
        assert ("No COR" in groups) == (source == "COR")


def test_a_warning_of_many_scans_is_one_line_below_those_of_few():
    assumed, bad = "energy_kev is unknown: 20 assumed", "4 of 121 projections are dark"
    scans = [
        ScanRecord(name=f"a_{i}", path="", series="a", index=i, row=KEPT, warnings=found, **USUAL)
        for i, found in enumerate([(assumed,), (assumed,), (assumed, bad), (), (bad,)])
    ]
    (group,) = alert_groups(scans)
    assert [([scan.index for scan in a.scans], a.text) for a in group.alerts] == [
        ([2, 4], bad),
        ([0, 1, 2], assumed),
    ]
    assert group.n_scans == 4
    # what most scans have says nothing of one scan; a single scan keeps its own
    assert common_warnings(scans) == {assumed}
    assert common_warnings(scans[:1]) == set()
