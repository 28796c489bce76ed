"""Intensities: a beam that changes, flats and darks that do not fit, and beam hardening."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of
from tomopipe.errors import ScanError
from tomopipe.scans.metadata import listed, runs_of

# Of the line integrals so many lie so far below 0; noise and fringes of 30 photons: -0.25.
_BRIGHT_SHARE, _BRIGHT = 0.05, -0.3
_N_SAMPLED = 100  # projections
# Above this transmission, of line integrals averaged over so many columns, a volume is of no use;
# neither noise nor fringes reach it, nor a beam between refills.
_FAR_TOO_BRIGHT, _TOGETHER_PX = 1.4, 8
# Of the beam, as flats less darks: a dark has more than this, the light that stays when a shutter
# has closed included, or a flat has less, as a beam that decays by a third does not.
_OPEN, _CLOSED = 0.05, 0.6
_DRIFT = 0.01  # of the darks: so much the offset of a camera may change
_MOST = (
    0.25  # flats are compared with those of this rank from the brightest, darks from the darkest
)


def warn_of_flats(
    line_integrals: NDArray[np.float32], flat_levels: NDArray[np.float64] | None = None
) -> list[str]:
    """Say that air is much brighter than the flats, in one sentence; else nothing.

    `line_integrals` is -log of the transmission in some rows, (n_rows, n_angles, n_cols);
    `flat_levels` as in `tomopipe.cor.rows_file.Rows`.
    """
    least = _least(_some_projections(line_integrals))
    if least >= _BRIGHT:
        return []
    why = (
        "flats of another exposure, a shutter closed in some of them, or raw counts without flats? "
        "(preprocess.flats)"
    )
    if flat_levels is not None and (flat_levels == 1).all():  # or none
        why = (
            "raw counts without flats (preprocess.flats), or line integrals already (preprocess: "
            "{minus_log: false})?"
        )
    return [
        f"air is brighter than the flats (transmission {math.exp(-least):.3g}), so values of the "
        f"volume are too low: {why}"
    ]


def is_far_too_bright(line_integrals: NDArray[np.float32]) -> bool:
    """Tell whether air is so much brighter than the flats that it is no matter of the beam."""
    lines = _some_projections(line_integrals)
    width = max(1, min(_TOGETHER_PX, lines.shape[2] // 4))
    lines = lines[:, :, : lines.shape[2] // width * width]
    if not lines.size:
        return False
    means = lines.reshape(*lines.shape[:2], -1, width).mean(axis=3, dtype=np.float64)
    return math.exp(-_least(means)) > _FAR_TOO_BRIGHT


def _some_projections(line_integrals: NDArray[np.float32]) -> NDArray[np.float32]:
    return line_integrals[:, :: max(1, line_integrals.shape[1] // _N_SAMPLED)]


def _least(lines: NDArray[Any]) -> float:
    """Return the line integral that a few of each projection are below, 0 if there are none."""
    # in most projections: others may be saturated
    return float(np.median(np.quantile(lines, _BRIGHT_SHARE, axis=(0, 2)))) if lines.size else 0.0


def warn_of_references(
    flat_levels: NDArray[np.float64] | None, dark_levels: NDArray[np.float64] | None
) -> list[str]:
    """Say which darks are bright and which flats are dark, in sentences; of most they are right.

    Levels as in `tomopipe.cor.rows_file.Rows`. Nothing is said where flats are no brighter than
    darks: both may be exchanged.
    """
    if flat_levels is None or dark_levels is None or not len(flat_levels):
        return []
    without = 0.0
    if len(dark_levels):  # or flats, where darks are counted as such
        without = min(np.quantile(dark_levels, _MOST), np.quantile(flat_levels, _MOST))
    beam = np.quantile(flat_levels, 1 - _MOST) - without
    if not beam > 0:
        return []
    darks, flats = (dark_levels - without) / beam, (flat_levels - without) / beam
    kinds = {
        "darks": (
            darks > max(_OPEN, _DRIFT * abs(without) / beam),
            f"bright (number {{}}), up to {100 * darks.max(initial=0):.0f} %",
            "was the shutter open, or are they no darks? (Correct input.frames, `1 invalid` leaves "
            "one out; or preprocess: {darks: ANOTHER_SCAN}; or a file without them)",
        ),
        "flats": (
            flats < _CLOSED,
            f"dark (number {{}}), down to {100 * max(0, flats.min()):.0f} %",
            "was the shutter closed, or are they no flats? (Correct input.frames; or preprocess: "
            "{flat_method: median}, if they are few; or preprocess: {flats: ANOTHER_SCAN})",
        ),
    }
    return [
        f"{np.count_nonzero(odd)} of {len(odd)} {kind} {'is' if odd.sum() == 1 else 'are'} "
        f"{how.format(_numbers(odd))} of the beam, so the volume is wrong: {why}"
        for kind, (odd, how, why) in kinds.items()
        if odd.any()
    ]


def _numbers(chosen: NDArray[np.bool_]) -> str:
    """List some of all flats or darks by their numbers, the first is 1."""
    runs = runs_of(np.flatnonzero(chosen) + 1)
    return listed([str(a) if a == b else f"{a} to {b}" for a, b in runs])


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
        raise ScanError(
            "preprocess.ring_current: expected numbers above 0 for all projections; name another "
            "dataset, or leave it out"
        )
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
