"""Step try_recon: read a scan once; sweep one row over candidate CORs; keep rows for later."""

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import on_host
from tomopipe.errors import ScanError
from tomopipe.geometry import axis_voxel, bin_cor
from tomopipe.io import tiff
from tomopipe.io.atomic import remove_stale, write_json
from tomopipe.io.exchange import Sources, open_scan
from tomopipe.io.rows import Rows, failed_rows, write_rows
from tomopipe.prep.collect import collect_rows, row_numbers
from tomopipe.prep.half_acquisition import FACTOR, is_half_acquisition, widen_for_each
from tomopipe.prep.recipe import recipe_of
from tomopipe.recon.angles import is_full_turn
from tomopipe.recon.array import array_module, of_the_device
from tomopipe.recon.blocks import LANES, card_sweep_bytes, sweep_bytes
from tomopipe.recon.cuda_card import claimed_card
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.filters import FILTERS
from tomopipe.recon.plan import Plan, make_plan
from tomopipe.recon.sweep import sweep_batches

REVISION = 3

FORMATS = ("stack", "tiff")
_WINDOW_PERCENT = (0.1, 99.9)
_N_WINDOW = 16  # CORs that the grey window is taken from
_FAILED_SHAPE = (64, 64)
_MEMORY_BYTES = 2 * 2**30

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How the slices of a sweep are made; see `try_recon`."""

    center_px: float | None
    width_px: float
    step_px: float
    max_size_px: int
    format: str
    filter: str
    device: str
    half_acquisition: str
    threads: int | None
    memory_bytes: int


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sinogram and what it is to be reconstructed with.

    Attributes
    ----------
    sinogram : ndarray of float32, shape (n_angles, n_cols // binning)
        Averaged over `binning` columns.
    plan : Plan
        For its angles and the columns of its slices: twice its own in half acquisition.
    cor_px : ndarray of float64, shape (n_cor,)
        Candidates, unbinned detector pixels, ascending.
    binning : int
        Columns averaged into one.
    first_col : int
        Column of the detector that is the first one of the sinogram.
    """

    sinogram: NDArray[np.float32]
    plan: Plan
    cor_px: NDArray[np.float64]
    binning: int
    first_col: int


def try_recon(
    raw: str | os.PathLike[str],
    try_tif: str | os.PathLike[str],
    try_json: str | os.PathLike[str],
    rows_h5: str | os.PathLike[str],
    *,
    center_px: float | None = None,
    width_px: float = 50,
    step_px: float = 0.5,
    row: float | int | Sequence[float | int] = 0.5,
    max_size_px: int = 1024,
    format: str = "stack",
    flats: Sources = None,
    darks: Sources = None,
    known: Mapping[str, Any] | None = None,
    minus_log: bool = True,
    corrections: Mapping[str, Any] | None = None,
    half_acquisition: str = "auto",
    partial: bool = False,
    filter: str = "ramp",
    device: str = "auto",
    threads: int | None = None,
    memory_bytes: int | None = None,
) -> dict[str, Any]:
    """Reconstruct one row for each candidate COR and keep what later steps look at.

    An error of the scan (unreadable, constant, no candidate on the detector) is a result: the
    three outputs say so. An error of writing or of a GPU is raised, and so is a lack of memory, as
    a second attempt is given more.

    Parameters
    ----------
    raw : path-like
        The scan, of any format; read once.
    try_tif : path-like
        Stack of slices in the order of COR: at most `max_size_px` wide, uint16, one grey window
        for the whole sweep, each page labelled.
    try_json : path-like
        Grid, window and geometry of the sweep, or {"failed": reason}.
    rows_h5 : path-like
        Corrected sinograms of a few rows and opposed projections (`tomopipe.io.rows`).
    center_px : float, optional
        Middle of the sweep; None: (n_cols - 1) / 2.
    width_px, step_px : float
        The sweep reaches `width_px` to each side, ends included, in equal steps of at most
        `step_px`; candidates off the detector (below 0, above n_cols - 1) are dropped.
    row : float, int or sequence of them
        Fraction of the height (float) or row number (int). The first of several is the one in
        `try_tif`; all are kept in `rows_h5` and written with `format` "tiff".
    max_size_px : int
        Wider slices are reconstructed from a sinogram averaged over blocks of columns.
    format : {"stack", "tiff"}
        "tiff" writes full-size float32 slices with TomoGUI's names beside `try_json` as well.
    flats, darks, known, partial
        As for `tomopipe.io.exchange.open_scan`.
    minus_log : bool
        Take -log of the transmission.
    corrections : mapping, optional
        The other keys of `tomopipe.config.PreprocessBlock`.
    half_acquisition : {"auto", "yes", "no"}
        Slices of twice the detector's width (`tomopipe.prep.half_acquisition`); auto: where the
        angles make a full turn and the middle of the sweep is in an outer quarter.
    filter, device
        As for `tomopipe.recon`.
    threads : int, optional
        CPU threads; None: the cores this process may use.
    memory_bytes : int, optional
        Memory the job may take, 2 GiB by default: fewer slices are computed at a time. Where a GPU
        computes, its free memory counts.

    Returns
    -------
    dict
        The content of `try_json`.
    """
    from tomopipe.recon.jit import thread_count  # numba: not when the workflow is parsed

    options = Options(
        center_px, width_px, step_px, max_size_px, format, filter, device, half_acquisition,
        threads, memory_bytes or _MEMORY_BYTES,
    )  # fmt: skip
    _check(options)
    for path in (try_tif, try_json, rows_h5):
        remove_stale(path)
    tiff.remove_try_slices(Path(try_json).parent, foreign=format == "tiff")
    with ExitStack() as held:
        try:
            with open_scan(raw, flats=flats, darks=darks, known=known, partial=partial) as scan:
                asked = row_numbers(row, scan.n_rows)
                recipe = recipe_of(flats, darks, minus_log, corrections)
                rows = collect_rows(scan, asked, recipe, threads=thread_count(threads))
                pixel_size_um = scan.pixel_size_um
            cor_px = candidates(
                rows.sinograms.shape[2],
                first_col=rows.first_col,
                center_px=center_px,
                width_px=width_px,
                step_px=step_px,
            )
            options = _with_device(options, held)
            shown = _sweep_of(rows, 0, cor_px, max_size_px, options)
            window = _window(shown, options)
        except MemoryError:
            raise
        except Exception as error:
            if of_the_device(error):
                raise
            return _fail(error, try_tif, try_json, rows_h5)
        write_rows(rows, rows_h5)
        try:
            _write_slices(rows, len(asked), cor_px, options, Path(try_json).parent)
            _write_stack(shown, window, options, try_tif)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if of_the_device(error):
                raise
            return _fail(error, try_tif, try_json, rows_h5)
    record = _describe(rows, shown, window, options, asked=asked, pixel_size_um=pixel_size_um)
    write_json(record, try_json)
    return record


def candidates(
    n_cols: int,
    *,
    first_col: int = 0,
    center_px: float | None,
    width_px: float,
    step_px: float,
) -> NDArray[np.float64]:
    """List the candidate CORs: the middle, and equal steps up to `width_px` on each side.

    Parameters
    ----------
    n_cols : int
        Detector columns in use.
    first_col : int
        The first of them.
    center_px, width_px, step_px : float
        As for `try_recon`. Where the step does not divide the width it is made smaller.

    Returns
    -------
    ndarray of float64, shape (n_cor,)
        Ascending, within the columns in use.

    Raises
    ------
    ScanError
        If none lies on the detector.
    """
    last_col = first_col + n_cols - 1
    middle_px = (first_col + last_col) / 2 if center_px is None else center_px
    n_steps = math.ceil(width_px / step_px - 1e-9)
    grid_px = np.round(middle_px + np.linspace(-width_px, width_px, 2 * n_steps + 1), 6)
    grid_px = grid_px[(grid_px >= first_col) & (grid_px <= last_col)]
    if grid_px.size == 0:
        raise ScanError(
            f"try_recon: no candidate in {middle_px:g} +- {width_px:g} px lies on the detector "
            f"({first_col} to {last_col}). Set try_recon.center_px."
        )
    return grid_px


def _check(options: Options) -> None:
    """Raise for what is wrong with the options, not with the scan."""
    array_module(options.device)
    if options.format not in FORMATS:
        raise ValueError(f"format: expected {' or '.join(FORMATS)}, got {options.format!r}")
    if options.filter not in FILTERS:
        raise ValueError(f"filter: expected one of {', '.join(FILTERS)}; got {options.filter!r}")
    if not (options.step_px > 0 and options.width_px >= 0):
        raise ValueError(
            f"expected step_px > 0 and width_px >= 0; got {options.step_px}, {options.width_px}"
        )
    if options.format == "tiff" and options.step_px < 0.01:
        raise ValueError(f"format tiff names slices to 0.01 px; got step_px {options.step_px}")


def _with_device(options: Options, held: ExitStack) -> Options:
    """Hold a GPU that no other job does, if one computes: its memory counts then."""
    xp = array_module(options.device)
    if xp is np:
        return options
    return replace(options, memory_bytes=held.enter_context(claimed_card(xp)).free_bytes())


def _sweep_of(
    rows: Rows,
    index: int,
    cor_px: NDArray[np.float64],
    max_size_px: int | None,
    options: Options,
    plan: Plan | None = None,
) -> Sweep:
    """Prepare the sweep of one of the rows, averaged over columns to at most `max_size_px`.

    `plan` is that of another row of the same size; None: it is made.
    """
    sinogram = rows.sinograms[index]
    n_cols = sinogram.shape[1]
    factor = FACTOR if _is_half(rows, cor_px, options) else 1
    binning = 1 if max_size_px is None else -(-factor * n_cols // max_size_px)
    whole = sinogram[:, : n_cols // binning * binning]
    binned = whole.reshape(len(whole), -1, binning).mean(axis=2, dtype=np.float32)
    size = factor * binned.shape[1]
    xp = array_module(options.device)
    needs = sweep_bytes if xp is np else card_sweep_bytes
    lanes = LANES
    while lanes > 4 and needs(len(binned), size, lanes) > options.memory_bytes:
        lanes //= 2
    if plan is None:
        plan = make_plan(
            rows.theta_rad, size, filter=options.filter, one_sided=factor > 1, xp=xp, lanes=lanes
        )
    return Sweep(binned, plan, cor_px, binning, rows.first_col)


def _is_half(rows: Rows, cor_px: NDArray[np.float64], options: Options) -> bool:
    """Tell whether the slices of a sweep are twice as wide as the detector."""
    return is_half_acquisition(
        options.half_acquisition,
        full_turn=is_full_turn(rows.theta_rad),
        cor_px=float(bin_cor((cor_px[0] + cor_px[-1]) / 2, x0=rows.first_col)),
        n_cols=rows.sinograms.shape[2],
    )


def _batches(
    job: Sweep, sinogram: Any, cor_px: NDArray[np.float64], options: Options
) -> Iterator[tuple[slice, Any]]:
    """Yield the slices of a sweep, as many at a time as the plan has lanes."""
    if job.plan.n_cols == sinogram.shape[1]:
        yield from sweep_batches(sinogram, job.plan, cor_px, threads=options.threads)
        return
    for first in range(0, len(cor_px), job.plan.lanes):
        some = slice(first, min(first + job.plan.lanes, len(cor_px)))
        wide, wide_cor_px = widen_for_each(sinogram, cor_px[some])
        yield some, reconstruct(wide, job.plan, wide_cor_px, threads=options.threads)


def _slices(job: Sweep, options: Options) -> Iterator[NDArray[np.float32]]:
    """Reconstruct the slices of a sweep, a batch at a time, per unbinned pixel."""
    sinogram = job.plan.xp.asarray(job.sinogram)
    cor_px = bin_cor(job.cor_px, x0=job.first_col, binning=job.binning)
    for some, images in _batches(job, sinogram, cor_px, options):
        logger.info("%d of %d slices", some.stop, len(cor_px))
        # The values come out per pixel of the sinogram given, which is `binning` pixels wide.
        yield from on_host(images) / np.float32(job.binning)


def _window(job: Sweep, options: Options) -> tuple[float, float]:
    """Choose the grey window of the whole sweep from a few CORs spread over it."""
    n_cor = len(job.cor_px)
    chosen = np.unique(np.linspace(0, n_cor - 1, min(n_cor, _N_WINDOW)).round().astype(int))
    few = replace(job, cor_px=job.cor_px[chosen])
    size = job.plan.n_cols
    y, x = np.ogrid[:size, :size]
    circle = np.hypot(x - (size - 1) / 2, y - (size - 1) / 2) <= size / 2
    values = np.concatenate([image[circle] for image in _slices(few, options)])
    if not np.isfinite(values).all():
        raise ScanError("the slices of the sweep are not finite")
    low, high = (float(value) for value in np.percentile(values, _WINDOW_PERCENT))
    if not low < high:
        raise ScanError(f"no signal: the slices of the sweep are {low:g} everywhere")
    return low, high


def _write_stack(
    job: Sweep, window: tuple[float, float], options: Options, path: str | os.PathLike[str]
) -> None:
    size = job.plan.n_cols
    scale = 65535 / (window[1] - window[0])
    pages = (
        np.clip((image - window[0]) * scale + 0.5, 0, 65535).astype(np.uint16)
        for image in _slices(job, options)
    )
    tiff.write_try_stack(pages, job.cor_px, path, shape=(size, size))


def _write_slices(
    rows: Rows, n_asked: int, cor_px: NDArray[np.float64], options: Options, folder: Path
) -> None:
    """Write the full-size slices of the rows asked for, if they are wanted."""
    if options.format != "tiff":
        return
    plan = None
    for index, row in enumerate(rows.row_index[:n_asked].tolist()):
        job = _sweep_of(rows, index, cor_px, None, options, plan)
        plan = job.plan
        for value_px, image in zip(cor_px.tolist(), _slices(job, options), strict=True):
            tiff.write_slice(image, folder / tiff.try_slice_name(row, value_px))


def _describe(
    rows: Rows,
    job: Sweep,
    window: tuple[float, float],
    options: Options,
    *,
    asked: list[int],
    pixel_size_um: float | None,
) -> dict[str, Any]:
    """Return the content of try.json."""
    n_angles, n_cols = job.sinogram.shape
    size = job.plan.n_cols
    return {
        "cor_px": job.cor_px.tolist(),
        "row": asked[0],
        "rows": asked,
        "binning": job.binning,
        "window": list(window),
        "unit": "per_pixel",
        "n_cols": rows.sinograms.shape[2],
        "first_col": rows.first_col,
        "half_acquisition": size > n_cols,
        "n_rows": rows.n_rows,
        "n_angles": n_angles,
        "geometry": {
            "size_px": size,
            "axis_voxel_xy": list(axis_voxel(size)),
            "theta_deg": [float(np.rad2deg(value)) for value in rows.theta_rad[[0, -1]]],
            "theta_missing": rows.theta_missing,
            "pixel_size_um": pixel_size_um,
        },
        "filter": options.filter,
        "format": options.format,
    }


def _fail(
    error: Exception,
    try_tif: str | os.PathLike[str],
    try_json: str | os.PathLike[str],
    rows_h5: str | os.PathLike[str],
) -> dict[str, Any]:
    """Write the outputs of a scan that cannot be looked at."""
    text = " ".join(str(error).split())
    reason = text if isinstance(error, ScanError) else f"{type(error).__name__}: {text}"
    logger.error("failed: %s", reason, exc_info=error)
    write_rows(failed_rows(reason), rows_h5)
    page = np.zeros((1, *_FAILED_SHAPE), dtype=np.uint16)
    tiff.write_try_stack(page, [0], try_tif, shape=_FAILED_SHAPE, labels=[f"failed: {reason}"])
    write_json({"failed": reason}, try_json)
    return {"failed": reason}
