"""Angular sampling: quadrature weights, directions, overlap of 360-degree scans."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_LONG_STEPS = 3  # times the mean step, or the usual one nearby: longer steps are gaps
_NEARBY = 9  # steps
_NEARLY_ROUND_RAD = np.pi / 3  # largest angle missing from 360 degrees
_UNEVEN = 0.02  # share of all weights
# share of the mean gap below which directions coincide; share of such gaps
_SAME, _FEW = 0.25, 0.05
_LEAST_ANGLES = 16  # whose ends are compared
_LATE = 1.05  # steps by which the last projection may miss 180 or 360 degrees


def angle_weights(theta_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quadrature weights of angles modulo pi, radians; they sum to pi.

    Angles (n_angles,) are of any start, order and direction. Each weight is half the sum of the
    gaps to the two neighbours. Gaps are capped at twice the usual one, of all or nearby, whichever
    is larger: otherwise the two ends of a 140-degree scan would weigh 40 times the rest and cause
    streaks. The usual gap is a median of weights, not of gaps, since the angles of a 360-degree
    scan coincide in pairs modulo pi.
    """
    order, gap = _gaps(theta_rad, np.pi)
    usual = np.median((gap + np.roll(gap, 1)) / 2)
    gap = np.minimum(gap, 2 * np.maximum(usual, _nearby(gap))) if usual > 0 else gap
    weight = _shares(order, gap)
    return weight * (np.pi / weight.sum())


def rotation_weights(theta_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quadrature weights, radians, of angles modulo 2 pi; they sum to pi over 360 degrees.

    If rays are measured from one side only, as in half acquisition, the weight of an angle is half
    the gaps to its neighbours modulo 2 pi; `angle_weights` would share it with the opposing angle.
    The two differ if opposing angles are not evenly paired, as when both 0 and 360 degrees were
    measured. Opposing angles replace those missing in a gap (`unpaired`).
    """
    alone = unpaired(theta_rad)
    if not alone.any():
        return angle_weights(theta_rad / 2)  # the same rule after halving all angles
    order, gap = _gaps(theta_rad, 2 * np.pi)
    gap[_are_long(gap)] = np.median(gap)
    weight = _shares(order, gap)
    return weight * (np.pi / (weight.sum() + weight[alone].sum()))


def full_rotation_weights(theta_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights, radians, of a scan whose columns weigh 0 to 2 by `overlap_weights`.

    Each side must then weigh as much as the opposing one. With `angle_weights` it does if both have
    the same angles; over 540 degrees, for example, one side would get all of the weight. If no
    angles of both sides coincide, as in golden-ratio scans, `angle_weights` are better, as
    neighbours are closer.
    """
    weight, by_side = angle_weights(theta_rad), rotation_weights(theta_rad)
    # measuring both 0 and 360 degrees gives one such step
    uneven = np.abs(weight - by_side).sum() > _UNEVEN * np.pi + 2.1 * np.pi / len(theta_rad)
    _, gap = _gaps(theta_rad, np.pi)
    coincide = np.mean(gap < _SAME * np.pi / len(gap)) > _FEW
    return by_side if uneven and coincide and not unpaired(theta_rad).any() else weight


def is_full_rotation(theta_rad: NDArray[np.float64]) -> bool:
    """Tell whether the angles cover 360 degrees, so that each ray is measured from both ends.

    Up to 60 degrees may be missing, and projections dropped by the camera (`unpaired`).

    Parameters
    ----------
    theta_rad : ndarray of float64, shape (n_angles,)
        In any order.

    Returns
    -------
    bool
        Whether no gap between neighbouring angles, modulo 360 degrees, is larger.
    """
    return largest_gap_rad(theta_rad) < max(_NEARLY_ROUND_RAD, _gap_rad(len(theta_rad)))


def unpaired(theta_rad: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find projections over 360 degrees without an opposing one.

    Their rays are measured from one side only.

    Parameters
    ----------
    theta_rad : ndarray of float64, shape (n_angles,)
        In any order.

    Returns
    -------
    ndarray of bool, shape (n_angles,)
        True where there is no projection half a turn away.
    """
    folded = np.sort(np.mod(theta_rad, 2 * np.pi))
    opposing = np.mod(theta_rad + np.pi, 2 * np.pi)
    after = np.searchsorted(folded, opposing)
    ahead = np.append(folded, folded[0] + 2 * np.pi)[after] - opposing
    behind = opposing - np.append(folded[-1] - 2 * np.pi, folded)[after]
    # an angle covers half a step on each side of it
    half_step = np.pi / len(theta_rad)
    in_gap = _are_long(np.diff(folded, append=folded[0] + 2 * np.pi))[after - 1]
    return in_gap & (np.minimum(ahead, behind) > half_step * (1 + 1e-6))


def _gaps(
    theta_rad: NDArray[np.float64], period_rad: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order of angles modulo a period, and the gap from each of them to the next."""
    folded = np.mod(theta_rad, period_rad)
    order = np.argsort(folded, kind="stable")
    return order, np.diff(folded[order], append=folded[order[0]] + period_rad)


def _shares(order: NDArray[np.intp], gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the sum of the gaps on both sides of each angle, in the order of the angles."""
    share = np.empty(len(order))
    share[order] = (gap + np.roll(gap, 1)) / 2
    return share


def _nearby(gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the usual gap around each one: angles may be finer in a part of the scan."""
    pairs = np.resize(np.roll((gap + np.roll(gap, 1)) / 2, _NEARBY // 2), len(gap) + _NEARBY - 1)
    return np.asarray(np.median(sliding_window_view(pairs, _NEARBY), axis=1))


def _are_long(gap: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which steps between angles of a 360-degree scan are gaps."""
    least = np.maximum(_gap_rad(len(gap)), _LONG_STEPS * _nearby(gap))
    return gap >= np.minimum(least, np.pi / 2)


def _gap_rad(n_angles: int) -> float:
    """Return the step between angles from which it is a gap in a 360-degree scan."""
    return min(np.pi / 2, _LONG_STEPS * 2 * np.pi / n_angles)


def largest_gap_rad(theta_rad: NDArray[np.float64]) -> float:
    """Return the largest gap between neighbouring angles modulo 2 pi, 2 pi for a single one."""
    return float(_gaps(theta_rad, 2 * np.pi)[1].max())


def missing_directions_deg(
    theta_deg: NDArray[np.float64], *, least_deg: float
) -> tuple[float, float] | None:
    """Return first and last direction, modulo 180 degrees, of a gap far wider than the others."""
    order, gap = _gaps(np.deg2rad(theta_deg), np.pi)
    gap_deg = np.rad2deg(gap)
    widest = int(np.argmax(gap_deg))
    # of golden-ratio angles the widest is 2.6 times the narrowest
    if gap_deg[widest] < max(least_deg, _LONG_STEPS * np.percentile(gap_deg, 90)):
        return None
    first_deg = float(np.mod(theta_deg[order[widest]], 180))
    return first_deg, first_deg + float(gap_deg[widest])


def upper_directions(
    theta_rad: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return each projection's direction in the image's spectrum, in the upper half plane.

    Unit vectors (n_angles, 2) of x and y >= 0; and (n_angles,), true where the vector was negated:
    the samples there are complex conjugates.
    """
    direction = np.stack([np.cos(theta_rad), -np.sin(theta_rad)], axis=1)
    flipped = (direction[:, 1] < 0) | ((direction[:, 1] == 0) & (direction[:, 0] < 0))
    direction[flipped] *= -1
    return direction, flipped


def overlap_weights(
    n_cols: int, cor_px: Any, unpaired: NDArray[np.bool_], xp: ModuleType = np
) -> Any:
    """Return column weights that blend the two views of each ray of an off-centre 360-degree scan.

    A column and its mirror image about the axis weigh 2 together. Columns whose mirror image is off
    the detector weigh 2; the step is smoothed inwards, by no more than the overlap. Where the
    opposing projection is missing (`unpaired`, of the projections in question), the angle alone
    decides (`angle_weights`): 1 everywhere, as it is when the axis is in the middle. `cor_px` is
    (n_slices,); the weights are float32, (n_slices, n_angles or 1, n_cols).
    """
    offset = xp.asarray(cor_px)[:, None] - (n_cols - 1) / 2
    long_side = xp.where(offset > 0, -1.0, 1.0)
    overlap = (n_cols - 1) / 2 - abs(offset)
    blend = xp.maximum(xp.minimum(4 * abs(offset), overlap), 1e-3)
    distance = (xp.arange(n_cols) - (n_cols - 1) / 2 - offset) * long_side
    step = xp.clip((abs(distance) - (overlap - blend)) / blend, 0.0, 1.0)
    step = xp.where(abs(offset) > 0, xp.sin(step * (np.pi / 2)) ** 2, 0.0)
    weights = (1 + xp.sign(distance) * step).astype(xp.float32)[:, None]
    if not unpaired.any():
        return weights
    return xp.where(xp.asarray(unpaired)[:, None], xp.float32(1), weights)


def mirrored_ends(theta_rad: NDArray[np.float64]) -> bool | None:
    """Tell whether the last projection mirrors the first one or repeats it; None: neither."""
    if len(theta_rad) < _LEAST_ANGLES:
        return None
    half_turns = abs(float(theta_rad[-1] - theta_rad[0])) / np.pi
    step = float(np.median(np.diff(np.sort(theta_rad)))) / np.pi
    if round(half_turns) < 1 or abs(half_turns - round(half_turns)) > _LATE * step:
        return None
    return round(half_turns) % 2 == 1
