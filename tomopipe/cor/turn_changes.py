"""Changes of the sample between turns of a scan that have the same angles.

Projections of two turns at equal angles differ by noise. Allowed for are, besides, what does not
rotate, such as a beam that changed; a shift of a fraction of a pixel; and the angle between both.
What else is left of a still sample is independent from one projection to the next, whereas a change
of the sample rotates with it: the correlation of neighbouring projections needs no model of noise.
"""

import numpy as np
from scipy import ndimage

from tomopipe.arrays import evenly_spread
from tomopipe.cor.prepared import Floats, Numbers, Prepared
from tomopipe.cor.sinograms import Image, bin_columns, rows_at
from tomopipe.prep.half_acquisition import is_near_edge
from tomopipe.scans.turns import Turns, find_turns

_ROWS, _MOST_TURNS, _PARTS = 5, 8, 12
# Least correlation of the difference of two turns with that of the next projection, and least root
# of their product over the standard deviation of the projections.
_CORRELATED, _SHARE = 0.04, 0.004
_EQUAL = 0.02  # steps: angles further apart are interpolated
_SMOOTH_PX, _WIDE_PX = 1.5, (0.0, 4.0)  # columns over which lines, and differences, are smoothed
_BEAM = 2  # order of the polynomial that a change of the beam is
_SHIFT_PX = 1.2  # least shift, in the median of a twelfth of the angles


def warn_of_turns(prepared: Prepared, cor_px: float) -> str:
    """Return a warning that the sample changes between turns, or ""; `cor_px` is in its columns."""
    theta_deg = np.rad2deg(prepared.rows.theta_rad)
    turns = find_turns(theta_deg)
    if turns is None:
        return ""
    changed = changed_turn(prepared, turns)
    if not changed:
        return ""
    numbers = prepared.rows.numbers
    if numbers is None:
        numbers = np.arange(len(prepared.rows.theta_rad))
    in_use = find_turns(theta_deg, is_half=is_near_edge(cor_px, prepared.n_cols)) or turns
    return (
        f"{turns}: turn {changed + 1} differs from the first one by more than noise, so the sample "
        f"changes or moves, and a volume of all turns is blurred; {in_use.first_alone(numbers)}"
    )


def changed_turn(prepared: Prepared, turns: Turns) -> int:
    """Return the number of a turn, from 0, that differs most from the first one; 0: none does."""
    lines = bin_columns(np.array(prepared.sinograms[:_ROWS]), prepared.match_binning)
    lines = ndimage.gaussian_filter1d(lines, _SMOOTH_PX, axis=2)
    lines = lines[:, np.argsort(prepared.angles.order)]
    first = turns.members[0]
    starts_deg = np.array([turns.theta_deg[turn[0]] for turn in turns.members[1:]])
    away_deg = np.abs(starts_deg - turns.theta_deg[first[0]])
    alike = 1 + np.flatnonzero(np.rint(away_deg / 180) % 2 == 0)  # not seen from behind
    others = alike[evenly_spread(len(alike), _MOST_TURNS)]
    scores = [
        _score(*_pairs(lines, turns, first, turns.members[turn]), prepared.match_binning)
        for turn in others
    ]
    best = int(np.argmax(scores))
    return int(others[best]) if scores[best] >= 1 else 0


def _pairs(
    lines: Image, turns: Turns, first: Numbers, second: Numbers
) -> tuple[Image, Image, bool]:
    """Return lines of two turns at equal angles, ascending; and whether they are interpolated.

    Between two angles both are interpolated to the middle, so that the errors are the same.
    """
    at_deg, other_deg = turns.theta_deg[first], turns.theta_deg[second]
    step_deg = float(np.median(np.diff(at_deg)))
    other_deg = other_deg - 360 * np.round((other_deg[0] - at_deg[0]) / 360)
    after = np.clip(np.searchsorted(other_deg, at_deg - step_deg / 2), 0, len(other_deg) - 1)
    apart_deg = float(np.median(other_deg[after] - at_deg))
    if abs(apart_deg) <= _EQUAL * step_deg:
        return lines[:, first], lines[:, second[after]], False
    middle_deg = at_deg + apart_deg / 2
    before, later = (
        np.array([rows_at(row[turn], theta_deg, middle_deg) for row in lines])
        for turn, theta_deg in ((first, at_deg), (second, other_deg))
    )
    return before[:, 1:-1], later[:, 1:-1], True


def _score(before: Image, after: Image, interpolated: bool, binning: int) -> float:
    """Return how far the difference exceeds the thresholds: 1 and more is a change."""
    difference = np.asarray(after - before, np.float64)
    difference -= difference.mean(axis=1, keepdims=True)  # what does not rotate
    mean = (before + after).astype(np.float64) / 2
    by = difference, np.gradient(mean, axis=2), np.gradient(mean, axis=1)
    powers = np.linspace(-1, 1, mean.shape[2])[:, None] ** np.arange(_BEAM + 1)
    smooth = np.linalg.qr(powers)[0]  # as a beam that changes
    left, shift_px = _explained(*(lines - lines @ smooth @ smooth.T for lines in by))
    shifts_px = [np.median(part) for part in np.array_split(binning * shift_px, _PARTS)]
    scores = [float(np.abs(shifts_px).max()) / _SHIFT_PX]
    lag = 2 if interpolated else 1  # neighbours share noise
    for smooth_px in _WIDE_PX:
        wide = ndimage.gaussian_filter1d(left, smooth_px, axis=2) if smooth_px else left
        product = float(np.mean(wide[:, lag:] * wide[:, :-lag]))
        correlated = product / max(float(np.mean(wide**2)), np.finfo(float).tiny)
        share = np.sqrt(max(product, 0.0)) / max(float(mean.std()), np.finfo(float).tiny)
        scores.append(min(correlated / _CORRELATED, share / _SHARE))
    return max(scores)


def _explained(difference: Floats, *by: Floats) -> tuple[Floats, Floats]:
    """Subtract from each projection what the derivatives explain; also the factor of the first."""
    basis = np.stack([b.swapaxes(0, 1).reshape(b.shape[1], -1) for b in by], axis=1)
    values = difference.swapaxes(0, 1).reshape(difference.shape[1], -1)
    gram = basis @ basis.swapaxes(1, 2)
    gram += 1e-6 * np.trace(gram, axis1=1, axis2=2).mean() * np.eye(len(by))
    factors = np.linalg.solve(gram, basis @ values[:, :, None])[:, :, 0]
    left: Floats = values - np.einsum("ab,abc->ac", factors, basis)
    n_rows = difference.shape[0]
    return left.reshape(len(left), n_rows, -1).swapaxes(0, 1), np.asarray(-factors[:, 0])
