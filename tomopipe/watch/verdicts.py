"""Verdicts on the scans that `tomopipe run --watch` has taken: CORs, and what a person must see."""

from dataclasses import dataclass, replace
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import Files
from tomopipe.campaign.state import ACCEPTED, NOT_SELECTED, ScanFacts, State
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.records import ScanRecord

_QUIET = (*ACCEPTED, State.UNSELECTED)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scan."""

    # its name and state
    scan: str
    scan_state: str
    cor_px: float | None = None  # its COR, unbinned detector pixels
    confidence: float | None = None  # that of the prediction; None if the COR is another one
    doubtful: bool = False  # whether a person must look at it
    reason: str = ""  # why it is in its state; may be ""
    best_cor_px: float | None = None  # the COR of its picture: where it has none, the best estimate


def skipped(scan: str, reason: str) -> Verdict:
    """Return the verdict on a scan that cannot be used."""
    return Verdict(scan, State.SKIPPED, doubtful=True, reason=reason)


def verdict_of(scan: str, facts: ScanFacts) -> Verdict | None:
    """Return the verdict on a scan; None if it is not predicted yet."""
    state, prediction = facts.state, facts.prediction
    if state is State.PENDING:
        return None
    if state is State.SKIPPED:
        return skipped(scan, f"skipped: {facts.reason}")
    if state in NOT_SELECTED:
        return Verdict(scan, state)
    cor_px = facts.manual_px if facts.is_edited else facts.cor_px
    predicted_px = prediction.cor_px if prediction else None
    cor_px = predicted_px if cor_px is None else cor_px
    is_predicted = same_cor(cor_px, predicted_px)
    return Verdict(
        scan,
        state,
        cor_px,
        prediction.confidence if prediction and is_predicted else None,
        state not in _QUIET,
        facts.why,
        prediction.best_cor_px if prediction and cor_px is None else cor_px,
    )


def present_verdicts(
    campaign: Campaign, *, are_new: bool, since: float = 0.0
) -> dict[str, Verdict]:
    """Return the verdicts on the raw files of a campaign, by path, from its results.

    Where `are_new`, the tables are of earlier files: predictions alone count, made after `since`
    (Unix seconds).
    """
    records = collect_scans(campaign)
    if are_new:
        records = [_predicted(record, campaign.files, since) for record in records]
    result = {record.path: verdict_of(record.name, record) for record in records}
    return {path: verdict for path, verdict in result.items() if verdict}


def _predicted(record: ScanRecord, files: Files[Path], since: float) -> ScanRecord:
    path = files.prediction(record.name)
    is_old = path.exists() and path.stat().st_mtime < since
    prediction = None if is_old else record.prediction
    return replace(record, prediction=prediction, cor_px=None, source="", fix=None, decided=False)
