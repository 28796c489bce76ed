"""Transmission of the air beside the sample, which is 1 if the flats have the right exposure.

Air is certain where columns at both edges show nothing that rotates, at the same level on both
sides and in all projections, and where nothing in between is lighter. A container that fills the
edges is thicker towards its middle, or rotates off its axis. A beam that decays changes one way,
alike on both sides, and is once as bright as in the flats. A window, or a tube whose walls are
outside the field, cannot be distinguished from flats of another exposure, and makes values wrong by
as much.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread, percentile
from tomopipe.cor.collected_rows import Rows
from tomopipe.cor.mass import subtract_air
from tomopipe.cor.sinograms import (
    Image,
    bin_columns,
    binning_to,
    fill_dead_columns,
    finite,
    remove_zingers,
)

_MOST_ANGLES, _COLS, _PARTS = 400, 512, 16
_LEAST_PX, _EDGE = 8, 4  # columns of air on each side; those that it is first looked for in
# Largest differences of line integrals in the air, the median of the rows, where the line integral
# is 0, and more per unit of it: between both sides; between parts of the scan; of that between both
# sides; between the inner and the outer half of the columns, thicker inside or outside.
_SIDES, _TIME, _TILT = (0.02, 0.03), (0.03, 0.08), (0.012, 0.005)
_INSIDE, _OUTSIDE = (0.002, 0.0005), (0.003, 0.001)
_LIGHTER = 0.15  # largest share of the height of the sample by which the mean row is below air
_OFF = 0.05  # least deviation of the transmission from 1 for a warning
# Of a beam that decays: share of the change that goes one way; how near the flats' level it comes.
_ONE_WAY, _AT_FLATS = 0.8, 0.05
_AS_FLATS = 0.3  # largest difference of the change from that of the flats, by the former
_FAR_TOO_DARK = 1 / 1.4  # as for air that is too bright: a beam between refills decays by less


@dataclass(frozen=True)
class Air:
    """Air on both sides of the sample."""

    transmission: float  # median over the scan, then the rows
    left_px: int  # columns of air on each side, of those in use
    right_px: int
    change: float = 0.0  # of the line integral from begin to end, where the beam decays


def warn_of_air(rows: Rows) -> tuple[list[str], bool]:
    """Return warnings, at most one, that air has another transmission than 1.

    Also whether it is darker than by any decay of the beam, so that values need a review.
    """
    air = measure_air(rows.sinograms) if rows.minus_log and not rows.failed else None
    if air is None or (not air.change and abs(air.transmission - 1) <= _OFF):
        return [], False
    off = -math.log(air.transmission)
    first, last = rows.first_col, rows.first_col + rows.sinograms.shape[2] - 1
    columns = (
        f"columns {first} to {first + air.left_px - 1} and {last - air.right_px + 1} to {last}"
    )
    remedy = _remedy(air)
    if air.change:
        times, direction = math.exp(-air.change), "dimmer" if air.change > 0 else "brighter"
        if abs(_change_of_flats(rows) - air.change) < _AS_FLATS * abs(air.change):
            remedy = (
                "Set preprocess.flat_method: interpolate, as the flats before and after the "
                f"projections differ as much. Or: {remedy}"
            )
        return [
            f"the beam gets {abs(1 - times):.0%} {direction} during the scan (air, {columns}), so "
            f"values change by {abs(air.change):.2f} per line integral. {remedy}"
        ], False
    text = (
        f"air beside the sample has transmission {air.transmission:.2f} instead of 1 ({columns}, "
        f"all projections), so values are too {'large' if off > 0 else 'small'} by {abs(off):.2f} "
        "per line integral: flats of another exposure, or something around the sample that "
        f"{'they lack' if off > 0 else 'only they show'} (a window, a tube)? {remedy}, or give "
        "flats of the right exposure (preprocess.flats)"
    )
    return [text], air.transmission < _FAR_TOO_DARK


def remedy_of_air(rows: Rows) -> str:
    """Name the option that takes the level from the air; "" where no air is certain."""
    air = measure_air(rows.sinograms)
    return _remedy(air) if air else ""


def _remedy(air: Air) -> str:
    n_cols = min(air.left_px, air.right_px)
    return f"Set preprocess.air_px: {n_cols}, if no row shows the sample there"


def _change_of_flats(rows: Rows) -> float:
    """Return by how much the line integral of air changes from the first to the last flats, or 0.

    Of flats of unknown time these are both halves.
    """
    parts, positions = rows.flat_parts, rows.flat_positions
    if parts is None or positions is None:
        return 0.0
    n_angles = rows.sinograms.shape[1]
    first, last = positions <= 0, positions >= n_angles
    if np.isnan(positions).all():
        first = np.arange(len(parts)) < len(parts) / 2
        last = ~first
    if not (first.any() and last.any()):
        return 0.0
    levels = parts[first].mean(), parts[last].mean()
    return math.log(levels[0] / levels[1]) if min(levels) > 0 else 0.0


def measure_air(line_integrals: Image) -> Air | None:
    """Measure the air beside the sample; None where it is not certain that there is any.

    `line_integrals` is -log of the transmission in some rows, (n_rows, n_angles, n_cols), in the
    order of acquisition. More than half of the rows must have air.
    """
    few = line_integrals[:, evenly_spread(line_integrals.shape[1], _MOST_ANGLES)]
    with_air = [result for row in few if (result := _air_of_row(row)) is not None]
    if 2 * len(with_air) <= len(few):
        return None
    values = np.median([values for _, values in with_air], axis=0)
    mean, change, nearest, *differences = values.tolist()
    limits = [_SIDES, _TILT, _INSIDE if differences[2] > 0 else _OUTSIDE, _TIME]
    if abs(change) > max(_OFF, _ONE_WAY * differences[-1]) and nearest <= _AT_FLATS:
        limits.pop()
    else:
        change = 0.0
    for difference, (least, more) in zip(differences, limits, strict=False):
        if abs(difference) > least + more * abs(mean):
            return None
    left_px, right_px = np.min([sides for sides, _ in with_air], axis=0).tolist()
    return Air(math.exp(-mean), left_px, right_px, change)


def _air_of_row(row: Image) -> tuple[tuple[int, int], tuple[float, ...]] | None:
    """Columns of air on both sides, its line integral, and the figures of `measure_air`."""
    clean = fill_dead_columns(remove_zingers(np.asarray(finite(row), np.float32)))
    n_cols, binning = clean.shape[1], binning_to(_COLS, clean.shape[1])
    if n_cols < 2 * _LEAST_PX:
        return None
    binned = bin_columns(clean, binning)
    result = subtract_air(binned - np.median(binned[:, [*range(_EDGE), *range(-_EDGE, 0)]]))
    if result is None:
        return None
    level, air = result
    sample = np.flatnonzero(~air)
    left_px, right_px = binning * int(sample[0]), n_cols - binning * int(sample[-1] + 1)
    lighter = level.mean(axis=0).min() < -_LIGHTER * percentile(level, 98)
    if lighter or min(left_px, right_px) < _LEAST_PX:
        return None
    light = np.exp(-clean.astype(np.float64))
    sides = light[:, :left_px], light[:, n_cols - right_px :][:, ::-1]
    n_parts = min(_PARTS, len(light))
    left, right = (
        np.array([_line_integral(part) for part in np.array_split(side, n_parts)]) for side in sides
    )
    across = [
        _line_integral(s[:, s.shape[1] // 2 :]) - _line_integral(s[:, : s.shape[1] // 2])
        for s in sides
    ]
    course = (left + right) / 2
    return (left_px, right_px), (
        float(course.mean()),
        float(course[-1] - course[0]) * n_parts / max(n_parts - 1, 1),
        float(np.abs(course).min()),
        float(left.mean() - right.mean()),
        float(np.ptp(left - right)),
        float(np.mean(across)),
        float(max(np.ptp(left), np.ptp(right))),
    )


def _line_integral(light: NDArray[np.float64]) -> float:
    """Return minus the logarithm of the mean transmission, the median over projections."""
    return -math.log(max(float(np.median(light.mean(axis=1))), np.finfo(float).tiny))
