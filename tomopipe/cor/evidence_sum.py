"""The sum of all evidence: one score over the whole detector, one vote per kind where it peaks.

Each curve of `tomopipe.cor.curves` is already a height above its own trend, compressed so that no
kind dominates. Kinds of one group (registration, the slices) share a vote; positions of little
overlap count less. The best and the second peak come from the sum, the COR from the weighted median
of the refined kinds, the confidence from how well the two agree.

The kinds are registration [1]_, the double wedge [2]_, the sharpness of slices [3]_ and the
centre of mass [4]_.

References
----------
.. [1] D. Padfield, "Masked object registration in the Fourier domain", IEEE Trans. Image Process.
   21, 2706 (2012).
.. [2] N. T. Vo et al., "Reliable method for calculating the center of rotation in parallel-beam
   tomography", Opt. Express 22, 19078 (2014).
.. [3] T. Donath et al., "Toward optimal estimation of the center of rotation", J. Opt. Soc. Am. A
   23, 1048 (2006).
.. [4] S. G. Azevedo et al., "Calculation of the rotational centers in computed tomography
   sinograms", IEEE Trans. Nucl. Sci. 37, 1525 (1990).
"""

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.answer import Answer, Peak, answer_of_peak, find_peak, nothing, ramp
from tomopipe.cor.curves import KINDS, Curves, CurveSet, refine
from tomopipe.cor.rotation import scan_penalties

METHOD = "sum"
GROUPS = {
    "registration": ("pairs", "rows", "difference", "moving"),
    "wedge": ("wedge",),
    "slices": ("entropy", "edges", "slices"),
    "mass": ("mass",),
}
"""Kinds of evidence that fail together, and share one vote; names of curves and of refinements. The
negativity of slices is not used: the sum was no better with it on 300 simulated scans."""
_VOTES = {"registration": 1.0, "wedge": 0.7, "slices": 1.0, "mass": 0.7}
_MIN_OVERLAP = 0.06
_APART = 8  # samples of half a binned column that belong to the best peak


def find_sum(curves: Curves, candidates_px: NDArray[np.float64]) -> Answer:
    """Find the COR where the sum of the compressed prominences of all groups peaks.

    The whole detector is searched; a best match outside of the try grid has to be a strong one.
    """
    prepared = curves.prepared
    if why := prepared.no_signal:
        return nothing(METHOD, "flat", why, candidates_px)
    score, cor_px = add_up(curves.classical), curves.classical.cor_px
    peak = find_peak(score, apart=_APART)
    refined_px = refine(curves, float(cor_px[peak.index]))
    if not refined_px:
        return nothing(METHOD, "flat", "nothing resolves where the sum is best", candidates_px)
    best_px, each_px = vote(refined_px)
    penalties = _penalties(peak, np.abs(each_px - best_px))
    penalties |= scan_penalties(prepared, best_px)
    curve = np.interp(candidates_px, cor_px, score)
    return answer_of_peak(METHOD, best_px, peak, penalties, candidates_px, curve)


def _penalties(peak: Peak, away_px: NDArray[np.float64]) -> dict[str, float]:
    """Penalties for the second peak, for votes further than 1 px away, and for their spread."""
    share = float(np.mean(away_px <= 1.0)) if len(away_px) > 1 else 0.0
    return {
        "the sum is low": ramp(peak.height, 3.0, 10.0),
        "another position scores nearly as well": ramp(peak.second_ratio, 0.95, 0.5),
        "the measures disagree": ramp(share, 0.0, 0.7),
        "their positions are spread": ramp(float(np.median(away_px)), 2.5, 0.3),
    }


def add_up(curves: CurveSet) -> NDArray[np.float64]:
    """Add the curves of all groups (n_grid,), gated by what overlaps."""
    score = np.zeros(len(curves.cor_px))
    for group, kinds in GROUPS.items():
        rows = [i for i, kind in enumerate(KINDS) if kind in kinds and curves.valid[i]]
        if rows:
            heights = curves.prominence[rows]
            # The registrations use different lines; entropy and edges are of the same slices.
            score += heights.max(axis=0) if group == "slices" else heights.sum(axis=0)
    gate = np.clip((curves.overlap - _MIN_OVERLAP) / _MIN_OVERLAP, 0.0, 1.0)
    return score * gate


def vote(refined_px: dict[str, float]) -> tuple[float, NDArray[np.float64]]:
    """Weighted median of refined CORs, and the median of each group (n_groups,).

    A group's vote is split among its kinds; that of the wedge and of the mass, whose errors are
    larger, counts 0.7.
    """
    each, cast = [], []
    for group, kinds in GROUPS.items():
        of_group = [cor_px for kind, cor_px in refined_px.items() if kind in kinds]
        if of_group:
            each.append(float(np.median(of_group)))
            cast += [(cor_px, _VOTES[group] / len(of_group)) for cor_px in of_group]
    sorted_px, weights = np.array(sorted(cast)).T
    # No mean of two: it would be wrong wherever one of them is.
    half = np.searchsorted(np.cumsum(weights), 0.5 * weights.sum())
    return float(sorted_px[half]), np.array(each)
