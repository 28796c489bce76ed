"""Planes of a volume as a viewer asks for them: from its averages, or of its voxels, part by part.

No more is in memory than the part that is asked for and a few chunks.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.volumes.encoding import Encoding
from tomopipe.volumes.preview import FACTORS, GROUP
from tomopipe.volumes.tiff import slice_paths
from tomopipe.volumes.volume_tiff import MID_PLANES_FILE

PLANES = {"xy": 0, "xz": 1, "yz": 2}
"""The axis (row, y, x) across which each lies."""


@dataclass(frozen=True)
class Levels:
    """The open levels of a volume."""

    shape: tuple[int, int, int]  # (n_rows, n_y, n_x)
    # factor of averaging, 1 for the voxels, to what is stored, in ascending order
    arrays: Mapping[int, Any]
    encoding: Encoding  # how values are stored
    attributes: Mapping[str, Any]  # about values and voxels

    def plane(self, name: str, index: int, factor: int, part: slice) -> NDArray[np.float32]:
        """Return a part of the rows of a plane.

        Parameters
        ----------
        name : {"xy", "xz", "yz"}
            Rows of the picture are y in xy, else the volume's rows.
        index : int
            Where it cuts the volume, in voxels.
        factor : int
            One of those there are.
        part : slice
            Which rows of the plane, at this factor.
        """
        axis, array = PLANES[name], self.arrays[factor]
        k = min(index // factor, array.shape[axis] - 1)
        stored = array[k, part] if axis == 0 else array[part, k] if axis == 1 else array[part, :, k]
        return self.encoding.decode(np.asarray(stored))


@contextmanager
def open_levels(path: Path, beside: Path | None = None) -> Iterator[Levels]:
    """Yield the levels of a volume; `beside` is the file of a preview made later.

    Raises
    ------
    TomopipeError
        If it cannot be read.
    """
    with ExitStack() as stack:
        try:
            arrays, about = _open(path, stack)
            if len(arrays) == 1 and beside is not None and beside.is_file():
                arrays |= _averages(_hdf5(beside, stack))
            full = arrays[1]
            encoding = Encoding(str(full.dtype), float(about["offset"]), float(about["scale"]))
        except (OSError, KeyError, ValueError) as error:
            raise TomopipeError(
                f"{path}: expected a volume of tomopipe, found what cannot be read as one "
                f"({error}). Run again: it is made again if it is damaged."
            ) from error
        yield Levels(tuple(full.shape), arrays, encoding, about)


def _open(path: Path, stack: ExitStack) -> tuple[dict[int, Any], Mapping[str, Any]]:
    if (path / "zarr.json").exists():
        import zarr

        attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        names = [level["path"] for level in attributes["ome"]["multiscales"][0]["datasets"]]
        arrays = [zarr.open_array(path / name, mode="r") for name in names]
        return {2**i: array for i, array in enumerate(arrays)}, attributes["tomopipe"]["attributes"]
    if path.is_dir():
        notes = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
        series = {1: _Slices(slice_paths(path))}
        return series | _averages(_hdf5(path / MID_PLANES_FILE, stack)), notes["attributes"]
    file = _hdf5(path, stack)
    data = file["exchange/data"]
    return {1: data} | _averages(file), dict(data.attrs)


def _hdf5(path: Path, stack: ExitStack) -> Any:
    import h5py
    import hdf5plugin  # noqa: F401

    return stack.enter_context(h5py.File(path, "r", rdcc_nbytes=0))


def _averages(file: Any) -> dict[int, Any]:
    names = {factor: f"{GROUP}/{factor}" for factor in FACTORS}
    return {factor: file[name] for factor, name in names.items() if name in file}


class _Slices:
    """A folder of TIFF slices; of uncompressed ones no more is read than what is asked for."""

    def __init__(self, paths: list[Path]) -> None:
        import tifffile

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
        rows, *rest = key
        if isinstance(rows, slice):
            return np.stack([self._image(path)[tuple(rest)] for path in self._paths[rows]])
        return self._image(self._paths[rows])[tuple(rest)]

    def _image(self, path: Path) -> NDArray[Any]:
        import tifffile

        if self._offset is None:
            return np.asarray(tifffile.imread(path))
        return np.memmap(path, self.dtype, "r", self._offset, self.shape[1:])
