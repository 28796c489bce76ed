"""Tab-separated tables with a header line: one reader and one writer for all of them."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import write_text


def read_tsv(path: str | os.PathLike[str], columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table, UTF-8 text, as one dictionary of text per row.

    Raises TomopipeError if one of `columns` is missing (others are read too), the file is not text,
    or was cut: a row has more or fewer cells than there are columns, or the last line has no end.
    """
    text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    try:
        return _rows(text, columns)
    except ValueError as error:
        raise TomopipeError(f"{path}: {error}. Delete the file and run again.") from error


def _rows(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Parse a table; a ValueError says what is wrong with it."""
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {number}: holds a NUL character: it is damaged")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    result = lines[0][1] if lines else []
    if missing := [name for name in columns if name not in result]:
        raise ValueError(f"expected columns {', '.join(columns)}; missing {', '.join(missing)}")
    rows = [(number, cells) for number, cells in lines[1:] if cells]
    for number, cells in rows:
        if len(cells) != len(result):
            got = f"expected {len(result)} cells, got {len(cells)}"
            raise ValueError(f"line {number}: {got}: it was cut or edited")
    if text and not text.endswith(("\n", "\r")):
        number, _ = lines[-1]
        raise ValueError(f"line {number}: expected a line end after it: it was cut or edited")
    return [dict(zip(result, cells, strict=True)) for _, cells in rows]


def write_tsv(
    rows: Iterable[Mapping[str, object]], columns: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Write a table atomically; None becomes an empty cell, a bool true or false."""
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
