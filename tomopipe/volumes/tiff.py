"""TIFF: the labelled stack of a try sweep, and series of slices with TomoGUI's file names."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray

from tomopipe.storage.atomic import whole

_SOFTWARE = "tomopipe"
_TRY_SLICES = "recon_slice*_center*.tiff"


def cor_label(cor_px: float) -> str:
    """Return the label of a page, "COR 1024.50": two decimals, four where they are needed."""
    return f"COR {cor_px:.2f}" if abs(cor_px - round(cor_px, 2)) < 1e-6 else f"COR {cor_px:.4f}"


def write_try_stack(
    images: Iterable[NDArray[np.uint16]],
    cor_px: ArrayLike,
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int],
) -> None:
    """Write the slices of a sweep with `write_stack`, each labelled with its COR, unbinned px."""
    labels = [cor_label(value) for value in np.asarray(cor_px, float)]
    write_stack(images, labels, path, shape=shape)


def write_stack(
    images: Iterable[NDArray[Any]],
    labels: Sequence[str],
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, ...],
    dtype: Any = np.uint16,
) -> None:
    """Write one TIFF, whole, that ImageJ opens as a stack with a label for each page.

    Pages, of `shape` (n_y, n_x), are written as they come; those of uint16 are shown from 0 to
    65535.
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

    With `foreign` also those that another program wrote under these names.
    """
    for path in try_slice_paths(folder):
        if foreign or is_ours(path):
            path.unlink(missing_ok=True)


def write_slice(image: ArrayLike, path: str | os.PathLike[str]) -> None:
    """Write one slice (n_y, n_x), float32; the caller sees to it that a series appears whole."""
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
        with tifffile.TiffFile(path) as file:
            return file.pages.first.software == _SOFTWARE
    except (OSError, tifffile.TiffFileError):
        return False
