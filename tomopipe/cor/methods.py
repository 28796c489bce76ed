"""Methods that find the centre of rotation (COR): each makes an `Evidence` of a scan's curves.

`choose` makes one decision of several. A new method is a module with such a function and a line in
`CLASSICAL`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.ai.finder import find_ai
from tomopipe.cor.combine import find_sum
from tomopipe.cor.curves import Curves
from tomopipe.cor.evidence import Evidence
from tomopipe.cor.mass import find_mass
from tomopipe.cor.pairs import find_pairs
from tomopipe.cor.slices import find_slices
from tomopipe.cor.wedge import find_wedge
from tomopipe.errors import TomopipeError

CLASSICAL: dict[str, Callable[[Curves, NDArray[np.float64]], Evidence]] = {
    "pairs": find_pairs,
    "wedge": find_wedge,
    "mass": find_mass,
    "slices": find_slices,
    "sum": find_sum,
}
"""Methods without weights, by the names that the config uses."""
METHODS = (*CLASSICAL, "ai")
"""Names of the methods that need no file of the user's; `dinov2` needs a checkpoint."""

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


def ask(
    name: str,
    curves: Curves,
    candidates_px: NDArray[np.float64],
    weights: str | os.PathLike[str] | None = None,
) -> Evidence:
    """Ask one method about a scan.

    Parameters
    ----------
    name : str
        Of `METHODS`, or "dinov2".
    curves : Curves
        Of the scan; what one method has computed is there for the next.
    candidates_px : ndarray of float, shape (n_candidates,)
        The try grid, unbinned px, ascending.
    weights : str or path-like, optional
        The network of "ai", by default the shipped one, or the checkpoint of "dinov2".

    Returns
    -------
    Evidence
        What it finds.

    Raises
    ------
    TomopipeError
        If weights are missing or damaged, or libraries that dinov2 needs.
    """
    if name == "ai":
        return find_ai(curves, candidates_px, weights or "shipped")
    if name == "dinov2" and weights is not None:
        return _ask_dinov2(curves, candidates_px, weights)
    return CLASSICAL[name](curves, candidates_px)


def _ask_dinov2(
    curves: Curves, candidates_px: NDArray[np.float64], checkpoint: str | os.PathLike[str]
) -> Evidence:
    try:
        from tomopipe.cor.ai.dinov2 import find_dinov2
        from tomopipe.cor.ai.dinov2_checkpoint import read_checkpoint
    except ImportError as error:
        raise TomopipeError(
            f"predict_cor.methods: dinov2 cannot run: {error}. "
            "Install its libraries: pip install 'tomopipe[torch]'"
        ) from error
    return find_dinov2(curves, candidates_px, read_checkpoint(checkpoint))


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
