"""The files of a raw scan: those of its folder, beside it, and linked from it."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

from tomopipe.errors import ScanError
from tomopipe.scans.formats import TIFF, Path
from tomopipe.scans.hdf5 import open_hdf5, source_path

LISTS = (".txt", ".csv", ".dat", ".tsv")
REFERENCES = ("flats", "darks")
_WHEN = "([ _.-]*(before|after|pre|post|start|end))?"
_REFERENCE_FOLDER = re.compile(
    rf"(?:(flat|ref|white|ff)|dark|df)s?(?:[ _.-]?fields?)?{_WHEN}", re.IGNORECASE
)


def folder_kind(name: str) -> str | None:
    """Return what the name of a folder says that it holds: `flats`, `darks`, or None for others."""
    match = _REFERENCE_FOLDER.fullmatch(name)
    return ("flats" if match[1] else "darks") if match else None


def in_order_of_time(folders: Iterable[str]) -> list[str]:
    """Return names of folders of flats or darks, those after the scan last."""
    is_after = re.compile("after|post|end", re.IGNORECASE)
    return sorted(folders, key=lambda name: (is_after.search(name) is not None, name))


def visible(folder: str | os.PathLike[str]) -> list[FilePath]:
    """List what is in a folder, in order, without hidden files, such as those of macOS."""
    return sorted(path for path in FilePath(folder).iterdir() if not path.name.startswith("."))


def companions(path: str, directory: Path = ".") -> list[str]:
    """List what belongs to a scan in one TIFF file, `path` from `directory`, and lies beside it.

    Of `scan.tif` the list of angles `scan.txt` (`.csv`, ...) and the folders `scan_flats` and
    `scan_darks`, as far as there are any.
    """
    stem, ending = os.path.splitext(path)
    if ending.lower() not in TIFF.endings:
        return []
    beside = [*(stem + ending for ending in LISTS), *(f"{stem}_{kind}" for kind in REFERENCES)]
    return [name for name in beside if os.path.exists(os.path.join(directory, name))]


def source_files(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Return the files that an HDF5 file takes data from, directly or not.

    Their paths are relative if `path` is. Separately those that hold nothing but the values of its
    datasets (external storage). Files of other formats, and folders, take none.
    """
    linked, stored, waiting = set[str](), set[str](), [os.fspath(path)]
    while waiting:
        targets, external = _targets(waiting.pop())
        stored |= {*external}
        new = {*targets} - linked - {os.fspath(path)}
        linked |= new
        waiting += new
    return sorted(linked), sorted(stored)


def _targets(path: str) -> tuple[list[str], list[str]]:
    """List the HDF5 files that one file names, and those of values; none if it cannot be read."""
    import h5py

    names, values = set[str](), set[str]()
    try:
        with open_hdf5(path) as file:
            for properties in _data_and_links(file.id):
                if isinstance(properties, bytes):  # the name of a file
                    names.add(os.fsdecode(properties))
                elif properties.get_layout() == h5py.h5d.VIRTUAL:
                    count = properties.get_virtual_count()
                    names |= {properties.get_virtual_filename(k) for k in range(count)}
                else:
                    count = properties.get_external_count()
                    stored = (properties.get_external(k)[0] for k in range(count))
                    # HDF5 looks for them in the working directory, not beside the file
                    values |= {os.path.normpath(os.fsdecode(name)) for name in stored}
    except (ScanError, OSError, RuntimeError, KeyError, ValueError):
        return [], []
    # where HDF5 finds each, or where it would look first
    paths = [os.path.normpath(source_path(name, path)) for name in sorted(names - {"."})]
    return paths, sorted(values)


def _data_and_links(root: Any) -> "Iterator[Any]":
    """Yield the file that each external link names, and how datasets in parts or elsewhere lie.

    By identifiers alone: objects of h5py would take three times as long.
    """
    import h5py

    visited, waiting = set(), [root]
    while waiting:
        group = waiting.pop()
        links: list[tuple[bytes, int]] = []
        group.links.iterate(lambda name, info, to=links: to.append((name, info.type)), info=True)
        for name, kind in links:
            if kind == h5py.h5l.TYPE_EXTERNAL:
                yield group.links.get_val(name)[0]
            if kind != h5py.h5l.TYPE_HARD:
                continue
            info = h5py.h5g.get_objinfo(group, name)  # h5o.get_info counts the chunks
            if info.objno in visited:
                continue
            visited.add(info.objno)
            if info.type == h5py.h5g.GROUP:
                waiting.append(h5py.h5g.open(group, name))
            elif info.type == h5py.h5g.DATASET:
                data = h5py.h5d.open(group, name)
                if data.get_offset() is None:  # else all values are in one place of this file
                    yield data.get_create_plist()
