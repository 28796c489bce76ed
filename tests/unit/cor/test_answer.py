"""Curves to answers: prominence, sub-sample positions, borders, penalties."""

import numpy as np
import pytest

from tomopipe.cor.answer import (
    answer_of_peak,
    find_peak,
    near_candidates,
    nothing,
    prominence,
    ramp,
    refine_peak,
)

pytestmark = pytest.mark.slow

X = np.arange(101.0)


@pytest.mark.parametrize("vertex", [40.0, 40.3, 39.6, 40.499])
@pytest.mark.parametrize("reach", [1, 2])
def test_the_vertex_of_a_parabola_is_found_exactly(vertex, reach):
    score = 7 - 0.3 * (X - vertex) ** 2
    assert refine_peak(score, int(np.argmax(score)), reach) == pytest.approx(vertex, abs=1e-6)


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


def test_a_peak_knows_its_rival():
    score = 10 * np.exp(-((X - 50) ** 2) / 8) + 6 * np.exp(-((X - 70) ** 2) / 8)
    peak = find_peak(score, apart=4)
    assert peak.index == 50
    assert peak.height == pytest.approx(10, rel=1e-3)
    assert peak.second_height == pytest.approx(6, rel=1e-3)
    assert peak.second_ratio == pytest.approx(0.6, rel=1e-3)
    assert not peak.at_border


def test_a_broad_peak_is_not_its_own_rival():
    peak = find_peak(10 * np.exp(-((X - 50) ** 2) / 200), apart=4)
    assert peak.second_height < 5.1


@pytest.mark.parametrize("score", [X, -X], ids=["right", "left"])
def test_a_maximum_on_the_border_of_the_detector_is_an_edge_with_no_confidence(score):
    peak = find_peak(score, apart=4)
    assert peak.at_border
    found = answer_of_peak("m", float(peak.index), peak, {"none": 1.0}, X, score)
    assert (found.verdict, found.confidence) == ("edge", 0.0)
    assert "border" in found.reason


@pytest.mark.parametrize(
    ("confidence", "verdict", "kept"), [(0.6, "resolved", 0.6), (0.59, "edge", 0.0)]
)
def test_a_place_outside_of_the_candidates_has_to_be_a_strong_one(confidence, verdict, kept):
    score = np.exp(-((X - 90) ** 2) / 8)
    peak = find_peak(score, apart=4)
    found = answer_of_peak("m", 90.2, peak, {"weak": confidence}, X[:80], score[:80])
    assert (found.verdict, found.confidence, found.best_cor_px) == (verdict, kept, 90.2)
    assert "candidates 0 to 79" in found.reason


@pytest.mark.parametrize(
    ("factor", "verdict", "reason"),
    [(0.9, "resolved", ""), (0.5, "resolved", "weak"), (0.2, "ambiguous", "weak")],
)
def test_penalties_multiply_and_the_largest_is_named(factor, verdict, reason):
    peak = find_peak(np.exp(-((X - 50) ** 2) / 8), apart=4)
    found = answer_of_peak("m", 50.0, peak, {"weak": factor, "other": 0.95}, X, X)
    assert found.confidence == pytest.approx(0.95 * factor)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_nothing_is_a_level_curve_without_estimate():
    found = nothing("m", "flat", "empty", X)
    assert (found.best_cor_px, found.confidence, found.verdict) == (None, 0.0, "flat")
    assert found.curve_score.shape == X.shape
    assert not found.curve_score.any()


@pytest.mark.parametrize(
    ("candidates", "low", "high"),
    [(np.arange(40, 60.5, 0.5), 36, 64), (np.arange(40, 61.0, 5.0), 30, 70), ([50.0], 46, 54)],
    ids=["4 px", "2 steps", "one"],
)
def test_candidates_have_a_margin(candidates, low, high):
    candidates = np.array(candidates)
    near = [near_candidates(x, candidates) for x in (low - 0.1, low, high, high + 0.1)]
    assert near == [False, True, True, False]


def test_ramp_rises_or_falls_and_is_clipped():
    assert [ramp(v, 1, 3) for v in (0, 1, 2, 3, 4)] == [0, 0, 0.5, 1, 1]
    assert [ramp(v, 3, 1) for v in (0, 1, 2, 3, 4)] == [1, 1, 0.5, 0, 0]
