"""A volume as OME-Zarr: the full resolution and averages by 2, 4, 8 ... of it.

Blocks at an edge are averages of the existing voxels; an axis of one voxel is averaged no further.
Encoded slices, from a GPU, are averaged as stored: their smaller levels differ by at most one count
unless values were clipped. Besides the levels the group has the mid planes, and provenance and
scaling in its attribute `tomopipe`.

The chunks of a layer are in one shard [3]_, which keeps the number of files small. This is OME-Zarr
0.5; 0.4, on Zarr 2, has no shards, and its attributes lie one level higher.

References
----------
.. [1] J. Moore et al., Histochem. Cell Biol. 160, 223-251 (2023), doi:10.1007/s00418-023-02209-1.
.. [2] OME-NGFF specifications 0.4 and 0.5, https://ngff.openmicroscopy.org/.
.. [3] Zarr enhancement proposal 2, https://zarr.dev/zeps/accepted/ZEP0002.html.
"""

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopipe.arrays import Reused
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage import checksums
from tomopipe.volumes.direct_io import direct_writer
from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.output_size import BUFFER_BYTES
from tomopipe.volumes.volume_read import (
    HEIGHT,
    MID_PLANES,
    Layers,
    Layout,
    Map,
    Slices,
    Store,
    Stored,
)

if TYPE_CHECKING:
    import zarr

_CHUNK_VOXELS = 2**20
_NO_CHUNK = 2**64 - 1  # offset and bytes of a chunk of zeros in the index of a shard
_SMALLEST = 128  # pixels: a level no larger than this in any direction is the last

Shape = tuple[int, ...]


@contextmanager
def store(temporary: Path, layout: Layout) -> Iterator[Store]:
    """Yield the store of an OME-Zarr group."""
    import zarr

    version = layout.zarr_version
    group = zarr.create_group(temporary, zarr_format=version)
    pyramid = Pyramid(temporary, create_levels(group, layout), layout)
    beside, planes = group.create_group("mid_planes"), {}
    for name, shape in layout.plane_shapes.items():
        beside.create_array(
            name, shape=shape, chunks=shape, dtype="float32", compressors=None, **_keys(version)
        )
        chunks = chunk_folder(temporary / "mid_planes" / name, version)
        planes[name] = _Plane(Path(chunks) / "0" / "0", shape)

    def put(first: int, slices: Slices, each: Map) -> None:
        for row, image in enumerate(slices, first):
            pyramid.add(0, row, image, each)

    def finish(attributes: dict[str, Any]) -> None:
        group.attrs.update(multiscales(layout))
        group.attrs["tomopipe"] = {"attributes": attributes, "provenance": layout.provenance}

    yield Store(put, planes, finish)


def read(path: Path, stack: ExitStack) -> Stored:
    """Open a volume."""
    import zarr

    attributes = read_attributes(path)
    image = image_of(attributes)
    if len(image["axes"]) > 3:
        raise TomopipeError(
            f"{path}: a volume in time (t, z, y, x), not one volume: look at it in napari "
            "(docs/how-to/viewers.md), at a volume of its scans here, or read a time point t with "
            f'zarr.open("{path}")["0"][t]'
        )
    levels, notes, files = image["datasets"], attributes["tomopipe"], _no_pipes(path)
    arrays = {
        2**i: zarr.open_array(files, path=level["path"], mode="r") for i, level in enumerate(levels)
    }
    return arrays, _Layers(arrays[1]), notes["attributes"], notes["provenance"]


def _no_pipes(path: Path) -> Any:
    """Return the store of a group to read, in which no pipe is opened in the place of a file."""
    from zarr.storage import LocalStore, WrapperStore

    class NoPipes(WrapperStore[LocalStore]):
        async def get(self, key: str, *args: Any, **options: Any) -> Any:
            no_pipe(path / key)
            return await super().get(key, *args, **options)

    return NoPipes(LocalStore(path, read_only=True))


def read_planes(path: Path) -> dict[str, Slices]:
    """Read the mid planes."""
    import zarr

    group = zarr.open_group(_no_pipes(path), mode="r")
    return {name: np.asarray(group[f"mid_planes/{name}"]) for name in MID_PLANES}


def read_provenance(path: Path) -> dict[str, Any]:
    """Read how a volume was made."""
    provenance: dict[str, Any] = read_attributes(path)["tomopipe"]["provenance"]
    return provenance


def read_attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of the group."""
    name = "zarr.json" if os.path.lexists(path / "zarr.json") else ".zattrs"
    content: dict[str, Any] = json.loads(no_pipe(path / name).read_text("utf-8"))
    result: dict[str, Any] = content["attributes"] if name == "zarr.json" else content
    return result


def image_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the levels in the attributes of a group."""
    image: dict[str, Any] = attributes.get("ome", attributes)["multiscales"][0]
    return image


def chunk_folder(array: str | os.PathLike[str], zarr_version: int) -> str:
    """Return the folder of an array's chunks."""
    return os.path.join(array, "c") if zarr_version == 3 else os.fspath(array)


def _keys(zarr_version: int) -> dict[str, Any]:
    """Return how chunks are named: each of Zarr 2 below one folder for each axis, too."""
    names = {"chunk_key_encoding": {"name": "v2", "separator": "/"}, "fill_value": 0}
    return names if zarr_version == 2 else {}


def create_levels(group: Any, layout: Layout, n_times: int = 0) -> list["zarr.Array[Any]"]:
    """Create the arrays of all levels in a group; with `n_times` they begin with an axis of time.

    A time point has the chunks of a volume.
    """
    times, one, axes = ((n_times,), (1,), ("t",)) if n_times else ((), (), ())
    version, compression = layout.zarr_version, layout.compression

    def create(name: str, shape: Shape) -> "zarr.Array[Any]":
        further = _keys(version) | {"compressors": _compressors(compression, version)}
        if version == 3:
            further["shards"] = (*one, *shard_shape(shape))
            further["dimension_names"] = (*axes, "z", "y", "x")
        array: zarr.Array[Any] = group.create_array(
            name,
            shape=(*times, *shape),
            chunks=(*one, *chunk_shape(shape)),
            dtype=layout.encoding.dtype,
            **further,
        )
        return array

    return [create(str(level), shape) for level, shape in enumerate(level_shapes(layout.shape))]


def level_shapes(shape: Shape) -> list[Shape]:
    """Return the shapes of all levels, halved (rounded up) until all sides are short."""
    shapes = [shape]
    while max(shapes[-1]) > _SMALLEST:
        shapes.append(tuple(-(-n // 2) for n in shapes[-1]))
    return shapes


def chunk_shape(shape: Shape) -> Shape:
    """Return the shape of chunks: 16 slices deep, fewer if slices are large."""
    depth = 16
    while depth > 2 and 4 * depth * shape[1] * shape[2] > BUFFER_BYTES:
        depth //= 2
    side = 2 ** (((_CHUNK_VOXELS // depth).bit_length() - 1) // 2)
    return min(depth, shape[0]), min(side, shape[1]), min(side, shape[2])


def shard_shape(shape: Shape) -> Shape:
    """Return the shape of shards: a whole layer of chunks."""
    depth, high, wide = chunk_shape(shape)
    return depth, -(-shape[1] // high) * high, -(-shape[2] // wide) * wide


class _Layers:
    """OME-Zarr indexed by row, with the layer of chunks of the last row in memory."""

    def __init__(self, array: Any) -> None:
        self._array, self._depth = array, array.chunks[0]
        self._first, self._layer = -1, np.empty(0)

    def __getitem__(self, row: int) -> Any:
        first = row - row % self._depth
        if first != self._first:
            self._layer = np.asarray(self._array[first : first + self._depth])
            self._first = first
        return self._layer[row - first]


class _Level:
    """The layers of a level, or of its time point `at`, each one shard, or a folder of chunks."""

    def __init__(self, folder: Path, array: "zarr.Array[Any]", reused: Reused | None) -> None:
        self._has_shards = array.shards is not None
        self._folder = Path(chunk_folder(folder, array.metadata.zarr_format))
        self._array = array
        self.at: tuple[int, ...] = ()
        self._reused = reused  # for uncompressed chunks
        self._shape, self._chunk = array.shape[-3:], array.chunks[-3:]
        self.n_rows, self.depth = self._shape[0], self._chunk[0]

    def write(self, layer: int, images: list[Any], encoding: Encoding, each: Map) -> None:
        """Write the slices of a layer; a chunk of zeros is not stored."""
        stored = list(each(encoding.encode, images))
        folder = self._folder.joinpath(*map(str, (*self.at, layer)))
        if self._reused:
            self._write_plain(folder, stored, each, self._reused)
        else:
            first = layer * self.depth
            part: Any = (*self.at, slice(first, first + len(stored)))
            self._array[part] = np.stack(stored)
        for name, _ in checksums.files_below(folder) if folder.exists() else ():
            checksums.remember(folder / name, checksums.finish(folder / name))

    def _write_plain(self, folder: Path, images: list[Any], each: Map, reused: Reused) -> None:
        """Write uncompressed non-zero chunks, several times faster than zarr-python."""
        chunk, dtype = self._chunk, self._array.dtype
        n_bytes = math.prod(chunk) * dtype.itemsize
        n_high, n_wide = (-(-self._shape[i] // chunk[i]) for i in (1, 2))
        corners = [(y * chunk[1], x * chunk[2]) for y in range(n_high) for x in range(n_wide)]
        parts = [np.s_[y : y + chunk[1], x : x + chunk[2]] for y, x in corners]
        bits = [image.view(f"u{image.itemsize}") for image in images]  # bits, as -0.0 is not zero
        stored = [k for k, part in enumerate(parts) if any(image[part].any() for image in bits)]
        if not stored:
            return

        def write_chunk(number: int, path: Path, offset: int) -> checksums.Edges:
            values = reused.empty("chunk", chunk, dtype)
            n_y, n_x = images[0][parts[number]].shape
            if (len(images), n_y, n_x) != chunk:
                values[:] = 0
            for target, image in zip(values, images, strict=False):
                target[:n_y, :n_x] = image[parts[number]]
            with direct_writer(path) as write:  # its own descriptor: others may be closed meanwhile
                write(values, offset)
            return checksums.written_apart(path, offset, values)

        if self._has_shards:
            paths = [folder / "0" / "0"] * len(stored)
            offsets = [n_bytes * i for i in range(len(stored))]
            ending = _index_of_shard(len(parts), stored, n_bytes)
        else:
            paths = [folder / str(k // n_wide) / str(k % n_wide) for k in stored]
            offsets, ending = [0] * len(stored), b""
        for path in dict.fromkeys(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:  # allocated at once, so that threads need not extend it
                file.seek(n_bytes * paths.count(path))
                file.write(ending)
                file.truncate()
        for path, edges in zip(paths, each(write_chunk, stored, paths, offsets), strict=True):
            for edge in edges:
                checksums.written(path, *edge)
        if ending:
            checksums.written(paths[0], n_bytes * len(stored), ending)


def _index_of_shard(n_chunks: int, stored: list[int], n_bytes: int) -> bytes:
    """Return the index of a shard, offset and bytes of each chunk, with its checksum."""
    index = np.full((n_chunks, 2), _NO_CHUNK, "<u8")
    index[stored, 0], index[stored, 1] = range(0, n_bytes * len(stored), n_bytes), n_bytes
    ending = index.tobytes()
    return ending + _crc32c(ending).to_bytes(4, "little")


def _crc32c(data: bytes) -> int:
    """Return the CRC-32C of a short text; no package for it comes with all versions of zarr."""
    crc = 2**32 - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 2**32 - 1


class Pyramid:
    """Slices that wait until a layer of chunks is complete, at all levels."""

    def __init__(self, folder: Path, arrays: Iterable[Any], layout: Layout) -> None:
        plain = Reused() if layout.compression == "none" else None
        self._levels = [_Level(folder / str(n), a, plain) for n, a in enumerate(arrays)]
        self._encoding, self._reused = layout.encoding, Reused()
        self._layers = [Layers(level.n_rows, level.depth) for level in self._levels]

    def begin(self, t: int) -> None:
        """Begin a time point; that before, if there is one, is complete."""
        for level in self._levels:
            level.at = (t,)

    def add(self, level: int, row: int, image: Slices, each: Map) -> None:
        """Add one slice of a level; slices may come in any order."""
        if not (images := self._layers[level].add(row, image)):
            return
        depth = self._levels[level].depth
        self._levels[level].write(row // depth, images, self._encoding, each)
        if level + 1 < len(self._levels):
            pairs = itertools.zip_longest(images[::2], images[1::2])
            images.clear()
            for number, half in enumerate(each(self._half, pairs), (row - row % depth) // 2):
                self.add(level + 1, number, half, each)

    def _half(self, pair: tuple[Any, Any]) -> Slices:
        """Average two slices, or one; those that came encoded as the values that they stand for."""
        from tomopipe.volumes.slice_kernels import halve

        first, second = (
            self._encoding.decode(x) if x is not None and x.dtype == "f2" else x for x in pair
        )
        shape = tuple(-(-n // 2) for n in first.shape)
        half = self._reused.empty(f"half {shape}", shape)
        halve(first, second, self._encoding.offset, self._encoding.scale, half)
        return half


class _Plane:
    """A mid plane, uncompressed in one file: rows are written as they come."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._path, self._row_bytes = path, 4 * shape[1]
        path.parent.mkdir(parents=True)
        path.touch()

    def __setitem__(self, rows: slice, values: Slices) -> None:
        with self._path.open("r+b") as file:
            file.seek((rows.start or 0) * self._row_bytes)
            file.write(np.ascontiguousarray(values, "<f4").data)


def _compressors(compression: str, zarr_version: int) -> Any:
    from zarr.codecs import BloscCodec, GzipCodec

    if zarr_version == 2:  # codecs of numcodecs by name; numbers of shuffle are those of Blosc
        blosc = {"id": "blosc", "blocksize": 0}
        return {
            "none": None,
            "gzip": [{"id": "gzip", "level": 1}],
            "zstd": [blosc | {"cname": "zstd", "clevel": 1, "shuffle": 1}],
            "lz4": [blosc | {"cname": "lz4", "clevel": 5, "shuffle": 1}],
            "bitshuffle": [blosc | {"cname": "lz4", "clevel": 5, "shuffle": 2}],
        }[compression]
    return {
        "none": None,
        "gzip": GzipCodec(level=1),
        "zstd": BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        "lz4": BloscCodec(cname="lz4", shuffle="shuffle"),
        "bitshuffle": BloscCodec(cname="lz4", shuffle="bitshuffle"),
    }[compression]


def multiscales(layout: Layout) -> dict[str, Any]:
    """Describe the levels: voxel size, and the first voxel's centre in the uncropped volume.

    Attributes of the group, as in the version of its Zarr.
    """
    size_um = layout.attributes.get("voxel_size_um")
    unit = {"unit": "micrometer"} if size_um else {}
    size = size_um or 1.0
    sizes = layout.attributes.get(HEIGHT, size), size, size
    datasets, factors = [], [1, 1, 1]
    for level, shape in enumerate(level_shapes(layout.shape)):
        starts = [
            size * (first + (factor - 1) / 2)
            for size, first, factor in zip(sizes, layout.origin.voxel, factors, strict=True)
        ]
        transforms: list[dict[str, Any]] = [
            {"type": "scale", "scale": [a * b for a, b in zip(sizes, factors, strict=True)]},
            {"type": "translation", "translation": starts},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
        factors = [f * 2 if n > 1 else f for f, n in zip(factors, shape, strict=True)]
    image = {
        "name": layout.name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": datasets,
        "type": "mean",
    }
    if layout.zarr_version == 2:
        return {"multiscales": [{"version": "0.4"} | image]}
    return {"ome": {"version": "0.5", "multiscales": [image]}}
