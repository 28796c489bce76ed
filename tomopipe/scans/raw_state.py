"""State of a raw scan in the file system: a file or folder, and the files linked from it."""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from tomopipe.errors import ScanError
from tomopipe.scans.formats import TIFF, Path
from tomopipe.scans.hdf5 import open_hdf5, source_path

if TYPE_CHECKING:
    import h5py

State = list[int] | None
LISTS = (".txt", ".csv", ".dat", ".tsv")
REFERENCES = ("flats", "darks")
_WHEN = "([ _.-]*(before|after|pre|post|start|end))?"
_REFERENCE_FOLDER = re.compile(
    rf"(?:(flat|ref|white|ff)|dark|df)s?(?:[ _.-]?fields?)?{_WHEN}", re.IGNORECASE
)
_DEEPEST = 2  # folders below that of a scan: its projections, flats and darks


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


def file_state(path: Path) -> tuple[int, int, int] | None:
    """Return size in bytes, time of the last change (ns) and inode.

    Of a folder, the size of all its images and lists, the latest time of any, and 0; None if there
    is nothing.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size, status.st_mtime_ns, status.st_ino
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return None
    result = folder_state(path)
    return result and (result[0], result[1], 0)


def folder_state(path: Path) -> tuple[int, int, int, int] | None:
    """Return the state of all images and lists in a folder.

    Size in bytes and latest time (ns) as `file_state` does; minus a digest of their inodes and
    times of the inodes' change, which a copy has, too; a digest of their names, sizes and times,
    which changes when one comes, goes or changes. None if there is no folder.
    """
    names, inodes, n_bytes, latest_ns = hashlib.sha256(), hashlib.sha256(), 0, 0
    for name, status in sorted(files_in(os.fspath(path)), key=lambda item: item[0]):
        line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        names.update(line.encode("utf-8", "surrogateescape"))
        inodes.update(f"{status.st_ino}\0{status.st_ctime_ns}\n".encode())
        n_bytes, latest_ns = n_bytes + status.st_size, max(latest_ns, status.st_mtime_ns)
    try:
        latest_ns = latest_ns or os.stat(path).st_mtime_ns
    except OSError:
        return None
    by_inode, by_name = (int(digest.hexdigest()[:16], 16) >> 2 for digest in (inodes, names))
    return n_bytes, latest_ns, -1 - by_inode, by_name


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


def files_in(folder: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and status of the images and lists in a folder of a scan and its subfolders."""
    try:
        with os.scandir(folder) as entries:
            names = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return
    for entry in names:
        with suppress(OSError):  # gone meanwhile, or a dangling link
            if entry.name.lower().endswith(TIFF.endings + LISTS) and entry.is_file():
                yield prefix + entry.name, entry.stat()
            elif depth < _DEEPEST and entry.is_dir():
                yield from files_in(entry.path, f"{prefix}{entry.name}/", depth + 1)


def source_files(path: str | os.PathLike[str]) -> tuple[dict[str, State], dict[str, State]]:
    """Return the `link_state` of each file that an HDF5 file takes data from, directly or not.

    By path, which is relative if `path` is; separately those that hold nothing but the values of
    its datasets (external storage). Files of other formats, and folders, take none.
    """
    linked: dict[str, State] = {}
    stored: dict[str, State] = {}
    waiting = [os.fspath(path)]
    while waiting:
        targets, external = _targets(waiting.pop())
        stored |= {target: link_state(target) for target in external}
        for target in targets:
            if target not in linked and target != os.fspath(path):
                linked[target] = link_state(target)
                waiting.append(target)
    return dict(sorted(linked.items())), dict(sorted(stored.items()))


def link_state(path: str | os.PathLike[str]) -> State:
    """Return size in bytes and time of change (ns) of a file, None where there is none."""
    result = file_state(path)
    return None if result is None else list(result[:2])


def _targets(path: str) -> tuple[list[str], list[str]]:
    """List the HDF5 files that one file names, and those of values; none if it cannot be read."""
    import h5py

    names, values = set[str](), set[str]()
    try:
        with open_hdf5(path) as file:
            for _, link, entry in objects_in(file):
                if isinstance(link, h5py.ExternalLink):
                    names.add(link.filename)
                if isinstance(entry, h5py.Dataset) and entry.is_virtual:
                    names |= {source.file_name for source in entry.virtual_sources()}
                elif isinstance(entry, h5py.Dataset):
                    # HDF5 looks for them in the working directory, not beside the file
                    values |= {os.path.normpath(name) for name, *_ in entry.external or ()}
    except (ScanError, OSError, RuntimeError, KeyError, ValueError):
        return [], []
    # where HDF5 finds each, or where it would look first
    paths = [os.path.normpath(source_path(name, path)) for name in sorted(names - {"."})]
    return paths, sorted(values)


def objects_in(file: "h5py.File") -> "Iterator[tuple[str, Any, h5py.HLObject | None]]":
    """Yield path, link and object of all that is in a file, each object once, by name.

    None for an object that came before, as groups may be linked several times, also from groups
    below them, and for what other links lead to. Groups may be nested endlessly.
    """
    import h5py

    visited = set()
    # names are bytes where they are not UTF-8
    waiting = [(file, name) for name in sorted(file, key=os.fsencode, reverse=True)]
    while waiting:
        group, name = waiting.pop()
        is_hard = group.id.links.get_info(os.fsencode(name)).type == h5py.h5l.TYPE_HARD
        # h5py returns a link of a name in UTF-8 alone
        link, result = h5py.HardLink() if is_hard else group.get(name, getlink=True), None
        if is_hard:
            address = h5py.h5o.get_info(group[name].id).addr
            result = None if address in visited else group[name]
            visited.add(address)
        yield os.path.join(*map(os.fsdecode, (group.name, name))), link, result
        if isinstance(result, h5py.Group):
            below = sorted(result, key=os.fsencode, reverse=True)
            waiting += [(result, child) for child in below]
