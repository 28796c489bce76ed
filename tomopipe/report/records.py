"""The records of a report: content of a campaign, and its alerts.

A column of the table of scans: its title and its cell in `templates/scan_table.html.j2`, and, if no
record has it, its field in `ScanRecord`, which `scan_records.py` fills.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tomopipe.campaign.log import JobStatus
from tomopipe.campaign.results import Model
from tomopipe.campaign.state.facts import ACCEPTED, NOT_SELECTED, TO_REVIEW
from tomopipe.campaign.state.sentences import KINDS, ScanState, warnings_of
from tomopipe.campaign.state.signs import State
from tomopipe.cor.series_line import Line, robust_line
from tomopipe.errors import grouped
from tomopipe.storage.json_files import number


@dataclass(frozen=True)
class Note:
    """A file that could not be used, and why; the report is made without it.

    `again`: reading failed by a system error, and will be tried again.
    """

    path: str
    problem: str
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class ScanRecord(ScanState):
    """All data of the report about one scan."""

    name: str
    path: str
    series: str
    index: int
    reached: str = ""
    shape: tuple[int, int, int] | None = None
    try_tif: Path | None = None
    swept: bool = False  # whether there are slices, or rows to make them from

    @property
    def layout(self) -> tuple[int | None, str]:
        """What scans must have in common for their CORs to be compared: columns and binning."""
        return self.n_cols, (self.row or {}).get("pixel_size_um", "")

    @property
    def height_mm(self) -> float | None:
        """The recorded height of the stage; None if there is none."""
        return number((self.row or {}).get("height_mm"))

    @property
    def time_s(self) -> float | None:
        """The recorded start, in seconds since 1970; None if there is none."""
        return number((self.row or {}).get("time_s"))


@dataclass(frozen=True)
class SeriesRecord:
    """The scans of one series, in order of index, and the band outside which CORs are flagged."""

    key: str
    scans: tuple[ScanRecord, ...]
    median_px: float | None
    limit_px: float | None
    # of the views of a file with a model over time (`fix_cor.over_time`), instead of the median
    model: Line | None = None
    model_name: str = ""

    @cached_property
    def lines(self) -> dict[tuple[int | None, str], Line | None]:
        """The line through the trusted CORs of each layout: scans of another width have another."""
        trusted = grouped(
            (scan.layout, (scan.index, cor_px))
            for scan in self.scans
            if scan.state in ACCEPTED
            if (cor_px := scan.shown[0]) is not None
        )
        return {
            layout: self.model or robust_line(*zip(*cors, strict=True))
            for layout, cors in trusted.items()
        }


@dataclass(frozen=True)
class StackRecord:
    """Scans at several heights that are stitched into one volume, or in time."""

    name: str
    scans: tuple[str, ...]
    problem: str
    volume: Path | None = None
    shape: tuple[int, ...] = ()
    # positions of neighbours in voxels: `second` on the grid of `first` by z_px, y_px, x_px;
    # overlap_rows, correlation
    pairs: tuple[Mapping[str, Any], ...] = ()
    is_time: bool = False  # a volume in time, which has no planes
    gaps: str = ""  # the time points without a volume, and why


@dataclass(frozen=True)
class Alert:
    """One line of an alert, and the scans that it applies to."""

    scans: tuple[ScanRecord, ...]
    text: str
    advice: str = ""  # where that of the group does not fit


@dataclass(frozen=True)
class AlertGroup:
    """Lines of one kind of alert; `level` is bad, look or info."""

    title: str
    level: str
    advice: str
    alerts: tuple[Alert, ...]

    @property
    def n_scans(self) -> int:
        """Number of scans that are listed."""
        return len({id(scan) for alert in self.alerts for scan in alert.scans})


@dataclass(frozen=True)
class CampaignRecord:
    """Everything on the page except the pictures."""

    name: str
    scans: tuple[ScanRecord, ...]
    series: tuple[SeriesRecord, ...]
    alerts: tuple[AlertGroup, ...]
    failures: tuple[JobStatus, ...]
    last_job_end: float | None
    notes: tuple[Note, ...]
    versions: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    # the references of each method
    citations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seed: str = ""  # of simulated campaigns
    stacks: tuple[StackRecord, ...] = ()

    @property
    def models(self) -> dict[Model, int]:
        """Count the predictions of each trained model."""
        result = Counter(s.prediction.model for s in self.scans if s.prediction is not None)
        return {model: n for model, n in result.items() if model is not None}

    @cached_property
    def counts(self) -> dict[State, int]:
        """Count the scans in each state, every state listed."""
        return dict.fromkeys(State, 0) | Counter(scan.state for scan in self.scans)


#: CORs closer to each other give slices that look alike.
_ALIKE_PX = 0.25


def alert_groups(scans: Iterable[ScanRecord]) -> tuple[AlertGroup, ...]:
    """List alerts, the worst kind first, with equal lines combined."""
    scans = list(scans)
    common = common_warnings(scans)
    listed: set[int] = set()
    groups = []
    for kind in KINDS:
        lines: dict[str, list[ScanRecord]] = defaultdict(list)
        for scan in sorted(scans, key=kind.order) if kind.order else scans:
            if kind.once and id(scan) in listed:
                continue
            text = kind.lines(scan)
            for line in (text,) if isinstance(text, str) else text:
                if scan.state is not State.MANUAL or kind.level == "bad" or line in common:
                    lines[line].append(scan)
        lines.pop("", None)
        if kind.once:
            listed |= {id(scan) for entry in lines.values() for scan in entry}
        own = {line: entry[0].own_advice if kind.once else "" for line, entry in lines.items()}
        alerts = [Alert(tuple(entry), line, own[line]) for line, entry in lines.items()]
        if kind.rare_first:
            alerts.sort(key=lambda alert: len(alert.scans))
        if alerts:
            advice = "" if all(own.values()) else kind.advice
            groups.append(AlertGroup(kind.title, kind.level, advice, tuple(alerts)))
    return tuple(groups)


def compared_px(scan: ScanRecord, line: Line | None) -> tuple[tuple[str, float], ...]:
    """Return the CORs, each with its label, among which a person decides: at most two.

    In this order: the COR in use, the measured one, that on the line of the series, and those of
    single methods, without CORs that look alike. Empty if no decision is needed.
    """
    if scan.state not in TO_REVIEW:
        return ()
    prediction = scan.prediction
    cors = [("used", scan.shown[0]), ("measured", prediction.best_cor_px if prediction else None)]
    if line and scan.shown[1] != "line":  # else the COR in use is on fix_cor's line
        cors.append(("line of the series", line.start_px + line.slope_px * scan.index))
    cors += [(curve.method, curve.best_cor_px) for curve in prediction.curves] if prediction else []
    results: list[tuple[str, float]] = []
    for label, cor_px in cors:
        if cor_px is not None and all(abs(cor_px - px) >= _ALIKE_PX for _, px in results):
            results.append((label, cor_px))
    return tuple(results[:2])


def own_warnings(scan: ScanRecord, common: Container[str] = ()) -> tuple[str, ...]:
    """Return the warnings of a scan beside its state; `common` ones are shown once for all."""
    texts = (*scan.ignored_manual, *warnings_of(scan))
    return tuple(text for text in texts if text not in scan.why and text not in common)


def remarks(scan: ScanRecord, common: Container[str] = ()) -> tuple[str, ...]:
    """Return all that is said beside the state of a scan, wherever it is listed."""
    return tuple(filter(None, (*scan.for_next_run, scan.why, *own_warnings(scan, common))))


def common_warnings(scans: Iterable[ScanRecord]) -> frozenset[str]:
    """Return the warnings that most scans share, which do not characterise single ones."""
    results = [warnings_of(scan) for scan in scans if scan.state not in NOT_SELECTED]
    counts = Counter(warning for warnings in results for warning in warnings)
    return frozenset(text for text, n in counts.items() if n > max(1, len(results) / 2))
