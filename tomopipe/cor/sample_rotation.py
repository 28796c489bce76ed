"""Whether the sample rotated all the time, and looks the same after a full rotation.

A stage that stands still gives a COR, too. Over more than 360 degrees projections 360 degrees apart
must be alike: if they are not, and neighbours are, the sample moved along the axis (a helical scan)
or changed, or the angles are wrong; then slices are useless wherever the COR is. What a sideways
shift explains does not count: samples drift.
"""

import numpy as np

from tomopipe.cor.prepared import Numbers, Prepared, lines_as_taken, match, usual_step_rad

_OVERLAP_RAD = np.deg2rad(20)  # beyond 360 degrees, at least
# Compared is what changes within this angle: what stays in its columns longer is no sample, and its
# drift within a rotation must not count.
_CHANGE_RAD = np.deg2rad(10)
_MOST_PAIRS, _LEAST_PAIRS = 128, 8
_MAX_ROWS = 5
_NEAR = 0.55  # of a step: as far from 360 degrees apart as the nearest projection may be
# What does not match 360 degrees apart: as a share of what changes, and over that of neighbours,
# which a whole step of rotation adds to. Of 324 scans of still samples none had 1.3 times theirs,
# but one, a weak sample before a drifting beam: 5.5 times, at 0.42 (bench_turns.py at ef7c9bb8).
_APART, _OVER_NEIGHBOURS = 0.5, 2.0

_PARTS, _LEAST_IN_PART = 4, 8
# How much more projections half a part of the scan apart differ than neighbours, which differ by
# noise and one step: less on average, or in some parts where another part shows that noise is not
# all that there is (bench_standing.py at ef7c9bb8).
_CHANGES, _CLEARLY = 1.04, 5.0


def warn_of_standstill(prepared: Prepared) -> str:
    """Say in one sentence at which angles nothing rotated; "" if all did."""
    changes = change_in_parts(prepared)
    if not len(changes):
        return ""
    still = np.flatnonzero(changes < _CHANGES)
    if changes.mean() < _CHANGES:
        still = np.arange(_PARTS)
    elif not len(still) or changes.max() < _CLEARLY:
        return ""
    theta_deg = np.rad2deg(prepared.rows.theta_rad)[prepared.angles.order]
    parts = np.array_split(theta_deg, _PARTS)
    return (
        f"the projections do not change, but for noise, from {parts[still[0]][0]:.0f} to "
        f"{parts[still[-1]][-1]:.0f} degrees: did the stage rotate? Or the sample is round about "
        "the axis, or out of view"
    )


def change_in_parts(prepared: Prepared) -> np.ndarray:
    """Return the change within each quarter of the angles over that between neighbours.

    Empty if there are too few projections.
    """
    parts = np.array_split(prepared.lines_to_match[:_MAX_ROWS], _PARTS, axis=1)
    if parts[-1].shape[1] < _LEAST_IN_PART:
        return np.array([])
    n_bad = sum(map(len, (prepared.rows.bad_frames or {}).values()))
    return np.array([_change(p, p.shape[1] // 2, n_bad) / _change(p, 1, n_bad) for p in parts])


def _change(lines: np.ndarray, n_steps: int, n_bad: int) -> float:
    """Mean change in so many steps; not of the largest ones, of which each bad projection has two.

    A single dark one would hide how little noise changes.
    """
    difference = lines[:, n_steps:] - lines[:, :-n_steps]
    each = np.sort(np.mean(difference**2, axis=(0, 2), dtype=np.float64))
    remaining = each[: max(len(each) - 2 * n_bad, len(each) // 2)]
    return float(np.mean(remaining)) or np.finfo(float).tiny


def warn_of_changes(prepared: Prepared) -> str:
    """Say in one sentence that projections 360 degrees apart differ; "" if not, or without any.

    Without noise both are equal; noise and the rotation within a step are also in neighbours.
    """
    result = unmatched(prepared)
    if result is None or result[0] < max(_APART, _OVER_NEIGHBOURS * result[1]):
        return ""
    return (
        "projections 360 degrees apart differ: a helical scan, which is not supported, a sample "
        "that moves or changes, or wrong angles"
    )


def unmatched(prepared: Prepared) -> tuple[float, float] | None:
    """Return what projections 360 degrees apart, and neighbours, leave unmatched: median shares.

    None if there are too few such projections, or neighbours are too far apart to compare with.
    """
    theta_rad = prepared.rows.theta_rad
    if len(theta_rad) < 2 or np.ptp(theta_rad) < 2 * np.pi + _OVERLAP_RAD:
        return None
    step_rad = usual_step_rad(prepared)
    if not step_rad:
        return None
    first, neighbour, repeated = _pairs(theta_rad, step_rad)
    n_pairs = first.shape[1]
    if n_pairs < _LEAST_PAIRS:
        return None
    lines = lines_as_taken(prepared, _MAX_ROWS)
    changes = [
        lines[:, later] - lines[:, earlier] for earlier, later in (first, neighbour, repeated)
    ]
    first_change, next_change, later_change = np.arange(3 * n_pairs).reshape(3, -1)
    changed = np.concatenate(changes, axis=1)
    apart = 1 - match(changed, first_change, later_change).max(axis=1)
    beside = 1 - match(changed, first_change, next_change).max(axis=1)
    return float(np.median(apart)), float(np.median(beside))


def _pairs(theta_rad: np.ndarray, step_rad: float) -> tuple[Numbers, Numbers, Numbers]:
    """Return projections with those `_CHANGE_RAD` later, (2, n_pairs); the next; 360 degrees later.

    Evenly chosen; only where there are projections at these angles.
    """
    order = np.argsort(theta_rad, kind="stable")
    ordered = theta_rad[order]
    offsets_rad = np.array([[0, _CHANGE_RAD], [2 * np.pi, 2 * np.pi + _CHANGE_RAD]])
    goal = ordered + offsets_rad[:, :, None]
    after = np.clip(np.searchsorted(ordered, goal), 1, len(ordered) - 1)
    result = after - (goal - ordered[after - 1] < ordered[after] - goal)
    away_rad = np.abs(ordered[result] - goal).max(axis=(0, 1))
    beside = np.minimum(result[0] + 1, len(ordered) - 1)
    away_rad += np.abs(ordered[beside] - ordered[result[0]] - step_rad).max(axis=0)
    there = np.flatnonzero(away_rad <= _NEAR * step_rad)
    chosen = there[:: -(-len(there) // _MOST_PAIRS) or 1]
    return order[result[0][:, chosen]], order[beside[:, chosen]], order[result[1][:, chosen]]
