"""RELION's star files: names RELION takes, numbers as RELION reads them, tables written whole."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import whole

# What RELION takes for rlnTomoName. It would also take a name that begins with another sign, but
# reads a row that begins with "_" as a label, and the shell one with "-" as an option.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_LEAST = 1e-12
_UNFIT = re.compile(r"[\"'#\n\r\t]")


def tomo_names(scans: Iterable[str]) -> dict[str, str]:
    """Choose an rlnTomoName for each scan: its own name wherever RELION takes that.

    Any other name is spelled with the letters, digits and `_ . -` of ASCII and carries a few digits
    of its own checksum, so that it does not depend on the other scans of the campaign: RELION's
    particles are found by that name. All are unique.
    """
    scans = list(scans)
    occupied = {scan for scan in scans if is_tomo_name(scan)}
    names = {}
    for scan in scans:
        names[scan] = scan if is_tomo_name(scan) else _mapped(scan, occupied)
        occupied.add(names[scan])
    return names


def is_tomo_name(name: str) -> bool:
    """Tell whether RELION takes `name` for a tomogram, its table and its files."""
    reserved = name == "global" or name.startswith("data_")
    return bool(_SAFE.fullmatch(name)) and not reserved


def _mapped(scan: str, occupied: set[str]) -> str:
    # Letters lose their accents; what ASCII cannot write at all becomes "_".
    plain = unicodedata.normalize("NFKD", scan)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain)
    if not is_tomo_name(stem[:1] or "_") or stem.startswith("data_"):
        stem = "scan_" + stem.lstrip("_.-")
    digest = hashlib.sha256(scan.encode("utf-8", "surrogateescape")).hexdigest()
    for n_digits in range(6, len(digest) + 1):
        name = f"{stem[:120]}_{digest[:n_digits]}"
        if name not in occupied:
            return name
    raise TomopipeError(f"scan {scan!r}: no name for RELION is left. Rename the scan.")


def number_text(value: float) -> str:
    """Write a number with 10 significant digits; what is 0 but for rounding becomes "0"."""
    return f"{0 if abs(value) < _LEAST else value:.10g}"


def matrix_rows_text(rows: ArrayLike) -> list[str]:
    """Write rows of matrices (n_images, 4), each as one field, `[a,b,c,d]` without blanks."""
    values = np.asarray(rows, float)
    values = np.where(abs(values) < _LEAST, 0, values)
    return [f"[{a:.10g},{b:.10g},{c:.10g},{d:.10g}]" for a, b, c, d in values.tolist()]


def write_star(
    tables: Iterable[tuple[str, dict[str, list[str]]]], path: str | os.PathLike[str]
) -> None:
    """Write a star file whole, its tables one by one: name, and columns from label to text.

    Labels come without "_". Equal tables give equal files.
    """
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(_table_text(name, columns, path) for name, columns in tables)


def _table_text(name: str, columns: dict[str, list[str]], path: str | os.PathLike[str]) -> str:
    _check_fields(set().union(*columns.values()), path)
    # an empty field, or one with blanks, is quoted
    quoted = [
        [f'"{value}"' if " " in value or not value else value for value in column]
        for column in columns.values()
    ]
    labels = [f"_{label} #{number}" for number, label in enumerate(columns, 1)]
    rows = map("\t".join, zip(*quoted, strict=True))
    return "\n".join([f"data_{name}", "", "loop_", *labels, *rows, "", "", ""])


def _check_fields(values: set[str], path: str | os.PathLike[str]) -> None:
    """Refuse text that no quoting carries: a star file has no escape for these."""
    together = "".join(values)
    if together.isprintable() and not _UNFIT.search(together):
        return
    value = next(each for each in values if _UNFIT.search(each) or not each.isprintable())
    raise TomopipeError(
        f"{Path(path)}: {value!r} cannot be written to a star file (quotes, #, tabs and "
        "control characters). Choose another folder for the results of the campaign."
    )
