"""`tomopipe report`: build the report of the existing results."""

from pathlib import Path
from typing import Annotated

import typer

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.lock import under_way
from tomopipe.cli.options import ConfigFile, Directory
from tomopipe.cli.terminal import near
from tomopipe.commands.status import read_status
from tomopipe.reruns.settle import Settled
from tomopipe.run.ending import has_ended, record_page, report_campaign


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
    scan, the mid planes, failures with the end of their logs, versions. Above 200 scans
    the pictures lie in a folder beside it.

    Examples: `tomopipe report`, `tomopipe report /data/beamtime -o /tmp/report/index.html`
    """
    campaign = load_campaign(directory, config)
    page = (output or campaign.files.report).absolute()
    unread = report_campaign(campaign, page)
    if page == campaign.files.report and under_way(campaign.directory) is None:
        # what was not finished, or is to be made, the next run may show otherwise
        is_open = read_status(campaign).with_state("running", "lost") or not has_ended(campaign)
        record_page(campaign, None if unread or is_open else Settled(campaign, looks_ahead=False))
    typer.echo(near(page))
