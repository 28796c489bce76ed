"""A sample, or an axis, that jumps sideways between two projections: then no single COR is right.

Neighbouring projections are registered. What rotates moves on smoothly; a jump is one pair that
matches badly where its neighbours in angle would have it, and as well as they do after a shift.
Images taken once more after the scan must match those of the same angle. Why these limits:
docs/decisions/0021-jumps.md.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.cor.methods import Decision
from tomopipe.cor.prepared import Floats, Prepared, lines_as_taken, match, usual_step_rad

_MAX_ROWS = 3
_AROUND = tuple(i for i in range(-6, 7) if abs(i) > 1)  # pairs that show what is usual
_MIN_ANGLES = 20
_ALONG = 1.5  # usual steps: further apart in angle, projections are no neighbours
_REACH = 0.5  # of the columns: a sample that moves further has next to no picture in common
# What a jump has: a shift, and how much better the pair matches then (log of the misfit), which all
# others but two reach only a quarter of; the match, which those beside it have, too (more where the
# shift is above a sixteenth of the columns: there are more places to match by chance); the share of
# what is unusual about it that the shift explains (less where it gains much; above 2 nothing is
# unusual); and how much of the shift the pairs beside it may take back.
_SHIFT_PX, _GAIN, _ALONE, _MATCH, _RETURNS = 1.5, 0.4, 4.0, 0.6, 0.4
_FAR, _FAR_MATCH = 1 / 16, 0.75
_EXPLAINED, _MUCH, _MOST_EXPLAINED = (0.8, 0.65), 1.0, 2.0
# Images taken once more: at most that share of all, at an angle of the scan to that part of a step.
_MOST_MORE, _SAME = 0.1, 0.25


@dataclass(frozen=True)
class Jump:
    """The largest jump of a scan."""

    after: int  # the last projection before it: index in the order in which they were taken
    shift_px: float  # positive: to the right


class _Pairs(NamedTuple):
    """How pairs of projections match, each less what is usual around it; columns are binned."""

    away_px: Floats  # best shift
    gain: Floats  # of that shift: log of the misfit
    misfit: Floats
    explained: Floats  # share of the unusual misfit that the shift explains
    near: NDArray[np.bool_]  # both are neighbours in angle, too


def find_jump(prepared: Prepared) -> Jump | None:
    """Find where the sample jumps sideways by up to half of the columns; None if nowhere."""
    pairs = _neighbours(prepared)
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
    reason = "; ".join(filter(None, [f"{moved}: no single COR is right", decision.reason]))
    doubted = replace(decision, cor_px=None, confidence=0.0, verdict="ambiguous", reason=reason)
    return doubted, [moved]


def _neighbours(prepared: Prepared) -> _Pairs | None:
    """Register each projection with the next one; None where they are too far apart, or few."""
    usual_rad = usual_step_rad(prepared)
    steps_rad = np.abs(np.diff(prepared.rows.theta_rad))
    if len(steps_rad) < _MIN_ANGLES or not usual_rad:
        return None
    matches = match(lines_as_taken(prepared, _MAX_ROWS), slice(0, -1), slice(1, None), _REACH)
    return _less_usual(matches, steps_rad <= _ALONG * usual_rad)


def _less_usual(matches: Floats, near: NDArray[np.bool_]) -> _Pairs:
    pair, reach = np.arange(len(matches)), matches.shape[1] // 2
    best_px, misfit = _peaks(matches)
    usual_px = _usual(best_px)
    left = np.clip(np.floor(usual_px).astype(int) + reach, 0, 2 * reach - 1)
    unmoved = 1 - np.maximum(matches[pair, left], matches[pair, left + 1])
    gain = np.log(np.maximum(unmoved, 1e-9) / np.maximum(misfit, 1e-9))
    explained = (unmoved - misfit) / np.maximum(unmoved - _usual(misfit), 1e-9)
    return _Pairs(
        np.where(near, best_px - usual_px, 0), np.where(near, gain, 0), misfit, explained, near
    )


def _largest_jump(pairs: _Pairs, prepared: Prepared) -> Jump | None:
    largest = int(np.argmax(pairs.gain))
    gain, shift_px = pairs.gain[largest], pairs.away_px[largest]
    apart = np.abs(np.arange(len(pairs.gain)) - largest)
    third = np.sort(pairs.gain[apart > 2])[-3]
    beside = apart == 1
    returned_px = pairs.away_px[beside].sum()
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
    """Find a jump after which images were taken once more, at angles of the scan; else None."""
    theta_rad = prepared.rows.theta_rad
    runs = np.concatenate([[0], np.cumsum(~near)])
    longest = runs == np.argmax(np.bincount(runs))
    scan, more = np.flatnonzero(longest), np.flatnonzero(~longest)
    if not 0 < len(more) <= _MOST_MORE * len(theta_rad):
        return None
    apart_rad = theta_rad[more][:, None] - theta_rad[scan]
    apart_rad = np.abs((apart_rad + np.pi) % (2 * np.pi) - np.pi)
    same = apart_rad.min(axis=1) <= _SAME * prepared.angles.step_rad
    first, second = scan[np.argmin(apart_rad, axis=1)][same], more[same]
    if not len(first) or second[0] < scan[0]:
        return None
    matches = match(lines_as_taken(prepared, _MAX_ROWS), first, second, _REACH)
    best_px, misfit = _peaks(matches)
    unmoved = 1 - matches[:, matches.shape[1] // 2]
    gain = np.log(np.maximum(unmoved, 1e-9) / np.maximum(misfit, 1e-9))
    moved = (np.abs(best_px) >= _SHIFT_PX) & (gain >= _GAIN) & (1 - misfit >= _MATCH)
    if not moved.all():
        return None
    return Jump(int(second[0]) - 1, float(np.median(best_px)) * prepared.match_binning)


def _peaks(matches: Floats) -> tuple[Floats, Floats]:
    """Return the best shift of each pair, to a part of a column, and what it leaves unmatched."""
    pair, reach = np.arange(len(matches)), matches.shape[1] // 2
    best = np.argmax(matches, axis=1)
    middle = np.clip(best, 1, 2 * reach - 1)
    before, highest, after = (matches[pair, middle + i] for i in (-1, 0, 1))
    curvature = np.minimum(before - 2 * highest + after, -1e-12)
    part = np.where(middle == best, np.clip((before - after) / (2 * curvature), -0.5, 0.5), 0)
    return best + part - reach, 1 - matches[pair, best]


def _usual(values: Floats) -> Floats:
    """Median of each value's neighbours, the nearest two not counted."""
    reach = max(_AROUND)
    padded = np.pad(values, reach, constant_values=np.nan)
    return np.nanmedian([padded[reach + i :][: len(values)] for i in _AROUND], axis=0)
