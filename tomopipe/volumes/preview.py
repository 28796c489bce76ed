"""Averages of a volume over 4 and 8 voxels along each axis, made while its slices pass.

They lie where the mid planes do, at most 2 % of the volume's bytes, in chunks of which few make up
any plane. OME-Zarr has its own levels. The average of a block at an edge is that of the voxels
that there are. Slices that come encoded are averaged as they are stored: averages differ by a count
at most from those of the values.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.slice_statistics import SUMMED
from tomopipe.volumes.volume_store import Slices

if TYPE_CHECKING:
    import h5py

FACTORS = (4, 8)
GROUP = "preview"
_SMALLEST_BYTES = 2**26  # of a volume, below which it is shown from its own slices
_SHARE = 0.02
_CHUNK = (8, 64, 64)

Shape = tuple[int, int, int]


def level_shapes(shape: Shape, itemsize: int) -> dict[int, Shape]:
    """Return the shapes of the averages by factor; none of a volume that is small or thin."""
    n_bytes = itemsize * math.prod(shape)
    shapes: dict[int, Shape] = {}
    for factor in FACTORS:
        n_z, n_y, n_x = (-(-n // factor) for n in shape)
        shapes[factor] = n_z, n_y, n_x
    total = sum(itemsize * _padded(level) for level in shapes.values())
    return shapes if n_bytes >= _SMALLEST_BYTES and total <= _SHARE * n_bytes else {}


def preview_bytes(shape: Shape, itemsize: int) -> int:
    """Return the bytes of all averages."""
    return sum(itemsize * _padded(level) for level in level_shapes(shape, itemsize).values())


def _chunks(shape: Shape) -> Shape:
    """Return chunks of about `_CHUNK` that fill the shape with hardly anything over."""
    n_z, n_y, n_x = (-(-n // -(-n // most)) for n, most in zip(shape, _CHUNK, strict=True))
    return n_z, n_y, n_x


def _padded(shape: Shape) -> int:
    """Return the voxels of all chunks."""
    return math.prod(-(-n // c) * c for n, c in zip(shape, _chunks(shape), strict=True))


class Preview:
    """Takes slices of a volume (n_rows, n_y, n_x) in any order, each once, and stores averages."""

    def __init__(self, file: "h5py.File", shape: Shape, encoding: Encoding) -> None:
        self._encoding = encoding
        self._levels = []
        for factor, level in level_shapes(shape, np.dtype(encoding.dtype).itemsize).items():
            name = f"{GROUP}/{factor}"
            data = file.create_dataset(name, level, encoding.dtype, chunks=_chunks(level))
            self._levels.append(_Level(data, factor, shape, encoding))

    def add(self, row: int, image: Any, sums: Any = None) -> None:
        """Take a slice, float32 values or as it is stored; with `SliceStatistics.sums` of it."""
        if not self._levels:
            return
        if image.dtype != np.float32:
            image = self._encoding.decode(image)
        total, before = (image, 1) if sums is None else (sums, SUMMED)
        for level in self._levels:
            total = _block_sums(total, level.factor // before)
            before = level.factor
            level.add(row, total)


class _Level:
    """Sums of the slices that came, until a row is complete; rows until a layer of chunks is."""

    def __init__(self, data: "h5py.Dataset", factor: int, shape: Shape, encoding: Encoding) -> None:
        self.factor, self._data, self._encoding = factor, data, encoding
        self._n_rows = shape[0]
        y, x = (_block_sums(np.ones((n, 1), np.float32), factor)[:, 0] for n in shape[1:])
        self._n_pixels = y[:, None] * x  # that an average is of
        self._sums: dict[int, dict[int, Slices]] = {}
        self._layers: dict[int, dict[int, NDArray[Any]]] = {}

    def add(self, row: int, sums: Slices) -> None:
        preview_row = row // self.factor
        sums_by_row = self._sums.setdefault(preview_row, {})
        sums_by_row[row] = sums
        n_slices = min(self.factor, self._n_rows - preview_row * self.factor)
        if len(sums_by_row) < n_slices:
            return
        del self._sums[preview_row]
        # in one order, whatever that in which they came: equal volumes are equal files
        total = functools.reduce(np.add, (sums_by_row[key] for key in sorted(sums_by_row)))
        depth = self._data.chunks[0]
        layer = self._layers.setdefault(preview_row // depth, {})
        layer[preview_row] = self._encoding.encode(total / (n_slices * self._n_pixels))
        first = preview_row - preview_row % depth
        rows = range(first, min(first + depth, len(self._data)))
        if len(layer) == len(rows):
            self._data[rows.start : rows.stop] = np.stack([layer[layer_row] for layer_row in rows])
            del self._layers[preview_row // depth]


def _block_sums(image: Slices, factor: int) -> Slices:
    """Sum blocks of `factor` by `factor` pixels, at the edges those that there are."""
    from tomopipe.volumes.slice_kernels import extremes_and_sums

    return image if factor == 1 else extremes_and_sums(image[np.newaxis], factor)[1][0]
