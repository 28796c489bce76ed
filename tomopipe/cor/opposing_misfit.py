"""Do opposing projections mirror each other about the COR, as they must with right angles?

p(u, t + pi) = p(2 cor - u, t) holds for any sample, truncated ones included; with wrong angles, or
where the sample turned, moved or changed, it does not. What is left of the difference is compared
with that of projections a few steps apart: it is as large as after a rotation by so many degrees.

What stays in place, such as dust, does not obey it either. The difference of two opposing lines has
it antisymmetric about the axis, so only the symmetric part of the difference counts.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tomopipe.arrays import evenly_spread
from tomopipe.cor.prepared import Floats, Numbers, Prepared
from tomopipe.cor.sinograms import Image, rows_at
from tomopipe.geometry import bin_cor

_ROWS, _MOST_PAIRS, _NEIGHBOURS = 5, 24, 48
# Of the axis, binned columns: a drift is no misfit. Of a smooth sample that hardly changes from one
# projection to the next, parts of such a step count, too.
_SHIFTS_PX, _FINE_PX = np.arange(-2, 2.01, 0.25), np.outer([0.05, 0.01], np.arange(-4, 5))
_TRIM_PX, _LEAST_HALF_PX = 3, 12
_TREND = 0.21  # the mean over this share of the overlap is subtracted
_STEPS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
# Detection thresholds: misfit over that of neighbours, and the rotation that explains it; and those
# from which on no COR is right.
_RATIO, _LEAST_DEG, _LEAST_STEPS = 5.0, 3.0, 3.0
_PROOF_RATIO, _PROOF_DEG = 15.0, 8.0
_APART = 0.55  # steps: where the nearest angle is further away, the scan has a gap


class Misfit(NamedTuple):
    """What is left of opposing lines at the best axis near the COR."""

    ratio: float  # over what is left of neighbours, one step apart
    rotation_deg: float  # projections so far apart differ as much


def warn_of_misfit(prepared: Prepared, cor_px: float) -> tuple[str, bool]:
    """Return a warning that opposing projections do not mirror each other, or "".

    And whether they differ so much that a COR is right by chance only.
    """
    misfit = opposing_misfit(prepared, cor_px)
    if misfit is None or misfit.ratio < _RATIO:
        return "", False
    step_deg = float(np.rad2deg(prepared.angles.step_rad))
    if misfit.rotation_deg < max(_LEAST_DEG, _LEAST_STEPS * step_deg):
        return "", False
    text = (
        "opposing projections do not mirror each other about the COR: they differ as much as "
        f"projections {misfit.rotation_deg:.0f} degrees apart. The angles are wrong "
        "(input.angles), the sample moved or changed, the detector is rolled, or columns of it "
        "are missing"
    )
    return text, misfit.ratio >= _PROOF_RATIO and misfit.rotation_deg >= _PROOF_DEG


def opposing_misfit(prepared: Prepared, cor_px: float) -> Misfit | None:
    """Measure how well opposing lines mirror each other near a COR, px.

    None over less than 180 degrees, or where too few columns overlap.
    """
    first_rad = _first_angles(prepared)
    if not len(first_rad):
        return None
    lines, theta_rad, _ = _distinct(prepared)
    direct, opposing = (
        np.array([rows_at(row, theta_rad, at_rad) for row in lines])
        for at_rad in (first_rad, first_rad + np.pi)
    )
    near_px = float(bin_cor(cor_px, binning=prepared.match_binning)) + _SHIFTS_PX
    energy, axis_px = _least(direct, opposing, near_px)
    if not np.isfinite(energy):
        return None
    ends_rad = np.concatenate([first_rad, first_rad + np.pi])
    of_steps, step_rad = _growth(prepared, axis_px, ends_rad)
    if not len(of_steps):
        return None
    if energy >= _RATIO * of_steps[0]:
        for shifts_px in _FINE_PX:
            energy, axis_px = _least(direct, opposing, axis_px + shifts_px)
    ratio = energy / max(of_steps[0], np.finfo(float).tiny)
    steps = np.interp(energy, of_steps, _STEPS[: len(of_steps)], left=ratio)
    return Misfit(float(ratio), float(np.rad2deg(step_rad) * steps))


def _first_angles(prepared: Prepared) -> Floats:
    """Return angles whose opposing ones the scan has, too, to about a step."""
    angles = prepared.angles
    short_rad = np.pi - angles.span_rad
    if not angles.step_rad or short_rad > 1.05 * angles.step_rad:
        return np.zeros(0)
    if not angles.reaches_180:
        return np.array([-short_rad / 2])
    opposed = angles.theta_rad + np.pi <= angles.span_rad + 0.05 * angles.step_rad
    first_rad = angles.theta_rad[opposed]
    numbers = np.arange(len(angles.theta_rad))
    at = np.rint(np.interp(first_rad + np.pi, angles.theta_rad, numbers)).astype(np.intp)
    away_rad = np.abs(angles.theta_rad[at] - first_rad - np.pi)
    first_rad = first_rad[away_rad <= _APART * angles.step_rad]
    return np.asarray(first_rad[evenly_spread(len(first_rad), _MOST_PAIRS)])


def _about(lines: Image, axis_px: float) -> Image | None:
    """Interpolate lines in the columns that both sides of an axis have; None: too few."""
    n_cols = lines.shape[-1]
    half_px = np.floor(min(axis_px, n_cols - 1 - axis_px)) - _TRIM_PX
    if half_px < _LEAST_HALF_PX:
        return None
    column = axis_px + np.arange(-half_px, half_px + 1)
    left = np.clip(np.floor(column).astype(int), 0, n_cols - 2)
    part = (column - left).astype(np.float32)
    return np.asarray((1 - part) * lines[..., left] + part * lines[..., left + 1])


def _least(direct: Image, opposing: Image, axes_px: Floats) -> tuple[float, float]:
    """Return what is left of opposing lines at the best of some axes, and that axis."""
    parts = [_symmetric(direct, opposing, axis_px) for axis_px in axes_px]
    energies = [np.inf if part is None else _energy(part) for part in parts]
    best = int(np.argmin(energies))
    return energies[best], float(axes_px[best])


def _symmetric(direct: Image, opposing: Image, axis_px: float) -> Image | None:
    """Return the symmetric part of the difference of lines and their mirrored partners."""
    both = [_about(lines, axis_px) for lines in (direct, opposing)]
    if both[0] is None or both[1] is None:
        return None
    difference = both[0] - both[1][..., ::-1]
    return np.asarray((difference + difference[..., ::-1]) / np.sqrt(2))


def _energy(differences: Image) -> float:
    """Return the median energy of differences (n_rows, n_pairs, n_cols), less their trend."""
    width = max(9, round(_TREND * differences.shape[2]))
    rest = differences - ndimage.uniform_filter1d(differences, width, mode="nearest")
    return float(np.median(np.mean(rest**2, axis=(0, 2), dtype=np.float64)))


def _growth(prepared: Prepared, axis_px: float, at_rad: Floats) -> tuple[Floats, float]:
    """Return what is left of projections so many `_STEPS` apart, and the angle of a step.

    Projections are those near some angles, as noise and structure depend on the direction. Steps
    are of the order of the angles, or of acquisition, in which neighbours are more alike.
    """
    every, theta_rad, numbers = _distinct(prepared)
    lines = _about(every, axis_px)
    if lines is None:
        return np.zeros(0), 0.0
    at = np.clip(np.searchsorted(theta_rad, at_rad), 0, len(theta_rad) - 1)
    by_angle = _of_steps(lines, at), prepared.angles.step_rad
    by_time = np.argsort(numbers)
    if not prepared.median_step_rad or (np.diff(by_time) == 1).all():
        return by_angle
    in_time = _of_steps(lines[:, by_time], np.argsort(by_time)[at]), prepared.median_step_rad
    return min(by_angle, in_time, key=lambda growth: growth[0][:1].sum() or np.inf)


def _distinct(prepared: Prepared) -> tuple[Image, Floats, Numbers]:
    """Return lines, their angles and numbers, the first one of each angle: neighbours differ."""
    angles = prepared.angles
    first = np.diff(angles.theta_rad, prepend=-1) > 1e-9
    return prepared.smooth_lines[:_ROWS][:, first], angles.theta_rad[first], angles.order[first]


def _of_steps(lines: Image, at: Numbers) -> Floats:
    """Return the energy of differences of lines so many `_STEPS` apart, near some, ascending."""
    n_angles = lines.shape[1]
    beside = np.arange(-(-_NEIGHBOURS // (2 * len(at))))
    result = []
    for apart in _STEPS[: np.searchsorted(_STEPS, n_angles // 2)]:
        start = np.unique(np.add.outer(at, [*beside, *(-apart - beside)]))
        start = start[(start >= 0) & (start < n_angles - apart)]
        result.append(_energy(lines[:, start + apart] - lines[:, start]))
    return np.maximum.accumulate(np.array(result))
