"""The sweep around the chosen COR: the same crop of a few try slices, side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.files import ROWS, SWEEP
from tomopipe.errors import TomopipeError
from tomopipe.storage.json_files import number

#: Side of the crop that is shown, in pixels of the try slices.
CROP_PX = 96
_CELLS = 12  # along half a side of the crop
#: Distances from the chosen COR, in pixels of the try slices: nearer ones look the same.
_OFFSETS_PX = (-6, -2, 0, 2, 6)
_MEMORY_BYTES = 2**30
_PERCENT = (0.5, 99.5)
# the brightest 2 % of the plane may widen the window by no more than noise does
_MOST_PERCENT = (2.0, 98.0)
_MARGIN = 0.15


@dataclass(frozen=True, eq=False)
class Sweep:
    """Try slices, or crops of them, and their CORs."""

    # (n_y, n_x): the COR ascending; crops are uint8, in one grey window
    images: Sequence[NDArray[Any]]
    cor_px: tuple[float, ...]  # COR of each, unbinned detector pixels
    chosen: int  # the one nearest to the chosen COR


def open_stack(path: Path) -> NDArray[np.uint16]:
    """Memory-map the pages of a try stack, so that single pages can be read.

    Raises TomopipeError if it is not a stack of 16-bit slices.
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


def in_sweep(grid_px: Sequence[float], cor_px: float) -> bool:
    """Tell whether a COR is among those of a sweep, to half a step."""
    half_px = step_of(grid_px) / 2
    return grid_px[0] - half_px <= cor_px <= grid_px[-1] + half_px


def step_of(grid_px: Sequence[float]) -> float:
    """Return the step of a sweep; half a pixel where there is one COR only."""
    n = len(grid_px)
    return (grid_px[-1] - grid_px[0]) / (n - 1) if n > 1 else 0.5


def slices_around(
    try_tif: Path, cor_px: float, offsets_px: Sequence[float] = (0,), max_size_px: int | None = None
) -> Sweep | None:
    """Return the try slice at a COR, and those at a distance from it.

    The nearest pages of the stack; slices made from rows.h5 where the sweep does not reach the COR
    or the stack was removed.
    None if the sweep failed, there are no rows, or the COR lies off the detector.

    Parameters
    ----------
    try_tif : Path
        The stack; try.json and rows.h5 are beside it.
    cor_px : float
        The COR, unbinned detector pixels.
    offsets_px : sequence of float
        Distances from it in pixels of the slices, 0 among them.
    max_size_px : int, optional
        Most columns of slices that are made; None: as many as those of the stack, which is needed.
    """
    grid = json.loads(try_tif.with_name(SWEEP).read_bytes())
    values_px = np.asarray(grid.get("cor_px", []), dtype=float)
    if not values_px.size:
        return None
    if max_size_px and not try_tif.exists():
        return _made(try_tif, grid, cor_px, offsets_px, max_size_px)
    pages = open_stack(try_tif)
    if len(pages) != values_px.size:
        raise TomopipeError(f"{try_tif}: {len(pages)} slices for {values_px.size} CORs.")
    if not in_sweep(values_px.tolist(), cor_px):
        return _made(try_tif, grid, cor_px, offsets_px, max_size_px or pages.shape[-1])
    binning = number(grid.get("binning")) or 1.0
    wanted_px = [cor_px + binning * offset for offset in offsets_px]
    results = sorted({int(np.abs(values_px - target).argmin()) for target in wanted_px})
    chosen = int(np.abs(values_px - cor_px).argmin())
    images = [pages[page] for page in results]  # read when they are looked at
    return Sweep(images, tuple(values_px[results].tolist()), results.index(chosen))


def _made(
    try_tif: Path,
    grid: Mapping[str, Any],
    cor_px: float,
    offsets_px: Sequence[float],
    max_size_px: int,
) -> Sweep | None:
    """Reconstruct slices from the first row that try_recon kept, as wide as in the volume."""
    from tomopipe.cor.rows_file import read_rows
    from tomopipe.stream.try_sweep import SweepOptions, slices_of, sweep_of  # numba

    path = try_tif.with_name(ROWS)
    if not path.exists():
        return None
    rows = read_rows(path)
    stated = (grid.get("made_from") or {}).get("options", {}).get("preprocess", {})
    options = SweepOptions(stated.get("half_acquisition", "auto"), "cpu", None, _MEMORY_BYTES)
    job = sweep_of(rows, 0, np.array([cor_px]), max_size_px, options)
    wanted_px = cor_px + job.binning * np.asarray(offsets_px, dtype=float)
    last_px = rows.first_col + rows.sinograms.shape[2] - 1
    wanted_px = wanted_px[(wanted_px >= rows.first_col) & (wanted_px <= last_px)]
    if cor_px not in wanted_px:
        return None
    images = list(slices_of(replace(job, cor_px=wanted_px), options))
    return Sweep(images, tuple(wanted_px.tolist()), wanted_px.tolist().index(cor_px))


def read_sweep(try_tif: Path, cor_px: float) -> Sweep | None:
    """Crop the slices around a COR, as uint8, to where most edges are; None if there are none."""
    result = slices_around(try_tif, cor_px, _OFFSETS_PX)
    if result is None:
        return None
    part = telling_part(result.images[result.chosen])
    crops = np.stack([image[part] for image in result.images]).astype(np.float32)
    return replace(result, images=list(in_grey(crops, *grey_window(crops[result.chosen]))))


def telling_part(page: NDArray[Any], side_px: int = CROP_PX) -> tuple[slice, slice]:
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


def grey_window(plane: NDArray[np.floating]) -> tuple[float, float]:
    """Return the grey window of a plane: the 0.5 and 99.5 percentiles of its finite values.

    A bright inclusion of up to 2 % of the plane is white and does not darken the rest. White is
    above black also for a constant or empty plane.
    """
    finite = plane[np.isfinite(plane)]
    if not finite.size:
        return 0.0, 1.0
    percent = np.percentile(finite, (*_PERCENT, *_MOST_PERCENT))
    low, high, dark, bright = (float(value) for value in percent)
    if bright > dark:
        margin = _MARGIN * (bright - dark)
        low, high = max(low, dark - margin), min(high, bright + margin)
    return (low, high) if high > low else (low, low + 1.0)


def in_grey(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Map a grey window to 0..255."""
    return (np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)
