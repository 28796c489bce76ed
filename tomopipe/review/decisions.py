"""Decisions go to the campaign table at once, and nobody's edit is lost.

A page says which cells it saw. If the row still holds them, the edit goes in, whatever happened to
other rows meanwhile; if not, the person is shown what stands there now. There are no file locks,
which no file server can be trusted with: the hash of the content that was compared guards the time
until the new one is in place, and a look a moment later the instant between the two.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tomopipe.cor import format_cor, is_valid, off_detector, parse_cor, shown
from tomopipe.errors import TomopipeError
from tomopipe.io.campaign_table import SELECT, edit_table, read_table, table_sha256

CELLS = ("select", "cor_px", "note")
_ATTEMPTS = 20
_SETTLED_S = 0.03  # longer than a writer takes from comparing to replacing the file
_writing = threading.Lock()  # the browsers of one server wait for each other


@dataclass(frozen=True)
class Outcome:
    """What became of a decision: the cells of the row now, and whether the edit went in."""

    saved: bool
    cells: dict[str, str]
    sha256: str


def read_cells(table: Path) -> dict[str, dict[str, str]]:
    """Return the cells of each scan in the campaign table; none where there is no table."""
    if not table.exists():
        return {}
    return {
        row.scan: {"select": row.select, "cor_px": row.cor_px, "note": row.note}
        for row in read_table(table)
    }


def checked_cells(scan: str, cells: Mapping[str, object], n_cols: int | None) -> dict[str, str]:
    """Return the cells of a decision as they go into the table.

    Raises
    ------
    TomopipeError
        If a cell is unknown, no text, or not what its column holds.
    """
    checked = {}
    for name, value in cells.items():
        if name not in CELLS or not isinstance(value, str):
            raise TomopipeError(f"{scan}: expected texts for {', '.join(CELLS)}; got {name}.")
        checked[name] = value.strip()
    if text := checked.get("cor_px"):
        checked["cor_px"] = _checked_cor(scan, text, n_cols)
    if checked.get("select", "auto") not in SELECT:
        raise TomopipeError(f"{scan}: expected select auto, yes or no; got {checked['select']}.")
    return checked


def decide(
    table: Path,
    scan: str,
    cells: Mapping[str, str],
    seen: Mapping[str, str],
    *,
    stamp: str = "",
) -> Outcome:
    """Change cells of one scan, if its row still is as the person saw it.

    Parameters
    ----------
    table : Path
        The campaign table, which need not exist.
    scan : str
        Name of the scan.
    cells : mapping
        Column to new text, as from `checked_cells`.
    seen : mapping
        All cells of the row when the person decided.
    stamp : str
        Source and time to add to the note; "" for nothing.

    Raises
    ------
    TomopipeError
        If the table cannot be read or written, or others write without pause.
    """
    with _writing:
        return _decide(table, scan, cells, _with_defaults(seen), stamp)


def _decide(
    table: Path, scan: str, cells: Mapping[str, str], seen: dict[str, str], stamp: str
) -> Outcome:
    for _ in range(_ATTEMPTS):
        before = table_sha256(table)
        now = _with_defaults(read_cells(table).get(scan, {}))
        if table_sha256(table) != before:
            continue  # what was read belongs to neither
        new = {**now, **cells}
        if all(now[name] == new[name] for name in CELLS):
            return Outcome(True, now, before)  # somebody decided the same
        if now != seen:
            return Outcome(False, now, before)
        edit = dict(cells)
        if stamp and "note" not in edit:
            edit["note"] = f"{now['note']}; {stamp}" if now["note"] else stamp
        try:
            edit_table(table, {scan: edit}, expected_sha256=before)
        except TomopipeError:
            if table_sha256(table) != before:
                continue  # another row, perhaps: look again
            raise
        time.sleep(_SETTLED_S)
        if _with_defaults(read_cells(table).get(scan, {})) == now:
            continue  # overwritten by somebody who had looked before us
        return Outcome(True, {**now, **edit}, table_sha256(table))
    raise TomopipeError(f"{table}: others change it without pause. Try again.")


def stamp_now() -> str:
    """Return the remark for the note of a decision."""
    return f"review {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _checked_cor(scan: str, text: str, n_cols: int | None) -> str:
    cor_px = parse_cor(text)
    if cor_px is None:
        raise TomopipeError(f"{scan}: expected a COR such as 1024.50; got {shown(text)}.")
    if cor_px < 0 or (n_cols is not None and not is_valid(cor_px, n_cols)):
        raise TomopipeError(f"{scan}: COR {off_detector(cor_px, n_cols or 0)}.")
    return format_cor(cor_px)


def _with_defaults(cells: Mapping[str, object]) -> dict[str, str]:
    found = {name: str(cells.get(name) or "") for name in CELLS}
    return found | {"select": found["select"] or "auto"}
