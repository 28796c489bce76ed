"""Step try_recon: read a scan once; sweep one row over candidate CORs; keep rows for later."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.collect import collect_rows, row_numbers
from tomopipe.cor.proven_angles import prove_angles, with_angles
from tomopipe.cor.rows_file import Rows, failed_rows, write_rows
from tomopipe.errors import ScanError, is_of_the_system
from tomopipe.geometry import axis_voxel
from tomopipe.prep.recipe import recipe_of
from tomopipe.recon.array import of_the_device
from tomopipe.scans.exchange import Sources, open_scan
from tomopipe.storage.atomic import remove_stale, write_json
from tomopipe.stream.try_sweep import (
    Options,
    Sweep,
    check_options,
    grey_window,
    slices_of,
    sweep_of,
    with_device,
)
from tomopipe.volumes import tiff

_FAILED_SHAPE = (64, 64)
_MEMORY_BYTES = 2 * 2**30

logger = logging.getLogger(__name__)


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
    prove: bool = True,
    threads: int | None = None,
    memory_bytes: int | None = None,
    made_from: Mapping[str, Any] | None = None,
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
        Corrected sinograms of a few rows and opposed projections (`tomopipe.cor.rows_file`).
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
        As for `tomopipe.scans.exchange.open_scan`.
    minus_log : bool
        Take -log of the transmission.
    corrections : mapping, optional
        The other keys of `tomopipe.config.PreprocessBlock`.
    half_acquisition : {"auto", "yes", "no"}
        Slices of twice the detector's width (`tomopipe.prep.half_acquisition`); auto: where the
        angles make a full turn and the middle of the sweep is in an outer quarter.
    filter, device
        As for `tomopipe.recon`.
    prove : bool
        Prove the angles of a scan without any from its projections; False: refuse such a scan.
    threads : int, optional
        CPU threads; None: the cores this process may use.
    memory_bytes : int, optional
        Memory the job may take, 2 GiB by default: fewer slices are computed at a time. Where a GPU
        computes, its free memory counts.
    made_from : mapping, optional
        The statement that `try_json` and `rows_h5` carry.

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
    check_options(options)
    for path in (try_tif, try_json, rows_h5):
        remove_stale(path)
    tiff.remove_try_slices(Path(try_json).parent, foreign=format == "tiff")
    with ExitStack() as held:
        try:
            proven = prove_angles(
                raw, flats=flats, darks=darks, known=known, minus_log=minus_log,
                corrections=corrections, partial=partial, threads=thread_count(threads),
            ) if prove else None  # fmt: skip
            known = with_angles({"known": known or {}}, proven)["known"] if proven else known
            with open_scan(raw, flats=flats, darks=darks, known=known, partial=partial) as scan:
                asked = row_numbers(row, scan.n_rows)
                recipe = recipe_of(flats, darks, minus_log, corrections)
                rows = collect_rows(scan, asked, recipe, threads=thread_count(threads))
            cor_px = candidates(
                rows.sinograms.shape[2],
                first_col=rows.first_col,
                center_px=center_px,
                width_px=width_px,
                step_px=step_px,
            )
            options = with_device(options, held)
            shown = sweep_of(rows, 0, cor_px, max_size_px, options)
            window = grey_window(shown, options)
        except MemoryError:
            raise
        except Exception as error:
            if of_the_device(error):
                raise
            return _fail(error, try_tif, try_json, rows_h5, made_from)
        write_rows(rows, rows_h5, made_from=made_from)
        try:
            _write_slices(rows, len(asked), cor_px, options, Path(try_json).parent)
            _write_stack(shown, window, options, try_tif)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if of_the_device(error):
                raise
            return _fail(error, try_tif, try_json, rows_h5, made_from)
    record = _describe(rows, shown, window, options, asked=asked)
    if proven:
        record["geometry"]["angles_proven"] = proven
    record |= _stated(made_from)
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


def _write_stack(
    job: Sweep, window: tuple[float, float], options: Options, path: str | os.PathLike[str]
) -> None:
    size = job.plan.n_cols
    scale = 65535 / (window[1] - window[0])
    pages = (
        np.clip((image - window[0]) * scale + 0.5, 0, 65535).astype(np.uint16)
        for image in slices_of(job, options)
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
        job = sweep_of(rows, index, cor_px, None, options, plan)
        plan = job.plan
        for value_px, image in zip(cor_px.tolist(), slices_of(job, options), strict=True):
            tiff.write_slice(image, folder / tiff.try_slice_name(row, value_px))


def _describe(
    rows: Rows,
    job: Sweep,
    window: tuple[float, float],
    options: Options,
    *,
    asked: list[int],
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
        },
        "filter": options.filter,
        "format": options.format,
        "bad_frames": {kind: len(numbers) for kind, numbers in (rows.bad_frames or {}).items()},
    }


def _fail(
    error: Exception,
    try_tif: str | os.PathLike[str],
    try_json: str | os.PathLike[str],
    rows_h5: str | os.PathLike[str],
    made_from: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write the outputs of a scan that cannot be looked at."""
    text = " ".join(str(error).split())
    reason = text if isinstance(error, ScanError) else f"{type(error).__name__}: {text}"
    logger.error("failed: %s", reason, exc_info=error)
    if made_from and is_of_the_system(error):
        made_from = {**made_from, "not_read": reason}  # not what is wanted: tried again
    write_rows(failed_rows(reason), rows_h5, made_from=made_from)
    page = np.zeros((1, *_FAILED_SHAPE), dtype=np.uint16)
    tiff.write_try_stack(page, [0], try_tif, shape=_FAILED_SHAPE, labels=[f"failed: {reason}"])
    write_json({"failed": reason} | _stated(made_from), try_json)
    return {"failed": reason}


def _stated(made_from: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"made_from": dict(made_from)} if made_from else {}
