"""Fingerprints of raw scans: whether one is still what it was, without reading all of it.

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

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopipe.errors import ScanError
from tomopipe.paths import no_pipe
from tomopipe.scans.formats import HDF5
from tomopipe.scans.hdf5 import StillWrittenError, open_hdf5
from tomopipe.scans.raw_state import Path, companions, files_in, objects_in, source_files

if TYPE_CHECKING:
    import h5py

VERSION = "v2"
FULL_BYTES = 2**20  # of a dataset that is summed in full
PIECE_BYTES = 4096
_MOST_SAMPLES = 4096  # of a dataset
_LEAST_PIECES = 256  # of a dataset, however few its frames
_STEP = (5**0.5 - 1) / 2  # of the positions within frames: they never line up

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
        with open(no_pipe(file), "rb", buffering=0) as stream:
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
        linked = [file for file in source_files(path)[0] if os.path.isfile(file)]
        yield from ((f"link {number}", file) for number, file in enumerate(linked))
    for number, folder in enumerate(folders):
        for name in sorted(name for name, _ in files_in(folder)):
            yield f"folder {number}/{name}", os.path.join(folder, name)


def _plain(descriptor: int, n_samples: int = _MOST_SAMPLES, number: int = 0) -> Iterator[bytes]:
    """Yield both ends of a file and samples between them, spread evenly."""
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
    for name in sorted(item.attrs, key=os.fsencode):
        yield _text(name)
        yield _value(item.attrs.get(name))


def _value(value: Any) -> bytes:
    """Return the bytes of numbers, and the text of what has none of its own."""
    array = np.asarray(value)
    return _text(array.tolist()) if array.dtype.hasobject else array.tobytes()


def _of_dataset(data: "h5py.Dataset", descriptor: int) -> Iterator[bytes]:
    """Yield what a dataset is, where it lies, and its values or samples of them."""
    import h5py

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
        if os.path.exists(file):
            with open(no_pipe(file), "rb", buffering=0) as stream:
                yield from _plain(stream.fileno())
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
