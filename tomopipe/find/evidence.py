"""What a finder says about one scan, and how a score curve becomes an answer with a doubt."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from tomopipe.io.rows import Rows

NO_SAMPLE = "nothing turns: the sinograms show only noise, drift or fixed patterns"
MIN_ANGLES = 8
AMBIGUOUS_BELOW = 0.25  # confidence
DOUBT_BELOW = 0.6  # confidence under which the evidence names its largest doubt
VERDICTS = ("resolved", "edge", "ambiguous", "flat", "failed")


@dataclass(frozen=True, eq=False)
class Evidence:
    """One method's answer for one scan.

    Attributes
    ----------
    method : str
        Name in `tomopipe.find.METHODS`.
    best_cor_px : float or None
        Best estimate, unbinned px; None only for verdicts flat and failed.
    confidence : float
        0 to 1; above 0.5 the estimate was right within 1 px in all but a few simulated scans.
    verdict : str
        "resolved", "edge" (the best lies on or outside the border of the search), "ambiguous"
        (rivals, or a weak match), "flat" (nothing to see) or "failed".
    reason : str
        Why not resolved, or "".
    curve_cor_px, curve_score : ndarray, shape (n_candidates,)
        Score at each candidate, higher is better.
    """

    method: str
    best_cor_px: float | None
    confidence: float
    verdict: str
    reason: str
    curve_cor_px: NDArray[np.float64]
    curve_score: NDArray[np.float64]


Finder = Callable[[Rows, NDArray[np.float64]], Evidence]


@dataclass(frozen=True)
class Peak:
    """The best local maximum inside the search range, and what speaks against it.

    Attributes
    ----------
    index : int
        Where in the curve.
    height, rival, outside : float
        The curve at the peak, at the best place elsewhere inside the range, and outside of it.
    outside_index : int
        Where in the curve the best place outside is; -1 if nothing lies outside.
    at_border : bool
        The best place inside is the border of the range, not a local maximum.
    """

    index: int
    height: float
    rival: float
    outside: float
    outside_index: int
    at_border: bool

    @property
    def best_index(self) -> int:
        """The best place of all, inside or outside."""
        return self.outside_index if self.outside > self.height else self.index

    @property
    def rivalry(self) -> float:
        """The best place elsewhere, as a share of the peak's height."""
        best_other = max(self.rival, self.outside)
        return best_other / self.height if self.height > 0 else np.inf


def nothing(method: str, verdict: str, reason: str, candidates_px: NDArray[np.float64]) -> Evidence:
    """Return evidence without an estimate: verdict "flat" or "failed", a level curve."""
    level = np.zeros(len(candidates_px))
    return Evidence(method, None, 0.0, verdict, reason, np.asarray(candidates_px, float), level)


def prominence(score: ArrayLike, window: int) -> NDArray[np.float64]:
    """Height of a curve above its slow trend, in units of its usual residual.

    The trend is a running median. The unit is the *mean* absolute residual: the median one is 0
    wherever the running median follows a smooth curve.

    Parameters
    ----------
    score : array_like of float, shape (n,)
        Higher is better.
    window : int
        Width of the running median, samples.

    Returns
    -------
    ndarray of float, shape (n,)
        All 0 for a constant curve.
    """
    score = np.asarray(score, dtype=float)
    window = max(3, min(int(window), len(score)) | 1)
    residual = score - ndimage.median_filter(score, size=window, mode="nearest")
    usual = float(np.mean(np.abs(residual)))
    return residual / usual if usual > 0 else np.zeros_like(score)


def refine_peak(score: ArrayLike, index: int, reach: int = 1) -> float:
    """Sub-sample place of a maximum: the vertex of the parabola fitted around it.

    Parameters
    ----------
    score : array_like of float, shape (n,)
        Higher is better.
    index : int
        The largest sample.
    reach : int
        Samples on each side that the fit uses; fewer near an end, the same on both sides.

    Returns
    -------
    float
        Place in samples, never more than one from `index`; `index` itself at an end or where the
        fit has no maximum.
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


def find_peak(
    score: NDArray[np.float64], inside: NDArray[np.bool_], *, apart: int, lobe: float = 0.5
) -> Peak:
    """Find the best local maximum inside a range and the best places elsewhere.

    Parameters
    ----------
    score : ndarray of float, shape (n,)
        Higher is better, 0 where nothing matches.
    inside : ndarray of bool, shape (n,)
        The search range, one run of True.
    apart : int
        Samples that belong to the peak on each side in any case.
    lobe : float
        The peak also owns its neighbours as far as they stay above this share of its height, and
        no further than 8 times `apart`: a broad peak is not its own rival.

    Returns
    -------
    Peak
        The peak; its own samples are neither rival nor outside.
    """
    where = np.flatnonzero(inside)
    first, last = int(where[0]), int(where[-1])
    index = first + int(np.argmax(score[first : last + 1]))
    at_border = index in (first, last)
    owned = np.zeros(len(score), dtype=bool)
    reach = 8 * apart
    low, high = index, index
    while low > max(0, index - reach) and score[low - 1] > lobe * score[index]:
        low -= 1
    while high < min(len(score) - 1, index + reach) and score[high + 1] > lobe * score[index]:
        high += 1
    owned[max(0, min(low, index - apart)) : max(high, index + apart) + 1] = True
    rivals = score[inside & ~owned]
    out = np.where(inside | owned, -np.inf, score)
    outside_index = int(np.argmax(out))
    has_outside = bool(np.isfinite(out[outside_index]))
    return Peak(
        index=index,
        height=float(score[index]),
        rival=float(rivals.max()) if rivals.size else 0.0,
        outside=float(out[outside_index]) if has_outside else 0.0,
        outside_index=outside_index if has_outside else -1,
        at_border=at_border,
    )


def search_range(
    cor_px: NDArray[np.float64], candidates_px: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which places of a curve lie in the candidates' range, widened by a margin of 4 px or 2 steps.

    Parameters
    ----------
    cor_px : ndarray of float, shape (n,)
        Places of the curve, ascending.
    candidates_px : ndarray of float, shape (n_candidates,)
        The try grid.

    Returns
    -------
    ndarray of bool, shape (n,)
        True inside; all False when the candidates miss the curve.
    """
    low, high = float(np.min(candidates_px)), float(np.max(candidates_px))
    margin = max(4.0, 2.0 * (high - low) / max(len(candidates_px) - 1, 1))
    return (cor_px >= low - margin) & (cor_px <= high + margin)


def judge(
    method: str,
    best_cor_px: float,
    peak: Peak,
    doubts: dict[str, float],
    candidates_px: NDArray[np.float64],
    curve: NDArray[np.float64],
) -> Evidence:
    """Turn a peak and what speaks against it into evidence.

    Parameters
    ----------
    method : str
        Name of the method.
    best_cor_px : float
        The refined best place, inside or outside.
    peak : Peak
        The peak of the method's own curve.
    doubts : dict
        Factor from 0 (fatal) to 1 (none) for each reason to doubt, in words.
    candidates_px, curve : ndarray of float, shape (n_candidates,)
        The try grid and the score on it.

    Returns
    -------
    Evidence
        Confidence is the product of the factors; the reason is the smallest.
    """
    if peak.outside > peak.height or peak.at_border:
        low, high = float(np.min(candidates_px)), float(np.max(candidates_px))
        reason = (
            f"the best match, {best_cor_px:.1f} px, is not inside the candidates "
            f"{low:g} to {high:g}: widen try_recon.width_px or move center_px"
        )
        return Evidence(method, best_cor_px, 0.0, "edge", reason, candidates_px, curve)
    confidence = float(np.prod(list(doubts.values())))
    worst = min(doubts, key=lambda name: doubts[name])
    verdict = "ambiguous" if confidence < AMBIGUOUS_BELOW else "resolved"
    reason = worst if confidence < DOUBT_BELOW else ""
    return Evidence(method, best_cor_px, confidence, verdict, reason, candidates_px, curve)


def ramp(value: float, zero_at: float, one_at: float) -> float:
    """Rise linearly from 0 at `zero_at` to 1 at `one_at` (which may be the smaller), clipped."""
    return float(np.clip((value - zero_at) / (one_at - zero_at), 0.0, 1.0))
