"""Statistics against published values, brute force and constructed truths."""

import numpy as np
import pytest
from tomopipe_lab.scores import (
    auroc,
    brier,
    calibration_error,
    reliability,
    risk_at_coverage,
    wilson,
)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe, Statist. Med. 17 (1998) 857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_as_published(hits, n, low, high):
    share = wilson(hits, n)
    assert (share.hits, share.n, share.share) == (hits, n, hits / n)
    assert (share.low, share.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))
    mirrored = wilson(n - hits, n)
    assert mirrored.low == pytest.approx(1 - share.high)
    assert mirrored.high == pytest.approx(1 - share.low)


def test_wilson_of_nothing_and_nonsense():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)
    assert np.isnan(wilson(0, 0).share)
    with pytest.raises(ValueError, match="hits"):
        wilson(3, 2)


def test_auroc_equals_all_pairs():
    rng = np.random.default_rng(0)
    for n in (5, 60):
        confidence = np.round(rng.random(n), 1)  # many ties
        right = rng.random(n) < confidence
        right[:2] = [True, False]
        pairs = confidence[right][:, None] - confidence[~right][None]
        expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
        assert auroc(confidence, right) == pytest.approx(expected)


def test_auroc_of_a_constant_and_of_one_class():
    assert auroc([0.3] * 5, [True, True, False, True, False]) == 0.5
    assert np.isnan(auroc([0.1, 0.9], [True, True]))
    with pytest.raises(ValueError, match="finite"):
        auroc([0.1, np.nan], [True, False])
    with pytest.raises(ValueError, match="per answer"):
        auroc([0.1], [True, False])


def test_reliability_of_known_bins():
    confidence = [0.0, 0.1, 0.15, 0.95, 1.0, 0.91]
    right = [False, False, True, True, True, False]
    bins = reliability(confidence, right)
    assert [(b.n, b.right) for b in bins] == [(2, 0.0), (1, 1.0), (3, pytest.approx(2 / 3))]
    assert [b.confidence for b in bins] == pytest.approx([0.05, 0.15, 2.86 / 3])
    expected = (2 * 0.05 + 1 * 0.85 + 3 * abs(2.86 / 3 - 2 / 3)) / 6
    assert calibration_error(bins) == pytest.approx(expected)


def test_an_honest_confidence_is_calibrated_and_beats_the_constant():
    rng = np.random.default_rng(1)
    honest = rng.random(20000)
    right = rng.random(20000) < honest
    assert calibration_error(reliability(honest, right)) < 0.02
    assert calibration_error(reliability(honest**3, right)) > 0.2
    # E (p - x)^2 = E p (1 - p) = 1/6 for uniform p; a constant 1/2 has 1/4
    assert brier(honest, right) == (pytest.approx(1 / 6, abs=5e-3), pytest.approx(1 / 4, abs=5e-3))


def test_risk_at_coverage():
    right = [True, True, False, True, False]
    risk = risk_at_coverage([0.9, 0.8, 0.7, 0.2, 0.1], right, [0.2, 0.4, 0.6, 1.0])
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 5])
    # a constant says nothing: the same risk at every coverage, whatever the order
    constant = risk_at_coverage([0.5] * 5, right, [0.2, 0.5, 1.0])
    assert constant.tolist() == pytest.approx([2 / 5] * 3)
