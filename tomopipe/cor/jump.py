"""A sample, or an axis, that jumps sideways between two projections: then no single COR is right.

Neighbouring projections are registered. What rotates moves on smoothly; a jump is one pair that
matches badly where its neighbours in angle would have it, and as well as they do after a shift.
Why these limits: docs/decisions/0021-jumps.md.
"""

from dataclasses import dataclass, replace

import numpy as np

from tomopipe.cor.methods import Decision
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.projection_match import Floats, lines_as_taken, match, usual_step_rad

_MAX_ROWS = 3
_AROUND = tuple(i for i in range(-6, 7) if abs(i) > 1)  # pairs that show what is usual
_ENDS, _MIN_ANGLES = 3, 20  # pairs at both ends are not judged
_ALONG = 1.5  # usual steps: further apart in angle, projections are no neighbours
# What a jump has: a shift, and how much better the pair matches then (log of the misfit), which
# all others but two reach only a quarter of; the match; the share of what is unusual about it that
# the shift explains; and how much of the shift the next projection may take back.
_SHIFT_PX, _GAIN, _ALONE, _MATCH, _EXPLAINED, _RETURNS = 1.5, 0.4, 4.0, 0.6, 0.8, 0.4


@dataclass(frozen=True)
class Jump:
    """The largest jump of a scan."""

    after: int  # the last projection before it: index in the order in which they were taken
    shift_px: float  # positive: to the right


def find_jump(prepared: Prepared) -> Jump | None:
    """Find where the sample jumps sideways by up to a sixteenth of the columns; None if nowhere."""
    usual_rad = usual_step_rad(prepared)
    steps_rad = np.abs(np.diff(prepared.rows.theta_rad))
    if len(steps_rad) < _MIN_ANGLES or not usual_rad:
        return None
    matches = match(lines_as_taken(prepared, _MAX_ROWS), slice(0, -1), slice(1, None))
    pair, reach = np.arange(len(matches)), matches.shape[1] // 2
    best_px, misfit = _peaks(matches)
    usual_px = _usual(best_px)
    left = np.clip(np.floor(usual_px).astype(int) + reach, 0, 2 * reach - 1)
    unmoved = 1 - np.maximum(matches[pair, left], matches[pair, left + 1])
    gain = np.log(np.maximum(unmoved, 1e-9) / np.maximum(misfit, 1e-9))
    gain[steps_rad > _ALONG * usual_rad] = 0
    gain[:_ENDS] = gain[-_ENDS:] = 0
    largest = int(np.argmax(gain))
    third = np.sort(gain[np.abs(pair - largest) > 2])[-3]
    away_px = best_px - usual_px
    returned_px = away_px[largest - 1] + away_px[largest + 1]
    is_jump = (
        abs(away_px[largest]) >= _SHIFT_PX
        and gain[largest] >= max(_GAIN, _ALONE * third)
        and 1 - misfit[largest] >= _MATCH
        and unmoved[largest] - misfit[largest]
        >= _EXPLAINED * (unmoved[largest] - _usual(misfit)[largest])
        and abs(returned_px) <= _RETURNS * abs(away_px[largest])
    )
    return Jump(largest, float(away_px[largest]) * prepared.match_binning) if is_jump else None


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
