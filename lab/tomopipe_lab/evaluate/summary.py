"""Figures from answers: per method and per kind of scan."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tomopipe_lab.evaluate.answers import Answer
from tomopipe_lab.scores import (
    Bin,
    Share,
    auroc,
    brier,
    calibration_error,
    reliability,
    risk_at_coverage,
    wilson,
)

LIMITS_PX = (0.5, 1.0, 2.0)
WRONG_PX = 1.0  # an accepted value further off is wrong
COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)
ALL = "all"
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Accuracy:
    """One method on the scans of one kind that have an answer.

    Attributes
    ----------
    n : int
        Scans.
    within : tuple of Share
        Best estimates within `LIMITS_PX`; no estimate is a miss.
    median_px, p95_px : float
        Of the error; infinite where so many have no estimate.
    accepted : Share
        Scans with an accepted value.
    wrong : Share
        Accepted values that are off by more than 1 px, of the accepted ones.
    accepted_in_grid : int
        Accepted values inside the try grid (none should be where the answer is outside).
    seconds : float
        Median wall-clock time.
    """

    n: int
    within: tuple[Share, ...]
    median_px: float
    p95_px: float
    accepted: Share
    wrong: Share
    accepted_in_grid: int
    seconds: float


@dataclass(frozen=True)
class Nulls:
    """One method on the scans of one kind that have no answer."""

    n: int
    accepted: Share
    seconds: float


@dataclass(frozen=True)
class Trust:
    """How far the confidence of one method tells right (within 1 px) from wrong.

    Attributes
    ----------
    n : int
        Scans that have an answer.
    auroc : float
        0.5 for a constant; NaN if all are right or all are wrong.
    ece : float
        Mean distance between confidence and share right.
    brier, brier_constant : float
        Mean squared error of the confidence, and of the best constant.
    bins : tuple of Bin
        Confidence against share right.
    risk : tuple of float
        Share wrong among the most confident, at `COVERAGES`.
    """

    n: int
    auroc: float
    ece: float
    brier: float
    brier_constant: float
    bins: tuple[Bin, ...]
    risk: tuple[float, ...]


def accuracy(answers: Sequence[Answer]) -> Accuracy:
    """Summarise answers of one method to scans that have an answer."""
    n = len(answers)
    errors = np.array([answer.error_px for answer in answers])
    taken = [answer for answer in answers if answer.accepted]
    return Accuracy(
        n=n,
        within=tuple(wilson(int((errors <= limit).sum()), n) for limit in LIMITS_PX),
        median_px=_percentile(errors, 50),
        p95_px=_percentile(errors, 95),
        accepted=wilson(len(taken), n),
        wrong=wilson(sum(not answer.is_within(WRONG_PX) for answer in taken), len(taken)),
        accepted_in_grid=sum(answer.accepted_in_grid for answer in answers),
        seconds=_seconds(answers),
    )


def nulls(answers: Sequence[Answer]) -> Nulls:
    """Summarise answers of one method to scans without an answer."""
    taken = sum(answer.accepted for answer in answers)
    return Nulls(len(answers), wilson(taken, len(answers)), _seconds(answers))


def trust(answers: Sequence[Answer]) -> Trust:
    """Compare the confidence of one method with its errors; no estimate counts as wrong."""
    confidence = [answer.confidence for answer in answers]
    right = [answer.is_within(WRONG_PX) for answer in answers]
    bins = reliability(confidence, right)
    of_confidence, of_constant = brier(confidence, right)
    risk = risk_at_coverage(confidence, right, COVERAGES)
    return Trust(
        n=len(answers),
        auroc=auroc(confidence, right),
        ece=calibration_error(bins),
        brier=of_confidence,
        brier_constant=of_constant,
        bins=tuple(bins),
        risk=tuple(float(value) for value in risk),
    )


def by_condition(answer: Answer) -> Iterable[str]:
    """Return the kinds of damage of a scan, and "all"; a scan without an answer: its kind."""
    return (*answer.conditions, ALL)


def by_family(answer: Answer) -> Iterable[str]:
    """Return the kind of object, and "all"."""
    return (answer.family or NO_ANSWER, ALL)


def summarise(
    answers: Sequence[Answer], kinds: Callable[[Answer], Iterable[str]] = by_condition
) -> dict[str, Any]:
    """Return all figures.

    Parameters
    ----------
    answers : sequence of Answer
        Of any methods and scans.
    kinds : callable
        The groups an answer belongs to.

    Returns
    -------
    dict
        "accuracy" and "nulls": {kind: {method: figures}}; "trust": {method: figures}; "failed":
        {method: reasons}.
    """
    failed: dict[str, list[str]] = {}
    having: dict[str, dict[str, list[Answer]]] = {}
    lacking: dict[str, dict[str, list[Answer]]] = {}
    for answer in answers:
        table = lacking if answer.truth_px is None else having
        if answer.verdict == "failed":
            failed.setdefault(answer.method, []).append(answer.reason)
        for kind in kinds(answer):
            table.setdefault(kind, {}).setdefault(answer.method, []).append(answer)
    return {
        "accuracy": _each(having, accuracy),
        "nulls": _each(lacking, nulls),
        "trust": {method: trust(data) for method, data in having.get(ALL, {}).items()},
        "failed": failed,
    }


def _each(
    table: Mapping[str, Mapping[str, list[Answer]]], figure: Callable[[list[Answer]], Any]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each kind, "all" first."""
    kinds = sorted(table, key=lambda kind: (kind != ALL, kind))
    return {kind: {method: figure(data) for method, data in table[kind].items()} for kind in kinds}


def to_plain(value: Any) -> Any:
    """Return figures as numbers, lists and dicts for JSON; not finite numbers become null."""
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "__dataclass_fields__"):
        return to_plain(asdict(value))
    return value


def _percentile(errors_px: np.ndarray, percent: float) -> float:
    """Return a percentile; infinite errors are larger than all others."""
    if not errors_px.size:
        return math.nan
    return float(np.percentile(errors_px, percent, method="higher"))


def _seconds(answers: Sequence[Answer]) -> float:
    return float(np.median([answer.seconds for answer in answers])) if answers else math.nan
