"""Read a volume of any format: its slices, parts of its planes, its mid planes, how it was made."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.storage.manifest import sizes_match
from tomopipe.volumes.encoding import Encoding, SliceStatistics
from tomopipe.volumes.preview import FACTORS, GROUP
from tomopipe.volumes.tiff import MID_PLANES_FILE, slice_paths
from tomopipe.volumes.volume_store import HEIGHT, MID_PLANES, PutSlices, Slices
from tomopipe.volumes.volume_zarr import check_zarr

PLANES = {"xy": 0, "xz": 1, "yz": 2}
"""The axis (row, y, x) across which each lies."""

# of values and voxels, whatever the encoding
DESCRIBED = ("units", "binning", "voxel_size_um", HEIGHT)


@dataclass(frozen=True)
class Volume:
    """An open volume."""

    path: Path  # where it lies
    # factor of averaging, 1 for the voxels, to what is stored, in ascending order
    arrays: dict[int, Any]
    encoding: Encoding  # how the values are stored
    attributes: Mapping[str, Any]  # about the values: units, binning, voxel_size_um, min, max
    provenance: Mapping[str, Any]  # how it was made
    rows: Any  # the voxels as they are stored, to be indexed by row

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_rows, n_y, n_x)."""
        n_rows, n_y, n_x = self.arrays[1].shape
        return n_rows, n_y, n_x

    @property
    def described(self) -> dict[str, Any]:
        """Attributes `DESCRIBED`, for a new volume."""
        result = {key: self.attributes[key] for key in DESCRIBED if key in self.attributes}
        # numbers of HDF5 are those of NumPy
        return {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in result.items()
        }

    def read_stored(self, row: int) -> NDArray[Any]:
        """Read one slice (n_y, n_x) as it is stored."""
        return np.asarray(self.rows[row])

    def read_slice(self, row: int) -> Slices:
        """Read the values of one slice (n_y, n_x)."""
        return self.encoding.decode(self.read_stored(row))

    def read_plane(self, name: str, index: int, factor: int, part: slice) -> Slices:
        """Read a part of the rows of a plane; no more is in memory than it and a few chunks.

        Rows of the picture are y in xy, else the volume's rows. The plane cuts the volume at voxel
        `index`; `part` says which of its rows, at this factor of `arrays`.
        """
        axis, array = PLANES[name], self.arrays[factor]
        k = min(index // factor, array.shape[axis] - 1)
        stored = array[k, part] if axis == 0 else array[part, k] if axis == 1 else array[part, :, k]
        return self.encoding.decode(np.asarray(stored))


@contextmanager
def open_volume(path: str | os.PathLike[str], *, check_sizes: bool = True) -> Iterator[Volume]:
    """Yield a volume that `tomopipe.volumes.volume.new_volume` wrote, of any format.

    With `check_sizes` all files of a folder must have the size with which they were written. A
    TomopipeError if it cannot be read.
    """
    if check_sizes and os.path.isdir(path) and (what := sizes_match(path)):
        raise TomopipeError(f"{path}: {what}. Remove it and run again: it is made again.")
    with ExitStack() as stack:
        try:
            volume = stored_volume(Path(path), stack)
        except (OSError, KeyError, ValueError) as error:
            raise TomopipeError(
                f"{path}: expected a volume of tomopipe, found what cannot be read as one "
                f"({error}). Remove it and run again: it is made again."
            ) from error
        yield volume


def stored_volume(path: Path, stack: ExitStack) -> Volume:
    """Open a volume that `stack` closes; raise what a damaged one raises."""
    if group := _zarr_attributes(path):
        check_zarr()
        import zarr

        names = [level["path"] for level in group["ome"]["multiscales"][0]["datasets"]]
        levels = [zarr.open_array(path / name, mode="r") for name in names]
        arrays, notes = {2**i: array for i, array in enumerate(levels)}, group["tomopipe"]
        rows: Any = _Layers(arrays[1])
    elif path.is_dir():
        notes = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
        rows = _Series(slice_paths(path))
        arrays = {1: rows} | _averages(_hdf5(path, stack))
    else:
        file = _hdf5(path, stack)
        rows = file["exchange/data"]
        if rows.compression is None and rows.id.get_create_plist().get_nfilters():
            import hdf5plugin  # noqa: F401
        arrays = {1: rows} | _averages(file)
        notes = {"attributes": dict(rows.attrs), "provenance": _provenance(file)}
    about = notes["attributes"]
    encoding = Encoding(str(arrays[1].dtype), float(about["offset"]), float(about["scale"]))
    return Volume(path, arrays, encoding, about, notes["provenance"], rows)


def read_mid_planes(path: str | os.PathLike[str]) -> dict[str, Slices]:
    """Read the three planes through the middle (index n // 2) of a volume of any format.

    mid_xy (n_y, n_x), mid_xz (n_rows, n_x) and mid_yz (n_rows, n_y): float32 values before any
    rounding to whole numbers.
    """
    if _zarr_attributes(path):
        check_zarr()
        import zarr

        group = zarr.open_group(path, mode="r")
        return {name: np.asarray(group[f"mid_planes/{name}"]) for name in MID_PLANES}
    with ExitStack() as stack:
        file = _hdf5(path, stack)
        return {name: file[f"exchange/{name}"][()] for name in MID_PLANES}


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read how a volume of any format was made."""
    if group := _zarr_attributes(path):
        return group["tomopipe"]["provenance"]
    with ExitStack() as stack:
        return _provenance(_hdf5(path, stack))


def clipped_text(path: str | os.PathLike[str]) -> str:
    """Say how many voxels of whole numbers are outside their range, if more than 1 in 1000."""
    with open_volume(path) as volume:
        about, encoding = volume.attributes, volume.encoding
        n_clipped, n_voxels = int(about.get("clipped", 0)), math.prod(volume.shape)
    if not encoding.is_whole or 1000 * n_clipped <= n_voxels:
        return ""
    low, high = encoding.limits
    return (
        f"{n_clipped} of {n_voxels} voxels ({n_clipped / n_voxels:.1%}) lie outside {low:g} to "
        f"{high:g}, and take the nearer end; the volume has {about['min']:.4g} to "
        f"{about['max']:.4g}"
    )


def copy_voxels(volume: Volume, put: PutSlices) -> None:
    """Store the voxels of a volume in another one, as they are, with their statistics.

    `put` is of `tomopipe.volumes.volume.new_volume`, of the same shape and encoding.
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


def _zarr_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the attributes of OME-Zarr; none of another format."""
    file = Path(path) / "zarr.json"
    return json.loads(file.read_text(encoding="utf-8"))["attributes"] if file.exists() else {}


def _hdf5(path: str | os.PathLike[str], stack: ExitStack) -> Any:
    """Open the HDF5 file with mid planes and provenance: the volume, or one in its folder."""
    import h5py

    file = Path(path) / MID_PLANES_FILE if Path(path).is_dir() else path
    # Each slice is read once, and is a whole chunk: a cache would only take memory.
    return stack.enter_context(h5py.File(file, "r", rdcc_nbytes=0))


def _provenance(file: Any) -> dict[str, Any]:
    return json.loads(file["provenance/json"][()])


def _averages(file: Any) -> dict[int, Any]:
    names = {factor: f"{GROUP}/{factor}" for factor in FACTORS}
    return {factor: file[name] for factor, name in names.items() if name in file}


class _Layers:
    """OME-Zarr, indexed by row: the layer of chunks that the last row was in is kept."""

    def __init__(self, array: Any) -> None:
        self._array, self._depth = array, array.chunks[0]
        self._first, self._layer = -1, np.empty(0)

    def __getitem__(self, row: int) -> NDArray[Any]:
        first = row - row % self._depth
        if first != self._first:
            self._layer = np.asarray(self._array[first : first + self._depth])
            self._first = first
        result: NDArray[Any] = self._layer[row - first]
        return result


class _Series:
    """A folder of TIFF slices, indexed like an array.

    Of parts of uncompressed slices no more is read than what is asked for.
    """

    def __init__(self, paths: list[Path]) -> None:
        if not paths:
            raise ValueError("there are no slices")
        self._paths = paths
        with tifffile.TiffFile(paths[0]) as file:
            page = file.pages.first
            self.dtype: np.dtype[Any] = np.dtype(page.dtype)
            self.shape = (len(paths), *page.shape)
            # slices of a volume have one header
            self._offset = page.dataoffsets[0] if page.is_contiguous else None

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if not isinstance(key, tuple):
            return np.asarray(tifffile.imread(self._paths[key]))
        rows, *rest = key
        if isinstance(rows, slice):
            return np.stack([self._image(path)[tuple(rest)] for path in self._paths[rows]])
        return self._image(self._paths[rows])[tuple(rest)]

    def _image(self, path: Path) -> NDArray[Any]:
        if self._offset is None:
            return np.asarray(tifffile.imread(path))
        return np.memmap(path, self.dtype, "r", self._offset, self.shape[1:])
