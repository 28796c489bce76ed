"""`tomopipe clean`: remove what a campaign declares temporary."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.options import ConfigFile, Directory, DryRun
from tomopipe.cost.disk import shown_size
from tomopipe.errors import TomopipeError
from tomopipe.run.retention import accepted_scans, of_gone_scans, removable, remove


def clean(
    directory: Directory = Path("."),
    config: ConfigFile = None,
    dry_run: DryRun = False,
    gone: Annotated[
        bool,
        typer.Option(
            "--gone",
            help="Instead remove volumes and stacks of scans that are not in the campaign, and "
            "volumes in another format than full_recon.output.",
        ),
    ] = False,
) -> None:
    """Remove try stacks and stacks for RELION that are declared temporary, of accepted scans.

    Temporary is what `storage.keep_try` and `storage.keep_stacks` say. A scan is accepted when its
    COR needs no review and its volume was made at it; those of other scans stay, and if nothing is
    removed their number is printed. The next run does not make the files again, and the review page
    shows any COR from rows.h5.

    Example: `tomopipe clean mycampaign -n`
    """
    campaign = load_campaign(directory, config)
    storage = campaign.config.storage
    if storage.keep_try and storage.keep_stacks and not gone:
        raise TomopipeError(
            "nothing is temporary here: set storage.keep_try or storage.keep_stacks to no."
        )
    files = of_gone_scans(campaign) if gone else removable(campaign)
    for file in files:
        typer.echo(file.path.relative_to(campaign.directory))
    n_bytes = sum(file.n_bytes for file in files) if dry_run else remove(files)
    kinds = Counter(file.kind for file in files)
    counts = (f"{n} {kind}{'s' * (n != 1)}" for kind, n in sorted(kinds.items()))
    what = ", ".join(counts) or "no files"
    did = "would be removed" if dry_run else "removed"
    typer.echo(f"{what}, {shown_size(n_bytes)}: {did}")
    if not (files or gone) and (n := len(campaign.scans) - len(accepted_scans(campaign))):
        typer.echo(f"{n} of {len(campaign.scans)} scans are not accepted; see tomopipe cor list.")
