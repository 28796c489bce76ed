"""The sweep around the chosen COR: the same crop of a few try slices, side by side."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.files import SWEEP
from tomopipe.errors import TomopipeError
from tomopipe.report.grey import grey_window

#: Side of the crop that is shown, in pixels of the try slices.
CROP_PX = 96
_CELLS = 12  # along half a side of the crop
#: Distances from the chosen COR, in pixels of the try slices: nearer ones look the same.
_OFFSETS_PX = (-6, -2, 0, 2, 6)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Crops of try slices, and their CORs.

    Attributes
    ----------
    crops : ndarray of uint8, shape (n, n_y, n_x)
        In one grey window, the COR ascending.
    cor_px : tuple of float
        COR of each, unbinned detector pixels.
    chosen : int
        The one nearest to the chosen COR.
    """

    crops: NDArray[np.uint8]
    cor_px: tuple[float, ...]
    chosen: int


def open_stack(path: Path) -> NDArray[np.uint16]:
    """Memory-map the pages of a try stack, so that single pages can be read.

    Raises
    ------
    TomopipeError
        If it is not a stack of 16-bit slices.
    """
    import tifffile

    pages: NDArray[np.uint16]
    try:
        pages = tifffile.memmap(path, mode="r")
    except ValueError:  # compressed by another program
        pages = tifffile.imread(path)
    if pages.ndim < 2 or pages.dtype != np.uint16:
        raise TomopipeError(f"{path}: expected a stack of 16-bit slices. Run try_recon again.")
    return pages.reshape(-1, *pages.shape[-2:])


def read_sweep(try_tif: Path, cor_px: float) -> Sweep | None:
    """Read crops of the try slices around a COR, where most edges are.

    Parameters
    ----------
    try_tif : Path
        The stack; try.json is beside it.
    cor_px : float
        The chosen COR, unbinned detector pixels.

    Returns
    -------
    Sweep or None
        None if the sweep failed or does not reach the COR.
    """
    grid = json.loads(try_tif.with_name(SWEEP).read_bytes())
    values_px = np.asarray(grid.get("cor_px", []), dtype=float)
    if values_px.size < 2:
        return None
    step_px = float(np.diff(values_px).max())
    if not values_px[0] - step_px <= cor_px <= values_px[-1] + step_px:
        return None
    pages = open_stack(try_tif)
    if len(pages) != values_px.size:
        raise TomopipeError(f"{try_tif}: {len(pages)} slices for {values_px.size} CORs.")
    binning = float(_number(grid.get("binning")) or 1.0)
    wanted_px = [cor_px + binning * offset for offset in _OFFSETS_PX]
    found = sorted({int(np.abs(values_px - wanted).argmin()) for wanted in wanted_px})
    chosen = int(np.abs(values_px - cor_px).argmin())
    part = telling_part(pages[chosen])
    crops = np.stack([pages[at][part] for at in found]).astype(np.float32)
    low, high = grey_window(crops[found.index(chosen)])
    grey = (np.clip((crops - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
    return Sweep(grey, tuple(float(values_px[at]) for at in found), found.index(chosen))


def telling_part(page: NDArray[np.uint16], side_px: int = CROP_PX) -> tuple[slice, slice]:
    """Choose the square of `side_px` with most edges, where a wrong COR is most visible.

    Only the circle that is seen at all angles is considered.
    """
    n_y, n_x = page.shape
    cell_px = side_px // (2 * _CELLS)
    block_px = _CELLS * cell_px
    if min(n_y, n_x) <= side_px:
        return slice(0, n_y), slice(0, n_x)
    tiles_y, tiles_x = n_y // block_px, n_x // block_px
    cells = page[: tiles_y * block_px, : tiles_x * block_px].astype(np.float32)
    cells = cells.reshape(_CELLS * tiles_y, cell_px, _CELLS * tiles_x, cell_px).mean(axis=(1, 3))
    slope_y, slope_x = np.gradient(cells)  # of means: edges count, noise hardly does
    edges = (slope_y**2 + slope_x**2).reshape(tiles_y, _CELLS, tiles_x, _CELLS).mean(axis=(1, 3))
    squares = edges[:-1, :-1] + edges[1:, :-1] + edges[:-1, 1:] + edges[1:, 1:]
    y, x = np.indices(squares.shape)
    away = np.hypot((y + 1) * block_px - n_y / 2, (x + 1) * block_px - n_x / 2)
    inside = away + block_px * np.sqrt(2) <= min(n_y, n_x) / 2
    squares = np.where(inside, squares, -1.0)
    at_y, at_x = np.unravel_index(int(squares.argmax()), squares.shape)
    top, left = int(at_y) * block_px, int(at_x) * block_px
    return slice(top, top + side_px), slice(left, left + side_px)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
