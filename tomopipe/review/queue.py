"""The queue: every scan with its state, the ones that need a person first."""

from collections.abc import Container, Mapping
from typing import Any

from tomopipe.cor.rules import is_valid, parse_cor
from tomopipe.report.records import CampaignRecord, ScanRecord

#: States of the page, with what they mean, in the order of the queue.
STATES: Mapping[str, str] = {
    "needs eyes": "no trusted COR: low confidence, or methods that disagree",
    "fixed": "outlying COR replaced from its neighbours",
    "filled": "no COR of its own: neighbours, series mean or default",
    "failed": "a step failed",
    "ok": "predicted COR used as it is",
    "pending": "not yet predicted",
    "manual": "COR set by hand",
    "skipped": "kept out by the inventory",
    "unselected": "select: no",
}
_ORDER = {state: place for place, state in enumerate(STATES)}


def queue_entries(
    record: CampaignRecord,
    cells: Mapping[str, Mapping[str, str]],
    known: Container[str],
) -> list[dict[str, Any]]:
    """List the scans of a campaign, worst first.

    Parameters
    ----------
    record : CampaignRecord
        What the results say.
    cells : mapping
        Scan to its cells of the campaign table, as they are now.

    known : container of str
        The scans of the campaign; what else the inventory lists has no name to work with.

    Returns
    -------
    list of dict
        What the page shows of each scan.
    """
    alerts: dict[str, list[str]] = {}
    for group in record.alerts:
        if group.level != "info":
            for alert in group.alerts:
                alerts.setdefault(alert.scan.name, []).append(alert.text)
    entries = [
        _entry(scan, cells.get(scan.name, {}), alerts.get(scan.name, []))
        | {"refused": scan.name not in known}
        for scan in record.scans
    ]
    return sorted(entries, key=_worst_first)


def page_state(scan: ScanRecord, cells: Mapping[str, str], *, doubtful: bool) -> str:
    """Name the state of a scan on the page; a decision counts before the next run.

    Parameters
    ----------
    scan : ScanRecord
        What the results say.
    cells : mapping
        Its row of the campaign table now.
    doubtful : bool
        True if the report lists it among the doubtful.
    """
    select = cells.get("select", "auto")
    if select == "no":
        return "unselected"
    if scan.state == "skipped" and select != "yes":
        return "skipped"
    n_cols = scan.shape[2] if scan.shape else None
    manual_px = parse_cor(cells.get("cor_px", ""))
    if manual_px is not None and (n_cols is None or is_valid(manual_px, n_cols)):
        # a COR by hand deals with a failed prediction, not with a failed reconstruction
        return "failed" if scan.state == "failed" and _died_late(scan) else "manual"
    if scan.state in ("unchecked", "skipped"):
        return "pending"
    if scan.state == "manual" and _is_by_file(scan):
        return "manual"
    return _state_without_hand(scan, doubtful=doubtful)


def _state_without_hand(scan: ScanRecord, *, doubtful: bool) -> str:
    if scan.state in ("fixed", "filled", "failed"):
        return scan.state
    if scan.state == "pending" and scan.prediction is None:
        return "pending"
    # the run may have used a manual COR that was taken away since
    taken_away = scan.state == "manual" and _untrusted(scan)
    return "needs eyes" if doubtful or taken_away or scan.state == "unresolved" else "ok"


def shown_cor(scan: ScanRecord, manual: str) -> float | None:
    """Return the COR to show first: by hand, resolved, fixed, or the best estimate there is."""
    fix, prediction = scan.fix, scan.prediction
    for value in (
        parse_cor(manual),
        scan.cor_px,
        fix.after_px if fix else None,
        prediction.best_cor_px if prediction else None,
    ):
        if value is not None:
            return round(value, 4)
    return None


def _entry(scan: ScanRecord, cells: Mapping[str, str], alerts: list[str]) -> dict[str, Any]:
    manual = cells.get("cor_px", "")
    prediction = scan.prediction
    state = page_state(scan, cells, doubtful=bool(alerts))
    waiting = scan.state not in ("skipped", "unchecked") or state not in ("skipped", "unselected")
    return {
        "scan": scan.name,
        "series": scan.series,
        "index": scan.index,
        "state": state,
        "cor_px": shown_cor(scan, manual),
        "source": "manual" if parse_cor(manual) is not None else scan.source,
        "confidence": prediction.confidence if prediction else None,
        "why": "; ".join(alerts) or scan.reason,
        "select": cells.get("select", "auto") or "auto",
        "manual": manual,
        "note": cells.get("note", ""),
        "rerun": waiting and _differs(scan, manual),
    }


def _differs(scan: ScanRecord, manual: str) -> bool:
    """Tell whether the table says something else than what the results were made with."""
    manual_px = parse_cor(manual)
    if manual_px is None:
        return scan.source == "manual" and not _is_by_file(scan)
    if scan.cor_px is None:
        return True
    was_px = scan.fix.before_px if scan.source == "outlier" and scan.fix else scan.cor_px
    return scan.source not in ("manual", "outlier") or was_px != round(manual_px, 2)


def _worst_first(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    sure = entry["confidence"]
    within = sure if sure is not None and entry["state"] in ("needs eyes", "fixed", "ok") else 0.0
    return (
        _ORDER[entry["state"]],
        entry["cor_px"] is not None,
        within,
        entry["series"],
        entry["index"],
        entry["scan"],
    )


def _untrusted(scan: ScanRecord) -> bool:
    """Tell whether a scan whose manual COR was taken away has no trusted one left."""
    return scan.prediction is None or scan.prediction.cor_px is None


def _is_by_file(scan: ScanRecord) -> bool:
    return scan.fix is not None and scan.fix.by_file


def _died_late(scan: ScanRecord) -> bool:
    return any(f.step not in ("try_recon", "predict_cor") for f in scan.failures)
