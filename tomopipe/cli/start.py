"""`tomopipe init` and `tomopipe check`: before the first run."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import CONFIG, find_campaign
from tomopipe.cli.options import ConfigFile, Directory, DryRun
from tomopipe.cli.terminal import near
from tomopipe.commands.check import Findings, examine
from tomopipe.commands.first_look import (
    FirstLook,
    UnknownLayout,
    first_look,
    not_looked_at,
    refuse_typed,
    scan_entries,
    skipped_folders,
    split_typed,
)
from tomopipe.commands.new_campaign import write_campaign, write_slurm_profile
from tomopipe.config import Config, ScanGlob
from tomopipe.cost.disk import shown_size
from tomopipe.errors import TomopipeError, some_of
from tomopipe.groups import scans_named
from tomopipe.scans.formats import format_named

_MOST_FORMATS = 10  # shown
_MOST_DATASETS = 40
_MOST_FILES = 10
_QUESTIONS = {
    "partition": "Partition (empty: the cluster's default)",
    "account": "Account (empty: none)",
}
_PATHS = """\
  input:
    paths:
      data: /...        # frames, 3-D: angles x rows x columns
      flats: /...       # none at all: preprocess: {flats: none}
      darks: /...       # likewise
      image_key: /...   # or the kind of each frame: 0 projection, 1 flat, 2 dark
      angles: /...      # or input: {angles: {start: 0, stop: 180}}"""


def init(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="The campaign folder, and files or folders of scans (patterns need no quotes).",
            metavar="CAMPAIGN SCANS",
            show_default="this folder",
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--campaign", "-C", help="The campaign folder.")
    ] = None,
    scans: Annotated[
        list[str] | None,
        typer.Option(
            help="Files, folders or patterns, relative to the campaign folder or to this one.",
            show_default="raw/*.h5",
        ),
    ] = None,
    relion: Annotated[
        bool, typer.Option("--relion/--no-relion", help="Make stacks for RELION.")
    ] = True,
    try_stacks: Annotated[
        bool,
        typer.Option(
            "--try-stacks/--no-try-stacks", help="Keep the try stack of a scan that is accepted."
        ),
    ] = True,
    binning: Annotated[int, typer.Option(min=1, help="Binning of volumes.")] = 1,
    partition: Annotated[
        str | None, typer.Option(help="SLURM partition (prompted for in a terminal).")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="SLURM account (prompted for in a terminal).")
    ] = None,
    gpu_partition: Annotated[
        str | None,
        typer.Option(
            help="SLURM partition for volumes, if they run on GPUs; for try sweeps, too, "
            "with try_recon.device: cuda in config.yaml."
        ),
    ] = None,
    slurm: Annotated[
        bool | None,
        typer.Option("--slurm/--no-slurm", help="Write a SLURM profile (prompted for)."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace SLURM profiles that exist.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Start a campaign folder: config.yaml, scans.tsv, Snakefile, a SLURM profile on demand.

    Files that exist are kept. The profile goes to CAMPAIGN/slurm and, if you have none of that
    name, to your Snakemake configuration; `tomopipe run` and `snakemake --profile slurm` use it.
    Without a terminal nothing is asked.

    Example: `tomopipe init mycampaign /data/2026-11/*.h5 --partition cpu --account me`
    """
    names_slurm = any(name is not None for name in (partition, account, gpu_partition))
    if slurm is False and names_slurm:
        raise typer.BadParameter("--no-slurm writes no profile: give no partition or account")
    named, rest = (directory, paths or []) if directory else split_typed(paths or [])
    folder = find_campaign(Path(named))
    refuse_typed(rest, folder)
    options = _options(relion=relion, try_stacks=try_stacks, binning=binning)
    _start(folder, Path(named), [*(scans or []), *rest], options, dry_run=dry_run)
    if slurm is None and not names_slurm and sys.stdin.isatty():
        slurm = typer.confirm("Will this run on SLURM?", default=False)
    if slurm or names_slurm:
        site = {"partition": partition, "account": account, "gpu_partition": gpu_partition}
        _write_profiles(folder, site, force=force, dry_run=dry_run)


def _start(
    directory: Path, asked: Path, typed: list[str], options: Mapping[str, Any], *, dry_run: bool
) -> None:
    """Write a campaign; say how the words were read, what is there already, and what comes next."""
    entries: list[str | dict[str, str]] = scan_entries(typed, directory) or ["raw/*.h5"]
    _say_passed_over(typed, directory)
    written = write_campaign(directory, entries, options, dry_run=dry_run)
    for path in written:
        typer.echo(f"{'would write' if dry_run else 'wrote'} {near(path)}")
    is_new = directory / CONFIG in written
    if is_new:
        patterns = [entry if isinstance(entry, str) else entry["glob"] for entry in entries]
        typer.echo(f"campaign folder {near(directory)}, scans {some_of(patterns, _MOST_FILES)}")
    else:
        wanted = {"campaign": {"scans": entries}, **options} if typed else options
        _say_kept(directory / CONFIG, wanted, asked)
    if not dry_run:
        are_to_come = is_new and _first_look(directory)
        command = "run --watch" if are_to_come else "check"
        typer.echo(f"next: tomopipe {command} {shlex.quote(near(directory))}")


def _say_passed_over(typed: list[str], directory: Path) -> None:
    """Name the folders and files that init does not take, and the patterns that take them."""
    for folder, names in skipped_folders(typed, directory).items():
        typer.echo(
            f"skipped, as their images lie deeper: {some_of(names, _MOST_FILES)}; "
            f"'{folder}/*/' takes each folder as a scan"
        )
    for folder, files in not_looked_at(typed, directory).items():
        inner = dict.fromkeys(
            f"{os.path.dirname(name)}/" if "/" in name else name for name in files
        )
        what = " and ".join(
            dict.fromkeys(format_.name for name in files if (format_ := format_named(name)))
        )
        n_files = f"{len(files)} {what} file{'s' * (len(files) > 1)}"
        pattern = f"{folder}/{'*/' * ('/' in files[0])}*{os.path.splitext(files[0])[1]}"
        named = some_of(list(inner), _MOST_FILES)
        typer.echo(f"not looked at: {named} ({n_files}); '{pattern}' takes them")


def _options(*, relion: bool, try_stacks: bool, binning: int) -> dict[str, Any]:
    """Return the blocks of the configuration that options of the command line ask for."""
    options: dict[str, Any] = {} if relion else {"export_star": {"enabled": False}}
    options |= {} if try_stacks else {"storage": {"keep_try": False}}
    return options | ({"full_recon": {"binning": binning}} if binning > 1 else {})


def _write_profiles(
    directory: Path, site: dict[str, str | None], *, force: bool, dry_run: bool
) -> None:
    """Write the SLURM profiles of a site; names that were not given are asked for in a terminal."""
    for name, question in _QUESTIONS.items():
        if site[name] is None:
            site[name] = typer.prompt(question, default="") if sys.stdin.isatty() else ""
    for path, is_new in write_slurm_profile(directory, site, force=force, dry_run=dry_run):
        shown, wrote = near(path), "would write" if dry_run else "wrote"
        typer.echo(f"{wrote} {shown}" if is_new else f"kept {shown} (--force replaces it)")


def _say_kept(config: Path, wanted: Mapping[str, Any], asked: Path) -> None:
    lacking = _not_in(config, wanted)
    is_above = config.parent != Path(os.path.abspath(asked))
    more = f": {near(asked)} lies in this campaign" if is_above else ""
    more += "; what you typed is not in it:" if lacking else ""
    typer.echo(f"kept {near(config)}{more}")
    if lacking:
        typer.echo(yaml.safe_dump(lacking, allow_unicode=True, sort_keys=False).rstrip())


def _smaller(config: Config) -> dict[str, str]:
    """Return how each kind of result takes less disk."""
    has_try = config.storage.keep_try
    return {
        "volumes": f"--binning {2 * config.full_recon.binning}: an eighth",
        "stacks for RELION": "--no-relion: none",
        "try stacks": "--no-try-stacks: " * has_try + "each goes once its scan is accepted",
    }


def _not_in(config: Path, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys that a configuration does not have, or has with another value."""
    try:
        present = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        lacking = {
            block: {k: v for k, v in keys.items() if (present.get(block) or {}).get(k) != v}
            for block, keys in wanted.items()
        }
    except (OSError, yaml.YAMLError, AttributeError):
        return dict(wanted)  # tomopipe check will tell
    return {block: keys for block, keys in lacking.items() if keys}


def _first_look(directory: Path) -> bool:
    """Print the scans, what their files lack, and the disk needed; tell if files are to come."""
    try:
        campaign = load_campaign(directory)
        look = first_look(campaign)
    except TomopipeError as error:
        typer.echo(f"{error}")
        return False
    if look.missing:
        named = some_of(look.missing, _MOST_FILES)
        typer.echo(f"no file is there yet: {named} (campaign.scans in {CONFIG})")
    for entry in campaign.config.campaign.scans:
        if isinstance(entry, ScanGlob):
            typer.echo(f"{entry.glob}: in names {entry.prefix}..., as another folder has the same")
    for problem in look.problems:
        typer.echo(problem)
    if look.n_looked:
        _show_scans(look, campaign.config)
    if look.unknown:
        _show_unknown(look)
    if look.references:
        files = some_of([path for paths in look.references.values() for path in paths], _MOST_FILES)
        keys = " and ".join(f"preprocess.{kind}" for kind in look.references)
        typer.echo(f"{files}: by name {' or '.join(look.references)}, files for {keys}")
    return not look.n_scans


def _show_scans(look: FirstLook, config: Config) -> None:
    """Print how many scans can be used, why others cannot, and the disk needed."""
    scans = "1 scan" if look.n_scans == 1 else f"{look.n_scans} scans"
    if look.n_usable < look.n_looked:
        scans += f" ({look.n_usable} of {look.n_looked} looked at can be used)"
    if look.n_usable:
        typer.echo(
            f"{scans}: results take about {shown_size(sum(look.n_bytes.values()))}, "
            f"{look.free_bytes / 1e9:.2f} GB are free here. "
            f"To save space, options of init (or in {CONFIG}):"
        )
        smaller = _smaller(config)
        for kind, n in look.n_bytes.items():
            typer.echo(f"  {kind:18} {shown_size(n):>12}  {smaller[kind]}")
    else:
        typer.echo(scans)
    for reason, names in list(look.faults.items())[:_MOST_FILES]:
        typer.echo(f"  {scans_named(names)}: {reason}")


def _show_unknown(look: FirstLook) -> None:
    """Print what a file of each unknown layout has, and where the names go."""
    shown = look.unknown[:_MOST_FORMATS]
    for layout in shown:
        _show_layout(layout, look.n_looked, max(_MOST_FILES, _MOST_DATASETS // len(shown)))
    if (more := len(look.unknown) - len(shown)) > 0:
        typer.echo(f"{more} more layouts are not recognised")
    named = [layout for layout in shown if layout.can_be_named]
    if named:
        typer.echo(f"Put the names of the datasets into {CONFIG}, as far as there are such:")
    if named and named[0].only:
        typer.echo("  overrides:")
    flow: dict[str, Any] = {"default_flow_style": None, "allow_unicode": True, "width": 1e9}
    for number, layout in enumerate(named):
        if layout.only:
            typer.echo(f"  - {yaml.safe_dump(layout.only, **flow).rstrip()}")
        paths = re.sub(r" *#.*", "", _PATHS) if number else _PATHS
        for key, name in layout.parts.items():
            # the remark on a line names another way
            remark = "" if key == "data" else ".*"
            old = re.search(rf" {key}: /\.\.\.{remark}", paths)
            paths = paths.replace(old[0], f" {key}: {name}") if old else paths
        for key in {*layout.references, *_not_needed(layout.parts)}:
            paths = re.sub(rf"\n *{key}:.*", "", paths)
        if layout.references:
            line = yaml.safe_dump(layout.references, sort_keys=False, **flow).rstrip()
            paths += f"\n  preprocess: {line}"
        typer.echo(indent(paths, "  " if layout.only else ""))


def _not_needed(parts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys of `input.paths` that say the same as those that are known."""
    if "image_key" in parts:
        return ("flats", "darks")
    return ("image_key",) if {"flats", "darks"} <= {*parts} else ()


def _show_layout(layout: UnknownLayout, n_looked: int, most: int) -> None:
    """Print what the first file of a layout has, at most so many datasets."""
    n, has = len(layout.files), "It has" if len(layout.files) == 1 else "The first has"
    named = some_of(layout.files, _MOST_FILES)
    typer.echo(f"{named}: not recognised ({n} of {n_looked} looked at). {has}")
    for found in layout.datasets[:most]:
        name = found.name + f" and {found.n_alike} alike" * (found.n_alike > 0)
        typer.echo(f"  {name}  {' x '.join(map(str, found.shape))}  {found.dtype}")
    for link in layout.broken[:most]:
        typer.echo(f"  {link}")
    if layout.has_images:
        typer.echo("  Images in datasets of their own are not read: make a folder of TIFF files.")


def check(directory: Directory = Path("."), config: ConfigFile = None) -> None:
    """Check config, campaign table, data and disk before a run.

    Opens every file (metadata only). Exit status 1 if something must be mended first.

    Example: `tomopipe check mycampaign`
    """
    findings = examine(load_campaign(directory, config))
    _show(findings)
    raise typer.Exit(1 if findings.errors else 0)


def _show(findings: Findings) -> None:
    console = Console(soft_wrap=True)  # lines to copy paths from
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
    for found, scans in findings.formats[:_MOST_FORMATS]:
        n, names = len(scans), some_of(scans, 3)
        format_, *parts = found.split("; ")
        console.print(f"{format_}: {n} scan{'s' if n > 1 else ''} ({names})", markup=False)
        for part in parts:
            console.print(f"  {part}", markup=False, highlight=False)
    if (more := len(findings.formats) - _MOST_FORMATS) > 0:
        console.print(f"{more} more ways of recording: `tomopipe run` writes inventory.tsv (found)")
    said = [("", line) for line in findings.notes]
    said += [("yellow", f"warning: {line}") for line in findings.warnings]
    said += [("red", f"error: {line}") for line in findings.errors]
    for style, line in said:
        console.print(line, style=style, markup=False, highlight=False)
    if not findings.errors:
        console.print("Ready: tomopipe run")
