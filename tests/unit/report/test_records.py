"""What the report asks people to look at."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report_campaign import USUAL
from tomopipe.campaign.results import Curve, Prediction
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import Fix
from tomopipe.report.records import (
    Line,
    ScanRecord,
    alert_groups,
    common_warnings,
    compared_px,
    off_line,
    robust_line,
)


def test_a_drift_is_found_in_spite_of_outliers():
    rng = np.random.default_rng(0)
    index = np.arange(40)
    cor_px = 512.3 + 0.045 * index + rng.normal(0, 0.1, 40)
    cor_px[rng.choice(40, 10, replace=False)] += rng.choice([-30, 25], 10)
    line = robust_line(index, cor_px)
    assert line.start_px + line.slope_px * index == pytest.approx(512.3 + 0.045 * index, abs=0.15)
    assert line.slope_px == pytest.approx(0.045, abs=0.005)
    assert line.spread_px == pytest.approx(0.1, abs=0.06)


def test_scans_of_one_index_and_too_few_scans():
    assert robust_line([1, 2], [5.0, 6.0]) is None
    assert robust_line([4, 4, 4], [5.0, 6.0, 7.0]) is None
    line = robust_line([4, 4, 6], [5.0, 5.0, 7.0])
    assert (line.start_px, line.slope_px) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("off_px", "spread_px"),
    [([0, 0, 0.2], None), ([0, 0, 0.2, 0], None), ([0.2, -0.2, 0, 0.2, -0.2], 0.148)],
)
def test_the_spread_of_few_scans_is_not_known(off_px, spread_px):
    index = np.arange(len(off_px))
    line = robust_line(index, 85.0 + np.array(off_px))
    assert line.spread_px == (spread_px and pytest.approx(spread_px, abs=0.01))


SCATTERS_PX = (0.02, 0.05, 0.1, 0.2)
ERRORS_PX = {0.35: 0.02, 2.0: 0.2}  # with the scatter of their series


def drift(rng, n, scatter_px):
    return rng.uniform(-0.1, 0.1) * np.arange(n) + rng.normal(0, scatter_px, n)


def step(rng, n, scatter_px):
    far_px = rng.choice([-1, 1]) * rng.uniform(1, 20)
    return drift(rng, n, scatter_px) + far_px * (np.arange(n) >= rng.integers(1, n))


def walk(rng, n, scatter_px):
    steps_px = rng.choice([-1, 1], n) * rng.uniform(0.1, 2)
    if rng.random() < 0.5:
        steps_px = rng.normal(0, rng.uniform(0.1, 2), n)
    return np.cumsum(steps_px) + rng.normal(0, scatter_px, n)


def turns(rng, n, scatter_px):
    """Two positions by turns, 1:1 to 4:1."""
    period = rng.integers(2, 6)
    is_other = (np.arange(n) + rng.integers(period)) % period == 0
    return drift(rng, n, scatter_px) + rng.choice([-1, 1]) * rng.uniform(1, 20) * is_other


SERIES = {"line": drift, "step": step, "random walk": walk, "positions by turns": turns}


@pytest.mark.slow
@pytest.mark.parametrize("model", SERIES)
def test_series_without_a_wrong_cor_name_hardly_any(model):
    rng = np.random.default_rng(44)
    lengths = rng.integers(6, 61, 100)
    named = [off_line(SERIES[model](rng, n, rng.choice(SCATTERS_PX))) for n in lengths]
    assert sum(map(len, named)) / lengths.sum() <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("where", ["anywhere", "at an end"])
@pytest.mark.parametrize("error_px", ERRORS_PX)
def test_a_single_wrong_cor_is_named(error_px, where):
    rng, n_named = np.random.default_rng(44), 0
    for n in rng.integers(6, 61, 200):
        cor_px = drift(rng, n, ERRORS_PX[error_px])
        wrong = rng.integers(n) if where == "anywhere" else rng.choice([0, n - 1])
        cor_px[wrong] += rng.choice([-1, 1]) * error_px
        n_named += wrong in off_line(cor_px)
    assert n_named / 200 >= 0.95


def test_the_residual_is_that_from_the_others_and_least_0_2_px():
    cor_px = 80 + 0.1 * np.arange(9) + 0.01 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0])
    for error_px, is_named in ((0.22, True), (0.18, False)):
        wrong = cor_px + error_px * (np.arange(9) == 4)
        assert [*off_line(wrong)] == [4] * is_named
        if is_named:
            assert off_line(wrong)[4].off_px == pytest.approx(error_px, abs=0.02)
            assert off_line(wrong)[4].spread_px == pytest.approx(0.01, abs=0.003)
    far = cor_px + 3 * (np.arange(9) == 4)
    assert [*off_line(far[:6])] == [4]
    assert off_line(far[:5]) == {}


def test_two_scans_at_another_position_name_none():
    cor_px = 80 + 0.01 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0, 1])
    assert off_line(cor_px + 8 * (np.arange(10) >= 8)) == {}
    assert off_line(cor_px + 8 * np.isin(np.arange(10), (2, 7))) == {}


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
    assert compared(None, methods=[("sum", 33.9), ("pairs", 36.0)])[1] == ("pairs", 36.0)
    assert compared(34.1) == (("used", 34.0),)
    assert compared(41.5, source="auto", cor_px=41.5)[0] == ("used", 41.5)  # doubtful
    assert compared(41.5, source="manual", manual="34") == ()
