"""Flat field and logarithm; a beam that changes, wrong flats and darks, beam hardening."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, once
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import RingCurrentBlock
from tomopipe.errors import ScanError
from tomopipe.prep import kernels_of
from tomopipe.prep.flats import during_flats
from tomopipe.prep.recipe import Part
from tomopipe.scans.metadata import listed, runs_of

# Least transmission distinguished from zero: half a 16-bit count is 8e-6 of full scale. Lower
# values, such as noise below the dark, are set to it (11.5 in the logarithm).
MIN_TRANSMISSION = 1e-5

_BATCH_BYTES = 2**18  # of float32: stays in a core's cache while it is worked on
_COUNTS = [np.dtype(kind) for kind in (np.uint8, np.uint16, np.int16)]  # float32 in NumPy, too
_TABLE_ROWS = 64  # of the detector, whose nearest columns are looked for at a time


def normalise(
    raw: Any, flat: Any, dark: Any, *, minus_log: bool = True, empty: float | None = None
) -> Any:
    """Correct raw frames for flat and dark, then take the negative logarithm.

    transmission = (raw - dark) / (flat - dark), in float32. The result is always finite:

    - a dead pixel (flat not above dark, or either not finite) takes the transmission of the nearest
      valid column of its row, the left one of two equally near;
    - so does a single value that is not finite, or too large for float32, in its frame;
    - a row without any valid pixel becomes empty: transmission 1, or 0 without the logarithm;
    - with `minus_log` a transmission below 1e-5 counts as 1e-5. Above 1 it is kept: noise and edge
      enhancement are real. Without `minus_log` it is not limited.

    Parameters
    ----------
    raw : array of any real type, shape (n, n_rows, n_cols)
        Frames, of NumPy or CuPy.
    flat, dark : array of any real type, shape (n_rows, n_cols)
        Ones and zeros for data that are corrected already.
    minus_log : bool
        Whether to take the logarithm.
    empty : float or None
        Transmission of a row without any valid pixel, if not the one above.

    Returns
    -------
    array of float32, shape (n, n_rows, n_cols)
        Attenuation along the rays, or the transmission.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    if raw.ndim != 3 or flat.shape != raw.shape[1:] or dark.shape != raw.shape[1:]:
        raise ValueError(
            f"expected raw (n, n_rows, n_cols), flat and dark (n_rows, n_cols); got "
            f"{raw.shape}, {flat.shape}, {dark.shape}"
        )
    return normaliser(flat, dark, minus_log=minus_log, empty=empty)(raw)


def normaliser(
    flat: NDArray[Any],
    dark: NDArray[Any],
    *,
    minus_log: bool = True,
    empty: float | None = None,
    compiled: Callable[..., None] | None = None,
) -> Callable[..., NDArray[np.float32]]:
    """Return `normalise` for these flats and darks as a NumPy function of (raw, out).

    `compiled` is `to_line_integrals`, or None: whole numbers take one pass, and differ by rounding.
    """
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
        is_plain = bounded and raw.size and raw.dtype in _COUNTS and raw.flags.writeable
        is_plain = is_plain and raw[:1].flags.c_contiguous and out[:1].flags.c_contiguous
        if compiled is not None and minus_log and is_plain:
            compiled(*_in_memory(raw), dark, gain, MIN_TRANSMISSION, out)
            if repair is not None:
                _apply(out, repair, -math.log(max(empty, MIN_TRANSMISSION)))
            return out
        step = max(1, _BATCH_BYTES // (4 * max(1, dark.size)))
        for first in range(0, len(raw), step):
            batch = out[first : first + step]
            _scale(raw[first : first + step], batch)
            if minus_log:
                np.log(batch, out=batch)
                np.negative(batch, out=batch)
        return out

    def _scale(raw: Any, batch: Any) -> None:
        # non-finite values are repaired below
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(raw, dark, out=batch, casting="unsafe")
            np.multiply(batch, gain, out=batch)
        if repair is not None:
            _apply(batch, repair, empty)
        if not (bounded and raw.dtype.kind in "ui") and (bad := ~np.isfinite(batch)).any():
            for index in np.flatnonzero(bad.any(axis=(1, 2))):
                # From valid neighbours: the one that filled a dead pixel may be bad in this frame.
                _apply(batch[index : index + 1], _nearest(bad[index] | dead), empty)
        # values below the limit are rare, and NumPy's maximum costs as much as its logarithm
        if minus_log and (batch < MIN_TRANSMISSION).any():
            np.maximum(batch, np.float32(MIN_TRANSMISSION), out=batch)

    return normalised


def _in_memory(frames: NDArray[Any]) -> tuple[NDArray[Any], int, int]:
    """Return contiguous frames as a flat array, where the first begins, and the step to the next.

    The flat array has what lies between the frames, too.
    """
    pitch = frames.strides[0] // frames.itemsize
    n_between = abs(pitch) * (len(frames) - 1)
    lowest = frames[-1 if pitch < 0 else 0]
    flat = np.lib.stride_tricks.as_strided(lowest, (n_between + lowest.size,), (lowest.itemsize,))
    return flat, n_between if pitch < 0 else 0, pitch


def device_normaliser(
    xp: ModuleType, beam: Any, rows: Any, *, minus_log: bool = True, empty: float | None = None
) -> Callable[[Any], Any]:
    """Return `normalise` on a GPU for rows (a slice, or their numbers) of a beam or a scan.

    `flat` and `dark` are sent to the GPU once.
    """
    index = rows if isinstance(rows, slice) else xp.asarray(rows)
    tables = [table[index] for table in once(xp, pixel_tables, beam)]
    least = MIN_TRANSMISSION if minus_log else 0.0
    if empty is None:
        empty = 1.0 if minus_log else 0.0
    kernels = kernels_of(xp)
    return lambda raw: kernels.transmission(raw, *tables, empty=empty, least=least)


def pixel_tables(beam: Any) -> tuple[NDArray[Any], ...]:
    """Return dark and gain of each pixel, both 0 where it is dead, and the nearest valid column.

    float32 and int32 of (n_rows, n_cols); a valid pixel's column is its own, and -1 in a row
    without any.
    """
    dark, gain, dead = _gain(beam.flat, beam.dark)
    nearest = np.empty(dead.shape, np.int32)
    for first in range(0, len(dead), _TABLE_ROWS):
        nearest[first : first + _TABLE_ROWS] = _sources(dead[first : first + _TABLE_ROWS])
    return dark, gain, nearest


def _gain(flat: Any, dark: Any) -> tuple[NDArray[Any], ...]:
    """Return dark and 1 / (flat - dark), both 0 at dead pixels, and the mask of these."""
    dark = np.asarray(dark, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        span = np.asarray(flat, dtype=np.float32) - dark
        gain = np.float32(1) / span
        dead = ~(np.isfinite(gain) & np.isfinite(span) & (span > 0))
    return np.where(dead, np.float32(0), dark), np.where(dead, np.float32(0), gain), dead


_Repair = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]


def _nearest(bad: NDArray[np.bool_]) -> _Repair:
    """Return rows and columns of bad pixels, columns to copy from, and rows without a good one."""
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
    """Return the running maximum along the last axis, which CuPy does not have."""
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


# Share of the line integrals below this value for a warning; noise and fringes at 30 photons:
# -0.25.
_BRIGHT_SHARE, _BRIGHT = 0.05, -0.3
_N_SAMPLED = 100  # projections
# Transmission, averaged over this number of columns, above which a volume is useless: neither noise
# nor fringes nor a beam between refills reach it.
_FAR_TOO_BRIGHT, _TOGETHER_PX = 1.4, 8
# Least share of pixels above so many times the flats: half a percent of zingers, or a few photons
# per pixel, leave less.
_BRIGHT_PIXELS, _FAR_BRIGHTER = 2e-3, 3
# Least share of pixels without any transmission in projections without flats: dead ones are fewer.
_OPAQUE = 0.05
# A sample in the flats: largest size of the line integrals that it leaves in one projection, by
# that of most, and least share of those below 0, by those above.
_EQUAL, _AS_MUCH = 0.2, 0.25
# Shares of the beam (flat - dark): a dark above the first is bright, also with the afterglow of a
# closed shutter; a flat below the second is dark, which a beam that decays by a third is not.
_OPEN, _CLOSED = 0.05, 0.6
_DRIFT = 0.01  # share of the darks by which the offset of a camera may drift
# Flats are compared with the quantile of this rank from the brightest, darks from the darkest.
_MOST = 0.25


def warn_of_flats(
    line_integrals: NDArray[np.float32], flat_levels: NDArray[np.float64] | None = None
) -> list[str]:
    """Return warnings, at most one, that air is much brighter than the flats.

    `line_integrals` is -log of the transmission in some rows, (n_rows, n_angles, n_cols);
    `flat_levels` as in `tomopipe.cor.collected_rows.Rows`.
    """
    least = _least(_some_projections(line_integrals))
    if least >= _BRIGHT:
        return []
    why = (
        "flats of another exposure, a shutter closed in some of them, raw counts without flats "
        "(preprocess.flats), or only a few photons per pixel?"
    )
    if _has_no_flats(flat_levels):
        why = (
            "raw counts without flats (preprocess.flats), or line integrals already (preprocess: "
            "{minus_log: false})?"
        )
    return [
        f"air is brighter than the flats (transmission {math.exp(-least):.3g}), so values of the "
        f"volume are too low: {why}"
    ]


def warn_of_line_integrals(
    line_integrals: NDArray[np.float32], flat_levels: NDArray[np.float64] | None
) -> list[str]:
    """Return warnings, at most one, that projections without flats are no transmission.

    Air is 0 in line integrals, so that their noise is below 0. Arrays as in `warn_of_flats`.
    """
    if not _has_no_flats(flat_levels) or not line_integrals.size:
        return []
    least = -math.log(MIN_TRANSMISSION) - 1e-3
    share = float(np.median(np.mean(_some_projections(line_integrals) >= least, axis=(0, 2))))
    if share < _OPAQUE:
        return []
    return [
        f"{share:.0%} of the pixels are 0 or below, which no transmission is, so values of the "
        "volume are wrong: are the projections line integrals already (preprocess: {minus_log: "
        "false})?"
    ]


def warn_of_bright_pixels(line_integrals: NDArray[np.float32]) -> list[str]:
    """Return warnings, at most one, of many pixels that are far brighter than the flats.

    `line_integrals` as in `warn_of_flats`.
    """
    if not line_integrals.size:
        return []
    share = float(np.mean(_some_projections(line_integrals) < -math.log(_FAR_BRIGHTER)))
    if share < _BRIGHT_PIXELS:
        return []
    return [
        f"{share:.2%} of the pixels are more than {_FAR_BRIGHTER} times as bright as the flats, so "
        "slices have streaks: zingers, or counts below 0 that became the largest ones of an "
        "unsigned type? preprocess: {zingers: {threshold: 0.2}} takes them out"
    ]


def _has_no_flats(flat_levels: NDArray[np.float64] | None) -> bool:
    return flat_levels is not None and bool((flat_levels == 1).all())


def warn_of_sample_in_flats(line_integrals: NDArray[np.float32]) -> list[str]:
    """Return warnings, at most one, that the flats show the sample at one of its angles.

    Then one projection equals them, and others are as much brighter in places as they are darker.
    `line_integrals` as in `warn_of_flats`.
    """
    means = _means_along(line_integrals)
    if not means.size:
        return []
    sizes = np.sqrt(np.mean(means**2, axis=(0, 2)))
    brighter, darker = (float(np.maximum(sign * means, 0).sum()) for sign in (-1, 1))
    is_equal = sizes.min() < _EQUAL * np.median(sizes)
    if not is_equal or brighter < _AS_MUCH * darker:
        return []
    return [
        "the flats show the sample: a projection equals them, and others are brighter in places, "
        "so values of the volume are wrong (preprocess: {flats: ANOTHER_SCAN} gives it other flats)"
    ]


def is_far_too_bright(line_integrals: NDArray[np.float32]) -> bool:
    """Tell whether air is brighter than the flats by more than a beam can change."""
    means = _means_along(_some_projections(line_integrals))
    return math.exp(-_least(means)) > _FAR_TOO_BRIGHT


def _means_along(lines: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return means of a few columns (n_rows, n_angles, n_means), in which there is less noise."""
    width = max(1, min(_TOGETHER_PX, lines.shape[2] // 4))
    n_means = lines.shape[2] // width
    parts = lines[:, :, : n_means * width].reshape(*lines.shape[:2], n_means, width)
    return (parts @ np.full(width, 1 / width, np.float32)).astype(np.float64)


def _some_projections(line_integrals: NDArray[np.float32]) -> NDArray[np.float32]:
    return line_integrals[:, :: max(1, line_integrals.shape[1] // _N_SAMPLED)]


def _least(lines: NDArray[Any]) -> float:
    """Return the line integral that a few pixels of most projections are below; 0 without any."""
    # of most projections: some may be saturated
    return float(np.median(np.quantile(lines, _BRIGHT_SHARE, axis=(0, 2)))) if lines.size else 0.0


def warn_of_references(
    flat_levels: NDArray[np.float64] | None, dark_levels: NDArray[np.float64] | None
) -> list[str]:
    """Return warnings that name bright darks and dark flats; most are assumed to be right.

    Levels as in `Rows`. There is no warning where flats are no brighter than darks, as both may be
    exchanged.
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
    warnings = []
    for kind, (odd, how, why) in kinds.items():
        if odd.any():
            warnings.append(
                f"{odd.sum()} of {len(odd)} {kind} {'is' if odd.sum() == 1 else 'are'} "
                f"{how.format(listed_numbers(odd))} of the beam, so the volume is wrong: {why}"
            )
    return warnings


def listed_numbers(odd: NDArray[np.bool_]) -> str:
    """Return the numbers, from 1, of the frames that are True: "1 to 3, 5"."""
    runs = runs_of(np.flatnonzero(odd) + 1)
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


def scale_by_air(projections: Any, n_air_px: int, part: Part) -> Any:
    """Apply `preprocess.air_px`."""
    return normalise_to_air(projections, n_air_px)


def current_factors(
    current: NDArray[np.float64], during_flats: NDArray[np.float64] | float | None = None
) -> NDArray[np.float32]:
    """Return the factor of each projection's transmission from a monitor of the beam, (n_angles,).

    The monitor is, for instance, the ring current; `during_flats` is its value for the flats of
    each projection, or of all (None: the mean of `current`). A ScanError says that a value is not
    above 0.
    """
    if not (np.isfinite(current) & (current > 0)).all():
        raise ScanError(
            "preprocess.ring_current: expected numbers above 0 for all projections; name another "
            "dataset, or leave it out"
        )
    reference = np.mean(current) if during_flats is None else during_flats
    return (reference / np.asarray(current)).astype(np.float32)


_MAINLY = 0.5  # least mean of a change of the beam that is one of its brightness, by its size


@dataclass(frozen=True, eq=False)
class Factors:
    """Factors of the transmission of each projection, (n_angles,)."""

    values: NDArray[np.float32]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The factors, to be copied to a GPU once."""
        return (self.values,)


def monitor_of(recipe: PreprocessBlock, scan: Any, beam: Any) -> Factors:
    """Return the factors of a scan by its monitor.

    A ScanError if flats are interpolated, so follow the beam, and their own values are unknown; or
    if pca or register follow its brightness by the air.
    """
    options = recipe.ring_current
    if recipe.flat_method in ("pca", "register") and _has_brightness(beam.shapes):
        raise ScanError(
            f"preprocess.ring_current: flat_method: {recipe.flat_method} follows the brightness of "
            "the beam, so a decay would be corrected twice. Leave out ring_current, or set "
            "preprocess.flat_method: mean"
        )
    current, of_flats = scan.read_monitor(options.dataset), scan.read_flat_monitor(options.dataset)
    if of_flats is None:
        if recipe.flat_method == "interpolate" and len(beam.shapes):
            raise ScanError(
                f"preprocess.ring_current: {options.dataset} has no values of the flats, so with "
                "flat_method: interpolate a decay of the beam would be corrected twice. Leave out "
                "ring_current, or set preprocess.flat_method: mean"
            )
        return Factors(current_factors(current, options.flats_mean))
    reference = during_flats(scan, recipe, of_flats)
    if options.flats_mean is not None:
        reference *= options.flats_mean / np.mean(of_flats)
    return Factors(current_factors(current, reference))


def _has_brightness(shapes: NDArray[np.float32]) -> bool:
    """Tell whether one of the changes of a beam (n, n_rows, n_cols) is mainly its brightness."""
    return any(abs(shape.mean()) > _MAINLY * np.sqrt(np.mean(shape**2)) for shape in shapes)


def scale_by_monitor(projections: Any, options: RingCurrentBlock, part: Part) -> Any:
    """Apply `preprocess.ring_current`."""
    (factors,) = once(module_of(projections), Factors.arrays, part.fit)
    projections *= factors[slice(*part.frames)][:, None, None]
    return projections


def take_log(projections: Any, options: bool, part: Part) -> Any:
    """Apply `preprocess.minus_log`: -log of the transmission, of at least `MIN_TRANSMISSION`."""
    xp = module_of(projections)
    return -xp.log(xp.maximum(projections, xp.float32(MIN_TRANSMISSION)))


def correct_hardening(line_integrals: Any, coefficients: Sequence[float], part: Any = None) -> Any:
    """Apply a polynomial to line integrals, c1 p + c2 p^2 + ...; no c0, as air stays air."""
    xp = module_of(line_integrals)
    result = xp.full_like(line_integrals, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result *= line_integrals
        result += np.float32(coefficient)
    result *= line_integrals
    return result
