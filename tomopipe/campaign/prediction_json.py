"""A prediction.json as the records that report, review page and fix_cor read."""

import math
from collections.abc import Mapping
from operator import lt
from typing import Any

from tomopipe.campaign.results import ROLL, Curve, Model, Prediction
from tomopipe.storage.json_files import number, part, text, texts

_LEAST_ERRORS = 3  # that a roll or pitch must be to be stated
_LEAST_ERROR = 0.01  # of the two decimals of a roll


def parse_prediction(data: Mapping[str, Any], *, points: bool = True) -> Prediction:
    """Make a Prediction from prediction.json, optionally without the points of curves."""
    model = part(data, "model")
    return Prediction(
        best_cor_px=number(data.get("best_cor_px")),
        cor_px=number(data.get("cor_px")),
        confidence=number(data.get("confidence")),
        verdict=text(data.get("verdict")),
        method=text(data.get("method")),
        reason=text(data.get("reason")),
        curves=parse_curves(data, points=points),
        model=Model(name, text(model.get("sha256"))) if (name := text(model.get("name"))) else None,
        roll_px_per_100_rows=_roll(data),
        roll_deg=number(data.get(ROLL)),
        pitch_deg=_pitch_deg(part(data, "pitch")),
        lacks_pitch=data.get("pitch", ...) is None,
        warnings=texts(data.get("warnings")),
        doubts=texts(data.get("doubts")),
    )


def _roll(data: Mapping[str, Any]) -> str:
    """Return the roll and its error (pixels per 100 rows), or "" where it may be noise."""
    px, error_px = (number(data.get(f"roll_{of}px_per_100_rows")) for of in ("", "error_"))
    if px is None or error_px is None:
        return ""
    error_px = max(error_px, _LEAST_ERROR)
    return f"{px:+.2f} ± {error_px:.2f}" if abs(px) >= _LEAST_ERRORS * error_px else ""


def _pitch_deg(pitch: Mapping[str, Any]) -> str:
    """Return the angle and its error (degrees), or "" where it may be noise."""
    deg, error_deg = number(pitch.get("deg")), number(pitch.get("error_deg"))
    if deg is None or error_deg is None or abs(deg) < _LEAST_ERRORS * error_deg:
        return ""
    return f"{abs(deg):.2f} ± {error_deg:.2f}"


def parse_curves(data: Mapping[str, Any], *, points: bool = True) -> tuple[Curve, ...]:
    """Return the curve of each method of a prediction.json."""
    return tuple(
        _parse_curve(name, method if points else method | {"curve": None})
        for name, method in part(data, "methods").items()
        if isinstance(method, dict)
    )


def parse_evidence(data: Mapping[str, Any]) -> tuple[Curve, ...]:
    """Return the curves of evidence in a prediction.json (method ai)."""
    evidence = part(data, "evidence")
    return tuple(
        _parse_curve(kind, {"curve": {"cor_px": evidence.get("cor_px"), "score": score}})
        for kind, score in part(evidence, "score").items()
    )


def _parse_curve(name: str, method: Mapping[str, Any]) -> Curve:
    curve = part(method, "curve")
    cor_px, score = curve.get("cor_px"), curve.get("score")
    valid_px, scores = _points(cor_px, score)
    return Curve(
        method=name,
        best_cor_px=number(method.get("best_cor_px")),
        confidence=number(method.get("confidence")),
        cor_px=valid_px,
        score=scores,
        package=text(method.get("package")),
        papers=texts(method.get("papers")),
    )


def _points(cor_px: object, score: object) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the points that are numbers, in order of COR, as nearly all lists are."""
    if not isinstance(cor_px, list) or not isinstance(score, list):
        return (), ()
    are_numbers = len(cor_px) == len(score) and _are_finite(cor_px) and _are_finite(score)
    if are_numbers and all(map(lt, cor_px, cor_px[1:])):
        return tuple(cor_px), tuple(score)
    read = zip(map(number, cor_px), map(number, score), strict=False)
    pairs = sorted((x, y) for x, y in read if x is not None and y is not None)
    valid_px, scores = zip(*pairs, strict=True) if pairs else ((), ())
    return valid_px, scores


def _are_finite(values: list[Any]) -> bool:
    return {*map(type, values)} == {float} and math.isfinite(sum(values))
