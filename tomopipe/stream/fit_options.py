"""The options of full_recon: checked, and fitted to a scan."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomopipe.errors import ScanError
from tomopipe.geometry import bin_cor, pixels_per_cm
from tomopipe.prep.card_memory import card_correct_bytes
from tomopipe.prep.correct import Corrections
from tomopipe.prep.half_acquisition import (
    FACTOR,
    MODES,
    HalfAcquisition,
    is_half_acquisition,
)
from tomopipe.recon.angular_sampling import is_full_turn, unpaired
from tomopipe.recon.blocks import card_bytes, slices_on_card
from tomopipe.recon.carry import Card, Carried, InPlace
from tomopipe.recon.filters import FILTERS
from tomopipe.recon.iterative import ALGORITHMS, solve_slices, solver
from tomopipe.recon.plan import make_plan
from tomopipe.recon.projector import make_projector
from tomopipe.recon.truncation import UNKNOWN, Falls, binned_falls
from tomopipe.scans.chunks import DECODE_BYTES
from tomopipe.scans.exchange import Scan, Sources
from tomopipe.stream.memory import Blocks, Job, choose_blocks, job_bytes
from tomopipe.stream.source import Source
from tomopipe.stream.stream import sample_slices
from tomopipe.stream.work import Work
from tomopipe.volumes.encoding import DTYPES, Encoding, encoding_of, robust_range
from tomopipe.volumes.output_size import StackGeometry, binned, extent
from tomopipe.volumes.volume import COMPRESSIONS, FORMATS
from tomopipe.volumes.volume_zarr import check_zarr

UNITS = {"per_pixel": "1/pixel", "per_cm": "1/cm"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a volume is made; see `full_recon`."""

    cor_px: float
    algorithm: str
    iterations: int | None
    tv_strength: float
    filter: str
    rows: str | tuple[int, int]
    crop_x: str | tuple[int, int]
    crop_y: str | tuple[int, int]
    binning: int
    output: str
    compression: str
    dtype: str
    value_range: str | tuple[float, float]
    unit: str
    pixel_size_um: float | None
    device: str
    flats: Sources
    darks: Sources
    minus_log: bool
    partial: bool
    half_acquisition: str


def span_of(rows: str | Sequence[int]) -> str | tuple[int, int]:
    """Return "all", or first and last as a tuple."""
    return rows if isinstance(rows, str) else (int(rows[0]), int(rows[1]))


def check_options(options: Options) -> None:
    """Raise for what is wrong with the options, not with the scan."""
    allowed: dict[str, Sequence[str]] = {
        "algorithm": ("fbp", *ALGORITHMS),
        "filter": FILTERS,
        "unit": tuple(UNITS),
        "output": FORMATS,
        "dtype": DTYPES,
        "half_acquisition": MODES,
    }
    allowed["compression"] = COMPRESSIONS.get(options.output, ())
    for name, values in allowed.items():
        value = getattr(options, name)
        if value not in values:
            raise ValueError(f"{name}: expected one of {', '.join(values)}; got {value!r}")
    if options.binning < 1:
        raise ValueError(f"binning: expected 1 or more, got {options.binning}")
    if options.algorithm != "fbp" and options.device == "cuda":
        raise ValueError(f"device: cuda does fbp only; set auto or cpu for {options.algorithm}")
    if options.algorithm != "fbp" and options.half_acquisition == "yes":
        raise ValueError(f"half_acquisition: yes needs fbp; set auto or no for {options.algorithm}")
    for name in ("rows", "crop_x", "crop_y"):
        value = getattr(options, name)
        if isinstance(value, str) and value != "all":
            raise ValueError(f"{name}: expected all or [first, last], got {value!r}")
    if isinstance(options.value_range, str) and options.value_range != "auto":
        raise ValueError(f"value_range: expected auto or [low, high], got {options.value_range!r}")
    if options.output == "zarr":
        check_zarr()
    if not isinstance(options.value_range, str):
        encoding_of(options.dtype, options.value_range)


def fit_blocks(
    scan: Scan,
    options: Options,
    memory_bytes: int,
    *,
    on_gpu: bool = False,
    halo: int | None = None,
) -> tuple[Blocks, Blocks]:
    """Choose the blocks for the memory there is: to read the scan, and to read a scratch file."""
    decode_bytes = 0
    if scan.chunks and scan.threads > 1:
        one_bytes = 3 * math.prod(scan.chunks) * scan.dtype.itemsize
        decode_bytes = max(one_bytes, min(DECODE_BYTES, scan.threads * one_bytes))
    job = Job(
        scan.n_angles, scan.n_rows, scan.n_cols, scan.dtype.itemsize, options.binning,
        options.output, options.compression, is_full_turn(scan.theta_rad), decode_bytes, on_gpu,
        options.algorithm != "fbp", _widening(scan, options), halo, scan.threads,
    )  # fmt: skip
    first, last = _rows(scan, options)
    chunk_rows = scan.chunks[1] if scan.chunks else 1
    blocks = choose_blocks(job, memory_bytes, chunk_rows=chunk_rows, n_rows=last + 1 - first)
    logger.info("%s: %.3g GB of %.3g GB", blocks, job_bytes(job, blocks) / 1e9, memory_bytes / 1e9)
    return blocks, choose_blocks(job, memory_bytes, n_rows=last + 1 - first)


def _widening(scan: Scan, options: Options) -> int:
    """Return the columns of a slice over those of the binned detector."""
    half = options.algorithm == "fbp" and is_half_acquisition(
        options.half_acquisition,
        full_turn=is_full_turn(scan.theta_rad),
        cor_px=float(bin_cor(options.cor_px, x0=scan.first_col)),
        n_cols=scan.n_cols,
    )
    return FACTOR if half else 1


def _rows(scan: Scan, options: Options) -> tuple[int, int]:
    """Return the first and the last row, both included."""
    first, last = (0, scan.n_rows - 1) if isinstance(options.rows, str) else options.rows
    if not 0 <= first <= last < scan.n_rows:
        raise ScanError(
            f"full_recon.rows: [{first}, {last}] are not rows of this scan (0 to {scan.n_rows - 1})"
        )
    return first, last


def _crop(name: str, crop: str | tuple[int, int], n_cols: int, binning: int) -> slice:
    """Turn a crop in unbinned voxels, ends included, into a slice of binned ones."""
    if isinstance(crop, str):
        return slice(0, n_cols // binning)
    first, last = crop
    if not 0 <= first <= last < n_cols:
        raise ScanError(
            f"full_recon.{name}: [{first}, {last}] are not within the slices of this scan "
            f"(0 to {n_cols - 1})"
        )
    start = min(first // binning, n_cols // binning - 1)
    return slice(start, start + binned(extent(crop, n_cols), binning))


def fit_work(
    scan: Scan,
    options: Options,
    threads: int | None,
    lanes: int,
    card: Card | None = None,
    *,
    corrections: Corrections | None = None,
    falls_per_px: Falls = UNKNOWN,
) -> Work:
    """Fit the options to the scan, and the pieces to the card that computes, if one does.

    A card corrects raw rows; the host is given rows that are corrected already.
    """
    last_col = scan.first_col + scan.n_cols - 1
    if not scan.first_col <= options.cor_px <= last_col:
        what = "detector" if scan.n_cols == scan.detector_cols else "columns in use"
        raise ScanError(
            f"COR {options.cor_px:g} px is off the {what} ({scan.first_col} to {last_col}); "
            "set another"
        )
    if scan.n_cols < options.binning:
        raise ScanError(f"binning {options.binning} is more than the {scan.n_cols} columns")
    first, last = _rows(scan, options)
    binning, n_rows = options.binning, last + 1 - first
    size = StackGeometry(scan.n_cols, n_rows, binning)
    widening = _widening(scan, options)
    # an incomplete block of columns is dropped before the detector is doubled
    n_voxels = scan.n_cols if widening == 1 else widening * size.volume_cols * binning
    cor_px = float(bin_cor(options.cor_px, x0=scan.first_col, binning=binning))
    falls_per_px = binned_falls(falls_per_px, binning)
    half = HalfAcquisition(size.volume_cols, cor_px, unpaired(scan.theta_rad), falls_per_px)
    return Work(
        scan=scan,
        plan=make_plan(
            scan.theta_rad,
            widening * size.volume_cols,
            filter=options.filter,
            one_sided=widening > 1,
            falls_per_px=half.wide_falls() if widening > 1 else falls_per_px,
            xp=card.xp if card else np,
            lanes=lanes,
        ),
        cor_px=cor_px,
        scale=_scale(scan, options),
        first_row=first,
        last_row=first + size.rows * min(binning, n_rows),
        crop=(
            _crop("crop_y", options.crop_y, n_voxels, binning),
            _crop("crop_x", options.crop_x, n_voxels, binning),
        ),
        binning=binning,
        binning_rows=min(binning, n_rows),
        minus_log=options.minus_log,
        corrected=corrections is not None and card is None,
        corrections=corrections if card else None,
        threads=threads,
        carrier=Carried(card) if card else InPlace(),
        piece=min(lanes, _slices_on(card, scan, options, corrections)) if card else lanes,
        half=half if widening > 1 else None,
        few_angles=None
        if options.algorithm == "fbp"
        else _few_angles(scan, options, size.volume_cols, cor_px, min(scan.threads, lanes)),
    )


def _few_angles(
    scan: Scan, options: Options, n_cols: int, cor_px: float, threads: int
) -> Callable[[Any], Any]:
    """Return what makes slices of sinograms by iteration."""
    projector = make_projector(scan.theta_rad, n_cols, cor_px)
    solve = solver(options.algorithm, projector, options.iterations, options.tv_strength)
    return lambda sinograms: solve_slices(sinograms, projector, solve, threads)


def _slices_on(card: Card, scan: Scan, options: Options, corrections: Corrections | None) -> int:
    """Return the slices of a piece that a card has room for."""
    free, n_cols = card.free_bytes(), _widening(scan, options) * scan.n_cols
    halo = corrections.halo if corrections else 0

    def needs(n: int) -> int:
        n_read = n * options.binning + 2 * halo
        return card_bytes(
            scan.n_angles, n_cols, n, scan.dtype.itemsize, options.binning,
            np.dtype(options.dtype).itemsize, halo=halo,
            correct_bytes=card_correct_bytes(scan.n_angles, n_read, scan.n_cols)
            if corrections else None,
        )  # fmt: skip

    n = slices_on_card(free, needs)
    logger.info("%.3g GB of the card are free: %d slices at a time", free / 1e9, n)
    return n


def needs_range(options: Options) -> bool:
    """Tell whether the range of whole numbers is to be found from sample slices."""
    """Tell whether the range of whole numbers is to be found from sample slices."""
    return np.dtype(options.dtype).kind == "u" and isinstance(options.value_range, str)


def choose_encoding(work: Work, source: Source, options: Options) -> Encoding:
    """Return how values are stored; the range of whole numbers is taken from sample slices."""
    if not needs_range(options):
        fixed = None if isinstance(options.value_range, str) else options.value_range
        return encoding_of(options.dtype, fixed)
    low, high = robust_range(sample_slices(work, source), options.dtype)
    logger.info("%s stands for %g to %g %s", options.dtype, low, high, UNITS[options.unit])
    return encoding_of(options.dtype, (low, high))


def _scale(scan: Scan, options: Options) -> float:
    """Return the factor from attenuation per binned pixel to the unit asked for."""
    if options.unit == "per_pixel":
        return 1 / options.binning
    return pixels_per_cm(options.pixel_size_um or scan.pixel_size_um) / options.binning


def describe(work: Work, options: Options) -> dict[str, Any]:
    """Describe the values and voxels of the volume."""
    size_um = options.pixel_size_um or work.scan.pixel_size_um
    voxel = {"voxel_size_um": size_um * work.binning} if size_um else {}
    return {"units": UNITS[options.unit], "binning": work.binning, **voxel}
