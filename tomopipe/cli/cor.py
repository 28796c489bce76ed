"""`tomopipe cor`: list, set, import and export the CORs of a campaign."""

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tomopipe.campaign.campaign import Campaign, load_campaign
from tomopipe.campaign.cor_files import (
    Match,
    describe_junk,
    match,
    merge_batch_csv,
    merge_rot_cen,
    read_cors,
)
from tomopipe.campaign.files import SIDECAR, history_of
from tomopipe.campaign.history import last_act, record_changes, undoing
from tomopipe.campaign.reading import raw_scan
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_inventory
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.campaign.state.signs import SIGNS, State, source_label
from tomopipe.campaign.table import Change, checked_cor, edit_table
from tomopipe.cli.options import (
    CampaignCommand,
    CampaignOption,
    ConfigFile,
    DryRun,
    Group,
    campaign_and_scans,
)
from tomopipe.cli.terminal import near, print_columns, state_text
from tomopipe.cor.cor_value import CorText, format_cor, is_valid, off_detector, shown
from tomopipe.errors import ScanError, TomopipeError, some_of
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.records import ScanRecord
from tomopipe.report.scan_records import Reader
from tomopipe.review.queue import decide, read_cells

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Example: `tomopipe cor set rock_003 85.01`\n\n"
    "List, set, import and export centres of rotation (COR).\n\n"
    "CORs set by hand are in the campaign table (scans.tsv), in unbinned pixels, the first "
    "column being 0. The next run redoes what depends on them, and nothing else.",
)


_SET, _IMPORT = "cor set", "cor import"  # in the history of the campaign table
_KEYS = ("scan", "series", "cor_px", "source", "before_px", "confidence", "manual", "error_px")
_HEADS = ("scan", "series", "COR", "source", "before", "confidence", "manual", "state")
_OPTIONAL = ("series", "before", "confidence", "manual")


class Form(StrEnum):
    """TomoGUI's forms of a table of CORs."""

    rot_cen = "rot_cen"
    csv = "csv"


@app.command("list", cls=CampaignCommand)
def list_cors(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CAMPAIGN SCAN",
            help="Campaign folder, scans (names or 'patterns').",
            show_default="this folder, all scans",
        ),
    ] = None,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the COR of each scan, where it comes from, and what it was before fixing.

    Shows the results of the last run; the column `manual` has CORs of the campaign table.

    Examples: `tomopipe cor list mycampaign`, `tomopipe cor list 'rock_*'`
    """
    directory, names = campaign_and_scans(context, words or [], directory, config)
    campaign = load_campaign(directory, config)
    scans = set(scans_of(campaign, names)) if names else campaign.scans
    reader = Reader(campaign.directory)
    pending, rows, shown_rows, styles = 0, list[dict[str, Any]](), list[list[str]](), list[str]()
    for scan in (record for record in _records(campaign, reader) if record.name in scans):
        why_not = not_selected(scan.select, scan.row)
        reason = ": ".join(filter(None, (why_not, scan.reason * (why_not is State.SKIPPED))))
        values = (None, reason, None, None) if why_not else _values(scan)
        cells = (scan.name, scan.series, *values, scan.manual.text, _rounded(scan.error_px))
        rows.append(dict(zip(_KEYS, cells, strict=True)))
        texts = [cell if isinstance(cell, str) else format_cor(cell) for cell in cells[:-1]]
        texts[_KEYS.index("source")] = source_label(cells[3] or "")
        if values[0] is not None:
            texts[_KEYS.index("cor_px")] = scan.shown_text
        shown_rows.append([*texts, state_text(scan.state)])
        styles.append(SIGNS[scan.state].style)
        pending += not why_not and scan.is_edited
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print_columns(_HEADS, shown_rows, styles, optional=_OPTIONAL)
    if pending and not as_json:
        typer.echo(f"{pending} set or removed by hand since the last run: `tomopipe run`.")
    if reader.notes:
        raise TomopipeError("; ".join(f"{note.path}: {note.problem}" for note in reader.notes))


# A negative number is refused as a COR, not as an unknown option.
@app.command("set", cls=CampaignCommand, context_settings={"ignore_unknown_options": True})
def set_cor(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="CAMPAIGN SCAN COR",
            help="Campaign folder (default: this one), scans (names or 'patterns'), and their COR "
            "in unbinned pixels, such as 1024.50; '' removes it.",
        ),
    ],
    note: Annotated[
        str | None, typer.Option(help="Note in the campaign table; '' removes it.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the manual COR.")] = False,
    dry_run: DryRun = False,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
) -> None:
    """Set one COR for one or more scans, in the campaign table.

    If the value is outside the detector of one of them, nothing is set.

    Examples: `tomopipe cor set sample_007 1024.5 --note 'by eye'`,
    `tomopipe cor set 'sandA_*' 263 -n`, `tomopipe cor set sample_007 --clear`
    """
    if unknown := [w for w in words if w.startswith("-") and CorText(w).px is None]:
        raise typer.BadParameter(f"No such option: {unknown[0]}")
    directory, words = campaign_and_scans(context, words, directory, config)
    campaign = load_campaign(directory, config)
    names, value = _names_and_cor(campaign, words, needs_cor=not clear and note is None)
    scans = scans_of(campaign, names)
    if clear and value:
        raise TomopipeError(f"got both a COR, {shown(value)}, and --clear; give one of them.")
    cor = CorText((value or "").strip())
    inventory = _inventory(campaign) if cor.text else {}
    n_cols = _widths(campaign, inventory, scans) if cor.px else {}
    edits: dict[str, dict[str, str]] = {scan: {} for scan in scans}
    for scan, cells in edits.items():
        if clear or value is not None:
            cells["cor_px"] = checked_cor(scan, cor, n_cols.get(scan)) if cor.text else ""
        if note is not None:
            cells["note"] = note.strip()
    table = campaign.table_path
    changed = not dry_run and edit_table(table, edits, _recorder(table, _SET))
    for scan, cells in edits.items():
        changes = ", ".join(f"{name} {cell or 'removed'}" for name, cell in cells.items())
        as_before = "" if changed or dry_run else " (unchanged)"
        typer.echo(f"{scan}{' (dry run)' * dry_run}: {changes}{as_before}")
        select, row = campaign.scans[scan].select, inventory.get(scan)
        if cells.get("cor_px") and (why := why_not_selected(select, row)):
            typer.echo(f"This COR has no effect while {scan} is not selected: {why}")
    if changed and len(scans) > 1:
        typer.echo(_how_to_undo(directory))


def _names_and_cor(
    campaign: Campaign, words: list[str], *, needs_cor: bool
) -> tuple[list[str], str | None]:
    """Separate the names of scans from the COR after them, optional with --clear and --note."""
    *names, last = words or [""]
    is_scan = False
    with suppress(TomopipeError):
        is_scan = bool(scans_of(campaign, [last]))
    is_number = CorText(last).px is not None
    if is_scan and is_number and names and not needs_cor:
        raise TomopipeError(
            f"{last} is a number, and the name of a scan. Type {last}.h5 for the scan; a COR goes "
            "into a command without --clear and --note."
        )
    if names and (is_number or not is_scan):
        return names, last
    if needs_cor:
        raise TomopipeError(
            f"no COR given for {', '.join(words)}; give a number, or --clear to remove it."
        )
    return words, None


@app.command("import", cls=CampaignCommand)
def import_cors(
    files: Annotated[
        list[Path], typer.Argument(help="rot_cen.json, a CSV file `Filename,COR`, or sidecars.")
    ],
    dry_run: DryRun = False,
    predicted: Annotated[
        bool,
        typer.Option(
            "--predicted",
            help="Also import predicted CORs, as manual ones: those of sidecars, and those that a "
            "scan has already.",
        ),
    ] = False,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
) -> None:
    """Import CORs from TomoGUI or an earlier campaign, as manual CORs.

    Entries are matched to scans by path, else by file name; those that match no scan or several are
    listed and skipped. If a value is invalid, nothing is imported. From sidecars only manual CORs
    are imported. Values equal to results/cor.json change nothing, so you may edit an exported table
    and import it.

    Examples: `tomopipe cor import /data/rot_cen.json -C mycampaign -n`,
    `tomopipe cor import mycampaign/raw/*.cor.json -C mycampaign` (scans.tsv was lost)
    """
    campaign = load_campaign(directory, config)
    file = some_of(list(map(str, files)), 3)
    cors, junk, ignored = read_cors(files, predicted=predicted)
    entries = cors | dict.fromkeys(junk, math.nan)
    result = match(entries, {scan.name: scan.abspath for scan in campaign.scans.values()})
    foreign = {*result.unmatched, *result.ambiguous}
    if ours := {entry: text for entry, text in junk.items() if entry not in foreign}:
        raise TomopipeError(f"{file}: nothing imported: {describe_junk(ours)}")
    n_cols = _widths(campaign, _inventory(campaign), result.matched)
    off = [
        f"{scan}: {off_detector(cor_px, n_cols[scan])}"
        for scan, cor_px in result.matched.items()
        if scan in n_cols and not is_valid(cor_px, n_cols[scan])
    ]
    if off:
        raise TomopipeError(f"{file}: nothing imported, for\n  " + "\n  ".join(off))
    new = {scan: format_cor(cor_px) for scan, cor_px in result.matched.items()}
    old = {scan: campaign.scans[scan].manual for scan in new}
    changes = {scan: text for scan, text in new.items() if old[scan].px != float(text)}
    equal = [] if predicted else _equal(campaign, changes)
    for scan in equal:
        del changes[scan]
    if changes and not dry_run:
        table, edits = campaign.table_path, {scan: {"cor_px": changes[scan]} for scan in changes}
        edit_table(table, edits, _recorder(table, _IMPORT))
    _print_matches(result, changes, old, junk)
    with_cor = {Path(entry).name for entry in cors}
    skipped = {Path(entry).name: why for entry, why in ignored.items()}  # a scan counts once
    for why, n in Counter(why for scan, why in skipped.items() if scan not in with_cor).items():
        typer.echo(f"skipped: {n} {why}")
    if equal:
        typer.echo(
            f"skipped: {len(equal)} predicted CORs that are equal (--predicted imports them)"
        )
    verb = "would be set" if dry_run else "set"
    typer.echo(
        f"{len(changes)} {verb}, {len(new) - len(changes)} unchanged, "
        f"{len(result.unmatched)} unmatched, {len(result.ambiguous)} ambiguous"
    )
    if changes and not dry_run:
        typer.echo(_how_to_undo(directory))


@app.command("undo", cls=CampaignCommand)
def undo_last(
    dry_run: DryRun = False, directory: CampaignOption = Path("."), config: ConfigFile = None
) -> None:
    """Undo your last `cor set` or `cor import`; the next call undoes the one before.

    Rows that were changed since then stay as they are.

    Example: `tomopipe cor undo -n`
    """
    table = load_campaign(directory, config).table_path
    act = last_act(table, read_cells(table), by=(_SET, _IMPORT))
    if not act:
        typer.echo(f"{history_of(table)}: nothing to undo")
        return
    edits = undoing(act)
    tell = partial(typer.echo, err=True)
    outcomes = {} if dry_run else decide(table, edits, by="cor undo", undoes=act[0].act, tell=tell)
    left = [scan for scan, outcome in outcomes.items() if not outcome.saved]
    for scan, (cells, _) in edits.items():
        if scan not in left:
            changes = ", ".join(f"{name} {cell or 'removed'}" for name, cell in cells.items())
            typer.echo(f"{scan}{' (dry run)' * dry_run}: {changes}")
    if left:
        raise TomopipeError(
            f"{table}: changed since then, and left as they are: {some_of(left, 9)}. To set them: "
            "`tomopipe cor set`."
        )


def _how_to_undo(directory: Path) -> str:
    folder = near(directory)
    return "To undo: tomopipe cor undo" + f" -C {shlex.quote(folder)}" * (folder != ".")


def _recorder(table: Path, by: str) -> Callable[[list[Change]], None]:
    """Return a function that appends changes of a locked table to its history."""
    return partial(record_changes, table=table, by=by, tell=partial(typer.echo, err=True))


@app.command("export", cls=CampaignCommand)
def export_cors(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    form: Annotated[
        Form, typer.Option("--format", help="rot_cen: path to COR, as JSON; csv: `Filename,COR`.")
    ] = Form.rot_cen,
    dry_run: DryRun = False,
    directory: CampaignOption = Path("."),
    config: ConfigFile = None,
) -> None:
    """Write the resolved CORs to a file in one of TomoGUI's formats.

    Entries of other scans in the file stay. Every run also writes results/rot_cen.json.

    Examples: `tomopipe cor export /data/rot_cen.json`,
    `tomopipe cor export batch_cor_values.csv --format csv`
    """
    campaign = load_campaign(directory, config)
    path = campaign.files.cor_table
    if not path.is_file():
        raise TomopipeError(f"{path}: not there yet. `tomopipe run` makes it.")
    resolved = read_cor_json(path)
    _refuse_own(campaign, file)
    cors = {
        campaign.scans[scan].abspath: float(entry["cor_px"])
        for scan, entry in resolved.items()
        if scan in campaign.scans
    }
    named = f"{len(cors)} COR{'s' * (len(cors) != 1)} to {file}"
    if dry_run:
        typer.echo(f"would write {named}")
        return
    others = (merge_rot_cen if form is Form.rot_cen else merge_batch_csv)(cors, file)
    typer.echo(f"wrote {named}" + _other_entries(campaign, cors, others))


def _refuse_own(campaign: Campaign, file: Path) -> None:
    """Raise if a table of CORs would replace a device, or one of the campaign's own files."""
    if file.exists() and not file.is_file():
        raise TomopipeError(f"{file}: a folder or device. Give the path of a file.")
    real, table = Path(os.path.realpath(file)), campaign.table_path
    if (
        real.is_relative_to(os.path.realpath(campaign.results))
        or real in {Path(os.path.realpath(path)) for path in (table, history_of(table))}
        or file.name.endswith(SIDECAR)
    ):
        raise TomopipeError(
            f"{file}: one of the campaign's own files (results, campaign table, sidecars). Give "
            "another path."
        )


def _other_entries(campaign: Campaign, cors: Mapping[str, float], others: list[str]) -> str:
    """Describe the other entries of the file."""
    without_cor = {scan.abspath for scan in campaign.scans.values()} - set(cors)
    stale = sum(os.path.normpath(name) in without_cor for name in others)
    text = f"; other entries kept: {len(others)}" if others else ""
    return text + (f", {stale} of them of scans without a COR here" if stale else "")


def _records(campaign: Campaign, reader: Reader) -> Iterator[ScanRecord]:
    """Yield the scans of a campaign; without an entry in cor.json, the COR of fix_cor counts."""
    names = {(scan.name, scan.path) for scan in campaign.scans.values()}
    for scan in collect_scans(campaign, reader):
        if (scan.name, scan.path) in names:
            fix = None if scan.source else scan.fix
            yield replace(scan, cor_px=fix.after_px, source=fix.source) if fix else scan


def _values(scan: ScanRecord) -> tuple[float | None, str, float | None, float | None]:
    """Return COR, source, COR before fixing and confidence of a scan, with two decimals."""
    fix, prediction = scan.fix, scan.prediction
    predicted_px = prediction.cor_px if prediction else None
    confidence = prediction.confidence if prediction else None
    unresolved = "none" if fix else "predicted" if predicted_px is not None else ""
    return (
        _rounded(scan.cor_px),
        scan.source or unresolved,
        _rounded(fix.before_px if fix else predicted_px),
        _rounded(confidence),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _inventory(campaign: Campaign) -> InventoryRows:
    path = campaign.files.inventory
    return read_inventory(path) if path.is_file() else {}


def _widths(campaign: Campaign, inventory: InventoryRows, scans: Iterable[str]) -> dict[str, int]:
    """Return n_cols of the scans, from the inventory, else from the raw file if readable."""
    cells = {scan: row["n_cols"] for scan, row in inventory.items()}
    n_cols = {scan: int(cell) for scan, cell in cells.items() if cell.isdecimal()}
    with chdir(campaign.directory):  # the paths in the config are relative to it
        for scan in set(scans) - set(n_cols):
            with suppress(ScanError):  # the run reports it
                n_cols[scan] = raw_scan(campaign, scan).metadata().n_cols
    return n_cols


def _equal(campaign: Campaign, cors: Mapping[str, str]) -> list[str]:
    """Return the scans that have these CORs already, but not set by hand.

    An exported table has them all; importing it would otherwise freeze them.
    """
    try:
        resolved = read_cor_json(campaign.files.cor_table)
    except TomopipeError:  # none yet, or damaged
        return []
    return [
        scan
        for scan, text in cors.items()
        if not campaign.scans[scan].manual.text and scan in resolved
        if resolved[scan]["source"] != "manual"
        if format_cor(resolved[scan]["cor_px"]) == text
    ]


def _print_matches(
    result: Match, changes: dict[str, str], old: dict[str, CorText], junk: dict[str, str]
) -> None:
    for scan, text in changes.items():
        typer.echo(f"{scan}: {old[scan].text or 'none'} -> {text}")
    for entry in result.unmatched:
        typer.echo(f"unmatched: {entry}" + (f" (no COR: {junk[entry]})" if entry in junk else ""))
    for entry, scans in result.ambiguous.items():
        typer.echo(f"ambiguous: {entry} may be {', '.join(scans)}")
