"""Angles that the projections contradict: another range, a jump, a standstill."""

import numpy as np

from tomopipe.cor.angular_range import proven_stop_deg, wider_range_deg
from tomopipe.cor.prepared import Floats, Numbers, Prepared, match, overlapping
from tomopipe.cor.sinograms import Image, bin_columns, binning_to
from tomopipe.scans.metadata import listed

_COLS = 256  # columns left by binning, about: these are enough
_MIN_ANGLES = 30
_EVEN = 0.5  # steps: largest deviation of an angle from even spacing
# Least difference of a proven range from the stated one (proven to a third of a step).
_APART_DEG, _APART_STEPS = 2.0, 3.0
# A full rotation stated as 180 degrees: the last projection matches the first one almost as well as
# neighbours match (factor); the middle one, and the first one flipped about the axis, match worse
# (least misfit, and factor).
_CLOSING_DEG, _ALIKE, _OTHER, _WORSE = (170.0, 190.0), 2.0, 0.15, 5.0
_MAX_ROWS, _LEAST_OVERLAP = 3, 16
_TWICE = 1.5  # times the stated range: a lattice may look as if it rotated twice as far
_LIKELY = 0.8  # correlation of first and last projection
# Slips of the angles: least deviation of a step from the median step, largest share of such steps,
# least size of a slip (steps), and largest number of slips examined.
_ODD_STEP, _MOST_ODD, _SLIP_STEPS, _MOST_SLIPS = 0.5, 0.45, 2.0, 12
# The mismatch of pairs across a slip is compared with that of nearby pairs equally far apart in
# number, and of nearby pairs equally far apart in angle: pairs used besides the nearest, least
# difference of the two (log), and position between them (angle 0, number 1) from which it is a
# slip.
_ALL_ROWS = 5
_BESIDE, _DIFFER, _GOES_ON = 2, 0.5, 0.65
_ACROSS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 2), (-1, 0), (0, -1))  # before and after its ends


def warn_of_angles(prepared: Prepared, cor_px: float, *, accepted: bool = True) -> str:
    """Return a warning that the projections show another range than the angles, or "".

    `cor_px` is the axis measured with these angles. Only evenly spaced angles are checked. Ranges
    of 180 to 720 degrees are tested where the stated one is no multiple of 180, or where no axis
    was `accepted`, so that ordinary scans need not wait for the test.
    """
    stated_deg = float(np.rad2deg(np.ptp(prepared.rows.theta_rad)))
    if len(prepared.rows.theta_rad) < _MIN_ANGLES:
        return ""
    binning = binning_to(_COLS, prepared.n_cols)
    lines = bin_columns(np.array(prepared.sinograms), binning)
    shown_deg = 0.0
    if _is_even(prepared.angles.theta_rad):
        shown_deg = wider_range_deg(lines, stated_deg, (cor_px - (binning - 1) / 2) / binning)
    if not shown_deg and _is_even(prepared.rows.theta_rad):
        shown_deg = _proven_deg(lines[:, np.argsort(prepared.angles.order)], stated_deg, accepted)
    if not shown_deg and _closes(prepared, cor_px):
        shown_deg = 360.0
    if not shown_deg:
        return ""
    may_be_alike = shown_deg > _TWICE * abs(stated_deg)
    unless = ", unless the sample is alike from several sides, as a lattice is" * may_be_alike
    return (
        f"the angles cover {stated_deg:.0f} degrees, the projections show {shown_deg:g}: if so, "
        f"set input.angles: {_evenly(prepared, 0.0, shown_deg)}{unless}"
    )


def warn_of_slips(prepared: Prepared) -> str:
    """Return a warning where angles jump or stand still and projections do not, or ""."""
    theta_rad = prepared.rows.theta_rad
    step_rad = prepared.median_step_rad
    if len(theta_rad) < _MIN_ANGLES or not step_rad:
        return ""
    step_rad *= float(np.sign(np.median(np.diff(theta_rad))))
    if not step_rad:
        return ""
    position = (theta_rad - theta_rad[0]) / step_rad
    ahead = position - np.arange(len(position))
    steps_ahead = np.diff(ahead)
    odd = np.where(np.abs(steps_ahead) > _ODD_STEP, np.sign(steps_ahead), 0)
    if np.count_nonzero(odd) > _MOST_ODD * len(odd):
        return ""
    ends = np.flatnonzero(np.diff(odd)) + 1
    runs = np.array([[0, *ends], [*ends, len(odd)]])
    size = np.where(odd[runs[0]] == 0, 0, np.abs(np.diff(ahead[runs], axis=0)[0]))
    largest = np.sort(np.argsort(-size, kind="stable")[:_MOST_SLIPS])
    empty = prepared.empty_frames  # flats among the projections do not rotate
    uneven = [
        (first, last)
        for first, last in runs[:, largest[size[largest] >= _SLIP_STEPS]].T.tolist()
        if not ((empty >= first) & (empty <= last)).any()
    ]
    if not uneven:
        return ""
    lines = prepared.lines_by_time(_ALL_ROWS)
    slips = [run for run in uneven if _go_on(lines, position, abs(step_rad), *run)]
    if not slips:
        return ""
    where = [
        f"stand still from projection {first} to {last}"
        if abs(position[last] - position[first]) < 1
        else f"jump by {np.rad2deg((ahead[last] - ahead[first]) * step_rad):+.1f} degrees between "
        f"projections {first} and {last}"
        for first, last in slips
    ]
    remedy = "give the right ones (input.angles)"
    if len(slips) == len(uneven):
        start_deg, step_deg = np.rad2deg((theta_rad[0], step_rad))
        stop_deg = start_deg + step_deg * (len(theta_rad) - 1)
        remedy = (
            f"if all steps are equal, set input.angles: {_evenly(prepared, start_deg, stop_deg)}"
        )
    return f"the angles {listed(where)} of those in use, and the projections go on evenly: {remedy}"


def _evenly(prepared: Prepared, start_deg: float, stop_deg: float) -> str:
    """Return `input.angles`, of all projections, by the angles of the first and last in use."""
    n, numbers = len(prepared.rows.theta_rad), prepared.rows.numbers
    first, last = (0, n - 1) if numbers is None else numbers[[0, -1]].tolist()
    if (first, last) == (0, n - 1):
        return f"{{start: {start_deg:.6g}, stop: {stop_deg:.6g}}} (stop: of the last projection)"
    step_deg = (stop_deg - start_deg) / (last - first)
    return f"{{start: {start_deg - first * step_deg:.6g}, step: {step_deg:.6g}}}"


def likely_range(projections: Floats) -> str:
    """Return the range that the first and last projection (two images of -log) suggest, or ""."""
    first, last = np.asarray(projections) - np.mean(projections, axis=(1, 2), keepdims=True)
    spectrum = np.conj(np.fft.rfft(last))
    alike, mirrored = (
        float(np.fft.irfft(np.fft.rfft(image) * spectrum, n=first.shape[1]).sum(axis=0).max())
        / max(float(np.linalg.norm(first) * np.linalg.norm(last)), np.finfo(float).tiny)
        for image in (first, first[:, ::-1])
    )
    if max(alike, mirrored) < _LIKELY or abs(alike - mirrored) < 1 - max(alike, mirrored):
        return ""
    if alike > mirrored:
        return "the last projection is like the first one: {start: 0, stop: 360} is likely"
    return "the last projection mirrors the first one: {start: 0, stop: 180} is likely"


def _go_on(lines: Image, position: Floats, step_rad: float, first: int, last: int) -> bool:
    """Tell whether the sample rotates from `first` to `last` by the steps between their numbers."""
    n_angles, turn = len(position), 2 * np.pi / step_rad
    scores = []
    for i, j in _ACROSS:
        start, stop = first - i, last + j
        if not 0 <= start < stop < n_angles:
            continue
        in_angle = abs((position[stop] - position[start] + turn / 2) % turn - turn / 2)
        apart = [min(n, n_angles // 3) for n in (stop - start, max(1, round(in_angle)))]
        if abs(stop - start - in_angle) < _SLIP_STEPS:
            continue
        in_number, in_position = (_mismatch_beside(lines, position, n, first, last) for n in apart)
        if abs(in_number - in_position) < _DIFFER:
            continue
        across = float(_mismatch(lines, np.array([start]), np.array([stop]))[0])
        scores.append((across - in_position) / (in_number - in_position))
    return bool(scores) and float(np.median(scores)) >= _GOES_ON


def _mismatch_beside(lines: Image, position: Floats, apart: int, first: int, last: int) -> float:
    """Median `_mismatch` of pairs next to a slip, `apart` projections apart; 0 without pairs.

    Pairs have no other slip between them, which may need them to be less far apart.
    """
    for n in range(apart, 0, -1):
        before = np.arange(first - n - _BESIDE, first - n + 1)
        after = np.arange(last, min(last + _BESIDE + 1, lines.shape[1] - n))
        start = np.concatenate([before[before >= 0], after])
        start = start[np.abs(position[start + n] - position[start] - n) < _SLIP_STEPS]
        if len(start):
            return float(np.median(_mismatch(lines, start, start + n)))
    return 0.0


def _mismatch(lines: Image, first: Numbers, second: Numbers) -> Floats:
    """Log of the mismatch of pairs of projections."""
    pair = np.arange(len(first))
    chosen = lines[:, np.concatenate([first, second])]
    return np.log(np.maximum(_least(match(chosen, pair, pair + len(first))), 1e-6))


def _is_even(theta_rad: np.ndarray) -> bool:
    """Tell whether angles are evenly spaced, in their order."""
    even_rad = np.linspace(theta_rad[0], theta_rad[-1], len(theta_rad))
    return bool(np.abs(theta_rad - even_rad).max() < _EVEN * abs(even_rad[1] - even_rad[0]))


def _proven_deg(lines: Image, stated_deg: float, accepted: bool) -> float:
    """Angle of the last projection if proven to differ from the stated one, else 0."""
    n_angles = lines.shape[1]
    apart_deg = max(_APART_DEG, _APART_STEPS * stated_deg / (n_angles - 1))
    if accepted and abs(stated_deg - 180 * max(1, round(stated_deg / 180))) < apart_deg:
        return 0.0
    stop_deg = proven_stop_deg(lines)
    return stop_deg if stop_deg and abs(stop_deg - stated_deg) >= apart_deg else 0.0


def _closes(prepared: Prepared, cor_px: float) -> bool:
    """Tell whether the last projection shows the sample from the same side as the first one."""
    theta_deg = np.rad2deg(prepared.rows.theta_rad)
    covered_deg = np.ptp(theta_deg)
    if not _CLOSING_DEG[0] <= covered_deg <= _CLOSING_DEG[1] or not _is_even(theta_deg):
        return False
    lines = prepared.lines_by_time(_MAX_ROWS)
    n_angles = lines.shape[1]
    neighbours = _least(match(lines, slice(0, -1), slice(1, None)))
    first = np.array([0, 0])
    closing, middle = _least(match(lines, first, np.array([n_angles - 1, n_angles // 2])))
    if closing > _ALIKE * np.median(neighbours) or middle < max(_OTHER, _WORSE * closing):
        return False
    # flipped about the axis, where both overlap
    ends = np.stack(overlapping(lines[:, 0], lines[:, -1], cor_px, prepared.match_binning), 1)
    if ends.shape[2] < _LEAST_OVERLAP:
        return True
    (opposing,) = _least(match(ends, slice(0, 1), slice(1, 2)))
    return bool(opposing >= max(_OTHER, _WORSE * closing))


def _least(matches: Floats) -> Floats:
    return np.asarray(1 - matches.max(axis=1))
