"""The queue: every scan with its state, those that need a person first."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tomopipe.campaign.signs import SIGNS, State
from tomopipe.campaign.state import DECIDED, NOT_SELECTED, TO_REVIEW
from tomopipe.cor.cor_value import CorText
from tomopipe.report.records import ScanRecord

#: States with what they mean, in the order of the queue.
STATES: Mapping[State, str] = {
    state: SIGNS[state].meaning
    for state in (
        *(State.UNRESOLVED, State.DOUBTFUL, State.FIXED, State.FILLED, State.FAILED),
        *(State.OK, State.PENDING, State.MANUAL, State.SKIPPED, State.UNSELECTED),
    )
}
#: Sets of states that the page asks for.
SETS = {"not_selected": NOT_SELECTED, "decided": DECIDED, "to_review": TO_REVIEW}
_ORDER = {state: number for number, state in enumerate(STATES)}


def queue_entries(
    scans: Iterable[ScanRecord],
    cells: Mapping[str, Mapping[str, str]],
    known: Container[str],
) -> list[dict[str, Any]]:
    """List the scans of a campaign, worst first: the facts of each for the page.

    `cells` are the present ones of the campaign table. `known` are the scans of the campaign; other
    rows of the inventory have no usable name.
    """
    entries = [
        _entry(scan, cells.get(scan.name, {})) | {"refused": scan.name not in known}
        for scan in scans
    ]
    return sorted(entries, key=_worst_first)


def shown_cor(scan: ScanRecord) -> float | None:
    """Return the COR to show first: by hand, resolved, fixed, or the best estimate there is."""
    cor_px = scan.best_px if scan.manual.px is None else scan.manual.px
    return None if cor_px is None else round(cor_px, 4)


def _entry(scan: ScanRecord, cells: Mapping[str, str]) -> dict[str, Any]:
    select, manual = cells.get("select") or "auto", CorText(cells.get("cor_px", ""))
    scan = replace(scan, select=select, manual=manual)
    state, prediction = scan.state, scan.prediction
    return {
        "scan": scan.name,
        "series": scan.series,
        "index": scan.index,
        "state": state,
        "cor_px": shown_cor(scan),
        "source": scan.source if manual.px is None else "manual",
        "confidence": prediction.confidence if prediction else None,
        "predicted_px": prediction.cor_px if prediction else None,
        "confident_outlier": bool(scan.of_another_series),
        "first": state is State.DOUBTFUL and scan.is_confident_outlier,
        "why": scan.why,
        "warnings": [] if scan.state in NOT_SELECTED else list(scan.warnings_beside),
        "select": select,
        "manual": manual.text,
        "note": cells.get("note", ""),
        "swept": scan.swept,
        "rerun": state not in NOT_SELECTED and scan.is_edited,
    }


def _worst_first(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    confidence = entry["confidence"]
    by_confidence = entry["state"] in (State.UNRESOLVED, State.DOUBTFUL, State.FIXED, State.OK)
    # as it is shown: equal ones stay in the order of the scans
    within = round(confidence, 2) if confidence is not None and by_confidence else 0.0
    return (
        not entry["first"],
        _ORDER[entry["state"]],
        entry["cor_px"] is not None,
        entry["state"] is State.OK and not entry["warnings"],
        within,
        entry["series"],
        entry["index"],
        entry["scan"],
    )
