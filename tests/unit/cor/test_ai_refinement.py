"""The refined COR is the median of the kinds of evidence near the network's estimate."""

import numpy as np
import pytest
from ai_scans import inputs_of, output_with_peak, rows_with

from tomopipe.cor.ai.inputs import NetworkOutput
from tomopipe.cor.ai.refinement import Refinement, combined_px, vote

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


def test_the_cor_is_the_median_of_the_refined_kinds_that_stay_near_and_the_networks_own(inputs):
    chosen = output_with_peak(inputs)
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
    chosen = output_with_peak(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    registered = dict.fromkeys(("pairs", "rows", "difference", "moving"), network_px + 0.8)
    others = {"wedge": network_px - 0.1, "slices": network_px + 0.1, "mass": network_px + 0.2}
    assert (
        combined_px(inputs, chosen, Refinement(registered, None)) > network_px + 0.6
    )  # two of three votes
    # three of five for what lies near the network's estimate
    assert combined_px(inputs, chosen, Refinement(registered | others, None)) < network_px + 0.25


def test_minimum_total_variation_has_half_a_vote_beside_registration(inputs):
    chosen = output_with_peak(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    alone, beside = (
        combined_px(inputs, chosen, Refinement({kind: network_px + 0.2}, None, network_px + 0.9))
        for kind in ("slices", "rows")
    )
    assert alone == pytest.approx(network_px + 0.2)  # the middle of three
    assert beside == pytest.approx(network_px + 0.15)  # 1.25 of 2.5 votes


def test_slices_that_agree_are_believed_where_registration_is_off(inputs):
    chosen = output_with_peak(inputs)
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
    chosen = output_with_peak(inputs)
    share = np.zeros_like(chosen.share)
    share[[chosen.index, chosen.index + 1]] = 0.45
    ambiguous = NetworkOutput(chosen.score, share, 0.1, chosen.index, 0.0, 0.2)
    middle_px = inputs.cor_px[chosen.index : chosen.index + 2].mean()
    assert combined_px(inputs, ambiguous, Refinement({}, None)) == pytest.approx(middle_px)


def test_each_group_of_refined_kinds_has_one_vote():
    """Three kinds of registration are one vote against the wedge and the mass, 0.7 each."""
    assert vote({"pairs": 50.0, "rows": 50.1, "wedge": 53.0, "mass": 53.2}) == 53.0
    assert vote({"pairs": 50.0, "rows": 50.1, "difference": 49.9, "wedge": 53.0}) == 50.1
    assert vote({"slices": 50.0}) == 50.0
