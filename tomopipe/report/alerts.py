"""Alerts: scans and results that need attention."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tomopipe.campaign.signs import State
from tomopipe.campaign.state import NOT_SELECTED, OWN_COR, TO_REVIEW
from tomopipe.cor.robust_line import Line
from tomopipe.report.records import Alert, AlertGroup, ScanRecord

#: CORs nearer to each other give slices that look the same.
_ALIKE_PX = 0.25


@dataclass(frozen=True)
class _Kind:
    """One kind of alert: `says` returns the line for a scan, or "", or several."""

    title: str
    level: str
    advice: str
    says: Callable[[ScanRecord], str | tuple[str, ...]]
    once: bool = True  # only for scans not listed under a worse kind
    order: Callable[[ScanRecord], float] | None = None
    rare_first: bool = False  # so that rare lines are not lost among common ones


def alert_groups(scans: Iterable[ScanRecord]) -> tuple[AlertGroup, ...]:
    """List the alerts, the worst kind first; only the kinds that occur. Equal lines are one.

    Of a scan whose COR was set by hand, only errors and common warnings are listed.
    """
    scans = list(scans)
    common = common_warnings(scans)
    seen: set[int] = set()
    groups = []
    for kind in _KINDS:
        lines: dict[str, list[ScanRecord]] = defaultdict(list)
        for scan in sorted(scans, key=kind.order) if kind.order else scans:
            if kind.once and id(scan) in seen:
                continue
            text = kind.says(scan)
            for line in (text,) if isinstance(text, str) else text:
                if scan.state is not State.MANUAL or kind.level == "bad" or line in common:
                    lines[line].append(scan)
        lines.pop("", None)
        if kind.once:
            seen |= {id(scan) for entry in lines.values() for scan in entry}
        alerts = [Alert(tuple(entry), line) for line, entry in lines.items()]
        if kind.rare_first:
            alerts.sort(key=lambda alert: len(alert.scans))
        if alerts:
            groups.append(AlertGroup(kind.title, kind.level, kind.advice, tuple(alerts)))
    return tuple(groups)


def compared_px(scan: ScanRecord, line: Line | None) -> tuple[tuple[str, float], ...]:
    """Return the two CORs, with a word for each, between which a person decides; one if alike.

    That which is used comes first, then that measured, that on the line of the series, and those
    of single methods. Empty where nobody has to decide.
    """
    if scan.state not in TO_REVIEW:
        return ()
    prediction = scan.prediction
    cors = [("used", scan.shown[0]), ("measured", prediction.best_cor_px if prediction else None)]
    cors.append(
        ("line of the series", line.start_px + line.slope_px * scan.index if line else None)
    )
    cors += [(curve.method, curve.best_cor_px) for curve in prediction.curves] if prediction else []
    results: list[tuple[str, float]] = []
    for word, cor_px in cors:
        if cor_px is not None and all(abs(cor_px - px) >= _ALIKE_PX for _, px in results):
            results.append((word, cor_px))
    return tuple(results[:2])


def common_warnings(scans: Iterable[ScanRecord]) -> frozenset[str]:
    """Return the warnings that most scans share: they tell nothing about one of them."""
    results = [_warned(scan) for scan in scans if scan.state not in NOT_SELECTED]
    counts = Counter(warning for warnings in results for warning in warnings)
    return frozenset(text for text, n in counts.items() if n > max(1, len(results) / 2))


def _reason(state: State, otherwise: str) -> Callable[[ScanRecord], str]:
    return lambda scan: (scan.reason or otherwise) if scan.state is state else ""


def _warned(scan: ScanRecord) -> tuple[str, ...]:
    return () if scan.state in NOT_SELECTED else tuple(dict.fromkeys(scan.warnings))


def _of_before(scan: ScanRecord) -> str:
    """Say what a volume that no run makes any more was made from."""
    source = {State.SKIPPED: "file", State.UNRESOLVED: "COR"}.get(scan.state)
    if source is None or scan.volume is None:
        return ""
    return f"{scan.volume.name} was made from an earlier {source}: {scan.reason}"


def _outlier(scan: ScanRecord) -> str:
    if scan.state in OWN_COR:
        return scan.kept_outlier
    return _reason(State.FIXED, "replaced")(scan)


def _confidence(scan: ScanRecord) -> float:
    prediction = scan.prediction
    return 0.0 if prediction is None else prediction.confidence or 0.0


_KINDS = (
    _Kind(
        "Outdated volumes",
        "bad",
        "File or COR have changed: fix them, or remove the volume, its stack and sidecar.",
        _of_before,
        once=False,
    ),
    _Kind(
        "Failed",
        "bad",
        "Read the log below, then tomopipe retry, or tomopipe run again.",
        _reason(State.FAILED, "no reason given"),
    ),
    _Kind(
        "No COR",
        "bad",
        "Set a COR in the campaign table, or resolve_cor: default_px in the config.",
        _reason(State.UNRESOLVED, "no COR found"),
    ),
    _Kind(
        "Ignored values of the campaign table",
        "bad",
        "Correct the cell: a column of the detector, counted from 0, with a decimal point.",
        lambda scan: scan.unused_manual,
        once=False,
    ),
    _Kind(
        "Left to the next run",
        "look",
        "tomopipe run makes them.",
        lambda scan: scan.for_next_run,
        once=False,
    ),
    _Kind(
        "Filled",
        "look",
        "These CORs are not measured: look at the volume.",
        lambda scan: _reason(State.FILLED, f"from {scan.source}")(scan),
    ),
    _Kind("Outliers", "look", "Further from the median than the limit.", _outlier),
    _Kind(
        "Doubtful predictions",
        "look",
        "Look at the try slices; set the COR by hand if it is wrong.",
        lambda scan: "; ".join(filter(None, scan.own_doubts * (scan.state is State.DOUBTFUL))),
        order=_confidence,
    ),
    _Kind("Warnings", "info", "Processing went on.", _warned, once=False, rare_first=True),
)
