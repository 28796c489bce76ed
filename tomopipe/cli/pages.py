"""`tomopipe sweep`, `report` and `review`: pages and pictures to look at."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tomopipe.campaign.campaign import load_campaign, scan_of
from tomopipe.campaign.files import CONFIG
from tomopipe.campaign.lock import under_way
from tomopipe.cli.options import CampaignOption, ConfigFile, Directory, DryRun, campaign_and_scans
from tomopipe.cli.terminal import near
from tomopipe.commands.conversion import find_volumes
from tomopipe.commands.option_sweep import cor_px_of, first_with_cor, sweep_option
from tomopipe.commands.status import read_status
from tomopipe.config.base import why_no_effect
from tomopipe.reruns.foreign import refuse_foreign_page
from tomopipe.reruns.settle import Settled
from tomopipe.run.ending import has_ended, record_page, report_campaign


def sweep(
    key: Annotated[
        str, typer.Argument(help="The option: full_recon.filter, preprocess.stripes.size_px, ...")
    ],
    values: Annotated[list[str], typer.Argument(help="Its values, as in config.yaml.")],
    scan: Annotated[
        str | None,
        typer.Option("--scan", "-s", help="Name of the scan.", show_default="the first with a COR"),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    cor_px: Annotated[
        float | None,
        typer.Option("--cor", help="COR (pixels).", show_default="what the campaign has"),
    ] = None,
    row: Annotated[
        int | None,
        typer.Option("--row", help="Detector row.", show_default="the middle one of the campaign"),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Try values of an input, preprocess or full_recon option on one slice of a scan.

    Writes results/sweep/SCAN/KEY/index.html, a page of the slices, and sweep.tif, a labelled stack
    of them. They equal the slices of a volume with that option. Options that only change how
    volumes are stored, such as full_recon.dtype, are refused.

    Example: `tomopipe sweep preprocess.stripes.method none sorting vo --scan tooth_1`
    """
    campaign = load_campaign(directory, config)
    if scan is not None:
        scan = scan_of(campaign, [scan])
    if scan is None:
        scan, known_px = first_with_cor(campaign)
        cor_px = known_px if cor_px is None else cor_px
        typer.echo(f"scan {scan}, the first with a COR, at {cor_px:g} px; --scan takes another")
    elif cor_px is None:
        cor_px = cor_px_of(campaign, scan)
    page, slices = sweep_option(
        campaign, scan, key, values, cor_px=cor_px, row=row, dry_run=dry_run
    )
    if dry_run:
        n = len(values)
        typer.echo(f"would make {n} slice{'s' * (n != 1)} of {scan} at {cor_px:g} px: {near(page)}")
        return
    if len(slices) > 1 and all(np.array_equal(slices[0], other) for other in slices[1:]):
        why = why_no_effect(campaign.for_scan(scan).config, key)
        with_others = f"with the other options{f' ({why})' if why else ''}"
        typer.echo(f"All slices are equal: {with_others}, {key} changes nothing here.")
    typer.echo(near(page))


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

    One HTML file that opens offline: alerts first, then the COR along each series, every scan, mid
    planes, failures with the end of their logs, and versions. Above 200 scans the pictures are in a
    folder beside it.

    Examples: `tomopipe report`, `tomopipe report /data/beamtime -o /tmp/report/index.html`
    """
    campaign = load_campaign(directory, config)
    page = (output or campaign.files.report).absolute()
    refuse_foreign_page(campaign, page)
    unread = report_campaign(campaign, page)
    if page == campaign.files.report and under_way(campaign.directory) is None:
        # the next run may change unfinished and pending results
        is_open = read_status(campaign).with_state("running", "lost") or not has_ended(campaign)
        record_page(campaign, None if unread or is_open else Settled(campaign, looks_ahead=False))
    typer.echo(near(page))


Port = Annotated[
    int, typer.Option(help="Port of localhost.", show_default="a free one", min=0, max=65535)
]


def view(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="CAMPAIGN SCAN",
            help="The campaign folder (this one may be left out), and a scan or stack.",
        ),
    ],
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    port: Port = 0,
) -> None:
    """Show the volume of a scan in a browser: three planes, from the coarse to each voxel.

    Prints a link, as `tomopipe review` does; its page leads to the volume, too.

    Example: `tomopipe view sandA_001`
    """
    directory, names = campaign_and_scans(context, words, directory, config)
    campaign = load_campaign(directory, config, needs_raw=False)
    scan = scan_of(campaign, names, [*campaign.config.stitch.stacks, *campaign.scans])
    find_volumes(campaign, [scan])
    from tomopipe.review.serve import serve
    from tomopipe.review.store import Store

    store = Store(directory, (config or directory / CONFIG).absolute())
    store.prepare()
    serve(store, port=port, volume=scan, tell=typer.echo)


def review(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    port: Port = 0,
    socket: Annotated[
        Path | None, typer.Option(help="A Unix socket instead of a port: nobody else can open it.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Name of a proxy that shows the page; localhost always may."
        ),
    ] = None,
    allow_origin: Annotated[
        str,
        typer.Option(
            help="Origin of another page (such as a neuroglancer) that may read OME-Zarr volumes."
        ),
    ] = "",
    prefix: Annotated[
        str, typer.Option(help="Path at which a proxy shows the page: /user/me/proxy/8765.")
    ] = "",
) -> None:
    """Review the scans in a browser, those that need a decision first.

    Prints a link; every decision goes into the campaign table at once, and the next `tomopipe run`
    redoes exactly that. Listens on this machine alone: from elsewhere use
    `ssh -L 8765:localhost:8765 HOST`.

    Examples: `tomopipe review mycampaign --port 8765`,
    `tomopipe review mycampaign --socket ~/.review.sock`
    """
    from tomopipe.review.serve import serve
    from tomopipe.review.store import Store

    store = Store(directory, (config or directory / CONFIG).absolute())
    store.prepare()
    serve(
        store,
        port=port,
        socket_path=socket.expanduser() if socket else None,
        allow_hosts=allow_host or (),
        allow_origin=allow_origin,
        prefix=prefix,
        tell=typer.echo,
    )
