"""Method `classical`: one curve, without a network.

Over 180 degrees and more it is the difference of opposing lines without fixed patterns ("moving" of
`tomopipe.cor.curves`), over less the minimum total variation of slices.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.cor.answer import Answer, make_answer, nothing
from tomopipe.cor.curves import Curves, refine
from tomopipe.cor.prepared import ramp, rotation_penalty

METHOD = "classical"
_SAME_PX = 1.0  # largest distance of kinds of evidence that agree
_BELONGS = 16  # half width of a peak, in samples of half a binned column
_ALL_ANGLES = {"slices", "mass"}  # kinds that need no opposing lines


def find_classical(curves: Curves, candidates_px: NDArray[np.float64]) -> Answer:
    """Find the COR by opposing lines, below 180 degrees by total variation; any column."""
    prepared = curves.prepared
    if why := prepared.no_signal:
        return nothing(METHOD, "flat", why, candidates_px)
    penalties = {"the scan has no angles": 0.8 if prepared.rows.theta_missing else 1.0}
    on_border = False
    if curves.moving is not None:
        cor_px, score = curves.cor_px, curves.moving
        best = int(np.argmax(score))
        on_border = best in (0, len(score) - 1)
        refined_px = refine(curves, float(cor_px[best]))
        best_px = refined_px.pop("moving", float(cor_px[best]))
        second = _second_ratio(score - np.median(score), best)
        penalties |= {
            "another position matches nearly as well": ramp(second, 0.95, 0.7),
            "lines 180 degrees apart match no better than others": rotation_penalty(
                prepared, best_px
            ),
        }
    else:
        minimum = curves.total_variation
        if minimum is None:
            reason = "no two projections are 180 degrees apart, and no slice varies least"
            return nothing(METHOD, "flat", reason, candidates_px)
        cor_px, score, best_px = minimum.cor_px, -minimum.excess, minimum.best_px
        near_px = refine(curves, best_px)
        refined_px = {kind: near_px[kind] for kind in _ALL_ANGLES & set(near_px)}
    agree = [abs(px - best_px) <= _SAME_PX for px in refined_px.values()]
    penalties["the measures disagree"] = ramp(float(np.mean(agree)) if agree else 0.0, 0.0, 0.7)
    return make_answer(
        METHOD,
        best_px,
        float(np.prod(list(penalties.values()))),
        min(penalties, key=lambda name: penalties[name]),
        candidates_px,
        np.interp(candidates_px, cor_px, score),
        on_border=on_border,
    )


def _second_ratio(height: NDArray[np.float64], best: int) -> float:
    """Height of the second peak over that of the best one, whose shoulders do not count."""
    peak = np.zeros(len(height), bool)
    peak[max(0, best - _BELONGS) : best + _BELONGS + 1] = True
    shoulder = ndimage.label(height > 0.5 * height[best])[0]
    peak |= shoulder == shoulder[best]
    return float(height[~peak].max(initial=0.0) / height[best]) if height[best] > 0 else np.inf
