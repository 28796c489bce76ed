"""What the formats of a volume have in common: what they are given, and what they give back.

The module of a format (`tomopipe.volume_formats`) has `store`, which yields a `Store`;
`read(path, stack)`, which opens a volume until `stack` closes and returns `Stored`;
`read_planes(path)`, its mid planes; and `read_provenance(path)`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.volumes.encoding import Encoding, SliceStatistics

MID_PLANES = ("mid_xy", "mid_xz", "mid_yz")
HEIGHT = "voxel_height_um"
"""Attribute of a volume whose slices are not as far apart as voxels are wide."""

Slices = NDArray[np.float32]
Map = Callable[..., Iterable[Any]]  # the builtin one, or that of a pool of threads
PutSlices = Callable[..., None]  # see `tomopipe.volumes.volume.new_volume`


class Layers:
    """Rows that come in any order and wait until all of a layer of neighbours are there."""

    def __init__(self, n_rows: int, depth: int) -> None:
        self._n_rows, self._depth = n_rows, depth
        self._waiting = defaultdict[int, dict[int, Any]](dict)

    def add(self, row: int, image: Any) -> list[Any]:
        """Take a row; return the layer that it completes, in one order, else nothing."""
        number = row // self._depth
        layer = self._waiting[number]
        layer[row] = image
        if len(layer) < min(self._depth, self._n_rows - number * self._depth):
            return []
        del self._waiting[number]
        return [layer[key] for key in sorted(layer)]


class Origin(NamedTuple):
    """Where a cropped volume begins."""

    number: int = 0  # in the name of the first TIFF
    # centre of the first voxel (z, y, x) from that of the whole volume, in voxels; OME-Zarr states
    # it
    voxel: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Layout:
    """What a volume is to hold."""

    name: str  # file name of the volume
    shape: tuple[int, int, int]  # (n_rows, n_y, n_x)
    encoding: Encoding  # number type and scaling
    compression: str  # one of `COMPRESSIONS` of the format
    # about the values; how the volume was made
    attributes: dict[str, Any]
    provenance: dict[str, Any]
    origin: Origin  # where a cropped volume begins

    @property
    def plane_shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of the three mid planes."""
        n_rows, n_y, n_x = self.shape
        return {"mid_xy": (n_y, n_x), "mid_xz": (n_rows, n_x), "mid_yz": (n_rows, n_y)}

    @property
    def scaling(self) -> dict[str, float]:
        """Offset and scale, as they are recorded."""
        return {"offset": self.encoding.offset, "scale": self.encoding.scale}


@dataclass(frozen=True)
class Store:
    """An open volume of some format."""

    # put(first, slices, each): stores slices from row `first` on, encoding those of float32
    put: Callable[[int, NDArray[Any], Map], None]
    # arrays that take rows of the mid planes, float32: planes["mid_xz"][first:last] = rows
    planes: Mapping[str, Any]
    # finish(summary): stores what is known only at the end
    finish: Callable[[dict[str, Any]], None]
    # preview(first, batch, each): averages slices, each given once, into the preview
    preview: Callable[[int, SliceStatistics, Map], None] = lambda first, batch, each: None


@dataclass(frozen=True)
class Stored:
    """A volume that was opened, of some format."""

    # factor of averaging, 1 for the voxels, to what is stored, in ascending order
    arrays: dict[int, Any]
    rows: Any  # the voxels as they are stored, to be indexed by row
    attributes: Mapping[str, Any]  # about the values, with offset and scale
    provenance: Mapping[str, Any]  # how it was made
