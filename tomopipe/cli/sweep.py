"""`tomopipe sweep`: try values of an option on one slice."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.options import CampaignOption, ConfigFile, DryRun
from tomopipe.cli.terminal import near
from tomopipe.commands.option_sweep import first_known, known_cor_px, sweep_option
from tomopipe.config.effective import why_no_effect


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

    Writes results/sweep/SCAN/KEY/index.html, to look at, and sweep.tif, a labelled stack of the
    slices, which are those that the volumes would have. What only changes how volumes are stored,
    such as full_recon.dtype, is refused.

    Example: `tomopipe sweep preprocess.stripes.method none sorting vo --scan tooth_1`
    """
    campaign = load_campaign(directory, config)
    if scan is None:
        scan, known_px = first_known(campaign)
        cor_px = known_px if cor_px is None else cor_px
        typer.echo(f"scan {scan}, the first with a COR, at {cor_px:g} px; --scan takes another")
    elif cor_px is None:
        cor_px = known_cor_px(campaign, scan)
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
