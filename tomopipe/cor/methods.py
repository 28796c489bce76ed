"""COR finders (methods): each makes an `Answer` of a scan's curves; `choose` decides among several.

Method `classical` takes one curve: over 180 degrees and more the difference of opposing lines
without fixed patterns ("moving" of `tomopipe.cor.curves`), over less the minimum total variation
of slices. The reasons: docs/decisions/0015-methods-of-predict-cor.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage

from tomopipe.cor.ai.finder import find_ai
from tomopipe.cor.answer import Answer, make_answer, nothing
from tomopipe.cor.cor_value import format_confidence
from tomopipe.cor.curves import Curves, refine
from tomopipe.cor.prepared import ramp, rotation_penalty
from tomopipe.errors import TomopipeError

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


# Verdicts by how useful their estimates are to a person.
_RANK = {"resolved": 0, "ambiguous": 1, "edge": 2, "flat": 3}


@dataclass(frozen=True, repr=False)
class Decision:
    """Decision about one scan, from the answers of all methods.

    NumPy takes it as the accepted COR; a ValueError says why there is none.
    """

    best_cor_px: float | None  # best estimate; None only for verdicts flat and failed
    # the accepted COR: best_cor_px if the verdict is resolved and the confidence suffices
    cor_px: float | None
    confidence: float  # 0 to 1
    # as in `Answer`; the method whose estimate it is
    verdict: str
    method: str
    reason: str

    def __repr__(self) -> str:
        """Return the COR with its confidence, or why there is none, in one line."""
        cor_px, why = self.best_cor_px, f": {self.reason}" if self.reason else ""
        best = "" if cor_px is None else f"{cor_px:.2f} px, confidence {self.confidence:.2f}, "
        if self.cor_px is None:
            return f"no COR accepted ({best}{self.verdict}, {self.method}){why}"
        return f"COR {best}by {self.method}{why}"

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.float64]:
        """Return the accepted COR; an estimate that was not accepted must be passed as a number."""
        if self.cor_px is None:
            insist = "; pass best_cor_px to use it" if self.best_cor_px is not None else ""
            raise ValueError(f"cor_px: {self!r}{insist}")
        return np.array(self.cor_px, dtype)


def ask(
    name: str,
    curves: Curves,
    candidates_px: NDArray[np.float64],
    weights: str | os.PathLike[str] | None = None,
) -> Answer:
    """Ask one method about the COR of a scan.

    Parameters
    ----------
    name : str
        One of `METHODS`, or "dinov2".
    curves : Curves
        The rows of the scan, and what all methods derive from them.
    candidates_px : ndarray of float64, shape (n_candidates,)
        The try grid, unbinned pixels, ascending.
    weights : str or path, optional
        The network of "ai", by default the shipped one, or the checkpoint of "dinov2".

    Returns
    -------
    Answer
        COR (unbinned pixels), confidence from 0 to 1, and the score at each candidate.
    """
    if name == "ai":
        return find_ai(curves, candidates_px, weights or "shipped")
    if name == "classical":
        return find_classical(curves, candidates_px)
    if name != "dinov2" or weights is None:
        raise ValueError(f"name: expected ai, classical, or dinov2 with weights; got {name!r}")
    try:
        from tomopipe.cor.ai.dinov2 import find_dinov2, read_checkpoint
    except ImportError as error:
        raise TomopipeError(
            f"predict_cor.methods: dinov2 cannot run: {error}. "
            "Install its libraries: pip install 'tomopipe[torch]'"
        ) from error
    return find_dinov2(curves, candidates_px, read_checkpoint(weights))


def choose(answers: Sequence[Answer], min_confidence: float, apart_px: float) -> Decision:
    """Decide: the first method that is confident wins, unless another one contradicts it.

    Answers, at least one, are in the order of preference; confident is a resolved one of at least
    `min_confidence`. Two of these further apart than `apart_px` (`Curves.reach_px`) are
    "ambiguous"; a method that failed makes the decision "failed", regardless of the others.
    """
    if not answers:
        raise ValueError("answers: expected at least one method's, got none")
    for answer in answers:
        if answer.verdict == "failed":
            reason = f"{answer.method}: {answer.reason}"
            return Decision(None, None, 0.0, "failed", answer.method, reason)
    confident = [
        answer
        for answer in answers
        if answer.verdict == "resolved" and answer.confidence >= min_confidence
    ]
    if not confident:
        return _undecided(answers, min_confidence)
    first, best_px = confident[0], confident[0].best_cor_px
    for other in confident:
        if abs((other.best_cor_px or 0.0) - (best_px or 0.0)) > apart_px:
            reason = " and ".join(
                f"{answer.method} finds {answer.best_cor_px:.2f} px ({answer.confidence:.2f})"
                for answer in (first, other)
            )
            confidence = min(first.confidence * (1.0 - other.confidence), other.confidence)
            return Decision(best_px, None, confidence, "ambiguous", first.method, reason)
    return Decision(best_px, best_px, first.confidence, "resolved", first.method, first.reason)


def _undecided(answers: Sequence[Answer], min_confidence: float) -> Decision:
    """Return the best estimate (that of `ai`, if any) for people to start from; accept none."""
    of_ai = [answer for answer in answers if answer.method == "ai"]
    best = min(of_ai or answers, key=lambda answer: (_RANK[answer.verdict], -answer.confidence))
    reason = f"{best.method}: {best.reason or 'low confidence'}"
    if best.verdict == "resolved":
        shown = format_confidence(best.confidence, min_confidence)
        reason += f" (confidence {shown}, {min_confidence:g} needed)"
    return Decision(best.best_cor_px, None, best.confidence, best.verdict, best.method, reason)
