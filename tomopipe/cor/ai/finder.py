"""Method `ai`: a network weighs all evidence; its estimate is then refined at full size.

The evidence is that of `tomopipe.cor.curves`, with its papers there. The confidence is the
calibrated probability that the COR is right within 1 px.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.network import (
    RECIPE,
    TOTAL_VARIATION,
    Inputs,
    NetworkOutput,
    load_model,
    make_inputs,
    predict,
)
from tomopipe.cor.answer import AMBIGUOUS_BELOW, NO_SAMPLE, Answer, make_answer, nothing
from tomopipe.cor.curves import Curves, refine
from tomopipe.cor.prepared import rotation_gain

GROUPS = {
    "registration": (1.0, ("pairs", "rows", "difference", "moving")),
    "wedge": (0.7, ("wedge",)),
    "slices": (1.0, ("slices",)),
    "mass": (0.7, ("mass",)),
}
"""Refined kinds of evidence that fail together share one vote, less where errors are larger."""
_, _REGISTRATION = GROUPS["registration"]
NEAR = 4  # samples of the grid that belong to one position
_TRUSTED = 2.0  # samples between the network's estimate and a refined kind: a binned pixel
_REGISTRATION_VOTES = 2.0  # all kinds of it together: they use the same lines
_COARSE_VOTE = 0.5  # of minimum total variation, found on fewer columns, beside registration
_ALL_ANGLES = "slices", TOTAL_VARIATION  # kinds that use all angles, not only opposing ones
_AGREE_PX = 0.25  # between these two: seldom by chance
_AGREE_SHARE = 1 / 3  # or of their distance from registration
_AGREE_REACH = 4.0  # samples from the network's estimate within which they count
_AGREE_VOTES = 2.0  # of each, where they agree


@dataclass(frozen=True)
class Refinement:
    """Evidence at full size near one COR."""

    all_px: dict[str, float]  # COR of each kind of evidence, that of `TOTAL_VARIATION` included
    rotation: tuple[float, float] | None  # of `tomopipe.cor.prepared.rotation_gain`


def refine_near(curves: Curves, near_px: float) -> Refinement:
    """Refine a COR (unbinned px) by all kinds of evidence that can; there may be none."""
    refined_px, minimum = refine(curves, near_px), curves.total_variation
    rotation = rotation_gain(curves.prepared, vote(refined_px) if refined_px else near_px)
    coarse_px = {} if minimum is None else {TOTAL_VARIATION: minimum.best_px}
    return Refinement(refined_px | coarse_px, rotation)


def vote(refined_px: dict[str, float]) -> float:
    """Weighted median of refined CORs; the vote of a group is split among its kinds."""
    cast = []
    for group_vote, kinds in GROUPS.values():
        of_group = [cor_px for kind, cor_px in refined_px.items() if kind in kinds]
        cast += [(cor_px, group_vote / len(of_group)) for cor_px in of_group]
    sorted_px, weights = np.array(sorted(cast)).T
    # No mean of two: it would be wrong wherever one of them is.
    return float(sorted_px[np.searchsorted(np.cumsum(weights), 0.5 * weights.sum())])


def combined_px(inputs: Inputs, output: NetworkOutput, refinement: Refinement) -> float:
    """Return the COR: the median of the network's estimate and the refined kinds close to it.

    The network's estimate is the mean of the grid about the best position, weighted by probability.
    Why the kinds have the votes that they have: docs/decisions/0011-the-network-of-method-ai.md.
    """
    around = slice(max(0, output.index - NEAR), output.index + NEAR + 1)
    weight, cor_px = output.share[around], inputs.cor_px[around]
    network_px = float(np.sum(weight * cor_px) / np.sum(weight))
    step_px, all_px = float(inputs.cor_px[1] - inputs.cor_px[0]), refinement.all_px
    near = {k: px for k, px in all_px.items() if abs(px - network_px) <= _TRUSTED * step_px}
    registered_px = [near[kind] for kind in _REGISTRATION if kind in near]
    votes = dict.fromkeys(near, 1.0)
    if registered_px:
        votes |= dict.fromkeys(_REGISTRATION, min(1.0, _REGISTRATION_VOTES / len(registered_px)))
        votes[TOTAL_VARIATION] = _COARSE_VOTE
        agreeing = {k: all_px[k] for k in _ALL_ANGLES if k in all_px}
        if len(agreeing) == 2 and _agree([*agreeing.values()], registered_px, network_px, step_px):
            near |= agreeing
            votes |= dict.fromkeys(agreeing, _AGREE_VOTES)
    return _median([network_px, *near.values()], [1.0, *(votes[kind] for kind in near)])


def _agree(
    both_px: list[float], registered_px: list[float], network_px: float, step_px: float
) -> bool:
    """Whether CORs nearly coincide away from registration, near the network's estimate."""
    apart_px = abs(np.mean(both_px) - np.median(registered_px))
    away_px = np.abs(np.subtract(both_px, network_px))
    alike = np.ptp(both_px) <= max(_AGREE_PX, _AGREE_SHARE * apart_px)
    return bool(alike and away_px.max() <= _AGREE_REACH * step_px)


def _median(votes_px: list[float], votes: list[float]) -> float:
    """Weighted median, interpolated between the midpoints of the votes; plain if they are equal."""
    order = np.argsort(votes_px)
    sorted_px, weights = np.array(votes_px)[order], np.array(votes)[order]
    middle = np.cumsum(weights) - weights / 2
    return float(np.interp(weights.sum() / 2, middle, sorted_px))


FEATURES = (
    "share",  # log-odds of the position, its neighbours included
    "margin",  # logit above the second peak
    "none",  # log-odds of "none of these"
    "spread",  # log of the spread, unbinned px
    "votes",  # refined kinds within a binned pixel of the COR
    "agree",  # share of the refined kinds within 0.5 px of it
    "scatter",  # log of their median distance from it, unbinned px
    "moved",  # log of the distance from the chosen position to the COR, in samples
    "total",  # sum of all evidence there
    "kinds",  # share of the kinds with a signal whose best position it is
    "valid",  # share of the kinds with a signal
    "rotates",  # gain of the match 180 degrees apart over that at other angles
    "stays",  # share of those others that match as well
    "turning",  # share of the variation that rotates with a sample
)
_TURNING = [name for name, *_ in RECIPE.scalars].index("turning")
_ROTATION = 1.5, 0.1  # of scans over less than 180 degrees, where it is unknown


def confidence_features(
    inputs: Inputs, output: NetworkOutput, refinement: Refinement
) -> NDArray[np.float64]:
    """Features from which the confidence is computed, in the order of `FEATURES`."""
    index, score = output.index, output.score
    step_px = float(inputs.cor_px[1] - inputs.cor_px[0])
    low, high = max(0, index - NEAR), index + NEAR + 1
    share = float(output.share[low:high].sum())
    elsewhere = np.concatenate([score[:low], score[high:]])
    margin = float(score[index] - max(elsewhere.max(initial=-30.0), 0.0))
    cor_px = combined_px(inputs, output, refinement)
    away = np.abs(np.array(list(refinement.all_px.values())) - cor_px)
    valid, best = _kinds(inputs)
    rotation = refinement.rotation
    if rotation is None or not np.isfinite(rotation).all():
        rotation = _ROTATION
    rotates, stays = rotation
    return np.array(
        [
            _log_odds(share),
            np.clip(margin, -30.0, 30.0),
            _log_odds(output.none),
            np.log(output.spread_px),
            float(np.sum(away <= 2.0 * step_px)),
            float(np.mean(away <= 0.5)) if away.size else 0.0,
            np.log(0.05 + (float(np.median(away)) if len(away) > 1 else 1.0)),
            np.log(0.1 + abs(cor_px - float(inputs.cor_px[index])) / step_px),
            float(inputs.grid[-5, low:high].max()),
            float(np.mean(np.abs(best[valid] - index) <= NEAR)) if valid.any() else 0.0,
            float(valid.mean()),
            float(np.clip(rotates, 0.0, 3.0)),
            float(np.clip(stays, 0.0, 1.0)),
            float(inputs.scan[_TURNING]),
        ]
    )


def calibrated_confidence(calibration: dict[str, Any], values: NDArray[np.float64]) -> float:
    """Map `confidence_features` (n_features,) to the confidence that the COR is right within 1 px.

    `calibration` is that of the model card: `middle`, `unit`, `weight` of each feature, `bias`, and
    the knots `logit` and `confidence` of a rising line.
    """
    knots = np.array(calibration["logit"]), np.array(calibration["confidence"])
    return float(np.interp(logit(calibration, values), *knots))


def logit(calibration: dict[str, Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted sum of features, shape (...,) of (..., n_features)."""
    middle, unit, weight = (np.array(calibration[key]) for key in ("middle", "unit", "weight"))
    scaled = np.clip((values - middle) / unit, -4.0, 4.0)
    return np.asarray(scaled @ weight + calibration["bias"])


def _kinds(inputs: Inputs) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return which kinds have a signal, and the best position of each."""
    kinds = inputs.grid[:-5].reshape(-1, 5, inputs.grid.shape[1])
    return kinds[:, 4, 0] > 0, np.argmax(kinds[:, 1], axis=1)


def _log_odds(share: float) -> float:
    share = float(np.clip(share, 1e-6, 1 - 1e-6))
    return float(np.log(share / (1 - share)))


METHOD = "ai"
_NONE = 0.97  # probability of "none of these" above which a scan is flat
# What has its axis at a COR rotates if lines 180 degrees apart match better than others do (log of
# the mismatch): not below the first; between the two if what moves has its axis there, too.
_LEAST_GAIN, _CLEAR_GAIN = 0.1, 0.5
_FIXED = (
    "opposing projections hardly match better here than others: the sample is round, without "
    "features, near the axis; or noise or zingers hide it, a pattern that stays in place "
    "(dust, a wall) has this axis, or the angles are wrong (input.angles)"
)
# Confidence of a truncated sample without opposing projections, of what it would be with them: some
# CORs of 0.92 were off by 1 to 2 px.
_WITHOUT_OPPOSING = (0.0, 0.95, 1.0), (0.0, 0.5, 1.0)


def find_ai(
    curves: Curves,
    candidates_px: NDArray[np.float64],
    model: str | os.PathLike[str] = "shipped",
) -> Answer:
    """Find the COR with a network that reads all curves of evidence.

    The whole detector is searched, and a confident answer counts wherever it is. Score: log-odds of
    each candidate against "none of these". TomopipeError if the weights are missing, damaged or for
    another recipe.
    """
    network = load_model(model)
    prepared = curves.prepared
    if why := prepared.unusable_angles:  # the network itself decides whether anything rotates
        return nothing(METHOD, "flat", why, candidates_px)
    if not curves.measures.valid.any():
        return nothing(METHOD, "flat", NO_SAMPLE, candidates_px)
    inputs = make_inputs(curves)
    output = predict(network.weights, inputs)
    if output.none > _NONE:
        curve = _on_candidates(inputs, output, candidates_px)
        reason = prepared.no_signal or "no measure shows an axis"
        return Answer(METHOD, None, 0.0, "flat", reason, candidates_px, curve)
    refinement = refine_near(curves, float(inputs.cor_px[output.index]))
    confidence = calibrated_confidence(
        network.card["confidence"], confidence_features(inputs, output, refinement)
    )
    if not (prepared.angles.reaches_180 or prepared.has_air):
        confidence = float(np.interp(confidence, *_WITHOUT_OPPOSING))
    best_px = combined_px(inputs, output, refinement)
    penalty = "the measures do not agree well enough"
    if confidence < AMBIGUOUS_BELOW:
        penalty = f"second candidate: {_other_px(inputs, output):.1f} px"
    elif not is_of_the_sample(curves, refinement, best_px):
        confidence, penalty = 0.0, _FIXED
    return make_answer(
        METHOD,
        best_px,
        confidence,
        penalty,
        candidates_px,
        _on_candidates(inputs, output, candidates_px),
        on_border=output.index in (0, len(inputs.cor_px) - 1),
    )


def is_of_the_sample(curves: Curves, refinement: Refinement, cor_px: float) -> bool:
    """Tell whether the sample has this axis, not only a pattern that stays in place, such as dust.

    True also where there are no opposing lines to tell it from, or no others to compare with.
    """
    gain = np.nan if refinement.rotation is None else refinement.rotation[0]
    moving = curves.moving
    if moving is None or not gain < _CLEAR_GAIN:
        return True
    near = abs(curves.cor_px[np.argmax(moving)] - cor_px) <= curves.reach_px
    return bool(gain >= _LEAST_GAIN and near)


def _on_candidates(
    inputs: Inputs, output: NetworkOutput, candidates_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.interp(candidates_px, inputs.cor_px, np.clip(output.score, -30.0, 30.0))


def _other_px(inputs: Inputs, output: NetworkOutput) -> float:
    """Return the second peak, at least `RECIPE.apart` samples away from the best."""
    score = output.score.copy()
    score[max(0, output.index - RECIPE.apart) : output.index + RECIPE.apart + 1] = -np.inf
    return float(inputs.cor_px[int(np.argmax(score))])
