"""Writing a volume (HDF5, TIFF series or OME-Zarr): slice by slice, verified, then renamed."""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.errors import NoRoomError, TomopipeError
from tomopipe.storage.atomic import take_away, whole
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes.encoding import Encoding, SliceStatistics, with_statistics
from tomopipe.volumes.output_size import volume_bytes
from tomopipe.volumes.volume_read import Layout, Map, Origin, PutSlices, Slices, stored_volume


@contextmanager
def new_volume(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    *,
    output_format: str = "h5",
    encoding: Encoding | None = None,
    compression: str = "none",
    attributes: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    origin: Origin = Origin(),
) -> Iterator[PutSlices]:
    """Yield a function that stores slices; the volume appears under `path` once it is verified.

    put(first, slices, each) stores slices (n, n_y, n_x) of float32, or their `SliceStatistics`,
    which are encoded already, from row `first` on, each row once. If `each` is the `map` of a
    thread pool, its threads write; the bytes are the same.

    Parameters
    ----------
    path : path
        An HDF5 file, a folder of TIFFs, or an OME-Zarr folder.
    shape : (int, int, int)
        Voxels (n_rows, n_y, n_x).
    output_format : str
        One of `tomopipe.volume_formats.FORMATS`.
    encoding : Encoding, optional
        Type of the stored numbers, by default float32.
    compression : str
        One of `tomopipe.volume_formats.COMPRESSIONS` of the format.
    attributes : mapping, optional
        Of the values (unit, voxel size): attributes of /exchange/data, the description of each
        TIFF, or the OME-Zarr group; offset and scale, min and max of the values, and the number of
        clipped ones are added.
    provenance : mapping, optional
        How the volume was made: text, numbers, lists and mappings of these.
    origin : Origin
        Position of a cropped volume.

    Yields
    ------
    callable
        put, as above.

    Raises
    ------
    TomopipeError
        If a slice was not stored, a value is not finite, all values are equal, or the written file
        does not read back.
    """
    volume_format = FORMATS[output_format]
    layout = Layout(
        Path(path).name, shape, encoding or Encoding(), compression,
        dict(attributes or {}), dict(provenance or {}), origin, volume_format.zarr_version,
    )  # fmt: skip
    volume_format.check_package()
    with whole(path) as temporary:
        if compression == "none":
            n_bytes = volume_bytes(shape, layout.encoding.dtype, output_format)
            check_space(temporary.parent, n_bytes, path)
        statistics = _VolumeStatistics(path, layout)
        with volume_format.load().store(temporary, layout) as store:

            def put(first: int, slices: Slices | SliceStatistics, each: Map = map) -> None:
                each = each if each is map else partial(_whole_map, each)
                middle = shape[0] // 2 - first
                if not isinstance(slices, SliceStatistics):
                    slices = with_statistics(slices, layout.encoding, middle)
                statistics.add(first, slices, store.planes)
                store.preview(first, slices, each)
                store.put(first, slices.slices, each)

            yield put
            statistics.check()
            store.finish(layout.attributes | layout.scaling | statistics.summary())
        with ExitStack() as stack:
            result = stored_volume(temporary, stack)
            if result.shape != shape or not np.array_equal(
                result.arrays[1][shape[0] // 2], statistics.middle
            ):
                raise TomopipeError(
                    f"{path}: expected a volume {shape} that reads back as it was written; got "
                    f"{result.shape} or other values. Check the disk and run again."
                )


def _whole_map(each: Map, function: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """Return all results of threads; the first error is raised once all have ended."""
    errors: list[BaseException] = []

    def result_of(*args: Any) -> Any:
        try:
            return None if errors else function(*args)
        except BaseException as error:
            errors.append(error)

    results = list(each(result_of, *columns))
    if errors:
        raise errors[0]
    return results


class _VolumeStatistics:
    """Statistics of a volume, collected while its slices are stored."""

    def __init__(self, path: str | os.PathLike[str], layout: Layout) -> None:
        self.path, self.layout = path, layout
        self.stored = np.zeros(layout.shape[0], dtype=bool)
        self.low, self.high = math.inf, -math.inf
        self.n_clipped = 0
        self.middle: Any = None  # stored middle slice

    def add(self, first: int, statistics: SliceStatistics, planes: Mapping[str, Any]) -> None:
        slices, encoding = statistics.slices, self.layout.encoding
        n_rows, n_y, n_x = self.layout.shape
        last = first + len(slices)
        is_storable = slices.dtype in (np.dtype(np.float32), np.dtype(encoding.dtype))
        if slices.shape[1:] != (n_y, n_x) or not is_storable or last > n_rows:
            raise ValueError(
                f"{self.path}: expected float32 slices of a volume {self.layout.shape}; got "
                f"{slices.dtype} {slices.shape} at row {first}"
            )
        low, high = map(float, statistics.extremes)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise TomopipeError(
                f"{self.path}: rows {first} to {last - 1}: the reconstruction is not finite "
                f"(from {low} to {high}). Look at the raw file's values."
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.stored[first:last] = True
        self.n_clipped += int(statistics.clipped.sum())
        planes["mid_xz"][first:last] = statistics.mid_xz
        planes["mid_yz"][first:last] = statistics.mid_yz
        if statistics.mid_xy is not None:
            self.middle = encoding.encode(slices[n_rows // 2 - first]).copy()
            planes["mid_xy"][:] = statistics.mid_xy

    def check(self) -> None:
        if not self.stored.all():
            raise TomopipeError(
                f"{self.path}: expected {len(self.stored)} slices, "
                f"{np.count_nonzero(~self.stored)} were never stored. Run again."
            )
        if self.low == self.high:
            raise TomopipeError(
                f"{self.path}: every value of the volume is {self.low + 0:g}. Look at the raw file."
            )
        encoding = self.layout.encoding
        lowest, highest = encoding.encode(np.array([self.low, self.high], np.float32))
        if lowest == highest:
            low, high = encoding.limits
            raise TomopipeError(
                f"{self.path}: all values, {self.low:g} to {self.high:g}, are stored as {lowest} "
                f"in {encoding.dtype} of the range {low:g} to {high:g}. Set full_recon.value_range."
            )

    def summary(self) -> dict[str, Any]:
        """Describe the values; `clipped` only for types with limits."""
        clipped = {"clipped": self.n_clipped} if self.layout.encoding.dtype != "float32" else {}
        return {"min": self.low, "max": self.high, **clipped}


def make_room(path: str | os.PathLike[str], n_bytes: int) -> None:
    """Remove an earlier volume if the disk has no room for the new one beside it.

    Otherwise it stays until the new one is complete.

    Parameters
    ----------
    path : path
        The volume.
    n_bytes : int
        What the new one takes.
    """
    if os.path.lexists(path) and shutil.disk_usage(Path(path).parent).free < n_bytes:
        take_away(path)


def check_space(folder: Path, n_bytes: int, path: str | os.PathLike[str]) -> None:
    """Raise before hours of work if the disk has no room for the volume."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise NoRoomError(
            errno.ENOSPC,
            f"{os.fspath(path)}: the volume takes {n_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB are "
            "free. Remove what is no longer needed there, or store it smaller (full_recon.dtype).",
        )
