"""One decision of several methods; no answer where there is none."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import THETA_180_DEG, curves_of, grid, rows_of

from tomopipe.cor import methods
from tomopipe.cor.answer import Answer
from tomopipe.cor.methods import ask
from tomopipe.cor_methods import METHODS

CANDIDATES = np.arange(40.0, 60.5, 0.5)
APART_PX = 4.0


def said(method, cor_px, confidence, verdict="resolved", reason=""):
    return Answer(method, cor_px, confidence, verdict, reason, CANDIDATES, 0 * CANDIDATES)


def choose(answers, min_confidence):
    return methods.choose(answers, min_confidence, APART_PX)


def test_the_first_confident_method_wins_not_the_most_confident():
    decision = choose([said("a", 50.1, 0.3), said("b", 50.2, 0.6), said("c", 50.3, 0.9)], 0.5)
    assert (decision.method, decision.cor_px, decision.best_cor_px) == ("b", 50.2, 50.2)
    assert (decision.verdict, decision.confidence, decision.reason) == ("resolved", 0.6, "")


@pytest.mark.parametrize("verdict", ["edge", "ambiguous"])
def test_only_resolved_is_accepted(verdict):
    decision = choose([said("a", 50.0, 0.9, verdict, "why")], 0.5)
    assert (decision.cor_px, decision.best_cor_px, decision.verdict) == (None, 50.0, verdict)
    assert "why" in decision.reason


@pytest.mark.parametrize(
    ("apart_px", "verdict"), [(APART_PX, "resolved"), (APART_PX + 0.1, "ambiguous")]
)
def test_confident_methods_that_contradict_each_other_accept_nothing(apart_px, verdict):
    decision = choose([said("ai", 50.0, 0.9), said("classical", 50.0 + apart_px, 0.8)], 0.5)
    assert decision.verdict == verdict
    assert decision.best_cor_px == 50.0
    assert decision.cor_px == (50.0 if verdict == "resolved" else None)
    if verdict == "ambiguous":
        assert decision.confidence < 0.5
        assert decision.reason == "ai finds 50.00 px (0.90) and classical finds 54.10 px (0.80)"


def test_the_limit_itself_is_enough_and_a_confidence_below_is_not_rounded_to_it():
    assert choose([said("ai", 50.0, 0.999)], 0.999).cor_px == 50.0
    below = choose([said("ai", 50.0, 0.998)], 0.999)
    assert below.cor_px is None
    assert below.reason.endswith(" (confidence 0.998, 0.999 needed)")


def test_an_unsure_method_does_not_disagree():
    assert choose([said("ai", 50.0, 0.9), said("classical", 70.0, 0.4)], 0.5).cor_px == 50.0


def test_nobody_confident_keeps_the_best_estimate_and_its_doubt():
    decision = choose([said("a", 50.0, 0.2, reason="weak"), said("b", 53.0, 0.4)], 0.5)
    assert (decision.cor_px, decision.best_cor_px, decision.method) == (None, 53.0, "b")
    assert decision.reason


@pytest.mark.parametrize("verdict", ["flat", "edge", "ambiguous"])
def test_where_nobody_is_confident_ai_is_believed(verdict):
    unsure = said("ai", None if verdict == "flat" else 41.0, 0.0, verdict, "torn")
    decision = choose([said("classical", 50.0, 0.4), unsure], 0.5)
    assert (decision.verdict, decision.best_cor_px) == (verdict, unsure.best_cor_px)
    assert (decision.cor_px, decision.reason) == (None, "ai: torn")


def test_an_estimate_is_better_than_none():
    flat = said("a", None, 0.0, "flat", "nothing rotates")
    assert choose([flat, said("b", 40.0, 0.0, "edge", "widen")], 0.5).best_cor_px == 40.0
    nothing = choose([flat, flat], 0.5)
    assert (nothing.verdict, nothing.best_cor_px, nothing.cor_px) == ("flat", None, None)
    assert "nothing rotates" in nothing.reason


def test_a_method_that_failed_is_not_replaced_by_another():
    decision = choose([said("a", 50.0, 0.9), said("b", None, 0.0, "failed", "no torch")], 0.5)
    assert (decision.verdict, decision.cor_px, decision.best_cor_px) == ("failed", None, None)
    assert "no torch" in decision.reason


def test_no_method_at_all_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        choose([], 0.5)


def empty_scan(kind, rng, n_rows):
    """A scan without an answer, (n_angles, n_rows, n_cols)."""
    n_angles, n_cols = 91, 100
    column, time = np.arange(n_cols), np.cumsum(rng.normal(size=n_angles))[:, None, None] / 10
    noise = 0.02 * rng.normal(size=(n_angles, n_rows, n_cols))
    dust = np.zeros((n_rows, n_cols))
    for _ in range(8):
        spot = np.exp(-(((column - rng.uniform(0, n_cols)) / rng.uniform(1, 4)) ** 2))
        dust[rng.integers(n_rows)] += 0.3 * spot
    return {
        "noise": noise,
        "constant": np.full_like(noise, rng.random()),
        "drift": noise + time,
        "tilting beam": noise + time * (column / n_cols - 0.5),
        "stripes": noise + rng.normal(size=n_cols) * (rng.random(n_cols) < 0.2),
        "dust": noise + dust + time,
    }[kind]


@pytest.mark.parametrize("kind", ["noise", "constant", "drift", "tilting beam", "stripes", "dust"])
def test_a_scan_without_answer_gets_none(kind):
    accepted = []
    for seed, n_rows in enumerate((6, 1)):
        rng = np.random.default_rng(seed)
        projections = empty_scan(kind, rng, n_rows).astype(np.float32)
        rows = rows_of(projections, np.linspace(0, 180, 91))
        decision = choose([ask(name, curves_of(rows), grid(100)) for name in METHODS], 0.5)
        accepted += [seed] * (decision.cor_px is not None)
    assert not accepted


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_angles", [0, 1, 2])
def test_next_to_no_angles_is_no_answer(method, n_angles):
    rows = rows_of(np.ones((1, 2, 40), np.float32), [0.0], pairs=False)
    theta_rad = np.deg2rad(THETA_180_DEG[:n_angles])
    rows = replace(rows, sinograms=np.ones((2, n_angles, 40), np.float32), theta_rad=theta_rad)
    found = ask(method, curves_of(rows), grid(40))
    assert (found.verdict, found.best_cor_px, found.confidence) == ("flat", None, 0.0)
