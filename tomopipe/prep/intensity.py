"""Intensities: a beam that changes during the scan, flats that do not fit, and beam hardening."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of
from tomopipe.errors import ScanError

# Of the line integrals so many lie so far below 0; noise and fringes of 30 photons: -0.25.
_BRIGHT_SHARE, _BRIGHT = 0.05, -0.3
_N_SAMPLED = 100  # projections


def doubt_flats(line_integrals: NDArray[np.float32]) -> list[str]:
    """Say that air is much brighter than the flats, in one sentence; else nothing.

    `line_integrals` is -log of the transmission in some rows, (n_rows, n_angles, n_cols).
    """
    some = line_integrals[:, :: max(1, line_integrals.shape[1] // _N_SAMPLED)]
    # in most projections: others may be saturated
    least = float(np.median(np.quantile(some, _BRIGHT_SHARE, axis=(0, 2)))) if some.size else 0.0
    if least >= _BRIGHT:
        return []
    return [
        f"air is brighter than the flats (transmission {math.exp(-least):.3g}), so values of the "
        "volume are too low: flats of another exposure, a shutter closed in some of them, or raw "
        "counts without flats? (preprocess.flats)"
    ]


def normalise_to_air(transmission: Any, n_air_px: int) -> Any:
    """Divide each row of each projection by the line through the air on its left and right.

    Projections are (n, n_rows, n_cols), of NumPy or CuPy; `n_air_px` columns at each side never
    show the sample. Gives transmission 1 in the air; rows whose air is not above 0 are left as they
    are.
    """
    xp = module_of(transmission)
    n_cols = transmission.shape[2]
    n_air_px = min(n_air_px, max(1, n_cols // 2))
    left = transmission[:, :, :n_air_px].mean(axis=2)
    right = transmission[:, :, -n_air_px:].mean(axis=2)
    dark = ~((left > 0) & (right > 0))
    left, right = xp.where(dark, 1, left), xp.where(dark, 1, right)
    # the mean of a strip stands for its middle
    middle = (n_air_px - 1) / 2
    part = (xp.arange(n_cols, dtype=np.float32) - middle) / max(n_cols - 1 - 2 * middle, 1)
    beam = left[:, :, None] + (right - left)[:, :, None] * part
    return transmission / beam.astype(np.float32)


def current_factors(
    current: NDArray[np.float64], flats_mean: float | None = None
) -> NDArray[np.float32]:
    """Return the factor of each projection's transmission from a monitor of the beam, (n_angles,).

    That is the ring current, for instance; `flats_mean` is the same while the flats were taken
    (None: the mean of `current`). A ScanError says that a value is not above 0.
    """
    if not (np.isfinite(current) & (current > 0)).all():
        raise ScanError("preprocess.ring_current: expected numbers above 0 for all projections")
    return ((flats_mean or float(np.mean(current))) / np.asarray(current)).astype(np.float32)


def correct_hardening(line_integrals: Any, coefficients: Sequence[float]) -> Any:
    """Apply a polynomial to line integrals, of NumPy or CuPy: c1 p + c2 p^2 + ...

    There is no c0, as air stays air.
    """
    xp = module_of(line_integrals)
    result = xp.full_like(line_integrals, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result *= line_integrals
        result += np.float32(coefficient)
    result *= line_integrals
    return result
