"""TIFF: the labelled stack of a try sweep, series of slices with TomoGUI's file names, volumes.

A volume is a folder of slices, with its mid planes and provenance.
"""

import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from tomopipe.paths import no_pipe
from tomopipe.storage import checksums
from tomopipe.storage.atomic import keep_aside, whole, write_json
from tomopipe.volume_formats import FORMATS
from tomopipe.volumes import volume_h5
from tomopipe.volumes.direct_io import direct_writer
from tomopipe.volumes.preview import stored_averages
from tomopipe.volumes.volume_h5 import MID_PLANES_FILE, notes_file, open_file
from tomopipe.volumes.volume_read import HEIGHT, Layout, Map, Slices, Store, Stored

_PROVENANCE = FORMATS["tiff"].mark
_SOFTWARE = "tomopipe"
_TRY_SLICES = "recon_slice*_center*.tiff"


def write_try_stack(
    images: Iterable[NDArray[np.uint16]],
    cor_px: ArrayLike,
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int],
) -> None:
    """Write the slices of a sweep with `write_stack`, each labelled with its COR, unbinned px.

    Labels such as "COR 1024.50" have two decimals, or four if needed.
    """
    exact = ((cor, abs(cor - round(cor, 2)) < 1e-6) for cor in np.asarray(cor_px, float))
    labels = [f"COR {cor:.2f}" if two else f"COR {cor:.4f}" for cor, two in exact]
    write_stack(images, labels, path, shape=shape)


def write_stack(
    images: Iterable[NDArray[Any]],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, ...],
    dtype: Any = np.uint16,
) -> None:
    """Write one TIFF, atomically, that ImageJ opens as a stack with a label for each page.

    Parameters
    ----------
    images : iterable of ndarray, shape (n_y, n_x)
        Pages, which are written as they come; those of uint16 are shown from 0 to 65535.
    labels : sequence of str
        One for each page.
    path : path
        The file.
    shape : (int, int)
        Rows and columns of a page.
    dtype : numpy type
        Of the pages.
    """
    window = {"min": 0.0, "max": 65535.0} if dtype == np.uint16 else {}
    with whole(path) as temporary:
        tifffile.imwrite(
            temporary,
            iter(images),
            shape=(len(labels), *shape),
            dtype=dtype,
            imagej=True,
            photometric="minisblack",
            software=_SOFTWARE,
            metadata={"axes": "ZYX", "Labels": list(labels), **window},
        )


def try_slice_name(row: int, cor_px: float) -> str:
    """Return TomoGUI's name for the slice of one row and one COR."""
    return f"recon_slice{row:04d}_center{cor_px:05.2f}.tiff"


def try_slice_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """List the slices named by `try_slice_name`, by row, then COR, as numbers."""
    return sorted(Path(folder).glob(_TRY_SLICES), key=_natural)


def remove_try_slices(folder: str | os.PathLike[str], *, foreign: bool) -> None:
    """Remove the slices of an earlier sweep, which would stand beside the new ones.

    With `foreign` slices of these names that another program wrote are kept under other names.
    """
    for path in try_slice_paths(folder):
        if is_ours(path):
            path.unlink(missing_ok=True)
        elif foreign:
            keep_aside(path)


def write_slice(image: ArrayLike, path: str | os.PathLike[str]) -> None:
    """Write one slice (n_y, n_x), float32; the caller makes the series appear atomically."""
    pixels = np.asarray(image, dtype=np.float32)
    tifffile.imwrite(path, pixels, photometric="minisblack", software=_SOFTWARE)


def slice_path(folder: str | os.PathLike[str], row: int) -> Path:
    """Return the file of the slice `row` of a volume: recon_00000.tiff."""
    return Path(folder) / f"recon_{row:05d}.tiff"


def slice_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """List the slices of a volume by number (as text 100000 would come before 99999)."""
    return sorted(Path(folder).glob("recon_[0-9]*.tiff"), key=_natural)


def _natural(path: Path) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?=_|\.tiff)", path.name)]


def is_ours(path: Path) -> bool:
    """Tell whether this program wrote a slice."""
    try:
        with tifffile.TiffFile(no_pipe(path)) as file:
            return file.pages.first.software == _SOFTWARE
    except (OSError, tifffile.TiffFileError):
        return False


@contextmanager
def store(temporary: Path, layout: Layout) -> Iterator[Store]:
    """Yield the store of a series: recon_00000.tiff and on, mid_planes.h5, provenance.json."""
    temporary.mkdir()
    about = json.dumps(layout.attributes | layout.scaling, sort_keys=True)
    options: dict[str, Any] = {"photometric": "minisblack", "software": _SOFTWARE}
    options |= _resolution(layout)
    options |= {"shape": layout.shape[1:], "dtype": layout.encoding.dtype}
    if layout.compression == "gzip":
        options |= {"compression": "zlib", "predictor": False}

    def content_of(image: Any) -> memoryview:
        file = io.BytesIO()  # tifffile's own error of a full disk has no errno
        tifffile.imwrite(file, image, description=about, metadata=None, **options)
        return file.getbuffer()

    # uncompressed files differ only in the pixels at their end
    n_bytes = math.prod(layout.shape[1:]) * np.dtype(layout.encoding.dtype).itemsize
    header = bytes(content_of(None)[:-n_bytes]) if layout.compression == "none" else b""

    def write_one(number: int, image: Slices) -> None:
        stored = np.ascontiguousarray(layout.encoding.encode(image))
        path = slice_path(temporary, number)
        first_part = header or content_of(stored)
        path.write_bytes(first_part)
        checksums.written(path, 0, first_part)
        if header:
            with direct_writer(path) as write:
                write(stored, len(header))
            checksums.written(path, len(header), stored)
        checksums.remember(path, checksums.finish(path))

    def put(first: int, slices: Slices, each: Map) -> None:
        number = layout.origin.number + first
        list(each(write_one, range(number, number + len(slices)), slices))

    def finish(attributes: dict[str, Any]) -> None:
        notes = {"attributes": attributes, "provenance": layout.provenance}
        write_json(notes, temporary / _PROVENANCE)

    with notes_file(temporary / MID_PLANES_FILE, layout) as (planes, preview):
        yield Store(put, planes, finish, preview.add)


def read(path: Path, stack: ExitStack) -> Stored:
    """Open a volume."""
    notes = json.loads(no_pipe(path / _PROVENANCE).read_text(encoding="utf-8"))
    averages = stored_averages(stack.enter_context(open_file(path)))
    rows = _Series(slice_paths(path))
    return {1: rows} | averages, rows, notes["attributes"], notes["provenance"]


read_planes, read_provenance = volume_h5.read_planes, volume_h5.read_provenance


class _Series:
    """A folder of TIFF slices, indexed like an array; reads only parts of uncompressed ones."""

    def __init__(self, paths: list[Path]) -> None:
        if not paths:
            raise ValueError("there are no slices")
        self._paths = paths
        with tifffile.TiffFile(no_pipe(paths[0])) as file:
            page = file.pages.first
            self.dtype: np.dtype[Any] = np.dtype(page.dtype)
            self.shape = (len(paths), *page.shape)
            # slices of a volume have one header
            self._offset = page.dataoffsets[0] if page.is_contiguous else None

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if not isinstance(key, tuple):
            return np.asarray(tifffile.imread(no_pipe(self._paths[key])))
        rows, *rest = key
        if isinstance(rows, slice):
            return np.stack([self._image(path)[tuple(rest)] for path in self._paths[rows]])
        return self._image(self._paths[rows])[tuple(rest)]

    def _image(self, path: Path) -> NDArray[Any]:
        if self._offset is None:
            return np.asarray(tifffile.imread(no_pipe(path)))
        return np.memmap(no_pipe(path), self.dtype, "r", self._offset, self.shape[1:])


def _resolution(layout: Layout) -> dict[str, Any]:
    """Return the size of voxels and the scale of values for viewers and ImageJ."""
    # ImageJ reads the last of two descriptions, with pixels per cm for its um; others the first
    size_um, units = layout.attributes.get("voxel_size_um"), layout.attributes.get("units", "")
    lines, result = ["ImageJ=1.11a"], dict[str, Any]()
    if size_um:
        lines += ["unit=um", f"spacing={layout.attributes.get(HEIGHT, size_um):.9g}"]
        result = {"resolution": (1e4 / size_um,) * 2, "resolutionunit": "CENTIMETER"}
    if layout.encoding.is_whole:
        lines += ["cf=0", f"c0={layout.encoding.offset!r}", f"c1={layout.encoding.scale!r}"]
    text = "\n".join([*lines, f"vunit={units or 'value'}", ""])
    return result | {"extratags": [("ImageDescription", "s", 0, text, True)]}
