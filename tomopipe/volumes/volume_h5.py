"""A volume as one HDF5 file, and the small HDF5 file of mid planes beside other formats."""

import errno
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopipe.arrays import PAGE_BYTES
from tomopipe.errors import file_limit
from tomopipe.paths import no_pipe
from tomopipe.storage import checksums
from tomopipe.storage.hdf5_files import new_hdf5, put
from tomopipe.volumes.direct_io import LEAST_BYTES, direct_writer
from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.nexus import write_nexus
from tomopipe.volumes.output_size import DEFLATE_BYTES
from tomopipe.volumes.preview import Preview, stored_averages
from tomopipe.volumes.volume_read import MID_PLANES, Layout, Map, Slices, Store, Stored

if TYPE_CHECKING:
    import h5py

MID_PLANES_FILE = "mid_planes.h5"  # in a folder of another format
_MAX_CHUNK = 4096  # pixels along a side: 64 MB of float32
_GZIP_LEVEL = 1
_THREADS = 8


@contextmanager
def store(temporary: Path, layout: Layout) -> Iterator[Store]:
    """Yield the store of an HDF5 file: /exchange/data in chunks of one slice."""
    _, n_y, n_x = layout.shape
    chunks = (1, min(n_y, _MAX_CHUNK), min(n_x, _MAX_CHUNK))
    n_bytes = n_y * n_x * np.dtype(layout.encoding.dtype).itemsize
    plain = layout.compression == "none" and chunks == (1, n_y, n_x)
    # aligns slices that need no padding with pages of the file
    on_pages = n_bytes % PAGE_BYTES == 0
    direct = plain and n_bytes >= LEAST_BYTES
    limit = file_limit() if direct else None
    if limit is not None and layout.shape[0] * n_bytes > limit:
        # HDF5 allocates the file at once, and would crash
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), layout.name)
    aligned = {"alignment_threshold": LEAST_BYTES, "alignment_interval": PAGE_BYTES}
    with ExitStack() as stack:
        file = stack.enter_context(new_hdf5(temporary, **(aligned if direct and on_pages else {})))
        data = file.create_dataset(
            "exchange/data",
            layout.shape,
            layout.encoding.dtype,
            chunks=chunks,
            **(_all_at_once() if direct else _filters(layout.compression)),
        )

        def write_slice(row: int, image: Slices) -> checksums.Edges:
            stored = np.ascontiguousarray(layout.encoding.encode(image))
            offset = data.id.get_chunk_info_by_coord((row, 0, 0)).byte_offset
            # its own descriptor: others may be closed meanwhile
            with direct_writer(temporary) as write:
                write(stored, offset)
            return checksums.written_apart(temporary, offset, stored)

        def put(first: int, slices: Slices, each: Map) -> None:
            if direct:
                for edges in each(write_slice, range(first, first + len(slices)), slices):
                    for edge in edges:
                        checksums.written(temporary, *edge)
                return
            if layout.compression == "gzip" and chunks == (1, n_y, n_x):
                _put_deflated(temporary, data, first, slices, layout.encoding)
                return
            for row, image in enumerate(slices, first):
                data[row] = np.ascontiguousarray(layout.encoding.encode(image))
                _sum_chunks(temporary, data, row)

        def finish(attributes: dict[str, Any]) -> None:
            data.attrs.update({"axis_order": "row, y, x"} | attributes)
            write_nexus(file, layout)

        preview = Preview(file, layout.shape, layout.encoding)
        yield Store(put, create_notes(file, layout), finish, preview.add)


def read(path: Path, stack: ExitStack) -> Stored:
    """Open a volume."""
    file = stack.enter_context(open_file(path))
    rows = file["exchange/data"]
    if rows.compression is None and rows.id.get_create_plist().get_nfilters():
        import hdf5plugin  # noqa: F401
    return {1: rows} | stored_averages(file), rows, dict(rows.attrs), _provenance(file)


def read_planes(path: Path) -> dict[str, Slices]:
    """Read the mid planes."""
    with open_file(path) as file:
        return {name: file[f"exchange/{name}"][()] for name in MID_PLANES}


def read_provenance(path: Path) -> dict[str, Any]:
    """Read how a volume was made."""
    with open_file(path) as file:
        return _provenance(file)


def open_file(path: Path) -> "h5py.File":
    """Open the HDF5 file with mid planes and provenance: the volume, or one in its folder."""
    import h5py

    # Each slice is one chunk and read once: a cache would only need memory.
    name = path / MID_PLANES_FILE if path.is_dir() else path
    return h5py.File(no_pipe(name), "r", rdcc_nbytes=0)


def _provenance(file: "h5py.File") -> dict[str, Any]:
    result: dict[str, Any] = json.loads(file["provenance/json"][()])
    return result


def _all_at_once() -> dict[str, Any]:
    """Allocate the chunks of a dataset when it is created, in order."""
    import h5py

    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return {"dcpl": creation}


def _put_deflated(
    path: Path, data: "h5py.Dataset", first: int, slices: Slices, encoding: Encoding
) -> None:
    """Compress slices in threads, outside the lock of HDF5, which also blocks reading."""

    def deflated(image: Slices) -> bytes:
        stored = np.ascontiguousarray(encoding.encode(image))
        planes = stored.reshape(-1).view(np.uint8).reshape(-1, stored.itemsize).T  # shuffle
        return zlib.compress(np.ascontiguousarray(planes).data, _GZIP_LEVEL)

    n = max(1, min(_THREADS, DEFLATE_BYTES // (3 * 4 * slices[0].size)))
    with ThreadPoolExecutor(n) as pool:
        for start in range(0, len(slices), n):
            chunks = pool.map(deflated, slices[start : start + n])
            for row, chunk in enumerate(chunks, first + start):
                data.id.write_direct_chunk((row, 0, 0), chunk)
                _sum_chunks(path, data, row)


def _sum_chunks(path: Path, data: "h5py.Dataset", row: int) -> None:
    """Sum the chunks of a slice just written, which are in the file as there is no chunk cache."""
    (_, n_y, n_x), (_, high, wide) = data.shape, data.chunks
    for at in itertools.product([row], range(0, n_y, high), range(0, n_x, wide)):
        _, chunk = data.id.read_direct_chunk(at)
        checksums.written(path, data.id.get_chunk_info_by_coord(at).byte_offset, chunk)


@contextmanager
def notes_file(path: Path, layout: Layout) -> "Iterator[tuple[dict[str, h5py.Dataset], Preview]]":
    """Yield mid planes and preview of a new HDF5 file, which also gets the provenance."""
    with new_hdf5(path) as file:
        yield create_notes(file, layout), Preview(file, layout.shape, layout.encoding)


def create_notes(file: "h5py.File", layout: Layout) -> "dict[str, h5py.Dataset]":
    """Create the mid planes, to be filled, and write the provenance."""
    planes = {}
    for name, shape in layout.plane_shapes.items():
        planes[name] = file.create_dataset(f"exchange/{name}", shape, np.float32)
        planes[name].attrs.update(layout.attributes)
    group = file.create_group("provenance")
    _write_attributes(group, layout.provenance)
    put(group, "json", json.dumps(layout.provenance, sort_keys=True))
    return planes


def _filters(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": _GZIP_LEVEL, "shuffle": True}
    import hdf5plugin

    if compression == "bitshuffle":
        return dict(hdf5plugin.Bitshuffle(cname="lz4"))
    chosen = hdf5plugin.LZ4() if compression == "lz4" else hdf5plugin.Zstd(clevel=1)
    return {"shuffle": True, **chosen}


def _write_attributes(group: "h5py.Group", values: Mapping[str, Any]) -> None:
    """Write each value as an attribute, for h5dump and HDFView; the exact record is JSON."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            _write_attributes(group.create_group(name), value)
        elif isinstance(value, str | bool | int | float):
            group.attrs[name] = value
        else:
            group.attrs[name] = json.dumps(value)
