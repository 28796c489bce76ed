"""The records of a report: what was read of a campaign, in frozen dataclasses."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tomopipe.campaign.failures import Failure
from tomopipe.campaign.results import Model
from tomopipe.campaign.signs import State
from tomopipe.campaign.state import ScanFacts


@dataclass(frozen=True)
class Note:
    """A file that could not be used, and why; the report is made without it.

    `again`: a system error prevented reading; it is tried the next time.
    """

    path: str
    problem: str
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class ScanRecord(ScanFacts):
    """Everything known about one scan."""

    name: str
    path: str
    series: str
    index: int
    reached: str = ""
    shape: tuple[int, int, int] | None = None
    warnings: tuple[str, ...] = ()
    try_tif: Path | None = None
    swept: bool = False  # whether there are slices, or rows to make them from


@dataclass(frozen=True)
class SeriesRecord:
    """The scans of one series, in order of index, and the band outside which a COR is flagged."""

    key: str
    scans: tuple[ScanRecord, ...]
    median_px: float | None
    limit_px: float | None


@dataclass(frozen=True)
class StackRecord:
    """Scans at several heights that are stitched into one volume."""

    name: str
    scans: tuple[str, ...]
    problem: str
    volume: Path | None = None
    shape: tuple[int, ...] = ()
    # positions of neighbours in voxels: `second` on the grid of `first` by z_px, y_px, x_px;
    # overlap_rows, correlation
    pairs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Alert:
    """One line of an alert, and the scans that it is true of."""

    scans: tuple[ScanRecord, ...]
    text: str


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
    """Everything the page shows but the pictures."""

    name: str
    scans: tuple[ScanRecord, ...]
    series: tuple[SeriesRecord, ...]
    alerts: tuple[AlertGroup, ...]
    failures: tuple[Failure, ...]
    last_job_end: float | None
    notes: tuple[Note, ...]
    versions: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    # the references of each method
    citations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seed: str = ""  # of a simulation
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
