"""Decide the state of a scan, and say in one line why it is in it."""

from collections.abc import Iterable
from dataclasses import replace

from tomopipe.cor.rules import NOT_ASKED
from tomopipe.report.records import Failure, Fix, Prediction

_EARLY_STEPS = frozenset({"try_recon", "predict_cor"})
_STATE_OF_SOURCE = {
    "manual": "manual",
    "outlier": "fixed",
    "neighbours": "filled",
    "series-mean": "filled",
    "default": "filled",
}


def state_of(
    *,
    select: str,
    keep: bool | None,
    cor_source: str | None,
    decided: bool,
    fix: Fix | None,
    prediction: Prediction | None,
    failures: Iterable[Failure],
    has_default: bool,
) -> str:
    """Name the state of one scan.

    Parameters
    ----------
    select : str
        The column of the campaign table.
    keep : bool or None
        The judgement of the inventory, `select: yes` heeded; None if not yet made.
    cor_source : str or None
        The source in cor.json; None if the scan is not in it.
    decided : bool
        True if cor.json is there.
    fix, prediction
        What fix_cor and predict_cor wrote, None if not yet.
    failures : iterable of Failure
        Failures that stand: of a job whose output is missing.
    has_default : bool
        True if the config gives a COR for scans that have none.

    Returns
    -------
    str
        One of STATES.
    """
    if select == "no":
        return "unchecked"
    if keep is False:
        return "skipped"
    died = {failure.step for failure in failures}
    if died - _EARLY_STEPS:
        return "failed"
    if cor_source is not None:
        return _STATE_OF_SOURCE.get(cor_source, "ok")
    # With `on_missing: block` there is no cor.json, and the tables of fix_cor tell.
    no_cor = decided or (fix is not None and fix.after_px is None and not has_default)
    if died or (no_cor and prediction is not None and prediction.verdict == "failed"):
        return "failed"
    return "unresolved" if no_cor else "pending"


def reason_of(
    state: str,
    *,
    inventory_reason: str,
    failures: Iterable[Failure],
    fix: Fix | None,
    prediction: Prediction | None,
) -> str:
    """Say in one line why a scan is in its state; "" where there is nothing to say."""
    parts: list[str] = []
    if state == "skipped":
        return inventory_reason
    parts += [f"{f.step}: {f.reason}" for f in failures]
    if fix is not None and fix.reason:
        parts.append(fix.reason)
    if fix is not None and fix.neighbours:
        parts.append(f"mean of {' and '.join(fix.neighbours)}")
    if prediction is not None and prediction.cor_px is None and state != "manual":
        # the table of fix_cor has the reason of a prediction that nothing could replace
        said = fix is not None and f"(prediction: {prediction.reason})" in fix.reason
        parts.append(not_accepted(replace(prediction, reason="") if said else prediction))
    return "; ".join(dict.fromkeys(parts))


def not_accepted(prediction: Prediction) -> str:
    """Say why a prediction did not become a COR."""
    if prediction.reason == NOT_ASKED:
        return NOT_ASKED
    verdict = prediction.verdict or "unknown"
    if verdict == "failed":
        return f"prediction failed: {prediction.reason or 'no reason given'}"
    best = "no estimate" if prediction.best_cor_px is None else f"best {prediction.best_cor_px:.2f}"
    sure = "" if prediction.confidence is None else f", confidence {prediction.confidence:.2f}"
    why = f": {prediction.reason}" if prediction.reason else ""
    return f"prediction not accepted ({verdict}, {best}{sure}){why}"
