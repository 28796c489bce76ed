"""`tomopipe sweep`, `report` and `review`: pages and pictures to look at."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import CONFIG
from tomopipe.campaign.selection import scan_of
from tomopipe.cli.options import CampaignOption, ConfigFile, Directory, DryRun, campaign_and_scans
from tomopipe.cli.terminal import near
from tomopipe.commands.conversion import find_volumes
from tomopipe.commands.option_sweep import (
    cor_px_of,
    first_with_cor,
    keys_and_values,
    sweep_option,
)
from tomopipe.commands.status import read_status
from tomopipe.config.base import why_no_effect
from tomopipe.errors import TomopipeError
from tomopipe.reruns.settle import Settled
from tomopipe.run.page import has_ended, record_page, report_campaign
from tomopipe.storage.lock import under_way


def sweep(
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY VALUES [KEY2 VALUES2]",
            help="Option, such as full_recon.filter, and its values as in config.yaml; 10..150 20: "
            "from 10 to 150 in steps of 20. A second option with values: a grid, each value with "
            "each.",
            show_default=False,
        ),
    ],
    scan: Annotated[
        str | None,
        typer.Option("--scan", "-s", help="Scan.", show_default="the first with a COR"),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    cor_px: Annotated[
        float | None,
        typer.Option("--cor", help="COR (pixels).", show_default="that of the campaign"),
    ] = None,
    row: Annotated[
        int | None,
        typer.Option(
            "--row", help="Detector row.", show_default="the middle one of full_recon.rows"
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Try values of an input, preprocess or full_recon option on one slice of a scan.

    Writes results/sweep/SCAN/KEY/index.html and sweep.tif, a labelled stack; the slices are as
    in the volumes. Options that only change how volumes are stored (full_recon.dtype) are refused.
    `tomopipe review` shows them under Sweeps, with one zoom.

    Examples: `tomopipe sweep preprocess.stripes.method none sorting vo --scan tooth_1`,
    `tomopipe sweep full_recon.filter ramp hann preprocess.phase.delta_beta 20..100 20`
    """
    campaign, values = load_campaign(directory, config), keys_and_values(keys)
    if scan is None:
        scan, first_px = first_with_cor(campaign)
        cor_px = first_px if cor_px is None else cor_px
        typer.echo(
            f"scan {scan}, the first with a COR, at {cor_px:g} px (choose another with --scan)"
        )
    else:
        scan = scan_of(campaign, [scan])
        cor_px = cor_px_of(campaign, scan) if cor_px is None else cor_px
    page, slices = sweep_option(campaign, scan, values, cor_px=cor_px, row=row, dry_run=dry_run)
    if dry_run:
        n = math.prod(map(len, values.values()))
        typer.echo(f"would make {n} slice{'s' * (n != 1)} of {scan} at {cor_px:g} px: {near(page)}")
        return
    if len(slices) > 1 and all(np.array_equal(slices[0], other) for other in slices[1:]):
        for key in values:
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
            "--output",
            "-o",
            help="File to write; missing folders are made.",
            show_default="results/report/index.html",
        ),
    ] = None,
) -> None:
    """Build the report of the existing results, also during a run or after a failed one.

    The report is one HTML file that opens offline; above 200 scans it has a folder of pictures
    beside it.

    Examples: `tomopipe report`, `tomopipe report /data/beamtime -o /tmp/report/index.html`
    """
    campaign = load_campaign(directory, config)
    page = (output or campaign.files.report).absolute()
    if page.suffix != ".html" or page.is_dir():
        raise TomopipeError(
            f"{page}: expected an HTML file. Give one with -o, such as {near(page / 'index.html')}."
        )
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
            help="Campaign folder (default: this one), and a scan or stitched stack.",
        ),
    ],
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    port: Port = 0,
) -> None:
    """Show three planes of a volume in a browser, down to single voxels.

    Prints a link. The page of `tomopipe review` shows volumes, too.

    Example: `tomopipe view sandA_001`
    """
    directory, names = campaign_and_scans(context, words, directory, config)
    campaign = load_campaign(directory, config, needs_raw=False)
    scan = scan_of(campaign, names, [*campaign.config.stitch.names, *campaign.scans])
    path = find_volumes(campaign, [scan])[scan]
    from tomopipe.review.serve import serve
    from tomopipe.review.store import Store
    from tomopipe.volumes.volume_read import open_volume

    with open_volume(path, check_sizes=False):  # else the page would say what is wrong
        pass
    store = Store(directory, (config or directory / CONFIG).absolute())
    store.prepare()
    serve(store, port=port, volume=scan, tell=typer.echo)


def review(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    port: Port = 0,
    socket: Annotated[
        Path | None, typer.Option(help="Unix socket instead of a port; other users cannot open it.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Host name of a proxy that shows the page."),
    ] = None,
    allow_origin: Annotated[
        str,
        typer.Option(
            help="Origin of another page, such as neuroglancer, that may read OME-Zarr volumes."
        ),
    ] = "",
    prefix: Annotated[
        str, typer.Option(help="Path of the page on a proxy, such as /user/me/proxy/8765.")
    ] = "",
) -> None:
    """Review the scans in a browser, those that need a decision first.

    Prints a link. Each decision goes into the campaign table at once; the next `tomopipe run`
    redoes what depends on it. The page is served on this machine only: from elsewhere use
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
