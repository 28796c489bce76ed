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

    method: str  # name in `tomopipe.config.METHODS`
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


@dataclass(frozen=True)
class Peak:
    """The best local maximum of a curve over the whole detector, and the second peak."""

    index: int  # in the curve
    height: float
    second_height: float  # the best position elsewhere
    at_border: bool  # the best position is an end of the curve, not a local maximum

    @property
    def second_ratio(self) -> float:
        """Height of the second peak over that of the best one."""
        return self.second_height / self.height if self.height > 0 else np.inf


def nothing(method: str, verdict: str, reason: str, candidates_px: NDArray[np.float64]) -> Answer:
    """Return an answer without an estimate: verdict "flat" or "failed", a constant curve."""
    level = np.zeros(len(candidates_px))
    return Answer(method, None, 0.0, verdict, reason, np.asarray(candidates_px, float), level)


def prominence(score: ArrayLike, window: int) -> NDArray[np.float64]:
    """Height of a curve above its running median in units of its mean absolute residual, or 0.

    The unit is the *mean* absolute residual: the median one is 0 wherever the running median
    follows a smooth curve.
    """
    score = np.asarray(score, dtype=float)
    window = max(3, min(int(window), len(score)) | 1)
    residual = score - ndimage.median_filter(score, size=window, mode="nearest")
    usual = float(np.mean(np.abs(residual)))
    return residual / usual if usual > 0 else np.zeros_like(score)


def refine_peak(score: ArrayLike, index: int, reach: int = 1) -> float:
    """Position, in samples, of the vertex of the parabola fitted around a maximum.

    Never more than one from `index`; `index` itself at an end or where the fit has no maximum.
    """
    score = np.asarray(score, dtype=float)
    reach = min(reach, index, len(score) - 1 - index)
    if reach < 1:
        return float(index)
    offset = np.arange(-reach, reach + 1)
    curvature, slope, _ = np.polyfit(offset, score[index - reach : index + reach + 1], 2)
    if not curvature < 0:
        return float(index)
    return index + float(np.clip(-slope / (2 * curvature), -1.0, 1.0))


def find_peak(score: NDArray[np.float64], *, apart: int) -> Peak:
    """Find the best local maximum of a curve and the second peak elsewhere.

    To the peak belong `apart` samples on each side, and its neighbours above half of its height,
    up to 8 times `apart`: a broad peak is not its own second peak.
    """
    index = int(np.argmax(score))
    reach = 8 * apart
    low, high = index, index
    while low > max(0, index - reach) and score[low - 1] > 0.5 * score[index]:
        low -= 1
    while high < min(len(score) - 1, index + reach) and score[high + 1] > 0.5 * score[index]:
        high += 1
    owned = np.zeros(len(score), dtype=bool)
    owned[max(0, min(low, index - apart)) : max(high, index + apart) + 1] = True
    elsewhere = score[~owned]
    return Peak(
        index=index,
        height=float(score[index]),
        second_height=float(elsewhere.max()) if elsewhere.size else 0.0,
        at_border=index in (0, len(score) - 1),
    )


def near_candidates(cor_px: float, candidates_px: NDArray[np.float64]) -> bool:
    """Whether a COR lies in the candidates' range, widened by 4 px or 2 steps."""
    low, high = float(np.min(candidates_px)), float(np.max(candidates_px))
    margin = max(4.0, 2.0 * (high - low) / max(len(candidates_px) - 1, 1))
    return low - margin <= cor_px <= high + margin


def answer_of_peak(
    method: str,
    best_cor_px: float,
    peak: Peak,
    penalties: dict[str, float],
    candidates_px: NDArray[np.float64],
    curve: NDArray[np.float64],
) -> Answer:
    """Make an answer of a peak and its penalties.

    Penalties are factors, 0 (fatal) to 1, by their reason: the confidence is their product, the
    reason that of the smallest. "edge" without confidence if the best position is on the border of
    the detector, or outside of the candidates with a confidence under 0.6.
    """
    confidence = float(np.prod(list(penalties.values())))
    worst = min(penalties, key=lambda name: penalties[name])
    if peak.at_border:
        reason = f"the best match, {best_cor_px:.1f} px, is on the border of the detector"
        return Answer(method, best_cor_px, 0.0, "edge", reason, candidates_px, curve)
    reason = worst if confidence < REASON_BELOW else ""
    if not near_candidates(best_cor_px, candidates_px):
        low, high = float(np.min(candidates_px)), float(np.max(candidates_px))
        if confidence < REASON_BELOW:
            reason = (
                f"the best match, {best_cor_px:.1f} px, is not inside the candidates {low:g} to "
                f"{high:g}, and {worst}: look there (try_recon.width_px, try_recon.center_px)"
            )
            return Answer(method, best_cor_px, 0.0, "edge", reason, candidates_px, curve)
        reason = f"found outside of the candidates {low:g} to {high:g}, on the whole detector"
    verdict = "ambiguous" if confidence < AMBIGUOUS_BELOW else "resolved"
    return Answer(method, best_cor_px, confidence, verdict, reason, candidates_px, curve)


def ramp(value: float, zero_at: float, one_at: float) -> float:
    """Rise linearly from 0 at `zero_at` to 1 at `one_at` (which may be the smaller), clipped."""
    return float(np.clip((value - zero_at) / (one_at - zero_at), 0.0, 1.0))
