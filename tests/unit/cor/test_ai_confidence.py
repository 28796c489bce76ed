"""The confidence rises with the evidence for a COR; above 0.5 none is wrong."""

import numpy as np
import pytest
from ai_scans import inputs_of, rows_with
from tomopipe_lab.train.calibrate import calibrate

from tomopipe.cor.ai.confidence import FEATURES, calibrated_confidence, confidence_features
from tomopipe.cor.ai.network_output import NetworkOutput
from tomopipe.cor.ai.refinement import Refinement, combined_px

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


def output(inputs, margin=8.0, none=0.01):
    """Output of a network with a clear peak at the axis and a second one far from it."""
    score, index = np.full(inputs.grid.shape[1], -10.0), int(np.argmax(inputs.grid[-5]))
    score[index], score[index + 60] = 10.0, 10.0 - margin
    share = np.exp(score - 10) / np.exp(score - 10).sum() * (1 - none)
    return NetworkOutput(score, share, none, index, 0.3, 0.2)


def named(values):
    return dict(zip(FEATURES, values, strict=True))


def test_features_measure_what_they_are_named_after(inputs):
    near = {"pairs": 60.2, "slices": 60.3, "wedge": 60.25}
    clear = named(confidence_features(inputs, output(inputs), Refinement(near, (1.4, 0.0))))
    assert clear["votes"] == 3
    assert clear["agree"] == 1
    assert clear["margin"] == pytest.approx(8)
    assert clear["rotates"] == pytest.approx(1.4)
    far = {"pairs": 60.2, "slices": 63.3, "wedge": 57.0}
    ambiguous = named(
        confidence_features(inputs, output(inputs, 1.0, 0.6), Refinement(far, (0.1, 0.9)))
    )
    assert ambiguous["agree"] < 1
    assert ambiguous["scatter"] > clear["scatter"] + 1
    assert ambiguous["margin"] == pytest.approx(1)
    assert ambiguous["share"] < clear["share"]
    assert ambiguous["none"] > clear["none"]


def test_nothing_refined_and_nothing_known_of_rotation_is_finite(inputs):
    for rotation in (None, (np.nan, 0.0)):
        values = confidence_features(inputs, output(inputs), Refinement({}, rotation))
        assert np.isfinite(values).all()
        assert named(values)["votes"] == 0


def test_the_cor_is_the_median_of_the_refined_kinds_that_stay_near_and_the_networks_own(inputs):
    chosen = output(inputs)
    network_px = float(inputs.cor_px[chosen.index])

    def cor_of(*fine_px):
        return combined_px(
            inputs, chosen, Refinement({str(i): px for i, px in enumerate(fine_px)}, None)
        )

    assert cor_of() == pytest.approx(network_px, abs=0.01)
    assert cor_of(network_px + 0.3, network_px + 0.4) == pytest.approx(network_px + 0.3, abs=0.01)
    away, near = (np.add(network_px, away) for away in ((3, 3, 3.5), (0.3, 0.4)))
    assert cor_of(*near, *away) == cor_of(*near)
    assert cor_of(network_px + 3) == pytest.approx(network_px, abs=0.01)


def test_kinds_of_registration_have_two_votes_together(inputs):
    chosen = output(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    registered = dict.fromkeys(("pairs", "rows", "difference", "moving"), network_px + 0.8)
    others = {"wedge": network_px - 0.1, "slices": network_px + 0.1, "mass": network_px + 0.2}
    assert (
        combined_px(inputs, chosen, Refinement(registered, None)) > network_px + 0.6
    )  # two of three votes
    # three of five for what lies near the network's estimate
    assert combined_px(inputs, chosen, Refinement(registered | others, None)) < network_px + 0.25


def test_minimum_total_variation_is_one_of_the_kinds(inputs):
    chosen = output(inputs)
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


def test_minimum_total_variation_has_half_a_vote_beside_registration(inputs):
    chosen = output(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    alone, beside = (
        combined_px(inputs, chosen, Refinement({kind: network_px + 0.2}, None, network_px + 0.9))
        for kind in ("slices", "rows")
    )
    assert alone == pytest.approx(network_px + 0.2)  # the middle of three
    assert beside == pytest.approx(network_px + 0.15)  # 1.25 of 2.5 votes


def test_slices_that_agree_are_believed_where_registration_is_off(inputs):
    chosen = output(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])

    def cor_of(slices, minimum):
        registered = dict.fromkeys(("rows", "difference", "moving"), network_px - step_px)
        fine_px = registered | {"slices": network_px + slices * step_px}
        return combined_px(
            inputs, chosen, Refinement(fine_px, None, network_px + minimum * step_px)
        )

    agreed = cor_of(3.0, 3.0)  # both beyond what one kind may be off
    assert network_px + 0.5 * step_px < agreed <= network_px + 3 * step_px
    assert cor_of(3.0, 3.0 - 0.5 / step_px) > network_px  # apart by less than 1.75 px / 3
    for apart in (
        (3.0, 3.0 - 0.7 / step_px),
        (5.0, 5.0),
    ):  # (5, 5): far from the network's estimate
        assert network_px - step_px <= cor_of(*apart) < network_px


def test_the_networks_estimate_lies_between_equally_probable_ones(inputs):
    chosen = output(inputs)
    share = np.zeros_like(chosen.share)
    share[[chosen.index, chosen.index + 1]] = 0.45
    ambiguous = NetworkOutput(chosen.score, share, 0.1, chosen.index, 0.0, 0.2)
    middle_px = inputs.cor_px[chosen.index : chosen.index + 2].mean()
    assert combined_px(inputs, ambiguous, Refinement({}, None)) == pytest.approx(middle_px)


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
    confidence = np.array([calibrated_confidence(fitted, one) for one in fresh])
    for low, high in [(0.0, 0.1), (0.1, 0.3), (0.9, 1.0)]:
        chosen = (confidence >= low) & (confidence < high)
        assert truth[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.06)
    order = np.argsort(fresh[:, 1])
    assert np.corrcoef(confidence[order], np.arange(len(order)))[0, 1] > 0.9


def test_half_is_where_the_wrong_ones_end():
    values, right = simulated(400)
    values[:, 1] = np.where(right, values[:, 1] + 6, values[:, 1] - 6)
    fitted = calibrate(values, right)
    confidence = np.array([calibrated_confidence(fitted, one) for one in values])
    assert not (confidence[~right] >= 0.5).any()
    assert (confidence[right] >= 0.5).mean() > 0.95


def test_half_costs_at_most_a_twentieth_of_the_right_ones():
    values, right = simulated(1000)
    fitted = calibrate(values, right)
    confidence = np.array([calibrated_confidence(fitted, one) for one in values])
    assert (confidence[right] < 0.5).mean() <= 0.06
