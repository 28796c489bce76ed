"""Angles of a scan: lists in text files, units, and frames that the camera dropped."""

import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.errors import ScanError
from tomopipe.paths import no_pipe
from tomopipe.scans.hdf5 import one_line

if TYPE_CHECKING:
    from tomopipe.config.blocks import AngleRange  # slow to load

_DEGREES = dict.fromkeys(("", "deg", "degs", "degree", "degrees", "°"), 1.0)
# in degrees; "" counts as degrees
PER_DEGREE = _DEGREES | {
    **dict.fromkeys(("rad", "rads", "radian", "radians"), float(np.rad2deg(1))),
    **dict.fromkeys(("mrad", "milliradian", "milliradians"), float(np.rad2deg(1e-3))),
    **dict.fromkeys(("mdeg", "millidegree", "millidegrees"), 1e-3),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes"), 1 / 60),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds"), 1 / 3600),
}
BY_NAME, DIFFER = "angles of ", "angles may be "  # warnings of a search for angles begin so
TILTS = "set input.angles to "  # a warning of a list of tilts begins so
DROPPED = "frames dropped by the camera, skipped with their angles: "  # a warning begins so
OTHER_ANGLES = "other angles than those of the file"  # a note begins so
CONTRADICTED = re.compile(re.escape(OTHER_ANGLES) + r", (.+?) \(up to (\d+) degrees apart\)")
"""The same note if they differ by more than another start or end: where, and by how much."""
UNIT_OF_FILE = "theta in "  # a warning begins so, and with the unit
UNKNOWN_UNIT = "theta has the unit "  # a warning that becomes an error begins so
LOOK_LIKE = "angles look like "  # an error begins so, after the file
_NAME = re.compile(r"angle|theta|rotation|omega", re.IGNORECASE)
_REMARK = "#%"  # what a line of remarks begins with
_COMMA = re.compile(r"[-+]?\d+,\d+")
_RADIANS = re.compile(r"rad", re.IGNORECASE)
# Frames missing at the ends of a scan: so few may have been dropped, more were never taken.
_MAX_MISSING_AT_ENDS = 0.01
# Spans that are 180 or 360 degrees in another unit, and how near.
_OTHER_UNITS = ((180 / np.pi, "rad"), (1e-3, "mdeg"), (1 / 3600, "arcsec"))
_NEAR = 0.02
# Steps of turns that nobody records with so many projections; those of golden angles are larger.
_COARSE_DEG, _MANY_VIEWS = (5.0, 100.0), 90
_FEW_DEG, _MANY_DEG = 6.5, 36_000.0  # what an aborted scan in radians covers; a hundred rotations
_STEADY = 0.25  # of a frame period: a time stamp further off does not tell which frame it is


def to_degrees(
    values: ArrayLike, unit: str, stated_unit: str = "auto"
) -> tuple[NDArray[np.float64], str]:
    """Convert angles from the stated unit, else that of the file; also return what was assumed."""
    angles = np.asarray(values, dtype=float).ravel()
    if stated_unit != "auto":
        return angles * PER_DEGREE[stated_unit], ""
    if unit in _DEGREES:
        return angles, ""
    if unit in PER_DEGREE:
        return angles * PER_DEGREE[unit], f"{UNIT_OF_FILE}{unit}, as its units say"
    return angles, (
        f"{UNKNOWN_UNIT}{unit!r}, which is not known: set input.angle_unit to what it is (deg, "
        "rad, mrad, mdeg, arcmin or arcsec), or input.angles to a list of the angles in degrees"
    )


def unwrapped(theta_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles that jump by 360 degrees once, as from 359 to 0, without the jump."""
    finite = np.isfinite(theta_deg)
    result = theta_deg[finite]
    straight = np.unwrap(result, period=360)
    steps = np.diff(straight)
    usual = np.median(steps) if len(steps) else 0.0
    if (
        np.count_nonzero(np.abs(np.diff(result)) > 180) != 1
        or (np.abs(steps - usual) > np.abs(usual)).any()
    ):
        return theta_deg
    angles = theta_deg.copy()
    angles[finite] = straight
    return angles


def contradiction_deg(theta_deg: NDArray[np.float64], others_deg: NDArray[np.float64]) -> float:
    """Largest difference of two lists of angles, but for the start; 0 below one and a half steps.

    A step may differ, as ranges end at the last projection or one step later.
    """
    apart_deg = unwrapped(theta_deg) - unwrapped(others_deg)
    finite = apart_deg[np.isfinite(apart_deg)]
    if len(finite) < 2:
        return 0.0
    largest_deg = float(np.abs(finite - finite[0]).max())
    step_deg = float(np.nanmedian(np.abs(np.diff(others_deg))))
    return largest_deg if largest_deg > max(1.5 * step_deg, 1.0) else 0.0


def span_deg(theta_deg: NDArray[np.float64]) -> float:
    """Return the range of the finite angles, the last step included; 0 for fewer than two."""
    finite = theta_deg[np.isfinite(theta_deg)]
    return float(np.ptp(finite)) * len(finite) / (len(finite) - 1) if len(finite) > 1 else 0.0


def other_unit(theta_deg: NDArray[np.float64], *, in_rad: bool = False) -> tuple[str, str]:
    """Check whether angles assumed to be degrees look as if they were in another unit.

    Scans of a few degrees exist, and scans of many rotations: only a range within 2 % of pi or 2
    pi, or of 1000 times 180 or 360, is distinguished; of angles whose stated unit is radians
    (`in_rad`), also a range of 180 or 360. Returns an error, unless the configuration sets the
    unit, and a warning, each or "".
    """
    finite = theta_deg[np.isfinite(theta_deg)]
    span = float(np.ptp(finite)) if len(finite) else 0.0
    others = [*_OTHER_UNITS, (np.pi / 180, "deg")] if in_rad else _OTHER_UNITS
    for scale, unit in others:
        for range_deg in (180, 360):
            # the last angle of the range is taken, or the one before it
            nearest = min(span, span_deg(theta_deg), key=lambda s: abs(s * scale - range_deg))
            if abs(nearest * scale - range_deg) <= _NEAR * range_deg:
                fault = f"{LOOK_LIKE}{unit} (span {span:.6g}, about {range_deg} degrees)"
                right = "rad if they are radians" if unit == "deg" else "deg if they are degrees"
                return f"{fault}; set input.angle_unit: {unit}, or {right}", ""
    steps = np.diff(finite) if len(finite) > _MANY_VIEWS else np.zeros(1)
    step = float(np.median(np.abs(steps)))
    is_coarse = _COARSE_DEG[0] <= step <= _COARSE_DEG[1] and np.ptp(steps) < step
    for scale, range_deg in product((10, 100), (180, 360)):
        of_scale = min(abs(s / scale - range_deg) for s in (span, span_deg(theta_deg)))
        if is_coarse and of_scale <= range_deg / 1000:
            return "", (
                f"the angles cover {span:.6g} degrees in steps of {step:.4g}: if their unit is 1 / "
                f"{scale} degree, set input.angles: {{start: 0, stop: {range_deg}}} (stop: of the "
                "last projection)"
            )
    if 0 < span < _FEW_DEG or span > _MANY_DEG:
        unit = "rad" if span < _FEW_DEG else "mdeg"
        return "", f"the angles cover {span:.4g} degrees: if they are {unit}, set input.angle_unit"
    return "", ""


def angles_of_range(angles: "AngleRange", n_planned: int) -> NDArray[np.float64]:
    """Return the angles of a range, degrees; its last is that of the last frame planned."""
    if angles.stop is None:
        return (angles.start + (angles.step or 0.0) * np.arange(n_planned)).astype(np.float64)
    return np.linspace(angles.start, angles.stop, n_planned)


def planned_by_range(
    angles: "AngleRange", numbers: NDArray[np.float64], n_frames: int
) -> Iterator[NDArray[np.float64]]:
    """Yield the angles of a range for as many images as its step, or `numbers`, show."""
    if angles.stop is None:
        n_planned = np.max((numbers - angles.start) / (angles.step or 1.0)) + 1
    else:
        n_planned = abs(angles.stop - angles.start) / np.median(np.diff(np.unique(numbers))) + 1
    for n in dict.fromkeys((round(float(n_planned)), n_frames)):
        if n_frames <= n <= 2 * n_frames:
            yield angles_of_range(angles, n)


def is_angle(name: str) -> bool:
    """Whether a name is one of rotation angles."""
    return _NAME.search(name) is not None


def read_angles(path: str | os.PathLike[str], stated_unit: str = "auto") -> NDArray[np.float64]:
    """Read a list of angles, one line per projection, from text or CSV, in degrees.

    Columns are separated by semicolon or tab (a comma is a decimal one then), comma, or blanks; of
    several a header must name the one: it contains angle, theta, rotation or omega, and `rad` in
    its name means radians. Lines that begin with # or % are remarks, or of several columns the
    header. A ScanError says why the numbers of the angles are ambiguous.
    """
    try:
        text = Path(no_pipe(path)).read_text(encoding="utf-8-sig", errors="replace")
    except (OSError, ValueError) as error:
        why = one_line(error)
        raise ScanError(
            f"{path}: the list of angles cannot be read ({why}): copy it there, or set input.angles"
        ) from error
    if "\0" in text:
        raise ScanError(
            f"{path}: a list of angles must be UTF-8 text; of an HDF5 file input.angles takes a "
            "dataset, /entry/my_angles, which must be in the file of the scan"
        )
    lines = [line.strip() for line in text.splitlines()]
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line and line[0] not in _REMARK]
    if not numbered:
        raise ScanError(
            f"{path}: a list of angles without any angle: write one line per projection, or set "
            "input.angles"
        )
    first = _cells(numbered[0][1])
    header = _header_of_remarks(lines, len(first))
    try:
        _ = [*map(float, first)]
    except ValueError:
        header = first
        numbered.pop(0)
    column = _column(header, numbered, path)
    values = []
    for number, line in numbered:
        cells = _cells(line)
        try:
            values.append(float(cells[column]))
            is_whole = len(cells) <= max(1, len(header)) or ("," not in line and len(header) > 1)
        except (ValueError, IndexError):
            is_whole = False
        if not is_whole:
            named = f" in column {header[column]}" if len(header) > 1 else ""
            raise ScanError(
                f"{path}: line {number} is {line!r}; expected one angle{named}, a number with a "
                "decimal point"
            )
    in_radians = bool(header) and _RADIANS.search(header[column]) is not None
    return to_degrees(values, "rad" if in_radians else "deg", stated_unit)[0]


def _with_points(line: str) -> str:
    """Write points for decimal commas, where other characters separate the columns."""
    return re.sub(r"(?<=\d),(?=\d)", ".", line) if re.search(r"[;\t]", line) else line


def _cells(line: str) -> list[str]:
    if re.search(r"[;\t]", line):
        return [cell.strip() for cell in re.split(r"[;\t]", _with_points(line))]
    return [cell.strip() for cell in re.split("," if "," in line else r"\s+", line.rstrip(","))]


def _header_of_remarks(lines: list[str], n_columns: int) -> list[str]:
    """Return the names that a remark gives several columns, one of them of angles, if any does."""
    if n_columns > 1:
        for cells in (
            _cells(line.lstrip(f"{_REMARK} ")) for line in lines if line[:1] in [*_REMARK]
        ):
            if len(cells) == n_columns and sum(map(is_angle, cells)) == 1:
                return cells
    return []


def _column(header: list[str], rows: list[tuple[int, str]], path: str | os.PathLike[str]) -> int:
    angle_columns = [index for index, cell in enumerate(header) if is_angle(cell)]
    if len(angle_columns) == 1:
        return angle_columns[0]
    number, line = rows[0] if rows else (1, ", ".join(header))
    if rows and len(_cells(line)) == 1:
        return 0
    is_decimal = _COMMA.fullmatch(line) is not None
    comma = f": write a decimal point, {line.replace(',', '.')}" * is_decimal
    raise ScanError(
        f"{path}: expected one column of angles in degrees, or a header that names one of the "
        f"columns angle or theta; line {number} is {line!r}{comma}"
    )


def planned_frames(ids: ArrayLike, n_planned: int) -> NDArray[np.intp] | None:
    """Return which planned frames arrived, from 0, by `ids` that count dropped ones; None: unclear.

    The first is taken for the first one planned: a scan rotated by a step has the same COR.
    """
    numbers = np.asarray(ids)
    is_list = numbers.ndim == 1 and len(numbers) and numbers.dtype.kind in "uif"
    if not (is_list and np.isfinite(numbers).all()):
        return None
    index = (numbers - numbers[0]).astype(np.int64)
    beyond = n_planned - 1 - int(index[-1])
    if (np.diff(index) < 1).any() or not 0 <= beyond <= max(1, n_planned * _MAX_MISSING_AT_ENDS):
        return None
    return index.astype(np.intp)


def by_number(
    theta_deg: NDArray[np.float64], ids: ArrayLike, all_ids: ArrayLike
) -> tuple[NDArray[np.float64], str]:
    """Give each of as many frames as angles that of its number; return a warning, or "".

    `ids` are the numbers of the frames, as stored; `all_ids` also those of flats and darks. Only
    even angles are those planned; others may have been recorded with the frames.
    """
    numbers, steps_deg = np.asarray(ids, dtype=float), np.diff(theta_deg)
    if len(numbers) != len(theta_deg) or len(numbers) < 2 or not np.isfinite(numbers).all():
        return theta_deg, ""
    turn_deg, ordered = float(np.median(steps_deg)), np.sort(numbers)
    is_planned = (np.abs(steps_deg - turn_deg) < abs(turn_deg) / 2).all()
    steps, gaps = np.diff(numbers), np.diff(ordered)
    few_missing = np.median(gaps) == gaps.min() == 1 and gaps.sum() < 2 * len(numbers)
    if not (is_planned and few_missing):
        return theta_deg, ""
    missing = np.setdiff1d(np.arange(ordered[0], ordered[-1]), np.asarray(all_ids, dtype=float))
    is_mixed = (steps < 0).any()
    if is_mixed == bool(len(missing)):
        return theta_deg, ""
    if is_mixed:
        n_jumps = int(np.count_nonzero(steps != 1))
        return theta_deg[np.argsort(np.argsort(numbers))], (
            f"frames stored in another order than taken ({n_jumps} jumps of their numbers): each "
            "has the angle of its number"
        )
    after = int(np.argmax(numbers > missing[0])) - 1
    return theta_deg, (
        f"{len(missing)} numbers of frames are missing, the first after projection {after}, though "
        "there are as many frames as angles: if the camera dropped frames while the stage went on, "
        "set input.angles to a list of the angles of those that are there"
    )


def count_periods(times_s: ArrayLike) -> NDArray[np.int64] | None:
    """Turn times at a steady rate into numbers as for `planned_frames`; None: not steady."""
    times = np.asarray(times_s, dtype=float)
    if times.ndim != 1 or len(times) < 3 or not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    period = float(np.median(steps))
    if period <= 0:
        return None
    counts = np.round(steps / period)
    if (np.abs(steps / period - counts) > _STEADY).any() or (counts < 1).any():
        return None
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
