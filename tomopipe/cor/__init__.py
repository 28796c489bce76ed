"""Finders of the centre of rotation (COR): one module per kind of evidence.

A finder takes the rows of one scan and the try grid and returns `Evidence`; `choose` makes one
decision of several. A new kind of evidence is a module with such a function and a line in
`DIRECT`, or in `finders` if it looks at slices: this package reconstructs nothing itself.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tomopipe.cor.ai.finder import ai_finder
from tomopipe.cor.combine import sum_finder
from tomopipe.cor.evidence import Evidence, Finder
from tomopipe.cor.mass import find_mass
from tomopipe.cor.pairs import find_pairs
from tomopipe.cor.slices import Reconstruct, slice_finder
from tomopipe.cor.wedge import find_wedge

__all__ = ["DIRECT", "METHODS", "Decision", "Evidence", "Finder", "choose", "finders"]

DIRECT: dict[str, Finder] = {
    "pairs": find_pairs,
    "wedge": find_wedge,
    "mass": find_mass,
}
"""Finders that need no slices, by name."""
METHODS = (*DIRECT, "slices", "sum", "ai")
"""Names of all finders, as the config uses them."""

DISAGREE_PX = 2.0
# Estimates of these verdicts are of use to a person, the first ones more.
_RANK = {"resolved": 0, "ambiguous": 1, "edge": 2, "flat": 3, "failed": 4}


@dataclass(frozen=True)
class Decision:
    """What the evidence of one scan comes to.

    Attributes
    ----------
    best_cor_px : float or None
        Best estimate; None only for verdicts flat and failed.
    cor_px : float or None
        The accepted COR: best_cor_px if the verdict is resolved and the confidence suffices.
    confidence : float
        0 to 1.
    verdict, method, reason : str
        As in `Evidence`; the method whose estimate it is.
    """

    best_cor_px: float | None
    cor_px: float | None
    confidence: float
    verdict: str
    method: str
    reason: str


def finders(
    reconstruct: Reconstruct, model: str | os.PathLike[str] = "shipped"
) -> dict[str, Finder]:
    """Return all finders by name.

    Parameters
    ----------
    reconstruct : callable
        Makes slices of one sinogram at several CORs (`tomopipe.cor.slices.Reconstruct`).
    model : str or path-like
        The network of "ai": "shipped", or weights of `tomopipe train`.

    Returns
    -------
    dict
        A finder for each of `METHODS`.
    """
    return {
        **DIRECT,
        "slices": slice_finder(reconstruct),
        "sum": sum_finder(reconstruct),
        "ai": ai_finder(reconstruct, model),
    }


def choose(evidence: Sequence[Evidence], min_confidence: float) -> Decision:
    """Decide: the first method that is confident wins, unless another confident one disagrees.

    Parameters
    ----------
    evidence : sequence of Evidence
        In the order of preference; at least one.
    min_confidence : float
        Least confidence, 0 to 1, of an accepted COR.

    Returns
    -------
    Decision
        Nobody confident: no COR accepted, and the best estimate with its doubt. Two confident
        methods more than 2 px apart: "ambiguous". A method that failed makes the decision
        "failed", whatever the others say: none silently takes the place of another.

    Raises
    ------
    ValueError
        If `evidence` is empty.
    """
    if not evidence:
        raise ValueError("evidence: expected at least one method's, got none")
    for one in evidence:
        if one.verdict == "failed":
            return Decision(None, None, 0.0, "failed", one.method, f"{one.method}: {one.reason}")
    confident = [
        one for one in evidence if one.verdict == "resolved" and one.confidence >= min_confidence
    ]
    if not confident:
        return _undecided(evidence, min_confidence)
    first = confident[0]
    for other in confident[1:]:
        if abs(_place(other) - _place(first)) > DISAGREE_PX:
            reason = (
                f"{first.method} finds {_place(first):.2f} px, "
                f"{other.method} finds {_place(other):.2f} px"
            )
            confidence = first.confidence * (1.0 - other.confidence)
            return Decision(first.best_cor_px, None, confidence, "ambiguous", first.method, reason)
    best = first.best_cor_px
    return Decision(best, best, first.confidence, "resolved", first.method, first.reason)


def _undecided(evidence: Sequence[Evidence], min_confidence: float) -> Decision:
    """Take the most trusted estimate for people to start from; accept nothing."""
    best = min(evidence, key=lambda one: (_RANK[one.verdict], -one.confidence))
    said = f"{best.method}: {best.reason}" if best.reason else f"{best.method} is unsure"
    if best.verdict == "resolved":
        said += f" (confidence {best.confidence:.2f}, {min_confidence:g} needed)"
    return Decision(best.best_cor_px, None, best.confidence, best.verdict, best.method, said)


def _place(evidence: Evidence) -> float:
    """The estimate of evidence that is resolved, which always has one."""
    assert evidence.best_cor_px is not None
    return evidence.best_cor_px
