"""Tab-separated tables with a header line: one reader and one writer for all of them."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tomopipe.errors import TomopipeError
from tomopipe.io.atomic import write_text


def read_tsv(path: str | os.PathLike[str], columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table as one dictionary of text per row.

    Parameters
    ----------
    path : path-like
        UTF-8 text, tab-separated, first line the column names.
    columns : sequence of str
        The columns the table must have; others are read too.

    Raises
    ------
    TomopipeError
        If a column is missing.
    """
    text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", restval="")
    found = reader.fieldnames or []
    if missing := [name for name in columns if name not in found]:
        raise TomopipeError(
            f"{path}: expected columns {', '.join(columns)}; missing {', '.join(missing)}. "
            "Delete the file and run again."
        )
    return [{key: value for key, value in row.items() if key is not None} for row in reader]


def write_tsv(
    rows: Iterable[Mapping[str, object]], columns: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Write rows whole; a None becomes an empty cell, a bool true or false."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    write_text(stream.getvalue(), path)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
