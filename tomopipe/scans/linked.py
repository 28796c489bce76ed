"""Files that an HDF5 file takes data from: by links, in virtual datasets, by external storage."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import open_hdf5
from tomopipe.scans.raw_state import file_state

if TYPE_CHECKING:
    import h5py

State = list[int] | None


def files_taken_from(path: str | os.PathLike[str]) -> tuple[dict[str, State], dict[str, State]]:
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
    external: set[str] = set()
    try:
        with open_hdf5(path) as file:
            names = sorted(set(_names(file, external)))
    except (ScanError, OSError, RuntimeError, KeyError):
        return [], []
    # HDF5 looks for files of values in the working directory, not beside the file
    values = [os.path.normpath(name) for name in sorted(external)]
    return [_source_path(name, path) for name in names if name != "."], values


def _source_path(name: str, path: str) -> str:
    """Return the path where HDF5 finds a file, or where it would look first."""
    from tomopipe.scans.frames import source_paths

    paths = list(source_paths(name, path))
    beside = [source for source in paths if os.path.exists(source)]
    return os.path.normpath((beside or paths)[0])


def _names(file: "h5py.File", external: set[str]) -> Iterator[str]:
    """Yield the files that links and virtual datasets name; add those of values to `external`."""
    import h5py

    for _, link, entry in objects_in(file):
        if isinstance(link, h5py.ExternalLink):
            yield link.filename
        if isinstance(entry, h5py.Dataset) and entry.is_virtual:
            yield from (source.file_name for source in entry.virtual_sources())
        elif isinstance(entry, h5py.Dataset):
            external.update(name for name, *_ in entry.external or ())


def objects_in(file: "h5py.File") -> "Iterator[tuple[str, Any, h5py.HLObject | None]]":
    """Yield path, link and object of all that is in a file, each object once, by name.

    None for an object that came before, as groups may be linked several times, also from groups
    below them, and for what other links lead to. Groups may be nested endlessly.
    """
    import h5py

    visited = set()
    waiting = [(file, name) for name in sorted(file, reverse=True)]
    while waiting:
        group, name = waiting.pop()
        link, result = group.get(name, getlink=True), None
        if isinstance(link, h5py.HardLink):
            address = h5py.h5o.get_info(group[name].id).addr
            result = None if address in visited else group[name]
            visited.add(address)
        yield f"{group.name.rstrip('/')}/{name}", link, result
        if isinstance(result, h5py.Group):
            waiting += [(result, child) for child in sorted(result, reverse=True)]
