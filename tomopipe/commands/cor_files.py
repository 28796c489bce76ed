"""CORs of earlier work: TomoGUI's rot_cen.json and batch_cor_values.csv, and our sidecars."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tomopipe.campaign.files import SIDECAR
from tomopipe.campaign.results import read_json
from tomopipe.cor.cor_value import CorText, format_cor, shown
from tomopipe.errors import TomopipeError, grouped, on_os_error
from tomopipe.paths import no_pipe
from tomopipe.scans.formats import RAW_ENDINGS
from tomopipe.storage.shared import update_file

_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+\s*,\d+\s*", re.ASCII)
_READ = "Accepted: rot_cen.json, a CSV file Filename,COR, and sidecars."
_PREDICTED = "predicted; the next run predicts them again (--predicted imports them)"
_FILLED = "filled or replaced in their series; the next run does so again"


class Match(NamedTuple):
    """The scans that the entries of a file belong to."""

    matched: dict[str, float]  # scan to COR
    unmatched: list[str]  # entries without a scan
    ambiguous: dict[str, list[str]]  # entry to the scans it may mean


class FileCors(NamedTuple):
    """CORs by entry: a path whose last part names the scan or its file."""

    cors: dict[str, float]  # in unbinned pixels
    junk: dict[str, str]  # texts that are not a COR
    skipped: dict[str, str]  # entry to the reason


def read_cors(paths: Iterable[Path], *, predicted: bool = False) -> FileCors:
    """Read the CORs of files: rot_cen.json, batch_cor_values.csv, or sidecars `<scan>.cor.json`.

    JSON: an object, path of a scan to its COR as a number, as text, or as a list of one of these.
    CSV: the columns Filename and COR. An empty text and null mean no COR. If several files have an
    entry, the last counts. A sidecar counts if its source is manual; with `predicted` also if its
    source is a method, whose COR a run would predict again.
    """
    result = FileCors({}, {}, {})
    for path in paths:
        if path.is_dir():
            raise TomopipeError(
                f"{path}: a folder; name its files, such as rot_cen.json or FOLDER/*.cor.json."
            )
        if path.name.endswith(SIDECAR):
            _add_sidecar(path, result, predicted=predicted)
        else:
            _add_entries(path, result)
    return result


def _add_sidecar(path: Path, result: FileCors, *, predicted: bool) -> None:
    try:
        data = read_json(path, "a sidecar of tomopipe")
    except TomopipeError as error:  # read the others
        result.skipped[str(path)] = f"damaged: {error}"
        return
    scan, source, value = (data.get(key) for key in ("scan", "source", "cor_px"))
    if not isinstance(scan, str) or not isinstance(source, str):
        result.skipped[str(path)] = f"no sidecar of tomopipe: {path}"
        return
    name = f"{path.parent}/{scan}"
    cor = CorText(value if isinstance(value, str) else json.dumps(value))
    is_predicted = source in ("ai", "auto")
    if source != "manual" and not (is_predicted and predicted):
        result.skipped[name] = _PREDICTED if is_predicted else _FILLED
    elif cor.px is None:
        result.junk[name] = shown(cor.text)
    else:
        result.cors[name] = cor.px


def describe_junk(junk: Mapping[str, str]) -> str:
    """Return a message with the entries that are not CORs, and the remedy."""
    lines = "\n".join(f"  {name}: {text}" for name, text in junk.items())
    expected = "expected one number per scan, such as 1024.50; got"
    return f"{expected}\n{lines}\nCorrect or remove these entries."


def _add_entries(path: Path, result: FileCors) -> None:
    """Add the entries of rot_cen.json or batch_cor_values.csv, recognised by content."""
    with on_os_error(f"{path}: cannot be read"):
        text = no_pipe(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    try:
        if text.lstrip().startswith(("{", "[")):
            entries = [(name, _as_text(value)) for name, value in _object(text, path).pairs]
        else:
            entries = _csv_entries(text, path)
    except TomopipeError as error:
        raise TomopipeError(f"{error} {_READ}") from error
    cors, junk = _parsed(entries)
    result.cors.update(cors)
    result.junk.update(junk)


def merge_rot_cen(cors: Mapping[str, float], path: str | os.PathLike[str]) -> list[str]:
    """Write CORs into TomoGUI's rot_cen.json, new or existing; return its other entries.

    `cors` are by absolute path of each scan, in unbinned pixels. A file of another form is left
    unchanged: TomopipeError.
    """
    others: list[str] = []

    def change(before: bytes) -> bytes:
        text = before.decode("utf-8-sig", "surrogateescape")
        result = dict(_object(text, path)) if text.strip() else {}
        keys = grouped((os.path.normpath(key), key) for key in result)
        new = {
            key: format_cor(cors[name]) for name in sorted(cors) for key in keys.get(name, [name])
        }
        others[:] = [key for key in result if key not in new]
        return (json.dumps(result | new, indent=1) + "\n").encode()

    with on_os_error(f"{path}: cannot be written"):
        update_file(path, change)
    return others


def merge_batch_csv(cors: Mapping[str, float], path: str | os.PathLike[str]) -> list[str]:
    """Write CORs into TomoGUI's batch_cor_values.csv, as `merge_rot_cen`.

    It has names without folders: two files of one name with different CORs raise TomopipeError.
    """
    new: dict[str, str] = {}
    for name, cor_px in sorted(cors.items()):
        text = format_cor(cor_px)
        if new.setdefault(os.path.basename(name), text) != text:
            raise TomopipeError(
                f"{path}: two files are named {os.path.basename(name)}, which Filename,COR cannot "
                "tell apart. Use rot_cen.json."
            )
    others: list[str] = []

    def change(before: bytes) -> bytes:
        text = before.decode("utf-8-sig", "surrogateescape")
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True))
        rows = rows if text.strip() else [["Filename", "COR"]]
        at_name, at_cor = _csv_columns(rows[0], path)
        missing, others[:] = dict(sorted(new.items())), []
        n_cells = len(rows[0])
        for row in rows[1:]:
            name = row[at_name] if len(row) > at_name else ""
            if name in new:
                row.extend([""] * (n_cells - len(row)))
                # a decimal comma made an extra cell
                row[at_cor : at_cor + 1 + len(row) - n_cells] = [new[name]]
                missing.pop(name, None)
            elif name:
                others.append(name)
        for name, cor in missing.items():
            cells = {at_name: name, at_cor: cor}
            rows.append([cells.get(column, "") for column in range(n_cells)])
        stream = io.StringIO(newline="")
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue().encode("utf-8", "surrogateescape")

    with on_os_error(f"{path}: cannot be written"):
        update_file(path, change)
    return others


def match(entries: Mapping[str, float], scans: Mapping[str, str]) -> Match:
    """Find the scan of each entry: by its path, else by its file name if that is unique.

    `entries` are paths or file names of another program; `scans` gives the absolute path of each
    scan's file. An entry with the path of a file of the campaign takes precedence over one with the
    same file name in another folder, which is then unmatched. Entries with different CORs for one
    scan are ambiguous.
    """
    by_path = grouped((os.path.normpath(path), scan) for scan, path in scans.items())
    by_bare_path = grouped((_bare(path), scan) for path, item in by_path.items() for scan in item)
    by_name = grouped(
        (name, scan)
        for scan, path in scans.items()
        for name in {scan, _file_name(path), _bare(_file_name(path))}
    )
    exact = {}
    for entry in entries:
        path = os.path.normpath(entry)
        bare = by_bare_path.get(path, [])
        exact[entry] = by_path.get(path) or (bare if len(bare) == 1 else [])
    named = {scan for item in exact.values() for scan in item}
    claims: list[tuple[str, str]] = []
    unmatched, ambiguous = [], {}
    for entry, item in exact.items():
        candidates = item or _by_name(entry, by_name)
        free = item or [scan for scan in candidates if scan not in named]
        if not free:
            unmatched.append(entry)
        elif not item and len(candidates) > 1:
            ambiguous[entry] = candidates
        else:
            claims += [(scan, entry) for scan in free]
    matched = {}
    for scan, names in grouped(claims).items():
        if len({entries[name] for name in names}) == 1:
            matched[scan] = entries[names[0]]
        else:
            ambiguous.update({name: [scan] for name in names})
    return Match(dict(sorted(matched.items())), unmatched, ambiguous)


def _by_name(entry: str, by_name: Mapping[str, list[str]]) -> list[str]:
    """Return the scans of a file name, with its ending if any: `a_1.5` may be a whole name."""
    name = _file_name(entry)
    return sorted(by_name.get(name) or by_name.get(_bare(name), []))


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name  # TomoGUI may have run on Windows


def _bare(path: str) -> str:
    """Return a path without the ending of raw files (a_1.5um has none)."""
    bare, ending = os.path.splitext(path)
    return bare if ending.lower() in RAW_ENDINGS else path


def _parsed(entries: list[tuple[str, str]]) -> tuple[dict[str, float], dict[str, str]]:
    """Return CORs, and texts that are not a COR, by entry; those without a COR are skipped."""
    cors: dict[str, float] = {}
    junk: dict[str, str] = {}
    for name, cor in ((name, CorText(text)) for name, text in entries):
        if not cor.text.strip() or name in junk:
            continue
        if cor.px is None:
            junk[name] = shown(cor.text)
        elif cors.setdefault(name, cor.px) != cor.px:
            junk[name] = f"{shown(cor.text)} (second value)"
    return {name: cor_px for name, cor_px in cors.items() if name not in junk}, junk


class _Object(dict[str, Any]):
    """A JSON object that also keeps the keys that occur twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _object(text: str, path: str | os.PathLike[str]) -> _Object:
    try:
        data = json.loads(text, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise TomopipeError(f"{path}: expected JSON, path to COR; {error}.") from error
    if not isinstance(data, _Object):
        raise TomopipeError(
            f"{path}: expected a JSON object, path to COR; got {type(data).__name__}."
        )
    return data


def _csv_entries(text: str, path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = next(rows, [])
    at_name, at_cor = _csv_columns(header, path)
    return [
        ("".join(row[at_name : at_name + 1]), _cor_cell(row, at_cor, len(header))) for row in rows
    ]


def _cor_cell(row: list[str], at_cor: int, n_cells: int) -> str:
    """Return the cell of the COR, with the next ones if they may be its decimals.

    A decimal comma adds a cell, and 1024,5 must not be read as 1024.
    """
    two = ",".join(row[at_cor : at_cor + 2])
    if len(row) <= n_cells and _DECIMAL_COMMA.fullmatch(two):
        return two
    return ",".join(row[at_cor : at_cor + 1 + max(0, len(row) - n_cells)])


def _csv_columns(header: list[str], path: str | os.PathLike[str]) -> tuple[int, int]:
    if not {"Filename", "COR"} <= set(header):
        raise TomopipeError(
            f"{path}: expected rot_cen.json or a table with the columns Filename,COR; "
            f"got {shown(', '.join(header) or 'nothing')}."
        )
    return header.index("Filename"), header.index("COR")


def _as_text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
