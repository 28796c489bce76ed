"""180-degree registration: an opposing projection, flipped left to right, must match the first.

Projection pairs hold all rows of the detector and are registered where a scan has them. Over 360
degrees each row of a sinogram has an opposing one, and all of them are registered over the whole
detector. Half acquisition needs no more, where the axis is near an edge and opposing projections
share a narrow strip: many rows with the same result make up for the small overlap.
"""

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.answer import Answer, Peak, answer_of_peak, find_peak, nothing, ramp
from tomopipe.cor.clean_rows import MIN_OVERLAP
from tomopipe.cor.cross_correlation import register, registration_score
from tomopipe.cor.curves import Curves
from tomopipe.cor.opposing import OpposingLines
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.rotation import scan_penalties

METHOD = "registration"


def find_registration(curves: Curves, candidates_px: NDArray[np.float64]) -> Answer:
    """Find the COR from opposing projections, or from opposing rows of the sinograms.

    The whole detector is searched; a best match outside of the try grid has to be a strong one.
    Score: sqrt(-overlap * log(1 - r**2)) of the correlation r, the root of twice its log-likelihood
    ratio per column.
    """
    prepared = curves.prepared
    if why := prepared.no_signal:
        return nothing(METHOD, "flat", why, candidates_px)
    opposing = _opposing(prepared)
    if opposing is None:
        reason = "no two projections are 180 degrees apart"
        return nothing(METHOD, "flat", reason, candidates_px)
    n_cols = opposing.direct.shape[1]
    matched = registration_score(opposing)
    if matched is None:
        return nothing(METHOD, "flat", "the projections show nothing", candidates_px)
    score = matched[0]
    cor_px = np.arange(score.shape[1]) / 2
    usable = 1 - np.abs(2 * cor_px / (n_cols - 1) - 1) >= MIN_OVERLAP
    cor_px, score = cor_px[usable], score[:, usable]
    peak = find_peak(score[-1], apart=6)
    registered = register(opposing, round(2 * cor_px[peak.index]) - (n_cols - 1))
    if registered is None:
        return nothing(METHOD, "flat", "too few columns overlap", candidates_px)
    best_px, each_px = registered
    spread_px = float(np.median(np.abs(each_px - best_px)))
    group_px = cor_px[np.argmax(score[:-1], axis=1)]
    votes = float(np.mean(np.abs(group_px - cor_px[peak.index]) <= 2.0))
    many = prepared.angles.full_rotation and len(group_px) >= 5 and opposing.direct.shape[0] >= 80
    penalties = _penalties(peak, n_cols, votes, spread_px, opposing.motion_px, many=many)
    penalties |= scan_penalties(prepared, best_px)
    curve = np.interp(candidates_px, cor_px, score[-1])
    return answer_of_peak(METHOD, best_px, peak, penalties, candidates_px, curve)


def _penalties(
    peak: Peak, n_cols: int, votes: float, spread_px: float, motion_px: float, *, many: bool
) -> dict[str, float]:
    """Penalties, set on 800 simulated scans with a sample and 500 without.

    Chance matches of one row shrink with the root of its length: noise, dust and drift reached
    heights of 0.6 on 128 columns. Of the right matches 99 % were above 0.7, 98 % had second
    peaks under 0.52 of their height. Where the rim may have moved, all wrong matches were below 1.
    Of `many` rows over 360 degrees, without stripes, several groups with the same result count as
    much as a high match.
    """
    significant = ramp(peak.height * np.sqrt(n_cols / 128), 0.55, 0.85)
    weak = significant * ramp(peak.height, 0.2, 0.4)
    if many:
        weak = max(weak, 0.9 * ramp(votes, 0.4, 0.8) * ramp(spread_px, 0.7, 0.3))
    still = 1.0 - 0.25 * max(0.0, motion_px - 0.5)
    return {
        "the match is weak": weak,
        "another position matches nearly as well": ramp(peak.second_ratio, 0.8, 0.55),
        "rows disagree": ramp(votes, 0.0, 0.6) * ramp(spread_px, 2.0, 0.7),
        "the angles are not quite 180 degrees apart": max(
            0.4, still, 0.75 * ramp(peak.height, 1.0, 1.15)
        ),
    }


def _opposing(prepared: Prepared) -> OpposingLines | None:
    """All rows over 360 degrees; else projection pairs 180 degrees apart to 1 px; else rows."""
    images = None if prepared.angles.full_rotation else prepared.opposing_projections
    if images is not None and images.motion_px <= 1.0:
        return images
    return prepared.opposing_rows or images
