"""Read scans of any format: DXchange and NXtomo in HDF5 files, TIFF files in a folder or stack.

The format is recognised from the content. Files are opened read-only and never changed. What makes
a scan unusable raises a ScanError whose message is `path: reason`, in one line; what makes it
incomplete is returned by `tomopipe.scans.metadata.incomplete`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.base import is_dataset
from tomopipe.config.blocks import NUMBERS, AngleRange, implausible
from tomopipe.config.spans import first_and_last
from tomopipe.errors import ScanError, own_error
from tomopipe.scans.angle_lists import (
    BY_NAME,
    DIFFER,
    OTHER_ANGLES,
    TILTS,
    UNIT_OF_FILE,
    UNKNOWN_UNIT,
    angles_of_range,
    notes_on_list,
    other_unit,
    read_angles,
    span_deg,
    unwrapped,
)
from tomopipe.scans.datasets import degrees_of, need_dataset
from tomopipe.scans.formats import format_of
from tomopipe.scans.hdf5 import one_line, open_hdf5
from tomopipe.scans.instrument import StatedNumber
from tomopipe.scans.inventory_notes import NOT_SQUARE
from tomopipe.scans.layout import Layout, Path
from tomopipe.scans.metadata import IN_ORDER, NO_ANGLES, Metadata, incomplete, skipping
from tomopipe.scans.pixels import Frames, IndexRange, cut_columns, unsigned
from tomopipe.scans.references import ABSENT, References, Sources, find_references
from tomopipe.scans.scan import Scan

_CONFIGURATION = "the configuration"
_IF_NONE_IS_MISSING = " (if no frame is missing, input.angles: {start, step})"
# warnings of angles that are not used
_OF_ANGLES = (TILTS, UNIT_OF_FILE, UNKNOWN_UNIT, BY_NAME, DIFFER)
_SAME_ANGLE_DEG = 0.05
_SAME_NUMBER = 0.01  # relative
# Angles in single precision, or from a text, miss the end of a range by no more than this.
_ROUNDING_DEG = 1e-4


def read_metadata(
    path: Path,
    *,
    flats: Sources = None,
    darks: Sources = None,
    options: InputBlock | Mapping[str, Any] = InputBlock(),
) -> Metadata:
    """Read all there is to know of a scan but its pixels.

    Parameters
    ----------
    path : path-like
        An HDF5 or TIFF file, or a folder of TIFF files, whatever its name.
    flats, darks : path-like, sequence of them, or None
        Where the flats and darks are: None, in the scan itself; "none", declared absent; else
        another scan that has them, or TIFF files of nothing else. Several were taken at even
        distances, the first before the scan, the last after it.
    options : InputBlock or mapping
        What the configuration says about the scan where the file is silent, or wrong.

    Raises
    ------
    StillWrittenError
        If another process is writing the file.
    ScanError
        If the scan cannot be used, whatever the cause; nothing else is raised.
    """
    with ExitStack() as stack:
        return _examine(path, flats, darks, options, stack)[0]


@contextmanager
def open_scan(
    path: Path,
    *,
    flats: Sources = None,
    darks: Sources = None,
    options: InputBlock | Mapping[str, Any] = InputBlock(),
    partial: bool = False,
) -> Iterator[Scan]:
    """Open a scan to read its pixels.

    Parameters
    ----------
    path, flats, darks, options
        As in `read_metadata`.
    partial : bool
        Accept an incomplete scan; only the leading frames that were really written and have a
        finite angle are used, with their angles. Of those that `options` leaves out, none is.

    Yields
    ------
    Scan
        To be used within the block.

    Raises
    ------
    ScanError
        If the scan cannot be used, or is incomplete and `partial` is False.
    """
    with ExitStack() as stack:
        metadata, projections, *references = _examine(path, flats, darks, options, stack)
        reason = incomplete(metadata)
        if reason and not partial:
            says_how = IN_ORDER in reason or "skip_projections" in reason
            hint = "" if says_how else "; `select: yes` uses the frames that are there"
            raise ScanError(f"{path}: {reason}{hint}")
        if metadata.theta_deg is None:
            raise ScanError(f"{path}: {NO_ANGLES}")
        frames = _usable_frames(metadata, metadata.theta_deg)
        if len(frames) == 0:
            raise ScanError(
                f"{path}: no frame can be used; {reason or 'leave it out (`select: no`)'}"
            )
        yield Scan(metadata, projections, frames, *references)


def _usable_frames(metadata: Metadata, theta_deg: NDArray[np.float64]) -> NDArray[np.intp]:
    chosen = metadata.chosen
    written = chosen[chosen < metadata.n_written]
    with_angle = written[written < len(theta_deg)]
    return with_angle[np.isfinite(theta_deg[with_angle])]


_Parts = tuple[Metadata, Frames, References, References]  # with projections, flats and darks


def _examine(
    path: Path,
    flats: Sources,
    darks: Sources,
    options: InputBlock | Mapping[str, Any],
    stack: ExitStack,
) -> _Parts:
    """Open a scan, check all that is needed of it."""
    options = options if isinstance(options, InputBlock) else InputBlock(**options)
    try:
        return _read_parts(path, flats, darks, options, stack)
    except ScanError:
        raise
    except Exception as error:
        # Broken files raise nearly anything from nearly anywhere.
        fault = own_error(error) or f"broken file ({one_line(error)})"
        raise ScanError(f"{path}: {fault}") from error


def _read_parts(
    path: Path, flats: Sources, darks: Sources, options: InputBlock, stack: ExitStack
) -> _Parts:
    reader = format_of(path).open_reader(path, options, stack)
    layout = _corrected(reader.layout(), options)
    _refuse_implausible(layout)
    warnings = [*layout.warnings, *_check_unit(layout, options)]
    flat = find_references(reader, "flats", flats, layout, options, stack)
    dark = find_references(reader, "darks", darks, layout, options, stack)
    if options.unsigned:
        layout = replace(layout, projections=unsigned(layout.projections))
        flat, dark = flat.each(unsigned), dark.each(unsigned)
    pixels = layout.projections.pixels
    n_angles, (n_rows, n_cols) = len(layout.projections.index), pixels.shape[1:]
    if dark.location != ABSENT and not len(dark.positions):
        warnings.append("darks never written: 0 assumed")
    written = layout.projections.written
    chosen = _choose(layout, options)
    if beyond := [span for span in options.skip_projections if np.min(span) >= n_angles]:
        listed = ", ".join(map(str, beyond))
        last = n_angles - 1
        warnings.append(f"input.skip_projections: {listed}: the scan has projections 0 to {last}")
    first, last = first_and_last(f"{path}: input.columns", options.columns, n_cols, "columns of")
    columns = first, last + 1
    sources = _describe_missing_sources(layout)
    missing = chosen[~written[chosen]]
    if sources and not len(missing):
        warnings.append(sources)
    width, ratio = layout.pixel_size_um, 1.0
    if width and width.value and abs(width.ratio - 1) > _SAME_NUMBER:
        ratio = width.ratio
        warnings.append(
            f"{NOT_SQUARE}{width.value:.4g} um wide, {ratio * width.value:.4g} um high "
            f"({width.location}): slices are as wide as that and as far apart, and RELION gets no "
            "stack. If they are square, set input.pixel_size_um"
        )
    metadata = Metadata(
        format=layout.format,
        n_angles=n_angles,
        n_rows=n_rows,
        n_cols=n_cols,
        columns=columns,
        chosen=chosen,
        dtype=str(pixels.dtype),
        theta_deg=layout.theta_deg,
        theta_location=layout.theta_counted or layout.theta_location,
        theta_listed=layout.theta_listed,
        axes=options.axes,
        fits_any=layout.fits_any,
        covered_deg=_covered_deg(layout),
        n_written=_n_leading(written, missing),
        data_bytes=n_angles * n_rows * n_cols * pixels.dtype.itemsize,
        pixel_size_um=_value(width),
        pixel_ratio=ratio,
        energy_kev=_value(layout.energy_kev),
        distance_mm=_value(layout.distance_mm),
        aborted=layout.aborted or (sources or _holes(written, chosen) if len(missing) else ""),
        found=_describe(layout, chosen, columns, flat, dark),
        warnings=tuple(warnings),
    )
    projections = cut_columns(layout.projections, columns)
    return metadata, projections, flat.cut(columns), dark.cut(columns)


def _check_unit(layout: Layout, options: InputBlock) -> list[str]:
    """Raise where angles cannot be degrees; return a warning where they may not be."""
    _refuse_unknown_unit(layout.path, layout.theta_location, layout.warnings)
    if layout.theta_deg is None or options.angle_unit != "auto":
        return []
    in_rad = any(text.startswith(f"{UNIT_OF_FILE}rad") for text in layout.warnings)
    fault, warning = other_unit(layout.theta_deg, in_rad=in_rad)
    if fault:
        raise ScanError(f"{layout.path}: {fault} ({layout.theta_location})")
    return [warning] if warning else []


def _refuse_unknown_unit(path: str, location: str, warnings: Sequence[str]) -> None:
    for text in warnings:
        if text.startswith(UNKNOWN_UNIT):
            raise ScanError(f"{path}: {text} ({location})")


def _describe_missing_sources(layout: Layout) -> str:
    """Say which source files are missing, in one sentence; "" if none is."""
    if not layout.missing_sources:
        return ""
    first, *more = layout.missing_sources
    which = f"{first}{f' and {len(more)} more' if more else ''} cannot be opened"
    written = layout.projections.written
    missing = f"{np.count_nonzero(~written)} of {len(written)} frames are missing"
    return which if written.all() else f"{which}: {missing}; copy it there"


def _n_leading(written: NDArray[np.bool_], missing: NDArray[np.intp]) -> int:
    """Return how many projections were written up to the first `missing` one of those in use."""
    if not len(missing):
        return len(written)
    return int(np.max(np.flatnonzero(written[: missing[0]]), initial=-1)) + 1


def _holes(written: NDArray[np.bool_], chosen: NDArray[np.intp]) -> str:
    """Name the projections that were not written, a few among others; "" if all the rest were."""
    is_there = written[chosen]
    missing = chosen[~is_there]
    if 2 * len(missing) >= len(chosen) or not is_there[np.argmin(is_there) :].any():
        return ""
    n = len(written)
    if len(missing) == 1:
        return f"frame {missing[0]} of {n} was not written: {skipping(missing)} leaves it out"
    return f"{len(missing)} of {n} frames were not written: {skipping(missing)} leaves them out"


def _refuse_implausible(layout: Layout) -> None:
    """Raise if numbers of the file are out of range, each with the key that replaces it."""
    faults = [
        f"{number.words} {fault} ({result.location}); set input.{name}"
        for name, number in NUMBERS.items()
        if (result := getattr(layout, name))
        and result.value
        and (fault := implausible(name, result.value))
    ]
    if faults:
        raise ScanError(f"{layout.path}: {'; '.join(faults)}")


def _choose(layout: Layout, options: InputBlock) -> NDArray[np.intp]:
    """Return the numbers of the projections in use, ascending, as if others were never taken.

    A projection without an angle is never skipped for it; `skip_angles` count modulo 360: (-5, 5)
    skips 358 as well.
    """
    n_angles = len(layout.projections.index)
    in_use = np.arange(n_angles) % options.every == 0
    for span in options.skip_projections:
        first, last = span if isinstance(span, Sequence) else (span, span)
        in_use[first : last + 1] = False
    theta_deg = np.full(n_angles, np.nan)
    if layout.theta_deg is not None:
        angles = layout.theta_deg[:n_angles]
        theta_deg[: len(angles)] = angles
    for first_deg, last_deg in options.skip_angles:
        beyond = np.mod(theta_deg - (first_deg - _ROUNDING_DEG), 360)
        in_use &= ~(beyond <= last_deg - first_deg + 2 * _ROUNDING_DEG)
    if n_angles and not in_use.any():
        raise ScanError(
            f"{layout.path}: none of {n_angles} projections is in use: input.every, "
            "input.skip_angles and input.skip_projections skip all of them"
        )
    return np.flatnonzero(in_use)


def _corrected(layout: Layout, options: InputBlock) -> Layout:
    """Replace what the file says by what the configuration says."""
    changes: dict[str, Any] = {
        name: StatedNumber(value, _not_of_the_file(getattr(layout, name), value))
        for name in NUMBERS
        if (value := getattr(options, name)) is not None
    }
    if options.angles is not None:
        changes |= _configured_angles(layout, options.angles, options.angle_unit)
        changes["warnings"] = tuple(
            text for text in layout.warnings if not text.startswith(_OF_ANGLES)
        )
        if _are_others(layout.theta_deg, changes.get("theta_deg")):
            other = f"{OTHER_ANGLES}, {layout.theta_location}"
            changes["notes"] = (*changes.get("notes", layout.notes), other)
    return _without_jump(replace(layout, **changes))


def _not_of_the_file(of_file: StatedNumber | None, value: float) -> str:
    """Say that the configuration gives a number, and which other one the file has."""
    if of_file is None or not of_file.value:
        return _CONFIGURATION
    other = abs(value - of_file.value) > _SAME_NUMBER * of_file.value
    return f"{_CONFIGURATION}, where the file has {of_file.value:.4g}" if other else _CONFIGURATION


def _without_jump(layout: Layout) -> Layout:
    """Let angles that begin again at 360 degrees go on."""
    if layout.theta_deg is None or (theta_deg := unwrapped(layout.theta_deg)) is layout.theta_deg:
        return layout
    notes = (*layout.notes, "a jump of the angles by 360 degrees taken out")
    return replace(layout, theta_deg=theta_deg, notes=notes)


def _are_others(of_file: NDArray | None, configured: NDArray | None) -> bool:
    """Tell whether the angles that the configuration gives are not those of the file."""
    if of_file is None or configured is None or len(of_file) != len(configured):
        return False
    return bool(np.nanmax(np.abs(of_file - configured), initial=0.0) > _SAME_ANGLE_DEG)


def _configured_angles(layout: Layout, angles: str | AngleRange, unit: str) -> dict[str, Any]:
    """Return the angles that the configuration gives, and where they stand."""
    if not isinstance(angles, str):
        return {"theta_location": _CONFIGURATION} | _angles_of_range(layout, angles)
    if layout.theta_configured:
        return {}
    if is_dataset(angles):
        with open_hdf5(layout.path) as file:
            theta_deg, _, notes, _ = degrees_of(need_dataset(file, angles, " (input.angles)"), unit)
        _refuse_unknown_unit(layout.path, angles, notes)
    else:
        theta_deg, notes = read_angles(angles, unit), notes_on_list(angles)
    return {
        "theta_deg": theta_deg,
        "theta_location": angles,
        "theta_listed": not is_dataset(angles),
        "notes": layout.notes + notes,
    }


def _angles_of_range(layout: Layout, angles: AngleRange) -> dict[str, Any]:
    """Return an angle for each frame, or, of a scan that stopped early, for each planned one.

    The last angle of a range is that of the last frame planned, which may be missing.
    """
    of_file, n_frames = layout.theta_deg, len(layout.projections.index)
    n_listed = 0 if of_file is None else len(of_file)
    n_planned = max(n_frames, layout.n_planned, n_listed)
    theta_deg = angles_of_range(angles, n_planned)
    if angles.stop is not None and n_listed > n_frames:
        otherwise = "" if layout.theta_listed else _IF_NONE_IS_MISSING
        return {"theta_deg": theta_deg, "theta_counted": layout.theta_location + otherwise}
    listed = None if n_listed != n_frames else of_file
    return {
        "theta_deg": theta_deg[
            np.arange(n_frames) if layout.positions is None else layout.positions
        ],
        "fits_any": listed is None,
        "is_spread": angles.stop is not None,
        "covered_deg": None if listed is None else span_deg(listed),
    }


def _covered_deg(layout: Layout) -> float | None:
    if layout.is_spread or layout.theta_deg is None:
        return layout.covered_deg
    return span_deg(layout.theta_deg)


def _value(result: StatedNumber | None) -> float | None:
    return None if result is None else result.value


def _describe(
    layout: Layout,
    chosen: NDArray[np.intp],
    columns: IndexRange,
    flats: References,
    darks: References,
) -> str:
    """Say what was found where, in a line; a number that differs from scan to scan is not in it."""
    angles = "none"
    if layout.theta_deg is not None:
        finite = layout.theta_deg[np.isfinite(layout.theta_deg)]
        angles = f"{layout.theta_location}, {np.ptp(finite) if len(finite) else 0:.0f} degrees"
    parts = [layout.format, f"projections {layout.location}", f"angles {angles}"]
    if len(chosen) < (n_angles := len(layout.projections.index)):
        parts.append(f"{len(chosen)} of {n_angles} projections in use")
    if columns != (0, n_cols := layout.projections.pixels.shape[2]):
        parts.append(f"columns {columns[0]} to {columns[1] - 1} of {n_cols} in use")
    for kind, references in (("flats", flats), ("darks", darks)):
        n_sets = len(np.unique(references.positions)) if kind == "flats" else 1
        sets = f" in {n_sets} sets" if n_sets > 1 else ""
        n = len(references.positions)
        frames = f", {n} frame{'s' * (n != 1)}{sets}" * (references.location != ABSENT)
        parts.append(f"{kind} {references.location}{frames}")
    missing = []
    for name, number in NUMBERS.items():
        if result := getattr(layout, name):
            value = result.fault or f"{result.value:.4g} {number.unit}"
            parts.append(f"{number.words} {value}, {result.location}")
        else:
            missing.append(number.words)
    if missing:
        parts.append(f"not found: {', '.join(missing)}")
    parts += layout.notes
    return "; ".join(parts)
