"""Why the next run makes results again that a job failed to replace."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from tomopipe.campaign.campaign import Campaign, InventoryRows, read_inventory
from tomopipe.campaign.counted_jobs import Why
from tomopipe.campaign.results import read_cor_json
from tomopipe.errors import TomopipeError
from tomopipe.reruns.words import MISSING, UNREADABLE

if TYPE_CHECKING:
    from tomopipe.reruns.wanted import Wanted


def wanted_now(campaign: Campaign, rows: InventoryRows) -> "Wanted":
    """Return what results must be made from by the present files, outside of a run."""
    from tomopipe.reruns.decisions import Decisions
    from tomopipe.reruns.wanted import Wanted  # slow to load

    decisions = Decisions(campaign, tell=lambda text: None)
    decisions.take_job_records()
    return Wanted(campaign, decisions, lambda: rows)


def why_again(campaign: Campaign) -> Why:
    """Return what says why a volume or a stack that is there is not as wanted now; "" if it is.

    Ask it of failed jobs alone: the first time it loads what decides on results.
    """

    @cache
    def wanted() -> tuple["Wanted", Mapping[str, Mapping[str, Any]]]:
        rows, cors = (
            read_inventory(campaign.files.inventory),
            read_cor_json(campaign.files.cor_table),
        )
        found = wanted_now(campaign, rows)
        scans = (scan for scan in campaign.selected_scans(rows) if not found.is_unproven(scan))
        return found, {scan: cors[scan] for scan in scans if scan in cors}

    @cache
    def why(step: str, scan: str) -> str:
        try:
            found, cors = wanted()
            if scan not in cors:
                return ""
            if step == "full_recon":
                reason = found.why_full_recon(scan, cors[scan])
                return "another format" if reason == MISSING else reason
            if step == "export_stack" and campaign.config.export_star.enabled:
                return found.why(found.of_export_stack(scan), scan)
        except FileNotFoundError:  # the tables are to be made first
            return ""
        except (OSError, TomopipeError):
            return UNREADABLE
        return ""

    return why
