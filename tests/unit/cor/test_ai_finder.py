"""Method ai as predict_cor asks it: it finds axes or rejects, and never falls back."""

from dataclasses import replace

import numpy as np
import pytest
from ai_scans import COR_PX, output_with_peak, rows_with, write_model
from find_rows import THETA_180_DEG, curves_of, grid, rows_of, scan
from tomopipe_lab.train.calibrate import calibrate

from tests.step_calls import predict_in, try_in
from tomopipe.cor.ai.finder import (
    FEATURES,
    Refinement,
    calibrated_confidence,
    combined_px,
    confidence_features,
    find_ai,
    is_of_the_sample,
)
from tomopipe.cor.ai.model_card import SHIPPED, read_card
from tomopipe.cor.ai.network import (
    RECIPE,
    TOTAL_VARIATION,
    NetworkOutput,
    make_inputs,
    recipe_hash,
)
from tomopipe.cor.collected_rows import write_rows
from tomopipe.errors import TomopipeError
from tomopipe.simulate.phantom import Ellipsoid, Phantom
from tomopipe.storage.atomic import write_json


def test_the_cor_is_the_median_of_the_refined_kinds_that_stay_near_and_the_networks_own(inputs):
    chosen = output_with_peak(inputs)
    network_px = float(inputs.cor_px[chosen.index])

    def cor_of(*fine_px):
        refined = Refinement({str(i): px for i, px in enumerate(fine_px)}, None)
        return combined_px(inputs, chosen, refined)

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
    alone_px = combined_px(inputs, chosen, Refinement(registered, None))
    assert alone_px > network_px + 0.6  # two of three votes
    # three of five for what lies near the network's estimate
    assert combined_px(inputs, chosen, Refinement(registered | others, None)) < network_px + 0.25


def test_slices_that_agree_are_believed_where_registration_is_off(inputs):
    chosen = output_with_peak(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])

    def cor_of(slices, minimum):
        registered = dict.fromkeys(("rows", "difference", "moving"), network_px - step_px)
        of_slices = {"slices": slices, TOTAL_VARIATION: minimum}
        both_px = {kind: network_px + away * step_px for kind, away in of_slices.items()}
        return combined_px(inputs, chosen, Refinement(registered | both_px, None))

    agreed = cor_of(3.0, 3.0)  # both beyond what one kind may be off
    assert network_px + 0.5 * step_px < agreed <= network_px + 3 * step_px
    assert cor_of(3.0, 3.0 - 0.5 / step_px) > network_px  # apart by less than 1.75 px / 3
    for apart in ((3.0, 3.0 - 0.7 / step_px), (5.0, 5.0)):  # the last: far from the estimate
        assert network_px - step_px <= cor_of(*apart) < network_px


def test_the_networks_estimate_lies_between_equally_probable_ones(inputs):
    chosen = output_with_peak(inputs)
    share = np.zeros_like(chosen.share)
    share[[chosen.index, chosen.index + 1]] = 0.45
    ambiguous = NetworkOutput(chosen.score, share, 0.1, chosen.index, 0.2)
    middle_px = inputs.cor_px[chosen.index : chosen.index + 2].mean()
    assert combined_px(inputs, ambiguous, Refinement({}, None)) == pytest.approx(middle_px)


@pytest.fixture(scope="module")
def undamaged():
    """The curves of a scan, whose evidence takes seconds: made once."""
    return curves_of(rows_with())


@pytest.fixture(scope="module")
def inputs(undamaged):
    return make_inputs(undamaged)


def features(inputs, chosen, refinement):
    values = confidence_features(inputs, chosen, refinement)
    return dict(zip(FEATURES, values, strict=True))


def test_features_measure_what_they_are_named_after(inputs):
    near = {"pairs": 60.2, "slices": 60.3, "wedge": 60.25}
    clear = features(inputs, output_with_peak(inputs), Refinement(near, (1.4, 0.0)))
    assert clear["votes"] == 3
    assert clear["agree"] == 1
    assert clear["margin"] == pytest.approx(8)
    assert clear["rotates"] == pytest.approx(1.4)
    far = {"pairs": 60.2, "slices": 63.3, "wedge": 57.0}
    ambiguous = features(inputs, output_with_peak(inputs, 1.0, 0.6), Refinement(far, (0.1, 0.9)))
    assert ambiguous["agree"] < 1
    assert ambiguous["scatter"] > clear["scatter"] + 1
    assert ambiguous["margin"] == pytest.approx(1)
    assert ambiguous["share"] < clear["share"]
    assert ambiguous["none"] > clear["none"]


def test_nothing_refined_and_nothing_known_of_rotation_is_finite(inputs):
    for rotation in (None, (np.nan, 0.0)):
        found = features(inputs, output_with_peak(inputs), Refinement({}, rotation))
        assert np.isfinite(list(found.values())).all()
        assert found["votes"] == 0


def test_minimum_total_variation_is_one_of_the_kinds(inputs):
    chosen = output_with_peak(inputs)
    network_px = float(inputs.cor_px[chosen.index])
    fine_px = {"slices": network_px + 0.4}
    minima_px = ({}, *({TOTAL_VARIATION: network_px + away} for away in (0.3, 9.0)))
    alone, near, far = (Refinement(fine_px | minimum, None) for minimum in minima_px)
    assert combined_px(inputs, chosen, near) == pytest.approx(network_px + 0.3)
    assert combined_px(inputs, chosen, far) == combined_px(inputs, chosen, alone)
    near, far = (features(inputs, chosen, refinement) for refinement in (near, far))
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


def confidences(values, right):
    fitted = calibrate(values, right)
    return np.array([calibrated_confidence(fitted, features) for features in values])


def test_half_is_where_the_wrong_ones_end_and_costs_at_most_a_twentieth_of_the_right_ones():
    values, right = simulated(1000)
    assert (confidences(values, right)[right] < 0.5).mean() <= 0.06
    values, right = simulated(400)
    values[:, 1] = np.where(right, values[:, 1] + 6, values[:, 1] - 6)
    confidence = confidences(values, right)
    assert not (confidence[~right] >= 0.5).any()
    assert (confidence[right] >= 0.5).mean() > 0.95


pytestmark = pytest.mark.slow

CANDIDATES = grid(128)


def found(rows):
    return find_ai(curves_of(rows), CANDIDATES, "shipped")


def test_the_shipped_card_is_of_the_shipped_weights_and_of_this_recipe():
    card = read_card(SHIPPED)
    assert card["recipe"] == recipe_hash(RECIPE)
    assert {"data", "limits", "test", "validation"} <= set(card)
    assert SHIPPED.stat().st_size < 1_000_000


@pytest.mark.parametrize("cor_px", [COR_PX, 52.0, 71.6])
def test_the_shipped_network_finds_the_axis_and_is_sure(cor_px, undamaged):
    curves = undamaged if cor_px == COR_PX else curves_of(rows_with(cor_px))
    evidence = find_ai(curves, CANDIDATES, "shipped")
    assert evidence.best_cor_px == pytest.approx(cor_px, abs=0.25)
    assert evidence.verdict == "resolved"
    assert 0.5 <= evidence.confidence <= 1
    best = CANDIDATES[np.argmax(evidence.curve_score)]
    assert best == pytest.approx(cor_px, abs=1)


def test_an_axis_outside_of_the_grid_is_found():
    projections = scan(40.3, n_cols=160, counts=5000)
    evidence = find_ai(curves_of(rows_of(projections, THETA_180_DEG)), grid(160, 20))
    assert evidence.best_cor_px == pytest.approx(40.3, abs=0.25)


STEPS = np.arange(360.0)
GOLDEN_DEG = 180 * (np.sqrt(5) - 1) / 2


@pytest.mark.parametrize(
    "theta_deg",
    [
        -90 - STEPS[:181],
        STEPS * GOLDEN_DEG,
        np.ravel([777 + 4 * STEPS[:45] + k for k in (0, 2, 1, 3)]),
        STEPS[:181][np.abs(STEPS[:181] - 88) > 8],
        np.sort(np.random.default_rng(0).uniform(0, 180, 240)),
        STEPS[:271],
        1.5 * STEPS,
    ],
    ids=["descending", "golden", "interlaced", "gap", "irregular", "270", "540"],
)
def test_the_axis_is_found_however_the_angles_come(theta_deg):
    projections = scan(COR_PX, n_cols=128, theta_deg=theta_deg, counts=5000)
    evidence = found(rows_of(projections, theta_deg))
    assert evidence.best_cor_px == pytest.approx(COR_PX, abs=0.25)
    assert evidence.verdict == "resolved"


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_accepted(seed):
    noise = np.random.default_rng(seed).normal(size=(181, 8, 128)).astype(np.float32)
    evidence = found(rows_of(noise, THETA_180_DEG))
    assert evidence.verdict in ("flat", "ambiguous")
    assert evidence.confidence < 0.5


@pytest.mark.parametrize(
    ("rotation", "near", "away"),
    [
        (None, True, True),
        ((np.nan, np.nan), True, True),
        ((0.05, 0.5), False, False),
        ((0.3, 0.1), True, False),
        ((0.6, 0.0), True, True),
    ],
)
def test_what_moves_decides_only_where_opposing_lines_match_little_better(
    undamaged, rotation, near, away
):
    refinement = Refinement({}, rotation)
    assert is_of_the_sample(undamaged, refinement, COR_PX) is near
    assert is_of_the_sample(undamaged, refinement, COR_PX + 15) is away


@pytest.mark.parametrize(("contrast", "noise"), [(0.1, 0.02), (0.05, 0.01), (0.05, 0.03)])
def test_dust_that_stays_in_place_has_no_cor(contrast, noise):
    rng = np.random.default_rng(0)
    integrals = scan(66.3, n_cols=128)
    dust = np.zeros(128)
    limits = (0, 58), (0.8, 2.5), (0.1, 0.3)
    for away_px, sigma_px, depth in np.transpose([rng.uniform(*ends, 12) for ends in limits]):
        for side in (-1, 1):  # mirrored about a column that is not the axis
            away = np.arange(128) - (52.3 + side * away_px)
            dust += depth * np.exp(-((away / sigma_px) ** 2) / 2)
    lines = contrast * integrals / integrals.max() + dust
    lines += rng.normal(0, noise, lines.shape)
    answer = find_ai(curves_of(rows_of(lines, THETA_180_DEG)), CANDIDATES)
    assert answer.best_cor_px == pytest.approx(52.3, abs=0.5)
    assert (answer.verdict, answer.confidence) == ("ambiguous", 0.0)
    assert "noise or zingers hide it, a pattern that stays in place" in answer.reason


def test_a_rod_without_features_near_the_axis_is_refused_for_that():
    rod = Phantom("rod", (Ellipsoid(3.0, 0.0, 4.0, 25.0, 25.0, 1e4, 0.0, 0.01),))
    lines = scan(97.4, n_cols=192, phantom=rod, counts=2000)
    answer = find_ai(curves_of(rows_of(lines, THETA_180_DEG)), CANDIDATES)
    assert answer.confidence == 0.0
    assert "the sample is round, without features" in answer.reason


@pytest.mark.parametrize(
    ("used", "stop", "expected"),
    [(slice(30, 120), 180, 0.4 / 0.95), (slice(30, 120), 181, 0.8), (slice(None), 180, 0.8)],
    ids=["truncated", "with the last projection", "with air"],
)
def test_a_truncated_sample_without_opposing_projections_needs_more(
    monkeypatch, used, stop, expected
):
    monkeypatch.setattr("tomopipe.cor.ai.finder.calibrated_confidence", lambda card, values: 0.8)
    lines = scan(79.7, counts=20000)
    rows = rows_of(lines[:stop, :, used], THETA_180_DEG[:stop])
    answer = find_ai(curves_of(rows), CANDIDATES)
    assert answer.confidence == pytest.approx(expected)


def test_too_few_or_equal_angles_are_flat():
    rows = rows_with()
    few = replace(rows, sinograms=rows.sinograms[:, :5], theta_rad=rows.theta_rad[:5])
    assert found(few).verdict == "flat"
    assert "too few angles: 5, " in found(few).reason
    still = replace(rows, theta_rad=np.zeros_like(rows.theta_rad))
    assert found(still).verdict == "flat"


def test_a_network_of_ones_own_is_asked(tmp_path, undamaged, inputs):
    write_model(tmp_path / "own.safetensors", inputs)
    evidence = find_ai(undamaged, CANDIDATES, tmp_path / "own.safetensors")
    assert evidence.method == "ai"
    assert evidence.confidence != find_ai(undamaged, CANDIDATES, "shipped").confidence


def asked(tmp_path, **options):
    """Let predict_cor look at an undamaged scan."""
    write_rows(rows_with(), tmp_path / "rows.h5")
    write_json({"cor_px": CANDIDATES.tolist()}, tmp_path / "try.json")
    return predict_in(tmp_path, **{"methods": ["ai"], "min_confidence": 0.5, **options})


def test_the_prediction_names_the_network(tmp_path):
    prediction = asked(tmp_path)
    card = read_card(SHIPPED)
    assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.25)
    assert prediction["model"] == {"name": card["name"], "sha256": card["sha256"]}
    assert prediction["methods"]["ai"]["model"] == prediction["model"]


def test_predict_cor_stops_before_the_scan_where_the_network_is_missing(tmp_path):
    with pytest.raises(TomopipeError, match=r"no such file.*predict_cor\.methods"):
        asked(tmp_path, methods=["ai"], model=tmp_path / "none.safetensors")
    assert not (tmp_path / "prediction.json").exists()


@pytest.mark.realdata
def test_the_tooth(real_scan, tmp_path):
    try_in(tmp_path, real_scan, step_px=2, max_size_px=160)
    prediction = predict_in(tmp_path, methods=["ai"], min_confidence=0.5)
    assert prediction["cor_px"] == pytest.approx(295.8, abs=0.3)
