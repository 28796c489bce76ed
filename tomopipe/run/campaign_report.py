"""The report of a campaign, made from the existing results."""

from pathlib import Path

from tomopipe.campaign.campaign import Campaign, read_inventory
from tomopipe.errors import TomopipeError, is_of_the_system
from tomopipe.reruns.products import digest
from tomopipe.reruns.relion_notes import relion_notes


def table_shown(campaign: Campaign) -> str:
    """Return a digest of the cells of the campaign table that a page of now shows."""
    rows = [(row.scan, row.select, row.cor_px) for row in campaign.table_rows]
    return digest({"rows": [row for row in rows if row[1:] != ("auto", "")]})


def is_settled(campaign: Campaign) -> bool:
    """Tell whether the next run has nothing to do: the page shows no edit that may be undone."""
    from tomopipe.reruns.expected import Expected  # slow to load, and of no use to a run

    try:
        return not Expected(campaign).jobs
    except (OSError, TomopipeError):
        return False


def report_campaign(campaign: Campaign, output: str | Path) -> list[str]:
    """Write the report of the existing results; name what could not be read."""
    from tomopipe.steps.report import report

    notes, unread = {}, set[str]()
    try:
        notes = relion_notes(campaign, read_inventory(campaign.files.inventory))
    except (OSError, TomopipeError) as error:
        unread = {campaign.outputs.inventory} if is_of_the_system(error) else set()
    return sorted({*unread, *report(output, campaign, notes=notes)})
