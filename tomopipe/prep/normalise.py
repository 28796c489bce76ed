"""Flat-field correction and logarithm."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, on_host
from tomopipe.prep import kernels_of

# The least transmission that is not none: half a count of 16 bits is 8e-6 of full scale. Anything
# below, noise under the dark included, is as dark as that (11.5 in the logarithm).
MIN_TRANSMISSION = 1e-5

_BATCH_BYTES = 2**18  # of float32: stays in a core's cache while it is worked on


def normalise(
    raw: Any, flat: Any, dark: Any, *, minus_log: bool = True, empty: float | None = None
) -> Any:
    """Correct raw frames for flat and dark, then take the negative logarithm.

    transmission = (raw - dark) / (flat - dark), in float32. NaN and infinity never come out:

    - a dead pixel (flat not above dark, or either not finite) takes the transmission of the nearest
      valid column of its row, the left one of two equally near;
    - so does a single value that is not finite, or too large for float32, in its frame;
    - a row without any valid pixel becomes empty: transmission 1, or 0 without the logarithm;
    - with `minus_log` a transmission below 1e-5 counts as 1e-5. Above 1 it is kept: noise and edge
      enhancement are real. Without `minus_log` it is not limited.

    Frames are (n, n_rows, n_cols) of any real type, of NumPy or CuPy, flat and dark (n_rows,
    n_cols); ones and zeros for data that are corrected already. `empty` is the transmission of a
    row without any valid pixel, if not the one above. A ValueError says that shapes do not fit.
    """
    if raw.ndim != 3 or flat.shape != raw.shape[1:] or dark.shape != raw.shape[1:]:
        raise ValueError(
            f"expected raw (n, n_rows, n_cols), flat and dark (n_rows, n_cols); got "
            f"{raw.shape}, {flat.shape}, {dark.shape}"
        )
    return normaliser(module_of(raw), flat, dark, minus_log=minus_log, empty=empty)(raw)


def normaliser(
    xp: ModuleType, flat: Any, dark: Any, *, minus_log: bool = True, empty: float | None = None
) -> Callable[..., Any]:
    """Return `normalise` for these flats and darks, of (raw, out): what can be is done once."""
    if empty is None:
        empty = 1.0 if minus_log else 0.0
    dark = xp.asarray(dark, dtype=xp.float32)
    gain, dead = _gain(xp, flat, dark)
    dark = xp.where(dead, xp.float32(0), dark)
    dead_here = on_host(dead)
    repair = _nearest(dead_here) if dead_here.any() else None
    # neither can whole numbers be infinite, nor what such gains make of them
    bounded = xp is np and (
        float(abs(gain).max(initial=0)) * (2.0**64 + float(abs(dark).max(initial=0)))
        < float(np.finfo(np.float32).max)
    )

    def normalised(raw: Any, out: Any = None) -> Any:
        if xp is not np:
            least = MIN_TRANSMISSION if minus_log else 0.0
            result = kernels_of(xp).transmission(raw, dark, gain, least)
            if result is not None:
                if repair is not None:  # which is rare
                    lost = -math.log(max(empty, least)) if minus_log else empty
                    _apply(xp, result, repair, lost)
                if out is None:
                    return result
                out[...] = result
                return out
        out = xp.empty(raw.shape, xp.float32) if out is None else out
        # A whole block at once on a GPU; batches that stay in the cache on a CPU.
        step = len(raw) if xp is not np else max(1, _BATCH_BYTES // (4 * max(1, dark.size)))
        for first in range(0, len(raw), max(1, step)):
            batch = out[first : first + step]
            with np.errstate(over="ignore", invalid="ignore"):  # repaired just below
                xp.subtract(raw[first : first + step], dark, out=batch, casting="unsafe")
                xp.multiply(batch, gain, out=batch)
            if repair is not None:
                _apply(xp, batch, repair, empty)
            if not (bounded and raw.dtype.kind in "ui"):
                _repair_values(xp, batch, dead_here, empty)
            if minus_log:
                # values to be limited are rare, and NumPy's maximum costs as much as its logarithm
                if xp is not np or (batch < MIN_TRANSMISSION).any():
                    xp.maximum(batch, xp.float32(MIN_TRANSMISSION), out=batch)
                xp.log(batch, out=batch)
                xp.negative(batch, out=batch)
        return out

    return normalised


def _gain(xp: ModuleType, flat: Any, dark: Any) -> tuple[Any, Any]:
    """Return 1 / (flat - dark), 0 at dead pixels, and where these are."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        span = xp.asarray(flat, dtype=xp.float32) - dark
        gain = xp.float32(1) / span
        dead = ~(xp.isfinite(gain) & xp.isfinite(span) & (span > 0))
    return xp.where(dead, xp.float32(0), gain), dead


def _repair_values(xp: ModuleType, batch: Any, dead: NDArray[np.bool_], empty: float) -> None:
    """Replace single values that are not finite; almost always there are none, so look once."""
    bad = ~xp.isfinite(batch)
    if not bool(bad.any()):
        return
    for index in np.flatnonzero(on_host(bad.any(axis=(1, 2)))):
        # Valid neighbours only: a dead pixel was filled from one, which may be bad here.
        _apply(xp, batch[index : index + 1], _nearest(on_host(bad[index]) | dead), empty)


_Repair = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]


def _nearest(bad: NDArray[np.bool_]) -> _Repair:
    """Find the nearest good column in the row of each bad pixel.

    Gives rows, columns and the columns to copy from (n_bad,); and (n_rows,) rows without a good
    pixel.
    """
    n_cols = bad.shape[1]
    columns = np.arange(n_cols)
    left, right = valid_beside(bad)
    to_left = np.where(left < 0, n_cols + 1, columns - left)
    to_right = np.where(right == n_cols, n_cols + 1, right - columns)
    sources = np.where(to_left <= to_right, left, right)
    lost = np.asarray(bad.all(axis=1))
    rows, cols = np.nonzero(bad & ~lost[:, None])
    return rows, cols, sources[rows, cols], lost


def valid_beside(bad: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the valid columns next to each pixel (n_rows, n_cols) on the left and on the right.

    A valid pixel's is its own; where there is none it is -1 or n_cols.
    """
    n_cols = bad.shape[1]
    columns = np.arange(n_cols)
    left = np.maximum.accumulate(np.where(bad, -1, columns), axis=1)
    right = np.minimum.accumulate(np.where(bad, n_cols, columns)[:, ::-1], axis=1)[:, ::-1]
    return left, right


def _apply(xp: ModuleType, batch: Any, repair: _Repair, empty: float) -> None:
    rows, cols, sources, lost = (xp.asarray(part) for part in repair)
    batch[:, rows, cols] = batch[:, rows, sources]
    batch[:, lost] = empty
