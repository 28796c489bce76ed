"""Bad pixels, zingers, and bad projections: saturated, dark, dim, empty and more."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import module_of, once
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import BadPixelsBlock, ZingersBlock
from tomopipe.errors import ScanError
from tomopipe.prep import kernels_of
from tomopipe.prep.normalise import valid_beside
from tomopipe.prep.recipe import IndexRange, Part
from tomopipe.scans.metadata import skipping

logger = logging.getLogger(__name__)

_AROUND = 5  # pixels: width of the median that a pixel of the flat is compared with


def find_bad_pixels(
    flat: NDArray[np.float32], dark: NDArray[np.float32], threshold: float
) -> NDArray[np.bool_]:
    """Find pixels (n_rows, n_cols) whose mean flat or dark differs from the pixels around it.

    Bad are pixels that differ by more than `threshold`, a share of the flat's signal around them,
    whose flat or dark is not finite, or whose flat is not above the dark.
    """
    from tomopipe.prep.host_kernels import median_of_square

    with np.errstate(invalid="ignore", over="ignore"):
        signal = flat.astype(np.float32) - dark
        bad = ~(np.isfinite(signal) & (signal > 0))
        usual = median_of_square(np.where(bad, 0, signal)[None], _AROUND)[0]
        quiet = median_of_square(np.where(np.isfinite(dark), dark, 0)[None], _AROUND)[0]
        bad |= np.abs(signal - usual) > threshold * usual
        # unlit corners have nothing to compare with
        bad |= (np.abs(dark - quiet) > threshold * usual) & (usual > 0)
    return bad


@dataclass(frozen=True, eq=False)
class Repair:
    """How to interpolate bad pixels (n_bad,), by row, between valid columns beside them."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    # valid columns on either side; at the edge of the detector twice the same
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    part: NDArray[np.float32]  # share of the column after

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The fields as arrays."""
        return self.rows, self.cols, self.before, self.after, self.part

    def apply(self, images: Any, rows: tuple[int, int]) -> None:
        """Fill the bad pixels of frames (n, rows[1] - rows[0], n_cols), in place."""
        xp = module_of(images)
        part_of_rows = slice(*np.searchsorted(self.rows, rows))
        if part_of_rows.start == part_of_rows.stop:
            return
        at, cols, before, after, part = (
            array[part_of_rows] for array in once(xp, Repair.arrays, self)
        )
        at = at - rows[0]
        images[:, at, cols] = images[:, at, before] * (1 - part) + images[:, at, after] * part


def plan_repair(bad: NDArray[np.bool_]) -> Repair:
    """Plan how to fill the bad pixels of a detector, a mask (n_rows, n_cols)."""
    n_cols = bad.shape[1]
    left, right = valid_beside(bad)
    left, right = np.where(left < 0, right, left), np.where(right == n_cols, left, right)
    rows, cols = np.nonzero(bad & (left < n_cols))
    before, after = left[rows, cols], right[rows, cols]
    part = ((cols - before) / np.maximum(after - before, 1)).astype(np.float32)
    return Repair(rows, cols, before, after, part)


def repair_of(recipe: PreprocessBlock, scan: Any, beam: Any) -> Repair:
    """Return how to fill the bad pixels of a scan."""
    assert recipe.bad_pixels.threshold is not None
    bad = find_bad_pixels(beam.flat, beam.dark, recipe.bad_pixels.threshold)
    logger.info("%d bad pixels of %d", np.count_nonzero(bad), bad.size)
    return plan_repair(bad)


def fill_bad_pixels(projections: Any, options: BadPixelsBlock, part: Part) -> Any:
    """Apply `preprocess.bad_pixels`."""
    part.fit.apply(projections, part.rows)
    return projections


def interpolate_columns(sinograms: Any, lost: Any) -> None:
    """Fill lost columns of sinograms (..., n_angles, n_cols) as bad pixels are filled, in place."""
    xp, n_cols = module_of(sinograms), sinograms.shape[-1]
    if xp is np:
        plan_repair(lost[None]).apply(sinograms[:, None], (0, 1))
        return
    left, right = valid_beside(lost)
    before, after = xp.where(left < 0, right, left), xp.where(right == n_cols, left, right)
    part = (xp.arange(n_cols) - before) / xp.maximum(after - before, 1)
    share, lost = part.astype(np.float32)[..., None, :], (lost & (before < n_cols))[..., None, :]
    values = [  # a row without a valid column stays
        xp.take_along_axis(sinograms, xp.clip(at, 0, n_cols - 1)[..., None, :], axis=-1)
        for at in (before, after)
    ]
    sinograms[...] = xp.where(lost, values[0] * (1 - share) + values[1] * share, sinograms)


def remove_zingers(images: Any, *, threshold: float, size_px: int = 3) -> Any:
    """Replace pixels that are brighter than their surroundings by the median around them.

    Transmissions (n, n_rows, n_cols) are NumPy or CuPy arrays; edges are repeated, so that
    `size_px // 2` further rows on either side are needed where they exist. `threshold`, below 1, is
    the difference as a share of the median. `size_px`, odd, is the side of the square; zingers of
    less than half its area are detected.
    """
    return kernels_of(module_of(images)).replace_peaks(images, threshold, size_px)


def replace_zingers(projections: Any, options: ZingersBlock, part: Part) -> Any:
    """Apply `preprocess.zingers`."""
    assert options.threshold is not None
    values = remove_zingers(projections, threshold=options.threshold, size_px=options.size_px)
    return values[:, part.inner]


def rows_of_zingers(rows: IndexRange, options: ZingersBlock, fit: None) -> IndexRange:
    """Return the rows that the median needs."""
    return rows[0] - options.size_px // 2, rows[1] + options.size_px // 2


BadFrames = Mapping[str, Sequence[int]]
"""Numbers of the bad projections of each kind, as recorded, 0-based."""

KINDS: Mapping[str, str] = {
    "saturated": "saturated: where the camera was at its limit, values of the volume are too low",
    "dark": "dark, as with the shutter closed",
    "dim": "far darker than their neighbours, as if the beam was lost: their values are wrong",
    "empty": "without the sample, as flats are",
    "partial": "empty in part, as if the camera had lost packets",
    "constant": "of a single value, as if never written",
    "repeated": "equal to the one before, as if the camera had stopped",
}
"""Kinds of bad projections, with the words of their warning."""

# Shares of the projections that spoil a volume: one dark one of 181 does, one of 1001 hardly.
_SPOILING: Mapping[str, float] = {
    **dict.fromkeys(("dark", "dim", "partial"), 0.002),
    "empty": 0.005,
    **dict.fromkeys(("constant", "repeated"), 0.01),
}

# Share of the pixels at the camera's limit, each between two others: single pixels get there by
# noise where the beam is near the limit, and small hot spots do no harm.
_SATURATED_SHARE = 0.05
_BEYOND_SHARE = 0.01  # largest share of pixels above the assumed limit of a camera of fewer bits
# Share of the beam, averaged over the examined rows, below which a projection is dark.
_DARK_SHARE = 0.005
# A part of a projection that is empty: least columns, also as a share of all, and least share of
# the beam that most projections have there.
_EMPTY_COLUMNS, _EMPTY_SHARE, _LIGHT_SHARE = 16, 1 / 64, 0.1
# A lost beam: least change (log), largest differences of that change between parts of the rows, and
# largest change of the projections beside it on the bright side, both as shares of it: a plate seen
# edge-on darkens smoothly.
_FALL, _ALIKE, _SMOOTH = np.log(1.6), 0.4, 0.25
# Projections without the sample: largest spread of their line integrals, and least one of those
# beside them, by the usual one. A sample that leaves the field goes slowly.
_NO_SAMPLE, _WITH_SAMPLE = 0.2, 0.5
_OVER_FLATS = 1.5  # transmission above which the beam is brighter than that of the flats
_PARTS, _PART_COLUMNS = 16, 32
_TOGETHER = 8  # columns that are averaged against noise
# Flat of pixels that are cut off: least spread between pixels, or largest share of the limit.
_SPREAD, _FAR_BELOW = 0.01, 0.8
_SAMPLED = 500  # pixels examined in a projection
_USUAL = 100  # projections whose median is the usual one
# Share of the pixels that noise changes between projections, and least number to test that.
_CHANGED, _LEAST_PIXELS = 0.1, 64
_BITS = (8, 10, 12, 14, 16)


def find_bad_frames(
    raw: NDArray, flat: NDArray[np.float32], dark: NDArray[np.float32], *, has_flats: bool
) -> dict[str, NDArray[np.intp]]:
    """Return the bad projections of each of `KINDS` except dim and empty, ascending.

    - saturated: 5 % of the pixels are at the camera's limit, in runs of at least three along a row.
      The limit is the largest number of the pixel type, or of a camera of 8 to 16 bits (also of one
      that fills the upper bits), or the highest value of all projections, if pixels with different
      flats all have it, which air would not, or flats, averages elsewhere, are exactly that.
    - dark: less than 0.5 % of the beam, or only zeros.
    - partial: a run of 16 columns or more of one value below 0.5 % of the beam, where most others
      have light; an opaque sample has noise, and is in most projections.
    - constant: a single other value.
    - repeated: equal to the one before, while noise makes most others differ.

    `raw` (n_angles, n_rows, n_cols) holds rows of all projections, as recorded, `flat` and `dark`
    (n_rows, n_cols) the same rows. `has_flats`: whether `flat` is measured; only then can dark
    projections be detected. Scans without flats may have been scaled so that air is the largest
    number: if more than half of their projections look saturated, none counts.
    """
    n = len(raw)
    values = raw.reshape(n, -1)
    low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
    constant = ~(low < high) if values.shape[1] > 1 else np.zeros(n, bool)  # all of them NaN too
    # a sample of the pixels often decides
    part = values[:, :: max(1, values.shape[1] // _SAMPLED)]
    saturated = np.zeros(n, bool)
    for limit in _limits(raw.dtype, high):
        saturated |= constant & (low == limit)
        for frame in np.flatnonzero((part == limit).mean(axis=1) >= _SATURATED_SHARE / 3).tolist():
            beyond = np.mean(values[frame] > limit)
            saturated[frame] |= beyond < _BEYOND_SHARE and _is_plateau(raw[frame] == limit)
    if not has_flats and 2 * np.count_nonzero(saturated) > n:
        saturated &= constant  # scaled values: white is air
    dark_frames = constant & (low == 0) & ~saturated
    if has_flats:
        # float64: frames are large and differences small
        beam, offset = (float(np.mean(mean, dtype=float)) for mean in (flat - dark, dark))
        dim = part.mean(axis=1, dtype=float) - offset < 10 * _DARK_SHARE * beam
        for frame in np.flatnonzero(dim & ~saturated).tolist():
            dark_frames[frame] |= values[frame].mean(dtype=float) - offset < _DARK_SHARE * beam
        top, step = np.fmax.reduce(high), 1.0 if raw.dtype.kind in "iu" else 0.0
        for frame in np.flatnonzero((high == top) & ~constant & ~dark_frames).tolist():
            saturated[frame] |= _is_cut_off(raw[frame] == top, flat, float(top), step)
    partial = np.zeros(n, bool)
    if has_flats:
        partial = _find_partial(raw, flat, dark) & ~(constant | saturated | dark_frames)
    rest = constant & ~saturated & ~dark_frames
    repeated = _find_repeated(values, part, saturated | dark_frames | partial | rest)
    result = {
        "saturated": saturated,
        "dark": dark_frames,
        "partial": partial,
        "constant": rest,
        "repeated": repeated,
    }
    return {kind: np.flatnonzero(bad) for kind, bad in result.items()}


def _find_partial(
    raw: NDArray, flat: NDArray[np.float32], dark: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return the projections with a run of columns of one value without light; none if most are."""
    n, n_rows, n_cols = raw.shape
    partial, n_run = np.zeros(n, bool), max(_EMPTY_COLUMNS, round(_EMPTY_SHARE * n_cols))
    if n < 3 or n_cols < 2 * n_run:
        return partial
    for row in range(n_rows):
        lines, beam = raw[:, row], float(np.mean(flat[row] - dark[row], dtype=float))
        usual = np.median(lines[:: max(1, n // _USUAL)], axis=0)
        most = dark[row] + _DARK_SHARE * beam
        empty = (lines <= most) & (usual > dark[row] + _LIGHT_SHARE * beam)
        for frame in np.flatnonzero(np.count_nonzero(empty, axis=1) >= n_run).tolist():
            starts = np.flatnonzero(np.diff(lines[frame].astype(float)) != 0) + 1
            sizes = np.add.reduceat(empty[frame].astype(int), [0, *starts])
            partial[frame] |= sizes.max() >= n_run
    return partial if 2 * np.count_nonzero(partial) <= n else np.zeros(n, bool)


def find_dim_frames(line_integrals: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the projections in which the beam is at five eighths of the usual one, or less.

    `line_integrals` (n_rows, n_angles, n_cols) are -log of the transmission in some rows, in the
    order of acquisition. A lost beam falls and returns abruptly and equally in all columns, whereas
    a sample changes smoothly, or in some columns only. The usual beam is that of most projections,
    or of three and more brighter ones, unless they are brighter than the flats.
    """
    n_rows, n_angles, n_cols = line_integrals.shape
    if n_angles < 3:
        return np.zeros(0, dtype=np.intp)
    width = max(1, n_cols // _PARTS)
    parts = line_integrals[:, :, : n_cols // width * width].reshape(n_rows, n_angles, -1, width)
    light = np.exp(-parts[..., :: -(-width // _PART_COLUMNS)]).mean(axis=3, dtype=np.float64)
    changes = np.diff(np.log(np.maximum(light, np.finfo(float).tiny)), axis=1)
    low, change, high = np.percentile(changes, (16, 50, 84), axis=(0, 2))
    size = np.abs(change)
    uniform = (size >= _FALL) & (high - low <= _ALIKE * size)
    falls, rises = uniform & (change < 0), uniform & (change > 0)
    sudden = np.zeros_like(uniform)
    for _ in range(2):  # a shutter may take more than one projection
        rest = np.where(sudden, 0, size)
        sudden = falls & (_largest_before(rest, rises) <= _SMOOTH * size)
        sudden |= rises & (_largest_before(rest[::-1], falls[::-1])[::-1] <= _SMOOTH * size)
    beam = np.concatenate([[0.0], np.cumsum(np.where(sudden, change, 0))])
    usual = np.median(beam)
    bright = beam > usual + _FALL
    # one or two: layers of the sample, seen along them
    if np.count_nonzero(bright) > 2 and light[:, bright].max() < _OVER_FLATS:
        usual = beam.max()  # the beam of the flats: that of most projections was lost
    return np.flatnonzero(beam <= usual - _FALL)


def find_empty_frames(line_integrals: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the projections, at most half of all, from which the sample is suddenly absent.

    Parameters
    ----------
    line_integrals : NDArray[np.float32]
        -log of the transmission in some rows, (n_rows, n_angles, n_cols), by time.

    Returns
    -------
    NDArray[np.intp]
        Their indices, ascending.
    """
    n_rows, n_angles, n_cols = line_integrals.shape
    width = max(1, min(_TOGETHER, n_cols // _PARTS))
    parts = line_integrals[:, :, : n_cols // width * width].reshape(n_rows, n_angles, -1, width)
    means = parts @ np.full(width, 1 / width, np.float32)  # faster than `mean`
    spread = np.sqrt(means.var(axis=2, dtype=np.float64).mean(axis=0))
    usual = float(np.median(spread)) if n_angles else 0.0
    empty = spread < _NO_SAMPLE * usual
    edges = np.flatnonzero(np.diff(empty)) + 1
    for run in np.split(np.arange(n_angles), edges):
        beside = spread[[n for n in (run[0] - 1, run[-1] + 1) if 0 <= n < n_angles]]
        empty[run] &= bool(beside.size and (beside >= _WITH_SAMPLE * usual).all())
    absent = np.flatnonzero(empty)
    return absent if 2 * len(absent) <= n_angles else absent[:0]


def _largest_before(size: NDArray[np.float64], opposite: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the largest of the two changes before each; an opposite one hides those before it."""
    last = np.pad(np.where(opposite, 0, size), (1, 0))[:-1]
    second = np.where(opposite, 0, last)
    return np.maximum(last, np.pad(second, (1, 0))[:-1])


def _find_repeated(values: NDArray, part: NDArray, bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the projections, not `bad`, that equal the one before while most others differ."""
    repeated = np.zeros(len(values), bool)
    if len(values) < 3 or values.shape[1] < _LEAST_PIXELS:
        return repeated
    differs = part[1:] != part[:-1]
    changed = differs.mean(axis=1)
    for frame in (np.flatnonzero((changed == 0) & ~bad[1:]) + 1).tolist():
        repeated[frame] = np.array_equal(values[frame], values[frame - 1])
    others = differs[~(repeated | bad)[1:]]
    if 2 * np.count_nonzero(repeated) >= len(values) or not len(others):
        return np.zeros_like(repeated)
    least = min(float(np.percentile(others.mean(axis=axis), 5)) for axis in (0, 1))
    return repeated if least >= _CHANGED else np.zeros_like(repeated)


def _limits(dtype: np.dtype, high: NDArray) -> list[int]:
    """List the possible camera limits that some projection reaches."""
    limits = {2**bits - 1 for bits in _BITS} | {(2**bits - 1) << (16 - bits) for bits in _BITS}
    if dtype.kind in "iu":
        largest = int(np.iinfo(dtype).max)
        limits = {limit for limit in limits if limit <= largest} | {largest}
    most = float(np.fmax.reduce(high))  # a float16 holds not all of the limits
    return sorted(limit for limit in limits if limit <= most)


def _is_plateau(at_limit: NDArray[np.bool_]) -> bool:
    """Tell whether enough pixels of a projection are at a limit, each between two others."""
    between = at_limit[:, 1:-1] & at_limit[:, :-2] & at_limit[:, 2:]
    return bool(np.count_nonzero(between) >= _SATURATED_SHARE * at_limit.size)


def _is_cut_off(
    at_top: NDArray[np.bool_], flat: NDArray[np.float32], top: float, step: float
) -> bool:
    """Tell whether a projection is cut off at the highest value of the scan."""
    if not _is_plateau(at_top):
        return False
    low, middle, high = np.percentile(flat[at_top], (5, 50, 95))
    spread = max(_SPREAD * abs(top), 2 * step)
    averages = flat[flat < top] % 1 if step else flat[:0]  # with noise hardly one is a whole number
    flats_too = middle == top and 2 * np.count_nonzero(averages) > averages.size
    return bool(high - low > spread or middle < _FAR_BELOW * top or flats_too)


def warnings_of(bad: BadFrames, n_angles: int) -> list[str]:
    """Describe the bad projections, of all `n_angles` in use, in sentences."""
    warnings = []
    for kind, says in KINDS.items():
        if n_bad := len(numbers := bad.get(kind, ())):
            how = "" if too_many(n_bad, n_angles) else f" ({skipping(numbers)} leaves them out)"
            are = "is" if n_bad == 1 else "are"
            warnings.append(f"{n_bad} of {n_angles} projections {are} {says}{how}")
    return warnings


def too_many(n_bad: int, n_angles: int) -> bool:
    """Tell whether bad projections cannot be skipped, as fewer than half would stay."""
    return 2 * n_bad > n_angles


def reasons_to_review(bad: BadFrames, n_angles: int) -> list[str]:
    """Describe the kinds that are frequent enough to spoil the volume at any COR."""
    spoiling = {
        kind: bad[kind]
        for kind, share in _SPOILING.items()
        if len(bad.get(kind, ())) > share * n_angles
    }
    return warnings_of(spoiling, n_angles)


class ConstantFrames:
    """Frames that hold a single value (besides NaN) in all rows examined so far."""

    def __init__(self, n_frames: int) -> None:
        self._low, self._high = np.full((2, n_frames), np.nan)

    def look(self, raw: NDArray, first: int = 0) -> None:
        """Examine rows of the frames from `first` on; `raw` is (n_frames, n_rows, n_cols)."""
        for frame in np.flatnonzero(self._is_constant[first : first + len(raw)]).tolist():
            for ends, choose in ((self._low, np.fmin), (self._high, np.fmax)):
                ends[first + frame] = choose(ends[first + frame], choose.reduce(raw[frame], None))

    @property
    def _is_constant(self) -> NDArray[np.bool_]:
        return ~(self._low < self._high)

    def refuse(self, numbers: NDArray[np.intp]) -> None:
        """Raise a ScanError if frames were never written, or there was no beam.

        Single constant frames are accepted; half of all, or the last hundredth, are not.
        `numbers` (n_frames,) are those of the projections.
        """
        empty = self._is_constant
        n_trailing = len(empty) if empty.all() else int(np.argmin(empty[::-1]))
        if empty.mean() < 0.5 and n_trailing <= max(1, len(empty) // 100):
            return
        remedy = f"{skipping(numbers[empty])} leaves them out"
        if empty.all():
            remedy = "`select: no` leaves the scan out"
        what = "only NaN" if np.isnan(self._low[empty]).all() else "a single value"
        raise ScanError(
            f"constant frames: {np.count_nonzero(empty)} of {len(empty)} frames hold {what}, "
            f"as if they had never been written; {remedy}"
        )
