"""CORs that people set, import and export: edits of the campaign table, and tables of others."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import chdir, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.files import SIDECAR, history_of
from tomopipe.campaign.prediction_json import parse_prediction
from tomopipe.campaign.reading import raw_scan
from tomopipe.campaign.results import InventoryRows, read_cor_json, read_inventory
from tomopipe.campaign.selection import scans_of
from tomopipe.campaign.state.sentences import far_from, why_not_selected
from tomopipe.campaign.table import edit_table
from tomopipe.commands.cor_files import (
    FileCors,
    Match,
    describe_junk,
    match,
    merge_batch_csv,
    merge_rot_cen,
    read_cors,
)
from tomopipe.commands.history import record_changes
from tomopipe.cor.cor_value import CorText, format_cor, is_valid, off_detector, shown, typed_cor
from tomopipe.errors import ScanError, TomopipeError, some_of
from tomopipe.scans.metadata import incomplete
from tomopipe.storage.json_files import json_or

SET, IMPORT = "cor set", "cor import"  # in the history of the campaign table


class Form(StrEnum):
    """TomoGUI's forms of a table of CORs."""

    rot_cen = "rot_cen"
    csv = "csv"


class CorEdit(NamedTuple):
    """An edit of the campaign table."""

    cells: Mapping[str, Mapping[str, str]]  # new cells, by scan and column
    has_changed: bool  # whether the table was changed
    without_effect: Mapping[str, str]  # scans whose COR no run uses, and why
    far: Mapping[str, str]  # scans with a confident prediction far from it, and how far


class CorImport(NamedTuple):
    """CORs of files, matched to the scans of a campaign."""

    file: FileCors
    match: Match
    changes: Mapping[str, str]  # new CORs, by scan
    before: Mapping[str, CorText]  # what was in the table for each matched scan
    equal: Sequence[str]  # scans that have been predicted alike, and stay so


def set_cors(
    campaign: Campaign,
    words: Sequence[str],
    tell: Callable[[str], None],
    *,
    note: str | None = None,
    clear: bool = False,
    dry_run: bool = False,
) -> CorEdit:
    """Set the COR after the names of scans for all of them; `tell` reports a lost history."""
    names, value = _names_and_cor(campaign, words, needs_cor=not clear and note is None)
    scans = scans_of(campaign, names)
    if clear and value:
        raise TomopipeError(f"got both a COR, {shown(value)}, and --clear; give one of them.")
    cor = typed_cor(value or "")
    inventory = _inventory(campaign) if cor.text else {}
    n_cols = widths_of(campaign, inventory, scans) if cor.px else {}
    edits: dict[str, dict[str, str]] = {scan: {} for scan in scans}
    for scan, cells in edits.items():
        if clear or value is not None:
            cells["cor_px"] = checked_cor(scan, cor, n_cols.get(scan)) if cor.text else ""
        if note is not None:
            cells["note"] = note.strip()
    has_changed = not dry_run and _edit(campaign, edits, SET, tell)
    why = {scan: _why_unused(campaign, inventory, scan) for scan in edits if cor.text}
    without_effect = {scan: text for scan, text in why.items() if text}
    in_use, cor_px = [scan for scan in scans if scan not in without_effect], cor.px
    far = {s: text for s in in_use if cor_px and (text := _how_far(campaign, s, cor_px))}
    return CorEdit(edits, has_changed, without_effect, far)


def _why_unused(campaign: Campaign, inventory: InventoryRows, scan: str) -> str:
    """Return why no run uses the COR of a scan; "" if one does. Before the first by its file."""
    select = campaign.scans[scan].select
    if scan in inventory or select != "auto":
        return why_not_selected(select, inventory.get(scan))
    with chdir(campaign.directory), suppress(ScanError):  # it may still be written
        return incomplete(raw_scan(campaign, scan).metadata())
    return ""


def _how_far(campaign: Campaign, scan: str, cor_px: float) -> str:
    """Return how far a COR is from a confident prediction of its scan; "" if it is near."""
    data = json_or(campaign.files.prediction(scan), {})
    min_confidence = campaign.config.predict_cor.min_confidence
    return far_from(parse_prediction(data, points=False), cor_px, min_confidence)


def _names_and_cor(
    campaign: Campaign, words: Sequence[str], *, needs_cor: bool
) -> tuple[list[str], str | None]:
    """Separate the names of scans from the COR after them, optional with --clear and --note."""
    *names, last = words or [""]
    is_scan = False
    with suppress(TomopipeError):
        is_scan = bool(scans_of(campaign, [last]))
    is_number = typed_cor(last).px is not None
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
    return [*words], None


def import_cors(
    campaign: Campaign,
    files: Sequence[Path],
    tell: Callable[[str], None],
    *,
    predicted: bool = False,
    dry_run: bool = False,
) -> CorImport:
    """Set the CORs of files as manual ones; if a value is invalid, none."""
    names = some_of(list(map(str, files)), 3)
    file = read_cors(files, predicted=predicted)
    entries = file.cors | dict.fromkeys(file.junk, math.nan)
    result = match(entries, {scan.name: scan.abspath for scan in campaign.scans.values()})
    foreign = {*result.unmatched, *result.ambiguous}
    if ours := {entry: text for entry, text in file.junk.items() if entry not in foreign}:
        raise TomopipeError(f"{names}: nothing imported: {describe_junk(ours)}")
    n_cols = widths_of(campaign, _inventory(campaign), result.matched)
    off = [
        f"{scan}: {off_detector(cor_px, n_cols[scan])}"
        for scan, cor_px in result.matched.items()
        if scan in n_cols and not is_valid(cor_px, n_cols[scan])
    ]
    if off:
        raise TomopipeError(f"{names}: nothing imported, for\n  " + "\n  ".join(off))
    new = {scan: format_cor(cor_px) for scan, cor_px in result.matched.items()}
    before = {scan: campaign.scans[scan].manual for scan in new}
    changes = {scan: text for scan, text in new.items() if before[scan].px != float(text)}
    equal = [] if predicted else _equal(campaign, changes)
    for scan in equal:
        del changes[scan]
    if changes and not dry_run:
        _edit(campaign, {scan: {"cor_px": changes[scan]} for scan in changes}, IMPORT, tell)
    return CorImport(file, result, changes, before, equal)


def _edit(
    campaign: Campaign,
    edits: Mapping[str, Mapping[str, str]],
    by: str,
    tell: Callable[[str], None],
) -> bool:
    """Change cells of the campaign table, and its history; tell whether there was a change."""
    table = campaign.table_path
    return edit_table(table, edits, partial(record_changes, table=table, by=by, tell=tell))


def export_cors(campaign: Campaign, file: Path, form: Form, *, dry_run: bool = False) -> str:
    """Write the resolved CORs into a file of TomoGUI; return how many, and what else it has."""
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
        return named
    others = (merge_rot_cen if form is Form.rot_cen else merge_batch_csv)(cors, file)
    return named + _other_entries(campaign, cors, others)


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


def _inventory(campaign: Campaign) -> InventoryRows:
    path = campaign.files.inventory
    return read_inventory(path) if path.is_file() else {}


def widths_of(campaign: Campaign, inventory: InventoryRows, scans: Iterable[str]) -> dict[str, int]:
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


def checked_cor(scan: str, cor: CorText, n_cols: int | None) -> str:
    """Return a COR typed by a person in the form of the table, or raise; n_cols None: unknown."""
    if cor.px is None:
        raise TomopipeError(
            f"{scan}: expected a COR with a decimal point, such as 1024.50; got {shown(cor.text)}."
        )
    if cor.px < 0 or cor.px_on(n_cols) is None:
        where = f"{cor.px:.2f} is below 0" if n_cols is None else off_detector(cor.px, n_cols)
        raise TomopipeError(f"{scan}: COR {where}. Give unbinned pixels, the first being 0.")
    return format_cor(cor.px)
