"""`tomopipe verify`: compare the results on disk with their checksums."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.relion_set import failed_stacks
from tomopipe.cli.options import ConfigFile, Directory
from tomopipe.cli.terminal import progress_bar
from tomopipe.commands.verification import damaged, recorded
from tomopipe.cost.disk import shown_size


def verify(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read all results and compare their checksums.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads that read, with --deep.")] = 4,
) -> None:
    """Compare the results on disk with the record of what was made.

    Without --deep sizes and times alone (of TIFF and OME-Zarr sizes), in seconds. With it every
    byte, at the speed of the disk: after a copy, a restored backup, a full disk or a crash. A
    result that differs is named; delete it, and the next run makes it again.
    Exit status: 0 all as it was made, 1 something differs.

    Example: `tomopipe verify mycampaign --deep`
    """
    campaign = load_campaign(directory, config, needs_raw=False)
    products = recorded(campaign)
    if not products:
        typer.echo(f"No result is on record in {campaign.results}.")
        return
    n_damaged, n_bytes = 0, sum(product.n_bytes for product in products)
    with progress_bar(n_bytes, DownloadColumn()) as advance:
        changed = damaged(campaign.directory, products, advance, deep=deep, threads=threads)
        for product, what in changed:
            typer.echo(f"{product.path}: {what}")
            n_damaged += 1
    how = "read and compared" if deep else "compared by size and time (TIFF and OME-Zarr by size)"
    typer.echo(f"{len(products)} results, {shown_size(n_bytes)}, {how}: {n_damaged} differ")
    if deep and (without := sum(not product.checksum for product in products)):
        typer.echo(f"{without} have no checksum on record: of these sizes alone were compared")
    selected = [scan for scan, known in campaign.scans.items() if known.select != "no"]
    for scan, reason in failed_stacks(campaign, selected).items():
        typer.echo(f"{scan}: no stack for RELION was made: {reason}")
    if n_damaged:
        raise typer.Exit(1)
