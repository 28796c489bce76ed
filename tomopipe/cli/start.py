"""`tomopipe init` and `tomopipe check`: before the first run."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.options import ConfigFile, Directory
from tomopipe.errors import some_of
from tomopipe.run.start import Findings, examine, write_campaign, write_slurm_profile

_MOST_FORMATS = 10  # shown


def init(
    directory: Directory = Path("."),
    scans: Annotated[
        str, typer.Option(help="Files of the campaign, relative to the campaign folder.")
    ] = "raw/*.h5",
    partition: Annotated[
        str | None, typer.Option(help="SLURM partition; asked for if not given.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="SLURM account; asked for if not given.")
    ] = None,
    gpu_partition: Annotated[
        str | None,
        typer.Option(
            help="SLURM partition for volumes, if they run on GPUs; for try sweeps, too, "
            "with try_recon.device: cuda in config.yaml."
        ),
    ] = None,
    slurm: Annotated[
        bool | None, typer.Option("--slurm/--no-slurm", help="Write a SLURM profile; asked for.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace profiles that exist.")] = False,
) -> None:
    """Start a campaign folder: config.yaml, scans.tsv, Snakefile, a SLURM profile on demand.

    Files that exist are kept. The profile goes to CAMPAIGN/slurm and, if you have none of that
    name, to your Snakemake configuration; `tomopipe run` and `snakemake --profile slurm` use it.

    Example: `tomopipe init mycampaign --scans '/data/2026-11/*.h5' --partition cpu --account me`
    """
    for path in write_campaign(directory, scans):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: tomopipe check {shlex.quote(str(directory))}")
    if slurm is None:
        slurm = bool(partition or account) or typer.confirm(
            "Will this run on SLURM?", default=False
        )
    if not slurm:
        return
    if partition is None:
        partition = typer.prompt("Partition (empty: the cluster's default)", default="")
    if account is None:
        account = typer.prompt("Account (empty: none)", default="")
    for path, written in write_slurm_profile(
        directory, partition=partition, account=account, gpu_partition=gpu_partition, force=force
    ):
        typer.echo(f"wrote {path}" if written else f"kept {path} (--force replaces it)")


def check(directory: Directory = Path("."), config: ConfigFile = None) -> None:
    """Check config, campaign table, data and disk before a run.

    Opens every file (metadata only). Exit status 1 if something must be mended first.

    Example: `tomopipe check mycampaign`
    """
    findings = examine(load_campaign(directory, config))
    _show(findings)
    raise typer.Exit(1 if findings.errors else 0)


def _show(findings: Findings) -> None:
    console = Console()
    table = Table("series", "scans", "selected", "skipped", "angles x rows x columns")
    for series in findings.series:
        table.add_row(
            series.name or "(empty)",
            str(series.n_scans),
            str(series.n_selected),
            str(series.n_skipped),
            ", ".join(series.shapes),
        )
    console.print(table)
    for group in findings.formats[:_MOST_FORMATS]:
        n = len(group.scans)
        names = some_of(group.scans, 3)
        format_, *parts = group.found.split("; ")
        console.print(f"{format_}: {n} scan{'s' if n > 1 else ''} ({names})", markup=False)
        for part in parts:
            console.print(f"  {part}", markup=False, highlight=False)
    if (more := len(findings.formats) - _MOST_FORMATS) > 0:
        console.print(f"{more} more ways of recording: column found of inventory.tsv")
    for line in findings.notes:
        console.print(line, markup=False, highlight=False)
    for line in findings.warnings:
        console.print(f"warning: {line}", style="yellow", markup=False, highlight=False)
    for line in findings.errors:
        console.print(f"error: {line}", style="red", markup=False, highlight=False)
    if not findings.errors:
        console.print("Ready: tomopipe run")
