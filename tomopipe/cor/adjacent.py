"""Projections next to each other in time: random sideways displacements, and sudden changes.

Jitter: every projection is displaced by an amount of its own, as on a stage that vibrates or a beam
that trembles. Neighbours are registered, twice, by rows or columns that have their noise for
themselves: what both halves share is jitter. Or many projections are displaced, and others are not,
as by a camera that loses the beginning of a line.

Break: one pair of neighbours differs more than all others, and no sideways shift explains it
(`tomopipe.cor.sample_motion` detects those): the sample turned on its holder, the stage slipped, or
the sample changed. A single bad projection is two such pairs, one after the other.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.cor.prepared import Floats, Prepared, match
from tomopipe.cor.sample_motion import median_around, neighbours, peaks
from tomopipe.cor.sinograms import Image

_ROWS, _REACH = 5, 0.25
_MIN_ANGLES = 20
_ALONG = 1.5  # median steps: projections further apart in angle are not neighbours
# Detection thresholds of jitter: standard deviation (px), over that of the noise of one half, and
# the median gain of the shifts (log of the misfit).
_JITTER_PX, _OVER_NOISE, _GAIN = 0.8, 2.0, 0.1
# Of many that are displaced, others not: least shift (columns) on which both halves agree to one,
# least gain of each, least number of pairs (a jump is one, a bad projection two), and of them the
# least share that the next one undoes (a lattice seen along its rows shifts by one of them, either
# way); share of all pairs from which on the mean square is taken, not the spread.
_FAR_PX, _FAR_GAIN, _MANY, _UNDONE, _MOST_FAR = 2.0, 0.4, 6, 0.7, 0.3
# Of a break: excess of its misfit over that of the pairs around it (log), over the sixth largest of
# all; the share of it that others near it may have (an edge along the beam is several such pairs).
_EXCESS, _ALONE, _OTHERS = 1.0, 2.5, 6
_BESIDE, _NEAR = 0.4, 6
_END = 3  # pairs next to an end are not judged
# Factor of a break, and jitter (px), from which on a COR over less than 360 degrees is right by
# chance: all opposing projections are from both sides of the break; only one or two are compared.
_PROOF_FACTOR, _PROOF_JITTER_PX = 20.0, 2.0


class Break(NamedTuple):
    """The largest break of a scan."""

    after: int  # the last projection before it: index in the order in which they were taken
    factor: float  # misfit of the two, over that of the pairs around them


def warn_of_jitter(prepared: Prepared) -> tuple[str, bool]:
    """Return a warning that all projections are displaced sideways at random, or "".

    And whether a COR is right by chance only.
    """
    jitter_px = find_jitter(prepared)
    if not jitter_px:
        return "", False
    text = (
        f"the projections are displaced sideways at random, by {jitter_px:.1f} px (standard "
        "deviation), unless the sample is a lattice: the COR is uncertain, and slices are blurred"
    )
    return text, jitter_px >= _PROOF_JITTER_PX and not prepared.angles.full_rotation


def find_jitter(prepared: Prepared) -> float:
    """Measure the random sideways displacement of projections, px; 0: none above the limits."""
    steps_rad = np.abs(np.diff(prepared.rows.theta_rad))
    median_rad = prepared.median_step_rad
    near = steps_rad <= _ALONG * median_rad
    if not median_rad or near.sum() < _MIN_ANGLES:
        return 0.0
    shifts_px, gains = zip(*map(_shifts, _halves(prepared.lines_by_time(_ROWS))), strict=True)
    first_px, second_px = (shift_px[near] for shift_px in shifts_px)
    both_px, gain = (first_px + second_px) / 2, np.array(gains)[:, near]
    noise_px = _spread(first_px - second_px) / 2
    # each shift is the difference of two displacements
    jitter_px = np.sqrt(max(0.0, _spread(both_px) ** 2 - noise_px**2) / 2)
    is_jitter = jitter_px * prepared.match_binning >= _JITTER_PX
    is_jitter &= jitter_px >= _OVER_NOISE * noise_px and np.median(gain) >= _GAIN
    is_far = (np.abs(first_px - second_px) <= 1) & (np.abs(both_px) >= _FAR_PX)
    is_far &= gain.min(axis=0) >= _FAR_GAIN
    far_px = both_px[is_far]
    is_many = len(far_px) >= _MANY and np.mean(np.abs(far_px[1:] + far_px[:-1]) <= 2) >= _UNDONE
    if is_many and (is_far.mean() >= _MOST_FAR or not is_jitter):
        jitter_px, is_jitter = np.sqrt(np.sum(far_px**2) / (2 * len(both_px))), True
    return float(jitter_px * prepared.match_binning) if is_jitter else 0.0


def _halves(lines: Image) -> tuple[Image, Image]:
    """Split lines (n_rows, n_angles, n_cols) into every second row, or columns left and right."""
    if len(lines) > 1:
        return lines[::2], lines[1::2]
    middle = lines.shape[2] // 2
    return lines[..., :middle], lines[..., middle:]


def _shifts(lines: Image) -> tuple[Floats, Floats]:
    """Return the shift of each projection to the next one, less the usual one, and its gain."""
    matches = match(lines, slice(0, -1), slice(1, None), _REACH)
    shift_px, misfit = peaks(matches)
    unmoved = 1 - matches[:, matches.shape[1] // 2]
    gain = np.log(np.maximum(unmoved, 1e-9) / np.maximum(misfit, 1e-9))
    return shift_px - median_around(shift_px), gain


def _spread(values: Floats) -> float:
    return NORMAL_PER_MAD * float(np.median(np.abs(values - np.median(values))))


def warn_of_break(prepared: Prepared, jump: tuple[int, int] | None = None) -> tuple[str, bool]:
    """Return a warning that the sample turned or changed at once during the scan, or "".

    And whether a COR is right by chance only. A `jump` along the axis, between two projections in
    use, is warned of elsewhere.
    """
    sudden = find_break(prepared)
    if sudden is None:
        return "", False
    is_proof = sudden.factor >= _PROOF_FACTOR and not prepared.angles.full_rotation
    if jump is not None and jump[0] - 1 <= sudden.after <= jump[1]:
        return "", is_proof
    before_deg, after_deg = np.rad2deg(prepared.rows.theta_rad[sudden.after : sudden.after + 2])
    text = (
        f"projections {sudden.after} and {sudden.after + 1} of those in use ({before_deg:.2f} and "
        f"{after_deg:.2f} degrees) differ {sudden.factor:.0f} times as much as the ones around "
        "them: the sample turned on its holder or changed, the stage slipped, or projections are "
        "missing or in another order"
    )
    return text, is_proof


def _is_bad(prepared: Prepared) -> NDArray[np.bool_]:
    """Return which projections other warnings name, (n_angles,): bad ones, and flats."""
    named = np.concatenate([*(prepared.rows.bad_frames or {}).values(), []])
    bad = np.isin(prepared.rows.numbers_or_places, named)
    bad[prepared.empty_frames] = True
    return bad


def find_break(prepared: Prepared) -> Break | None:
    """Find the pair of neighbours that differs far more than all others; None if there is none."""
    pairs = neighbours(prepared)
    if pairs is None:
        return None
    misfit = np.log(np.maximum(pairs.misfit, 1e-6))
    bad = _is_bad(prepared)
    sound = ~(bad[:-1] | bad[1:])
    if not sound.any():
        return None
    pair = np.arange(len(misfit))
    misfit = np.interp(pair, pair[sound], misfit[sound])
    excess = np.where(pairs.near & sound, misfit - median_around(misfit), 0)
    usual = np.sort(excess)[-_OTHERS]
    padded = np.pad(excess, _NEAR)
    near = [padded[_NEAR + i :][: len(excess)] for i in range(-_NEAR, _NEAR + 1) if i]
    alone = np.max(near, axis=0) <= _BESIDE * excess
    alone &= excess >= max(_EXCESS, _ALONE * usual)
    candidates = np.flatnonzero(alone)
    candidates = candidates[(candidates >= _END) & (candidates < len(excess) - _END)]
    if not len(candidates):
        return None
    after = int(candidates[np.argmax(excess[candidates])])
    return Break(after, float(np.exp(excess[after])))
