"""Volumes of any format: common parts of the formats, and reading.

The module of a format (`tomopipe.volume_formats`) has `store`, which yields a `Store`;
`read(path, stack)`, which opens a volume until `stack` closes and returns its arrays, rows,
attributes and provenance; `read_planes(path)`, its mid planes; and `read_provenance(path)`.
"""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.storage.checksums import sizes_match
from tomopipe.volume_formats import FORMATS, VolumeFormat
from tomopipe.volumes.encoding import Encoding, SliceStatistics

MID_PLANES = ("mid_xy", "mid_xz", "mid_yz")
HEIGHT = "voxel_height_um"
"""Attribute of a volume whose slice distance differs from the width of voxels."""

Slices = NDArray[np.float32]
Map = Callable[..., Iterable[Any]]  # the builtin one, or that of a pool of threads
PutSlices = Callable[..., None]  # see `tomopipe.volumes.volume.new_volume`


class Layers:
    """Rows that come in any order and wait until a layer of neighbouring rows is complete."""

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
    """Position of a cropped volume."""

    number: int = 0  # in the name of the first TIFF
    # centre of the first voxel (z, y, x) from that of the whole volume, in voxels; OME-Zarr states
    # it
    voxel: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Layout:
    """Specification of a volume to write."""

    name: str  # file name of the volume
    shape: tuple[int, int, int]  # (n_rows, n_y, n_x)
    encoding: Encoding  # number type and scaling
    compression: str  # one of `COMPRESSIONS` of the format
    # about the values; how the volume was made
    attributes: dict[str, Any]
    provenance: dict[str, Any]
    origin: Origin  # position of a cropped volume
    zarr_version: Literal[2, 3] = 3  # of OME-Zarr

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
    # finish(attributes): stores attributes of the layout, the scaling, and the final ones
    finish: Callable[[dict[str, Any]], None]
    # preview(first, batch, each): averages slices, each given once, into the preview
    preview: Callable[[int, SliceStatistics, Map], None] = lambda first, batch, each: None


Stored = tuple[dict[int, Any], Any, dict[str, Any], dict[str, Any]]
"""Result of `read` of a format: arrays, rows, attributes and provenance of its `Volume`."""

PLANES = {"xy": 0, "xz": 1, "yz": 2}
"""The axis (row, y, x) perpendicular to each plane."""

# attributes of values and voxels, independent of the encoding
DESCRIBED = ("units", "binning", "voxel_size_um", HEIGHT)


@dataclass(frozen=True)
class Volume:
    """An open volume."""

    path: Path  # file or folder
    # stored arrays by averaging factor, ascending; 1: the voxels
    arrays: dict[int, Any]
    rows: Any  # the stored voxels, indexed by row
    # units, binning, voxel_size_um, offset, scale, min, max
    attributes: Mapping[str, Any]
    provenance: Mapping[str, Any]  # how it was made
    encoding: Encoding  # how the values are stored

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_rows, n_y, n_x)."""
        n_rows, n_y, n_x = self.arrays[1].shape
        return n_rows, n_y, n_x

    @property
    def described(self) -> dict[str, Any]:
        """Attributes `DESCRIBED`, for a new volume."""
        about = self.attributes
        # numbers of HDF5 are those of NumPy
        return {
            key: about[key].item() if isinstance(about[key], np.generic) else about[key]
            for key in DESCRIBED
            if key in about
        }

    @property
    def value_range(self) -> tuple[float, float]:
        """What its integers can store; of other types its smallest and largest value."""
        about, encoding = self.attributes, self.encoding
        return encoding.limits if encoding.is_whole else (float(about["min"]), float(about["max"]))

    def read_stored(self, row: int) -> NDArray[Any]:
        """Read one slice (n_y, n_x) as it is stored."""
        return np.asarray(self.rows[row])

    def read_slice(self, row: int) -> Slices:
        """Read the values of one slice (n_y, n_x)."""
        return self.encoding.decode(self.read_stored(row))

    def read_plane(self, name: str, index: int, factor: int, part: slice) -> Slices:
        """Read some rows of a plane, with little more in memory than these.

        Rows of the picture are y in xy, else the volume's rows. The plane cuts the volume at voxel
        `index`; `part` is the slice of its rows, at this factor of `arrays`.
        """
        axis, array = PLANES[name], self.arrays[factor]
        k = min(index // factor, array.shape[axis] - 1)
        stored = array[k, part] if axis == 0 else array[part, k] if axis == 1 else array[part, :, k]
        return self.encoding.decode(np.asarray(stored))


@contextmanager
def open_volume(path: str | os.PathLike[str], *, check_sizes: bool = True) -> Iterator[Volume]:
    """Yield a volume that `tomopipe.volumes.volume.new_volume` wrote, of any format.

    Parameters
    ----------
    path : path
        An HDF5 file, a folder of TIFFs, or an OME-Zarr folder.
    check_sizes : bool
        Whether all files of a folder must have their recorded size.

    Yields
    ------
    Volume
        Its shape (n_rows, n_y, n_x), and slices as they are asked for.

    Raises
    ------
    TomopipeError
        If the volume cannot be read.
    """
    if check_sizes and os.path.isdir(path) and (what := sizes_match(path)):
        raise TomopipeError(f"{path}: {what}. Remove it and run again: it is made again.")
    with ExitStack() as stack:
        try:
            volume = stored_volume(Path(path), stack)
        except (OSError, KeyError, ValueError) as error:
            raise TomopipeError(
                f"{path}: expected a volume of tomopipe, but it cannot be read as one "
                f"({error}). Remove it and run again: it is made again."
            ) from error
        yield volume


def stored_volume(path: Path, stack: ExitStack) -> Volume:
    """Open a volume that `stack` closes; damaged ones may raise anything."""
    volume_format = _format_of(path)
    volume_format.check_package()
    arrays, rows, about, provenance = volume_format.load().read(path, stack)
    encoding = Encoding(str(arrays[1].dtype), float(about["offset"]), float(about["scale"]))
    return Volume(path, arrays, rows, about, provenance, encoding)


def read_mid_planes(path: str | os.PathLike[str]) -> dict[str, Slices]:
    """Read the three planes through the middle (index n // 2) of a volume of any format.

    mid_xy (n_y, n_x), mid_xz (n_rows, n_x) and mid_yz (n_rows, n_y): float32 values before any
    rounding to whole numbers.
    """
    volume_format = _format_of(path)
    volume_format.check_package()
    planes: dict[str, Slices] = volume_format.load().read_planes(Path(path))
    return planes


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read how a volume of any format was made.

    Parameters
    ----------
    path : path
        An HDF5 file, a folder of TIFFs, or an OME-Zarr folder.

    Returns
    -------
    dict
        As it was given to `tomopipe.volumes.volume.new_volume`: COR, options, versions.
    """
    provenance: dict[str, Any] = _format_of(path).load().read_provenance(Path(path))
    return provenance


def _format_of(path: str | os.PathLike[str]) -> VolumeFormat:
    """Return the format of a volume, by the content of its folder."""
    folders = (each for each in FORMATS.values() if each.mark and Path(path, each.mark).exists())
    return next(folders, FORMATS["h5"])


def clipped_text(path: str | os.PathLike[str]) -> str:
    """Return a warning if more than 1 in 1000 voxels were clipped, or ""."""
    with open_volume(path) as volume:
        about, encoding = volume.attributes, volume.encoding
        n_clipped, n_voxels = int(about.get("clipped", 0)), math.prod(volume.shape)
    if not encoding.is_whole or 1000 * n_clipped <= n_voxels:
        return ""
    low, high = encoding.limits
    return (
        f"{n_clipped} of {n_voxels} voxels ({n_clipped / n_voxels:.1%}) lie outside {low:g} to "
        f"{high:g} and were clipped; the volume has {about['min']:.4g} to "
        f"{about['max']:.4g}"
    )


def copy_voxels(volume: Volume, put: PutSlices) -> None:
    """Copy the stored voxels of a volume into another one, with their statistics.

    Parameters
    ----------
    volume : Volume
        An open volume.
    put : callable
        From `tomopipe.volumes.volume.new_volume`, for the same shape and encoding.
    """
    planes, about = read_mid_planes(volume.path), volume.attributes
    extremes = np.array([about["min"], about["max"]], np.float32)
    n_rows = volume.shape[0]
    for row in range(n_rows):
        statistics = SliceStatistics(
            slices=volume.read_stored(row)[np.newaxis],
            extremes=extremes,
            clipped=np.array([about.get("clipped", 0) if row == 0 else 0]),
            mid_xz=planes["mid_xz"][row : row + 1],
            mid_yz=planes["mid_yz"][row : row + 1],
            mid_xy=planes["mid_xy"] if row == n_rows // 2 else None,
        )
        put(row, statistics)
