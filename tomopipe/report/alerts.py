"""What of a campaign needs a person first."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tomopipe.cor.rules import is_valid, off_detector, parse_cor, shown
from tomopipe.report.records import Alert, AlertGroup, ScanRecord
from tomopipe.report.states import not_accepted

#: Confident methods further apart than this are shown, in pixels.
_DISAGREE_PX = 2.0
#: An accepted confidence less than this above the limit is shown.
_BARELY = 0.1


@dataclass(frozen=True)
class _Kind:
    """One kind of trouble: `says` gives the line for a scan, "" if it has none of it."""

    title: str
    level: str
    advice: str
    says: Callable[[ScanRecord, float], str]
    once: bool = True  # only for scans that no worse kind has listed
    order: Callable[[ScanRecord], float] | None = None


def alert_groups(scans: Iterable[ScanRecord], *, min_confidence: float) -> tuple[AlertGroup, ...]:
    """List what needs attention, the worst kind first.

    Parameters
    ----------
    scans : iterable of ScanRecord
        The scans, in the order to list them.
    min_confidence : float
        Confidence from which a prediction is accepted, 0 to 1.

    Returns
    -------
    tuple of AlertGroup
        Only kinds of trouble that there are.
    """
    scans = list(scans)
    seen: set[int] = set()
    groups = []
    for kind in _KINDS:
        alerts = []
        for scan in sorted(scans, key=kind.order) if kind.order else scans:
            if kind.once and id(scan) in seen:
                continue
            if line := kind.says(scan, min_confidence):
                alerts.append(Alert(scan, line))
        if kind.once:
            seen |= {id(alert.scan) for alert in alerts}
        if alerts:
            groups.append(AlertGroup(kind.title, kind.level, kind.advice, tuple(alerts)))
    return tuple(groups)


def _failed(scan: ScanRecord, _min: float) -> str:
    return (scan.reason or "no reason given") if scan.state == "failed" else ""


def _unresolved(scan: ScanRecord, _min: float) -> str:
    return (scan.reason or "no COR found") if scan.state == "unresolved" else ""


def _bad_manual(scan: ScanRecord, _min: float) -> str:
    cor_px = parse_cor(scan.manual)
    if cor_px is None and scan.manual.strip():
        return f"{shown(scan.manual)} is not a number"
    if cor_px is not None and scan.shape and not is_valid(cor_px, scan.shape[2]):
        return off_detector(cor_px, scan.shape[2])
    return ""


def _warned(scan: ScanRecord, _min: float) -> str:
    return "" if scan.state in ("skipped", "unchecked") else "; ".join(scan.warnings)


def _of_an_earlier_file(scan: ScanRecord, _min: float) -> str:
    if scan.state != "skipped" or scan.volume is None:
        return ""
    return f"{scan.volume.name} is of the file that was there before: {scan.reason}"


def _filled(scan: ScanRecord, _min: float) -> str:
    return (scan.reason or f"from {scan.source}") if scan.state == "filled" else ""


def _outlier(scan: ScanRecord, _min: float) -> str:
    fix = scan.fix
    if scan.state == "fixed":
        return scan.reason or "replaced"
    if fix is None or not fix.flagged or scan.state not in ("ok", "manual", "pending"):
        return ""
    return scan.reason or "flagged"


def _confidence(scan: ScanRecord) -> float:
    prediction = scan.prediction
    return 0.0 if prediction is None else prediction.confidence or 0.0


def _doubtful(scan: ScanRecord, min_confidence: float) -> str:
    prediction = scan.prediction
    if prediction is None or scan.state not in ("ok", "pending"):
        return ""
    if parse_cor(scan.manual) is not None:
        return ""  # pending: the person has already decided
    if prediction.cor_px is None:
        return not_accepted(prediction)
    sure = prediction.confidence
    if sure is not None and sure < min_confidence + _BARELY:
        return f"accepted with confidence {sure:.2f}, limit {min_confidence:.2f}"
    best = {
        c.method: c.best_cor_px
        for c in prediction.curves
        if c.best_cor_px is not None and (c.confidence or 0.0) >= min_confidence
    }
    if best and max(best.values()) - min(best.values()) > _DISAGREE_PX:
        listed = ", ".join(f"{name} {px:.2f}" for name, px in sorted(best.items()))
        return f"methods disagree: {listed}"
    return ""


_KINDS = (
    _Kind(
        "Failed",
        "bad",
        "Read the log below, then tomopipe retry, or run the workflow again.",
        _failed,
    ),
    _Kind(
        "No COR",
        "bad",
        "Set a COR in the campaign table, or resolve_cor: default_px in the config.",
        _unresolved,
    ),
    _Kind(
        "Not used from the campaign table",
        "bad",
        "Correct the cell: a column of the detector, counted from 0, with a decimal point.",
        _bad_manual,
        once=False,
    ),
    _Kind(
        "Skipped now, with a volume",
        "bad",
        "The raw file has changed since: remove volume, stack and sidecar, or mend the file.",
        _of_an_earlier_file,
    ),
    _Kind("Filled", "look", "These COR are not measured: look at the volume.", _filled),
    _Kind("Outliers", "look", "Further from the median than the limit.", _outlier),
    _Kind(
        "Doubtful predictions",
        "look",
        "Look at the try slices; set the COR by hand if it is wrong.",
        _doubtful,
        order=_confidence,
    ),
    _Kind("Warnings", "info", "Noted on the way; nothing was stopped.", _warned, once=False),
)
