"""The report of a campaign, made from the existing results."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tomopipe.campaign.campaign import Campaign, read_inventory
from tomopipe.campaign.results import read_cor_json
from tomopipe.campaign.stacks import declared_stacks, find_stacks
from tomopipe.errors import TomopipeError, is_of_the_system
from tomopipe.run.relion_notes import relion_notes

_SHOWN = ("path", "series", "index", "select", "manual")


def report_campaign(campaign: Campaign, output: str | Path) -> list[str]:
    """Write the report of the existing results; name what could not be read."""
    from tomopipe.steps.report import report

    known = what_to_report(campaign)
    notes = _relion_notes(campaign)
    for entry in known["scans"]:
        entry["warnings"] = [note for note, scans in notes.items() if entry["scan"] in scans]
    return report(output, **known)


def _relion_notes(campaign: Campaign) -> dict[str, list[str]]:
    try:
        return relion_notes(campaign, read_inventory(campaign.files.inventory))
    except (OSError, TomopipeError):
        return {}


def what_to_report(campaign: Campaign) -> dict[str, Any]:
    """Return what report and review page need beside the results of a campaign."""
    stacks, unread = _stacks(campaign)
    return {
        "results": campaign.results,
        "logs": campaign.logs.folder,
        "campaign_name": campaign.name,
        "scans": [
            {"scan": scan.name} | {name: getattr(scan, name) for name in _SHOWN}
            for scan in campaign.scans.values()
        ],
        "config": campaign.config.model_dump(),
        "stacks": stacks,
        "unread": unread,
    }


def _stacks(campaign: Campaign) -> tuple[list[dict[str, Any]], str]:
    """Return the stacks with known reasons against stitching, and what could not be read."""
    unread = ""
    if not campaign.config.stitch.stacks:
        return [], unread
    try:
        inventory = read_inventory(campaign.files.inventory)
        resolved = read_cor_json(campaign.files.cor_table)
        found = find_stacks(campaign, inventory, resolved)
    except (OSError, TomopipeError) as error:
        unread = str(error) if is_of_the_system(error) else ""
        found = declared_stacks(campaign)
    return [asdict(stack) for stack in found], unread
