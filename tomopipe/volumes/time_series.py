"""A volume in time as OME-Zarr: axes t, z, y, x; written one time point after the other.

Chunks and levels of a time point are those of a volume (`volume_zarr`), nothing is averaged in
time. A gap is not stored: it reads as 0. A time point that an earlier file has in the same chunks
is linked from there (hard links: nothing is read or written); as no file of a volume is ever
written again in place, the new file stays as it is when the earlier one goes.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage import checksums
from tomopipe.storage.atomic import whole
from tomopipe.volume_formats import FORMATS, IN_TIME
from tomopipe.volumes.volume_read import Layout, Volume
from tomopipe.volumes.volume_zarr import (
    Pyramid,
    chunk_folder,
    create_levels,
    image_of,
    multiscales,
    read_attributes,
)

_OFF_STEP = 0.1  # share of a step by which a time may be off those of equal steps


class TimeSeries:
    """A volume in time that is being written, and an earlier one in its place, if there is one."""

    def __init__(self, temporary: Path, final: Path, n_times: int, layout: Layout) -> None:
        import zarr

        self._folder, self._earlier, self._layout = temporary, final, layout
        self._group = zarr.create_group(temporary, zarr_format=layout.zarr_version)
        self._arrays = create_levels(self._group, layout, n_times)
        self._pyramid = Pyramid(temporary, self._arrays, layout)
        self._sums = checksums.read_manifest(final) if self._is_alike(final) else None

    def _is_alike(self, earlier: Path) -> bool:
        """Tell whether the earlier file stores a time point in the same way, and is complete."""
        levels = range(len(self._arrays))
        folders = self._folder, earlier
        own, before = ([_stored_as(f / str(n)) for n in levels] for f in folders)
        return own == before and not checksums.sizes_match(earlier)

    def link(self, t: int, before: int) -> bool:
        """Take a time point from place `before` of the earlier file; False if it cannot be."""
        if not self._sums:
            return False
        try:
            for level in range(len(self._arrays)):
                chunks = chunk_folder(str(level), self._layout.zarr_version)
                self._link_level(f"{chunks}/{before}", self._folder / chunks / str(t))
        except (OSError, KeyError):  # a file system without hard links, or too many of one file
            for level in range(len(self._arrays)):
                chunks = chunk_folder(str(level), self._layout.zarr_version)
                folder = self._folder / chunks / str(t)
                checksums.forget(folder)
                shutil.rmtree(folder, ignore_errors=True)
            return False
        return True

    def _link_level(self, before: str, folder: Path) -> None:
        source, sums = self._earlier / before, self._sums or {}
        for name, _ in checksums.files_below(source) if source.is_dir() else ():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / name, path)
            checksums.remember(path, sums[f"{before}/{name}"])

    def put(self, t: int, volume: Volume) -> int:
        """Copy a volume, slice by slice; return the number of its values beyond the range.

        Stored numbers of the same encoding are copied as they are.
        """
        encoding, n_clipped = self._layout.encoding, int(volume.attributes.get("clipped", 0))
        is_same = volume.encoding == encoding
        self._pyramid.begin(t)
        middle, stored = volume.shape[0] // 2, np.empty(0)
        for row in range(volume.shape[0]):
            image = volume.read_stored(row) if is_same else volume.read_slice(row)
            if not is_same and encoding.dtype != "float32":
                n_clipped += int(np.count_nonzero(encoding.beyond(image)))
            if row == middle:
                stored = encoding.encode(image).copy()
            self._pyramid.add(0, row, image, map)
        if not np.array_equal(self._arrays[0][t, middle], stored):
            raise TomopipeError(
                f"{self._earlier}: expected that {volume.path} reads back at time point {t} as it "
                "was written; got other values. Check the disk and run again."
            )
        return n_clipped

    def finish(
        self, attributes: dict[str, Any], provenance: dict[str, Any], step_s: float | None
    ) -> None:
        """Store axes and attributes; `step_s` is the time between neighbours if it is known."""
        attributes_of_ome = multiscales(self._layout)
        image = image_of(attributes_of_ome)
        unit = {"unit": "second"} if step_s else {}
        image["axes"].insert(0, {"name": "t", "type": "time", **unit})
        for dataset in image["datasets"]:
            scale, translation = dataset["coordinateTransformations"]
            scale["scale"].insert(0, step_s or 1.0)
            translation["translation"].insert(0, 0.0)
        self._group.attrs.update(attributes_of_ome)
        self._group.attrs["tomopipe"] = {
            "attributes": self._layout.attributes | self._layout.scaling | attributes,
            "provenance": provenance,
        }


@contextmanager
def new_time_series(
    path: str | os.PathLike[str], n_times: int, layout: Layout
) -> Iterator[TimeSeries]:
    """Yield the writer of a volume in time, which appears under `path` when the block ends.

    Parameters
    ----------
    path : path
        An OME-Zarr folder.
    n_times : int
        Number of time points.
    layout : Layout
        Of each time point.

    Yields
    ------
    TimeSeries
        `put` or `link` a time point, none for a gap, and last `finish`.
    """
    FORMATS[IN_TIME].check_package("stitch.time")
    with whole(path) as temporary:
        yield TimeSeries(temporary, Path(path), n_times, layout)


def read_notes(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the attributes of a volume in time, and its provenance.

    Empty if there is none, or it cannot be read.

    Parameters
    ----------
    path : path
        An OME-Zarr folder.

    Returns
    -------
    dict, dict
        Attributes and provenance, as `TimeSeries.finish` stored them.
    """
    try:
        notes = read_attributes(Path(path))["tomopipe"]
        return dict(notes["attributes"]), dict(notes["provenance"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}


def time_step(times_s: Sequence[float | None]) -> float | None:
    """Return the time between neighbours (s) if all are as far apart, to a tenth; else None.

    Parameters
    ----------
    times_s : sequence of float or None
        Times; None where it is not known.

    Returns
    -------
    float or None
        The step; None also if fewer than two times are known.
    """
    known = [(t, time_s) for t, time_s in enumerate(times_s) if time_s is not None]
    if len(known) < 2:
        return None
    (first, start_s), (last, end_s) = known[0], known[-1]
    step_s = (end_s - start_s) / (last - first)
    off_s = max(abs(time_s - start_s - step_s * (t - first)) for t, time_s in known)
    return step_s if step_s > 0 and off_s <= _OFF_STEP * step_s else None


def _stored_as(folder: Path) -> Any:
    """Return how an array is stored, whatever the number of its time points; None without one."""
    try:
        name = "zarr.json" if (folder / "zarr.json").exists() else ".zarray"
        content = json.loads(no_pipe(folder / name).read_text("utf-8"))
        return content | {"shape": content["shape"][1:]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
