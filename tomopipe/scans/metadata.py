"""Metadata of a scan, and whether it was aborted: the frames or angles that it lacks.

`incomplete` judges one scan by its metadata; `undersized` of `tomopipe.steps.inventory` compares
its size with others of its series.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.blocks import NUMBERS, implausible
from tomopipe.config.spans import first_and_last
from tomopipe.errors import ScanFaultError
from tomopipe.scans.angle_lists import span_deg
from tomopipe.scans.chunks import IndexRange
from tomopipe.scans.formats import NOT_SQUARE
from tomopipe.scans.layout import (
    KEYS,
    PIXEL_SIZE_UM,
    SAME_NUMBER,
    Layout,
    axes_hint,
    why_aborted,
)
from tomopipe.scans.references import ABSENT, References
from tomopipe.scans.stated_motion import Positions, describe_motion

NO_ANGLES = "no angles: set input.angles: {start: 0, stop: 180}"  # a reason begins so
IN_ORDER = "`select: yes` in scans.tsv takes the frames in order, with the first of the angles"
_FEW = 0.01
# Angles in single precision, or from a text, miss the end of a range by no more than this.
_ROUNDING_DEG = 1e-4
_APART_DEG = 5.0  # largest range of angles of projections that are averaged
_LISTED = 20  # ranges of numbers in a sentence


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is known of a scan without reading its pixels."""

    format: str  # DXchange, NXtomo, HDF5 (datasets that the configuration names) or TIFF
    n_angles: int
    n_rows: int
    n_cols: int
    columns: tuple[int, int]  # first and last column in use, the last excluded
    chosen: NDArray[np.intp]  # numbers of the projections in use, 0-based, ascending
    dtype: str  # of the pixels, in the byte order of this machine
    theta_deg: NDArray[np.float64] | None  # as found: any number of them, finite or not; None: none
    theta_location: str  # where they, or those of their number, are in the file, or which list
    theta_listed: bool  # in a list apart from the frames, which may not fit to them
    axes: Sequence[str]  # input.axes
    covered_deg: float | None  # range of the angles, the last step included; None: nothing tells
    n_written: int  # projections up to the last one that was written, but for those not in use
    present: NDArray[np.intp]  # those of `chosen` that were really written
    data_bytes: int  # projections x rows x columns x item size
    pixel_size_um: float | None  # in the sample: the width of a pixel
    pixel_ratio: float  # of its height to its width
    energy_kev: float | None  # of the photons
    distance_mm: float | None  # from sample to detector
    height_mm: float | None  # of the stage, if recorded
    time_s: float | None  # of its start since 1970, if recorded; of a window, by its frames
    aborted: str  # why frames of any kind are missing, or ""
    found: str  # what was found where, for people; equal for scans recorded in the same way
    warnings: tuple[str, ...]  # what was assumed
    stated_motion: tuple[str, ...] = ()  # of `warnings`: how far the sample moves, by the file
    positions: tuple[Positions, ...] = ()  # of the sample, stated for each projection
    first: int = 0  # the first projection of a window
    n_recorded: int = 0  # projections of the file
    average: int = 1  # neighbours among `chosen` of which each projection in use is the mean

    @property
    def n_in_use(self) -> int:
        """Number of projections in use, averaged ones."""
        return len(self.chosen) // self.average


def metadata_of(layout: Layout, references: Sequence[References], options: InputBlock) -> Metadata:
    """Return the metadata of a scan; a ScanFaultError if they cannot be right."""
    _refuse_implausible(layout)
    warnings = [*layout.warnings]
    _, dark = references
    pixels = layout.projections.pixels
    n_angles, (n_rows, n_cols) = len(layout.projections.index), pixels.shape[1:]
    if dark.location != ABSENT and not len(dark.positions):
        warnings.append("darks never written: 0 assumed")
    chosen = _choose(layout, options)
    if beyond := [span for span in options.skip_projections if np.min(span) >= n_angles]:
        spans, last = ", ".join(map(str, beyond)), n_angles - 1
        warnings.append(f"input.skip_projections: {spans}: the scan has projections 0 to {last}")
    first, last = first_and_last("input.columns", options.columns, n_cols, "columns of")
    columns = first, last + 1
    written = layout.projections.written
    present, absent = chosen[written[chosen]], chosen[~written[chosen]]
    n_written = int(np.flatnonzero(written).max(initial=-1)) + 1 if len(absent) else n_angles
    missing = _missing_frames(layout, present, absent)
    if missing and not len(absent):
        warnings.append(missing)
        missing = ""
    width, ratio = layout.pixel_size_um, 1.0
    if width and width.value and abs(width.ratio - 1) > SAME_NUMBER:
        ratio = width.ratio
        warnings.append(
            f"{NOT_SQUARE}{width.value:.4g} um wide, {ratio * width.value:.4g} um high "
            f"({width.location}): slices are as wide as that and as far apart, and RELION gets no "
            "stack. If they are square, set input.pixel_size_um"
        )
    found = _describe(layout, chosen, columns, references, options.average)
    moves, moves_in_units = describe_motion(
        layout.sample_positions, chosen, width.value if width else None, PIXEL_SIZE_UM.factors
    )
    warnings += [*moves, *moves_in_units]
    numbers = {name: getattr(layout, name) for name in NUMBERS}
    covered_deg = layout.covered_deg
    if layout.theta_deg is not None and not layout.is_spread:
        covered_deg = span_deg(layout.theta_deg)
    return Metadata(
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
        covered_deg=covered_deg,
        n_written=n_written,
        present=present,
        data_bytes=n_angles * n_rows * n_cols * pixels.dtype.itemsize,
        pixel_ratio=ratio,
        height_mm=layout.height_mm,
        time_s=layout.time_s,
        aborted=layout.aborted or missing,
        found=found,
        warnings=tuple(warnings),
        stated_motion=moves,
        positions=layout.sample_positions,
        first=layout.first,
        n_recorded=layout.n_recorded or n_angles,
        average=options.average,
        **{name: number and number.value for name, number in numbers.items()},
    )


def _missing_frames(layout: Layout, present: NDArray[np.intp], missing: NDArray[np.intp]) -> str:
    """Name missing files, and projections in use that are missing among others; else ""."""
    written, sources = layout.projections.written, layout.missing_sources
    n, go_on = len(written), len(missing) > 0 and bool((present > missing[0]).any())
    if sources:
        more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
        n_missing = int(np.count_nonzero(~written))
        frames = f": {n_missing} of {n} frames are missing; copy it there" * (n_missing > 0)
        frames += f", or leave them out: {skipping(missing)}" if go_on else ""
        return f"{sources[0]}{more} cannot be opened{frames}"
    # an aborted scan has none after the first missing one
    if not go_on:
        return ""
    if len(missing) == 1:
        which, them = f"frame {missing[0]} of {n} was", "it"
    else:
        which, them = f"{len(missing)} of {n} frames were", "them"
    remedy = f": {skipping(missing)} leaves {them} out" * (len(missing) < len(present))
    return f"{which} not written{remedy}"


def _refuse_implausible(layout: Layout) -> None:
    """Raise if numbers of the file are out of range, each with the key that replaces it."""
    faults = [
        f"{number.label} {fault} ({result.location}); set input.{name}"
        for name, number in NUMBERS.items()
        if (result := getattr(layout, name))
        and result.value
        and (fault := implausible(name, result.value))
    ]
    if faults:
        raise ScanFaultError("; ".join(faults))


def _choose(layout: Layout, options: InputBlock) -> NDArray[np.intp]:
    """Return the projections in use, by number; `skip_angles` count modulo 360."""
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
    chosen = whole_groups(np.flatnonzero(in_use), options)
    if n_angles and not len(chosen):
        raise ScanFaultError(
            f"none of {n_angles} projections is in use: input.every, input.average, "
            "input.skip_angles and input.skip_projections skip all of them"
        )
    if options.average > 1:
        _refuse_wide_groups(chosen, theta_deg, options.average)
    return chosen


def whole_groups(numbers: NDArray[np.intp], options: InputBlock) -> NDArray[np.intp]:
    """Return the projections, by ascending number, whose group of `input.average` is complete."""
    if options.average == 1:
        return numbers
    groups = numbers // options.every // options.average
    _, which, n_members = np.unique(groups, return_inverse=True, return_counts=True)
    return numbers[n_members[which] == options.average]


def _refuse_wide_groups(
    chosen: NDArray[np.intp], theta_deg: NDArray[np.float64], average: int
) -> None:
    """Raise if projections at different angles would be averaged."""
    groups = chosen.reshape(-1, average)
    angles = np.nan_to_num(theta_deg[groups])  # unknown ones are reported elsewhere
    apart_deg = np.where(np.isnan(theta_deg[groups]).any(axis=1), 0, np.ptp(angles, axis=1))
    if np.max(apart_deg, initial=0) > _APART_DEG:
        worst = int(np.argmax(apart_deg))
        raise ScanFaultError(
            f"input.average: {average}: projections {groups[worst, 0]} to {groups[worst, -1]} are "
            f"{apart_deg[worst]:.3g} degrees apart; only those within {_APART_DEG:g} degrees can "
            "be averaged"
        )


def _describe(
    layout: Layout,
    chosen: NDArray[np.intp],
    columns: IndexRange,
    references: Sequence[References],
    average: int,
) -> str:
    """Return where each quantity is in one line, without numbers that differ from scan to scan."""
    angles = "none"
    if layout.theta_deg is not None:
        finite = layout.theta_deg[np.isfinite(layout.theta_deg)]
        covered = f"{np.ptp(finite):.0f} degrees" if len(finite) else "all NaN"
        angles = f"{layout.theta_location}, {covered}"
    parts = [layout.format, f"projections {layout.location}", f"angles {angles}"]
    if len(chosen) < (n_angles := len(layout.projections.index)):
        parts.append(f"{len(chosen)} of {n_angles} projections in use")
    if average > 1:
        parts.append(f"each {average} averaged")
    if columns != (0, n_cols := layout.projections.pixels.shape[2]):
        parts.append(f"columns {columns[0]} to {columns[1] - 1} of {n_cols} in use")
    for kind, part in zip(KEYS, references, strict=True):
        n_sets = len(np.unique(part.positions)) if kind == "flats" else 1
        sets = f" in {n_sets} sets" if n_sets > 1 else ""
        n = len(part.positions)
        frames = f", {n} frame{'s' * (n != 1)}{sets}" * (part.location != ABSENT)
        parts.append(f"{kind} {part.location}{frames}")
    missing = []
    for name, number in NUMBERS.items():
        if result := getattr(layout, name):
            value = result.fault or f"{result.value:.4g} {number.unit}"
            parts.append(f"{number.label} {value}, {result.location}")
        else:
            missing.append(number.label)
    if missing:
        parts.append(f"not found: {', '.join(missing)}")
    parts += layout.notes
    return "; ".join(parts)


def incomplete(metadata: Metadata) -> str:
    """Say why a scan lacks frames, or finite angles for them.

    Parameters
    ----------
    metadata : Metadata
        What its file says.

    Returns
    -------
    str
        The first reason; "" if it is complete.
    """
    reason = _fault_of_angles(metadata) or metadata.aborted
    if not reason and metadata.n_written < metadata.n_angles:
        return f"aborted: the first {metadata.n_written} of {metadata.n_angles} frames were written"
    return reason or NO_ANGLES * (metadata.theta_deg is None)


def _fault_of_angles(metadata: Metadata) -> str:
    n_angles, theta_deg, location = metadata.n_angles, metadata.theta_deg, metadata.theta_location
    if theta_deg is None:
        return ""
    if len(theta_deg) != n_angles:
        is_sinogram = len(theta_deg) == metadata.n_rows
        return _fault_of_number(metadata, theta_deg) + axes_hint(metadata.axes) * is_sinogram
    chosen = metadata.chosen
    if bad := chosen[~np.isfinite(theta_deg[chosen])].tolist():
        n = f"{len(bad)} of {n_angles}"
        return f"{location}: {n} angles not finite or not written{_without(bad, chosen)}"
    if n_angles > 1 and np.ptp(theta_deg) == 0:
        same = f"{location}: all {n_angles} angles are {theta_deg[0]:g}"
        return f"{same}: set input.angles to {{start: 0, stop: 180}}, or to a list"
    return ""


def _without(bad: list[int], chosen: NDArray[np.intp]) -> str:
    """Say how to use a scan without projections whose angles are unknown."""
    first = f", the first is {bad[0]}"
    if 2 * len(bad) >= len(chosen):
        return f"{first}: set input.angles to {{start: 0, stop: 180}}, or to a list"
    if len(runs_of(bad)) > _LISTED:
        return f"{first}: `select: yes` in scans.tsv leaves them out, or set input.angles"
    them = "it" if len(bad) == 1 else "them"
    return f": {skipping(bad)} leaves {them} out, or set input.angles"


def _fault_of_number(metadata: Metadata, theta_deg: NDArray[np.float64]) -> str:
    n_angles, location = metadata.n_angles, metadata.theta_location
    if len(theta_deg) > n_angles and not metadata.theta_listed:
        reason = why_aborted(n_angles, len(theta_deg), f"angles in {location}")
        # So few were dropped, or never taken: those who know can use the scan.
        few = len(theta_deg) - n_angles <= max(1, _FEW * n_angles)
        return reason + f"; {IN_ORDER}" * few
    remedy = f"set input.angles to {{start: 0, stop: 180}}, or to a file of {n_angles} lines"
    if metadata.theta_listed:
        remedy = "correct the list"
        remedy += ", unless the scan was aborted" if len(theta_deg) > n_angles else ""
    return (
        f"{location} has {len(theta_deg)} angles for {n_angles} frames, expected one for each: "
        f"{remedy}"
    )


def skipping(numbers: Sequence[int] | NDArray[np.intp]) -> str:
    """Return the option that skips projections of ascending numbers."""
    ranges = [
        str(first) if first == last else f"[{first}, {last}]" for first, last in runs_of(numbers)
    ]
    return f"input: {{skip_projections: [{', '.join(ranges)}]}}"


def runs_of(numbers: Sequence[int] | NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return the first and the last of each run of neighbours among ascending numbers."""
    ordered = np.asarray(numbers)
    ends = np.flatnonzero(np.diff(ordered) != 1)
    starts = ordered[np.concatenate([[0], ends + 1])].tolist()
    lasts = ordered[np.concatenate([ends, [len(ordered) - 1]])].tolist()
    return list(zip(starts, lasts, strict=True))


def listed(ranges: Sequence[str]) -> str:
    """Join the first ranges of numbers for a sentence."""
    return ", ".join(ranges[:_LISTED]) + ", ..." * (len(ranges) > _LISTED)
