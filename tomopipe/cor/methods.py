"""COR finders (methods): each makes an `Answer` of a scan's curves; `choose` decides among several.

They are the rows of `COR_METHODS` of `tomopipe.cor_methods`, or of packages. The reasons:
docs/decisions/0015-methods-of-predict-cor.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tomopipe.cor.answer import Answer
from tomopipe.cor.cor_value import format_confidence, is_valid
from tomopipe.cor.curves import Curves
from tomopipe.cor_methods import method_named
from tomopipe.entry_points import call
from tomopipe.errors import TomopipeError

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
        One of `METHODS`, "dinov2", or the method of a package.
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
    try:
        method, package = method_named(name)
    except TomopipeError as error:
        raise ValueError(f"name: got {name!r}; {error}") from None
    if method.needs_file and weights is None:
        raise ValueError(f"weights: {name} needs the file of a network")
    args = (curves, candidates_px, *([weights] if weights else []))
    if package is None:
        ours: Answer = method.load(name)(*args)
        return ours
    who = f"the method {name} of {package}"
    answer = call(who, method.time_limit_s, lambda: method.load(name)(*args))
    if fault := _fault(answer, curves.prepared.n_cols):
        raise TomopipeError(f"{who}: expected {fault}")
    # as JSON takes it: networks give numbers of their own types
    return replace(answer, method=name, confidence=float(answer.confidence))


def package_record(name: str) -> dict[str, Any]:
    """Return what a prediction records of a method of another package; {} of ours."""
    method, package = method_named(name)
    return {"package": str(package), "papers": [*method.papers]} if package else {}


def _fault(answer: object, n_cols: int) -> str:
    """Say what was expected of a package's answer instead of what it is; "" if nothing."""
    if not isinstance(answer, Answer):
        return f"a tomopipe.cor.answer.Answer, got {type(answer).__name__}"
    if answer.verdict not in (*_RANK, "failed"):
        return f"a verdict of {', '.join(_RANK)} or failed, got {answer.verdict!r}"
    cor_px = answer.best_cor_px
    if cor_px is None and answer.verdict not in ("flat", "failed"):
        return f"best_cor_px with the verdict {answer.verdict}, got None"
    if not isinstance(cor_px, Real | None) or (cor_px is not None and not is_valid(cor_px, n_cols)):
        return f"best_cor_px, a number from 0 to {n_cols - 1} (the detector), got {cor_px!r}"
    if not isinstance(answer.confidence, Real) or not 0 <= answer.confidence <= 1:
        return f"a confidence from 0 to 1, got {answer.confidence!r}"
    return _curve_fault(np.asarray(answer.curve_cor_px), np.asarray(answer.curve_score))


def _curve_fault(*curves: NDArray[Any]) -> str:
    """Say what was expected of two arrays instead of what they are; "" if nothing."""
    is_curve = curves[0].shape == curves[1].shape and curves[0].ndim == 1
    if is_curve and all(each.dtype.kind in "iuf" for each in curves):
        return ""
    texts = (f"{each.shape} of {each.dtype}" for each in curves)
    return f"curves of one shape (n,), of numbers, got {', '.join(texts)}"


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
