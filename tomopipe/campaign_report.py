"""The report of a campaign: hands the step what it needs of the campaign."""

from pathlib import Path

from tomopipe import __version__
from tomopipe.campaign import Campaign
from tomopipe.steps.report import report


def report_campaign(campaign: Campaign, output: str | Path) -> None:
    """Write the report of whatever exists of a campaign to `output`."""
    report(
        output,
        results=campaign.results,
        logs=campaign.directory / "logs",
        campaign_name=campaign.name,
        scans=[
            {
                "scan": scan.name,
                "path": scan.path,
                "series": scan.series,
                "index": scan.index,
                "select": scan.select,
                "manual": scan.manual,
            }
            for scan in campaign.scans.values()
        ],
        config=campaign.config.model_dump(),
        version=__version__,
    )
