"""`tomopipe report`: build the report of the existing results."""

from pathlib import Path
from typing import Annotated

import typer

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.options import ConfigFile, Directory, config_path
from tomopipe.cli.terminal import near
from tomopipe.run.campaign_report import report_campaign


def report(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The page.", show_default="report/index.html of the results"
        ),
    ] = None,
) -> None:
    """Build the report of the existing results, also during a run or after a failed one.

    One HTML file that opens offline: what needs attention first, COR along each series, every
    scan, the mid planes, failures with the end of their logs, run times, versions. Above 200 scans
    the pictures lie in a folder beside it. Examples: `tomopipe report`,
    `tomopipe report /data/beamtime -o /tmp/report/index.html`.
    """
    campaign = load_campaign(directory, config_path(directory, config))
    page = (output or campaign.files.report).absolute()
    report_campaign(campaign, page)
    typer.echo(near(page))
