"""`tomopipe init` and `tomopipe check`: before the first run."""

import glob
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import CONFIG, NO_PREFIX, find_campaign
from tomopipe.campaign.raw_files import matches, why_no_match
from tomopipe.cli.options import ConfigFile, Directory, DryRun
from tomopipe.cli.terminal import AS_WRITTEN, near, print_columns
from tomopipe.commands import compilation
from tomopipe.commands.check import Findings, examine
from tomopipe.commands.new_campaign import (
    Translation,
    campaign_and_scans,
    for_mirrored,
    scan_entries,
    translated,
    with_entries,
    write_campaign,
    write_slurm_profile,
)
from tomopipe.config.parse import merged
from tomopipe.errors import some_of
from tomopipe.paths import no_pipe

_MOST_FORMATS = 10  # shown
_MOST_FILES = 10
_QUESTIONS = {
    "partition": "Partition (empty: the cluster's default)",
    "account": "Account (empty: none)",
}


def init(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Campaign folder, then files, folders of images, or patterns; paths are relative "
            "to the campaign folder or to this one.",
            metavar="CAMPAIGN SCANS",
            show_default="this folder",
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--campaign", "-C", help="The campaign folder.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Translate a nabu.conf, or a process list of HTTomo (.yaml)."),
    ] = None,
    relion: Annotated[
        bool | None, typer.Option("--relion/--no-relion", help="Export a RELION set.")
    ] = None,
    try_stacks: Annotated[
        bool,
        typer.Option("--try-stacks", help="Keep try stacks of accepted scans."),
    ] = False,
    binning: Annotated[int, typer.Option(min=1, help="Binning of volumes.")] = 1,
    partition: Annotated[str | None, typer.Option(help="SLURM partition.")] = None,
    account: Annotated[str | None, typer.Option(help="SLURM account.")] = None,
    gpu_partition: Annotated[
        str | None,
        typer.Option(
            help="SLURM partition for volumes on GPUs; with try_recon.device: cuda for try "
            "sweeps, too."
        ),
    ] = None,
    slurm: Annotated[
        bool | None,
        typer.Option("--slurm/--no-slurm", help="Write a SLURM profile."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace existing SLURM profiles.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Start a campaign folder: config.yaml, scans.tsv, Snakefile, optionally a SLURM profile.

    Existing files stay. The SLURM profile is written to CAMPAIGN/slurm, for `tomopipe run`, and
    copied to ~/.config/snakemake/slurm, for `snakemake --profile slurm`, unless one exists there.
    In a terminal, init asks for missing SLURM options. If all files of a folder are given, their
    pattern is written, so that later files are included; quote other patterns.

    Example: `tomopipe init mycampaign /data/2026-11/*.h5 --partition cpu --account me`
    """
    names_slurm = any(name is not None for name in (partition, account, gpu_partition))
    if slurm is False and names_slurm:
        raise typer.BadParameter("--no-slurm writes no profile: give no partition or account")
    words = paths or []
    # `init CAMPAIGN SCANS -C CAMPAIGN` names the folder twice
    if directory and words and os.path.realpath(words[0]) == os.path.realpath(directory):
        directory = None
    named, scans = (directory, words) if directory else campaign_and_scans(words)
    folder = find_campaign(named)
    options = _options(relion=relion, try_stacks=try_stacks, binning=binning)
    other = translated(source) if source else Translation([], {}, [], [])
    other = other._replace(
        scans=scans or other.scans,
        options=merged(other.options, options),
        notes=[f"not translated: {note}" for note in other.notes],
    )
    _start(folder, named, other, dry_run=dry_run)
    if slurm is None and not names_slurm and sys.stdin.isatty():
        slurm = typer.confirm("Will this run on SLURM?", default=False)
    if slurm or names_slurm:
        site = {"partition": partition, "account": account, "gpu_partition": gpu_partition}
        _write_profiles(folder, site, force=force, dry_run=dry_run)
    if not dry_run:
        compilation.compile_once(folder, typer.echo)


def _start(directory: Path, folder: Path, campaign: Translation, *, dry_run: bool) -> None:
    """Write a campaign; print how the arguments were read, existing files, and the next command."""
    words, options, notes, _ = campaign
    entries = scan_entries(words, directory) or ["raw/*.h5"]
    scans = with_entries(entries, directory)
    options, converted = for_mirrored(options, entries, directory)
    notes = [*notes, *converted]
    written = write_campaign(directory, scans, options, notes=notes, dry_run=dry_run)
    for path in written:
        typer.echo(f"{'would write' if dry_run else 'wrote'} {near(path)}")
    is_new = directory / CONFIG in written
    if is_new:
        typer.echo(f"campaign folder {near(directory)}, scans {some_of(entries, _MOST_FILES)}")
        for entry in filter(glob.has_magic, entries):
            if n := len(matches(entry, directory)):
                typer.echo(f"{entry} is a pattern: {n} files match now, later ones are added")
        for entry in (each["glob"] for each in scans if isinstance(each, dict)):
            typer.echo(f"{entry}: several NXtomo entries in a file; each is a scan (entries: all)")
    else:
        target = {"campaign": {"scans": scans}, **options} if words else options
        _print_existing(directory / CONFIG, target, folder)
    for note in notes:
        typer.echo(note)
    if not dry_run:
        without = [entry for entry in entries if is_new and not matches(entry, directory)]
        are_to_come = len(without) == len(entries)
        for entry in without:
            typer.echo(f"no file matches {entry} yet{why_no_match(entry, directory)}")
        command = "run --watch" if are_to_come else "check"
        typer.echo(f"next: tomopipe {command} {shlex.quote(near(directory))}")


def _options(*, relion: bool | None, try_stacks: bool, binning: int) -> dict[str, Any]:
    """Return the blocks of the configuration for options of the command line."""
    options: dict[str, Any] = {} if relion is None else {"export_star": {"enabled": relion}}
    options |= {"storage": {"keep_try": True}} if try_stacks else {}
    return options | ({"full_recon": {"binning": binning}} if binning > 1 else {})


def _write_profiles(
    directory: Path, site: dict[str, str | None], *, force: bool, dry_run: bool
) -> None:
    """Write the SLURM profiles of a site; prompts for missing names in a terminal."""
    for name, question in _QUESTIONS.items():
        if site[name] is None:
            site[name] = typer.prompt(question, default="") if sys.stdin.isatty() else ""
    for path, is_new in write_slurm_profile(directory, site, force=force, dry_run=dry_run):
        shown, wrote = near(path), "would write" if dry_run else "wrote"
        with suppress(OSError):
            present = no_pipe(path).read_text()
            lacking = [text for text in site.values() if text and text not in present]
            shown += (
                f", which does not name {some_of(lacking, 3)}" if lacking and not is_new else ""
            )
        typer.echo(f"{wrote} {shown}" if is_new else f"kept {shown} (--force replaces it)")


def _print_existing(config: Path, target: Mapping[str, Any], folder: Path) -> None:
    lacking = _not_in(config, target)
    is_above = config.parent != Path(os.path.abspath(folder))
    more = f": {near(folder)} lies in this campaign" if is_above else ""
    more += "; these options are not in it:" if lacking else ""
    typer.echo(f"kept {near(config)}{more}")
    if lacking:
        typer.echo(yaml.safe_dump(lacking, allow_unicode=True, sort_keys=False).rstrip())


def _not_in(config: Path, target: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys that a configuration does not have, or has with another value."""
    try:
        present = yaml.safe_load(no_pipe(config).read_text(encoding="utf-8")) or {}
        lacking = {
            block: {k: v for k, v in keys.items() if (present.get(block) or {}).get(k) != v}
            for block, keys in target.items()
        }
    except (OSError, yaml.YAMLError, AttributeError):
        return dict(target)  # tomopipe check reports it
    return {block: keys for block, keys in lacking.items() if keys}


def check(directory: Directory = Path("."), config: ConfigFile = None) -> None:
    """Check config, campaign table, data and disk before a run.

    Reads the metadata of every file; also names options without effect. Exit status 1 if something
    must be corrected first.

    Example: `tomopipe check mycampaign`
    """
    findings = examine(load_campaign(directory, config))
    _show(findings)
    raise typer.Exit(1 if findings.errors else 0)


def _show(findings: Findings) -> None:
    console = Console(soft_wrap=True, **AS_WRITTEN)  # lines to copy paths from
    heads = ("series", "scans", "selected", "skipped", "angles x rows x columns")
    print_columns(
        heads,
        [
            (
                series.name or NO_PREFIX,
                *map(str, (series.n_scans, series.n_selected, series.n_skipped)),
                ", ".join(series.shapes),
            )
            for series in findings.series
        ],
        remark=heads[-1],
    )
    typer.echo()
    for entry, scans in findings.formats[:_MOST_FORMATS]:
        n, names = len(scans), some_of(scans, 3)
        format_, *parts = entry.split("; ")
        console.print(f"{format_}: {n} scan{'s' if n > 1 else ''} ({names})", markup=False)
        for part in parts:
            console.print(f"  {part}", markup=False, highlight=False)
    if (more := len(findings.formats) - _MOST_FORMATS) > 0:
        console.print(f"{more} more file layouts: see inventory.tsv (found) after a run")
    lines = [("", line) for line in findings.notes]
    lines += [("yellow", f"warning: {line}") for line in findings.warnings]
    lines += [("red", f"error: {line}") for line in findings.errors]
    for style, line in lines:
        console.print(line, style=style, markup=False, highlight=False)
    if not findings.errors:
        console.print("Everything is up to date." if findings.is_done else "Ready: tomopipe run")
