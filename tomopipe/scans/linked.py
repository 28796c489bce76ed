"""Files that an HDF5 file takes data from: by external links, and as parts of virtual datasets."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.raw_state import file_state

if TYPE_CHECKING:
    import h5py

State = list[int] | None


def linked_files(path: str | os.PathLike[str]) -> dict[str, State]:
    """Return the `link_state` of each file that an HDF5 file takes data from, directly or not.

    By path, which is relative if `path` is.
    """
    found: dict[str, State] = {}
    waiting = [os.fspath(path)]
    while waiting:
        for target in _targets(waiting.pop()):
            if target not in found and target != os.fspath(path):
                found[target] = link_state(target)
                waiting.append(target)
    return dict(sorted(found.items()))


def link_state(path: str | os.PathLike[str]) -> State:
    """Return size in bytes and time of change (ns) of a file, None where there is none."""
    found = file_state(path)
    return None if found is None else list(found[:2])


def _targets(path: str) -> list[str]:
    """List the files that one file names; none if it cannot be read."""
    try:
        with open_hdf5(path) as file:
            names = sorted(set(_names(file)))
    except (ScanError, OSError, RuntimeError, KeyError):
        return []
    return [_source_path(name, path) for name in names if name != "."]


def _source_path(name: str, path: str) -> str:
    """Return the path where HDF5 finds a file, or where it would look first."""
    from tomopipe.scans.frames import source_paths

    paths = list(source_paths(name, path))
    beside = [source for source in paths if os.path.exists(source)]
    return os.path.normpath((beside or paths)[0])


def _names(file: "h5py.File") -> Iterator[str]:
    """Yield the files that the links and virtual datasets of a file name, each object visited once.

    Groups may be linked several times, also from groups below them, and be nested endlessly.
    """
    import h5py

    waiting, visited = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield link.filename
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in visited:
                continue
            visited.add(address)
            if isinstance(found, h5py.Group):
                waiting.append(found)
            elif isinstance(found, h5py.Dataset) and found.is_virtual:
                yield from (source.file_name for source in found.virtual_sources())
