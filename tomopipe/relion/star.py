"""Star files of RELION: valid names, number formats, tables as starfile writes them."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.errors import TomopipeError

# Valid rlnTomoName. RELION allows other first characters, but reads a row that begins with "_" as a
# label, and the shell reads a name that begins with "-" as an option.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_LEAST = 1e-12
Table = Mapping[str, Any]  # columns, of texts or numbers, by label
_TABLE = re.compile(rb"data_(\S+)\n\nloop_$", re.MULTILINE)  # with ^ before it, 13 times slower
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


def zeroed(values: ArrayLike) -> NDArray[np.float64]:
    """Return numbers with those below 1e-12, which are rounding, as 0."""
    values = np.asarray(values, float)
    return np.where(abs(values) < _LEAST, 0, values)


def matrix_rows_text(rows: ArrayLike) -> list[str]:
    """Format rows of matrices (n_images, 4) as fields `[a,b,c,d]` without blanks."""
    form = "[%.10g,%.10g,%.10g,%.10g]"
    return [form % row for row in map(tuple, zeroed(rows).tolist())]


def table_text(name: str, columns: Table, path: str | os.PathLike[str]) -> str:
    """Return the text of a table of the star file `path`; labels have no leading "_"."""
    import pandas as pd  # slow to load
    import starfile

    lists = [column for column in columns.values() if isinstance(column, list)]
    texts = {value for column in lists for value in column if isinstance(value, str)}
    if unfit := [text for text in texts if _UNFIT.search(text) or not text.isprintable()]:
        raise TomopipeError(
            f"{Path(path)}: {unfit[0]!r} cannot be written to a star file (quotes, #, tabs and "
            "control characters). Choose another folder for the results of the campaign."
        )
    text = starfile.to_string({name: pd.DataFrame(columns)}, float_format="%.10g")
    return text[text.index(f"data_{name}") :]  # without its comment, which has the time


def table_places(content: Any) -> dict[str, slice]:
    """Return where the tables of a star file are in its bytes, by name."""
    heads = (m for m in _TABLE.finditer(content) if content[m.start() - 1 : m.start()] in b"\n")
    starts = [(head.start(), head[1].decode(errors="replace")) for head in heads]
    ends = [*(start for start, _ in starts[1:]), len(content)]
    return {name: slice(start, end) for (start, name), end in zip(starts, ends, strict=False)}
