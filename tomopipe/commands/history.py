"""The history of a campaign table: who changed which cell, when, from what and to what.

A tab-separated file beside the table, for people and for undo; no result depends on it. Lines are
only appended, under the lock of the table: all lines of an act, or none.
"""

import errno
import os
import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tomopipe.campaign.files import history_of
from tomopipe.campaign.table import EMPTY_ROW, Change
from tomopipe.errors import on_os_error
from tomopipe.paths import no_pipe
from tomopipe.storage.processes import user_name
from tomopipe.storage.shared import take_mode

PAGE = "page"  # what the review page is called in the history, beside the names of commands
_HEADER = ("time", "who", "by", "act", "undoes", "scan", "column", "from", "to")


class Entry(NamedTuple):
    """A line: one cell that a person changed."""

    time: str  # UTC, ISO 8601
    who: str  # login name
    by: str  # `PAGE` or a command, such as "cor set"
    act: str  # id, shared by cells that were changed together
    undoes: str  # id of the act that this one undoes, or ""
    scan: str
    column: str
    before: str
    after: str


_TORN = "\t" * len(_HEADER) + "\n"  # ends an incomplete line, so that it has too many cells


def record_changes(
    changes: Sequence[Change],
    *,
    table: Path,
    by: str,
    undoes: str = "",
    tell: Callable[[str], None],
) -> None:
    """Append changes of a table as one act of this user; an error is passed to `tell`.

    The table must be locked.
    """
    if not changes:
        return
    start = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", user_name(), by, secrets.token_hex(6), undoes
    path = history_of(table)
    try:
        _append(path, [Entry(*start, *change) for change in changes], table)
    except OSError as error:
        tell(f"{path}: cannot be written ({error.strerror}): undo will not include this change.")


def _append(path: Path, entries: Sequence[Entry], table: Path) -> None:
    text = "".join("\t".join(entry) + "\n" for entry in entries)
    with no_pipe(path).open("a+b", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        if not size:
            take_mode(table, path)  # who may change the table may append to its history
            text = "\t".join(_HEADER) + "\n" + text
        else:
            stream.seek(size - 1)
            text = text if stream.read() == b"\n" else _TORN + text
        content = text.encode("utf-8", "surrogateescape")
        try:
            if stream.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(size)
            raise


def read_history(table: Path) -> list[Entry]:
    """Return the history of a table, the oldest first; [] if none.

    Incomplete lines, and those of columns that no table has, are skipped.
    """
    path = history_of(table)
    with on_os_error(f"{path}: cannot be read"):
        content = no_pipe(path).read_bytes() if path.exists() else b""
    lines = content.decode("utf-8", "surrogateescape").split("\n")[:-1]
    rows = [line.removesuffix("\r").split("\t") for line in lines]
    entries = [Entry(*row) for row in rows if len(row) == len(_HEADER)]
    return [entry for entry in entries if entry.column in EMPTY_ROW]


def last_act(
    table: Path,
    cells: Mapping[str, Mapping[str, str]],
    *,
    by: Container[str],
    skip: Container[str] = (),
) -> list[Entry]:
    """Return the entries of the last act of this user that can be undone; [] if there are none.

    `cells` are the present ones, by scan and column; cells that have their earlier value again need
    no undo. Only acts by the commands or page in `by` count, without the acts `skip`.
    """
    entries, who = read_history(table), user_name()
    undone = {(entry.undoes, entry.scan, entry.column) for entry in entries}
    to_undo = [
        entry
        for entry in entries
        if entry.who == who and entry.by in by and not entry.undoes and entry.act not in skip
        if (entry.act, entry.scan, entry.column) not in undone
        if cells.get(entry.scan, EMPTY_ROW)[entry.column] != entry.before
    ]
    return [entry for entry in to_undo if entry.act == to_undo[-1].act]


def undoing(act: Sequence[Entry]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Return the edits that undo an act, by scan: the cells before it, and those after it."""
    result: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    for entry in act:
        before, after = result.setdefault(entry.scan, ({}, {}))
        before[entry.column], after[entry.column] = entry.before, entry.after
    return result
