"""Flat-field correction and logarithm."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, once
from tomopipe.prep import kernels_of

# Lowest transmission told from zero: half a 16-bit count is 8e-6 of full scale. Anything
# below, noise under the dark included, is as dark as that (11.5 in the logarithm).
MIN_TRANSMISSION = 1e-5

_BATCH_BYTES = 2**18  # of float32: stays in a core's cache while it is worked on
_TABLE_ROWS = 64  # of the detector, whose nearest columns are looked for at a time


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

    Frames are (n, n_rows, n_cols) of any real type, flat and dark (n_rows, n_cols); ones and zeros
    for data that are corrected already. `empty` is the transmission of a
    row without any valid pixel, if not the one above. A ValueError says that shapes do not fit.
    """
    if raw.ndim != 3 or flat.shape != raw.shape[1:] or dark.shape != raw.shape[1:]:
        raise ValueError(
            f"expected raw (n, n_rows, n_cols), flat and dark (n_rows, n_cols); got "
            f"{raw.shape}, {flat.shape}, {dark.shape}"
        )
    return normaliser(flat, dark, minus_log=minus_log, empty=empty)(raw)


def normaliser(
    flat: NDArray[Any], dark: NDArray[Any], *, minus_log: bool = True, empty: float | None = None
) -> Callable[..., NDArray[np.float32]]:
    """Return `normalise` for these flats and darks as a NumPy function of (raw, out)."""
    if empty is None:
        empty = 1.0 if minus_log else 0.0
    dark, gain, dead = _gain(flat, dark)
    repair = _nearest(dead) if dead.any() else None
    # integers are finite, and so are their products with such gains
    bounded = float(abs(gain).max(initial=0)) * (2.0**64 + float(abs(dark).max(initial=0))) < float(
        np.finfo(np.float32).max
    )

    def normalised(raw: Any, out: Any = None) -> Any:
        out = np.empty(raw.shape, np.float32) if out is None else out
        step = max(1, _BATCH_BYTES // (4 * max(1, dark.size)))
        for first in range(0, len(raw), step):
            batch = out[first : first + step]
            with np.errstate(over="ignore", invalid="ignore"):  # repaired just below
                np.subtract(raw[first : first + step], dark, out=batch, casting="unsafe")
                np.multiply(batch, gain, out=batch)
            if repair is not None:
                _apply(batch, repair, empty)
            if not (bounded and raw.dtype.kind in "ui"):
                _repair_values(batch, dead, empty)
            if minus_log:
                # values to be limited are rare, and NumPy's maximum costs as much as its logarithm
                if (batch < MIN_TRANSMISSION).any():
                    np.maximum(batch, np.float32(MIN_TRANSMISSION), out=batch)
                np.log(batch, out=batch)
                np.negative(batch, out=batch)
        return out

    return normalised


def device_normaliser(
    xp: ModuleType, beam: Any, rows: Any, *, minus_log: bool = True, empty: float | None = None
) -> Callable[[Any], Any]:
    """Return `normalise` on a GPU for some rows, a slice or their numbers, of a beam or a scan.

    What it needs of the detector (`flat`, `dark`) is sent to the GPU once.
    """
    index = rows if isinstance(rows, slice) else xp.asarray(rows)
    tables = [table[index] for table in once(xp, _tables_of, beam)]
    least = MIN_TRANSMISSION if minus_log else 0.0
    if empty is None:
        empty = 1.0 if minus_log else 0.0
    kernels = kernels_of(xp)
    return lambda raw: kernels.transmission(raw, *tables, empty=empty, least=least)


def _tables_of(beam: Any) -> tuple[NDArray[Any], ...]:
    return pixel_tables(beam.flat, beam.dark)


def pixel_tables(flat: NDArray[Any], dark: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return dark and gain of each pixel, both 0 where it is dead, and the nearest valid column.

    float32 and int32 of (n_rows, n_cols); a valid pixel's column is its own, and -1 in a row
    without any.
    """
    dark, gain, dead = _gain(flat, dark)
    nearest = np.empty(dead.shape, np.int32)
    for first in range(0, len(dead), _TABLE_ROWS):
        nearest[first : first + _TABLE_ROWS] = _sources(dead[first : first + _TABLE_ROWS])
    return dark, gain, nearest


def _gain(flat: Any, dark: Any) -> tuple[NDArray[Any], ...]:
    """Return dark, 1 / (flat - dark), both 0 at dead pixels, and where these are."""
    dark = np.asarray(dark, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        span = np.asarray(flat, dtype=np.float32) - dark
        gain = np.float32(1) / span
        dead = ~(np.isfinite(gain) & np.isfinite(span) & (span > 0))
    return np.where(dead, np.float32(0), dark), np.where(dead, np.float32(0), gain), dead


def _repair_values(batch: Any, dead: NDArray[np.bool_], empty: float) -> None:
    """Replace single values that are not finite; almost always there are none, so look once."""
    bad = ~np.isfinite(batch)
    if not bad.any():
        return
    for index in np.flatnonzero(bad.any(axis=(1, 2))):
        # Valid neighbours only: a dead pixel was filled from one, which may be bad here.
        _apply(batch[index : index + 1], _nearest(bad[index] | dead), empty)


_Repair = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]


def _nearest(bad: NDArray[np.bool_]) -> _Repair:
    """Find the nearest good column in the row of each bad pixel.

    Gives rows, columns and the columns to copy from (n_bad,); and (n_rows,) rows without a good
    pixel.
    """
    lost = np.asarray(bad.all(axis=1))
    rows, cols = np.nonzero(bad & ~lost[:, None])
    return rows, cols, _sources(bad)[rows, cols], lost


def _sources(bad: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the nearest good column of each pixel, the left one of two; -1 if there is none."""
    n_cols = bad.shape[1]
    columns = np.arange(n_cols)
    left, right = valid_beside(bad)
    to_left = np.where(left < 0, n_cols + 1, columns - left)
    to_right = np.where(right == n_cols, n_cols + 1, right - columns)
    return np.where(to_left <= to_right, left, right)


def valid_beside(bad: Any) -> tuple[Any, Any]:
    """Return the valid columns next to each pixel (n_rows, n_cols) on the left and on the right.

    A valid pixel's is its own; where there is none it is -1 or n_cols.
    """
    xp, n_cols = module_of(bad), bad.shape[-1]
    columns = xp.arange(n_cols)
    left = _highest_so_far(xp.where(bad, -1, columns))
    from_right = xp.where(bad, -1, n_cols - 1 - columns)[..., ::-1]
    return left, n_cols - 1 - _highest_so_far(from_right)[..., ::-1]


def _highest_so_far(values: Any) -> Any:
    """Return the running maximum along the last axis, which CuPy has not."""
    xp = module_of(values)
    if xp is np:
        return np.maximum.accumulate(values, axis=-1)
    far = 1
    while far < values.shape[-1]:
        highest = xp.maximum(values[..., far:], values[..., :-far])
        values, far = xp.concatenate([values[..., :far], highest], axis=-1), 2 * far
    return values


def _apply(batch: Any, repair: _Repair, empty: float) -> None:
    rows, cols, sources, lost = repair
    batch[:, rows, cols] = batch[:, rows, sources]
    batch[:, lost] = empty
