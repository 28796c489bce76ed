"""TIFF: the labelled stack of a try sweep, and series of slices with TomoGUI's file names."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

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
    labels: Sequence[str] | None = None,
) -> None:
    """Write one TIFF that ImageJ opens as a stack, every page labelled with its COR.

    Parameters
    ----------
    images : iterable of ndarray of uint16, shape (n_y, n_x)
        The pages, in the order of `cor_px`; they are written as they come.
    cor_px : array_like of float, shape (n_cor,)
        COR of each page, unbinned detector pixels, ascending.
    path : path-like
        The file, written whole.
    shape : tuple of int
        (n_y, n_x) of a page.
    labels : sequence of str, optional
        Other labels than those of `cor_px`.

    Raises
    ------
    ValueError
        If the CORs do not ascend: the stack would not be in their order.
    """
    cor_px = np.asarray(cor_px, dtype=float)
    if (np.diff(cor_px) <= 0).any():
        raise ValueError(f"{path}: the CORs must ascend, got {cor_px.tolist()}")
    texts = list(labels) if labels is not None else [cor_label(value) for value in cor_px]
    with whole(path) as temporary:
        tifffile.imwrite(
            temporary,
            iter(images),
            shape=(len(texts), *shape),
            dtype=np.uint16,
            imagej=True,
            photometric="minisblack",
            software=_SOFTWARE,
            metadata={"axes": "ZYX", "Labels": texts, "min": 0.0, "max": 65535.0},
        )


def write_labelled_stack(
    images: Sequence[NDArray[np.float32]], labels: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Write float32 images of one size as a TIFF that ImageJ opens as a stack with labels.

    Parameters
    ----------
    images : sequence of ndarray of float32, shape (n_y, n_x)
        The pages.
    labels : sequence of str
        One per page.
    path : path-like
        The file, written whole.
    """
    with whole(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.stack(images).astype(np.float32),
            imagej=True,
            photometric="minisblack",
            software=_SOFTWARE,
            metadata={"axes": "ZYX", "Labels": list(labels)},
        )


def try_slice_name(row: int, cor_px: float) -> str:
    """Return TomoGUI's name for the slice of one row and one COR."""
    return f"recon_slice{row:04d}_center{cor_px:05.2f}.tiff"


def try_slice_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """List the slices named by `try_slice_name`, by row, then COR, as numbers."""
    return sorted(Path(folder).glob(_TRY_SLICES), key=_natural)


def remove_try_slices(folder: str | os.PathLike[str], *, foreign: bool) -> None:
    """Remove the slices of an earlier sweep, which would stand beside the new ones.

    Parameters
    ----------
    folder : path-like
        Where they are.
    foreign : bool
        Also those that another program wrote under these names.
    """
    for path in try_slice_paths(folder):
        if foreign or is_ours(path):
            path.unlink(missing_ok=True)


def write_slice(image: ArrayLike, path: str | os.PathLike[str]) -> None:
    """Write one float32 slice; the caller sees to it that a series appears whole.

    Parameters
    ----------
    image : array_like of float, shape (n_y, n_x)
        The slice.
    path : path-like
        The file.
    """
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
