"""A sample or axis that jumps, or a stage that stands still: no single COR fits then.

Jumps: neighbouring projections are registered (docs/decisions/0021-jumps.md). For drifts, see
`tomopipe.cor.lateral_drift`.

Standstill: projections of a stage that does not rotate give a COR, too. Over more than 360 degrees,
projections 360 degrees apart must be alike: if they differ and neighbours do not, the sample moved
along the axis (a helical scan) or changed, or the angles are wrong; slices are then useless at any
COR. A difference that a sideways shift explains does not count: samples drift.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.methods import Decision
from tomopipe.cor.outliers import NO_SINGLE_COR
from tomopipe.cor.prepared import Floats, Numbers, Prepared, match

_MAX_ROWS = 3
_AROUND = tuple(i for i in range(-6, 7) if abs(i) > 1)  # pairs that a pair is compared with
_MIN_ANGLES = 20
_ALONG = 1.5  # median steps: projections further apart in angle are not neighbours
_REACH = 0.5  # largest shift, share of the columns: beyond it hardly anything overlaps
# Thresholds of a jump: its shift; the gain of that shift (log of the misfit), and how many times
# the third largest gain of other pairs that is; the match of the pair and of those beside it (a
# larger one for shifts above a sixteenth of the columns, where chance matches are more likely); the
# share of the excess misfit that the shift explains (less is enough for a large gain; above 2 there
# is no excess); and the share of the shift that the pairs beside it may undo.
_SHIFT_PX, _GAIN, _ALONE, _MATCH, _RETURNS = 1.5, 0.4, 4.0, 0.6, 0.4
_FAR, _FAR_MATCH = 1 / 16, 0.75
_EXPLAINED, _MUCH, _MOST_EXPLAINED = (0.8, 0.65), 1.0, 2.0
# Repeat projections: largest share of all (more are turns), the share up to which those before the
# scan are images of an alignment, and the largest distance (steps) from an angle of the scan.
_MOST_MORE, _ALIGNMENT, _SAME = 0.25, 0.1, 0.25
_TURN_RAD = 2 * np.pi


@dataclass(frozen=True)
class Jump:
    """The largest jump of a scan."""

    after: int  # the last projection before it: index in the order in which they were taken
    shift_px: float  # positive: to the right


class _Pairs(NamedTuple):
    """Match of pairs of projections, relative to the pairs around them; columns are binned."""

    shift_px: Floats  # best shift
    gain: Floats  # decrease of the misfit by that shift (log)
    misfit: Floats
    explained: Floats  # share of the excess misfit that the shift explains
    near: NDArray[np.bool_]  # whether both are neighbours in angle, too


def find_jump(prepared: Prepared) -> Jump | None:
    """Find where the sample jumps sideways by up to half of the columns; None if nowhere."""
    pairs = neighbours(prepared)
    if pairs is None:
        return None
    return _largest_jump(pairs, prepared) or _moved_since(pairs.near, prepared)


def reject_jump(decision: Decision, prepared: Prepared) -> tuple[Decision, list[str]]:
    """Accept nothing where the sample jumped; return the decision, and what happened if it did."""
    jump = None if decision.best_cor_px is None else find_jump(prepared)
    if jump is None:
        return decision, []
    before_deg, after_deg = np.rad2deg(prepared.rows.theta_rad[jump.after : jump.after + 2])
    moved = (
        f"the sample moved between projections {jump.after} and {jump.after + 1} of those in use "
        f"({before_deg:.2f} and {after_deg:.2f} degrees) by about {jump.shift_px:+.1f} px sideways"
    )
    reason = "; ".join(filter(None, [f"{moved}: {NO_SINGLE_COR}", decision.reason]))
    doubted = replace(decision, cor_px=None, confidence=0.0, verdict="ambiguous", reason=reason)
    return doubted, [moved]


def neighbours(prepared: Prepared) -> _Pairs | None:
    """Register each projection with the next one; None where they are too far apart, or few."""
    median_rad = prepared.median_step_rad
    steps_rad = np.abs(np.diff(prepared.rows.theta_rad))
    if len(steps_rad) < _MIN_ANGLES or not median_rad:
        return None
    matches = match(prepared.lines_by_time(_MAX_ROWS), slice(0, -1), slice(1, None), _REACH)
    return _relative(matches, steps_rad <= _ALONG * median_rad)


def _relative(matches: Floats, near: NDArray[np.bool_]) -> _Pairs:
    """Compare each pair with the pairs around it."""
    pair, reach = np.arange(len(matches)), matches.shape[1] // 2
    best_px, misfit = peaks(matches)
    around_px = median_around(best_px)
    left = np.clip(np.floor(around_px).astype(int) + reach, 0, 2 * reach - 1)
    unmoved = 1 - np.maximum(matches[pair, left], matches[pair, left + 1])
    gain = np.log(np.maximum(unmoved, 1e-9) / np.maximum(misfit, 1e-9))
    explained = (unmoved - misfit) / np.maximum(unmoved - median_around(misfit), 1e-9)
    return _Pairs(
        np.where(near, best_px - around_px, 0), np.where(near, gain, 0), misfit, explained, near
    )


def _largest_jump(pairs: _Pairs, prepared: Prepared) -> Jump | None:
    largest = int(np.argmax(pairs.gain))
    gain, shift_px = pairs.gain[largest], pairs.shift_px[largest]
    apart = np.abs(np.arange(len(pairs.gain)) - largest)
    third = np.sort(pairs.gain[apart > 2])[-3]
    beside = apart == 1
    returned_px = pairs.shift_px[beside].sum()
    is_far = abs(shift_px) * prepared.match_binning > _FAR * prepared.rows.sinograms.shape[2]
    is_jump = (
        abs(shift_px) >= _SHIFT_PX
        and gain >= max(_GAIN, _ALONE * third)
        and 1 - pairs.misfit[largest] >= (_FAR_MATCH if is_far else _MATCH)
        and _EXPLAINED[int(gain >= _MUCH)] <= pairs.explained[largest] <= _MOST_EXPLAINED
        and (1 - pairs.misfit[beside][pairs.near[beside]] >= _MATCH).all()
        and abs(returned_px) <= _RETURNS * abs(shift_px)
    )
    return Jump(largest, float(shift_px) * prepared.match_binning) if is_jump else None


def _moved_since(near: NDArray[np.bool_], prepared: Prepared) -> Jump | None:
    """Find a jump from repeat projections at equal angles; None if there is none.

    They are images after a scan, or of a scan that was interrupted and began again some steps back.
    """
    theta_rad = prepared.rows.theta_rad
    runs = np.concatenate([[0], np.cumsum(~near)])
    longest = runs == np.argmax(np.bincount(runs))
    scan, more = np.flatnonzero(longest), np.flatnonzero(~longest)
    if not len(more):
        return None
    nearest, apart_rad = _nearest(theta_rad[scan], theta_rad[more])
    same = apart_rad <= _SAME * prepared.angles.step_rad
    in_scan, again = scan[nearest][same], more[same]
    if not 0 < len(again) <= _MOST_MORE * len(theta_rad):
        return None
    if again[0] < scan[0] and len(more) <= _ALIGNMENT * len(theta_rad):
        return None
    first, second = np.minimum(in_scan, again), np.maximum(in_scan, again)
    matches = match(prepared.lines_by_time(_MAX_ROWS), first, second, _REACH)
    best_px, misfit = peaks(matches)
    unmoved = 1 - matches[:, matches.shape[1] // 2]
    gain = np.log(np.maximum(unmoved, 1e-9) / np.maximum(misfit, 1e-9))
    moved = (np.abs(best_px) >= _SHIFT_PX) & (gain >= _GAIN) & (1 - misfit >= _MATCH)
    if not moved.all():
        return None
    return Jump(int(second.min()) - 1, float(np.median(best_px)) * prepared.match_binning)


def _nearest(theta_rad: Floats, others_rad: Floats) -> tuple[Numbers, Floats]:
    """Return the nearest angle to each of the others, on the circle, and its distance."""
    order = np.argsort(theta_rad % _TURN_RAD)
    after = np.searchsorted(theta_rad % _TURN_RAD, others_rad % _TURN_RAD, sorter=order)
    both = np.stack([order[after - 1], order[after % len(order)]])
    apart_rad = np.abs((others_rad - theta_rad[both] + np.pi) % _TURN_RAD - np.pi)
    closest = np.argmin(apart_rad, axis=0)[None]
    return tuple(np.take_along_axis(values, closest, axis=0)[0] for values in (both, apart_rad))


def peaks(matches: Floats) -> tuple[Floats, Floats]:
    """Return the best shift of each pair, to a fraction of a column, and the remaining misfit."""
    pair, reach = np.arange(len(matches)), matches.shape[1] // 2
    best = np.argmax(matches, axis=1)
    middle = np.clip(best, 1, 2 * reach - 1)
    before, highest, after = (matches[pair, middle + i] for i in (-1, 0, 1))
    curvature = np.minimum(before - 2 * highest + after, -1e-12)
    part = np.where(middle == best, np.clip((before - after) / (2 * curvature), -0.5, 0.5), 0)
    return best + part - reach, 1 - matches[pair, best]


def median_around(values: Floats) -> Floats:
    """Median of each value's neighbours, without the nearest two."""
    reach = max(_AROUND)
    padded = np.pad(values, reach, constant_values=np.nan)
    return np.nanmedian([padded[reach + i :][: len(values)] for i in _AROUND], axis=0)


_OVERLAP_RAD = np.deg2rad(20)  # least range beyond 360 degrees
# Only changes within this angle are compared: what stays in its columns longer is not the sample,
# and its drift during a rotation must not count.
_CHANGE_RAD = np.deg2rad(10)
_MOST_PAIRS, _LEAST_PAIRS = 128, 8
_CHANGE_ROWS = 5
_NEAR = 0.55  # steps: largest deviation from 360 degrees of projections compared
# Thresholds for the mismatch 360 degrees apart: as a share of the changes, and relative to the
# mismatch of neighbours, which includes one step of rotation. Of 324 scans of still samples one
# exceeded 1.3 times that of neighbours, a weak sample in a drifting beam: 5.5 times, at a share of
# 0.42 (bench_turns.py at ef7c9bb8).
_APART, _OVER_NEIGHBOURS = 0.5, 2.0

# Parts of a scan: more of them where each then has enough angles. An eighth is more than the bad
# projections with which a COR is accepted (predict_cor.max_bad_frames).
_PARTS, _MORE_PARTS, _LEAST_IN_PART, _ENOUGH = 4, 8, 8, 16
# Change over half a part of the scan, relative to that between neighbours (noise and one step). A
# part below the first number stood still if another part is above the second one; if the mean is
# below the third, all of the scan did.
_CHANGES, _CLEARLY, _ALL_CHANGE = 1.15, 10.0, 1.04
# Mean line integral as of an ellipse beyond both edges: least amplitude over half a rotation, and
# share of its variation about a line. Beams drift otherwise.
_ELLIPSE, _AS_ELLIPSE = 0.02, 0.95


def warn_of_standstill(prepared: Prepared) -> str:
    """Return a warning that names the angles at which nothing rotated, or ""."""
    changes = change_in_parts(prepared)
    if not len(changes):
        return ""
    still = np.flatnonzero(changes < _CHANGES)
    if changes.mean() < _ALL_CHANGE:
        if _is_ellipse(prepared):
            return ""
        still = np.arange(len(changes))
    elif not len(still) or changes.max() < _CLEARLY:
        return ""
    theta_deg = np.rad2deg(prepared.rows.theta_rad)[prepared.angles.order]
    parts = np.array_split(theta_deg, len(changes))
    return (
        f"the projections do not change, but for noise, from {parts[still[0]][0]:.0f} to "
        f"{parts[still[-1]][-1]:.0f} degrees: did the stage rotate? Or the sample is round about "
        "the axis, out of view, or lets hardly any light through (a plate along the beam)"
    )


def _is_ellipse(prepared: Prepared) -> bool:
    """Tell whether the mean of the projections changes as that of a smooth sample that rotates."""
    order = prepared.angles.order
    theta_rad = prepared.rows.theta_rad[order]
    mean = np.mean(prepared.plain, axis=(0, 2), dtype=np.float64)
    drift = np.stack([np.ones(len(order)), order / len(order)], axis=1)  # of a beam, over time
    around = np.stack([np.cos(2 * theta_rad), np.sin(2 * theta_rad)], axis=1)
    changes, remains = (
        (mean - by @ np.linalg.lstsq(by, mean)[0]).var()
        for by in (drift, np.hstack([drift, around]))
    )
    return bool(changes >= _ELLIPSE**2 / 2 and remains <= (1 - _AS_ELLIPSE) * changes)


def change_in_parts(prepared: Prepared) -> np.ndarray:
    """Change within parts of the angles, relative to neighbours; empty: too few angles."""
    lines = prepared.lines_to_match[:_CHANGE_ROWS]
    n_parts = _MORE_PARTS if lines.shape[1] >= _MORE_PARTS * _ENOUGH else _PARTS
    parts = np.array_split(lines, n_parts, axis=1)
    if parts[-1].shape[1] < _LEAST_IN_PART:
        return np.array([])
    n_bad = sum(map(len, (prepared.rows.bad_frames or {}).values()))
    return np.array([_change(p, p.shape[1] // 2, n_bad) / _change(p, 1, n_bad) for p in parts])


def _change(lines: np.ndarray, n_steps: int, n_bad: int) -> float:
    """Mean change over `n_steps`, without the largest ones: two for each bad projection."""
    difference = lines[:, n_steps:] - lines[:, :-n_steps]
    each = np.sort(np.mean(difference**2, axis=(0, 2), dtype=np.float64))
    remaining = each[: max(len(each) - 2 * n_bad, len(each) // 2)]
    return float(np.mean(remaining)) or np.finfo(float).tiny


def warn_of_changes(prepared: Prepared) -> str:
    """Return a warning that projections 360 degrees apart differ, or "".

    Noise and the rotation within a step are allowed for by comparing with neighbours.
    """
    result = unmatched(prepared)
    if result is None or result[0] < max(_APART, _OVER_NEIGHBOURS * result[1]):
        return ""
    return (
        "projections 360 degrees apart differ: a helical scan, which is not supported, a sample "
        "that moves or changes, or wrong angles"
    )


def unmatched(prepared: Prepared) -> tuple[float, float] | None:
    """Return the median mismatch (0 to 1) of projections 360 degrees apart, and of neighbours.

    None if there are too few such projections, or neighbours are too far apart to compare with.
    """
    theta_rad = prepared.rows.theta_rad
    if len(theta_rad) < 2 or np.ptp(theta_rad) < 2 * np.pi + _OVERLAP_RAD:
        return None
    step_rad = prepared.median_step_rad
    if not step_rad:
        return None
    first, neighbour, repeated = _pairs(theta_rad, step_rad)
    n_pairs = first.shape[1]
    if n_pairs < _LEAST_PAIRS:
        return None
    lines = prepared.lines_by_time(_CHANGE_ROWS)
    changes = [
        lines[:, later] - lines[:, earlier] for earlier, later in (first, neighbour, repeated)
    ]
    first_change, next_change, later_change = np.arange(3 * n_pairs).reshape(3, -1)
    changed = np.concatenate(changes, axis=1)
    apart = 1 - match(changed, first_change, later_change).max(axis=1)
    beside = 1 - match(changed, first_change, next_change).max(axis=1)
    return float(np.median(apart)), float(np.median(beside))


def _pairs(theta_rad: np.ndarray, step_rad: float) -> tuple[Numbers, Numbers, Numbers]:
    """Pairs `_CHANGE_RAD` apart (2, n_pairs), the next pair of each, and that 360 degrees later."""
    order = np.argsort(theta_rad, kind="stable")
    ordered = theta_rad[order]
    offsets_rad = np.array([[0, _CHANGE_RAD], [2 * np.pi, 2 * np.pi + _CHANGE_RAD]])
    goal = ordered + offsets_rad[:, :, None]
    after = np.clip(np.searchsorted(ordered, goal), 1, len(ordered) - 1)
    result = after - (goal - ordered[after - 1] < ordered[after] - goal)
    away_rad = np.abs(ordered[result] - goal).max(axis=(0, 1))
    beside = np.minimum(result[0] + 1, len(ordered) - 1)
    away_rad += np.abs(ordered[beside] - ordered[result[0]] - step_rad).max(axis=0)
    valid = np.flatnonzero(away_rad <= _NEAR * step_rad)
    chosen = valid[:: -(-len(valid) // _MOST_PAIRS) or 1]
    return order[result[0][:, chosen]], order[beside[:, chosen]], order[result[1][:, chosen]]
