"""Pictures of a scan, 8 or 16 bits: sweep, slices at any COR, opposing projections, thumbnails."""

import io
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import on_host
from tomopipe.campaign.files import ROWS, SWEEP, TRY_STACK
from tomopipe.campaign.results import read_json
from tomopipe.cor.collected_rows import Rows, read_rows
from tomopipe.errors import TomopipeError
from tomopipe.geometry import bin_cor
from tomopipe.prep.half_acquisition import HalfAcquisition, is_half_acquisition, plan_of
from tomopipe.recon import cuda
from tomopipe.recon.angular_sampling import is_full_rotation, unpaired
from tomopipe.recon.device import held_gpu
from tomopipe.recon.fbp import shared_spectra, sweep
from tomopipe.recon.gpu import CudaDevice
from tomopipe.recon.plan import make_plan
from tomopipe.report.thumbnails import (
    CROP_PX,
    grey_window,
    in_grey,
    in_sweep,
    informative_part,
    open_stack,
    slices_around,
    step_of,
    to_grey,
)
from tomopipe.storage.json_files import number
from tomopipe.stream.try_sweep import sweep_slices

USUAL_PERCENT = (0.1, 99.9)
_WIDER = 2  # a window may extend this many times the usual one on each side
_SAMPLES = 200_000  # pixels that determine the usual window
_MOST = 65535
_BATCH_SIZE = 4  # few slices are requested at once; larger batches would only need memory
_CACHE_BYTES = 256_000_000
_THUMB_PX = 80
#: Crops of a strip, in steps from the COR, in the order of computing.
STRIP_STEPS = (0, -1, 1, -2, 2, -4, 4)


@dataclass(frozen=True, eq=False)
class Grey:
    """A picture whose grey window is set in the browser."""

    values: NDArray[Any]  # (n_y, n_x): 0 stands for `low`, the largest number for `high`
    low: float
    high: float
    usual: tuple[float, float]  # initial window
    about: Mapping[str, Any] = field(default_factory=dict)  # further facts, as JSON

    @property
    def nbytes(self) -> int:
        """Memory of its pixels."""
        return int(self.values.nbytes)

    def facts(self) -> dict[str, Any]:
        """Describe the pixels."""
        n_y, n_x = self.values.shape
        bits = 8 * self.values.itemsize
        result = {"n_y": n_y, "n_x": n_x, "bits": bits, "low": self.low, "high": self.high}
        return {**result, "usual": self.usual, **self.about}


def grey16(image: NDArray[Any], usual: Sequence[float] | None) -> Grey:
    """Return an image in 16 bits with its usual window, by default that of USUAL_PERCENT."""
    sample = image.reshape(-1)[:: max(1, image.size // _SAMPLES)]
    finite = sample[np.isfinite(sample)]
    inner = np.percentile(finite, USUAL_PERCENT) if finite.size else (0.0, 0.0)
    first, last = (float(value) for value in usual or inner)
    if not last > first:
        last = first + 1.0
    # a few extreme values (a gold particle) must not reduce the resolution of the others
    span = _WIDER * (max(last, float(inner[1])) - min(first, float(inner[0])))
    low = min(first, max(float(np.nanmin(image)), float(inner[0]) - span))
    high = max(last, min(float(np.nanmax(image)), float(inner[1]) + span))
    return Grey(
        scaled16(np.nan_to_num(image, nan=low, copy=False), low, high), low, high, (first, last)
    )


def scaled16(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    """Scale an image to 16 bits, `low` to 0 and `high` to 65535."""
    scaled = np.subtract(image, np.float32(low), dtype=np.float32)
    scaled *= np.float32(_MOST / (high - low))
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, _MOST, out=scaled).astype(np.uint16)


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode quickly rather than small: the page is local."""
    from PIL import Image

    stream = io.BytesIO()
    # noise has no repeats, so run-length coding alone is faster and smaller
    Image.fromarray(image).save(stream, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return stream.getvalue()


def part_around(
    shape: tuple[int, ...], middle: tuple[int, int], side_px: int
) -> tuple[slice, slice]:
    """Return a square crop of a picture around a position, entirely within the picture."""
    starts = [
        min(max(position - side_px // 2, 0), max(n - side_px, 0))
        for position, n in zip(middle, shape, strict=True)
    ]
    top, left = starts
    return slice(top, min(top + side_px, shape[0])), slice(left, min(left + side_px, shape[1]))


def in_range(
    picture: Grey, part: tuple[slice, slice], low: float, high: float
) -> NDArray[np.uint16]:
    """Return a crop of a picture in the grey range of another one."""
    values = picture.low + picture.values[part] * np.float32((picture.high - picture.low) / _MOST)
    return scaled16(values, low, high)


class Pictures:
    """Makes the pictures of a campaign; caches rows and plans of the last scans."""

    def __init__(
        self,
        folder: Path,  # results/try_center; nothing outside it is read
        *,
        filter: str,
        device: str,
        # preprocess.half_acquisition of a scan; with auto, slices outside the sweep are as in a
        # volume
        half_acquisition: Callable[[str], str],
    ) -> None:
        self.folder = folder
        self._half_acquisition = half_acquisition
        self._filter = filter
        self._device = device
        self._rows = Cache(3)
        self._plans = Cache(3)
        self._spectra = Cache(3)
        self._stacks = Cache(8)
        self._slices = Cache(200, _CACHE_BYTES)
        self._thumbnails = Cache(1000)
        self._working = threading.Lock()  # the engine uses all cores: one slice at a time

    def path(self, scan: str, name: str) -> Path:
        """Return the path of a file of a scan; raise if it leads outside the campaign."""
        path = self.folder / scan / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise TomopipeError(f"{scan}: {name} lies outside the campaign.")
        if not path.is_file():
            raise TomopipeError(f"{scan}: no {name} yet; `tomopipe run` makes it.")
        return path

    def grid(self, scan: str) -> dict[str, Any]:
        """Return try.json of a scan."""
        return read_json(self.path(scan, SWEEP), "the grid of try_recon")

    def warm_up(self) -> None:
        """Load the engine in advance, so that the first slice is quick."""
        theta_rad = np.linspace(0, np.pi, 8, endpoint=False)
        with self._working, self._held_gpu(8, 16, _BATCH_SIZE) as gpu:
            plan = make_plan(theta_rad, 16, xp=gpu.xp if gpu else np, batch_size=_BATCH_SIZE)
            sweep(plan.xp.zeros((8, 16), np.float32), plan, np.full(_BATCH_SIZE, 8.0))

    def _held_gpu(
        self, n_angles: int, n_cols: int, n_slices: int
    ) -> AbstractContextManager[CudaDevice | None]:
        least_bytes = cuda.sweep_gpu_bytes(n_angles, n_cols, n_slices)
        return held_gpu(self._device, least_bytes, n_slices=n_slices, wait=False)

    def has_pages(self, scan: str) -> bool:
        """Tell whether the try stack exists; it may have been removed."""
        return (self.folder / scan / TRY_STACK).is_file()

    def page(self, scan: str, index: int) -> Grey:
        """Return one page of the try stack, in 8 bits, shown while the COR is dragged."""
        path = self.path(scan, TRY_STACK)
        pages = self._stacks.get((scan, _version(path)), lambda: open_stack(path))
        if not 0 <= index < len(pages):
            raise TomopipeError(f"{scan}: expected a page from 0 to {len(pages) - 1}; got {index}.")
        low, high = _window_of(self.grid(scan)) or (0.0, 1.0)
        return Grey((pages[index] >> 8).astype(np.uint8), low, high, (low, high))

    def thumbnail(self, scan: str, cor_px: float) -> bytes:
        """Return a slice as a small PNG: the nearest page, or a newly made one if there is none."""
        from PIL import Image

        grid = self.grid(scan)
        if not (grid_px := grid.get("cor_px")):
            raise TomopipeError(f"{scan}: {grid.get('failed', 'its sweep has no CORs')}")
        if not (self.has_pages(scan) and in_sweep(grid_px, cor_px)):
            return self._made_thumbnail(scan, cor_px)
        nearest = int(np.abs(np.asarray(grid_px, float) - cor_px).argmin())
        page = Image.fromarray(self.page(scan, nearest).values)
        page.thumbnail((_THUMB_PX, _THUMB_PX), Image.Resampling.BOX, reducing_gap=None)
        return png(np.asarray(page))

    def _made_thumbnail(self, scan: str, cor_px: float) -> bytes:
        path = self.path(scan, ROWS)

        def make() -> bytes:
            with self._working:
                result = slices_around(path.with_name(TRY_STACK), cor_px, max_size_px=2 * _THUMB_PX)
            if result is None:
                raise TomopipeError(f"{scan}: there is no slice at {cor_px:g} px.")
            return png(to_grey(result.images[result.chosen], max_px=_THUMB_PX))

        made: bytes = self._thumbnails.get((scan, _version(path), cor_px), make)
        return made

    def slice(self, scan: str, cor_px: float, row: int) -> Grey:
        """Return the slice of one row of rows.h5 at any COR, full size."""
        return self._at(scan, cor_px, [cor_px], row)[0]

    def strip(
        self, scan: str, cor_px: float, row: int, *, step_px: float, centre: tuple[int, int] | None
    ) -> Grey:
        """Return the same crop of the slices around a COR, side by side, the COR ascending.

        `step_px` is the distance of the nearest crops; the steps double outwards. `centre` is the
        row and column of the centre of the crop; None: where most edges are.
        """
        rows = self._read(scan)
        last_px = rows.first_col + rows.sinograms.shape[2] - 1
        target = [round(cor_px + step_px * k, 4) for k in STRIP_STEPS]
        values_px = [v for v in target if rows.first_col <= v <= last_px]
        slices = []
        # other requests may run in between
        for batch in (values_px[:_BATCH_SIZE], values_px[_BATCH_SIZE:]):
            slices += self._at(scan, cor_px, batch, row)
        middle = slices[0].values
        side_px = CROP_PX if min(middle.shape) > 4 * CROP_PX else CROP_PX // 2
        if centre:
            part = part_around(middle.shape, centre, side_px)
        else:
            part = informative_part(middle, side_px)
        ordered = sorted(zip(values_px, slices, strict=True), key=lambda pair: pair[0])
        low, high = slices[0].low, slices[0].high
        crops = [in_range(image, part, low, high) for _, image in ordered]
        about = {
            "cor_px": [value for value, _ in ordered],
            "box": [part[0].start, part[1].start, part[0].stop, part[1].stop],
        }
        return Grey(np.concatenate(crops, axis=1), low, high, slices[0].usual, about)

    def _at(self, scan: str, cor_px: float, values_px: Sequence[float], row: int) -> list[Grey]:
        """Return slices of one row at several CORs, as wide as that at `cor_px`."""
        rows = self._read(scan)
        _check_row(scan, rows, row)
        half, middle_px = self._width(scan, rows, cor_px)
        width = scan, _version(self.path(scan, ROWS)), half, half and round(middle_px)
        keys = {value: (width, row, round(value, 4)) for value in values_px}
        result = self._cached(keys)
        if len(result) < len(keys):
            with self._working:
                result = self._cached(keys)  # another request may have made them meanwhile
                new = [value for value in keys if value not in result]
                window = _window_of(self.grid(scan))
                images = self._reconstructed(rows, (width, row), new, half, middle_px)
                for value, image in zip(new, images, strict=True):
                    result[value] = self._slices.get(keys[value], partial(grey16, image, window))
        return [result[value] for value in values_px]

    def _cached(self, keys: Mapping[float, Hashable]) -> dict[float, Grey]:
        result = {value: self._slices.find(key) for value, key in keys.items()}
        return {value: image for value, image in result.items() if image is not None}

    def _reconstructed(
        self,
        rows: Rows,
        key: tuple[Hashable, int],
        values_px: Sequence[float],
        is_half: bool,
        middle_px: float,
    ) -> Any:
        """Return slices of one row at CORs, (n_cor, n_y, n_x) float32; holds a GPU meanwhile."""
        if not values_px:
            return ()
        columns_px = np.array([float(bin_cor(v, x0=rows.first_col)) for v in values_px])
        n_angles, n_cols = rows.sinograms.shape[1:]
        alone = unpaired(rows.theta_rad)
        half = HalfAcquisition(n_cols, middle_px, alone, rows.edge_slopes_per_px)

        def slices(xp: ModuleType) -> Any:
            make = partial(
                plan_of, rows.theta_rad, half, is_half, filter=self._filter, batch_size=_BATCH_SIZE
            )
            if xp is not np:
                plan, sinogram, spectra = make(xp=xp), xp.asarray(rows.sinograms[key[1]]), None
            else:
                plan, sinogram = self._plans.get(key[0], make), rows.sinograms[key[1]]
                spectra = self._spectra.get(key, lambda: shared_spectra(sinogram, plan))
            result = sweep_slices(
                sinogram, plan, columns_px, rows.edge_slopes_per_px, spectra=spectra
            )
            return np.concatenate([on_host(images) for _, images in result])

        with self._held_gpu(n_angles, (1 + is_half) * n_cols, len(values_px)) as gpu:
            return slices(gpu.xp if gpu else np)

    def overlay(self, scan: str, cor_px: float, pair: int) -> bytes:
        """Return opposing projections as PNG, the second mirrored at the COR: grey if equal."""
        first, mirrored, _, window = self._opposing(scan, cor_px, pair)
        return png(in_grey(np.stack([first, mirrored, first], axis=-1), *window))

    def difference(self, scan: str, cor_px: float, pair: int) -> Grey:
        """Return the difference of opposing projections where they overlap, least at the COR."""
        first, mirrored, inside, (low, high) = self._opposing(scan, cor_px, pair)
        image = np.where(inside, first - mirrored, 0)
        # one window for all CORs, so that smaller differences look smaller
        return grey16(image, ((low - high) / 4, (high - low) / 4))

    def _opposing(
        self, scan: str, cor_px: float, pair: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], tuple[float, float]]:
        """Return a projection, its mirrored opposing one, the overlap, and the grey window."""
        rows = self._read(scan)
        if not 0 <= pair < len(rows.pairs):
            raise TomopipeError(f"{scan}: expected a pair below {len(rows.pairs)}, got {pair}.")
        first, second = rows.pairs[pair]
        local_cor_px = float(bin_cor(cor_px, x0=rows.first_col))
        source = 2 * local_cor_px - np.arange(first.shape[1])
        inside = (source >= 0) & (source <= first.shape[1] - 1)
        return first, mirror(second, local_cor_px), inside, grey_window(first)

    def sinogram(self, scan: str, row: int) -> Grey:
        """Return the corrected sinogram of one row of rows.h5, projections from top to bottom."""
        rows = self._read(scan)
        _check_row(scan, rows, row)
        return grey16(rows.sinograms[row], None)

    def details(self, scan: str) -> dict[str, Any]:
        """Return what is available of a scan: detector rows, width, pairs."""
        rows = self._read(scan)
        return {
            "rows": rows.row_index.tolist(),
            "n_cols": int(rows.sinograms.shape[2]),
            "first_col": rows.first_col,
            "n_rows": rows.n_rows,
            "n_pairs": len(rows.pairs),
            "pair_deg": np.rad2deg(rows.pair_theta_rad).round(2).tolist(),
            # other rows get another address, as browsers cache pictures
            "version": str(_version(self.path(scan, ROWS))[1]),
        }

    def _read(self, scan: str) -> Rows:
        path = self.path(scan, ROWS)
        key = scan, _version(path)
        rows: Rows | None = self._rows.find(key)
        if rows is None:
            with self._working:
                rows = self._rows.get(key, lambda: read_rows(path))
        if rows.failed:
            raise TomopipeError(f"{scan}: {rows.failed}")
        return rows

    def _width(self, scan: str, rows: Rows, cor_px: float) -> tuple[bool, float]:
        """Return whether slices are twice as wide as the detector, and the axis column for it."""
        grid = self.grid(scan)
        half = bool(grid.get("half_acquisition"))
        values_px = grid.get("cor_px") or [cor_px]
        if values_px[0] <= cor_px <= values_px[-1]:
            return half, (values_px[0] + values_px[-1]) / 2 - rows.first_col
        if self._half_acquisition(scan) == "auto":
            half = self._is_half(scan, rows, cor_px)
        return half, float(bin_cor(cor_px, x0=rows.first_col))

    def is_cut(self, scan: str, cor_px: float) -> bool:
        """Tell whether slices shown here have half the width of those of the volume."""
        rows = self._read(scan)
        return not self._width(scan, rows, cor_px)[0] and self._is_half(scan, rows, cor_px)

    def _is_half(self, scan: str, rows: Rows, cor_px: float) -> bool:
        return is_half_acquisition(
            self._half_acquisition(scan),
            full_rotation=is_full_rotation(rows.theta_rad),
            cor_px=cor_px,
            n_cols=rows.sinograms.shape[2],
            first_col=rows.first_col,
        )


def _window_of(grid: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the grey window of a sweep; None if there is none, or of damaged numbers."""
    window = grid.get("window")
    low, high = (
        map(number, window) if isinstance(window, list) and len(window) == 2 else (None,) * 2
    )
    return None if low is None or high is None else (low, high)


def _check_row(scan: str, rows: Rows, row: int) -> None:
    if not 0 <= row < len(rows.sinograms):
        raise TomopipeError(f"{scan}: expected a row below {len(rows.sinograms)}, got {row}.")


def grid_around(
    grid_px: Sequence[float],
    cor_px: float | None,
    columns: tuple[int, int],
    *,
    is_centred: bool = False,
) -> Sequence[float]:
    """Return CORs to browse, within `columns`: those of the sweep, or as many around `cor_px`.

    `is_centred`: around it also if the sweep has it, unless in its middle.
    """
    if cor_px is None:
        return grid_px
    half, step_px = len(grid_px) // 2, step_of(grid_px)
    if in_sweep(grid_px, cor_px) and not (is_centred and abs(grid_px[half] - cor_px) > step_px):
        return grid_px
    around = [round(cor_px + step_px * k, 4) for k in range(-half, half + 1)]
    return [value for value in around if columns[0] <= value <= columns[1]] or grid_px


def mirror(projection: NDArray[np.float32], cor_px: float) -> NDArray[np.float32]:
    """Mirror a projection, (n_rows, n_cols), at a column: c goes to 2 * cor_px - c.

    Interpolated between columns; edge columns are repeated outside.
    """
    n_cols = projection.shape[1]
    target = np.clip(2 * cor_px - np.arange(n_cols), 0, n_cols - 1)
    left = np.minimum(target.astype(int), max(n_cols - 2, 0))
    part = (target - left).astype(np.float32)
    right = np.minimum(left + 1, n_cols - 1)
    return projection[:, left] * (1 - part) + projection[:, right] * part


def _version(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size


class Cache:
    """The last `most` results of slow functions, of `most_bytes` in total, by key; thread-safe."""

    def __init__(self, most: int, most_bytes: float = float("inf")) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._items: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> Any:
        """Return the result for `key`; None if there is none."""
        with self._lock:
            return self._items.get(key)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the result for `key`, computing it if necessary."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        made = make()
        with self._lock:
            self._items[key] = made
            while len(self._items) > self._most or self._n_bytes() > self._most_bytes:
                self._items.popitem(last=False)
        return made

    def _n_bytes(self) -> int:
        items = list(self._items.values())
        return sum(getattr(item, "nbytes", 0) for item in items) if len(items) > 1 else 0
