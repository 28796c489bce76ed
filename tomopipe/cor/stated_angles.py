"""Angles that the projections contradict: of another scale than those of the scan."""

import numpy as np

from tomopipe.cor.angular_range import prove_range, wider_range_deg
from tomopipe.cor.clean_rows import Image, bin_columns, binning_to
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.projection_match import Floats, lines_as_taken, match
from tomopipe.geometry import bin_cor

_COLS = 256  # about so many columns are enough
_MIN_ANGLES = 30
_EVEN = 0.5  # of a step: as far as an angle may be from where even ones lie
# What is proven, to a third of a step, contradicts what is stated from so far apart.
_APART_DEG, _APART_STEPS = 2.0, 3.0
# A full rotation said to be 180 degrees: the last projection matches the first one as neighbours
# match, to a factor; both the one half-way and the first one flipped about the axis do so much
# worse (misfit, and factor).
_CLOSING_DEG, _ALIKE, _OTHER, _WORSE = (170.0, 190.0), 2.0, 0.15, 5.0
_MAX_ROWS, _LEAST_OVERLAP = 3, 16


def warn_of_angles(prepared: Prepared, cor_px: float, *, accepted: bool = True) -> str:
    """Say in one sentence that the projections show another range than the angles; else "".

    `cor_px` is the axis that was found with them. Only even angles are judged. A range of 180 to
    720 degrees is proven where the stated one is no multiple of 180, or no axis was `accepted`: a
    scan of the common kind need not wait for it.
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
    return (
        f"the angles cover {stated_deg:.0f} degrees, the projections show {shown_deg:g}: if so, "
        f"set input.angles: {{start: 0, stop: {shown_deg:g}}} (stop: of the last projection)"
    )


def _is_even(theta_rad: np.ndarray) -> bool:
    """Tell whether angles are evenly spread, in their order."""
    even_rad = np.linspace(theta_rad[0], theta_rad[-1], len(theta_rad))
    return bool(np.abs(theta_rad - even_rad).max() < _EVEN * abs(even_rad[1] - even_rad[0]))


def _proven_deg(lines: Image, stated_deg: float, accepted: bool) -> float:
    """Return the angle of the last projection, if it is proven not to be the stated one; else 0.

    `lines` are in the order in which they were taken.
    """
    n_angles = lines.shape[1]
    apart_deg = max(_APART_DEG, _APART_STEPS * stated_deg / (n_angles - 1))
    if accepted and abs(stated_deg - 180 * max(1, round(stated_deg / 180))) < apart_deg:
        return 0.0
    proof = prove_range(lines)
    stop_deg = proof.range_deg * (1 if proof.endpoint else 1 - 1 / n_angles)
    return stop_deg if stop_deg and abs(stop_deg - stated_deg) >= apart_deg else 0.0


def _closes(prepared: Prepared, cor_px: float) -> bool:
    """Tell whether the last projection shows the sample from the side of the first one.

    Half acquisition over 360 degrees that is said to cover 180 has no other sign.
    """
    theta_deg = np.rad2deg(prepared.rows.theta_rad)
    covered_deg = np.ptp(theta_deg)
    if not _CLOSING_DEG[0] <= covered_deg <= _CLOSING_DEG[1] or not _is_even(theta_deg):
        return False
    lines = lines_as_taken(prepared, _MAX_ROWS)
    n_angles, n_cols = lines.shape[1:]
    neighbours = _least(match(lines, slice(0, -1), slice(1, None)))
    first = np.array([0, 0])
    closing, middle = _least(match(lines, first, np.array([n_angles - 1, n_angles // 2])))
    if closing > _ALIKE * np.median(neighbours) or middle < max(_OTHER, _WORSE * closing):
        return False
    # flipped about the axis, where both overlap
    shift = round(2 * float(bin_cor(cor_px, binning=prepared.match_binning))) - (n_cols - 1)
    low, high = max(0, shift), min(n_cols, n_cols + shift)
    if high - low < _LEAST_OVERLAP:
        return True
    ends = np.stack([lines[:, 0, low:high], lines[:, -1, ::-1][:, low - shift : high - shift]], 1)
    (opposing,) = _least(match(ends, slice(0, 1), slice(1, 2)))
    return bool(opposing >= max(_OTHER, _WORSE * closing))


def _least(matches: Floats) -> Floats:
    return np.asarray(1 - matches.max(axis=1))
