"""What the report asks people to look at."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.report_campaign import USUAL
from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import Curve, Model, Prediction
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import NO_SINGLE_COR, Fix
from tomopipe.cor.series_line import Line
from tomopipe.report.records import (
    ScanRecord,
    alert_groups,
    common_warnings,
    compared_px,
)

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
        assert line.startswith(f"a_1_rec.h5 was made from an earlier {source}: ")
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


def test_scans_that_moved_have_their_own_advice_below_that_of_their_state():
    moved = Prediction(30.0, None, 0.0, "ambiguous", "ai", f"it moved: {NO_SINGLE_COR}")
    unsure = replace(moved, reason="noise")
    filled = replace(WITHOUT, after_px=30.0, source="line")
    used = {"decided": True, "cor_px": 30.0, "source": "line", "fix": filled, "row": KEPT, **USUAL}
    scans = [
        ScanRecord(name=f"a_{i}", path="", series="a", index=i, prediction=prediction, **used)
        for i, prediction in enumerate([moved, unsure])
    ]
    (group,) = alert_groups(scans)
    advice = {alert.scans[0].index: alert.advice for alert in group.alerts}
    assert (advice[0].startswith("Measure it again"), advice[1]) == (True, "")
    assert group.advice == "These CORs are not measured: check the volumes."
    assert not alert_groups(scans[:1])[0].advice


def test_what_was_decided_by_hand_needs_no_attention():
    flagged = Fix("a", 1, 41.0, 41.0, "manual", True, "7 px from the median", 5.0, ())
    dark, assumed = "4 of 121 projections are dark", "energy_kev is unknown: 20 assumed"
    facts = {"path": "", "series": "a", "row": KEPT, "decided": True, "warnings": (dark, assumed)}
    scan = ScanRecord(name="a_1", index=1, cor_px=41.0, source="manual", fix=flagged,
                      manual=CorText("41"), **facts, **USUAL)  # fmt: skip
    facts |= {"cor_px": 34.0, "source": "auto", "warnings": (assumed,)}
    others = [ScanRecord(name=f"a_{index}", index=index, **facts, **USUAL) for index in (2, 3)]
    assert scan.state == "manual"
    (group,) = alert_groups([scan, *others])
    assert [([s.name for s in a.scans], a.text) for a in group.alerts] == [
        (["a_1", "a_2", "a_3"], assumed)  # which concerns them all
    ]
    waiting = replace(scan, manual=CorText("43"))
    assert waiting.for_next_run
    assert len(alert_groups([waiting, *others])) == 1
    fixed = replace(flagged, after_px=34.0, source="outlier")
    by_rule = replace(scan, cor_px=34.0, source="outlier", fix=fixed, protect_manual=False)
    assert [group.title for group in alert_groups([by_rule, *others])] == ["Outliers", "Warnings"]


def test_two_cors_are_compared_where_a_person_decides():
    line = Line(30.0, 1.0, 0.1)

    def compared(best_px, source="neighbours", cor_px=34.0, index=4, methods=(), manual=""):
        curves = tuple(Curve(name, px, 0.4, (), ()) for name, px in methods)
        prediction = Prediction(best_px, None, 0.1, "ambiguous", "ai", "", curves)
        scan = ScanRecord(name="a", path="", series="a", index=index, row=KEPT, decided=True,
                          cor_px=cor_px, source=source, manual=CorText(manual),
                          prediction=prediction, **USUAL)  # fmt: skip
        return compared_px(scan, line)

    assert compared(41.5) == (("used", 34.0), ("measured", 41.5))
    assert compared(34.1, index=7) == (("used", 34.0), ("line of the series", 37.0))
    assert compared(34.0, source="line", index=7) == (("used", 34.0),)  # its own line, and no other
    assert compared(None, methods=[("sum", 33.9), ("pairs", 36.0)])[1] == ("pairs", 36.0)
    assert compared(34.1) == (("used", 34.0),)
    assert compared(41.5, source="auto", cor_px=41.5)[0] == ("used", 41.5)  # doubtful
    assert compared(41.5, source="manual", manual="34") == ()


def test_all_of_a_record_but_the_points_of_curves_tells_its_row_apart():
    # rows of the page are used again by the text of the record (tomopipe/report/fragments.py)
    parts = (ScanRecord, Prediction, Curve, Model, Fix, JobStatus, CorText)
    silent = [(each, field.name) for each in parts for field in fields(each) if not field.repr]
    assert silent == [(Curve, "cor_px"), (Curve, "score")]
