"""The verdict on each scan of a campaign: for the live page of a watcher, and for hooks."""

from dataclasses import dataclass

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import Why, all_right
from tomopipe.campaign.state.facts import ACCEPTED, NOT_SELECTED
from tomopipe.campaign.state.signs import State
from tomopipe.cor.cor_value import same_cor
from tomopipe.report.collected_records import collect_scans

_QUIET = (*ACCEPTED, State.UNSWEPT, State.UNSELECTED)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one scan."""

    scan: str  # its name
    scan_state: str
    cor_px: float | None = None  # its COR, unbinned detector pixels
    confidence: float | None = None  # of the prediction; None if the COR is not the predicted one
    doubtful: bool = False  # whether a person has to check it
    reason: str = ""  # reason of its state, or ""
    best_cor_px: float | None = None  # COR of its picture: its own, else the best estimate
    path: str = ""  # of its file, as in the campaign


def present_verdicts(campaign: Campaign, why: Why = all_right) -> dict[str, Verdict]:
    """Return the verdicts on the scans of a campaign that have results.

    By path of the file, of views with their suffix; not on time points that are not whole. `why`
    gives the reason if a result that a job failed to replace is stale.
    """
    result = {}
    scans = {scan.name: scan for scan in (*campaign.refused, *campaign.scans.values())}
    for record in collect_scans(campaign, why=why):
        state, prediction, scan = record.state, record.prediction, scans.get(record.name)
        if state is State.PENDING or (scan and scan.view and scan.view.refused):
            continue
        cor_px = None if state in NOT_SELECTED else record.shown[0]
        is_predicted = prediction is not None and same_cor(cor_px, prediction.cor_px)
        result[scan.part_path if scan else record.path] = Verdict(
            record.name,
            state,
            cor_px,
            prediction.confidence if prediction and is_predicted else None,
            state not in _QUIET,
            f"skipped: {record.reason}" if state is State.SKIPPED else record.why,
            None if state in NOT_SELECTED else record.best_px,
            record.path,
        )
    return result
