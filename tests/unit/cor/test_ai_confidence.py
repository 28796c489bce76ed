"""The confidence rises with the evidence for a COR; above 0.5 none is wrong."""

import numpy as np
import pytest
from ai_scans import inputs_of, output_with_peak, rows_with
from tomopipe_lab.train.calibrate import calibrate

from tomopipe.cor.ai.confidence import FEATURES, calibrated_confidence, confidence_features
from tomopipe.cor.ai.refinement import Refinement, combined_px

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


def named(values):
    return dict(zip(FEATURES, values, strict=True))


def test_features_measure_what_they_are_named_after(inputs):
    near = {"pairs": 60.2, "slices": 60.3, "wedge": 60.25}
    clear = named(
        confidence_features(inputs, output_with_peak(inputs), Refinement(near, (1.4, 0.0)))
    )
    assert clear["votes"] == 3
    assert clear["agree"] == 1
    assert clear["margin"] == pytest.approx(8)
    assert clear["rotates"] == pytest.approx(1.4)
    far = {"pairs": 60.2, "slices": 63.3, "wedge": 57.0}
    ambiguous = named(
        confidence_features(inputs, output_with_peak(inputs, 1.0, 0.6), Refinement(far, (0.1, 0.9)))
    )
    assert ambiguous["agree"] < 1
    assert ambiguous["scatter"] > clear["scatter"] + 1
    assert ambiguous["margin"] == pytest.approx(1)
    assert ambiguous["share"] < clear["share"]
    assert ambiguous["none"] > clear["none"]


def test_nothing_refined_and_nothing_known_of_rotation_is_finite(inputs):
    for rotation in (None, (np.nan, 0.0)):
        values = confidence_features(inputs, output_with_peak(inputs), Refinement({}, rotation))
        assert np.isfinite(values).all()
        assert named(values)["votes"] == 0


def test_minimum_total_variation_is_one_of_the_kinds(inputs):
    chosen = output_with_peak(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    fine_px = {"slices": network_px + 0.4}
    near, far = (Refinement(fine_px, None, network_px + away) for away in (0.3, 9.0))
    assert combined_px(inputs, chosen, near) == pytest.approx(network_px + 0.3)
    assert combined_px(inputs, chosen, far) == combined_px(
        inputs, chosen, Refinement(fine_px, None)
    )
    near, far = (
        named(confidence_features(inputs, chosen, refinement)) for refinement in (near, far)
    )
    assert near["votes"] == near["agree"] * 2 == 2
    assert far["agree"] == 0.5
    assert far["scatter"] > near["scatter"] + 1


def simulated(n=4000, seed=0):
    """Doubts of which the margin alone tells right from wrong, as a logistic law."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, len(FEATURES)))
    right = rng.random(n) < 1 / (1 + np.exp(-(3 * values[:, 1] + 1)))
    return values, right


def test_the_confidence_is_the_probability_of_being_right_where_it_is_not_moved():
    values, right = simulated()
    fitted = calibrate(values, right)
    fresh, truth = simulated(seed=1)
    confidence = np.array([calibrated_confidence(fitted, features) for features in fresh])
    for low, high in [(0.0, 0.1), (0.1, 0.3), (0.9, 1.0)]:
        chosen = (confidence >= low) & (confidence < high)
        assert truth[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.06)
    order = np.argsort(fresh[:, 1])
    assert np.corrcoef(confidence[order], np.arange(len(order)))[0, 1] > 0.9


def test_half_is_where_the_wrong_ones_end():
    values, right = simulated(400)
    values[:, 1] = np.where(right, values[:, 1] + 6, values[:, 1] - 6)
    fitted = calibrate(values, right)
    confidence = np.array([calibrated_confidence(fitted, features) for features in values])
    assert not (confidence[~right] >= 0.5).any()
    assert (confidence[right] >= 0.5).mean() > 0.95


def test_half_costs_at_most_a_twentieth_of_the_right_ones():
    values, right = simulated(1000)
    fitted = calibrate(values, right)
    confidence = np.array([calibrated_confidence(fitted, features) for features in values])
    assert (confidence[right] < 0.5).mean() <= 0.06
