"""Pictures: pages of the try stack, slices at any COR, opposed projections laid over each other."""

import io
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import on_host
from tomopipe.campaign.files import ROWS, SWEEP, TRY_STACK
from tomopipe.campaign.results import read_json
from tomopipe.cor.rows_file import Rows, read_rows
from tomopipe.errors import TomopipeError
from tomopipe.geometry import bin_cor
from tomopipe.prep.half_acquisition import (
    FACTOR,
    HalfAcquisition,
    is_half_acquisition,
    widen_for_each,
)
from tomopipe.recon.angular_sampling import is_full_turn, unpaired
from tomopipe.recon.array import array_module
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import Plan, make_plan
from tomopipe.report.strips import open_stack

_LANES = 4  # a single slice is asked for: more lanes would only take memory
_WINDOW_PERCENT = (0.1, 99.9)
_KEPT_PICTURES = 24


class Kept:
    """The last few results of slow functions, by key; safe among threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what is kept for `key`, making it if need be."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        made = make()
        with self._lock:
            self._items[key] = made
            while len(self._items) > self._most:
                self._items.popitem(last=False)
        return made


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan held in memory: its rows, the plan of its angles, the grey window of its sweep."""

    rows: Rows
    plan: Plan
    window: tuple[float, float] | None


class Pictures:
    """Makes the pictures of a campaign, with the rows and plans of the last scans kept.

    Parameters
    ----------
    folder : Path
        results/try_center; nothing outside it is read.
    filter : str
        Of the reconstruction.
    device : str
        auto, cpu or cuda.
    half_acquisition : callable, optional
        Returns preprocess.half_acquisition of a scan: which slices off the sweep are as wide as
        those of a volume; None: all are as wide as those of the sweep.
    """

    def __init__(
        self,
        folder: Path,
        *,
        filter: str,
        device: str,
        half_acquisition: Callable[[str], str] | None = None,
    ) -> None:
        self.folder = folder
        self._half_acquisition = half_acquisition
        self._filter = filter
        self._device = device
        self._rows = Kept(3)
        self._scans = Kept(3)
        self._stacks = Kept(8)
        self._png = Kept(_KEPT_PICTURES)
        self._working = threading.Lock()  # the engine uses all cores: one slice at a time

    def path(self, scan: str, name: str) -> Path:
        """Return the path of a file of a scan; raise if it leads out of the campaign."""
        path = self.folder / scan / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise TomopipeError(f"{scan}: {name} lies outside the campaign.")
        if not path.is_file():
            raise TomopipeError(f"{scan}: there is no {name} yet. Run try_recon.")
        return path

    def grid(self, scan: str) -> dict[str, Any]:
        """Return try.json of a scan."""
        return read_json(self.path(scan, SWEEP), "the grid of try_recon")

    def page(self, scan: str, index: int) -> bytes:
        """Return one page of the try stack as PNG, in the window of the sweep.

        A stack that was removed is made again, page by page, from the rows that were kept.
        """
        if not (self.folder / scan / TRY_STACK).is_file():
            return self._page_of_rows(scan, index)
        path = self.path(scan, TRY_STACK)
        key = (scan, _version(path))
        pages = self._stacks.get(key, lambda: open_stack(path))
        if not 0 <= index < len(pages):
            raise TomopipeError(f"{scan}: expected a page from 0 to {len(pages) - 1}; got {index}.")
        return png((pages[index] >> 8).astype(np.uint8))

    def page_at(self, scan: str, cor_px: float) -> bytes:
        """Return the page that the sweep would have at any COR, made from the rows kept."""
        from PIL import Image

        binning = int(self.grid(scan).get("binning", 1))
        full = Image.open(io.BytesIO(self.slice(scan, cor_px, 0)))
        side = full.width // binning
        whole = full.crop((0, 0, side * binning, side * binning))
        return png(np.asarray(whole.reduce(binning)))

    def _page_of_rows(self, scan: str, index: int) -> bytes:
        grid = self.grid(scan)
        values_px = grid.get("cor_px", [])
        if not 0 <= index < len(values_px):
            raise TomopipeError(
                f"{scan}: expected a page from 0 to {len(values_px) - 1}; got {index}."
            )
        return self.page_at(scan, values_px[index])

    def slice(self, scan: str, cor_px: float, row: int) -> bytes:
        """Return the slice of one kept row at any COR, full size, in the window of the sweep."""
        version = _version(self.path(scan, ROWS))
        return self._png.get(
            (scan, version, round(cor_px, 4), row), lambda: self._slice(scan, cor_px, row)
        )

    def _slice(self, scan: str, cor_px: float, row: int) -> bytes:
        with self._working:
            held = self._held(scan, cor_px)
            if not 0 <= row < len(held.rows.sinograms):
                raise TomopipeError(
                    f"{scan}: {len(held.rows.sinograms)} rows are kept; got number {row}."
                )
            sinogram = held.plan.xp.asarray(held.rows.sinograms[row : row + 1])
            place = float(bin_cor(cor_px, x0=held.rows.first_col))
            if held.plan.n_cols > sinogram.shape[2]:
                wide, wide_cor_px = widen_for_each(
                    sinogram[0], np.array([place]), held.plan.unpaired, held.rows.falls_per_px
                )
                image = on_host(reconstruct(wide, held.plan, wide_cor_px))[0]
            else:
                image = on_host(reconstruct(sinogram, held.plan, place))[0]
        low, high = held.window or tuple(np.percentile(image, _WINDOW_PERCENT))
        return png(grey(image, float(low), float(high)))

    def overlay(self, scan: str, cor_px: float, pair: int) -> bytes:
        """Return opposed projections, the second mirrored at the COR: grey where they agree."""
        with self._working:
            rows = self._read(scan)
        if not 0 <= pair < len(rows.pairs):
            raise TomopipeError(f"{scan}: {len(rows.pairs)} opposed pairs are kept; got {pair}.")
        first, second = rows.pairs[pair]
        mirrored = mirror(second, float(bin_cor(cor_px, x0=rows.first_col)))
        low, high = (float(v) for v in np.percentile(first, (0.5, 99.5)))
        one, other = grey(first, low, high), grey(mirrored, low, high)
        return png(np.stack([one, other, one], axis=-1))

    def details(self, scan: str) -> dict[str, Any]:
        """Return what can be asked for of a scan: detector rows, width, pairs."""
        with self._working:
            rows = self._read(scan)
        return {
            "rows": rows.row_index.tolist(),
            "n_cols": int(rows.sinograms.shape[2]),
            "first_col": rows.first_col,
            "n_rows": rows.n_rows,
            "n_pairs": len(rows.pairs),
            "pair_deg": np.rad2deg(rows.pair_theta_rad).round(2).tolist(),
        }

    def _read(self, scan: str) -> Rows:
        path = self.path(scan, ROWS)
        rows: Rows = self._rows.get((scan, _version(path)), lambda: read_rows(path))
        if rows.failed:
            raise TomopipeError(f"{scan}: {rows.failed}")
        return rows

    def _held(self, scan: str, cor_px: float) -> _Scan:
        rows, grid = self._read(scan), self.grid(scan)
        half, middle_px = self._width(scan, rows, grid, cor_px)
        path = self.path(scan, ROWS)
        held: _Scan = self._scans.get(
            (scan, _version(path), half, half and round(middle_px)),
            lambda: self._load(rows, grid, half, middle_px),
        )
        return held

    def _width(
        self, scan: str, rows: Rows, grid: dict[str, Any], cor_px: float
    ) -> tuple[bool, float]:
        """Tell whether slices are twice as wide as the detector, and the column their edges go by.

        In the sweep they are all of one width, which goes by its middle; off it, by their own COR,
        as in the volume.
        """
        half, n_cols = bool(grid.get("half_acquisition")), rows.sinograms.shape[2]
        values_px = grid.get("cor_px") or [cor_px]
        if values_px[0] <= cor_px <= values_px[-1]:
            return half, (values_px[0] + values_px[-1]) / 2 - rows.first_col
        place_px = float(bin_cor(cor_px, x0=rows.first_col))
        if self._half_acquisition is not None and self._half_acquisition(scan) == "auto":
            full_turn = is_full_turn(rows.theta_rad)
            half = is_half_acquisition("auto", full_turn=full_turn, cor_px=place_px, n_cols=n_cols)
        return half, place_px

    def _load(self, rows: Rows, grid: dict[str, Any], half: bool, middle_px: float) -> _Scan:
        n_cols, falls_per_px = rows.sinograms.shape[2], rows.falls_per_px
        if half:
            alone = unpaired(rows.theta_rad)
            falls_per_px = HalfAcquisition(n_cols, middle_px, alone, falls_per_px).wide_falls()
        plan = make_plan(
            rows.theta_rad,
            (FACTOR if half else 1) * n_cols,
            one_sided=half,
            falls_per_px=falls_per_px,
            filter=self._filter,
            xp=array_module(self._device),
            lanes=_LANES,
        )
        window = grid.get("window")
        return _Scan(rows, plan, (float(window[0]), float(window[1])) if window else None)


def grid_around(
    grid_px: Sequence[float], cor_px: float | None, columns: tuple[int, int]
) -> Sequence[float]:
    """Return the CORs to leaf through: those of the sweep, or as many in its steps about another.

    Parameters
    ----------
    grid_px : sequence of float
        CORs of the sweep, ascending.
    cor_px : float or None
        The COR that is shown.
    columns : (int, int)
        First and last column in use; a COR is one of them or between them.
    """
    n = len(grid_px)
    step_px = (grid_px[-1] - grid_px[0]) / (n - 1) if n > 1 else 0.5
    if cor_px is None or grid_px[0] - step_px / 2 <= cor_px <= grid_px[-1] + step_px / 2:
        return grid_px
    around = [round(cor_px + step_px * k, 4) for k in range(-(n // 2), n // 2 + 1)]
    return [value for value in around if columns[0] <= value <= columns[1]] or grid_px


def mirror(projection: NDArray[np.float32], cor_px: float) -> NDArray[np.float32]:
    """Mirror a projection at a column.

    Parameters
    ----------
    projection : ndarray of float32, shape (n_rows, n_cols)
        Seen from the other side.
    cor_px : float
        Where, pixels: column c comes to 2 * cor_px - c.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_cols)
        Interpolated between columns; the edge columns go on outside.
    """
    n_cols = projection.shape[1]
    wanted = np.clip(2 * cor_px - np.arange(n_cols), 0, n_cols - 1)
    left = np.minimum(wanted.astype(int), max(n_cols - 2, 0))
    part = (wanted - left).astype(np.float32)
    right = np.minimum(left + 1, n_cols - 1)
    return projection[:, left] * (1 - part) + projection[:, right] * part


def grey(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale an image to 8 bits, `low` to black and `high` to white."""
    scale = 255 / (high - low) if high > low else 0.0
    return np.clip((image - low) * scale + 0.5, 0, 255).astype(np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode quickly: the way is short, the person waits."""
    from PIL import Image

    stream = io.BytesIO()
    # noise holds no repeats: runs alone are looked for, which is faster and smaller here
    Image.fromarray(image).save(stream, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return stream.getvalue()


def _version(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size
