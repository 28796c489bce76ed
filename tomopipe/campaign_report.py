"""The report of a campaign: hands the step what it needs of the campaign."""

from pathlib import Path
from typing import Any

from tomopipe import __version__
from tomopipe.campaign import Campaign
from tomopipe.steps.report import report

_SHOWN = ("path", "series", "index", "select", "manual")


def report_campaign(campaign: Campaign, output: str | Path) -> None:
    """Write the report of whatever exists of a campaign to `output`."""
    report(output, **what_to_report(campaign))


def what_to_report(campaign: Campaign) -> dict[str, Any]:
    """Return what report and review page need to know of a campaign beside its results."""
    return {
        "results": campaign.results,
        "logs": campaign.directory / "logs",
        "campaign_name": campaign.name,
        "scans": [
            {"scan": scan.name} | {name: getattr(scan, name) for name in _SHOWN}
            for scan in campaign.scans.values()
        ],
        "config": campaign.config.model_dump(),
        "version": __version__,
    }
