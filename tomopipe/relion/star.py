"""Star files of RELION: valid names, number formats, tables."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import whole

# Valid rlnTomoName. RELION allows other first characters, but reads a row that begins with "_" as a
# label, and the shell reads a name that begins with "-" as an option.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_LEAST = 1e-12
Table = tuple[str, dict[str, list[str]]]  # name, and columns from label to text
_UNFIT = re.compile(r"[\"'#\n\r\t]")


def tomo_names(scans: Iterable[str]) -> dict[str, str]:
    """Choose a unique rlnTomoName for each scan: its own name if that is valid in RELION.

    Other names are converted to ASCII letters, digits and `_ . -`, and get digits of a checksum of
    the scan's name. They do not depend on the other scans, because RELION's particles refer to
    tomograms by name.
    """
    scans = list(scans)
    used = {scan for scan in scans if is_tomo_name(scan)}
    names = {}
    for scan in scans:
        names[scan] = scan if is_tomo_name(scan) else _mapped(scan, used)
        used.add(names[scan])
    return names


def is_tomo_name(name: str) -> bool:
    """Tell whether `name` is valid in RELION for a tomogram, its table and its files."""
    reserved = name == "global" or name.startswith("data_")
    return bool(_SAFE.fullmatch(name)) and not reserved


def _mapped(scan: str, used: set[str]) -> str:
    # accents are removed; other characters outside ASCII become "_"
    plain = unicodedata.normalize("NFKD", scan)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain)
    if not is_tomo_name(stem[:1] or "_") or stem.startswith("data_"):
        stem = "scan_" + stem.lstrip("_.-")
    digest = hashlib.sha256(scan.encode("utf-8", "surrogateescape")).hexdigest()
    for n_digits in range(6, len(digest) + 1):
        name = f"{stem[:120]}_{digest[:n_digits]}"
        if name not in used:
            return name
    raise TomopipeError(f"scan {scan!r}: no unused name for RELION. Rename the scan.")


def number_text(value: float) -> str:
    """Format a number with 10 significant digits; values below 1e-12 become "0"."""
    return f"{0 if abs(value) < _LEAST else value:.10g}"


def number_texts(values: ArrayLike) -> list[str]:
    """Format a column of numbers like `number_text`."""
    return _row_texts("%.10g", np.asarray(values, float)[:, np.newaxis])


def matrix_rows_text(rows: ArrayLike) -> list[str]:
    """Format rows of matrices (n_images, 4) as fields `[a,b,c,d]` without blanks."""
    return _row_texts("[%.10g,%.10g,%.10g,%.10g]", np.asarray(rows, float))


def _row_texts(form: str, rows: NDArray[np.float64]) -> list[str]:
    rows = np.where(abs(rows) < _LEAST, 0, rows)
    if (rows == rows[:1]).all():  # true of two rows of each matrix, and of most shifts
        return [form % tuple(row) for row in rows[:1]] * len(rows)
    return [form % row for row in map(tuple, rows.tolist())]


def write_star(tables: Iterable[Table], path: str | os.PathLike[str]) -> None:
    """Write the tables of a star file atomically. Equal tables give equal files."""
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(table_text(*table, path) for table in tables)


def table_text(name: str, columns: dict[str, list[str]], path: str | os.PathLike[str]) -> str:
    """Return the text of a table of the star file `path`; labels have no leading "_"."""
    values = set().union(*columns.values())
    _check_fields(values, path)
    columns_text = list(columns.values())
    if "" in values or " " in "".join(values):
        # an empty field, or one with blanks, is quoted
        columns_text = [
            [f'"{value}"' if " " in value or not value else value for value in column]
            for column in columns_text
        ]
    labels = [f"_{label} #{number}" for number, label in enumerate(columns, 1)]
    rows = map("\t".join, zip(*columns_text, strict=True))
    return "\n".join([f"data_{name}", "", "loop_", *labels, *rows, "", "", ""])


def _check_fields(values: set[str], path: str | os.PathLike[str]) -> None:
    """Raise if a value has characters for which star files have no escape."""
    together = "".join(values)
    if together.isprintable() and not _UNFIT.search(together):
        return
    value = next(each for each in values if _UNFIT.search(each) or not each.isprintable())
    raise TomopipeError(
        f"{Path(path)}: {value!r} cannot be written to a star file (quotes, #, tabs and "
        "control characters). Choose another folder for the results of the campaign."
    )
