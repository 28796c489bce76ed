"""Whether a raw scan is still what it was: state of its files, and a fingerprint of their data.

The state is size, times and inode, of files it takes data from as well; nothing is read.

A fingerprint covers small data in full: of an HDF5 file the names, links, attributes and datasets
of up to 1 MiB, such as angles. Of larger datasets it covers where the frames or chunks lie, and 4
kB of each at a different position (of 4096 of them, evenly spread, if there are more). Deflated
chunks end with a checksum of their values, which is read. Files that an HDF5 file takes data from
belong to it, as do lists of angles and folders of flats and darks beside a TIFF file. Of TIFF files
4096 such samples are read, and both ends of each.

So other flats, darks or angles, another scan of the same name, a replaced frame, and whatever moves
or repacks data change it. It can miss a change of a few pixels within frames that keeps their size
and position: of uncompressed frames of 4 MB it sees one in a thousand changes at a single position
of a single frame, and nearly every one that touches more than a hundredth of each frame.
`tomopipe.storage.checksums.checksum_of` misses nothing, and reads all.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from tomopipe.errors import ScanError
from tomopipe.scans.formats import HDF5, TIFF, Path
from tomopipe.scans.hdf5 import StillWrittenError, open_hdf5, source_paths

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
    """Tell whether a folder is one of flats or darks, by its name: `flats`, `darks` or None."""
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
        try:
            if entry.name.lower().endswith(TIFF.endings + LISTS) and entry.is_file():
                yield prefix + entry.name, entry.stat()
            elif depth < _DEEPEST and entry.is_dir():
                yield from files_in(entry.path, f"{prefix}{entry.name}/", depth + 1)
        except OSError:
            continue  # gone meanwhile, or a dangling link


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


VERSION = "v2"
FULL_BYTES = 2**20  # of a dataset that is summed in full
PIECE_BYTES = 4096
_MOST_SAMPLES = 4096  # of a dataset
_LEAST_PIECES = 256  # of a dataset, however few its frames
_STEP = (5**0.5 - 1) / 2  # of the positions within frames: they never line up
_DEFLATE = 1

Extent = tuple[int, int]  # offset in the file, bytes


def fingerprint(path: Path) -> str:
    """Return the fingerprint of a raw scan: `sample:<bytes of all files>:<version>:<digest>`.

    It is equal wherever the files lie, and whenever they were changed last. Flats, darks and angles
    that the configuration names elsewhere have fingerprints of their own. An OSError if it cannot
    be read, a StillWrittenError if another process is writing it.
    """
    import xxhash

    total, n_all = xxhash.xxh3_128(), 0
    files = list(_files(os.fspath(path)))
    for number, (name, file) in enumerate(files):
        with open(file, "rb", buffering=0) as stream:
            descriptor = stream.fileno()
            n_bytes = os.fstat(descriptor).st_size
            total.update(_text(name, n_bytes))
            if stream.read(8).startswith(HDF5.begins):
                samples = _of_hdf5(file, descriptor)
            else:
                samples = _plain(descriptor, -(-_MOST_SAMPLES // len(files)), number)
            for sample in samples:
                total.update(sample)
        n_all += n_bytes
    return f"sample:{n_all}:{VERSION}:{total.hexdigest()}"


def _files(path: str) -> Iterator[tuple[str, str]]:
    """Yield name and path of each file of a scan; names do not tell where the scan lies."""
    folders = [path] if os.path.isdir(path) else []
    if not folders:
        yield "", path
        for beside in companions(path):
            if os.path.isdir(beside):
                folders.append(beside)
            else:
                yield os.path.splitext(beside)[1], beside
        linked = [file for file in files_taken_from(path)[0] if os.path.isfile(file)]
        yield from ((f"link {number}", file) for number, file in enumerate(linked))
    for number, folder in enumerate(folders):
        for name in sorted(name for name, _ in files_in(folder)):
            yield f"folder {number}/{name}", os.path.join(folder, name)


def _plain(descriptor: int, n_samples: int = _MOST_SAMPLES, number: int = 0) -> Iterator[bytes]:
    """Yield both ends of a file and samples between them, spread evenly."""
    import numpy as np  # slow to load

    n_bytes = os.fstat(descriptor).st_size
    edges = np.linspace(0, n_bytes, n_samples + 1).astype(int).tolist()
    extents = [(low, high - low) for low, high in pairwise(edges)]
    yield os.pread(descriptor, PIECE_BYTES, 0)
    yield from _samples(descriptor, extents, number)
    yield os.pread(descriptor, PIECE_BYTES, max(0, n_bytes - PIECE_BYTES))


def _of_hdf5(path: str, descriptor: int) -> Iterator[bytes]:
    """Yield what is taken of an HDF5 file; of one that cannot be opened, of its bytes."""
    try:
        with open_hdf5(path) as file:
            yield from _of_group(file, descriptor)
    except StillWrittenError:
        raise
    except (ScanError, OSError, RuntimeError, KeyError, ValueError):
        yield from _plain(descriptor)


def _of_group(file: "h5py.File", descriptor: int) -> Iterator[bytes]:
    import h5py

    yield from _of_attributes(file)
    for path, link, entry in objects_in(file):
        if not isinstance(link, h5py.HardLink):
            yield _text(path.rpartition("/")[2], getattr(link, "filename", ""), link.path)
            continue
        yield _text(path, entry is None)
        if isinstance(entry, h5py.Group | h5py.Dataset):
            yield from _of_attributes(entry)
        if isinstance(entry, h5py.Dataset):
            yield from _of_dataset(entry, descriptor)


def _of_attributes(item: "h5py.Group | h5py.Dataset") -> Iterator[bytes]:
    for name in sorted(item.attrs):
        yield _text(name)
        yield _value(item.attrs.get(name))


def _value(value: Any) -> bytes:
    """Return the bytes of numbers, and the text of what has none of its own."""
    import numpy as np  # slow to load

    array = np.asarray(value)
    return _text(array.tolist()) if array.dtype.hasobject else array.tobytes()


def _of_dataset(data: "h5py.Dataset", descriptor: int) -> Iterator[bytes]:
    """Yield what a dataset is, where it lies, and its values or samples of them."""
    import h5py
    import numpy as np

    plist = data.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    yield _text(data.shape, data.dtype.str, data.dtype.fields, plist.get_layout(), filters)
    if data.is_virtual:
        for source in data.virtual_sources():
            yield _text(source.file_name, source.dset_name, *_bounds(source.vspace))
            yield _text(*_bounds(source.src_space))
        return
    for file, first, n_bytes in data.external or ():
        yield _text(first, n_bytes)
        yield from _of_file(file)
    if data.shape is None or data.external:
        return
    in_full = data.nbytes <= FULL_BYTES
    extents = _extents(data, in_full)
    if not in_full:
        yield np.array(extents, np.int64).tobytes()
        ends = filters[-1:] == [h5py.h5z.FILTER_DEFLATE]
        yield from _samples(descriptor, extents, at_end=ends)
    elif data.dtype.hasobject or not extents:
        yield _value(data[()])
    else:
        yield from (os.pread(descriptor, n_bytes, offset) for offset, n_bytes in extents)


def _of_file(path: str) -> Iterator[bytes]:
    """Yield samples of a file of nothing but values, if it is there."""
    if os.path.exists(path):
        with open(path, "rb", buffering=0) as stream:
            yield from _plain(stream.fileno())


def _bounds(space: "h5py.h5s.SpaceID") -> tuple[Any, int, int]:
    return space.get_select_bounds(), space.get_select_npoints(), space.get_select_type()


def _extents(data: "h5py.Dataset", in_full: bool) -> list[Extent]:
    """Return where the frames of a dataset lie in the file, or its chunks."""
    if data.chunks is None:
        offset = data.id.get_offset()
        if offset is None:  # never written, or among the metadata
            return []
        n_frames = 1 if in_full else data.shape[0]
        n_bytes = data.nbytes // n_frames
        return [(offset + frame * n_bytes, n_bytes) for frame in range(n_frames)]
    results: list[tuple[Any, int, int]] = []
    data.id.chunk_iter(
        lambda info: results.append((info.chunk_offset, info.byte_offset, info.size))
    )
    return [(offset, n_bytes) for _, offset, n_bytes in sorted(results)]


def _samples(
    descriptor: int, extents: Sequence[Extent], number: int = 0, *, at_end: bool = False
) -> Iterator[bytes]:
    """Yield samples of extents, or of some of them: at the end, or at another position in each."""
    import numpy as np

    if not extents:
        return
    chosen = np.linspace(0, len(extents) - 1, min(len(extents), _MOST_SAMPLES)).astype(int)
    for which in np.repeat(chosen, -(-_LEAST_PIECES // len(chosen))).tolist():
        (offset, n_bytes), number = extents[which], number + 1
        room = max(0, n_bytes - PIECE_BYTES)
        start = room if at_end else int(room * (number * _STEP % 1))
        yield os.pread(descriptor, min(n_bytes, PIECE_BYTES), offset + start)


def _text(*parts: Any) -> bytes:
    return "\0".join(map(str, parts)).encode("utf-8", "surrogateescape") + b"\0"
