"""Gated stripe filter: a column's offset is subtracted where it is significant against its error.

A stripe belongs to a column of the detector: its step to the next column is the same at all angles,
while steps of the object vary, or rise and fall over several columns. So the steps are averaged
over angles (trimmed means); steps count if they exceed a number of their standard errors and do not
come in runs of one sign; and of their cumulative sum only ridges narrower than half a median's
window are subtracted. The same is repeated for half of the angles at a time, where nearly all must
agree. A sinogram without such steps is returned unchanged, bit by bit.

An edge of the object may be the same at all angles, and would form a ridge with a chance step
beside it. So each side of a ridge is tested by itself, the second one at a level corrected for the
number of positions searched. Quantiles are Student's, as few angles would otherwise prove too much.

A thin wall of a tube about the axis looks like a stripe, but the tube has two walls. Where the mean
profile is mostly its own mirror image, ridges that have a mirror image are kept.

This is the regularisation of the steps of the mean profile ([2]) with a test before it, as sorting
([1]) has for large stripes. The test of trimmed means is from [3], the false discovery rate from
[4]. Testing steps, and requiring ridges with two sides, are this project's own.

References
----------
.. [1] Vo, Atwood, Drakopoulos, "Superior techniques for eliminating ring artifacts in X-ray
       micro-tomography", Opt. Express 26 (2018) 28396.
.. [2] Titarenko, Withers, Yagola, "An analytical formula for ring artefact suppression in X-ray
       tomography", Appl. Math. Lett. 23 (2010) 1489.
.. [3] Tukey, McLaughlin, "Less vulnerable confidence and significance procedures for location based
       on a single sample: Trimming/Winsorization 1", Sankhya A 25 (1963) 331.
.. [4] Benjamini, Hochberg, "Controlling the false discovery rate: a practical and powerful approach
       to multiple testing", J. R. Stat. Soc. B 57 (1995) 289.
"""

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from tomopipe.arrays import NORMAL_PER_MAD, fft_of, module_of, once, some
from tomopipe.config.stripe_filters import GATED_SIZE_PX, StripesBlock
from tomopipe.prep import kernels_of
from tomopipe.prep.bad_pixels import interpolate_columns

Profiles = Any  # array of float64 (n, n_cols) or (n, n_cols - 1), or several of them

_BLOCKS = 96  # of angles: enough for medians, while the object blurs in each
_FEWEST = 16  # least number of blocks for means and their errors
_TRIM = 0.2  # share of the blocks that trimmed means drop, at each end
_GROUPS = 16  # groups of consecutive blocks
# winsorised standard deviation (outer fifths pulled in) over the plain one (normal)
_WINSORISED = 0.64
_MEDIAN_ERROR = 1.2533  # standard error of a median over that of a mean
_MEDIAN_FREEDOM = 0.37  # degrees of freedom of that deviation, over those of a standard deviation
_PARTS = 1.25  # factor of the threshold for parts of the scan, of which there are more tests
_AGREE = 0.92  # share of blocks that step the same way
_RUN = 0.2  # correlation of neighbouring steps from which they are a slope
_DEAD = 0.1  # variation of a dead column, relative to the median around it
_ALONE = 8.0  # deviation from the neighbours, relative to their deviation from each other
_LEAST = 1e-3  # least such deviation, relative to the spread of the sinogram
_ROUND = 0.6  # correlation of the mean profile with its mirror image from which it counts
_IMAGE = 0.5  # least size of a mirror image, over that of the ridge
_ALIKE = 0.7  # and relative to the profile there
_OFF_AXIS = 2  # twice the distance (pixels) of one tube from the axis of the others
_TINY = 1e-30  # least error, which avoids 0 / 0 for steps that do not vary
_ANGLES = 64  # corrected at a time


def remove_proven(sinogram: Any, options: StripesBlock = StripesBlock()) -> Any:
    """Interpolate bad columns; subtract significant offsets of the whole scan, or of parts.

    Bad columns do not change with the angle, or differ from their neighbours by amounts that vary
    more than any offset. A sinogram (n_angles, n_cols), or several (n_rows, n_angles, n_cols) on a
    GPU, are unchanged where nothing is significant, and with fewer than 16 angles.

    The option `threshold` is the least step between columns in standard errors of a normal
    distribution (more with few angles, whose errors are less certain); stripes of the whole scan
    are removed up to half of `size_px` wide, those of parts of it up to a quarter.
    """
    xp, out = module_of(sinogram), sinogram.copy()
    n_angles, n_cols = out.shape[-2:]
    if n_angles < _FEWEST or n_cols < 5:
        return out
    profiles = _block_means(out)
    # columns that do not change with the angle while those around them do
    dead = profiles.std(axis=-2) < _DEAD * _median(profiles, 7).std(axis=-2)
    if some(dead):
        interpolate_columns(out, dead)
        profiles = _block_means(out)
    offsets = xp.zeros_like(profiles)
    threshold, size_px = options.threshold, options.size_px or GATED_SIZE_PX
    for window in (size_px // 2, size_px):  # fine ones first: coarse ones then find few steps
        offsets += _constant_offsets(profiles - offsets, threshold, size_px, window)
    offsets += _changing_offsets(profiles - offsets, threshold, size_px)
    alone = _find_alone(profiles - offsets)
    stay = alone | find_round(offsets, profiles, size_px)
    _subtract(out, xp.where(stay[..., None, :], 0, offsets))
    interpolate_columns(out, alone)
    return out


def _bounds(n_angles: int) -> list[int]:
    """Return the first angle of each block, and the end of the last one."""
    bounds = np.linspace(0, n_angles, min(_BLOCKS, n_angles) + 1).astype(int)
    return [int(bound) for bound in bounds]


def _block_tables(n_angles: int) -> tuple[Any, ...]:
    """Return angles of equally long blocks, last angles, whether those are more, and numbers."""
    bounds = np.array(_bounds(n_angles))
    size = np.diff(bounds)
    angles = bounds[:-1, None] + np.arange(size.min())
    return angles, bounds[1:] - 1, (size > size.min())[:, None], size[:, None].astype(float)


def _block_means(sinogram: Any) -> Profiles:
    """Return the mean profile of each block of angles."""
    xp, n_angles = module_of(sinogram), sinogram.shape[-2]
    if xp is np:
        blocks = pairwise(_bounds(n_angles))
        return np.stack([sinogram[a:b].mean(axis=0, dtype=np.float64) for a, b in blocks])
    angles, last, is_longer, size = once(xp, _block_tables, n_angles)
    total = xp.take(sinogram, angles, axis=-2).sum(axis=-2, dtype=np.float64)
    return (total + is_longer * xp.take(sinogram, last, axis=-2)) / size


def _constant_offsets(profiles: Profiles, threshold: float, size_px: int, window: int) -> Profiles:
    """Return the offset of each column (1, n_cols) that all angles share."""
    xp, steps = module_of(profiles), _steps(profiles, size_px)
    shared, error, freedom = _trimmed_means(steps)
    least = _false_discovery_limit(shared / error, threshold, freedom)
    if not some(xp.abs(shared) > least * error):
        return np.zeros((1, profiles.shape[1]))
    ridges = _ridges(_proven(shared, error, least, size_px), error, least, window)
    return _two_sided(ridges, shared / error, least, threshold, freedom)


def _changing_offsets(profiles: Profiles, threshold: float, size_px: int) -> Profiles:
    """Offsets (n_blocks, n_cols) that half a scan shares, around each block; narrow alone."""
    xp, steps = module_of(profiles), _steps(profiles, size_px)
    n_blocks = profiles.shape[-2]
    half = n_blocks // 4
    shared = xp.moveaxis(_median(xp.moveaxis(steps, -1, -2), 2 * half + 1), -1, -2)
    block = xp.arange(n_blocks)
    # At the ends the window is mirrored: it holds fewer blocks, some of them twice.
    first, last = xp.maximum(block - half, 0), xp.minimum(block + half + 1, n_blocks)
    count = (last - first)[:, None]
    error = xp.maximum(_error_in_a_row(steps - shared, count), _TINY)
    freedom = _MEDIAN_FREEDOM * (n_blocks - 1)
    least = _quantile(_share_below(-_PARTS * threshold), freedom)
    # Structure that reverses stays in a column for a while, a stripe for all of the window.
    before = ((0, 0),) * (steps.ndim - 2) + ((1, 0), (0, 0))
    up = xp.pad(xp.cumsum(steps > 0, axis=-2, dtype=np.int64), before)
    risen = (xp.take(up, last, axis=-2) - xp.take(up, first, axis=-2)) / count
    agree = xp.where(shared > 0, risen, 1 - risen) > _AGREE
    certain = (agree & (xp.abs(shared) > least * error)).any(axis=-2, keepdims=True)
    if not some(certain):
        return np.zeros_like(profiles)
    proven = xp.where(certain, _proven(shared, error, least, size_px), 0)
    ridges = _ridges(proven, error, least, size_px // 2)
    return _two_sided(ridges, shared / error, least, threshold, freedom)


def _steps(profiles: Profiles, size_px: int) -> Profiles:
    """Return the steps between columns less the usual one around, so that slopes vanish."""
    steps = module_of(profiles).diff(profiles, axis=-1)
    return steps - _median(steps, 3 * (size_px // 2) + 1)


def _trimmed_means(steps: Profiles) -> tuple[Profiles, Profiles, int]:
    """Return means over blocks less the outer ones, their errors, degrees of freedom ([3])."""
    xp, n = module_of(steps), steps.shape[-2]
    core, winsorised = _pull_in(steps)
    n_core = core.shape[-2]
    cut = (n - n_core) // 2
    error = winsorised.std(axis=-2, ddof=1, keepdims=True) / ((1 - 2 * cut / n) * np.sqrt(n))
    return core.mean(axis=-2, keepdims=True), xp.maximum(error, _TINY), n_core - 1


def _pull_in(values: Profiles) -> tuple[Profiles, Profiles]:
    """Return values of blocks in order, without the outer ones and with these pulled in."""
    xp = module_of(values)
    ranked = xp.sort(values, axis=-2)
    cut = int(_TRIM * ranked.shape[-2])
    core = ranked[..., cut : ranked.shape[-2] - cut, :]
    return core, xp.clip(ranked, core[..., :1, :], core[..., -1:, :])


def _share_below(deviation: float) -> float:
    """Return the share of a normal distribution below `deviation`."""
    from scipy.special import ndtr

    return float(ndtr(deviation))


def _quantile(tail: Any, freedom: float) -> Any:
    """Return the value that Student's t exceeds with probability `tail`."""
    from scipy.special import stdtrit  # slow to import, and every job imports this module

    return -stdtrit(freedom, np.clip(tail, 1e-300, 0.5))  # of 0 SciPy returns the wrong infinity


def _false_discovery_limit(scores: Profiles, threshold: float, freedom: float) -> Any:
    """Return the least score that counts: lower where many stand out ([4])."""
    xp, n = module_of(scores), scores.shape[-1]
    ranked = xp.sort(xp.abs(scores), axis=-1)[..., ::-1]
    (limits,) = once(xp, _limits, threshold, n, freedom)
    last = xp.where(ranked > limits, xp.arange(n), 0).max(axis=-1, keepdims=True)
    return limits[last]


def _limits(threshold: float, n: int, freedom: float) -> tuple[Any, ...]:
    """Return the limits for the largest of n scores, the second largest, and so on."""
    return (_quantile(_share_below(-threshold) * np.arange(1, n + 1), freedom),)


def _side_limits(threshold: float, n: int, freedom: float) -> tuple[Any, ...]:
    """Return the limit for the second side of a ridge, by the columns between the sides."""
    # a chance step next to an edge is as rare as one that counts anywhere in a row
    risk = 2 * _share_below(-threshold) * n
    return (_quantile(risk / (2 * np.arange(1, n + 2)), freedom),)


def _error_in_a_row(deviations: Profiles, n: Any) -> Profiles:
    """Return the standard error of medians of n consecutive blocks, which may be correlated."""
    xp, (n_blocks, n_steps) = module_of(deviations), deviations.shape[-2:]
    alone = _MEDIAN_ERROR * _spread(deviations) / xp.sqrt(n)
    size = max(1, n_blocks // _GROUPS)
    groups = deviations[..., : n_blocks // size * size, :]
    groups = groups.reshape(*deviations.shape[:-2], -1, size, n_steps)
    return xp.maximum(alone, _spread(xp.median(groups, axis=-2)) * xp.sqrt(size / n))


def _spread(deviations: Profiles) -> Profiles:
    """Return the standard deviation over blocks (1, n_cols), robustly."""
    xp = module_of(deviations)
    return NORMAL_PER_MAD * xp.median(xp.abs(deviations), axis=-2, keepdims=True)


def _proven(steps: Profiles, error: Profiles, threshold: Any, size_px: int) -> Profiles:
    """Return the steps that are significant, with half as significant ones beside; 0 elsewhere."""
    xp = module_of(steps)
    strong = xp.abs(steps) > threshold * error
    near = _around(strong, size_px // 2) > 0
    steps = xp.where(near & (xp.abs(steps) > 0.5 * threshold * error), steps, 0)
    product = xp.zeros_like(steps)
    product[..., 1:] = steps[..., 1:] * steps[..., :-1]
    reach = size_px // 4 + 1
    slope = (steps != 0) & (_around(product, reach) > _RUN * _around(steps**2, reach))
    return xp.where(_around(slope, size_px // 4) > 0, 0, steps)


def _ridges(steps: Profiles, error: Profiles, threshold: Any, window: int) -> Profiles:
    """Return the cumulative sum of steps minus its running median, which keeps slopes and edges."""
    xp = module_of(steps)
    level = _pad(xp.cumsum(steps, axis=-1), 1, 0)
    ridge = level - _median(level, window)
    error = xp.broadcast_to(error, steps.shape)
    sides = _pad(error, 1, 1, mode="edge")
    least = xp.minimum(sides[..., 1:], sides[..., :-1])
    return xp.where(xp.abs(ridge) > 0.5 * threshold * least, ridge, 0)


def _two_sided(
    ridges: Profiles, scores: Profiles, least: Any, threshold: float, freedom: float
) -> Profiles:
    """Return the ridges with two proven sides: one by `least`, the other by its own limit."""
    xp = module_of(ridges)
    if not some(ridges):
        return ridges
    sign = xp.sign(ridges)
    (side_limits,) = once(xp, _side_limits, threshold, scores.shape[-1], freedom)
    rise, fall = kernels_of(xp).over_runs(
        sign, "maximum", [_pad(scores, 1, 0) * sign, -_pad(scores, 0, 1) * sign]
    )
    (width,) = kernels_of(xp).over_runs(sign, "add", [xp.ones(sign.shape)])
    second = xp.minimum(least, side_limits[width.astype(int) - 1])
    both = (xp.maximum(rise, fall) > least) & (xp.minimum(rise, fall) > second)
    return xp.where(both, ridges, 0)


def find_round(offsets: Profiles, profiles: Profiles, size_px: int) -> Any:
    """Return the columns whose ridges have a mirror image, and so belong to the object.

    Parameters
    ----------
    offsets, profiles : array of float, shape (..., n_blocks, n_cols)
        Offsets of the columns, and their means over the angles of each block.
    size_px : int
        Columns of the median that the profiles are compared with.

    Returns
    -------
    array of bool, shape (..., n_cols)
        All false unless the profile is mostly its own mirror image.
    """
    xp, n_cols = module_of(offsets), offsets.shape[-1]
    ridges = offsets.mean(axis=-2)
    if not some(ridges):
        return np.zeros(ridges.shape, bool)
    level = profiles.mean(axis=-2, keepdims=True)
    level = (level - _median(level, size_px))[..., 0, :]
    # two equal stripes would define an axis of their own
    axis, is_mirrored = _mirror_axis(level - ridges)
    sign, over_runs, col = xp.sign(ridges), kernels_of(xp).over_runs, xp.arange(n_cols)
    cols = xp.broadcast_to(col.astype(np.float64), ridges.shape)
    before, last = over_runs(sign, "maximum", [-cols, cols])
    result = (-2 * before <= axis) & (axis <= 2 * last)
    reach = n_cols + _OFF_AXIS
    beyond = _pad(level, reach, reach)
    images = [
        ridges * xp.take_along_axis(beyond, reach + axis + off - col, axis=-1)
        for off in range(-_OFF_AXIS, _OFF_AXIS + 1)
    ]
    itself, square, *images = over_runs(sign, "add", [ridges * level, ridges**2, *images])
    for image in images:
        result |= (image > _IMAGE * square) & (_ALIKE * itself < image) & (image < itself / _ALIKE)
    return result & is_mirrored & (sign != 0)


def _mirror_axis(level: Any) -> tuple[Any, Any]:
    """Return twice the column about which a profile is most symmetric, and whether it is."""
    xp, n, fft = module_of(level), level.shape[-1], fft_of(module_of(level))
    limit = xp.sqrt((level**2).mean(axis=-1, keepdims=True))  # otherwise a few columns would decide
    level = xp.clip(level, -limit, limit)
    n_padded = fft.next_fast_len(2 * n, real=True)
    alike = fft.irfft(fft.rfft(level, n_padded) ** 2, n_padded)[..., : 2 * n - 1]
    alike[..., ::2] -= level**2  # a column on the axis is trivially its own image
    best = xp.argmax(alike, axis=-1, keepdims=True)
    most = xp.take_along_axis(alike, best, axis=-1)
    return best, most > _ROUND * (level**2).sum(axis=-1, keepdims=True)


def _find_alone(profiles: Profiles) -> Any:
    """Return columns, up to three in a row, that differ from their neighbours at most angles."""
    xp, n_cols = module_of(profiles), profiles.shape[-1]
    least = _LEAST * profiles.std(axis=(-2, -1), keepdims=True)[..., 0]
    alone = xp.zeros((*profiles.shape[:-2], n_cols), bool)
    for width in (1, 2, 3):
        n = n_cols - width - 1
        before, after = profiles[..., :n], profiles[..., width + 1 :]
        apart = (after - before).std(axis=-2)
        usual = xp.median(apart, axis=-1, keepdims=True)
        apart = _ALONE * (xp.maximum(apart, usual) + least)
        parts = [(i, i / (width + 1)) for i in range(1, width + 1)]
        off = [profiles[..., i : n + i] - before * (1 - t) - after * t for i, t in parts]
        result = reduce(xp.minimum, map(_usual_spread, off)) > apart
        for i, _ in parts:
            alone[..., i : n + i] |= result
    return alone


def _usual_spread(values: Profiles) -> Profiles:
    """Return the standard deviation over blocks, robust against a few of them."""
    return _pull_in(values)[1].std(axis=-2) / _WINSORISED


def _angle_tables(n_angles: int) -> tuple[Any, ...]:
    """Return the block before each angle, and its position (0 to 1) between block middles."""
    bounds, angle = np.array(_bounds(n_angles)), np.arange(n_angles)
    middle = (bounds[:-1] + bounds[1:] - 1) / 2
    left = np.clip(np.searchsorted(middle, angle, side="right") - 1, 0, len(middle) - 2)
    part = np.clip((angle - middle[left]) / (middle[left + 1] - middle[left]), 0, 1)
    return left, part.astype(np.float32)[:, None]


def _subtract(sinogram: Any, offsets: Profiles) -> None:
    """Subtract offsets, interpolated between the blocks, from columns that have any; in place."""
    xp, n_angles = module_of(sinogram), sinogram.shape[-2]
    left, part = once(xp, _angle_tables, n_angles)
    cols: Any = slice(None)
    step = n_angles
    if xp is np:
        cols, step = np.flatnonzero(offsets.any(axis=0)), _ANGLES
        if not cols.size:
            return
    offset = offsets[..., cols].astype(np.float32)
    for first in range(0, n_angles, step):
        angles = slice(first, first + step)
        before, weight = left[angles], part[angles]
        between = xp.take(offset, before, axis=-2) * (1 - weight)
        between += xp.take(offset, before + 1, axis=-2) * weight
        sinogram[..., angles, cols] -= between


def _median(values: Profiles, size: int) -> Profiles:
    """Return the running median along the last axis."""
    xp = module_of(values)
    lines = xp.ascontiguousarray(values, dtype=np.float32)
    return kernels_of(xp).running_median(lines, size).astype(np.float64)


def _around(values: Any, reach: int) -> Profiles:
    """Return the sum over the columns up to `reach` away; exactly 0 where all of them are."""
    xp = module_of(values)
    total = xp.cumsum(_pad(values.astype(np.float64), reach + 1, reach), axis=-1)
    return total[..., 2 * reach + 1 :] - total[..., : -2 * reach - 1]


def _pad(values: Any, n_before: int, n_after: int, mode: str = "constant") -> Any:
    """Add columns."""
    width = ((0, 0),) * (values.ndim - 1) + ((n_before, n_after),)
    return module_of(values).pad(values, width, mode=mode)
