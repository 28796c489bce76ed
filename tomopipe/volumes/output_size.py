"""Sizes of outputs: columns, rows and bytes of volumes and of stacks for RELION.

An incomplete block of binned pixels at an edge is dropped; an axis shorter than a block becomes one
pixel. Spans are "all" or [first, last], both included, in unbinned pixels. What a job takes is in
`tomopipe.resources`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.preview import preview_bytes

HEADER_BYTES = 1024  # bytes of an MRC file without extended header
BUFFER_BYTES = 256 * 2**20  # OME-Zarr: float32 slices that wait until a layer of chunks is complete
# largest size of slices being compressed at a time; but at least one slice
DEFLATE_BYTES = 256 * 2**20
_LEVELS = 8 / 7  # OME-Zarr: size of all levels / full resolution

Extent = str | Sequence[int]


def extent(target: Extent, n: int) -> int:
    """Return the number of pixels in an extent of an axis of `n` pixels."""
    return n if isinstance(target, str) else target[1] - target[0] + 1


def binned(n: int, binning: int) -> int:
    """Return the number of pixels after block averaging.

    Parameters
    ----------
    n : int
        Pixels before.
    binning : int
        Pixels averaged into one.

    Returns
    -------
    int
        At least 1; a remainder is dropped.
    """
    return max(1, n // binning)


def volume_bytes(shape: tuple[int, int, int], dtype: str, output: str = "h5") -> int:
    """Return the size of a volume, uncompressed, its averages or levels included.

    Parameters
    ----------
    shape : (int, int, int)
        Voxels (n_rows, n_y, n_x).
    dtype : str
        Type of the stored numbers.
    output : str
        One of `tomopipe.volume_formats.FORMATS`.

    Returns
    -------
    int
        Bytes.
    """
    itemsize = np.dtype(dtype).itemsize
    n_bytes = itemsize * math.prod(shape)
    if FORMATS[output].has_levels:
        return int(_LEVELS * n_bytes)
    return n_bytes + preview_bytes(shape, itemsize)


def try_binning(n_voxels: int, max_size_px: int) -> int:
    """Return the least binning that makes slices of `n_voxels` columns fit `max_size_px`."""
    return -(-n_voxels // max_size_px)


def volume_shape(
    n_rows: int,
    n_voxels: int,
    binning: int = 1,
    *,
    rows: Extent = "all",
    crop_y: Extent = "all",
    crop_x: Extent = "all",
) -> tuple[int, int, int]:
    """Return the shape (n_rows, n_y, n_x) of a volume.

    `n_voxels` is the width of an unbinned slice: the columns in use, in half acquisition twice as
    many. `rows` is the extent of the detector's `n_rows`, `crop_y` and `crop_x` those of the slice.
    """
    n_z, n_y, n_x = extent(rows, n_rows), extent(crop_y, n_voxels), extent(crop_x, n_voxels)
    return binned(n_z, binning), binned(n_y, binning), binned(n_x, binning)


def try_bytes(n_cor: int, n_voxels: int, max_size_px: int, n_full_rows: int = 0) -> int:
    """Return the size (bytes) of try.tif (uint16), and float32 slices of `n_full_rows` rows."""
    size = n_voxels // try_binning(n_voxels, max_size_px)
    return n_cor * (2 * size**2 + n_full_rows * 4 * n_voxels**2)


@dataclass(frozen=True)
class StackGeometry:
    """Geometry of a stack of images cut out of a detector and binned.

    Rows are cut first, then blocks of `binning` by `binning` pixels are averaged, an incomplete
    block at the right or lower edge being dropped, then the last column if their number is odd.
    """

    n_cols: int  # columns of the detector
    n_rows: int  # detector rows cut out; fewer than `binning` are averaged into one row
    binning: int = 1  # factor of block averaging

    @property
    def volume_cols(self) -> int:
        """Columns after binning, which are those of a volume made from the binned data."""
        return self.n_cols // self.binning

    @property
    def cols(self) -> int:
        """Columns of the stack: even, since RELION stops at images of odd width."""
        return self.volume_cols // 2 * 2

    @property
    def binning_rows(self) -> int:
        """Detector rows averaged into one: the binning, or all rows if there are fewer."""
        return min(self.binning, self.n_rows)

    @property
    def rows(self) -> int:
        """Rows of the stack and slices of the volume."""
        return binned(self.n_rows, self.binning) if self.n_rows else 0


def stack_bytes(shape: Sequence[int]) -> int:
    """Return the size (bytes) of an MRC stack of float32, shape (n_images, n_rows, n_cols)."""
    return HEADER_BYTES + 4 * math.prod(shape)


def smallest_binning(n_images: int, n_rows: int, n_cols: int, limit_bytes: int) -> int:
    """Find the smallest binning that keeps a stack under `limit_bytes`.

    If none does that leaves two columns, the returned one leaves fewer.
    """
    binning = 1
    while binning <= n_cols // 2:
        geometry = StackGeometry(n_cols, n_rows, binning)
        if stack_bytes((n_images, geometry.rows, geometry.cols)) < limit_bytes:
            break
        binning += 1
    return binning
