"""The options `input` that replace numbers and angles of a file."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tomopipe.config import InputBlock
from tomopipe.config.base import is_dataset
from tomopipe.config.blocks import NUMBERS, AngleRange
from tomopipe.errors import ScanFaultError
from tomopipe.scans.angle_lists import (
    BY_NAME,
    DIFFER,
    OTHER_ANGLES,
    TILTS,
    UNIT_OF_FILE,
    UNKNOWN_UNIT,
    angles_of_range,
    contradiction_deg,
    other_unit,
    read_angles,
    span_deg,
    unwrapped,
)
from tomopipe.scans.datasets import degrees_of, need_dataset
from tomopipe.scans.layout import SAME_NUMBER, Layout, StatedNumber

_CONFIGURATION = "the configuration"
_IF_NONE_IS_MISSING = " (if no frame is missing, input.angles: {start, step})"
# warnings of angles that are not used
_OF_ANGLES = (TILTS, UNIT_OF_FILE, UNKNOWN_UNIT, BY_NAME, DIFFER)
_SAME_ANGLE_DEG = 0.05


def with_options(layout: Layout, options: InputBlock) -> Layout:
    """Replace metadata of the file by those of the configuration; a ScanFaultError for odd angles.

    Of the projections of `input.window` alone. A warning where angles may be of another unit; jumps
    by 360 degrees are taken out.
    """
    layout = windowed(with_angles(layout, options), options)
    notes = layout.notes
    theta_deg = None if layout.theta_deg is None else unwrapped(layout.theta_deg)
    if theta_deg is not layout.theta_deg:
        notes = (*notes, "a jump of the angles by 360 degrees taken out")
    layout = replace(layout, theta_deg=theta_deg, notes=notes)
    return replace(layout, warnings=(*layout.warnings, *_check_unit(layout, options)))


def with_angles(layout: Layout, options: InputBlock) -> Layout:
    """Replace numbers and angles of the file by those of the configuration."""
    changes: dict[str, Any] = {
        name: StatedNumber(value, _configured_location(getattr(layout, name), value))
        for name in NUMBERS
        if (value := getattr(options, name)) is not None
    }
    if options.angles is not None:
        changes |= _configured_angles(layout, options.angles, options.angle_unit)
        changes["warnings"] = tuple(
            text for text in layout.warnings if not text.startswith(_OF_ANGLES)
        )
        of_file, others = layout.theta_deg, changes.get("theta_deg")
        if (
            of_file is not None
            and others is not None
            and len(of_file) == len(others)
            and np.nanmax(np.abs(of_file - others), initial=0) > _SAME_ANGLE_DEG
        ):
            other = f"{OTHER_ANGLES}, {layout.theta_location}"
            if apart_deg := contradiction_deg(of_file, others):
                other += f" (up to {apart_deg:.0f} degrees apart)"
            changes["notes"] = (*changes.get("notes", layout.notes), other)
    return replace(layout, **changes)


def windowed(layout: Layout, options: InputBlock) -> Layout:
    """Return the layout of the window of projections that the options name, else itself."""
    if options.window is None:
        return layout
    n_all = len(layout.projections.index)
    first, last = options.window
    if last >= n_all:
        raise ScanFaultError(f"input.window: [{first}, {last}]: the scan has {n_all} projections")
    part = slice(first, last + 1)
    projections = replace(layout.projections, index=layout.projections.index[part])
    is_whole = bool(projections.written.all())
    share = float(projections.index[0] / projections.pixels.shape[0])
    warnings = layout.warnings
    if layout.is_spread and isinstance(options.angles, AngleRange):
        warnings += (
            f"input.angles: {{start, stop}} is spread over the {n_all} projections of the file, so "
            "its time points are wrong while it grows, and if it stopped early: set "
            f"{{start: {options.angles.start:g}, step: STEP}}",
        )
    time_s = layout.time_s if first == 0 else None
    if layout.time_s is not None and layout.end_s is not None:  # frames at equal steps
        time_s = layout.time_s + share * (layout.end_s - layout.time_s)
    return replace(
        layout,
        projections=projections,
        theta_deg=None if layout.theta_deg is None else layout.theta_deg[part],
        theta_counted="",
        is_spread=False,
        warnings=warnings,
        missing_sources=() if is_whole else layout.missing_sources,
        aborted="" if is_whole else layout.aborted,
        n_planned=last + 1 - first,
        positions=None,
        sample_positions=tuple(
            replace(each, values=each.values[part]) for each in layout.sample_positions
        ),
        first=first,
        n_recorded=n_all,
        time_s=time_s,
    )


def _configured_location(of_file: StatedNumber | None, value: float) -> str:
    """Locate a number of the configuration, with the number of the file if it differs."""
    if of_file is None or not of_file.value:
        return _CONFIGURATION
    other = abs(value - of_file.value) > SAME_NUMBER * of_file.value
    return f"{_CONFIGURATION}, where the file has {of_file.value:.4g}" if other else _CONFIGURATION


def _configured_angles(layout: Layout, angles: str | AngleRange, unit: str) -> dict[str, Any]:
    """Return the angles that the configuration gives, and where they stand."""
    if not isinstance(angles, str):
        return {"theta_location": _CONFIGURATION} | _angles_of_range(layout, angles)
    if layout.theta_configured:
        return {}
    if is_dataset(angles) and layout.file is not None:  # TIFF files refuse it
        dataset = need_dataset(layout.file, angles, " (input.angles)")
        theta_deg, _, notes, _ = degrees_of(dataset, unit)
        _refuse_unknown_unit(angles, notes)
    else:
        theta_deg, notes = read_angles(angles, unit), ()
    return {
        "theta_deg": theta_deg,
        "theta_location": angles,
        "theta_listed": not is_dataset(angles),
        "notes": layout.notes + notes,
    }


def _angles_of_range(layout: Layout, angles: AngleRange) -> dict[str, Any]:
    """Return an angle for each frame, or, of a scan that stopped early, for each planned one."""
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
        "is_spread": angles.stop is not None,
        "covered_deg": None if listed is None else span_deg(listed),
    }


def _check_unit(layout: Layout, options: InputBlock) -> list[str]:
    """Raise where angles cannot be degrees; return a warning where they may not be."""
    _refuse_unknown_unit(layout.theta_location, layout.warnings)
    if layout.theta_deg is None or options.angle_unit != "auto":
        return []
    in_rad = any(text.startswith(f"{UNIT_OF_FILE}rad") for text in layout.warnings)
    fault, warning = other_unit(layout.theta_deg, in_rad=in_rad)
    if fault:
        raise ScanFaultError(f"{fault} ({layout.theta_location})")
    return [warning] if warning else []


def _refuse_unknown_unit(location: str, warnings: Sequence[str]) -> None:
    """Raise if a warning reports an unknown unit of the angles."""
    for text in warnings:
        if text.startswith(UNKNOWN_UNIT):
            raise ScanFaultError(f"{text} ({location})")
