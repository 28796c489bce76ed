"""Curves to answers: prominence, sub-sample places, borders, doubts."""

import numpy as np
import pytest

from tomopipe.find.evidence import (
    find_peak,
    judge,
    nothing,
    prominence,
    ramp,
    refine_peak,
    search_range,
)

X = np.arange(101.0)
ALL = np.ones(101, bool)


@pytest.mark.parametrize("place", [40.0, 40.3, 39.6, 40.499])
@pytest.mark.parametrize("reach", [1, 2])
def test_the_vertex_of_a_parabola_is_found_exactly(place, reach):
    score = 7 - 0.3 * (X - place) ** 2
    assert refine_peak(score, int(np.argmax(score)), reach) == pytest.approx(place, abs=1e-6)


def test_an_end_or_a_curve_without_maximum_stays_where_it_is():
    assert refine_peak(X, 100) == 100
    assert refine_peak(-X, 0) == 0
    assert refine_peak((X - 50) ** 2, 50) == 50


def test_prominence_forgets_a_slow_trend_and_has_no_unit_for_a_constant():
    dip = 3 * np.exp(-((X - 30) ** 2) / 2)
    trend = 0.1 * X
    assert np.argmax(dip + trend) == 100
    found = prominence(dip + trend, 25)
    assert np.argmax(found) == 30
    assert found[30] > 10
    assert not prominence(np.full(101, 3.0), 25).any()


def test_a_peak_knows_its_rival_inside_and_what_lies_outside():
    score = 10 * np.exp(-((X - 50) ** 2) / 8) + 6 * np.exp(-((X - 70) ** 2) / 8)
    score += 12 * np.exp(-((X - 90) ** 2) / 8)
    inside = (X >= 20) & (X <= 80)
    peak = find_peak(score, inside, apart=4)
    assert (peak.index, peak.outside_index, peak.best_index) == (50, 90, 90)
    assert peak.height == pytest.approx(10, rel=1e-3)
    assert peak.rival == pytest.approx(6, rel=1e-3)
    assert peak.outside == pytest.approx(12, rel=1e-3)
    assert peak.rivalry == pytest.approx(1.2, rel=1e-3)
    assert not peak.at_border


def test_a_broad_peak_is_not_its_own_rival():
    peak = find_peak(10 * np.exp(-((X - 50) ** 2) / 200), ALL, apart=4)
    assert peak.rival < 5.1


@pytest.mark.parametrize("score", [X, -X], ids=["right", "left"])
def test_a_maximum_on_the_border_is_an_edge_with_no_confidence(score):
    peak = find_peak(score, ALL, apart=4)
    assert peak.at_border
    found = judge("m", float(peak.index), peak, {"none": 1.0}, X, score)
    assert (found.verdict, found.confidence) == ("edge", 0.0)
    assert "widen" in found.reason


def test_a_better_place_outside_is_an_edge_at_that_place():
    score = np.exp(-((X - 50) ** 2) / 8) + 2 * np.exp(-((X - 90) ** 2) / 8)
    peak = find_peak(score, X < 80, apart=4)
    found = judge("m", 90.2, peak, {"none": 1.0}, X[:80], score[:80])
    assert (found.verdict, found.confidence, found.best_cor_px) == ("edge", 0.0, 90.2)


@pytest.mark.parametrize(
    ("factor", "verdict", "reason"),
    [(0.9, "resolved", ""), (0.5, "resolved", "weak"), (0.2, "ambiguous", "weak")],
)
def test_doubts_multiply_and_the_largest_is_named(factor, verdict, reason):
    peak = find_peak(np.exp(-((X - 50) ** 2) / 8), ALL, apart=4)
    found = judge("m", 50.0, peak, {"weak": factor, "other": 0.95}, X, X)
    assert found.confidence == pytest.approx(0.95 * factor)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_nothing_is_a_level_curve_without_estimate():
    found = nothing("m", "flat", "empty", X)
    assert (found.best_cor_px, found.confidence, found.verdict) == (None, 0.0, "flat")
    assert found.curve_score.shape == X.shape
    assert not found.curve_score.any()


def test_the_search_reaches_two_steps_or_four_pixels_past_the_candidates():
    near = search_range(X, np.arange(40, 60.5, 0.5))
    assert (X[near][0], X[near][-1]) == (36, 64)
    far = search_range(X, np.arange(40, 61.0, 5.0))
    assert (X[far][0], X[far][-1]) == (30, 70)
    one = search_range(X, np.array([50.0]))
    assert (X[one][0], X[one][-1]) == (46, 54)


def test_ramp_rises_or_falls_and_is_clipped():
    assert [ramp(v, 1, 3) for v in (0, 1, 2, 3, 4)] == [0, 0, 0.5, 1, 1]
    assert [ramp(v, 3, 1) for v in (0, 1, 2, 3, 4)] == [1, 1, 0.5, 0, 0]
