"""TomoGUI's forms of a table of CORs: rot_cen.json and the older batch_cor_values.csv."""

import csv
import io
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tomopipe.cor import format_cor, parse_cor, shown
from tomopipe.errors import TomopipeError
from tomopipe.io.atomic import write_json, write_text


class Match(NamedTuple):
    """Which entries of a file belong to which scans."""

    matched: dict[str, float]  # scan to COR
    unmatched: list[str]  # entries that no scan answers to
    ambiguous: dict[str, list[str]]  # entry to the scans it may mean


def read_cors(path: str | os.PathLike[str]) -> dict[str, float]:
    """Read rot_cen.json or batch_cor_values.csv, whichever the content is.

    Parameters
    ----------
    path : path-like
        The file; its name does not matter.

    Raises
    ------
    TomopipeError
        If it is neither, or holds a value that is no COR.
    """
    if _read_text(path).lstrip().startswith(("{", "[")):
        return read_rot_cen(path)
    return read_batch_csv(path)


def read_rot_cen(path: str | os.PathLike[str]) -> dict[str, float]:
    """Read TomoGUI's rot_cen.json.

    Parameters
    ----------
    path : path-like
        JSON object: path of a scan to its COR as a number, as text, or as a list of one of them.
        An empty text and null mean that none is known.

    Returns
    -------
    dict
        Path as written to COR in unbinned pixels; scans without one are left out.

    Raises
    ------
    TomopipeError
        If the file is not such an object, or for values that are not a number.
    """
    try:
        data = json.loads(_read_text(path))
    except ValueError as error:
        raise TomopipeError(f"{path}: expected JSON, path to COR; {error}.") from error
    if not isinstance(data, dict):
        raise TomopipeError(
            f"{path}: expected a JSON object, path to COR; got {type(data).__name__}."
        )
    return _parsed(path, [(name, _as_text(value)) for name, value in data.items()])


def write_rot_cen(cors: Mapping[str, float], path: str | os.PathLike[str]) -> None:
    """Write TomoGUI's rot_cen.json: absolute path of each scan to its COR as "1024.50"."""
    write_json(rot_cen(cors), path)


def rot_cen(cors: Mapping[str, float]) -> dict[str, str]:
    """Return the content of rot_cen.json."""
    return {name: format_cor(cor_px) for name, cor_px in cors.items()}


def read_batch_csv(path: str | os.PathLike[str]) -> dict[str, float]:
    """Read TomoGUI's batch_cor_values.csv.

    Parameters
    ----------
    path : path-like
        Text with the columns Filename and COR; an empty COR means that none is known.

    Returns
    -------
    dict
        File name as written to COR in unbinned pixels; files without one are left out.

    Raises
    ------
    TomopipeError
        If a column is missing, or for values that are not a number.
    """
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), skipinitialspace=True)
    if not {"Filename", "COR"} <= set(reader.fieldnames or []):
        found = ", ".join(reader.fieldnames or []) or "nothing"
        raise TomopipeError(
            f"{path}: expected rot_cen.json or a table with the columns Filename,COR; "
            f"got {shown(found)}."
        )
    entries = []
    for row in reader:
        # A comma for the decimal point makes a third cell: 1024,5 must not be read as 1024.
        cells = [row["COR"] or "", *(row.get(None) or [])]
        entries.append((row["Filename"] or "", ",".join(cells)))
    return _parsed(path, entries)


def write_batch_csv(cors: Mapping[str, float], path: str | os.PathLike[str]) -> None:
    """Write TomoGUI's batch_cor_values.csv: file name (no folder) to COR, sorted by name.

    Parameters
    ----------
    cors : mapping
        Path of each scan to its COR in unbinned pixels.
    path : path-like
        The file to write.

    Raises
    ------
    TomopipeError
        If two files of one name have different CORs: the form cannot tell them apart.
    """
    by_name: dict[str, str] = {}
    for name, cor_px in cors.items():
        text = format_cor(cor_px)
        if by_name.setdefault(os.path.basename(name), text) != text:
            raise TomopipeError(
                f"{path}: two files are named {os.path.basename(name)}, which Filename,COR cannot "
                "tell apart. Use rot_cen.json."
            )
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["Filename", "COR"])
    writer.writerows(sorted(by_name.items()))
    write_text(stream.getvalue(), path)


def match(entries: Mapping[str, float], scans: Mapping[str, str]) -> Match:
    """Find the scan that each entry means: by its path, else by its file name if unique.

    Parameters
    ----------
    entries : mapping
        Path or file name, as another program wrote it, to COR in unbinned pixels.
    scans : mapping
        Scan to the absolute path of its file.

    Returns
    -------
    Match
        An entry that names a file of the campaign by its path wins over one of the same file name
        in another folder, which is then unmatched. Entries with different CORs for one scan are
        ambiguous.
    """
    by_path: dict[str, list[str]] = defaultdict(list)
    by_name: dict[str, set[str]] = defaultdict(set)
    for scan, path in scans.items():
        by_path[os.path.normpath(path)].append(scan)
        for name in (scan, _file_name(path), _stem(path)):
            by_name[name].add(scan)
    exact = {entry: by_path.get(os.path.normpath(entry), []) for entry in entries}
    taken = {scan for found in exact.values() for scan in found}
    claims: dict[str, list[str]] = defaultdict(list)
    unmatched, ambiguous = [], {}
    for entry, found in exact.items():
        candidates = found or sorted(_by_name(entry, by_name))
        free = found or [scan for scan in candidates if scan not in taken]
        if not free:
            unmatched.append(entry)
        elif not found and len(candidates) > 1:
            ambiguous[entry] = candidates
        else:
            for scan in free:
                claims[scan].append(entry)
    matched = {}
    for scan, names in claims.items():
        if len({entries[name] for name in names}) == 1:
            matched[scan] = entries[names[0]]
        else:
            ambiguous.update({name: [scan] for name in names})
    return Match(dict(sorted(matched.items())), unmatched, ambiguous)


def _by_name(entry: str, by_name: Mapping[str, set[str]]) -> set[str]:
    """Return the scans of this file name; with the ending first: `a_1.5` may be a whole name."""
    return by_name.get(_file_name(entry)) or by_name.get(_stem(entry)) or set()


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name  # TomoGUI may have run on Windows


def _stem(path: str) -> str:
    return PurePosixPath(_file_name(path)).stem


def _parsed(path: str | os.PathLike[str], entries: list[tuple[str, str]]) -> dict[str, float]:
    cors: dict[str, float] = {}
    junk = []
    for name, text in entries:
        if not text.strip():
            continue
        cor_px = parse_cor(text)
        if cor_px is None or cors.get(name, cor_px) != cor_px:
            junk.append(f"{name}: {shown(text)}" + " (second value)" * (cor_px is not None))
        else:
            cors[name] = cor_px
    if junk:
        raise TomopipeError(
            f"{path}: expected one number per scan, such as 1024.50; got\n  "
            + "\n  ".join(junk)
            + "\nCorrect or remove these entries."
        )
    return cors


def _as_text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _read_text(path: str | os.PathLike[str]) -> str:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise TomopipeError(f"{path}: cannot be read ({error.strerror}).") from error
    return text
