"""Read a volume of any format slice by slice, as the values it stands for."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.storage.manifest import sizes_match
from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.slice_statistics import SliceStatistics
from tomopipe.volumes.tiff import slice_paths
from tomopipe.volumes.volume import PutSlices, read_mid_planes, read_provenance
from tomopipe.volumes.volume_store import Slices
from tomopipe.volumes.volume_zarr import check_zarr

_KEPT = ("units", "binning", "voxel_size_um")


@dataclass(frozen=True)
class Volume:
    """An open volume."""

    path: Path  # where it lies
    shape: tuple[int, int, int]  # (n_rows, n_y, n_x)
    encoding: Encoding  # how the values are stored
    attributes: Mapping[str, Any]  # about the values: units, binning, voxel_size_um, min, max
    provenance: Mapping[str, Any]  # how it was made
    # read_slice(row): the values of one slice (n_y, n_x), float32
    read_slice: Callable[[int], Slices]
    read_stored: Callable[[int], NDArray[Any]]  # read_stored(row): one slice as it is stored

    @property
    def described(self) -> dict[str, Any]:
        """What is stated of values and voxels, whatever the encoding: `attributes` of a new one."""
        found = {key: self.attributes[key] for key in _KEPT if key in self.attributes}
        # numbers of HDF5 are those of NumPy
        return {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in found.items()
        }


@contextmanager
def open_volume(path: str | os.PathLike[str]) -> Iterator[Volume]:
    """Yield a volume that `tomopipe.volumes.volume.new_volume` wrote, of any format.

    Raises
    ------
    TomopipeError
        If it cannot be read.
    """
    if os.path.isdir(path) and (what := sizes_match(path)):
        raise TomopipeError(f"{path}: {what}. Remove it and run again: it is made again.")
    with ExitStack() as stack:
        try:
            stored, attributes = _open(Path(path), stack)
            encoding = Encoding(
                str(stored.dtype), float(attributes["offset"]), float(attributes["scale"])
            )
            provenance = read_provenance(path)
        except (OSError, KeyError, ValueError) as error:
            raise TomopipeError(
                f"{path}: expected a volume of tomopipe, found what cannot be read as one "
                f"({error}). Remove it and run again: it is made again."
            ) from error
        yield Volume(
            Path(path),
            stored.shape,
            encoding,
            attributes,
            provenance,
            lambda row: encoding.decode(np.asarray(stored[row])),
            lambda row: np.asarray(stored[row]),
        )


def copy_voxels(volume: Volume, put: PutSlices) -> None:
    """Store the voxels of a volume in another one, as they are, with their statistics.

    Parameters
    ----------
    volume : Volume
        The volume, open.
    put : callable
        Of `tomopipe.volumes.volume.new_volume`, of the same shape and encoding.
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


def _open(path: Path, stack: ExitStack) -> tuple[Any, Mapping[str, Any]]:
    """Return what is stored, to be indexed by row, and its attributes."""
    if (path / "zarr.json").exists():
        check_zarr()
        import zarr

        text = (path / "zarr.json").read_text(encoding="utf-8")
        about = json.loads(text)["attributes"]["tomopipe"]["attributes"]
        return _Layers(zarr.open_array(path / "0", mode="r")), about
    if path.is_dir():
        notes = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
        return _Series(path), notes["attributes"]
    import h5py

    # Each slice is read once, and is a whole chunk: a cache would only take memory.
    file = stack.enter_context(h5py.File(path, "r", rdcc_nbytes=0))
    data = file["exchange/data"]
    if data.compression is None and data.id.get_create_plist().get_nfilters():
        import hdf5plugin  # noqa: F401
    return data, dict(data.attrs)


class _Layers:
    """OME-Zarr, indexed by row: the layer of chunks that the last row was in is kept."""

    def __init__(self, array: Any) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self._depth = array.chunks[0]
        self._first, self._layer = -1, np.empty(0)

    def __getitem__(self, row: int) -> NDArray[Any]:
        first = row - row % self._depth
        if first != self._first:
            self._layer = np.asarray(self._array[first : first + self._depth])
            self._first = first
        found: NDArray[Any] = self._layer[row - first]
        return found


class _Series:
    """A folder of TIFF slices, indexed like an array."""

    def __init__(self, folder: Path) -> None:
        self._files = slice_paths(folder)
        if not self._files:
            raise ValueError("there are no slices")
        first = self[0]
        self.shape, self.dtype = (len(self._files), *first.shape), first.dtype

    def __getitem__(self, row: int) -> NDArray[Any]:
        import tifffile

        return np.asarray(tifffile.imread(self._files[row]))
