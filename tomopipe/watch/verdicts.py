"""Verdicts on the scans that `tomopipe run --watch` has taken: CORs, and what a person must see."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tomopipe.campaign.campaign import Campaign, make_campaign
from tomopipe.campaign.state import ACCEPTED, NOT_SELECTED, ScanFacts, State
from tomopipe.config import Config
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.sources import parse_prediction

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


def verdict_of_arrival(
    campaign: Campaign, row: Mapping[str, str], *, newer_than: float
) -> Verdict | None:
    """Return the verdict on a scan from its row of the inventory and its prediction.

    None if it is to be predicted, and no prediction was made after `newer_than` (Unix seconds).
    """
    scan = row["scan"]
    if scan not in campaign.scans:
        return skipped(scan, f"skipped: {row['reason']}")
    prediction = None
    path = campaign.files.prediction(scan)
    with suppress(OSError, ValueError):
        if path.stat().st_mtime >= newer_than:
            prediction = parse_prediction(json.loads(path.read_text(encoding="utf-8")))
    known = campaign.scans[scan]
    facts = ScanFacts(
        select=known.select,
        manual=known.manual,
        row=row,
        min_confidence=campaign.config.predict_cor.min_confidence,
        protect_manual=campaign.config.fix_cor.protect_manual,
        prediction=prediction,
    )
    is_decided = facts.state in NOT_SELECTED or not campaign.needs_search(scan, row)
    return verdict_of(scan, facts) if prediction or is_decided else None


def present_verdicts(config: Config, directory: Path, paths: frozenset[str]) -> dict[str, Verdict]:
    """Return the present verdicts on raw files, from the results of the whole campaign."""
    campaign = make_campaign(config, directory, taken=paths)
    records = collect_scans(campaign)
    found = {record.path: verdict_of(record.name, record) for record in records}
    return {path: verdict for path, verdict in found.items() if verdict and path in paths}
