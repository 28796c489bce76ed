"""Chunks of HDF5 datasets: which frames were really written, and decoding in several threads.

HDF5 decodes one chunk at a time under a lock. Where the filters are those of the HDF5 library
itself (deflate, shuffle), only the bytes are read under it and threads do the rest.
"""

import itertools
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from math import ceil, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import ScanError
from tomopipe.scans.hdf5 import UNREADABLE, StillWrittenError, fault_of, open_hdf5, source_path

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
        """What is read or decoded at least; None: only what is requested."""
        return None if self.in_parts else self.shape


def chunks_of(dataset: "h5py.Dataset") -> Chunks:
    """Return how the frames of a 3-D dataset lie; of a virtual one, those of its first source."""
    if not dataset.is_virtual:
        return _like(dataset, dataset)
    with suppress(ScanError, *UNREADABLE):  # what is wrong with it is reported when it is read
        for source in dataset.virtual_sources()[:1]:
            if source.file_name == ".":
                return _like(dataset.file[source.dset_name], dataset)
            with open_hdf5(source_path(source.file_name, dataset.file.filename)) as file:
                return _like(file[source.dset_name], dataset)
    return Chunks()


def _like(source: "h5py.Dataset", dataset: "h5py.Dataset") -> Chunks:
    """Return how a source lies, if its frames have the shape of those of the dataset."""
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
    """Read frames x rows x all columns of what `can_decode`; large chunks in fewer threads."""
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
    try:
        mask, raw = dataset.id.read_direct_chunk(corner)
    except UNREADABLE:
        # HDF5 goes through all chunks before it
        if dataset.id.get_chunk_info_by_coord(corner).byte_offset is not None:
            raise
        return np.full(shape, dataset.fillvalue, dtype)  # never written
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


_DEEPEST = 8  # virtual datasets of virtual datasets; beyond that it is a circle


@dataclass(frozen=True, eq=False)
class Written:
    """Which frames (first axis) of a dataset are on disk."""

    frames: NDArray[np.bool_]  # (n_frames,): the whole frame is on disk
    # files of a virtual dataset that are missing or unreadable
    missing_sources: tuple[str, ...] = ()


def written_frames(dataset: "h5py.Dataset", depth: int = 0) -> Written:
    """Return which frames of a dataset were really written; HDF5 fills the others silently.

    Contiguous: all or none; zeros allocated early and never overwritten cannot be detected.
    """
    import h5py

    if (stored := getattr(dataset, "stored", None)) is not None:
        result = written_frames(stored, depth)
        of_each = result.frames if 0 in dataset.axes else result.frames.all()
        return Written(np.broadcast_to(of_each, dataset.shape[0]).copy(), result.missing_sources)
    n_frames = dataset.shape[0]
    if dataset.is_virtual:
        return _of_sources(dataset, depth)
    layout = dataset.id.get_create_plist().get_layout()
    if layout == h5py.h5d.CHUNKED:
        return Written(_of_chunks(dataset))
    if missing := tuple(str(p) for p, *_ in dataset.external or () if not os.path.exists(p)):
        return Written(np.zeros(n_frames, bool), missing)
    if dataset.external:
        return Written(_of_external(dataset))
    is_written = layout == h5py.h5d.COMPACT or dataset.id.get_storage_size() > 0
    return Written(np.full(n_frames, is_written))


def _of_external(dataset: "h5py.Dataset") -> NDArray[np.bool_]:
    """Return which frames lie within the files of values; HDF5 reads 0 beyond their ends."""
    frame_bytes = dataset.dtype.itemsize * prod(dataset.shape[1:])
    result = np.ones(dataset.shape[0], bool)
    first = 0  # byte of the dataset that the file begins with
    for name, offset, n_bytes in dataset.external:
        last = min(first + n_bytes, dataset.nbytes)
        end = first + max(0, os.path.getsize(name) - offset)
        if end < last:
            result[end // frame_bytes : ceil(last / frame_bytes)] = False
        first = last
    return result


def _of_chunks(dataset: "h5py.Dataset") -> NDArray[np.bool_]:
    """Count the chunks present; only where some are missing go through them one by one."""
    per_block = prod(
        ceil(n / c) for n, c in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    )
    frames_per_block = dataset.chunks[0]
    n_blocks = ceil(dataset.shape[0] / frames_per_block)
    present = dataset.id.get_num_chunks()
    if present in (0, n_blocks * per_block):
        return np.full(dataset.shape[0], present > 0)
    result = np.zeros(n_blocks, int)

    def count(chunk: Any) -> None:
        result[chunk.chunk_offset[0] // frames_per_block] += 1

    dataset.id.chunk_iter(count)
    return np.repeat(result == per_block, frames_per_block)[: dataset.shape[0]]


def _of_sources(dataset: "h5py.Dataset", depth: int) -> Written:
    """Count the pixels of each frame that written frames of the source files provide."""
    if depth > _DEEPEST:
        raise fault_of(dataset, f"{dataset.name}: virtual datasets in a circle")
    covered = np.zeros(dataset.shape[0], np.int64)
    missing: list[str] = []
    with ExitStack() as stack:

        @cache  # once, as a scan may be made of thousands of parts of it
        def open_file(name: str) -> "h5py.File | None":
            if name == ".":
                return dataset.file
            try:
                return stack.enter_context(open_hdf5(source_path(name, dataset.file.filename)))
            except StillWrittenError:
                raise
            except ScanError:
                return None

        @cache
        def written(file_name: str, dataset_name: str) -> Written | None:
            file = open_file(file_name)
            try:
                return None if file is None else written_frames(file[dataset_name], depth + 1)
            except (KeyError, OSError, IndexError, AttributeError):  # absent, a group, a scalar
                return None

        for mapping in dataset.virtual_sources():
            for name, frames, source_frames, pixels in _parts_of_mapping(mapping, dataset.shape):
                source = written(name, mapping.dset_name)
                if source is None:
                    missing.append(name)
                    continue
                missing.extend(source.missing_sources)
                covered[frames] += pixels * _match(source.frames, source_frames, len(frames))
    return Written(covered >= prod(dataset.shape[1:]), tuple(dict.fromkeys(missing)))


def _parts_of_mapping(
    mapping: Any, shape: tuple[int, ...]
) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.intp] | None, int]]:
    """Yield file name, frames, frames of the source and pixels per frame of one mapping."""
    frames, pixels, block = _selected(mapping.vspace, shape)
    if "%b" in mapping.file_name:  # one file per block of an unlimited selection
        for number, first in enumerate(range(0, len(frames), block)):
            name = mapping.file_name.replace("%b", str(number))
            yield name, frames[first : first + block], None, pixels
        return
    source_frames = None
    if mapping.src_space.shape and len(mapping.src_space.shape) == len(shape):
        source_frames, _, _ = _selected(mapping.src_space, mapping.src_space.shape)
    yield mapping.file_name, frames, source_frames, pixels


def _selected(space: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], int, int]:
    """Return the frames selected, the pixels selected in each, and the frames per block."""
    import h5py

    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        if space.get_select_type() == h5py.h5s.SEL_ALL:
            return np.arange(shape[0]), prod(shape[1:]), shape[0]
        low, high = space.get_select_bounds()
        frames = np.arange(low[0], high[0] + 1)
        return frames, space.get_select_npoints() // len(frames), len(frames)
    start, stride, count, block = space.get_regular_hyperslab()
    # Unlimited selections end where the dataset does.
    first = np.arange(start[0], shape[0], stride[0])[: min(count[0], shape[0])]
    frames = (first[:, None] + np.arange(min(block[0], shape[0]))).ravel()
    return (
        frames[frames < shape[0]],
        prod(c * b for c, b in zip(count[1:], block[1:], strict=True)),
        min(block[0], shape[0]),
    )


def _match(
    written: NDArray[np.bool_], source_frames: NDArray[np.intp] | None, n_frames: int
) -> NDArray[np.bool_]:
    """Map written frames of a source to those it provides; all as one if they do not correspond."""
    if source_frames is None and len(written) == n_frames:
        return written
    if source_frames is None or len(source_frames) != n_frames:
        return np.full(n_frames, written.all())
    inside = source_frames < len(written)
    return inside & written[np.where(inside, source_frames, 0)]
