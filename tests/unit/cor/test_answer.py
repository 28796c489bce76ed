"""Curves to answers: prominence, sub-sample positions, borders, penalties."""

import numpy as np
import pytest

from tomopipe.cor.answer import make_answer, prominence, refine_peak

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


def made(confidence, *, candidates=X, on_border=False):
    return make_answer("m", 90.2, confidence, "weak", candidates, candidates, on_border=on_border)


def test_a_best_position_on_the_border_of_the_detector_is_an_edge_with_no_confidence():
    answer = made(1.0, on_border=True)
    assert (answer.verdict, answer.confidence) == ("edge", 0.0)
    assert "border of the detector; an axis beyond the columns in use has no COR" in answer.reason


@pytest.mark.parametrize(
    ("confidence", "verdict", "kept"), [(0.6, "resolved", 0.6), (0.59, "edge", 0.0)]
)
def test_a_position_outside_of_the_candidates_has_to_be_a_strong_one(confidence, verdict, kept):
    answer = made(confidence, candidates=X[:80])
    assert (answer.verdict, answer.confidence, answer.best_cor_px) == (verdict, kept, 90.2)
    assert "candidates 0 to 79" in answer.reason


@pytest.mark.parametrize(
    ("confidence", "verdict", "reason"),
    [(0.9, "resolved", ""), (0.5, "resolved", "weak"), (0.2, "ambiguous", "weak")],
)
def test_a_low_confidence_has_its_reason(confidence, verdict, reason):
    answer = made(confidence)
    assert (answer.verdict, answer.confidence, answer.reason) == (verdict, confidence, reason)


@pytest.mark.parametrize(
    ("candidates", "low", "high"),
    [(np.arange(40, 60.5, 0.5), 36, 64), (np.arange(40, 61.0, 5.0), 30, 70), ([50.0], 46, 54)],
    ids=["4 px", "2 steps", "one"],
)
def test_candidates_have_a_margin(candidates, low, high):
    candidates = np.array(candidates)
    verdicts = [
        make_answer("m", x, 0.5, "weak", candidates, 0 * candidates, on_border=False).verdict
        for x in (low - 0.1, low, high, high + 0.1)
    ]
    assert verdicts == ["edge", "resolved", "resolved", "edge"]
