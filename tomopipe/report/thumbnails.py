"""Small pictures: mid planes of a volume, and strips of the slices around a COR."""

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.files import ROWS, SWEEP
from tomopipe.errors import TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.storage.json_files import number

#: Side of a crop, in pixels of the try slices.
CROP_PX = 96
_CELLS = 12  # cells along half a side of the crop
#: Least correlation of neighbouring pixels in a crop with structure; that of noise is not positive.
_STRUCTURE = 0.3
_MOST_BINNING = 8
#: Distances from the chosen COR, in pixels of the try slices: closer ones look alike.
_OFFSETS_PX = (-6, -2, 0, 2, 6)
_PAGE_PX = 1024  # the default of try_recon.max_size_px
_MEMORY_BYTES = 2**30
_PERCENT = (0.5, 99.5)
_MOST_PERCENT = (2.0, 98.0)  # a window extends beyond these by at most `_MARGIN` of their distance
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
        pages = tifffile.memmap(no_pipe(path), mode="r")
    except ValueError:  # compressed by another program
        pages = tifffile.imread(no_pipe(path))
    if pages.ndim < 2 or pages.dtype != np.uint16:
        raise TomopipeError(f"{path}: expected a stack of 16-bit slices. Run try_recon again.")
    return pages.reshape(-1, *pages.shape[-2:])


def in_sweep(grid_px: Sequence[float], cor_px: float) -> bool:
    """Tell whether a COR lies within a sweep, to half a step."""
    half_px = step_of(grid_px) / 2
    return grid_px[0] - half_px <= cor_px <= grid_px[-1] + half_px


def step_of(grid_px: Sequence[float]) -> float:
    """Return the step of a sweep; half a pixel where there is one COR only."""
    n = len(grid_px)
    return (grid_px[-1] - grid_px[0]) / (n - 1) if n > 1 else 0.5


def slices_around(
    try_tif: Path, cor_px: float, offsets_px: Sequence[float] = (0,), max_size_px: int | None = None
) -> Sweep | None:
    """Return the try slice at a COR, and those at given distances from it.

    These are the nearest pages of the stack, or slices made from rows.h5 if the COR is outside the
    sweep or the stack was removed. None if the sweep failed, there are no rows, or the COR is off
    the detector.

    Parameters
    ----------
    try_tif : Path
        The stack; try.json and rows.h5 are beside it.
    cor_px : float
        The COR, unbinned detector pixels.
    offsets_px : sequence of float
        Distances from it in pixels of the slices, 0 among them.
    max_size_px : int, optional
        Most columns of slices that are made; None: as in the stack, or as in most stacks.
    """
    grid = json.loads(no_pipe(try_tif.with_name(SWEEP)).read_bytes())
    values_px = np.asarray(grid.get("cor_px", []), dtype=float)
    if not values_px.size:
        return None
    if not try_tif.exists():
        return _reconstructed(try_tif, grid, cor_px, offsets_px, max_size_px or _PAGE_PX)
    pages = open_stack(try_tif)
    if len(pages) != values_px.size:
        raise TomopipeError(f"{try_tif}: {len(pages)} slices for {values_px.size} CORs.")
    if not in_sweep(values_px.tolist(), cor_px):
        return _reconstructed(try_tif, grid, cor_px, offsets_px, max_size_px or pages.shape[-1])
    binning = number(grid.get("binning")) or 1.0
    targets_px = [cor_px + binning * offset for offset in offsets_px]
    nearest = sorted({int(np.abs(values_px - target).argmin()) for target in targets_px})
    chosen = int(np.abs(values_px - cor_px).argmin())
    images = [pages[page] for page in nearest]  # read on access
    return Sweep(images, tuple(values_px[nearest].tolist()), nearest.index(chosen))


def _reconstructed(
    try_tif: Path,
    grid: Mapping[str, Any],
    cor_px: float,
    offsets_px: Sequence[float],
    max_size_px: int,
) -> Sweep | None:
    """Reconstruct slices of the first row in rows.h5, as wide as in the volume."""
    from tomopipe.cor.collected_rows import read_rows
    from tomopipe.stream.try_sweep import SweepOptions, slices_of, sweep_of  # numba

    path = try_tif.with_name(ROWS)
    if not path.exists():
        return None
    rows = read_rows(path)
    stated = (grid.get("made_from") or {}).get("options", {}).get("preprocess", {})
    options = SweepOptions(stated.get("half_acquisition", "auto"), "cpu", None, _MEMORY_BYTES)
    job = sweep_of(rows, 0, np.array([cor_px]), max_size_px, options)
    cors_px = cor_px + job.binning * np.asarray(offsets_px, dtype=float)
    last_px = rows.first_col + rows.sinograms.shape[2] - 1
    cors_px = cors_px[(cors_px >= rows.first_col) & (cors_px <= last_px)]
    if cor_px not in cors_px:
        return None
    images = list(slices_of(replace(job, cor_px=cors_px), options))
    return Sweep(images, tuple(cors_px.tolist()), cors_px.tolist().index(cor_px))


def read_sweep(try_tif: Path, cor_px: float) -> Sweep | None:
    """Crop the slices around a COR to the part with most edges, as uint8; None without slices."""
    result = slices_around(try_tif, cor_px)
    if result is None:
        return None
    part, binning = informative_crop(result.images[0])
    result = slices_around(try_tif, cor_px, [binning * offset for offset in _OFFSETS_PX])
    return result and _cropped(result, part, binning)


def read_pair(try_tif: Path, cors_px: Sequence[float]) -> Sweep | None:
    """Crop the slices at several CORs as `read_sweep` does; None without the first one."""
    sweeps = [slices_around(try_tif, cor_px) for cor_px in cors_px]
    if not sweeps or sweeps[0] is None:
        return None
    shape = sweeps[0].images[0].shape
    slices = {s.cor_px[0]: s.images[0] for s in sweeps if s and s.images[0].shape == shape}
    sweep = Sweep(list(slices.values()), tuple(slices), 0)
    return _cropped(sweep, *informative_crop(sweep.images[0]))


def _cropped(sweep: Sweep, part: tuple[slice, slice], binning: int) -> Sweep:
    crops = np.stack([binned(image[part], binning) for image in sweep.images])
    return replace(sweep, images=list(in_grey(crops, *grey_window(crops[sweep.chosen]))))


def binned(image: NDArray[Any], binning: int) -> NDArray[np.float32]:
    """Average blocks of an image, (n_y, n_x); incomplete ones are dropped."""
    n_y, n_x = (size // binning for size in image.shape)
    blocks = image[: n_y * binning, : n_x * binning].astype(np.float32)
    return blocks.reshape(n_y, binning, n_x, binning).mean(axis=(1, 3))


def informative_crop(page: NDArray[Any]) -> tuple[tuple[slice, slice], int]:
    """Return the part of a slice to show, and the least binning at which it shows structure."""
    binning = 1
    while True:
        part = informative_part(page, CROP_PX * binning)
        is_largest = binning == _MOST_BINNING or min(page.shape) < 4 * _CELLS * binning
        if is_largest or _structure(binned(page[part], binning)) >= _STRUCTURE:
            return part, binning
        binning *= 2


def _structure(crop: NDArray[np.float32]) -> float:
    """Return the correlation of neighbouring pixels in the middle of a crop: 0 in noise."""
    inset_y, inset_x = (size // 7 for size in crop.shape)
    middle = crop[inset_y : crop.shape[0] - inset_y, inset_x : crop.shape[1] - inset_x]
    away = middle - middle.mean()
    power = float((away**2).mean()) or 1.0
    pairs = (away[1:] * away[:-1]).mean() + (away[:, 1:] * away[:, :-1]).mean()
    return float(pairs) / 2 / power


def informative_part(page: NDArray[Any], side_px: int = CROP_PX) -> tuple[slice, slice]:
    """Choose the square of `side_px` with most edges, where a wrong COR is most visible.

    Only the circle inside the field of view at all angles is considered.
    """
    n_y, n_x = page.shape
    cell_px = side_px // (2 * _CELLS)
    block_px = _CELLS * cell_px
    if min(n_y, n_x) <= side_px:
        return slice(0, n_y), slice(0, n_x)
    tiles_y, tiles_x = n_y // block_px, n_x // block_px
    cells = page[: tiles_y * block_px, : tiles_x * block_px].astype(np.float32)
    cells = cells.reshape(_CELLS * tiles_y, cell_px, _CELLS * tiles_x, cell_px).mean(axis=(1, 3))
    slope_y, slope_x = np.gradient(cells)  # gradients of block means, in which noise is small
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


SIZE_PX = 200
#: Bytes of a picture; a scan has three of them and a strip, with its text under 25 kB as base64.
MAX_BYTES = 3500
#: Side and bytes of a plane in a small campaign, which can be enlarged.
LARGE = (480, 24_000)
SMALL = (SIZE_PX, MAX_BYTES)
_URI = "data:image/webp;base64,"
_QUALITIES = (80, 65, 50, 35, 20)


def to_grey(plane: NDArray[np.floating], *, max_px: int = SIZE_PX) -> NDArray[np.uint8]:
    """Shrink a plane, (n_y, n_x), by averaging, and map its grey window to 0..255.

    Non-finite values become black. `max_px`: longest side of the picture.
    """
    small = _shrunk(plane, max_px)
    return in_grey(small, *grey_window(small))


def _shrunk(plane: NDArray[np.floating], max_px: int) -> NDArray[np.float32]:
    """Average a plane to the size of its picture, whose window is its own: noise is less."""
    from PIL import Image

    values = np.asarray(plane, dtype=np.float32)
    low, _ = grey_window(values)
    values = np.where(np.isfinite(values), values, np.float32(low))
    scale = min(1.0, max_px / max(values.shape))
    n_y, n_x = (max(1, round(n * scale)) for n in values.shape)
    return np.asarray(Image.fromarray(values).resize((n_x, n_y), Image.Resampling.BOX))


def encode(grey: NDArray[np.uint8], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode a picture as WebP, at the best quality within `max_bytes`.

    Noise hardly compresses: if the lowest quality is too large, the picture is halved.
    """
    from PIL import Image

    image = Image.fromarray(grey)
    while True:
        for quality in _QUALITIES:
            stream = io.BytesIO()
            image.save(stream, "WEBP", quality=quality, method=4)
            if stream.tell() <= max_bytes or max(image.size) <= 32:
                return stream.getvalue()
        image = image.reduce((min(2, image.width), min(2, image.height)))


def as_uri(_name: str, data: bytes) -> str:
    """Return a picture as a data URI."""
    return _URI + base64.b64encode(data).decode("ascii")


Source = Callable[[str, bytes], str]
"""A function of name and bytes of a picture that returns its address for the page."""


def make_picture(
    name: str,
    plane: NDArray[np.floating],
    size: tuple[int, int] = SMALL,
    source: Source = as_uri,
) -> dict[str, Any]:
    """Make the picture of a plane (n_y, n_x), `size` pixels at most: a data URI, or a file."""
    values = np.asarray(plane)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"plane {name}: expected 2 dimensions, got shape {values.shape}")
    max_px, max_bytes = size
    small = _shrunk(values, max_px)
    low, high = grey_window(small)
    src = source(name, encode(in_grey(small, low, high), max_bytes=max_bytes))
    height, width = small.shape
    return {
        "plane": name, "src": src, "width": width, "height": height,
        "shape": [*values.shape], "low": low, "high": high,
    }  # fmt: skip


def make_strip(sweep: Sweep, source: Source, name: str) -> dict[str, Any]:
    """Make one picture of the slices of a sweep; `chosen` is the index of the chosen COR."""
    gap = np.zeros((len(sweep.images[0]), 2), np.uint8)
    side_by_side = np.hstack([part for image in sweep.images for part in (gap, image)][1:])
    height, width = side_by_side.shape
    src = source(name, encode(side_by_side))
    picture = {"src": src, "width": width, "height": height}
    return {"picture": picture, "cor_px": [*sweep.cor_px], "chosen": sweep.chosen}


def picture_stem(scan: str) -> str:
    """Return a valid file name, without ending, for any scan name."""
    return hashlib.sha256(scan.encode("utf-8", "surrogateescape")).hexdigest()[:16]
