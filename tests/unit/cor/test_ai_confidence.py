"""The confidence rises with what speaks for a place, and 0.5 is where the wrong ones end."""

import numpy as np
import pytest
from ai_scans import inputs_of, rows_with
from tomopipe_lab.train.calibrate import calibrate

from tomopipe.cor.ai.closer import Closer, place_px
from tomopipe.cor.ai.confidence import DOUBTS, confidence, doubts
from tomopipe.cor.ai.judgement import Judgement

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


def judgement(inputs, margin=8.0, none=0.01):
    """A network that is sure of the axis and gives a place far from it less."""
    score, index = np.full(inputs.grid.shape[1], -10.0), int(np.argmax(inputs.grid[-5]))
    score[index], score[index + 60] = 10.0, 10.0 - margin
    share = np.exp(score - 10) / np.exp(score - 10).sum() * (1 - none)
    return Judgement(score, share, none, index, 0.3, 0.2)


def named(values):
    return dict(zip(DOUBTS, values, strict=True))


def test_doubts_measure_what_they_are_named_after(inputs):
    near = {"pairs": 60.2, "slices": 60.3, "wedge": 60.25}
    sure = named(doubts(inputs, judgement(inputs), Closer(near, (1.4, 0.0))))
    assert sure["votes"] == 3
    assert sure["agree"] == 1
    assert sure["margin"] == pytest.approx(8)
    assert sure["rotates"] == pytest.approx(1.4)
    far = {"pairs": 60.2, "slices": 63.3, "wedge": 57.0}
    torn = named(doubts(inputs, judgement(inputs, 1.0, 0.6), Closer(far, (0.1, 0.9))))
    assert torn["agree"] < 1
    assert torn["scatter"] > sure["scatter"] + 1
    assert torn["margin"] == pytest.approx(1)
    assert torn["share"] < sure["share"]
    assert torn["none"] > sure["none"]


def test_nothing_refined_and_nothing_known_of_rotation_is_finite(inputs):
    for rotation in (None, (np.nan, 0.0)):
        values = doubts(inputs, judgement(inputs), Closer({}, rotation))
        assert np.isfinite(values).all()
        assert named(values)["votes"] == 0


def test_the_cor_is_the_median_of_the_refined_kinds_that_stay_near_and_the_networks_own(inputs):
    said = judgement(inputs)
    own_px = float(inputs.cor_px[said.index])

    def place(*fine_px):
        return place_px(inputs, said, Closer({str(i): px for i, px in enumerate(fine_px)}, None))

    assert place() == pytest.approx(own_px, abs=0.01)
    assert place(own_px + 0.3, own_px + 0.4) == pytest.approx(own_px + 0.3, abs=0.01)
    away = [own_px + 3, own_px + 3, own_px + 3.5]
    assert place(own_px + 0.3, own_px + 0.4, *away) == place(own_px + 0.3, own_px + 0.4)
    assert place(own_px + 3) == pytest.approx(own_px, abs=0.01)


def test_kinds_of_registration_have_two_votes_together(inputs):
    said = judgement(inputs)
    own_px = float(inputs.cor_px[said.index])
    registered = dict.fromkeys(("pairs", "rows", "difference", "moving"), own_px + 0.8)
    others = {"wedge": own_px - 0.1, "slices": own_px + 0.1, "mass": own_px + 0.2}
    assert place_px(inputs, said, Closer(registered, None)) > own_px + 0.6  # two of three votes
    # three of five for what lies near the network's place
    assert place_px(inputs, said, Closer(registered | others, None)) < own_px + 0.25


def test_minimum_total_variation_is_one_of_the_kinds(inputs):
    said = judgement(inputs)
    own_px = float(inputs.cor_px[said.index])
    fine_px = {"slices": own_px + 0.4}
    near, far = (Closer(fine_px, None, own_px + away) for away in (0.3, 9.0))
    assert place_px(inputs, said, near) == pytest.approx(own_px + 0.3)
    assert place_px(inputs, said, far) == place_px(inputs, said, Closer(fine_px, None))
    near, far = (named(doubts(inputs, said, closer)) for closer in (near, far))
    assert near["votes"] == near["agree"] * 2 == 2
    assert far["agree"] == 0.5
    assert far["scatter"] > near["scatter"] + 1


def test_minimum_total_variation_has_half_a_vote_beside_registration(inputs):
    said = judgement(inputs)
    own_px = float(inputs.cor_px[said.index])
    alone, beside = (
        place_px(inputs, said, Closer({kind: own_px + 0.2}, None, own_px + 0.9))
        for kind in ("slices", "rows")
    )
    assert alone == pytest.approx(own_px + 0.2)  # the middle of three
    assert beside == pytest.approx(own_px + 0.15)  # 1.25 of 2.5 votes: the middles are 0.5 and 1.5


def test_slices_that_agree_are_believed_where_registration_is_off(inputs):
    said = judgement(inputs)
    own_px = float(inputs.cor_px[said.index])
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])

    def place(slices, minimum):
        registered = dict.fromkeys(("rows", "difference", "moving"), own_px - step_px)
        fine_px = registered | {"slices": own_px + slices * step_px}
        return place_px(inputs, said, Closer(fine_px, None, own_px + minimum * step_px))

    agreed = place(3.0, 3.0)  # both beyond what one kind may be off
    assert own_px + 0.5 * step_px < agreed <= own_px + 3 * step_px
    assert place(3.0, 3.0 - 0.5 / step_px) > own_px  # apart by less than 1.75 px / 3
    for apart in ((3.0, 3.0 - 0.7 / step_px), (5.0, 5.0)):  # (5, 5): far from the network's place
        assert own_px - step_px <= place(*apart) < own_px


def test_the_networks_own_place_lies_between_places_that_it_likes_as_well(inputs):
    said = judgement(inputs)
    share = np.zeros_like(said.share)
    share[[said.index, said.index + 1]] = 0.45
    torn = Judgement(said.score, share, 0.1, said.index, 0.0, 0.2)
    middle_px = inputs.cor_px[said.index : said.index + 2].mean()
    assert place_px(inputs, torn, Closer({}, None)) == pytest.approx(middle_px)


def simulated(n=4000, seed=0):
    """Doubts of which the margin alone tells right from wrong, as a logistic law."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, len(DOUBTS)))
    right = rng.random(n) < 1 / (1 + np.exp(-(3 * values[:, 1] + 1)))
    return values, right


def test_the_confidence_is_the_probability_of_being_right_where_it_is_not_moved():
    values, right = simulated()
    fitted = calibrate(values, right)
    fresh, truth = simulated(seed=1)
    sure = np.array([confidence(fitted, one) for one in fresh])
    for low, high in [(0.0, 0.1), (0.1, 0.3), (0.9, 1.0)]:
        some = (sure >= low) & (sure < high)
        assert truth[some].mean() == pytest.approx(sure[some].mean(), abs=0.06)
    order = np.argsort(fresh[:, 1])
    assert np.corrcoef(sure[order], np.arange(len(order)))[0, 1] > 0.9


def test_half_is_where_the_wrong_ones_end():
    values, right = simulated(400)
    values[:, 1] = np.where(right, values[:, 1] + 6, values[:, 1] - 6)
    fitted = calibrate(values, right)
    sure = np.array([confidence(fitted, one) for one in values])
    assert not (sure[~right] >= 0.5).any()
    assert (sure[right] >= 0.5).mean() > 0.95


def test_half_costs_at_most_a_twentieth_of_the_right_ones():
    values, right = simulated(1000)
    fitted = calibrate(values, right)
    sure = np.array([confidence(fitted, one) for one in values])
    assert (sure[right] < 0.5).mean() <= 0.06
