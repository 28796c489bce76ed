"""Write the projections of a scan as an MRC image stack for RELION. The COR is not needed.

Rows are cut out, the projections normalised, blocks of `binning` by `binning` pixels averaged, and
an odd last column is dropped: see `tomopipe.volumes.output_size.StackGeometry`.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread
from tomopipe.config import ExportStarBlock, PreprocessBlock
from tomopipe.config.spans import first_and_last
from tomopipe.config.step_blocks import ASSUMED
from tomopipe.errors import ScanError, ScanFaultError, is_of_the_scan, naming, reason_of, unexpected
from tomopipe.geometry import ANGSTROM_PER_UM
from tomopipe.prep import block_average
from tomopipe.prep.bad_pixels import ConstantFrames
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.normalise import normalise
from tomopipe.recon.angular_sampling import is_full_rotation
from tomopipe.relion.mrc import StackFile, check_stack, images_of
from tomopipe.scans.exchange import RawScan
from tomopipe.scans.raw_identity import file_state
from tomopipe.scans.scan import Scan
from tomopipe.steps import not_read, stated
from tomopipe.storage.atomic import before_rename, remove_stale, whole, write_json, write_text
from tomopipe.stream.source import CorrectedSource
from tomopipe.volumes.output_size import StackGeometry, smallest_binning

log = logging.getLogger(__name__)

_BLOCK_BYTES = 256 * 2**20  # bytes of raw data and its float32 copies in memory
_Block = tuple[NDArray[Any], int, int]  # pixels, and their first image and row in the stack


def export_or_fail(
    raw: RawScan,
    stack_path: str | os.PathLike[str],
    meta_path: str | os.PathLike[str],
    options: ExportStarBlock,
    *,
    made_from: Mapping[str, Any] | None,
    is_last: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Write a stack as `export_stack` does; an error of the scan itself is a result, too.

    The JSON then has {"failed": reason} and the stack is an empty file: the set is made without
    this scan. Errors that another attempt may avoid are raised; a missing raw file is raised before
    the last attempt, then a result, and the next run tries again.
    """
    before = file_state(raw.path)
    try:
        return export_stack(raw, stack_path, meta_path, options, made_from=made_from, **more)
    except ScanError as error:
        is_missing = _is_missing(raw.path, before)
        if not (is_of_the_scan(error) or (is_missing and is_last)):
            raise
        reason = reason_of(error)
        log.error("failed: %s", reason, exc_info=unexpected(error))
        if is_missing:
            made_from = not_read(made_from, reason)
            before_rename.clear()  # its checks of raw files would fail again
    failed = {"failed": reason, **stated(made_from)}
    write_text("", stack_path)
    write_json(failed, meta_path)
    return failed


def _is_missing(path: str | os.PathLike[str], before: tuple[int, int, int] | None) -> bool:
    """Tell whether a raw file, or an image of its folder, is missing on a mounted disk."""
    if os.path.isdir(path):
        return file_state(path) != before
    folder = os.path.dirname(path) or "."
    return not os.path.lexists(path) and os.path.isdir(folder) and bool(os.listdir(folder))


def export_stack(
    raw: RawScan,
    stack_path: str | os.PathLike[str],
    meta_path: str | os.PathLike[str],
    options: ExportStarBlock,
    *,
    least_binning: int | None,
    made_from: Mapping[str, Any] | None,
    pixels_of: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """Write the normalised projections of one scan as an MRC stack, with JSON for export_star.

    The stack, `.mrcs`: mode 2 (float32), (n_images, n_rows, n_cols), -ln(T). The JSON, which is
    returned: angles, shapes, binning, pixel size, energy, warnings, the roll that was corrected,
    and the statement `made_from`.

    Binning auto is the smallest that keeps the stack under `max_stack_gb`, but at least
    `least_binning`, that of the campaign (`decide_binning`). Pixel size and energy are by default
    those of the file, else 1 um and 20 keV with a warning. `pixels_of` is an earlier stack of the
    same scan and options, except metadata, whose pixels are copied.

    A ScanError if the scan cannot be read, has no such rows, or the stack is too large at any
    binning.
    """
    for leftover in remove_stale(stack_path):
        log.info("removed %s, left by a killed job", leftover.name)
    with naming(raw.path), raw.open() as scan:
        first, last = first_and_last("export_star.rows", options.rows, scan.n_rows)
        frames = choose_tilts(scan.theta_rad, options.max_tilts)
        n_rows = last + 1 - first
        binning = _binning(options, (frames.size, n_rows, scan.n_cols), least_binning)
        if options.binning == "auto" and least_binning and binning > least_binning:
            log.warning("%s: binned by %d, other scans by %d", raw.path, binning, least_binning)
        geometry = StackGeometry(scan.n_cols, n_rows, binning)
        numbers, warnings = _numbers(options, raw, scan)
        if scan.pixel_ratio != 1:
            raise ScanFaultError(
                f"RELION needs square pixels; these are {scan.pixel_ratio:.4g} times as high as "
                "wide. If they are square, set input.pixel_size_um; export_star.enabled: false "
                "turns stacks off"
            )
        voxel_angstrom = numbers["pixel_size_um"]["value"] * binning * ANGSTROM_PER_UM
        shape = [int(frames.size), *_image_shape(geometry)]
        with whole(stack_path) as temporary:
            writer = StackFile(temporary, shape, voxel_angstrom)
            if pixels_of:
                log.info("only metadata changed: the pixels of the existing stack are copied")
                for number, image in enumerate(images_of(pixels_of, shape)):
                    writer.write(image[np.newaxis], number, 0)
            else:
                _write(writer, scan, geometry, frames, first, raw.preprocess)
            if not writer.is_finite:
                raise ScanFaultError("normalised values are not finite. Check flats and darks.")
            writer.finish()
            check_stack(temporary, shape)
        meta = numbers | {
            "binning": binning,
            "first_col": scan.first_col,
            "first_row": first,
            "full_turn": is_full_rotation(scan.theta_rad),
            "n_cols": geometry.n_cols,
            "n_rows": geometry.n_rows,
            "stack_shape": shape,
            # identifies the stack: export_star reads only this file
            "statistics": writer.statistics,
            "theta_deg": np.degrees(scan.theta_rad[frames]).tolist(),
            "warnings": warnings,
            **({"roll_deg": roll_deg} if (roll_deg := raw.preprocess.roll_deg) else {}),
            **stated(made_from),
        }
    log.info("%s: %d images of %d x %d pixels, binning %d", stack_path, *shape, binning)
    for warning in warnings:
        log.warning("%s: %s", raw.path, warning)
    write_json(meta, meta_path)
    return meta


def choose_tilts(theta_rad: NDArray[np.float64], max_tilts: int | str) -> NDArray[np.int64]:
    """Choose at most `max_tilts` frames, evenly in order of angle; sorted as in the scan."""
    n_angles = len(theta_rad)
    if max_tilts == "all" or int(max_tilts) >= n_angles:
        return np.arange(n_angles)
    by_angle = np.argsort(theta_rad, kind="stable")
    return np.sort(by_angle[evenly_spread(n_angles, int(max_tilts))])


def _binning(options: ExportStarBlock, shape: tuple[int, int, int], least: int | None) -> int:
    """Return the configured binning; auto: the campaign's, unless the scan needs more."""
    if options.binning != "auto":
        return options.binning
    needed = smallest_binning(*shape, int(options.max_stack_gb * 1e9))
    if least is None:
        return needed
    return max(needed, min(least, shape[2] // 2))


def _write(
    writer: StackFile,
    scan: Scan,
    geometry: StackGeometry,
    frames: NDArray[np.int64],
    first: int,
    recipe: PreprocessBlock,
) -> None:
    """Write all images, whole frames where no correction needs all angles of a row."""
    n_done, numbers, constant = 0, scan.numbers[frames], ConstantFrames(frames.size)
    if recipe.is_plain:
        blocks = _normalised_blocks(
            scan, geometry, frames, first, constant, minus_log=recipe.minus_log
        )
    else:
        source = CorrectedSource(scan, corrections_of(scan, recipe), scan)
        numbers, constant = scan.numbers, source.constant
        blocks = _corrected_blocks(scan, geometry, frames, first, source)
    for values, image, row in blocks:
        even = values[:, :, : geometry.cols * geometry.binning]  # without an odd column
        binned = block_average(even, geometry.binning_rows, geometry.binning)
        writer.write(binned, image, row)
        n_done += binned.shape[0] * binned.shape[1]
        log.info("%d %% written", 100 * n_done // (frames.size * geometry.rows))
    constant.refuse(numbers)


def _normalised_blocks(
    scan: Scan,
    geometry: StackGeometry,
    frames: NDArray[np.int64],
    first: int,
    constant: ConstantFrames,
    *,
    minus_log: bool,
) -> Iterator[_Block]:
    """Read and normalise a scan block by block."""
    high = geometry.binning_rows
    for raw, image, row in _read_blocks(scan, geometry, frames, first):
        constant.look(raw, image)
        detector = slice(first + row * high, first + row * high + raw.shape[1])
        flat, dark = scan.flat[detector], scan.dark[detector]
        yield normalise(raw, flat, dark, minus_log=minus_log), image, row


def _corrected_blocks(
    scan: Scan,
    geometry: StackGeometry,
    frames: NDArray[np.int64],
    first: int,
    source: CorrectedSource,
) -> Iterator[_Block]:
    """Read and correct a scan some rows at a time, as for volumes."""
    high = geometry.binning_rows
    row_bytes = scan.n_angles * scan.n_cols * (np.dtype(scan.dtype).itemsize + 12) * high
    n_rows = max(1, _BLOCK_BYTES // row_bytes)
    for row in range(0, geometry.rows, n_rows):
        past = min(row + n_rows, geometry.rows)
        yield source.read_rows(first + row * high, first + past * high)[frames], 0, row


def _read_blocks(
    scan: Scan, geometry: StackGeometry, frames: NDArray[np.int64], first: int
) -> Iterator[_Block]:
    """Read a scan in blocks of bounded memory: raw pixels of whole binned rows.

    A block is a few whole frames; or some rows of all frames, if they all fit, or if the chunks of
    the file hold several frames and would be decompressed repeatedly.
    """
    high = geometry.binning_rows
    pixel_bytes = np.dtype(scan.dtype).itemsize + 16  # raw, float32, and the buffers of normalise
    n_frames = max(1, _BLOCK_BYTES // (scan.n_rows * scan.n_cols * pixel_bytes))
    n_rows = max(1, _BLOCK_BYTES // (scan.n_angles * scan.n_cols * pixel_bytes * high))
    deep, tall = (scan.stored_chunks or (1, 1))[:2]
    whole_scan = frames.size == scan.n_angles
    # decompressions of each chunk: `deep` times frame by frame, else once for each block of rows
    if tall / (n_rows * high) < deep - 1 or (n_rows >= geometry.rows and whole_scan):
        for row in range(0, geometry.rows, n_rows):
            past = min(row + n_rows, geometry.rows)
            raw = scan.read_rows(first + row * high, first + past * high)
            yield raw if whole_scan else raw[frames], 0, row
        return
    for image in range(0, frames.size, n_frames):
        raw = scan.read_frames(frames[image : image + n_frames].tolist())
        yield raw[:, first : first + geometry.rows * high], image, 0


def _image_shape(geometry: StackGeometry) -> tuple[int, int]:
    """Return rows and columns of the stack, or raise if too few columns remain."""
    if geometry.cols < 2:
        raise ScanFaultError(
            f"binning {geometry.binning} leaves {geometry.volume_cols} of {geometry.n_cols} "
            "columns, at least 2 are needed. Set a smaller export_star.binning or a larger "
            "export_star.max_stack_gb."
        )
    return geometry.rows, geometry.cols


def _numbers(
    options: ExportStarBlock, raw: RawScan, scan: Scan
) -> tuple[dict[str, Any], list[str]]:
    """Return pixel size and energy (configured, of the file, or assumed), and warnings."""
    result: dict[str, Any] = {}
    warnings = []
    for name, assumed in ASSUMED.items():
        of_scan = "file" if getattr(raw.input, name) is None else "config"
        for source, value in (("config", getattr(options, name)), (of_scan, getattr(scan, name))):
            if value is not None and np.isfinite(value) and value > 0:
                result[name] = {"source": source, "value": float(value)}
                break
        else:
            warnings.append(f"{name} is unknown: {assumed:g} assumed. Set export_star.{name}.")
            result[name] = {"source": "assumed", "value": assumed}
    return result, warnings
