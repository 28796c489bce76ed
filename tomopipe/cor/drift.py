"""A sample, or an axis, that drifts sideways during the scan: then no single COR is right.

A drift that goes like cos t and sin t is nothing but another position of the sample, and a steady
one over 180 degrees nearly is. What no position explains shows in two ways: the centre of mass of
the projections, where air is on both sides, leaves its path; and over 360 degrees opposing
projections, whatever leaves the field of view, show an axis that moves.
"""

import numpy as np

from tomopipe.arrays import evenly_spread
from tomopipe.cor.angle_order import rows_at
from tomopipe.cor.answer import refine_peak
from tomopipe.cor.clean_rows import Image, bin_columns
from tomopipe.cor.mass import mass_and_centre, subtract_air
from tomopipe.cor.prepared import Floats, Prepared, match
from tomopipe.geometry import bin_cor

_MAX_ROWS = 3
# Parts of the scan, by time, and of half a rotation, by angle; each of so many angles at least.
_PARTS, _AXIS_PARTS, _LEAST_IN_PART = 16, 8, 3
_MOST_ANGLES, _MOST_PAIRS, _LEAST_OVERLAP = 400, 256, 24  # columns
# Told are, as standard deviations over the scan: what leaves the path by so much, and by so many
# times its error; and an axis that moves by so much, the worst part left out. Up to there the COR
# is within a pixel of the best one. Why these limits: lab/results/finding-the-cor.md.
_LEAVES_PX, _SIGNIFICANCE = 0.6, 2.5
_MOVES_PX = 0.5
# Parts count whose opposing projections match so well, in every second pair as in all others; so
# much better they have to match about their own axis (log of the misfit); and the two halves may
# differ by this share of the movement.
_MATCH, _LEAST_PARTS, _GAIN, _APART = 0.6, 5, 0.3, 0.25


def warn_of_drift(prepared: Prepared, cor_px: float) -> str:
    """Say in one sentence that sample or axis drifted; "" if not, or if nothing shows it."""
    off_px = leaves_path(prepared)
    axis_px = axis_moves(prepared, cor_px) if off_px is None else None
    if off_px is not None:
        evidence = (
            "the centre of mass of the projections leaves the path of a still sample by up to "
            f"{np.abs(off_px).max():.1f} px"
        )
    elif axis_px is not None:
        evidence = (
            f"the axis about which opposing projections match moves by {np.ptp(axis_px):.1f} px"
        )
    else:
        return ""
    return (
        "the sample or the axis drifted sideways during the scan, or the angles are wrong: "
        f"{evidence}; no single COR fits all projections"
    )


def leaves_path(prepared: Prepared) -> Floats | None:
    """Return how far parts of the scan are off the path of a still sample, px; None if not.

    Also None where the sample leaves the field of view, or its mass is not constant.
    """
    chosen = evenly_spread(len(prepared.rows.theta_rad), _MOST_ANGLES)
    if not prepared.rows.minus_log or len(chosen) < _LEAST_IN_PART * _PARTS:
        return None
    as_taken = np.argsort(prepared.angles.order[chosen])
    theta_rad = prepared.angles.theta_rad[chosen][as_taken]
    still = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    rows = prepared.plain[:_MAX_ROWS]
    courses, errors = [], []
    for row in rows:
        result = subtract_air(bin_columns(row[chosen], prepared.match_binning))
        moments = result and mass_and_centre(result[0])
        if not moments:
            continue
        mass, centre = (values[as_taken] for values in moments)
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
    return course_px if course_px.std() >= max(_LEAVES_PX, _SIGNIFICANCE * error_px) else None


def axis_moves(prepared: Prepared, cor_px: float) -> Floats | None:
    """Return the axis of parts of a full rotation, px from `cor_px`; None if it does not move.

    Also None over less than 360 degrees, or where opposing projections do not match well.
    """
    pairs = _opposing(prepared, cor_px)
    if pairs is None:
        return None
    n_pairs, n_halves = pairs.shape[1] // 2, 2
    pair = np.arange(n_pairs)
    matches = match(pairs, pair, pair + n_pairs)
    reach = matches.shape[1] // 2
    axis_px, matched, unmoved = np.zeros((3, n_halves, _AXIS_PARTS))
    for half in range(n_halves):
        for part, inside in enumerate(np.array_split(pair, _AXIS_PARTS)):
            curve = matches[inside[inside % n_halves == half]].mean(axis=0)
            best = int(np.argmax(curve))
            # mirrored, what is two columns further left has an axis that is one further right
            axis_px[half, part] = (reach - refine_peak(curve, best)) / 2 * prepared.match_binning
            matched[half, part], unmoved[half, part] = curve[best], curve[reach]
    good = matched.min(axis=0) >= _MATCH
    if good.sum() < _LEAST_PARTS:
        return None
    course_px = axis_px[:, good].mean(axis=0)
    gain = np.log(np.maximum(1 - unmoved, 1e-6) / np.maximum(1 - matched, 1e-6))[:, good].mean()
    apart_px = np.sqrt(np.mean((axis_px[0] - axis_px[1])[good] ** 2))
    worst = np.argmax(np.abs(course_px - np.median(course_px)))
    moves_px = np.delete(course_px, worst).std()
    is_drift = moves_px >= max(_MOVES_PX, apart_px / _APART) and gain >= _GAIN
    return course_px if is_drift else None


def _in_parts(values: Floats) -> Floats:
    return np.array([np.median(part) for part in np.array_split(values, _PARTS)])


def _opposing(prepared: Prepared, cor_px: float) -> Image | None:
    """Return lines, then those half a rotation later, flipped about the COR: where both overlap."""
    angles, binning = prepared.angles, prepared.match_binning
    first_rad = angles.theta_rad[angles.theta_rad < np.pi]
    if not angles.full_rotation or len(first_rad) < 2 * _LEAST_IN_PART * _AXIS_PARTS:
        return None
    first_rad = first_rad[evenly_spread(len(first_rad), _MOST_PAIRS)]
    lines = prepared.lines_to_match[:_MAX_ROWS]
    lines = lines - lines.mean(axis=1, keepdims=True)  # less what does not move
    n_cols = lines.shape[2]
    shift = round(2 * float(bin_cor(cor_px, binning=binning))) - (n_cols - 1)
    low, high = max(0, shift), min(n_cols, n_cols + shift)
    if high - low < _LEAST_OVERLAP:
        return None
    both = []
    for row in lines:
        first, later = (
            rows_at(row, angles.theta_rad, at_rad) for at_rad in (first_rad, first_rad + np.pi)
        )
        flipped = later[:, ::-1][:, low - shift : high - shift]
        both.append(np.concatenate([first[:, low:high], flipped]))
    return np.array(both)
