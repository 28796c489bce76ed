"""Read the small files that steps exchange; errors name the damaged file and the remedy.

These are `cor.json` of resolve_cor, `prediction.json` of predict_cor, and the tables (TSV) of
inventory, fix_cor and export_star, which are also written here. All are written whole, but may be
cut or edited later.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tomopipe.cor.cor_value import CorText, format_cor
from tomopipe.cor.outliers import FIX_COLUMNS, Fix, parse_fixes
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage.atomic import write_text
from tomopipe.storage.json_files import number, parsed

VERDICTS = ("resolved", "edge", "ambiguous", "flat", "failed")
INVENTORY_COLUMNS = ("scan", "path", "n_cols", "keep", "reason")
VOLUME_ROWS = "volume_rows"
"""Key of prediction.json: full_recon.rows, if a warning of a tilted axis depends on them."""
N_STUCK, ROLL, UNREADABLE = "n_stuck", "roll_deg", "unreadable"
"""Keys of try.json: number of stuck pixels (at the largest number), which are interpolated; the
measured roll, which is corrected; whether pixels could not be read."""
UNCORRECTED_ROLL = "uncorrected_roll"
"""Key of try.json: a measured roll, of which the error is too large to correct it."""
_AGAIN = "Delete it and run again."
InventoryRows = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Curve:
    """Score of one finder against COR in unbinned pixels; higher is better."""

    method: str
    best_cor_px: float | None
    confidence: float | None
    cor_px: tuple[float, ...] = field(repr=False)
    score: tuple[float, ...] = field(repr=False)
    # of a method of another package: it and its version, and papers
    package: str = ""
    papers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """The trained model of a prediction: its name, and the hash of its file."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Prediction:
    """Content of prediction.json."""

    best_cor_px: float | None
    cor_px: float | None
    confidence: float | None
    verdict: str
    method: str
    reason: str
    curves: tuple[Curve, ...] = ()
    model: Model | None = None
    roll_px_per_100_rows: str = ""  # "-0.25 ± 0.02"; "" where it may be none
    # with preprocess.roll_deg: auto: measured and corrected; measured, "0.08 ± 0.01"
    roll_deg: float | None = None
    pitch_deg: str = ""
    lacks_pitch: bool = False  # it cannot be measured
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()  # why an accepted COR needs review

    @property
    def of_method(self) -> float | None:
        """The confidence of its method, also where the decision does not accept its COR."""
        of = {curve.method: curve.confidence for curve in self.curves}
        return of.get(self.method, self.confidence)


def read_cor_json(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read cor.json: scan to `cor_px` (float, unbinned pixels) and `source` (str).

    Raises TomopipeError if the file cannot be read or has another form.
    """
    expected = "scan to cor_px and source"
    content = read_json(path, expected)
    for scan, entry in content.items():
        if not isinstance(entry, dict):
            raise _fault(path, f"{scan}: expected cor_px and source", entry)
        if not _is_number(entry.get("cor_px")):
            raise _fault(path, f"{scan}: cor_px: expected a number", entry.get("cor_px"))
        if not isinstance(entry.get("source"), str):
            raise _fault(path, f"{scan}: source: expected a word", entry.get("source"))
    return content


def read_prediction(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a prediction.json.

    Its `best_cor_px` and `cor_px` are numbers or None, `confidence` a number, `verdict` one of
    `VERDICTS`, `method` and `reason` texts, if present.

    Raises TomopipeError if the file cannot be read or is not of that form.
    """
    content = read_json(path, "the prediction of a scan")
    for name in ("best_cor_px", "cor_px", "confidence"):
        if content.get(name) is not None and not _is_number(content[name]):
            raise _fault(path, f"{name}: expected a number or null", content[name])
    for name in ("verdict", "method", "reason"):
        if not isinstance(content.get(name, ""), str):
            raise _fault(path, f"{name}: expected a text", content[name])
    if content.get("verdict", "failed") not in VERDICTS:
        raise _fault(path, f"verdict: expected one of {', '.join(VERDICTS)}", content["verdict"])
    return content


def volume_cor_px(volume: Path) -> float | None:
    """Return the COR in the provenance of a volume; None if it has none, or cannot be read."""
    return volume_cor(volume)[0]


def volume_cor(volume: Path) -> tuple[float | None, str]:
    """Return the COR in the provenance of a volume, and its source; (None, "") as there."""
    with suppress(Exception):  # damaged or foreign volumes may raise anything
        return _stated_cor(volume, os.stat(volume).st_mtime_ns)
    return None, ""


@cache  # called several times for each volume
def _stated_cor(volume: Path, _mtime_ns: int) -> tuple[float, str]:
    from tomopipe.volumes.volume_read import read_provenance  # slow to load

    cor = read_provenance(volume)["cor"]
    return float(cor["cor_px"]), str(cor.get("source", ""))


def read_center(center_txt: str | os.PathLike[str]) -> CorText:
    """Read center_of_rotation.txt."""
    return CorText(Path(no_pipe(center_txt)).read_bytes().decode("utf-8", "replace").strip())


def center_by_hand(center_txt: str | os.PathLike[str], predicted_px: float | None) -> str | None:
    """Return the text with which a person replaced a predicted COR; None if unchanged."""
    try:
        center = read_center(center_txt)
    except OSError:
        return None
    predicted = format_cor(predicted_px)
    is_predicted = center.text == predicted or format_cor(center.px) == predicted != ""
    return None if is_predicted else center.text


def read_fixes(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Fix]:
    """Read the tables of fix_cor, by scan."""
    return parse_fixes(row for path in paths for row in read_tsv(path, FIX_COLUMNS))


def read_inventory(path: str | os.PathLike[str]) -> InventoryRows:
    """Read results/inventory.tsv by scan; refused names, which may repeat, are skipped.

    Memoised by time and size: the workflow asks once per job.
    """
    status = os.stat(path)
    return _read_inventory(os.fspath(path), status.st_mtime_ns, status.st_size)


def present_inventory(path: str | os.PathLike[str]) -> InventoryRows:
    """Read the inventory as `read_inventory`; no rows if it is missing or damaged."""
    with suppress(OSError, TomopipeError):  # the next run makes it again
        return read_inventory(path)
    return {}


@lru_cache(maxsize=4)
def _read_inventory(path: str, mtime_ns: int, n_bytes: int) -> InventoryRows:
    rows = {row["scan"]: row for row in read_tsv(path, INVENTORY_COLUMNS)}
    for row in rows.values():
        _check_cells(row, path)
    return rows


def _check_cells(row: Mapping[str, str], path: str) -> None:
    """Raise if a cell is of another kind than its column."""
    for name, (kind, parse) in _CELLS.items():
        try:
            if cell := row.get(name):
                parse(cell)
        except (ValueError, RecursionError):
            expected = f"{row['scan']}: expected {kind} in the column {name}"
            raise _fault(path, expected, row[name]) from None


def _object(text: str) -> dict[str, Any]:
    if not isinstance(result := json.loads(text), dict):
        raise ValueError("no JSON object")
    return result


_CELLS: dict[str, tuple[str, Callable[[str], object]]] = {
    **dict.fromkeys(("n_angles", "n_rows", "n_cols"), ("a whole number", int)),
    **dict.fromkeys(
        ("pixel_size_um", "energy_kev", "distance_mm", "height_mm", "time_s"), ("a number", float)
    ),
    **dict.fromkeys(("linked", "also_read"), ("a JSON object", _object)),
}


def read_json(path: str | os.PathLike[str], expected: str) -> dict[str, Any]:
    """Read a JSON object that a step wrote; `expected` describes its content in messages.

    Raises TomopipeError if the file cannot be read or is no JSON object.
    """
    try:
        with open(no_pipe(path), "rb", buffering=0) as stream:
            content = parsed(stream.readall())
    except OSError as error:
        raise TomopipeError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise TomopipeError(
            f"{path}: is damaged ({fault}); expected JSON, {expected}. {_AGAIN}"
        ) from error
    if not isinstance(content, dict):
        raise _fault(path, f"expected a JSON object, {expected}", content)
    return content


def _is_number(value: object) -> bool:
    return not isinstance(value, str) and number(value) is not None


def _fault(path: str | os.PathLike[str], expected: str, result: object) -> TomopipeError:
    return TomopipeError(f"{path}: {expected}; got {result!r:.60}. {_AGAIN}")


def read_tsv(path: str | os.PathLike[str], columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table, UTF-8 text, as one dictionary of text per row.

    Raises TomopipeError if one of `columns` is missing (others are read too), the file is not text,
    or was cut: a row has more or fewer cells than there are columns, or the last line has no end.
    """
    text = Path(no_pipe(path)).read_bytes().decode("utf-8", "surrogateescape")
    try:
        return _rows(text, columns)
    except ValueError as error:
        raise TomopipeError(f"{path}: {error}. Delete the file and run again.") from error


def _rows(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Parse a table; a ValueError describes its fault."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"line {line}: contains a NUL character: it is damaged")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    header = lines[0][1] if lines else []
    if missing := [name for name in columns if name not in header]:
        raise ValueError(f"expected columns {', '.join(columns)}; missing {', '.join(missing)}")
    rows = [(line, cells) for line, cells in lines[1:] if cells]
    for line, cells in rows:
        if len(cells) != len(header):
            got = f"expected {len(header)} cells, got {len(cells)}"
            raise ValueError(f"line {line}: {got}: it was cut or edited")
    if text and not text.endswith(("\n", "\r")):
        line, _ = lines[-1]
        raise ValueError(f"line {line}: expected a line end after it: it was cut or edited")
    return [dict(zip(header, cells, strict=True)) for _, cells in rows]


def write_tsv(
    rows: Iterable[Mapping[str, object]], columns: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Write a table atomically; None becomes an empty cell, a bool true or false."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row.get(name) for name in columns)
        writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in cells])
    write_text(stream.getvalue(), path)
