"""`tomopipe cor`: list, set, import and export the CORs of a campaign."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tomopipe.campaign.campaign import Campaign, load_campaign
from tomopipe.campaign.files import history_of
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.state.signs import SIGNS, State, source_named
from tomopipe.cli.options import (
    CampaignCommand,
    CampaignOption,
    ConfigFile,
    DryRun,
    Group,
    campaign_and_scans,
    rest_of,
)
from tomopipe.cli.terminal import MOST_ROWS, near, print_columns, state_text
from tomopipe.commands.cor_edits import (
    IMPORT,
    SET,
    Form,
    export_cors,
    import_cors,
    set_cors,
    widths_of,
)
from tomopipe.commands.history import PAGE, last_act, undoing
from tomopipe.cor.cor_value import CorText, format_cor
from tomopipe.errors import TomopipeError, some_of
from tomopipe.report.collected_records import collect_scans
from tomopipe.report.records import ScanRecord, common_warnings, remarks
from tomopipe.report.scan_records import Reader
from tomopipe.reruns.failed_results import why_again
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


_KEYS = ("scan", "series", "cor_px", "source", "before_px", "confidence", "manual", "error_px")
_HEADS = ("scan", "series", "COR", "source", "before", "confidence", "manual", "state", "remark")
_OPTIONAL = ("series", "before", "confidence", "manual", "remark")


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
    records = [*_records(campaign, reader)]
    common = common_warnings(records)
    for scan in (record for record in records if record.name in scans):
        why_not = not_selected(scan.select, scan.row)
        reason = ": ".join(filter(None, (why_not, scan.reason * (why_not is State.SKIPPED))))
        values = (None, reason, None, None) if why_not else _values(scan)
        cells = (scan.name, scan.series, *values, scan.manual.text, _rounded(scan.error_px))
        remark = " ".join("; ".join(remarks(scan, common)).split())
        state = {"state": scan.state.value, "remark": remark}
        rows.append(dict(zip(_KEYS, cells, strict=True)) | state)
        texts = [cell if isinstance(cell, str) else format_cor(cell) for cell in cells[:-1]]
        texts[_KEYS.index("source")] = "" if why_not else source_named(cells[3] or "").short
        if cells[3] == "manual":
            texts[_KEYS.index("confidence")] = ""
        if values[0] is not None:
            texts[_KEYS.index("cor_px")] = scan.shown_text
        shown_rows.append([*texts, state_text(scan.state), remark])
        styles.append(SIGNS[scan.state].style)
        pending += not why_not and scan.is_edited
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print_columns(_HEADS, shown_rows, styles, _OPTIONAL, remark="remark")
        for line in sorted(common):
            typer.echo(f"most scans: {line}")
    if pending and not as_json:
        typer.echo(f"{pending} set or removed by hand since the last run: `tomopipe run`.")
    if reader.notes:
        raise TomopipeError("; ".join(f"{note.path}: {note.problem}" for note in reader.notes))


# A negative number is refused as a COR, not as an unknown option.
@app.command("set", cls=CampaignCommand, context_settings={"ignore_unknown_options": True})
def set_values(
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
    names = rest_of(context)
    dashed = [w for w in words if w.startswith("-") and w not in names]
    if unknown := [w for w in dashed if CorText(w).px is None]:
        raise typer.BadParameter(f"No such option: {unknown[0]}; a scan of this name follows --")
    directory, words = campaign_and_scans(context, words, directory, config)
    tell = partial(typer.echo, err=True)
    edit = set_cors(
        load_campaign(directory, config), words, tell, note=note, clear=clear, dry_run=dry_run
    )
    for scan, cells in edit.cells.items():
        changes = ", ".join(f"{name} {cell or 'removed'}" for name, cell in cells.items())
        as_before = "" if edit.has_changed or dry_run else " (unchanged)"
        typer.echo(f"{scan}{' (dry run)' * dry_run}: {changes}{as_before}")
        if why := edit.without_effect.get(scan):
            typer.echo(f"This COR has no effect while {scan} is not selected: {why}")
    if far := [f"{scan} is {text}" for scan, text in edit.far.items()]:
        more = f"; {len(far) - 1} more are far from theirs: tomopipe cor list" * (len(far) > 1)
        typer.echo(f"{far[0]}{more}")
    if edit.has_changed and len(edit.cells) > 1:
        typer.echo(_how_to_undo(directory))


@app.command("import", cls=CampaignCommand)
def import_file(
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
    campaign, tell = load_campaign(directory, config), partial(typer.echo, err=True)
    result = import_cors(campaign, files, tell, predicted=predicted, dry_run=dry_run)
    (cors, junk, ignored), matches, changes = result.file, result.match, result.changes
    for scan, text in changes.items():
        typer.echo(f"{scan}: {result.before[scan].text or 'none'} -> {text}")
    for entry in matches.unmatched:
        typer.echo(f"unmatched: {entry}" + (f" (no COR: {junk[entry]})" if entry in junk else ""))
    for entry, scans in matches.ambiguous.items():
        typer.echo(f"ambiguous: {entry} may be {', '.join(scans)}")
    with_cor = {Path(entry).name for entry in cors}
    skipped = {Path(entry).name: why for entry, why in ignored.items()}  # a scan counts once
    for why, n in Counter(why for scan, why in skipped.items() if scan not in with_cor).items():
        typer.echo(f"skipped: {n} {why}")
    if n := len(result.equal):
        typer.echo(f"skipped: {n} predicted CORs that are equal (--predicted imports them)")
    verb = "would be set" if dry_run else "set"
    typer.echo(
        f"{len(changes)} {verb}, {len(matches.matched) - len(changes)} unchanged, "
        f"{len(matches.unmatched)} unmatched, {len(matches.ambiguous)} ambiguous"
    )
    if changes and not dry_run:
        typer.echo(_how_to_undo(directory))


@app.command("undo", cls=CampaignCommand)
def undo_last(
    dry_run: DryRun = False, directory: CampaignOption = Path("."), config: ConfigFile = None
) -> None:
    """Undo your last `cor set` or `cor import`; the next call undoes the one before.

    Rows that were changed since then stay as they are. Decisions on the review page are taken back
    there.

    Example: `tomopipe cor undo -n`
    """
    table = load_campaign(directory, config).table_path
    present = read_cells(table)
    act = last_act(table, present, by=(SET, IMPORT))
    if not act:
        typer.echo(f"{history_of(table)}: nothing to undo")
        return
    edits, kind, tell = undoing(act), act[0].by, partial(typer.echo, err=True)
    tell(f"{'would undo' if dry_run else 'undoing'} your {kind} of {act[0].time}")
    if last_act(table, present, by=(SET, IMPORT, PAGE))[0].by == PAGE:
        tell("Your later decision on the review page stays; Undo on that page takes it back.")
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


@app.command("export", cls=CampaignCommand)
def export_file(
    file: Annotated[Path, typer.Argument(help="File to write; missing folders are made.")],
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
    named = export_cors(load_campaign(directory, config), file, form, dry_run=dry_run)
    typer.echo(f"{'would write' if dry_run else 'wrote'} {named}")


def _records(campaign: Campaign, reader: Reader) -> Iterator[ScanRecord]:
    """Yield the scans of a campaign; without an entry in cor.json, the COR of fix_cor counts."""
    names = {(scan.name, scan.path) for scan in campaign.scans.values()}
    records = collect_scans(campaign, reader, why=why_again(campaign))
    # before the first run the files alone tell which CORs are off the detector
    new = [scan.name for scan in records if scan.manual.px is not None and scan.row is None]
    n_cols = widths_of(campaign, {}, new) if len(new) <= MOST_ROWS else {}
    for scan in records:
        if (scan.name, scan.path) in names:
            n, fix = n_cols.get(scan.name), None if scan.source else scan.fix
            if n:
                yield replace(scan, row={"keep": "true", "reason": "", "n_cols": str(n)})
            else:
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
