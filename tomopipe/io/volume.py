"""The volume: HDF5 or a TIFF series, written slice by slice, verified, then renamed."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.errors import TomopipeError
from tomopipe.io import tiff
from tomopipe.io.atomic import whole, write_json

if TYPE_CHECKING:
    import h5py

FORMATS = ("h5", "tiff")
MID_PLANES = ("mid_xy", "mid_xz", "mid_yz")
_BESIDE = "mid_planes.h5"  # mid planes and provenance of a TIFF series, in its folder
_MAX_CHUNK = 4096  # pixels along a side: 64 MB of float32

Slices = NDArray[np.float32]
PutSlices = Callable[[int, Slices], None]


@contextmanager
def new_volume(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    *,
    output_format: str = "h5",
    attributes: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    first_number: int = 0,
) -> Iterator[PutSlices]:
    """Yield a function that stores slices; the volume appears under `path` once it is verified.

    Parameters
    ----------
    path : path-like
        HDF5 file, or folder of the TIFF series. Nothing is there before the end.
    shape : tuple of int
        (n_rows, n_y, n_x).
    output_format : {"h5", "tiff"}
        What to write.
    attributes : mapping
        About the values (unit, voxel size); attributes of /exchange/data.
    provenance : mapping
        How the volume was made: text, numbers, lists and mappings of these.
    first_number : int
        Number in the name of the first TIFF.

    Yields
    ------
    callable
        put(first, slices): stores slices (n, n_y, n_x) of float32 from row `first` on.

    Raises
    ------
    TomopipeError
        If a slice was not stored, a value is not finite, all values are equal, or the written
        file does not read back.
    OSError
        If it cannot be written, or the disk has no room for it.
    """
    if output_format not in FORMATS:
        raise ValueError(f"output: expected one of {', '.join(FORMATS)}; got {output_format!r}")
    notes = (dict(attributes or {}), dict(provenance or {}))
    store = _hdf5 if output_format == "h5" else _tiff_series
    with whole(path) as temporary:
        _check_space(temporary.parent, 4 * math.prod(shape), path)
        watch = _Watch(path, shape)
        with store(temporary, shape, watch, notes, first_number) as put:

            def put_and_watch(first: int, slices: Slices) -> None:
                watch.see(first, slices)
                put(first, slices)

            yield put_and_watch
            watch.check()
        _check_reads_back(temporary, path, shape, watch.planes["mid_xy"])


def read_mid_planes(path: str | os.PathLike[str]) -> dict[str, Slices]:
    """Read the three planes through the middle of a volume.

    Returns
    -------
    dict of str to ndarray of float32
        mid_xy (n_y, n_x), mid_xz (n_rows, n_x) and mid_yz (n_rows, n_y), of the index n // 2.
    """
    with _open_notes(path) as file:
        return {name: file[f"exchange/{name}"][()] for name in MID_PLANES}


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read how a volume (HDF5 file or folder of TIFFs) was made."""
    with _open_notes(path) as file:
        return json.loads(file["provenance/json"][()])


@contextmanager
def _open_notes(path: str | os.PathLike[str]) -> "Iterator[h5py.File]":
    import h5py

    with h5py.File(Path(path) / _BESIDE if Path(path).is_dir() else path, "r") as file:
        yield file


class _Watch:
    """What is collected while slices pass by, so that nothing is read again."""

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, int, int]) -> None:
        n_rows, n_y, n_x = self.shape = shape
        self.path = path
        self.stored = np.zeros(n_rows, dtype=bool)
        self.low, self.high = math.inf, -math.inf
        self.planes = {
            "mid_xy": np.zeros((n_y, n_x), np.float32),
            "mid_xz": np.zeros((n_rows, n_x), np.float32),
            "mid_yz": np.zeros((n_rows, n_y), np.float32),
        }

    def see(self, first: int, slices: Slices) -> None:
        n_rows, n_y, n_x = self.shape
        last = first + len(slices)
        if slices.shape[1:] != (n_y, n_x) or slices.dtype != np.float32 or last > n_rows:
            raise ValueError(
                f"{self.path}: expected float32 slices of a volume {self.shape}; got "
                f"{slices.dtype} {slices.shape} at row {first}"
            )
        low, high = float(slices.min()), float(slices.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise TomopipeError(
                f"{self.path}: rows {first} to {last - 1}: the reconstruction is not finite "
                f"(from {low} to {high}). Look at the raw file's values."
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.stored[first:last] = True
        self.planes["mid_xz"][first:last] = slices[:, n_y // 2]
        self.planes["mid_yz"][first:last] = slices[:, :, n_x // 2]
        if first <= n_rows // 2 < last:
            self.planes["mid_xy"][:] = slices[n_rows // 2 - first]

    def check(self) -> None:
        if not self.stored.all():
            raise TomopipeError(
                f"{self.path}: expected {len(self.stored)} slices, "
                f"{np.count_nonzero(~self.stored)} were never stored. Run again."
            )
        if self.low == self.high:
            raise TomopipeError(
                f"{self.path}: every value of the volume is {self.low}. Look at the raw file."
            )


_Notes = tuple[dict[str, Any], dict[str, Any]]


def _check_space(folder: Path, n_bytes: int, path: str | os.PathLike[str]) -> None:
    """Raise before hours of work, not after, where the disk cannot take the volume."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        text = f"the volume takes {n_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
        raise OSError(errno.ENOSPC, text, os.fspath(path))


@contextmanager
def _hdf5(
    temporary: Path, shape: tuple[int, int, int], watch: _Watch, notes: _Notes, _first: int
) -> Iterator[PutSlices]:
    chunk = (1, min(shape[1], _MAX_CHUNK), min(shape[2], _MAX_CHUNK))
    with _created(temporary) as file:
        data = file.create_dataset("exchange/data", shape, np.float32, chunks=chunk)

        def put(first: int, slices: Slices) -> None:
            data[first : first + len(slices)] = slices

        yield put
        _write_notes(file, watch, notes)
        data.attrs.update(notes[0] | {"axes": "row, y, x", "min": watch.low, "max": watch.high})


@contextmanager
def _created(path: Path) -> "Iterator[h5py.File]":
    """Yield a new HDF5 file; whatever cannot be written is an OSError, and no crash."""
    import h5py

    # Slices are whole chunks and need no cache. With one, HDF5 keeps what a full disk refused and
    # crashes the process when it tries again.
    file = h5py.File(path, "w", rdcc_nbytes=0)
    try:
        yield file
    except BaseException:
        with suppress(Exception):  # the first error says more than those of closing
            file.close()
        raise
    try:
        file.close()
    except RuntimeError as error:
        raise OSError(errno.EIO, f"cannot be written to its end ({error})", str(path)) from error


@contextmanager
def _tiff_series(
    temporary: Path, _shape: tuple[int, int, int], watch: _Watch, notes: _Notes, first_number: int
) -> Iterator[PutSlices]:
    temporary.mkdir()

    def put(first: int, slices: Slices) -> None:
        for number, image in enumerate(slices, first_number + first):
            tiff.write_slice(image, tiff.slice_path(temporary, number))

    yield put
    with _created(temporary / _BESIDE) as file:
        _write_notes(file, watch, notes)
    write_json({"attributes": notes[0], "provenance": notes[1]}, temporary / "provenance.json")


def _write_notes(file: "h5py.File", watch: _Watch, notes: _Notes) -> None:
    for name, plane in watch.planes.items():
        file[f"exchange/{name}"] = plane
        file[f"exchange/{name}"].attrs.update(notes[0])
    group = file.create_group("provenance")
    _write_attributes(group, notes[1])
    group["json"] = json.dumps(notes[1], sort_keys=True)


def _write_attributes(group: "h5py.Group", values: Mapping[str, Any]) -> None:
    """Write each value where h5dump and HDFView show it; the exact record is the JSON text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            _write_attributes(group.create_group(name), value)
        elif isinstance(value, str | bool | int | float):
            group.attrs[name] = value
        else:
            group.attrs[name] = json.dumps(value)


def _check_reads_back(
    temporary: Path, path: str | os.PathLike[str], shape: tuple[int, int, int], middle: Slices
) -> None:
    """Open what was written once more: shape, and the middle slice as it was stored."""
    import h5py

    if temporary.is_dir():
        files = tiff.slice_paths(temporary)
        found = tiff.read_slices([files[len(files) // 2]])[0]
        found_shape: tuple[int, ...] = (len(files), *found.shape)
    else:
        with h5py.File(temporary, "r") as file:
            found_shape = file["exchange/data"].shape
            found = file["exchange/data"][shape[0] // 2]
    if found_shape != shape or not np.array_equal(found, middle):
        raise TomopipeError(
            f"{path}: expected a volume {shape} that reads back as it was written; got "
            f"{found_shape} or other values. Check the disk and run again."
        )
