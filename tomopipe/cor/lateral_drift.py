"""Sideways drift of the sample or axis during a scan, and a stage that turns unevenly.

A drift like cos t and sin t is the same as another position of the sample, and a steady drift over
180 degrees nearly is. Any other drift shows in two ways: the centre of mass of the projections
leaves its path, where there is air on both sides; and over 360 degrees the axis of opposing
projections moves, also where the sample leaves the field of view. There wrong angles show, too:
opposing projections match best at other angles than 180 degrees apart.
"""

from typing import NamedTuple

import numpy as np

from tomopipe.arrays import evenly_spread
from tomopipe.cor.answer import refine_peak
from tomopipe.cor.mass import mass_and_centre, subtract_air
from tomopipe.cor.prepared import Floats, Prepared, match, overlapping
from tomopipe.cor.row_registration import Mask
from tomopipe.cor.sinograms import bin_columns, rows_at

_ROWS = 3
# Parts of the scan, by time, and of half a rotation, by angle; least number of angles in a part.
_PARTS, _AXIS_PARTS, _LEAST_IN_PART = 16, 8, 3
_MOST_ANGLES, _MOST_PAIRS, _LEAST_OVERLAP = 400, 128, 24  # columns
# Detection thresholds (standard deviation over the scan): distances from the path, and those in
# units of their error, either of which suffice; movement of the axis, and deviation from 180
# degrees, each without the worst part.
_LEAVES, _MOVES_PX, _UNEVEN_DEG = ((0.6, 2.5), (0.35, 5.0)), 0.25, 0.3
# Least match of opposing projections for a part to count, in even and in odd pairs; least number of
# such parts; least gains (log of the misfit) by an axis, and by angles, of their own; and largest
# difference between even and odd pairs, as a share of what is found.
_MATCH, _LEAST_PARTS, _AXIS_GAIN, _ANGLE_GAIN, _APART = 0.6, 5, 0.2, 0.06, 0.2
# Angles from 180 degrees that are tried, about; next angles further away (steps) are beyond a gap.
_TRIED_DEG, _MOST_TRIED, _NEAR = 0.75, 4, 1.5


class OpposingCourse(NamedTuple):
    """What opposing projections show in parts of half a rotation; of each, even and odd pairs."""

    axis_px: Floats  # (2, n_parts): from the COR
    angle_deg: Floats  # (2, n_parts): by how much more than 180 degrees they are apart
    axis_gain: float  # decrease of the misfit by an axis of their own (log)
    angle_gain: float  # by angles of their own


def warn_of_drift(prepared: Prepared, cor_px: float) -> str:
    """Return a warning that the sample or the axis drifted, or that angles are wrong, or ""."""
    off_px = leaves_path(prepared)
    course = opposing_course(prepared, cor_px) if off_px is None else None
    if off_px is not None:
        evidence = (
            "the centre of mass of the projections leaves the path of a still sample by up to "
            f"{np.abs(off_px).max():.1f} px"
        )
    elif course is not None and axis_moves(course):
        size_px = np.ptp(course.axis_px.mean(axis=0))
        evidence = f"the axis about which opposing projections match moves by {size_px:.1f} px"
    elif course is not None and turns_unevenly(course):
        size_deg = np.abs(course.angle_deg.mean(axis=0)).max()
        return (
            "the stage turned unevenly, or projections are missing: opposing projections match "
            f"best up to {size_deg:.1f} degrees from 180 degrees apart. Slices are blurred; state "
            "the angles at which projections were taken (input.angles)"
        )
    else:
        return ""
    return (
        "the sample or the axis drifted sideways during the scan, or the angles are wrong: "
        f"{evidence}; no single COR fits all projections"
    )


def leaves_path(prepared: Prepared) -> Floats | None:
    """Distance of parts of the scan from the path of a still sample, px; None: none, or unknown."""
    chosen = evenly_spread(len(prepared.rows.theta_rad), _MOST_ANGLES)
    if not prepared.rows.minus_log or len(chosen) < _LEAST_IN_PART * _PARTS:
        return None
    by_time = np.argsort(prepared.angles.order[chosen])
    theta_rad = prepared.angles.theta_rad[chosen][by_time]
    still = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    rows = prepared.plain[:_ROWS]
    courses, errors = [], []
    for row in rows:
        result = subtract_air(bin_columns(row[chosen], prepared.match_binning))
        moments = result and mass_and_centre(result[0])
        if not moments:
            continue
        mass, centre = (values[by_time] for values in moments)
        off_px = prepared.match_binning * (centre - still @ np.linalg.lstsq(still, centre)[0])
        courses.append(_in_parts(off_px))
        # what makes the mass vary may be anywhere in the row
        spread_px = _in_parts(mass / mass.mean()).std() * prepared.n_cols / np.sqrt(12)
        noise_px = np.diff(off_px, 2).std() / np.sqrt(6 * len(off_px) / _PARTS)
        errors.append(np.hypot(spread_px, noise_px))
    if 2 * len(courses) <= len(rows):
        return None
    course_px = np.median(courses, axis=0)
    error_px = np.hypot(np.median(errors), np.sqrt(np.mean((courses - course_px) ** 2)))
    leaves = any(course_px.std() >= max(px, times * error_px) for px, times in _LEAVES)
    return course_px if leaves else None


def _in_parts(values: Floats) -> Floats:
    return np.array([np.median(part) for part in np.array_split(values, _PARTS)])


def opposing_course(prepared: Prepared, cor_px: float) -> OpposingCourse | None:
    """Measure axis and angle of opposing projections in parts of a full rotation; None: unknown."""
    result = _matches(prepared, cor_px)
    if result is None:
        return None
    matches, apart_deg = result
    n_tried, reach = len(matches) // 2, matches.shape[3] // 2
    at_180 = matches[n_tried]
    good = (at_180.max(axis=2) >= _MATCH).all(axis=0) & _is_inside(at_180).all(axis=0)
    if good.sum() < _LEAST_PARTS:
        return None
    matches = matches[:, :, good]
    at_180 = matches[n_tried]
    mean = at_180.mean(axis=(0, 1))
    on_axis = np.moveaxis(_value(matches, refine_peak(mean, int(np.argmax(mean)))), 0, 2)
    lag, best = _peaks(at_180)
    tried, best_on_axis = _peaks(on_axis)
    left, *others = (
        np.log(np.maximum(1 - m, 1e-6)) for m in (on_axis[..., n_tried], best, best_on_axis)
    )
    # mirrored: a shift of two columns to the left is an axis one column further right
    axis_px = (reach - lag) / 2 * prepared.match_binning
    gains = (float(np.mean(left - other)) for other in others)
    angle_deg = np.where(_is_inside(on_axis), (tried - n_tried) * apart_deg, 0.0)
    return OpposingCourse(axis_px, angle_deg, *gains)


def _is_inside(curves: Floats) -> Mask:
    """Whether curves have their maximum inside of what is searched."""
    best = np.argmax(curves, axis=-1)
    return (best > 0) & (best < curves.shape[-1] - 1)


def _peaks(curves: Floats) -> tuple[Floats, Floats]:
    """Return where curves (2, n_parts, n) have their maximum, to a fraction, and its height."""
    places = np.apply_along_axis(lambda curve: refine_peak(curve, int(np.argmax(curve))), 2, curves)
    each = zip(curves.reshape(-1, curves.shape[2]), places.ravel(), strict=True)
    return places, np.reshape([_value(curve, place) for curve, place in each], places.shape)


def _value(curves: Floats, place: float) -> Floats:
    """Interpolate the last axis of curves by parabolas."""
    middle = int(np.clip(round(place), 1, curves.shape[-1] - 2))
    before, here, after = (curves[..., middle + i] for i in (-1, 0, 1))
    away = place - middle
    return np.asarray(here + away * (after - before + away * (before - 2 * here + after)) / 2)


def axis_moves(course: OpposingCourse) -> bool:
    """Whether the axis of opposing projections moves, and no other angles explain it better."""
    moved_px = course.axis_px - np.median(course.axis_px.mean(axis=0))
    is_best = course.axis_gain >= max(_AXIS_GAIN, course.angle_gain)
    return is_best and _is_clear(moved_px, _MOVES_PX)


def turns_unevenly(course: OpposingCourse) -> bool:
    """Whether opposing projections are not 180 degrees apart; no moving axis explains it better."""
    is_best = course.angle_gain >= max(_ANGLE_GAIN, course.axis_gain)
    return is_best and _is_clear(course.angle_deg, _UNEVEN_DEG)


def _is_clear(values: Floats, least: float) -> bool:
    """Whether values (2, n_parts) are large in more than one part, in even and in odd pairs."""
    each = values.mean(axis=0)
    others = np.delete(each, np.argmax(np.abs(each)))
    apart = np.sqrt(np.mean((values[0] - values[1]) ** 2))
    return bool(np.sqrt(np.mean(others**2)) >= max(least, apart / _APART))


def _matches(prepared: Prepared, cor_px: float) -> tuple[Floats, float] | None:
    """Match lines with those about half a rotation later, flipped about the COR.

    Shape (n_tried, 2, n_parts, n_lags): of angles apart, by so many degrees, the middle one 180; of
    even and odd pairs of each part.
    """
    angles = prepared.angles
    if not angles.full_rotation:
        return None
    n_steps = max(1, round(np.deg2rad(_TRIED_DEG) / angles.step_rad))
    apart_rad = n_steps * angles.step_rad
    n_tried = max(2, min(_MOST_TRIED, int(np.deg2rad(_TRIED_DEG) * _MOST_TRIED / apart_rad)))
    apart = np.arange(-n_tried, n_tried + 1) * apart_rad
    first_rad = angles.theta_rad[angles.theta_rad < np.pi]
    later_rad = first_rad + np.pi + apart[:, None]
    after = np.clip(np.searchsorted(angles.theta_rad, later_rad), 1, len(angles.theta_rad) - 1)
    next_rad = np.abs(angles.theta_rad[[after - 1, after]] - later_rad).min(axis=0).max(axis=0)
    first_rad = first_rad[next_rad <= _NEAR * angles.step_rad]
    if len(first_rad) < 2 * _LEAST_IN_PART * _AXIS_PARTS:
        return None
    first_rad = first_rad[evenly_spread(len(first_rad), _MOST_PAIRS)]
    lines = prepared.lines_to_match[:_ROWS]
    lines = lines - lines.mean(axis=1, keepdims=True)  # less what does not move
    first = np.array([rows_at(row, angles.theta_rad, first_rad) for row in lines])
    pair = np.arange(len(first_rad))
    parts = np.array_split(pair, _AXIS_PARTS)
    result = []
    for more_rad in apart:
        at_rad = first_rad + np.pi + more_rad
        later = np.array([rows_at(row, angles.theta_rad, at_rad) for row in lines])
        both = overlapping(first, later, cor_px, prepared.match_binning)
        if both[0].shape[2] < _LEAST_OVERLAP:
            return None
        of_pairs = match(np.concatenate(both, axis=1), pair, pair + len(pair))
        halves = (part[part % 2 == half] for half in range(2) for part in parts)
        result.append([of_pairs[half].mean(axis=0) for half in halves])
    return np.array(result).reshape(len(apart), 2, _AXIS_PARTS, -1), float(np.rad2deg(apart_rad))
