"""Scans that people name: by patterns, in overrides, in rows of the campaign table."""

import fnmatch
import glob
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tomopipe.campaign.files import encode_series
from tomopipe.campaign.results import present_inventory
from tomopipe.campaign.state.facts import not_selected
from tomopipe.campaign.state.sentences import why_not_selected
from tomopipe.campaign.state.signs import State
from tomopipe.campaign.table import check_table, did_you_mean
from tomopipe.config import for_one_scan, with_skipped
from tomopipe.errors import TomopipeError, some_of
from tomopipe.scans.formats import RAW_ENDINGS
from tomopipe.scans.raw_identity import RAW, name_by_state
from tomopipe.storage.json_files import json_or, part, text

if TYPE_CHECKING:
    from tomopipe.campaign.campaign import Campaign

SKIPS = "{skip_projections: ["
"""A part of advice on projections to skip."""


def scans_of(
    campaign: "Campaign", patterns: Iterable[str], among: Collection[str] | None = None
) -> list[str]:
    """Return the scans, or names in `among`, that match patterns, each once, in their order.

    A pattern is a name, a raw file, or has wildcards (rock_*), with or without the ending.
    TomopipeError for a pattern without a match.
    """
    among = campaign.scans if among is None else among
    files = {scan.abspath: name for name, scan in campaign.scans.items()}
    scans: dict[str, None] = {}
    for pattern in patterns:
        stem, ending = os.path.splitext(pattern)
        bare = stem if ending.lower() in RAW_ENDINGS else pattern
        exact = (pattern, files.get(os.path.abspath(pattern), pattern), bare)
        names = [name for name in exact if name in among][:1] or fnmatch.filter(among, bare)
        if not names:
            refuse_unknown(campaign, [pattern], among)
        scans |= dict.fromkeys(names)
    return list(scans)


def scan_of(
    campaign: "Campaign", patterns: Iterable[str], among: Collection[str] | None = None
) -> str:
    """Return the one scan that patterns name, as `scans_of`; raise TomopipeError for several."""
    scans = scans_of(campaign, patterns, among)
    if len(scans) != 1:
        raise TomopipeError(f"expected one scan, got {some_of(scans, 4) or 'none'}.")
    return scans[0]


def why_none_yet(campaign: "Campaign", name: str, what: str) -> str:
    """Say why a scan or stack has no volume or COR, and what makes it."""
    row = present_inventory(campaign.files.inventory).get(name)
    why = name in campaign.scans and why_not_selected(campaign.scans[name].select, row)
    return (
        f"no {what}, as it is not selected: {why}" if why else f"no {what} yet. Run: tomopipe run"
    )


def refuse_unknown(
    campaign: "Campaign", names: Iterable[str], among: Collection[str] | None = None
) -> None:
    """Raise if a name is not a scan of the campaign, or not in `among`."""
    among = campaign.scans if among is None else among
    for name in names:
        if name not in among:
            names = f", which has {some_of(sorted(among), 4) or 'none'}"
            hint = did_you_mean(name, among) or names
            raise TomopipeError(f"no scan {name} in {campaign.directory}{hint}")


def advice_on_skipping(campaign: "Campaign", scan: str, text: str, *, is_shared: bool) -> str:
    """Return advice on projections to skip with those that the scan skips already.

    It is an override for the scan, unless most scans share the advice, and what they skip.
    """
    if SKIPS not in text or scan not in campaign.scans:
        return text
    skipped = campaign.for_scan(scan).config.input.skip_projections
    is_shared = is_shared and skipped == campaign.config.input.skip_projections
    text = with_skipped(text, skipped)
    return text if is_shared else for_one_scan(text, scan)


def warnings_in_row(campaign: "Campaign", row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the warnings of a row of the inventory, without shifts that an option undoes.

    None of a scan that is skipped: the reason is enough.
    """
    texts = tuple(part.strip() for part in (row.get("warnings") or "").split(";") if part.strip())
    if not texts or (scan := campaign.scans.get(row["scan"])) is None:
        return texts
    if not_selected(scan.select, row) is State.SKIPPED:
        return ()
    if campaign.for_scan(scan.name).config.preprocess.shifts:
        from tomopipe.scans.stated_motion import without_shifts  # NumPy

        return without_shifts(texts)
    return texts


def table_faults(campaign: "Campaign", to_come: Iterable[str] = ()) -> list[str]:
    """Describe rows without a scan (present or in `to_come`), and cells that are not a COR."""
    scans = {*campaign.scans, *to_come}
    absent = {row.scan for row in campaign.table_rows} - scans
    former = former_scans(campaign, absent)
    faults = check_table(campaign.table_rows, scans, former)
    return [f"{campaign.table_name}: {fault}" for fault in faults]


def former_scans(campaign: "Campaign", absent: Collection[str]) -> dict[str, str]:
    """Return those of the absent scans that have been in the campaign, by their results.

    Each with the scan that has its file now, by size and time (a view by its content), or "".
    """
    files, rows = campaign.files, present_inventory(campaign.files.inventory) if absent else {}
    former = [scan for scan in absent if scan in rows or files.of_scan(scan).is_dir()]
    scans = campaign.scans.values() if former else ()
    now = {
        f"{RAW}{scan.view.content}" if scan.view else name_by_state(Path(scan.abspath)): scan.name
        for scan in scans
    }
    now.pop("", None)  # of files that are missing
    return {scan: now.get(_raw_of(campaign, scan), "") for scan in former}


def _raw_of(campaign: "Campaign", scan: str) -> str:
    """Return the name of the content of the raw file that a scan was made from; "" if unknown."""
    receipts = (campaign.files.receipt(step, scan) for step in ("full_recon", "try_recon"))
    raw = (part(json_or(receipt, {}), "made_from").get("raw") for receipt in receipts)
    return next((text(names[0]) for names in raw if names), "")


def unmatched_overrides(campaign: "Campaign") -> tuple[list[str], list[str]]:
    """Describe overrides that name, without a pattern, missing scans or series.

    First unknown ones, then those that have results, and so are no longer in the campaign.
    """
    files, scans = campaign.files, [*campaign.scans.values(), *campaign.refused]
    present = {"scans": {scan.name for scan in scans}, "series": {scan.series for scan in scans}}
    missing = [
        (f"overrides {number}: {key}: ", key, name)
        for number, override in enumerate(campaign.config.overrides, start=1)
        for key, names in present.items()
        for name in getattr(override, key)
        if not glob.has_magic(name) and name not in names
    ]
    rows = present_inventory(files.inventory) if missing else {}
    series = {row["series"] for row in rows.values()}
    has_results = {
        "scans": lambda scan: scan in rows or files.of_scan(scan).is_dir(),
        "series": lambda name: name in series or files.fix_table(encode_series(name)).exists(),
    }
    unknown, former = list[str](), list[str]()
    for where, key, name in missing:
        if has_results[key](name):
            former.append(f"{where}{name} is no longer in the campaign")
        else:
            unknown.append(
                f"{where}there is no {name}{did_you_mean(name, present[key])}; expected a pattern, "
                f"or one of {some_of(sorted(present[key]), 4) or 'none'}"
            )
    return unknown, former
