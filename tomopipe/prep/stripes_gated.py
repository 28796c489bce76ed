"""Gated stripe filter: a column's offset is subtracted where it is significant against its error.

A stripe belongs to a column of the detector: the step to the next column is the same at all angles.
The object moves, so that its steps differ from angle to angle, and their mean is small beside
their spread. What the object has in common to all angles (it is round and rotates about its middle)
rises and falls over several columns, step after step of one sign; a stripe steps up and down
again. So steps are trimmed means over angles, those count that exceed a number of their standard
errors and do not come in runs of one sign, and of what they add up to only ridges narrower than
half a median's window are taken off; the same again for half of the angles at a time, where nearly
all of them must agree. A sinogram without such steps comes back bit by bit.

What is claimed of a ridge is that it has two sides. An edge of the object may be the same at all
angles, and is then certain; with a step that chance made beside it, it would be a ridge. So
each side is tested by itself, the second one at the level of the many positions where it is looked
for. Errors come from few numbers: quantiles are Student's, or few angles would prove too much.

What is round about the axis to a fraction of a pixel, and no wider than a stripe, looks like one: a
thin wall of a tube in the middle of the stage. But the tube has two walls, and a stripe has no
mirror image. The axis is not known here (a sweep has many); where the mean profile is its own
mirror image for the most part, that gives it, and ridges are left alone whose image is there too.

This is the regularisation of the mean's steps ([2]) with a test before it, as sorting ([1]) has it
for large stripes. Of trimmed means the test is [3]; that more steps count where many stand out is
[4]. Steps as what is tested, and ridges with two sides, are this project's own.

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

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import NORMAL_PER_MAD
from tomopipe.config.preprocess import GATED_SIZE_PX, StripesBlock
from tomopipe.prep import kernels_of
from tomopipe.prep.bad_pixels import interpolate_columns

Profiles = NDArray[np.float64]  # (n, n_cols) or (n, n_cols - 1)

_BLOCKS = 96  # of angles: enough for medians, while the object blurs in each
_FEWEST = 16  # blocks that means and their errors are made of
_TRIM = 0.2  # share of the blocks that trimmed means drop, at each end
_GROUPS = 16  # of blocks in a row
_WINSORISED = 0.64  # standard deviation with outer fifths pulled in, over that with them (normal)
_MEDIAN_ERROR = 1.2533  # standard error of a median over that of a mean
_MEDIAN_FREEDOM = 0.37  # degrees of freedom of that deviation, over those of a standard deviation
_PARTS = 1.25  # more tests are made of parts of the scan: the threshold is so much higher
_AGREE = 0.92  # share of blocks that step the same way
_RUN = 0.2  # correlation of neighbouring steps, from which on they are a slope
_DEAD = 0.1  # how much a column varies, over what is usual around it
_ALONE = 8.0  # deviation from neighbours over theirs from each other
_LEAST = 1e-3  # such a difference at least, over the spread of the sinogram
_ROUND = 0.6  # correlation of the mean profile with its mirror image, from which on that counts
_IMAGE = 0.5  # least size of a mirror image, over that of the ridge
_ALIKE = 0.7  # and over that of the profile there
_OFF_AXIS = 2  # twice the pixels that one tube may be off the axis of the others
_TINY = 1e-30  # no error is less: steps that do not vary at all are no 0 / 0
_ANGLES = 64  # corrected at a time


def remove_proven(
    sinogram: NDArray[np.float32], options: StripesBlock = StripesBlock()
) -> NDArray[np.float32]:
    """Interpolate bad columns; subtract significant offsets of the whole scan, or of parts.

    Useless are columns that do not change with the angle, and those whose difference from their
    neighbours changes more than any offset does. The values of a sinogram (n_angles, n_cols) are
    the same where nothing is proven, and with less than 16 angles.

    Of the options `threshold` is the standard errors of a normal distribution by which a step
    between columns must differ from none (of few angles, and so of errors not well known, it takes
    more); with `size_px`, stripes of parts of a scan go up to a quarter of it.
    """
    out = sinogram.copy()
    bounds = np.linspace(0, len(out), min(_BLOCKS, len(out)) + 1).astype(int)
    if len(out) < _FEWEST or out.shape[1] < 5:
        return out
    profiles = _block_means(out, bounds)
    # columns that do not change with the angle, where those around do
    dead = profiles.std(axis=0) < _DEAD * _median(profiles, 7).std(axis=0)
    if dead.any():
        interpolate_columns(out, dead)
        profiles = _block_means(out, bounds)
    offsets = np.zeros_like(profiles)
    threshold, size_px = options.threshold, options.size_px or GATED_SIZE_PX
    for window in (size_px // 2, size_px):  # fine ones first: coarse ones then find few steps
        offsets += _constant_offsets(profiles - offsets, threshold, size_px, window)
    offsets += _changing_offsets(profiles - offsets, threshold, size_px)
    alone = _find_alone(profiles - offsets)
    offsets[:, alone | _find_round(offsets, profiles, size_px)] = 0
    _subtract(out, offsets, bounds)
    interpolate_columns(out, alone)
    return out


def _block_means(sinogram: NDArray[np.float32], bounds: NDArray[np.intp]) -> Profiles:
    """Return the mean profile of each block of angles."""
    blocks = pairwise(bounds.tolist())
    return np.stack([sinogram[a:b].mean(axis=0, dtype=np.float64) for a, b in blocks])


def _constant_offsets(profiles: Profiles, threshold: float, size_px: int, window: int) -> Profiles:
    """Return the offset of each column (1, n_cols) that all angles share."""
    steps = _steps(profiles, size_px)
    shared, error, freedom = _trimmed_means(steps)
    least = _false_discovery_limit(shared / error, threshold, freedom)
    if not np.any(np.abs(shared) > least * error):
        return np.zeros((1, profiles.shape[1]))
    ridges = _ridges(_proven(shared, error, least, size_px), error, least, window)
    return _two_sided(ridges, shared / error, least, _side_limits(threshold, steps, freedom))


def _changing_offsets(profiles: Profiles, threshold: float, size_px: int) -> Profiles:
    """Return offsets (n_blocks, n_cols) that half of a scan shares, around each block of it.

    Of narrow stripes alone: what is wide and near the axis stays in its columns for a while.
    """
    steps = _steps(profiles, size_px)
    n_blocks = len(profiles)
    half = n_blocks // 4
    shared = _median(steps.T, 2 * half + 1).T
    block = np.arange(n_blocks)
    # At the ends the window is mirrored: it holds fewer blocks, some of them twice.
    first, last = np.maximum(block - half, 0), np.minimum(block + half + 1, n_blocks)
    count = (last - first)[:, None]
    error = np.maximum(_error_in_a_row(steps - shared, count), _TINY)
    freedom = _MEDIAN_FREEDOM * (n_blocks - 1)
    least = _quantile(_share_below(-_PARTS * threshold), freedom)
    # Structure that reverses stays in a column for a while, a stripe for all of the window.
    up = np.pad(np.cumsum(steps > 0, axis=0), ((1, 0), (0, 0)))
    risen = (up[last] - up[first]) / count
    agree = np.where(shared > 0, risen, 1 - risen) > _AGREE
    certain = (agree & (np.abs(shared) > least * error)).any(axis=0)
    if not certain.any():
        return np.zeros_like(profiles)
    proven = np.where(certain, _proven(shared, error, least, size_px), 0)
    ridges = _ridges(proven, error, least, size_px // 2)
    return _two_sided(ridges, shared / error, least, _side_limits(threshold, steps, freedom))


def _steps(profiles: Profiles, size_px: int) -> Profiles:
    """Return the steps between columns less the usual one around, so that slopes vanish."""
    steps = np.diff(profiles, axis=1)
    return np.asarray(steps - _median(steps, 3 * (size_px // 2) + 1))


def _trimmed_means(steps: Profiles) -> tuple[Profiles, Profiles, int]:
    """Return means over blocks less the outer ones, their errors, degrees of freedom ([3])."""
    n = len(steps)
    core, winsorised = _pull_in(steps)
    cut = (n - len(core)) // 2
    error = winsorised.std(axis=0, ddof=1, keepdims=True) / ((1 - 2 * cut / n) * np.sqrt(n))
    return core.mean(axis=0, keepdims=True), np.maximum(error, _TINY), len(core) - 1


def _pull_in(values: Profiles) -> tuple[Profiles, Profiles]:
    """Return values of blocks in order, without the outer ones and with these pulled in."""
    ranked = np.sort(values, axis=0)
    cut = int(_TRIM * len(ranked))
    core = ranked[cut : len(ranked) - cut]
    return core, np.clip(ranked, core[0], core[-1])


def _share_below(deviation: float) -> float:
    """Return the share of a normal distribution below `deviation`."""
    from scipy.special import ndtr

    return float(ndtr(deviation))


def _quantile(tail: Any, freedom: float) -> Any:
    """Return what Student's t exceeds with such a probability."""
    from scipy.special import stdtrit  # slow to import, and every job imports this module

    return -stdtrit(freedom, np.clip(tail, 1e-300, 0.5))  # of 0 SciPy returns the wrong infinity


def _false_discovery_limit(scores: Profiles, threshold: float, freedom: float) -> float:
    """Return the least score that counts: lower where many stand out ([4]); else all at once."""
    ranked = np.sort(np.abs(scores), axis=None)[::-1]
    limits = _quantile(_share_below(-threshold) * np.arange(1, ranked.size + 1), freedom)
    above = np.flatnonzero(ranked > limits)
    return float(limits[above[-1] if above.size else 0])


def _side_limits(threshold: float, steps: Profiles, freedom: float) -> NDArray[np.float64]:
    """Return what the second side of a ridge must exceed, by the columns between the sides.

    That chance makes a side next to an edge is as unlikely as that it makes one step that counts
    in all of a row: the risk is shared out among the positions, on both sides of the edge.
    """
    risk = 2 * _share_below(-threshold) * steps.shape[1]
    return np.asarray(_quantile(risk / (2 * np.arange(1, steps.shape[1] + 2)), freedom))


def _error_in_a_row(deviations: Profiles, n: Any) -> Profiles:
    """Return the standard error of medians of n blocks in a row, which may deviate alike.

    The medians of a few in a row then differ by more than those of as many independent blocks.
    """
    alone = _MEDIAN_ERROR * _spread(deviations) / np.sqrt(n)
    size = max(1, len(deviations) // _GROUPS)
    groups = deviations[: len(deviations) // size * size].reshape(-1, size, deviations.shape[1])
    return np.maximum(alone, _spread(np.median(groups, axis=1)) * np.sqrt(size / n))


def _spread(deviations: Profiles) -> Profiles:
    """Return the standard deviation over blocks (1, n_cols), robustly."""
    return np.asarray(NORMAL_PER_MAD * np.median(np.abs(deviations), axis=0)[None])


def _proven(steps: Profiles, error: Profiles, threshold: float, size_px: int) -> Profiles:
    """Return the steps that are significant, with half as significant ones beside; 0 elsewhere."""
    strong = np.abs(steps) > threshold * error
    near = _around(strong, size_px // 2) > 0
    steps = np.where(near & (np.abs(steps) > 0.5 * threshold * error), steps, 0)
    product = np.zeros_like(steps)
    product[:, 1:] = steps[:, 1:] * steps[:, :-1]
    reach = size_px // 4 + 1
    slope = (steps != 0) & (_around(product, reach) > _RUN * _around(steps**2, reach))
    return np.where(_around(slope, size_px // 4) > 0, 0, steps)


def _ridges(steps: Profiles, error: Profiles, threshold: float, window: int) -> Profiles:
    """Add steps up, and return what a running median takes off; it leaves slopes and edges."""
    level = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
    ridge = level - _median(level, window)
    error = np.broadcast_to(error, steps.shape)
    sides = np.pad(error, ((0, 0), (1, 1)), mode="edge")
    least = np.minimum(sides[:, 1:], sides[:, :-1])
    return np.where(np.abs(ridge) > 0.5 * threshold * least, ridge, 0)


def _two_sided(
    ridges: Profiles, scores: Profiles, least: float, side_limits: NDArray[np.float64]
) -> Profiles:
    """Return the ridges with two proven sides: one by `least`, the other by its own limit."""
    sign = np.sign(ridges)
    begins = np.ones(sign.shape, bool)
    begins[:, 1:] = sign[:, 1:] != sign[:, :-1]
    first = np.flatnonzero(begins)
    width = np.diff(first, append=sign.size)
    into = np.pad(scores, ((0, 0), (1, 0))) * sign
    out_of = -np.pad(scores, ((0, 0), (0, 1))) * sign
    rise = np.maximum.reduceat(into.ravel(), first)
    fall = np.maximum.reduceat(out_of.ravel(), first)
    second = np.minimum(least, side_limits[width - 1])
    both = (np.maximum(rise, fall) > least) & (np.minimum(rise, fall) > second)
    return np.where(np.repeat(both, width).reshape(sign.shape), ridges, 0)


def _find_round(offsets: Profiles, profiles: Profiles, size_px: int) -> NDArray[np.bool_]:
    """Tell which columns hold ridges with a mirror image, so that they are of the object."""
    result = np.zeros(offsets.shape[1], bool)
    ridges = offsets.mean(axis=0)
    if not ridges.any():
        return result
    level = profiles.mean(axis=0, keepdims=True)
    level = (level - _median(level, size_px))[0]
    axis = _mirror_axis(level - ridges)  # two stripes alike would give one of their own
    if axis is None:
        return result
    reach = len(level) + _OFF_AXIS
    beyond = np.pad(level, reach)
    for first, last in _spans(ridges):
        cols = np.arange(first, last)
        ridge = ridges[first:last]
        itself = ridge @ level[cols]
        images = [
            ridge @ beyond[reach + twice - cols]
            for twice in range(axis - _OFF_AXIS, axis + _OFF_AXIS + 1)
        ]
        result[cols] = 2 * first <= axis <= 2 * (last - 1) or any(
            image > _IMAGE * (ridge @ ridge) and _ALIKE * itself < image < itself / _ALIKE
            for image in images
        )
    return result


def _mirror_axis(level: NDArray[np.float64]) -> int | None:
    """Return twice the column about which a profile is its own mirror image, if there is one."""
    limit = np.sqrt(np.mean(level**2))  # else the strongest columns alone would decide
    level = np.clip(level, -limit, limit)
    alike = np.convolve(level, level)
    alike[::2] -= level**2  # what lies on the axis is alike for no merit of its own
    best = int(alike.argmax())
    return best if alike[best] > _ROUND * (level @ level) else None


def _spans(ridges: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the columns [first, last) of each ridge, which has one sign."""
    sign = np.sign(ridges)
    bounds = [0, *(np.flatnonzero(np.diff(sign)) + 1).tolist(), len(sign)]
    return [(first, last) for first, last in pairwise(bounds) if sign[first]]


def _find_alone(profiles: Profiles) -> NDArray[np.bool_]:
    """Tell which columns, up to three in a row, leave the line between two that agree.

    At most angles: thin structure along the beam leaves it too, at a few.
    """
    n_cols, least = profiles.shape[1], _LEAST * profiles.std()
    alone = np.zeros(n_cols, bool)
    for width in (1, 2, 3):
        n = n_cols - width - 1
        before, after = profiles[:, :n], profiles[:, width + 1 :]
        apart = (after - before).std(axis=0)
        apart = _ALONE * (np.maximum(apart, np.median(apart)) + least)
        parts = [(i, i / (width + 1)) for i in range(1, width + 1)]
        off = [profiles[:, i : n + i] - before * (1 - t) - after * t for i, t in parts]
        result = np.flatnonzero(np.min([_usual_spread(rest) for rest in off], axis=0) > apart)
        for i, _ in parts:
            alone[result + i] = True
    return alone


def _usual_spread(values: Profiles) -> Profiles:
    """Return the standard deviation over blocks, whatever a few of them are."""
    return np.asarray(_pull_in(values)[1].std(axis=0) / _WINSORISED)


def _subtract(sinogram: NDArray[np.float32], offsets: Profiles, bounds: NDArray[np.intp]) -> None:
    """Take offsets off the columns that have some, interpolated between the blocks, in place."""
    cols = np.flatnonzero(offsets.any(axis=0))
    if not cols.size:
        return
    middle = (bounds[:-1] + bounds[1:] - 1) / 2
    offset = offsets[:, cols].astype(np.float32)
    for first in range(0, len(sinogram), _ANGLES):
        angle = np.arange(first, min(first + _ANGLES, len(sinogram)))
        left = np.clip(np.searchsorted(middle, angle, side="right") - 1, 0, len(middle) - 2)
        part = np.clip((angle - middle[left]) / (middle[left + 1] - middle[left]), 0, 1)
        weight = part.astype(np.float32)[:, None]
        between = offset[left] * (1 - weight) + offset[left + 1] * weight
        sinogram[first : first + _ANGLES, cols] -= between


def _median(values: Profiles, size: int) -> Profiles:
    """Return the running median along the last axis."""
    lines = np.ascontiguousarray(values, np.float32)
    return np.asarray(kernels_of(np).running_median(lines, size), np.float64)


def _around(values: Any, reach: int) -> Profiles:
    """Return the sum over the columns up to `reach` away; exactly 0 where all of them are."""
    wide = np.pad(np.asarray(values, np.float64), ((0, 0), (reach + 1, reach)))
    total = np.cumsum(wide, axis=1)
    return np.asarray(total[:, 2 * reach + 1 :] - total[:, : -2 * reach - 1])
