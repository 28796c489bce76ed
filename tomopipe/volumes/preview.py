"""Averages of a volume over 4 and 8 voxels along each axis, made while its slices are stored.

They are stored with the mid planes, at most 2 % of the volume's bytes, in chunks of which any plane
needs few. OME-Zarr has its own levels. Blocks at an edge are averages of the existing voxels.
Encoded slices are averaged as stored: averages differ by at most one count from those of the
values.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopipe.volumes.encoding import SUMMED, Encoding, SliceStatistics
from tomopipe.volumes.volume_read import Layers, Map, Slices

if TYPE_CHECKING:
    import h5py

FACTORS = (4, 8)
GROUP = "preview"
_SMALLEST_BYTES = 2**26  # bytes of a volume below which it is shown from its own slices
_SHARE = 0.02
_CHUNK = (8, 64, 64)

Shape = tuple[int, int, int]


def level_shapes(shape: Shape, itemsize: int) -> dict[int, Shape]:
    """Return the shapes of the averages by factor; none for a small or thin volume."""
    n_bytes = itemsize * math.prod(shape)
    shapes: dict[int, Shape] = {}
    for factor in FACTORS:
        n_z, n_y, n_x = (-(-n // factor) for n in shape)
        shapes[factor] = n_z, n_y, n_x
    total = sum(itemsize * _padded(level) for level in shapes.values())
    return shapes if n_bytes >= _SMALLEST_BYTES and total <= _SHARE * n_bytes else {}


def preview_bytes(shape: Shape, itemsize: int) -> int:
    """Return the size of all averages (bytes)."""
    return sum(itemsize * _padded(level) for level in level_shapes(shape, itemsize).values())


def _chunks(shape: Shape) -> Shape:
    """Return chunks of about `_CHUNK` that fill the shape with little excess."""
    n_z, n_y, n_x = (-(-n // -(-n // most)) for n, most in zip(shape, _CHUNK, strict=True))
    return n_z, n_y, n_x


def _padded(shape: Shape) -> int:
    """Return the voxels of all chunks."""
    return math.prod(-(-n // c) * c for n, c in zip(shape, _chunks(shape), strict=True))


def stored_averages(file: "h5py.File") -> "dict[int, h5py.Dataset]":
    """Return the averages in a file, by factor."""
    names = {factor: f"{GROUP}/{factor}" for factor in FACTORS}
    return {factor: file[name] for factor, name in names.items() if name in file}


class Preview:
    """Stores averages of slices of a volume (n_rows, n_y, n_x), which come in any order."""

    def __init__(self, file: "h5py.File", shape: Shape, encoding: Encoding) -> None:
        self._encoding = encoding
        self._levels = []
        for factor, level in level_shapes(shape, np.dtype(encoding.dtype).itemsize).items():
            name = f"{GROUP}/{factor}"
            data = file.create_dataset(name, level, encoding.dtype, chunks=_chunks(level))
            self._levels.append(_Level(data, factor, shape, encoding))

    def add(self, first: int, batch: SliceStatistics, each: Map) -> None:
        """Add slices from row `first` on; `each` computes their `sums` if they come without."""
        if not self._levels:
            return
        all_sums = each(self._sums, batch.slices) if batch.sums is None else batch.sums
        for row, sums in enumerate(all_sums, first):
            total, before = sums, SUMMED
            for level in self._levels:
                total = _block_sums(total, level.factor // before)
                before = level.factor
                level.add(row, total)

    def _sums(self, image: Any) -> Slices:
        """Return the sums of values of `SUMMED` by `SUMMED` pixels of a slice as it is stored."""
        if not self._encoding.is_whole or image.dtype == np.float32:
            return _block_sums(np.asarray(image, np.float32), SUMMED)
        low, scale = np.float32(self._encoding.offset), np.float32(self._encoding.scale)
        return low * self._levels[0].n_pixels + scale * _block_sums(image, SUMMED)


class _Level:
    """Sums of slices until a row is complete, and rows until a layer of chunks is complete."""

    def __init__(self, data: "h5py.Dataset", factor: int, shape: Shape, encoding: Encoding) -> None:
        self.factor, self._data, self._encoding = factor, data, encoding
        y, x = (_block_sums(np.ones((n, 1), np.float32), factor)[:, 0] for n in shape[1:])
        self.n_pixels = y[:, None] * x  # pixels in each average
        self._sums, self._rows = Layers(shape[0], factor), Layers(len(data), data.chunks[0])

    def add(self, row: int, sums: Slices) -> None:
        if not (slices := self._sums.add(row, sums)):
            return
        # in a fixed order, so that equal volumes give equal files
        average = functools.reduce(np.add, slices) / (len(slices) * self.n_pixels)
        preview_row = row // self.factor
        if layer := self._rows.add(preview_row, self._encoding.encode(average)):
            first = preview_row - preview_row % self._data.chunks[0]
            self._data[first : first + len(layer)] = np.stack(layer)


def _block_sums(image: Any, factor: int) -> Slices:
    """Sum blocks of `factor` by `factor` pixels, at the edges the existing ones."""
    from tomopipe.volumes.slice_kernels import block_sums, extremes_and_sums

    # by a kernel that is compiled anyway, if slices are not encoded yet
    if image.dtype == np.float32:
        return image if factor == 1 else extremes_and_sums(image[np.newaxis], factor)[1][0]
    return block_sums(image, factor)
