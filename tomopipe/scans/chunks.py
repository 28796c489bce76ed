"""Chunks of HDF5 datasets: their shapes, and decoding them in several threads.

HDF5 decodes one chunk at a time under a lock. Where the filters are those of the HDF5 library
itself (deflate, shuffle), only the bytes are read under it and threads do the rest.
"""

import itertools
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import UNREADABLE, open_hdf5, source_paths

if TYPE_CHECKING:
    import h5py

DECODE_BYTES = 256 * 2**20  # at most, of chunks being decoded; but always one at a time
_COPIES = 3  # of a chunk: compressed, inflated, in order
_DEFLATE, _SHUFFLE = 1, 2

IndexRange = tuple[int, int]


class Chunks(NamedTuple):
    """How the frames of a dataset lie."""

    shape: tuple[int, ...] | None = None  # frames, rows, columns; None: not chunked, or not known
    in_parts: bool = False  # rows of a chunk can be read alone: as wide as a frame, no filter

    @property
    def whole(self) -> tuple[int, ...] | None:
        """What is read or decoded at least; None: only what is wanted."""
        return None if self.in_parts else self.shape


def chunks_of(dataset: "h5py.Dataset") -> Chunks:
    """Tell how the frames of a 3-D dataset lie; of a virtual one, those of its first source."""
    if not dataset.is_virtual:
        return _like(dataset, dataset)
    try:
        for source in dataset.virtual_sources()[:1]:
            if source.file_name == ".":
                return _like(dataset.file[source.dset_name], dataset)
            for path in source_paths(source.file_name, dataset.file.filename):
                with open_hdf5(path) as file:
                    return _like(file[source.dset_name], dataset)
    except (ScanError, *UNREADABLE):  # what is wrong with it is reported when it is read
        return Chunks()
    return Chunks()


def _like(source: "h5py.Dataset", dataset: "h5py.Dataset") -> Chunks:
    """Tell how a source lies whose frames are those of the dataset."""
    shape = getattr(source, "chunks", None)  # it may be a group
    if not shape or source.shape[1:] != dataset.shape[1:]:
        return Chunks()
    plain = source.id.get_create_plist().get_nfilters() == 0
    return Chunks(shape, plain and shape[-1] == source.shape[-1])


def can_decode(dataset: "h5py.Dataset") -> bool:
    """Tell whether `read_block` can decode the chunks of a dataset."""
    import h5py

    plist = dataset.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CHUNKED or len(plist.get_chunk()) != 3:
        return False
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    return filters in ([_DEFLATE], [_SHUFFLE, _DEFLATE])


def read_block(
    dataset: "h5py.Dataset", frames: IndexRange, rows: IndexRange, out: NDArray[Any], threads: int
) -> None:
    """Read frames x rows x all columns into `out`, decoding the chunks in threads.

    Of a dataset that `can_decode`; in fewer threads where chunks are large (`DECODE_BYTES`). An
    OSError says which chunk cannot be decoded.
    """
    chunk = dataset.chunks
    chunk_bytes = _COPIES * int(np.prod(chunk)) * dataset.dtype.itemsize
    threads = min(threads, max(1, DECODE_BYTES // chunk_bytes))
    spans = [frames, rows, (0, dataset.shape[2])]
    axes = [range(a - a % c, b, c) for (a, b), c in zip(spans, chunk, strict=True)]

    def copy(corner: tuple[int, ...]) -> None:
        values = _chunk(dataset, corner)
        into, part = [], []
        for start, size, (first, last) in zip(corner, chunk, spans, strict=True):
            low, high = max(start, first), min(start + size, last)
            into.append(slice(low - first, high - first))
            part.append(slice(low - start, high - start))
        out[tuple(into)] = values[tuple(part)]

    with ThreadPoolExecutor(threads) as pool:
        corners = itertools.product(*axes)
        while batch := list(itertools.islice(corners, 64 * threads)):
            list(pool.map(copy, batch))


def _chunk(dataset: "h5py.Dataset", corner: tuple[int, ...]) -> NDArray[Any]:
    """Decode the chunk that begins at a corner."""
    shape, dtype = dataset.chunks, dataset.dtype
    if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:  # never written
        return np.full(shape, dataset.fillvalue, dtype)
    mask, raw = dataset.id.read_direct_chunk(corner)
    n_filters = dataset.id.get_create_plist().get_nfilters()
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    if not mask & (1 << (n_filters - 1)):
        try:
            raw = zlib.decompress(raw, bufsize=n_bytes)
        except zlib.error as error:
            raise OSError(f"the chunk at {corner} cannot be inflated ({error})") from error
    if len(raw) != n_bytes:
        raise OSError(f"the chunk at {corner} has {len(raw)} bytes, {n_bytes} expected")
    if n_filters == 2 and not mask & 1:
        return _unshuffled(raw, dtype).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def _unshuffled(raw: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Undo the shuffle filter, which stores the bytes of all values plane by plane."""
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
    if dtype == np.dtype("<u2"):  # what cameras write; four times faster like this
        values = planes[1].astype("<u2")
        values <<= 8
        values |= planes[0]
        return values
    together = np.empty(planes.shape[::-1], np.uint8)
    for byte, plane in enumerate(planes):
        together[:, byte] = plane
    return together.view(dtype)[:, 0]


def ranges(first: int, last: int, step: int) -> Iterator[IndexRange]:
    """Cut first ... last - 1 at the multiples of a step, so that no chunk is read twice."""
    for start in range(first - first % step, last, step):
        yield max(start, first), min(start + step, last)
