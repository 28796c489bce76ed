"""The answer of a method about one scan, and how a score curve becomes an answer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

NO_SAMPLE = (
    "nothing rotates: the sinograms show only noise, drift or fixed patterns (where the axis is "
    "horizontal: input.axes: [angle, col, row])"
)
MIN_ANGLES = 8
AMBIGUOUS_BELOW = 0.25  # confidence
REASON_BELOW = 0.6  # confidence under which an answer names its largest penalty


@dataclass(frozen=True, eq=False)
class Answer:
    """One method's answer for one scan."""

    method: str  # name in `tomopipe.cor_methods.COR_METHODS`
    best_cor_px: float | None  # best estimate, unbinned px; None only for verdicts flat and failed
    # 0 to 1; above 0.5 the estimate was right within 1 px in all but a few simulated scans
    confidence: float
    # "resolved", "edge" (the best lies on or outside the border of the search), "ambiguous" (a
    # second peak, or a weak match), "flat" (no signal) or "failed"
    verdict: str
    reason: str  # why not resolved, or ""
    # (n_candidates,): score at each candidate, higher is better
    curve_cor_px: NDArray[np.float64]
    curve_score: NDArray[np.float64]


def nothing(method: str, verdict: str, reason: str, candidates_px: NDArray[np.float64]) -> Answer:
    """Return an answer without an estimate: verdict "flat" or "failed", a constant curve."""
    level = np.zeros(len(candidates_px))
    return Answer(method, None, 0.0, verdict, reason, np.asarray(candidates_px, float), level)


def prominence(score: ArrayLike, window: int) -> NDArray[np.float64]:
    """Height of a curve above its running median, in units of its mean absolute residual."""
    score = np.asarray(score, dtype=float)
    window = max(3, min(int(window), len(score)) | 1)
    residual = score - ndimage.median_filter(score, size=window, mode="nearest")
    usual = float(np.mean(np.abs(residual)))  # the mean: the median residual of a smooth curve is 0
    return residual / usual if usual > 0 else np.zeros_like(score)


def refine_peak(score: ArrayLike, index: int, reach: int = 1) -> float:
    """Vertex, in samples, of the parabola about a maximum: within 1 of `index`, or `index`."""
    score = np.asarray(score, dtype=float)
    reach = min(reach, index, len(score) - 1 - index)
    if reach < 1:
        return float(index)
    offset = np.arange(-reach, reach + 1)
    curvature, slope, _ = np.polyfit(offset, score[index - reach : index + reach + 1], 2)
    if not curvature < 0:
        return float(index)
    return index + float(np.clip(-slope / (2 * curvature), -1.0, 1.0))


def make_answer(
    method: str,
    best_cor_px: float,
    confidence: float,
    penalty: str,
    candidates_px: NDArray[np.float64],
    curve: NDArray[np.float64],
    *,
    on_border: bool,
) -> Answer:
    """Make an answer from the best position; `penalty` names what lowers its confidence most.

    "edge" without confidence if the best position is on the border of the detector, or outside of
    the candidates, by more than 4 px and 2 steps, with a confidence from 0.25 to 0.6.
    """
    low, high = float(np.min(candidates_px)), float(np.max(candidates_px))
    outside = f"outside of the candidates {low:g} to {high:g}"
    margin = max(4.0, 2.0 * (high - low) / max(len(candidates_px) - 1, 1))
    inside = low - margin <= best_cor_px <= high + margin
    reason = "" if inside else f"found {outside}, on the whole detector"
    verdict = "resolved"
    if on_border:
        reason = (
            f"the best position, {best_cor_px:.1f} px, is on the border of the detector; an axis "
            "beyond the columns in use has no COR: measure again with it inside, or use more "
            "(input.columns)"
        )
        verdict = "edge"
    elif confidence < AMBIGUOUS_BELOW:
        reason, verdict = penalty, "ambiguous"
    elif confidence < REASON_BELOW and not inside:
        reason = (
            f"the best position, {best_cor_px:.1f} px, is {outside}, and {penalty}: look there "
            "(try_recon.width_px, try_recon.center_px)"
        )
        verdict = "edge"
    elif confidence < REASON_BELOW:
        reason = penalty
    confidence = 0.0 if verdict == "edge" else confidence
    return Answer(method, best_cor_px, confidence, verdict, reason, candidates_px, curve)
