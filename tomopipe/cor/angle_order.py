"""Sorted angles of a scan, 180 degrees resampled evenly, and opposing rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread
from tomopipe.cor.clean_rows import Image


@dataclass(frozen=True, eq=False)
class SortedAngles:
    """Angles of a scan in ascending order."""

    order: NDArray[np.intp]  # (n_angles,): sinogram[order] has ascending angles
    theta_rad: NDArray[np.float64]  # ascending, first 0; modulo 360 degrees if the scan covers more
    step_rad: float  # the median; 0 with one angle

    @property
    def span_rad(self) -> float:
        """Last angle minus first."""
        return float(self.theta_rad[-1])

    @property
    def reaches_180(self) -> bool:
        """Some angles have another 180 degrees later, to a twentieth of a step."""
        return self.span_rad >= np.pi - 0.05 * self.step_rad

    @property
    def full_rotation(self) -> bool:
        """360 degrees, of which the last step may be missing: every row has an opposing one."""
        return self.step_rad > 0 and self.span_rad >= 2 * np.pi - 1.5 * self.step_rad

    @property
    def gap_rad(self) -> float:
        """What is missing from 180 degrees, the step after the last angle not counted."""
        return max(0.0, np.pi - self.span_rad - 1.01 * self.step_rad)


def sort_angles(theta_rad: NDArray[np.float64]) -> SortedAngles:
    """Sort angles of any start, order and direction; equal ones keep their order."""
    theta = np.asarray(theta_rad, dtype=float) - np.min(theta_rad)
    ordered = np.sort(theta)
    step = float(np.median(np.diff(ordered))) if len(theta) > 1 else 0.0
    if ordered[-1] > 2 * np.pi + 1.5 * step:
        theta = np.mod(theta, 2 * np.pi)
    order = np.argsort(theta, kind="stable")
    ordered = theta[order]
    steps = np.diff(ordered)
    steps = steps[steps > 1e-9]
    return SortedAngles(order, ordered, float(np.median(steps)) if steps.size else 0.0)


def rows_at(sinogram: Image, theta_rad: NDArray, target_rad: NDArray) -> Image:
    """Interpolate rows linearly at other angles; at the ends up to half a step beyond."""
    right = np.clip(np.searchsorted(theta_rad, target_rad), 1, len(theta_rad) - 1)
    left = right - 1
    width = np.maximum(theta_rad[right] - theta_rad[left], 1e-9)
    weight = np.clip((target_rad - theta_rad[left]) / width, -0.5, 1.5).astype(np.float32)[:, None]
    return (1 - weight) * sinogram[left] + weight * sinogram[right]


def average_angles(rows: NDArray[Any], theta_rad: NDArray, group: int) -> tuple[Any, NDArray]:
    """Average groups of neighbouring rows, and their angles; an incomplete group is dropped."""
    if group == 1:
        return rows, theta_rad
    n_groups = len(rows) // group
    used = slice(n_groups * group)
    averaged = rows[used].reshape(n_groups, group, rows.shape[1]).mean(axis=1)
    return averaged, theta_rad[used].reshape(n_groups, group).mean(axis=1)


def resample_180(
    sinogram: Image, angles: SortedAngles, start_rad: float = 0.0, n_max: int = 1024
) -> Image:
    """Resample 180 degrees evenly without their end; more than `n_max` are averaged first."""
    theta = angles.theta_rad
    inside = (theta >= start_rad - 1.5 * angles.step_rad) & (
        theta <= start_rad + np.pi + 1.5 * angles.step_rad
    )
    sinogram, theta = sinogram[inside], theta[inside]
    n = max(2, round(np.pi / max(angles.step_rad, 1e-6)))
    group = -(-n // n_max)
    sinogram, theta = average_angles(sinogram, theta, group)
    n = -(-n // group)
    return rows_at(sinogram, theta, start_rad + np.pi * np.arange(n) / n)


def opposing_rows(sinogram: Image, angles: SortedAngles) -> tuple[Image, Image]:
    """Rows, at most 96, and those 180 degrees later, not flipped; none of a shorter scan.

    One that ends a step short has no such rows: both ends are extrapolated to the middle of it.
    """
    theta, step = angles.theta_rad, angles.step_rad
    none = np.zeros((0, sinogram.shape[1]), np.float32)
    if len(theta) < 2 or step == 0.0:
        return none, none
    if not angles.reaches_180:
        short = np.pi - angles.span_rad
        if short > 1.05 * step:
            return none, none
        first = np.array([-short / 2])
    else:
        first = theta[theta + np.pi <= angles.span_rad + 0.05 * step]
        first = first[evenly_spread(len(first), 96)]
    return rows_at(sinogram, theta, first), rows_at(sinogram, theta, first + np.pi)
