"""Decisions are written to the campaign table at once, and no edit is lost.

The page sends the cells that it showed. If the row still has them, the edit is made, regardless of
other rows; if not, the person is shown the present cells. The row is checked while the table is
locked for other processes of tomopipe, and the change is added to the table's history.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tomopipe.campaign.history import record_changes
from tomopipe.campaign.table import (
    SELECT,
    Edits,
    Row,
    checked_cor,
    edit_table,
    fault_of_cell,
    read_table,
)
from tomopipe.cor.cor_value import CorText, shown
from tomopipe.errors import TomopipeError

CELLS = ("select", "cor_px", "note")
_writing = threading.Lock()  # the browsers of one server wait for each other


@dataclass(frozen=True)
class Outcome:
    """Result of a decision: the present cells of the row, and whether the edit was made."""

    saved: bool
    cells: dict[str, str]


def read_cells(table: Path) -> dict[str, dict[str, str]]:
    """Return the cells of each scan in the campaign table; none if there is no table."""
    return _cells(read_table(table)) if table.exists() else {}


def _cells(rows: list[Row]) -> dict[str, dict[str, str]]:
    return {
        row.scan: {"select": row.select, "cor_px": row.cor.text, "note": row.note} for row in rows
    }


def checked_cells(
    scan: str, cells: Mapping[str, str], n_cols: int | None, *, undo: bool = False
) -> dict[str, str]:
    """Return the cells of a decision as they go into the table, or refuse what is invalid.

    With `undo` they stood there before, so that any text may be back as the COR.
    """
    checked = {}
    for name, value in cells.items():
        if name not in CELLS:
            raise TomopipeError(f"{scan}: expected {', '.join(CELLS)}; got {name}.")
        checked[name] = value.strip()
        if problem := fault_of_cell(checked[name]):
            raise TomopipeError(f"{scan}: {name} {shown(checked[name])} {problem}.")
    if (text := checked.get("cor_px")) and not undo:
        checked["cor_px"] = checked_cor(scan, CorText(text), n_cols)
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
    """Change cells of scans at once; each only if its row is as the person saw it.

    `decisions` are by scan: cells as from `checked_cells`, and those of the row that the person
    saw; `stamp`, source and time, is added to the note. `by` and `undoes` go into the history;
    `tell` gets what is wrong with that. The table need not exist.

    Raises TomopipeError if the table cannot be read or written, or another writer does not finish.
    """
    outcomes: dict[str, Outcome] = {}

    def edits(rows: list[Row]) -> Edits:
        in_table, changes = _cells(rows), {}
        for scan, (cells, seen) in decisions.items():
            now = _with_defaults(in_table.get(scan, {}))
            new = {**now, **cells}
            same = all(now[name] == new[name] for name in CELLS)  # somebody made the same decision
            outcomes[scan] = Outcome(same, now)
            if same or now != _with_defaults({**now, **seen}):
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


def _with_defaults(cells: Mapping[str, object]) -> dict[str, str]:
    result = {name: str(cells.get(name) or "") for name in CELLS}
    return result | {"select": result["select"] or "auto"}
