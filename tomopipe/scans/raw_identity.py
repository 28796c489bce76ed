"""Identity of raw files: whether one still has the content that results were made from.

A raw file, or folder of images, is known by its state: size, time and inode. One with another state
and equal size, or of its name and size in another folder, is compared by its content: up to 16 MB
a checksum of all of it, above a `fingerprint`. So copies, restored files and new time stamps are
the same file. A view, one entry of a file, is known by its own content (`entry_content`), whatever
else comes into the file.
"""

import hashlib
import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any

import xxhash

from tomopipe.errors import ScanError, grouped
from tomopipe.paths import no_pipe
from tomopipe.scans.formats import HDF5, TIFF, Path
from tomopipe.scans.hdf5 import UNREADABLE, StillWrittenError, objects_in, open_hdf5
from tomopipe.scans.scan_files import LISTS
from tomopipe.storage import checksums

if TYPE_CHECKING:
    import h5py

SUMMED_BYTES = 16_000_000
"""Up to this size a checksum covers a whole raw file, above a sample of it."""
SMALL_BYTES = 1_000_000
"""Up to this size a raw file is summed when it is first seen, else by the job that reads it."""
N_BLOCKS, BLOCK_BYTES = 64, 2**14  # of a fingerprint
N_OF_ENTRY, BYTES_OF_ENTRY = 16, 2**12  # of each dataset of an entry, which may be one of many
_DEEPEST = 2  # folders below that of a scan: its projections, flats and darks
RAW = "raw "
"""Prefix of the name of a raw file's content."""

RawState = tuple[int, int, int, int]
Extent = tuple[int, int]  # offset in a file, bytes


def raw_state(path: Path) -> RawState | None:
    """Return size (bytes), time (ns), inode and time of the inode's change (ns) of a raw file.

    Of a folder of images and lists their size and latest time; minus a digest of their inodes and
    of the times at which these changed; a digest of their names, sizes and times, which changes
    when one comes, goes or changes. None if there is nothing.
    """
    try:
        of_path = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        return None
    if not stat.S_ISDIR(of_path.st_mode):
        return of_path.st_size, of_path.st_mtime_ns, of_path.st_ino, of_path.st_ctime_ns
    names, inodes, n_bytes, latest_ns = hashlib.sha256(), hashlib.sha256(), 0, 0
    for name, status in sorted(_files_in(os.fspath(path)), key=lambda item: item[0]):
        line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        names.update(line.encode("utf-8", "surrogateescape"))
        inodes.update(f"{status.st_ino}\0{status.st_ctime_ns}\n".encode())
        n_bytes, latest_ns = n_bytes + status.st_size, max(latest_ns, status.st_mtime_ns)
    by_inode, by_name = (int(digest.hexdigest()[:16], 16) >> 2 for digest in (inodes, names))
    return n_bytes, latest_ns or of_path.st_mtime_ns, -1 - by_inode, by_name


def _files_in(
    folder: str, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, os.stat_result]]:
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
                yield from _files_in(entry.path, f"{prefix}{entry.name}/", depth + 1)


def file_state(path: Path) -> tuple[int, int, int] | None:
    """Return what tells in a moment whether a raw file was changed.

    Parameters
    ----------
    path : path
        A file, or a folder of images.

    Returns
    -------
    (int, int, int) or None
        Size (bytes), time of the last change (ns) and inode, of a folder 0; None if there is
        nothing.
    """
    state = raw_state(path)
    return state and (*state[:2], max(0, state[2]))


def link_state(path: Path) -> list[int] | None:
    """Return size (bytes) and time of the last change (ns); None if there is nothing."""
    state = raw_state(path)
    return state and list(state[:2])


def raw_content(path: Path) -> str:
    """Return a checksum of a raw file, or a fingerprint if it is large or a folder; "" on failure.

    Also "" while another process writes it.
    """
    try:
        if os.path.isdir(path) or os.path.getsize(path) > SUMMED_BYTES:
            return fingerprint(path)
        return checksums.checksum_of(path)
    except (OSError, ScanError):
        return ""


def fingerprint(path: Path) -> str:
    """Return the fingerprint of a raw file or folder: `blocks:<bytes>:<digest>`.

    It covers the size, the units of datasets, and 64 blocks of 16 KiB at even places of the file
    and of each dataset in it: all of what is up to 1 MiB, such as angles. Of a folder it covers the
    name and size of each file, and at least one block in each. So other flats, darks, angles, or
    another scan of the same name change it; it can miss a change of a few frames within a file that
    was written in place. `tomopipe.storage.checksums.checksum_of` misses nothing, and reads all.

    An OSError if it cannot be read, a StillWrittenError if another process is writing it.
    """
    names = sorted(name for name, _ in _files_in(os.fspath(path))) if os.path.isdir(path) else [""]
    total, n_all = xxhash.xxh3_128(), 0
    for name in names:
        file = os.path.join(path, name) if name else os.fspath(path)
        with open(no_pipe(file), "rb", buffering=0) as stream:
            descriptor = stream.fileno()
            n_bytes = os.fstat(descriptor).st_size
            total.update(f"{name}\0{n_bytes}\0".encode("utf-8", "surrogateescape"))
            datasets, units = _datasets(file, stream.read(8))
            total.update(units.encode(errors="backslashreplace"))
            for extents in ([(0, n_bytes)], *datasets):
                for block in _blocks(descriptor, extents, max(1, N_BLOCKS // len(names))):
                    total.update(block)
        n_all += n_bytes
    return f"blocks:{n_all}:{total.hexdigest()}"


def _blocks(
    descriptor: int, extents: list[Extent], n_blocks: int, block_bytes: int = BLOCK_BYTES
) -> Iterator[bytes]:
    """Yield all of small extents; else blocks at even places of one, or at the ends of some."""
    if sum(n_bytes for _, n_bytes in extents) <= n_blocks * block_bytes:
        yield from (os.pread(descriptor, n_bytes, offset) for offset, n_bytes in extents)
    elif len(extents) == 1:
        [(start, n_bytes)] = extents
        for half in range(1, 2 * n_blocks, 2):
            at = (n_bytes - block_bytes) * half // (2 * n_blocks)
            yield os.pread(descriptor, block_bytes, start + at)
    else:
        for number in range(n_blocks):  # the end of a deflated chunk depends on all of it
            offset, n_bytes = extents[number * (len(extents) - 1) // max(1, n_blocks - 1)]
            n_read = min(n_bytes, block_bytes)
            yield os.pread(descriptor, n_read, offset + n_bytes - n_read)


def _datasets(path: str, begin: bytes) -> tuple[list[list[Extent]], str]:
    """Return where values or chunks of each dataset of an HDF5 file lie, and the datasets' units.

    None of other files.
    """
    if not begin.startswith(HDF5.begins):
        return [], ""
    import h5py

    from tomopipe.scans.datasets import attribute_of

    result: list[list[Extent]] = []
    units = ""
    try:
        with open_hdf5(path) as file:
            for name, _, data in objects_in(file):
                if not isinstance(data, h5py.Dataset):
                    continue
                if unit := attribute_of(data, "units"):
                    units += f"{name}\0{unit}\0"
                if not (data.is_virtual or data.external):
                    result.append(_extents(data))
    except StillWrittenError:
        raise
    except (ScanError, OSError, RuntimeError, KeyError, ValueError):
        pass
    return result, units


def _extents(data: "h5py.Dataset") -> list[Extent]:
    if data.chunks is None:
        offset = data.id.get_offset()  # None: never written, or among the metadata
        return [] if offset is None else [(offset, data.nbytes)]
    return [(offset, n_bytes) for _, offset, n_bytes in _chunks(data)]


def _chunks(data: "h5py.Dataset") -> list[tuple[tuple[int, ...], int, int]]:
    """Return the chunks of a dataset in order: first element, offset in the file, bytes."""
    chunks: list[tuple[tuple[int, ...], int, int]] = []
    data.id.chunk_iter(lambda info: chunks.append((info.chunk_offset, info.byte_offset, info.size)))
    return sorted(chunks)


def entry_content(*groups: "h5py.Group") -> str:
    """Return a fingerprint of one entry of an HDF5 file, in some groups: `entry:<digest>`.

    It covers name, shape, type and units of each dataset below them, also behind links; where its
    values or chunks lie; all values of what is up to 64 kB, else 16 blocks of 4 KiB at even places.
    Of a virtual dataset it covers the sources, and a row of 16 frames.
    """
    from tomopipe.scans.datasets import attribute_of

    total = xxhash.xxh3_128()
    for name, data in (item for group in groups for item in _below(group)):
        unit = attribute_of(data, "units")
        kind = f"{name}\0{data.shape}\0{data.dtype.str}\0{unit}\0"
        total.update(kind.encode(errors="backslashreplace"))
        for part in _parts(data):
            total.update(part)
    return f"entry:{total.hexdigest()}"


def _below(entry: "h5py.Group") -> "Iterator[tuple[str, h5py.Dataset]]":
    """Yield the datasets below an entry, also behind links, each once, by name."""
    import h5py

    visited, waiting = set(), [("", entry)]
    while waiting:
        above, group = waiting.pop()
        for name in sorted(group, key=os.fsencode):
            try:
                child = group[name]
            except UNREADABLE:  # a link that leads nowhere
                continue
            place = h5py.h5f.get_name(child.id), h5py.h5g.get_objinfo(child.id).objno
            if place in visited or not isinstance(child, h5py.Group | h5py.Dataset):
                continue
            visited.add(place)
            below = f"{above}/{os.fsdecode(name)}"
            if isinstance(child, h5py.Dataset):
                yield below, child
            else:
                waiting.append((below, child))


def _parts(data: "h5py.Dataset") -> Iterator[bytes]:
    """Yield where the values of a dataset are, and samples of them."""
    if data.is_virtual:
        yield repr([source[1:3] for source in data.virtual_sources()]).encode()
    if data.shape is None:
        return
    if data.dtype.hasobject:
        yield repr(data[()]).encode()
    elif data.nbytes <= N_OF_ENTRY * BYTES_OF_ENTRY:
        yield data[()].tobytes()
    elif data.is_virtual or data.external:
        yield from _rows_of(data, 0, len(data))
    else:
        yield from _stored(data, _extents(data))


def _rows_of(data: "h5py.Dataset", first: int, last: int) -> Iterator[bytes]:
    """Yield a row of some frames, the last excluded."""
    middle = tuple(n // 2 for n in data.shape[1:-1])
    places = (first + n * (last - 1 - first) // (N_OF_ENTRY - 1) for n in range(N_OF_ENTRY))
    yield from (data[(place, *middle)].tobytes() for place in dict.fromkeys(places))


def _stored(data: "h5py.Dataset", extents: list[Extent]) -> Iterator[bytes]:
    """Yield where parts of a dataset are, and samples of them."""
    yield repr(extents).encode()
    with open(no_pipe(data.file.filename), "rb", buffering=0) as stream:
        yield from _blocks(stream.fileno(), extents, N_OF_ENTRY, BYTES_OF_ENTRY)


def frame_sampler(data: "h5py.Dataset") -> Callable[[int, int], Iterator[bytes]]:
    """Return a function that yields shape, type, places and samples of some frames of a stack.

    Its arguments are the first of them and the last, excluded; what comes before and after them in
    the file does not count. Blocks and rows are as of an entry.
    """
    kind = f"{data.shape[1:]}\0{data.dtype.str}\0".encode()
    chunks = [] if data.chunks is None else _chunks(data)
    starts = [place[0] for place, _, _ in chunks]
    is_elsewhere = data.is_virtual or data.external
    offset = None if is_elsewhere or chunks else data.id.get_offset()
    frame_bytes = data.nbytes // max(1, len(data))

    def sample(first: int, last: int) -> Iterator[bytes]:
        yield kind
        if data.ndim < 3:
            yield from _parts(data)
        elif chunks:
            deep = data.chunks[0]
            part = slice(bisect_left(starts, first // deep * deep), bisect_left(starts, last))
            yield from _stored(data, [(at, n_bytes) for _, at, n_bytes in chunks[part]])
        elif offset is not None:
            yield from _stored(data, [(offset + first * frame_bytes, (last - first) * frame_bytes)])
        else:
            if data.is_virtual:
                yield repr(_sources(data, first, last)).encode()
            yield from _rows_of(data, first, last)

    return sample


def _sources(data: "h5py.Dataset", first: int, last: int) -> list[tuple[str, str, Any]]:
    """Return file, dataset and place of the sources of some frames of a virtual dataset."""
    result = []
    for space, file, name, _ in data.virtual_sources():
        begin, end = (int(bound[0]) for bound in space.get_select_bounds())
        if begin < last and end >= first:
            result.append((file, name, begin))
    return result


@dataclass
class RawFile:
    """What is known of a raw file: a name of its content, and a checksum or fingerprint, or ""."""

    state: RawState
    name: str
    content: str = ""


class RawFiles:
    """The raw files of a campaign, by path as in the campaign, and the names of their contents."""

    def __init__(self, directory: Path, entries: Any = None) -> None:
        """`entries` are as `as_json` returns them; values of other types raise an error."""
        self._directory = directory
        self._files: dict[str, RawFile] = {}
        self.is_changed = False
        for path, (state, *texts) in (entries or {}).items():
            name, content = map(_text, texts)
            n_bytes, mtime_ns, inode, last = map(index, state)
            self._files[path] = RawFile((n_bytes, mtime_ns, inode, last), name, content)

    def as_json(self) -> dict[str, tuple[RawState, str, str]]:
        """Return state, name and content of each file."""
        return {path: (raw.state, raw.name, raw.content) for path, raw in self._files.items()}

    def has_content(self, path: str) -> bool:
        """Tell whether the content of a file in its present state is known."""
        raw = self._files.get(path)
        return raw is not None and bool(raw.content)

    def add_content(self, path: str, state: Any, content: Any) -> None:
        """Add the content that a job has read of a file in this state."""
        raw = self._files.get(path)
        if raw is not None and content and state and raw.state == tuple(state):
            self._put(path, RawFile(raw.state, raw.name, _text(content)))

    def name(self, path: str) -> str:
        """Return a text that identifies the content of a file.

        A file with another time or inode but equal size is unchanged if its checksum or fingerprint
        is equal; without one, another time means another content.
        """
        where = os.path.join(self._directory, path)
        if (now := raw_state(where)) is None:
            return f"{RAW}none"
        before = self._files.get(path)
        if before is None:
            # the state is known: the same file under another name
            same = self._by_state.get(now) or self._copied(where, now)
            self._put(path, same or RawFile(now, _new_name(now), _content_now(where, now)))
        elif before.state != now:
            is_same = _is_same(where, before, now) if now[0] == before.state[0] else False
            if is_same:
                self._put(path, RawFile(now, before.name, before.content))
            elif is_same is not None:
                name = _new_name(now, before)
                self._put(path, RawFile(now, name, _content_now(where, now)))
        return self._files[path].name

    def path_of(self, base: str, name: str) -> str:
        """Return the path of a file of this base name and content; "" if there is none."""
        return self._paths.get((base, name), "")

    @cached_property
    def _paths(self) -> dict[tuple[str, str], str]:
        return {(os.path.basename(path), raw.name): path for path, raw in self._files.items()}

    @cached_property
    def _by_state(self) -> dict[RawState, RawFile]:
        """The files by their state, which is unique."""
        return {raw.state: raw for raw in self._files.values()}

    @cached_property
    def _by_base(self) -> dict[tuple[str, int], list[RawFile]]:
        """The files whose content is known, by base name and size."""
        files = ((os.path.basename(path), raw) for path, raw in self._files.items())
        return grouped(((base, raw.state[0]), raw) for base, raw in files if raw.content)

    def _copied(self, where: str, now: RawState) -> RawFile | None:
        """Return the file of which the one at a new path is a copy, or None."""
        alike = self._by_base.get((os.path.basename(where), now[0]), [])
        content = raw_content(where) if alike else ""
        name = next((raw.name for raw in alike if raw.content == content), "")
        return RawFile(now, name, content) if name else None

    def _put(self, path: str, raw: RawFile) -> None:
        self._files[path] = raw
        self.is_changed = True


def _content_now(path: Path, state: RawState) -> str:
    """Return the checksum of a small file; large ones are summed by the job that reads them."""
    return raw_content(path) if state[0] <= SMALL_BYTES else ""


def _is_same(path: Path, before: RawFile, now: RawState) -> bool | None:
    """Tell whether a file of equal size is the same; None if it cannot be read now."""
    if not before.content:
        return _new_name(now) == _new_name(before.state)
    content = raw_content(path)
    return content == before.content if content else None


def name_by_state(path: Path) -> str:
    """Return the name of the content of a raw file of which nothing is known yet; "" if none."""
    state = raw_state(path)
    return _new_name(state) if state else ""


def _new_name(state: RawState, before: RawFile | None = None) -> str:
    """Return a name for the content of a raw file that it has not had before."""
    # size and time suffice while the time increases: results of an earlier content of equal size
    # and time may still exist
    is_folder = state[2] <= 0
    name = f"{RAW}{state[0]}:{state[1]}" + (f":{state[3]}" if is_folder else "")
    # whether size and time sufficed to name the content so far
    is_like = before is None or before.name.count(":") <= 1 + (before.state[2] <= 0)
    if before is None or (state[1] > before.state[1] and is_like):
        return name
    return f"{name}:{-state[2] if is_folder else state[3]}"


def _text(value: object) -> str:
    """Return a text; TypeError if it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r}, a text expected")
    return value
