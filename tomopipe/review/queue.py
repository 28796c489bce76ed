"""The queue of scans, those that need a person first; decisions, which are written at once.

No edit is lost: the page sends the cells that it showed. If the row still has them, the edit is
written, whatever happened to other rows; if not, the person sees the present cells.
"""

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tomopipe.campaign.state.facts import DECIDED, NOT_SELECTED, TO_REVIEW
from tomopipe.campaign.state.signs import SIGNS, State
from tomopipe.campaign.table import (
    EMPTY_ROW,
    SELECT,
    Edits,
    Row,
    edit_table,
    fault_of_cell,
    has_table,
    read_table,
)
from tomopipe.commands.cor_edits import checked_cor
from tomopipe.commands.history import record_changes
from tomopipe.cor.cor_value import CorText, format_cor, shown, typed_cor
from tomopipe.errors import TomopipeError
from tomopipe.report.records import ScanRecord, common_warnings, own_warnings

#: States with what they mean, in the order of the queue.
STATES: Mapping[State, str] = {
    state: SIGNS[state].meaning
    for state in (
        *(State.UNRESOLVED, State.DOUBTFUL, State.FIXED, State.FILLED, State.FAILED),
        *(State.OK, State.UNSWEPT, State.PENDING, State.MANUAL, State.SKIPPED, State.UNSELECTED),
    )
}
#: Sets of states that the page asks for.
SETS = {"not_selected": NOT_SELECTED, "decided": DECIDED, "to_review": TO_REVIEW}
_ORDER = {state: number for number, state in enumerate(STATES)}
_writing = threading.Lock()  # one writer at a time among the browsers of a server


def queue_entries(
    scans: Iterable[ScanRecord],
    cells: Mapping[str, Mapping[str, str]],
    names: Container[str],
) -> list[dict[str, Any]]:
    """List the scans of a campaign, worst first: the facts of each for the page.

    `cells` are the present ones of the campaign table. `names` are the scans of the campaign; other
    rows of the inventory have no usable name.
    """
    scans = [with_cells(scan, cells.get(scan.name, {})) for scan in scans]
    common = common_warnings(scans)
    entries = [
        _entry(scan, cells.get(scan.name, {}), common) | {"refused": scan.name not in names}
        for scan in scans
    ]
    return sorted(entries, key=_worst_first)


def shown_cor(scan: ScanRecord) -> float | None:
    """Return the COR to show first: set by hand, resolved, fixed, or the best estimate."""
    cor_px = scan.best_px if scan.manual_px is None else scan.manual_px
    return None if cor_px is None else round(cor_px, 4)


def with_cells(scan: ScanRecord, cells: Mapping[str, str]) -> ScanRecord:
    """Return a scan with the present cells of the campaign table; without any if it has no row."""
    cells = {**EMPTY_ROW, **cells}
    return replace(scan, select=cells["select"], manual=CorText(cells["cor_px"]))


def _entry(scan: ScanRecord, cells: Mapping[str, str], common: Container[str]) -> dict[str, Any]:
    state, prediction = scan.state, scan.prediction
    cor_px = shown_cor(scan)
    is_estimate = scan.manual_px is None and scan.error_px is not None
    return {
        "scan": scan.name,
        "series": scan.series,
        "index": scan.index,
        "state": state,
        "cor_px": cor_px,
        "cor_text": scan.shown_text if is_estimate else format_cor(cor_px),
        "source": scan.source if scan.manual_px is None else "manual",
        # that of a prediction says nothing about a COR by hand
        "confidence": prediction.confidence if prediction and state is not State.MANUAL else None,
        "measured_px": prediction.best_cor_px if prediction else None,
        "is_accepted": prediction is not None and prediction.cor_px is not None,
        "confident_outlier": bool(scan.of_another_series),
        "first": state is State.DOUBTFUL and bool(scan.is_confident_outlier or scan.doubtful_fill),
        "error_px": scan.error_px,
        "time_s": scan.time_s,
        "why": scan.why,
        "warnings": list(own_warnings(scan, common)),
        "select": scan.select,
        "manual": scan.manual.text,
        "note": cells.get("note", ""),
        "swept": scan.swept,
        "rerun": state not in NOT_SELECTED and scan.is_edited,
    }


def _worst_first(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    confidence = entry["confidence"]
    by_confidence = entry["state"] in (State.UNRESOLVED, State.DOUBTFUL, State.FIXED, State.OK)
    # rounded as shown: equal ones stay in the order of the scans
    within = round(confidence, 2) if confidence is not None and by_confidence else 0.0
    return (
        not entry["first"],
        -(entry["error_px"] or 0.0) if entry["first"] else 0.0,  # the least certain first
        _ORDER[entry["state"]],
        entry["cor_px"] is not None,
        entry["state"] is State.OK and not entry["warnings"],
        within,
        entry["series"],
        entry["index"],
        entry["scan"],
    )


@dataclass(frozen=True)
class Outcome:
    """Result of a decision: the present cells of the row, and whether the edit was made."""

    saved: bool
    cells: dict[str, str]


def read_cells(table: Path) -> dict[str, dict[str, str]]:
    """Return the cells of each scan in the campaign table; none if there is no table."""
    return _cells(read_table(table)) if has_table(table) else {}


def _cells(rows: list[Row]) -> dict[str, dict[str, str]]:
    return {
        row.scan: {"select": row.select, "cor_px": row.cor.text, "note": row.note} for row in rows
    }


def checked_cells(
    scan: str, cells: Mapping[str, str], n_cols: int | None, *, undo: bool = False
) -> dict[str, str]:
    """Return the cells of a decision for the table, or raise; `undo` allows any COR."""
    checked = {}
    for name, value in cells.items():
        if name not in EMPTY_ROW:
            raise TomopipeError(f"{scan}: expected {', '.join(EMPTY_ROW)}; got {name}.")
        checked[name] = value.strip()
        if problem := fault_of_cell(checked[name]):
            raise TomopipeError(f"{scan}: {name} {shown(checked[name])} {problem}.")
    if (text := checked.get("cor_px")) and not undo:
        checked["cor_px"] = checked_cor(scan, typed_cor(text), n_cols)
    if checked.get("select", "auto") not in SELECT:
        raise TomopipeError(f"{scan}: expected select auto, yes or no; got {checked['select']}.")
    return checked


def decide(
    table: Path,
    decisions: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]],
    *,
    by: str,
    tell: Callable[[str], None],
    stamp: str = "",
    undoes: str = "",
) -> dict[str, Outcome]:
    """Change cells of scans in one step, each only if its row is still as the person saw it.

    `decisions` are by scan: cells as from `checked_cells`, and those of the row that the person
    saw; `stamp`, source and time, is added to the note. `by` and `undoes` go into the history, its
    errors to `tell`. The table need not exist.

    Raises TomopipeError if the table cannot be read or written, or another writer does not finish.
    """
    outcomes: dict[str, Outcome] = {}

    def edits(rows: list[Row]) -> Edits:
        in_table, changes = _cells(rows), {}
        for scan, (cells, seen) in decisions.items():
            now = in_table.get(scan, EMPTY_ROW)
            same = now == {**now, **cells}  # another person made the same decision
            outcomes[scan] = Outcome(same, now)
            shown_cells = {name: seen.get(name, now[name]) or EMPTY_ROW[name] for name in now}
            if same or now != shown_cells:
                continue
            edit = dict(cells)
            if stamp and "note" not in edit:
                edit["note"] = f"{now['note']}; {stamp}" if now["note"] else stamp
            outcomes[scan] = Outcome(True, {**now, **edit})
            changes[scan] = edit
        return changes

    then = partial(record_changes, table=table, by=by, undoes=undoes, tell=tell)
    with _writing:
        edit_table(table, edits, then)
    return outcomes


def stamp_now() -> str:
    """Return the remark for the note of a decision."""
    return f"review {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
