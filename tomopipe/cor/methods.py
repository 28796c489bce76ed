"""Methods that find the centre of rotation (COR): each makes an `Answer` of a scan's curves.

`choose` makes one decision of several. A new method is a module with such a function and a line in
`CLASSICAL`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tomopipe.cor.ai.finder import find_ai
from tomopipe.cor.answer import Answer
from tomopipe.cor.cor_value import format_confidence
from tomopipe.cor.curves import Curves
from tomopipe.cor.evidence_sum import find_sum
from tomopipe.cor.registration import find_registration
from tomopipe.errors import TomopipeError

CLASSICAL: dict[str, Callable[[Curves, NDArray[np.float64]], Answer]] = {
    "sum": find_sum,
    "registration": find_registration,
}
"""Methods without weights, by the names that the config uses."""

CONFIRMS_PX = 2.0  # another method as near as that confirms `ai` without confidence
# Verdicts by how useful their estimates are to a person.
_RANK = {"resolved": 0, "ambiguous": 1, "edge": 2, "flat": 3, "failed": 4}


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
    """Ask one method, of `METHODS` or "dinov2", about a scan.

    What one method has computed of the curves is there for the next. Candidates (n_candidates,) are
    the try grid, unbinned px, ascending. `weights`: the network of "ai", by default the shipped
    one, or the checkpoint of "dinov2". A TomopipeError says that weights are missing or damaged, or
    libraries that dinov2 needs.
    """
    if name == "ai":
        return find_ai(curves, candidates_px, weights or "shipped")
    if name == "dinov2" and weights is not None:
        return _ask_dinov2(curves, candidates_px, weights)
    return CLASSICAL[name](curves, candidates_px)


def _ask_dinov2(
    curves: Curves, candidates_px: NDArray[np.float64], checkpoint: str | os.PathLike[str]
) -> Answer:
    try:
        from tomopipe.cor.ai.dinov2 import find_dinov2
        from tomopipe.cor.ai.dinov2_network import read_checkpoint
    except ImportError as error:
        raise TomopipeError(
            f"predict_cor.methods: dinov2 cannot run: {error}. "
            "Install its libraries: pip install 'tomopipe[torch]'"
        ) from error
    return find_dinov2(curves, candidates_px, read_checkpoint(checkpoint))


def choose(answers: Sequence[Answer], min_confidence: float, apart_px: float) -> Decision:
    """Decide: the first method that is confident wins, unless another one contradicts it.

    Answers, at least one, are in the order of preference. An accepted COR has at least
    `min_confidence`; two confident methods further apart than `apart_px` (`Curves.reach_px`)
    contradict each other.

    If no method is confident, no COR is accepted: the estimate of `ai`, or else the best one, with
    the reason. A contradiction: "ambiguous"; without confidence `ai` contradicts what is more than
    2 px away. A method that failed makes the decision "failed", whatever the others say, but for
    `ai` beside `sum`: then the reason says why `ai` has no answer.
    """
    if not answers:
        raise ValueError("answers: expected at least one method's, got none")
    spared = {"ai"} if any(answer.method == "sum" for answer in answers) else set()
    for answer in answers:
        if answer.verdict == "failed" and answer.method not in spared:
            return Decision(None, None, 0.0, "failed", answer.method, _with_reason(answer))
    confident = [
        answer
        for answer in answers
        if answer.verdict == "resolved" and answer.confidence >= min_confidence
    ]
    if not confident:
        return _undecided(answers, min_confidence)
    first = confident[0]
    for other in answers:
        limit_px = apart_px if other in confident else CONFIRMS_PX if other.method == "ai" else None
        away_px = _apart_px(first, other)
        if limit_px is not None and away_px is not None and away_px > limit_px:
            return _contradiction(first, other)
    best_px, why_not_ai = first.best_cor_px, _no_answer_of_ai(answers, first, min_confidence)
    reason = "; ".join(filter(None, [first.reason, why_not_ai]))
    return Decision(best_px, best_px, first.confidence, "resolved", first.method, reason)


def _apart_px(first: Answer, other: Answer) -> float | None:
    if first.best_cor_px is None or other.best_cor_px is None:
        return None
    return abs(first.best_cor_px - other.best_cor_px)


def _contradiction(first: Answer, other: Answer) -> Decision:
    reason = " and ".join(
        f"{answer.method} finds {answer.best_cor_px:.2f} px ({answer.confidence:.2f})"
        for answer in (first, other)
    )
    confidence = min(first.confidence * (1.0 - other.confidence), other.confidence)
    return Decision(first.best_cor_px, None, confidence, "ambiguous", first.method, reason)


def _no_answer_of_ai(answers: Sequence[Answer], first: Answer, min_confidence: float) -> str:
    """Say why another method answers instead of `ai`, asked before it; "" where none does."""
    before = answers[: answers.index(first)]
    return "; ".join(
        f"no COR by {answer.method}: {answer.reason or _too_low(answer, min_confidence)}"
        for answer in before
        if answer.method == "ai"
    )


def _with_reason(answer: Answer) -> str:
    return f"{answer.method}: {answer.reason}"


def _too_low(answer: Answer, min_confidence: float) -> str:
    shown = format_confidence(answer.confidence, min_confidence)
    return f"confidence {shown}, {min_confidence:g} needed"


def _undecided(answers: Sequence[Answer], min_confidence: float) -> Decision:
    """Take the best estimate for people to start from, that of `ai`; accept none."""
    trusted = [answer for answer in answers if answer.method == "ai" and answer.verdict != "failed"]
    best = min(trusted or answers, key=lambda answer: (_RANK[answer.verdict], -answer.confidence))
    worded = f"{best.method}: {best.reason or 'low confidence'}"
    if best.verdict == "resolved":
        worded += f" ({_too_low(best, min_confidence)})"
    failed = [f"failed, {_with_reason(answer)}" for answer in answers if answer.verdict == "failed"]
    reason = "; ".join([worded, *failed])
    return Decision(best.best_cor_px, None, best.confidence, best.verdict, best.method, reason)
