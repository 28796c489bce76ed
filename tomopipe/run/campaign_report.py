"""The report of a campaign, made from the existing results."""

from pathlib import Path

from tomopipe.campaign.campaign import Campaign, read_inventory
from tomopipe.errors import TomopipeError
from tomopipe.run.relion_notes import relion_notes


def report_campaign(campaign: Campaign, output: str | Path) -> list[str]:
    """Write the report of the existing results; name what could not be read."""
    from tomopipe.steps.report import report

    try:
        notes = relion_notes(campaign, read_inventory(campaign.files.inventory))
    except (OSError, TomopipeError):
        notes = {}
    return report(output, campaign, notes=notes)
