"""Statistics for finders: shares with intervals, and how far a confidence can be trusted."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A part of n, and the interval of 95 % for the share that it estimates."""

    hits: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Scans of similar confidence: how many, their mean confidence, the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    right: float


def wilson(hits: int, n: int) -> Share:
    """Estimate a share with its Wilson score interval of 95 % [1]_.

    Parameters
    ----------
    hits, n : int
        How many of how many.

    Returns
    -------
    Share
        NaN and the interval 0 to 1 for n = 0.

    Raises
    ------
    ValueError
        Unless 0 <= hits <= n.

    References
    ----------
    .. [1] E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n, got {hits} of {n}")
    if n == 0:
        return Share(0, 0, math.nan, 0.0, 1.0)
    z2 = Z95**2
    middle = (hits + z2 / 2) / (n + z2)
    half = Z95 * math.sqrt(hits * (n - hits) / n + z2 / 4) / (n + z2)
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == n else middle + half
    return Share(hits, n, hits / n, low, high)


def auroc(confidence: ArrayLike, right: ArrayLike) -> float:
    """Return the chance that a right answer has more confidence than a wrong one; ties count half.

    Parameters
    ----------
    confidence : array_like of float, shape (n,)
        Any scale, higher is surer.
    right : array_like of bool, shape (n,)
        Which answers are right.

    Returns
    -------
    float
        0.5 for a constant; NaN unless there are right and wrong ones.
    """
    confidence, right = _checked(confidence, right)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return math.nan
    _, group, count = np.unique(confidence, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[group]
    return float((rank[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def reliability(confidence: ArrayLike, right: ArrayLike, n_bins: int = 10) -> list[Bin]:
    """Compare confidence with the share that is right, in equal steps of confidence.

    Parameters
    ----------
    confidence : array_like of float, shape (n,)
        From 0 to 1.
    right : array_like of bool, shape (n,)
        Which answers are right.
    n_bins : int
        Steps from 0 to 1; each contains its upper end, the first one 0 too.

    Returns
    -------
    list of Bin
        Those that are not empty, ascending.
    """
    confidence, right = _checked(confidence, right)
    edges = np.linspace(0, 1, n_bins + 1)
    group = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    return [
        Bin(
            float(edges[index]),
            float(edges[index + 1]),
            int(chosen.sum()),
            float(confidence[chosen].mean()),
            float(right[chosen].mean()),
        )
        for index in range(n_bins)
        if (chosen := group == index).any()
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Return the mean distance between confidence and share right (ECE), weighted by n."""
    n = sum(bin_.n for bin_ in bins)
    if not n:
        return math.nan
    return sum(bin_.n * abs(bin_.confidence - bin_.right) for bin_ in bins) / n


def brier(confidence: ArrayLike, right: ArrayLike) -> tuple[float, float]:
    """Return the mean squared error of the confidence, and that of the best constant.

    Parameters
    ----------
    confidence : array_like of float, shape (n,)
        From 0 to 1.
    right : array_like of bool, shape (n,)
        Which answers are right.

    Returns
    -------
    of_confidence, of_constant : float
        The constant is the share that is right: a confidence that is not below it says nothing.
    """
    confidence, right = _checked(confidence, right)
    if not right.size:
        return math.nan, math.nan
    share = float(right.mean())
    return float(((confidence - right) ** 2).mean()), share * (1 - share)


def risk_at_coverage(
    confidence: ArrayLike, right: ArrayLike, coverage: ArrayLike
) -> NDArray[np.float64]:
    """Return the share that is wrong among the most confident answers.

    Parameters
    ----------
    confidence : array_like of float, shape (n,)
        Higher is surer.
    right : array_like of bool, shape (n,)
        Which answers are right.
    coverage : array_like of float
        Shares of all answers that are kept, above 0 to 1; at least one answer is kept. Where equal
        confidences straddle the border, the kept ones count by their mean.

    Returns
    -------
    ndarray of float
        Risk at each coverage; NaN without any answer.
    """
    confidence, right = _checked(confidence, right)
    wanted = np.atleast_1d(np.asarray(coverage, dtype=float))
    n = confidence.size
    if not n:
        return np.full(wanted.shape, np.nan)
    _, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, weights=~right)
    ends = np.concatenate([[0.0], np.cumsum(count)])
    totals = np.concatenate([[0.0], np.cumsum(wrong)])
    kept = np.clip(wanted * n, 1, n)
    return np.asarray(np.interp(kept, ends, totals) / kept)


def _checked(
    confidence: ArrayLike, right: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return both as arrays of one length."""
    values, hits = np.asarray(confidence, dtype=float), np.asarray(right, dtype=bool)
    if values.shape != hits.shape or values.ndim != 1:
        raise ValueError(f"expected one confidence per answer; got {values.shape}, {hits.shape}")
    if not np.isfinite(values).all():
        raise ValueError("confidence: expected finite numbers")
    return values, hits
