"""Step try_recon: the try grid of candidate CORs, a sweep of one row, and rows for later steps."""

import logging
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.results import N_STUCK, ROLL, UNCORRECTED_ROLL, UNREADABLE
from tomopipe.config import PreprocessBlock, TryReconBlock
from tomopipe.config.spans import middle_of_sweep
from tomopipe.cor.collected_rows import (
    Rows,
    collect_rows,
    corrected_frames,
    failed_rows,
    write_rows,
)
from tomopipe.cor.illuminated_rows import choose_rows, illuminated_rows
from tomopipe.errors import (
    PixelsError,
    ScanError,
    is_of_the_system,
    library_error,
    reason_of,
    unexpected,
)
from tomopipe.geometry import axis_voxel
from tomopipe.prep.flats import Beam, read_beam
from tomopipe.recon.gpu import of_the_device
from tomopipe.recon.jit import thread_count
from tomopipe.resources.memory import Resources
from tomopipe.scans.exchange import RawScan
from tomopipe.scans.scan import Scan
from tomopipe.steps import not_read, stated
from tomopipe.storage.atomic import remove_stale, write_json
from tomopipe.stream.try_sweep import (
    FILTER,
    Sweep,
    SweepOptions,
    grey_window,
    slices_of,
    sweep_of,
    with_device,
)
from tomopipe.volumes import tiff

if TYPE_CHECKING:
    from tomopipe.cor.pitch import Pitch

_FAILED_SHAPE = (64, 64)
_MEMORY_BYTES = 2 * 2**30

logger = logging.getLogger(__name__)


class TryFiles(NamedTuple):
    """Paths that try_recon writes."""

    # slices in the order of COR: at most `max_size_px` wide, uint16, one grey window for the whole
    # sweep, each page labelled
    stack: str | os.PathLike[str]
    # JSON: grid, window and geometry of the sweep, or {"failed": reason}
    sweep: str | os.PathLike[str]
    # corrected sinograms of a few rows and opposing projections (`tomopipe.cor.collected_rows`)
    rows: str | os.PathLike[str]


def try_recon(
    raw: RawScan,
    files: TryFiles,
    options: TryReconBlock,
    *,
    resources: Resources,
    made_from: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Reconstruct one row for each candidate COR and keep rows for later steps.

    An error of the scan (unreadable, constant, no candidate on the detector) is a result, recorded
    in the three outputs. Errors of writing or of a GPU are raised, and so is lack of memory, as
    another attempt gets more.

    The scan is read once. The sweep goes `width_px` to each side, ends included, in equal steps of
    at most `step_px`; candidates off the detector are dropped. The first of several rows is the one
    shown. Full-size float32 slices with TomoGUI's names are beside `files`, if requested. With less
    memory (2 GiB by default) fewer slices are computed at a time; on a GPU its free memory counts.
    Returns the content of `files.sweep`; it and `files.rows` have the statement `made_from`.
    """
    threads, memory_bytes = resources.threads, resources.memory_bytes or _MEMORY_BYTES
    sweep = SweepOptions(raw.preprocess.half_acquisition, options.device, threads, memory_bytes)
    folder = Path(files.sweep).parent
    for path in files:
        remove_stale(path)
    tiff.remove_try_slices(folder, foreign=options.format == "tiff")
    in_writing = False
    with ExitStack() as stack:
        try:
            with raw.open() as scan:
                lit = illuminated_rows(scan)
                row_index, notes = choose_rows(options.row, lit)
                for note in notes:
                    logger.warning("%s", note)
                n_threads = thread_count(threads)
                recipe = raw.preprocess.with_roll(0.0)
                is_auto = raw.preprocess.roll_deg == "auto"
                beam = read_beam(scan, recipe) if is_auto else None  # once for all of these
                rows = collect_rows(scan, row_index, recipe, threads=n_threads, lit=lit, beam=beam)
                roll_deg, uncorrected = _measured_roll(rows) if is_auto else (0.0, {})
                if roll_deg:
                    recipe = raw.preprocess.with_roll(roll_deg)
                    rows = collect_rows(
                        scan, row_index, recipe, threads=n_threads, lit=lit, beam=beam
                    )
                pitch = _measured_pitch(scan, rows, recipe, lit, beam) if beam else None
            cor_px = try_grid(options, rows.sinograms.shape[2], first_col=rows.first_col)
            # size of the largest slices: full-size ones are also written
            largest_px = None if options.format == "tiff" else options.max_size_px
            sweep = with_device(sweep, rows, cor_px, largest_px, stack)
            shown = sweep_of(rows, 0, cor_px, options.max_size_px, sweep)
            window = grey_window(shown, sweep)
            in_writing = True
            _write_stack(shown, window, sweep, files.stack)
            if options.format == "tiff":
                _write_slices(rows, len(row_index), cor_px, sweep, folder)
        except Exception as error:
            is_of_writing = in_writing and isinstance(error, OSError)
            is_of_machine = isinstance(error, MemoryError) or library_error(error) is not None
            if is_of_writing or is_of_machine or of_the_device(error):
                raise
            return _fail(error, files, made_from)
    write_rows(rows, files.rows, made_from=made_from)
    record = _describe(rows, shown, window, row_index)
    record |= {"filter": FILTER, "format": options.format}
    record["half_acquisition_mode"] = raw.preprocess.half_acquisition
    if packages := {c.package.name: c.package.version for c in raw.preprocess.of_sites()}:
        record["packages"] = packages
    if is_auto and recipe.roll_deg:
        record[ROLL] = recipe.roll_deg
    if is_auto:
        record["pitch"] = pitch and pitch._asdict()
    record |= uncorrected | stated(made_from)
    write_json(record, files.sweep)
    return record


def _measured_roll(rows: Rows) -> tuple[float, dict[str, Any]]:
    """Return the roll to correct, or 0, and an entry of try.json if its error is too large."""
    from tomopipe.cor.roll import roll_of  # SciPy, which few campaigns need here

    try:
        roll = roll_of(rows.plain())
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        text = "preprocess.roll_deg: auto: not measured: %s"
        logger.warning(text, reason_of(error), exc_info=unexpected(error))
        return 0.0, {}
    size = rows.n_rows, rows.sinograms.shape[2]
    roll_deg = 0.0 if roll is None else roll.correction_deg(*size)
    found = "cannot be measured" if roll is None else f"{roll.deg:.3f} +- {roll.error_deg:.3f}"
    logger.info("roll: %s degrees, %s", found, f"corrected by {roll_deg:g}" if roll_deg else "kept")
    if roll is None or not roll.remark(*size):
        return roll_deg, {}
    return roll_deg, {UNCORRECTED_ROLL: roll._asdict()}


def _measured_pitch(
    scan: Scan,
    rows: Rows,
    recipe: PreprocessBlock,
    lit: NDArray[np.bool_] | None,
    beam: Beam,
) -> "Pitch | None":
    """Measure how far the axis leans along the beam; None: it cannot be measured."""
    from tomopipe.cor.pitch import pitch_of, quarter_frames  # as above

    pitch = None
    if len(rows.pairs) and rows.minus_log:
        frames, signs = quarter_frames(rows.theta_rad, rows.pair_theta_rad)
        different, which = np.unique(frames, return_inverse=True)
        quarters = corrected_frames(scan, different.tolist(), recipe, lit, beam)[which]
        pitch = pitch_of(rows.pairs, quarters, signs, rows.n_rows)
    if pitch is None:
        logger.info("pitch: cannot be measured")
    else:
        logger.info("pitch: %.3f +- %.3f degrees, %.2f px at the rim", *pitch)
    return pitch


def try_grid(options: TryReconBlock, n_cols: int, *, first_col: int) -> NDArray[np.float64]:
    """Return the candidate CORs: the middle, and equal steps up to `width_px` on each side.

    Ascending, within the `n_cols` columns in use from `first_col` on; the step is reduced if it
    does not divide the width. A ScanError if none lies on the detector.
    """
    width_px, step_px = options.width_px, options.step_px
    last_col = first_col + n_cols - 1
    middle_px = middle_of_sweep(options, first_col, last_col)
    n_steps = math.ceil(width_px / step_px - 1e-9)
    grid_px = np.round(middle_px + np.linspace(-width_px, width_px, 2 * n_steps + 1), 6)
    on_detector = (grid_px >= first_col) & (grid_px <= last_col)
    if not on_detector.any():  # the detector lies between two candidates
        raise ScanError(
            f"try_recon: no candidate lies on the detector ({first_col} to {last_col}). Set a "
            "smaller try_recon.step_px."
        )
    return grid_px[on_detector]


def _write_stack(
    job: Sweep, window: tuple[float, float], options: SweepOptions, path: str | os.PathLike[str]
) -> None:
    size = job.plan.n_cols
    scale = 65535 / (window[1] - window[0])
    pages = (
        np.clip((image - window[0]) * scale + 0.5, 0, 65535).astype(np.uint16)
        for image in slices_of(job, options)
    )
    tiff.write_try_stack(pages, job.cor_px, path, shape=(size, size))


def _write_slices(
    rows: Rows, n_rows: int, cor_px: NDArray[np.float64], options: SweepOptions, folder: Path
) -> None:
    """Write the full-size slices of the requested rows, the first `n_rows`."""
    plan = None
    for index, row in enumerate(rows.row_index[:n_rows].tolist()):
        job = sweep_of(rows, index, cor_px, None, options, plan)
        plan = job.plan
        for value_px, image in zip(cor_px.tolist(), slices_of(job, options), strict=True):
            tiff.write_slice(image, folder / tiff.try_slice_name(row, value_px))


def _describe(
    rows: Rows, job: Sweep, window: tuple[float, float], row_index: list[int]
) -> dict[str, Any]:
    """Return the content of try.json."""
    n_angles, n_cols = job.sinogram.shape
    size = job.plan.n_cols
    return {
        "cor_px": job.cor_px.tolist(),
        "row": row_index[0],
        "rows": row_index,
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
        },
        "bad_frames": {kind: len(numbers) for kind, numbers in (rows.bad_frames or {}).items()},
        **({N_STUCK: rows.n_stuck} if rows.n_stuck else {}),
    }


def _fail(error: Exception, files: TryFiles, made_from: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write the outputs of a scan that cannot be processed."""
    reason = reason_of(error)
    logger.error("failed: %s", reason, exc_info=unexpected(error))
    if is_of_the_system(error):
        made_from = not_read(made_from, reason)
    write_rows(failed_rows(reason), files.rows, made_from=made_from)
    page = np.zeros((1, *_FAILED_SHAPE), dtype=np.uint16)
    tiff.write_stack(page, [f"failed: {reason}"], files.stack, shape=_FAILED_SHAPE)
    record = {"failed": reason} | ({UNREADABLE: True} if isinstance(error, PixelsError) else {})
    record |= stated(made_from)
    write_json(record, files.sweep)
    return record
