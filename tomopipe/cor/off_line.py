"""CORs that the others of their series contradict, by models of how CORs go along a series.

A model says how CORs depend on their distance in the series: not at all but for a line (a still
axis, a drift), as a random walk, smoothly, or in cycles; each as a Gaussian process [1]_ beside a
level and a slope, and also with two or three positions that alternate. Single scans off the model,
and steps (a sample that was remounted), are found as in other time series [2]_: the largest ones
are added one by one, then those that are not significant are dropped. The model that predicts each
scan best from all others is used, at a price for each of its steps and scans off.

References
----------
.. [1] S. Sundararajan, S. S. Keerthi, "Predictive approaches for choosing hyperparameters in
   Gaussian processes", Neural Comput. 13, 1103 (2001), doi:10.1162/08997660151134343.
.. [2] C. Chen, L.-M. Liu, "Joint estimation of model parameters and outlier effects in time
   series", J. Am. Stat. Assoc. 88, 284 (1993), doi:10.1080/01621459.1993.10594321.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST_SCANS = 6
_LEAST_PX = 0.2
_WINDOW = 32  # scans that are compared: a series may change
_POSITIONS = (2, 3)  # that alternate
_SAME_HEIGHT = 0.02  # of the range of the heights
_AS_FAR = 1.2  # distances within this factor are about the same
_LONGEST_GAP = 5  # after more missing scans nothing more is forgotten
# Variance per scan of a random walk, and of the bend of a smooth course, over that of the scatter.
_WALKS = (1.0, 10.0, 100.0)
_BENDS = (1e-3, 0.03, 1.0, 30.0)
_CYCLE = 300.0  # variance of a cycle over that of the scatter
_IN_CYCLE = 4  # parameters of a cycle: size, phase, frequency and how it changes
_SHORTEST_CYCLE, _LONGEST_CYCLE = 2.9, 12.0  # in scans; smooth courses are longer ones
# Of fewer scans a cycle is steady: one that changes describes any course, wrong CORs included.
_FEW_SCANS, _SHORTEST_STEADY = 24, 3.7
_ROUNDING_PX = 0.003  # least scatter: CORs are stored with two decimals
# Prices in units of log likelihood. An event (a scan off, a step) is one scan of a hundred, and
# as likely at any of 130 px; a step is more likely.
_EVENT, _LEAST_EVENT, _STEP = 8.5, 5.0, 3.5
_WALK_PRICE, _BEND_PRICE, _CYCLE_PRICE = 0.5, 1.0, 4.0
_PLACE_PRICE, _POSITION_PRICE = 1.0, 2.0  # recorded, and for each one that alternates
# Size of an event, in standard deviations, that scatter alone exceeds in 2 of 1000: Student's t by
# degrees of freedom. (scipy.special, which has it, takes long to import.)
_SIGNIFICANT = {1: 318.3, 2: 22.33, 3: 10.21, 4: 7.173, 5: 5.893, 6: 5.208, 7: 4.785, 8: 4.501,
                10: 4.144, 15: 3.733, 30: 3.385, np.inf: 3.090}  # fmt: skip


@dataclass(frozen=True)
class OffLine:
    """A COR that its series contradicts: its distance from what the others give, and the scatter.

    The scatter is the standard deviation of that distance for a right COR.
    """

    off_px: float
    spread_px: float


def off_line(
    index: Sequence[int], cor_px: Sequence[float], height_mm: Sequence[float | None] = ()
) -> dict[int, OffLine]:
    """Find the CORs of a series that no model of the series, and no other scan, supports.

    Parameters
    ----------
    index : sequence of int, shape (n,)
        Numbers of the scans in the series, ascending; numbers may be missing, or repeated.
    cor_px : sequence of float, shape (n,)
        Their trusted CORs, pixels.
    height_mm : sequence of float or None, shape (n,), optional
        Heights of the stage, if they are recorded: the axis may follow the stage.

    Returns
    -------
    dict of int to OffLine
        By position in the arguments: single CORs more than 0.2 px from what their series gives on
        either side of a step, where scatter alone gives as much in 2 of 1000. Not those
        that share their distance with another one, as samples at another position do, nor one
        farther from the others than these span. Fewer than six scans give none.
    """
    x, y = np.asarray(index, np.int64), np.asarray(cor_px, float)
    place = _places(height_mm)
    result: dict[int, OffLine] = {}
    for window, judged in _windows(len(x)):
        if np.ptp(y[window]) <= _LEAST_PX:  # none is off the others by more
            continue
        apart = np.diff(x[window])
        near = apart // (np.gcd.reduce(apart) or 1)
        events = _best_events(_models(tuple(near.tolist()), place[window]), y[window])
        off = events.off(len(near) + 1)
        for scan in _beyond(apart):
            off.pop(scan, None)
        named = _unshared(y[window], off)
        result |= {window.start + k: one for k, one in named.items() if k + window.start in judged}
    return result


def _places(height_mm: Sequence[float | None]) -> tuple[int, ...]:
    """Return a number for each height; none if a height is missing."""
    heights = [height for height in height_mm if height is not None]
    if not heights or len(heights) < len(height_mm):
        return ()
    order = np.argsort(heights)
    apart = np.diff(np.sort(heights)) > _SAME_HEIGHT * np.ptp(heights)
    place = np.zeros(len(heights), int)
    place[order[1:]] = np.cumsum(apart)
    return tuple(place.tolist())


def _beyond(apart: NDArray[np.int64]) -> Iterator[int]:
    """Yield the scans at an end that are farther from the others than these span."""
    for scan, gap in ((0, apart[0]), (len(apart), apart[-1])):
        if gap > apart.sum() - gap:
            yield scan


def _windows(n: int) -> Iterator[tuple[slice, range]]:
    """Yield overlapping windows of a series, and the scans that are judged in each."""
    if n < _LEAST_SCANS:
        return
    first = judged = 0
    while judged < n:
        first = min(first, max(0, n - _WINDOW))
        stop = min(first + _WINDOW, n)
        end = n if stop == n else stop - _WINDOW // 4
        yield slice(first, stop), range(judged, end)
        first, judged = first + _WINDOW // 2, end


@dataclass(frozen=True)
class _Models:
    """Models of one spacing of n scans, for CORs in units of the scatter.

    Event e is scan e off, or a step at scan e - n: it and all later ones are moved.
    """

    precision: Array  # (n_models, n, n): inverse covariance, level and slope projected out
    events: Array  # (n_models, 2 n, n): its product with each event
    weight: Array  # (n_models, 2 n): that again with the event; 0 for events that are not used
    n_free: NDArray[np.int64]  # (n_models,): scans less parameters
    price: Array  # (n_models,)


def _with_steps(values: NDArray) -> NDArray:
    """Append to (..., n) the sums from each scan to the last: products with impulses and steps."""
    return np.concatenate([values, values[..., ::-1].cumsum(-1)[..., ::-1]], axis=-1)


@lru_cache(16)
def _models(apart: tuple[int, ...], place: tuple[int, ...]) -> _Models:
    """Make the models of scans whose numbers are `apart`, one less than scans, at these places."""
    n = len(apart) + 1
    # a drift goes on over missing numbers
    number = np.cumsum([0, *np.minimum(apart, n)]).astype(float)
    line = np.stack([np.ones(n), (number - number.mean()) / max(number.std(), 1.0)], axis=1)
    time = np.cumsum([0, *np.minimum(apart, _LONGEST_GAP)]).astype(float)
    flat: list[tuple[float, Array | float]] = [(0.0, 0.0)]
    groups = [(line, _courses(time), 0.0), (line[:, :1], flat, 0.0)]
    for positions, price in _positions(apart, place):
        groups.append((np.hstack([line, positions]), _courses(time, few=True), price))
        groups.append((np.hstack([line[:, :1], positions]), flat, price))
    inverses, n_free, prices = [], [], []
    for parts, courses, price in groups:
        fixed = _independent(parts)
        inverse = np.linalg.inv(np.stack([np.eye(n) + course for _, course in courses]))
        product = inverse @ fixed
        inverses.append(
            inverse - product @ np.linalg.solve(fixed.T @ product, product.transpose(0, 2, 1))
        )
        for extra, _ in courses:
            n_free.append(n - fixed.shape[1] - _IN_CYCLE * (extra >= _CYCLE_PRICE))
            prices.append(price + extra)
    precision = np.concatenate(inverses)
    events = np.concatenate([precision, precision[:, ::-1].cumsum(1)[:, ::-1]], axis=1)
    own = np.arange(2 * n)
    weight = _with_steps(events)[:, own, own]
    weight[:, [n, n + 1, 2 * n - 1]] = 0.0  # at the ends a step is a single scan off, or nothing
    return _Models(precision, events, weight, np.array(n_free), np.array(prices))


def _independent(columns: Array) -> Array:
    """Return a basis of (n, k) columns, fewer of them where some depend on others."""
    basis, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(basis[:, size > 1e-9 * size[0]])


def _courses(time: Array, *, few: bool = False) -> list[tuple[float, Array | float]]:
    """Return the covariances, each with the price of its model, without scatter."""
    n, near = len(time), np.minimum.outer(time, time)
    far = np.maximum.outer(time, time)
    courses: list[tuple[float, Array | float]] = [(0.0, 0.0)]
    walks, bends = (_WALKS[1:2], _BENDS[1:2]) if few else (_WALKS, _BENDS)
    courses += [(_WALK_PRICE, ratio * near) for ratio in walks]
    courses += [(_BEND_PRICE, ratio * near**2 * (3 * far - near) / 6) for ratio in bends]
    if few or n < 10:
        return courses
    lag, coherent, per_scan = far - near, max(n / 2, 8.0), 1 / n
    longest, shortest = _LONGEST_CYCLE, _SHORTEST_CYCLE
    if n < _FEW_SCANS:
        length = far.max() + 1
        coherent, per_scan = 1.5 * length, 1 / (3 * length)
        longest, shortest = max(length, longest), _SHORTEST_STEADY
    fade = _CYCLE * np.exp(-((lag / coherent) ** 2) / 2)
    for frequency in np.arange(1 / longest, 1 / shortest, per_scan):
        courses.append((_CYCLE_PRICE, fade * np.cos(2 * np.pi * frequency * lag)))
    return courses


def _positions(apart: tuple[int, ...], place: tuple[int, ...]) -> Iterator[tuple[Array, float]]:
    """Yield, for recorded places and two and three alternating ones, which scan is where.

    They alternate with the number of a scan, or with its order in the series. And the price.
    """
    n = len(apart) + 1
    recorded, members = np.unique(place, return_counts=True)
    if 2 <= len(recorded) <= n // 3 and members.min() >= 2:
        yield np.equal.outer(place, recorded[1:]).astype(float), _PLACE_PRICE
    numbers, places = np.cumsum([0, *apart]), np.arange(n)
    for n_positions in _POSITIONS:
        if n < 3 * n_positions:
            return
        ways = {tuple((order % n_positions).tolist()) for order in (numbers, places)}
        for position in sorted(ways):
            if min(np.bincount(position, minlength=n_positions)) >= 2:
                others = np.equal.outer(position, np.arange(1, n_positions))
                yield others.astype(float), _POSITION_PRICE * (n_positions - 1)


@dataclass(frozen=True)
class _Events:
    """The events of the best model: which, their sizes, and the covariance of these, pixels."""

    event: NDArray[np.int64]
    size_px: Array
    covariance: Array
    n_free: int

    def off(self, n: int) -> dict[int, OffLine]:
        """Return the scans that no other scan supports."""
        limit = _significant(np.array(self.n_free))
        result: dict[int, OffLine] = {}
        for scan, sides in (self._sides(n) | self._sides_at_ends(n)).items():
            off_px = sides @ self.size_px
            spread_px = np.sqrt(np.einsum("si,ij,sj->s", sides, self.covariance, sides))
            near = int(np.abs(off_px).argmin())
            if np.all(np.abs(off_px) > np.maximum(_LEAST_PX, limit * spread_px)):
                result[scan] = OffLine(float(off_px[near]), float(spread_px[near]))
        return result

    def _sides(self, n: int) -> dict[int, Array]:
        """Return the events (2, n_events) between a single scan and either side of it."""
        own, unit = self._units()
        result: dict[int, Array] = {}
        for scan in range(n):
            # both sides of a step at the scan, and of one after it
            off, step, step_after = (own.get(k) for k in (scan, n + scan, n + scan + 1))
            if off is not None:
                result[scan] = np.stack([unit[off], unit[off]])
                if step is not None:
                    result[scan][1] += unit[step]
                if step_after is not None:
                    result[scan][0] -= unit[step_after]
            elif step is not None and step_after is not None:
                result[scan] = np.stack([unit[step], -unit[step_after]])
        return result

    def _sides_at_ends(self, n: int) -> dict[int, Array]:
        """Return the same for two scans at an end that differ, beside a step.

        Either may be off: the one farther from the rest, as steps are small more often than large;
        both if they are about as far. The other one is not off: all its sides are 0.
        """
        own, unit = self._units()
        result: dict[int, Array] = {}
        for pair, step, sign in (({n - 2, n - 1}, n - 2, 1.0), ({0, 1}, 2, -1.0)):
            off = pair & own.keys()
            if len(off) == 1 and n + step in own:
                scan, level = off.pop(), sign * unit[own[n + step]]
                (other,), apart = pair - {scan}, unit[own[scan]]
                two = {scan: np.stack([level + apart, apart]), other: np.stack([level, -apart])}
                far_px = {scan: abs(sides[0] @ self.size_px) for scan, sides in two.items()}
                least_px = max(far_px.values()) / _AS_FAR
                result |= {scan: sides * (far_px[scan] > least_px) for scan, sides in two.items()}
        return result

    def _units(self) -> tuple[dict[int, int], Array]:
        """Return the number of each event, and its unit vector."""
        return {int(event): k for k, event in enumerate(self.event)}, np.eye(len(self.event))


def _unshared(cor_px: Array, named: dict[int, OffLine]) -> dict[int, OffLine]:
    """Return the named scans that are off by another distance than each other one.

    In a series that is too short for models of three positions, also those far from all other CORs.
    """
    result = {}
    for scan, own in named.items():
        alike_px = max(_LEAST_PX / 2, 3 * own.spread_px)
        away_px = [abs(o.off_px - own.off_px) for other, o in named.items() if other != scan]
        is_other = all(px > alike_px for px in away_px)
        if len(cor_px) < 3 * _POSITIONS[-1]:
            others_px = np.abs(np.delete(cor_px, scan) - cor_px[scan])
            is_other &= bool(others_px.min() > max(alike_px, np.ptp(cor_px) / 10))
        if is_other:
            result[scan] = own
    return result


def _significant(n_free: NDArray[np.int64]) -> Array:
    """Return the size of significant events in units of their standard deviation."""
    free, size = np.array([*_SIGNIFICANT.items()])[::-1].T
    return np.asarray(np.interp(1 / np.maximum(n_free, 1), 1 / free, size))


def _best_events(models: _Models, cor_px: Array) -> _Events:
    """Find the events of each model, and return those of the best one."""
    y, n = cor_px - np.median(cor_px), len(cor_px)
    pulls = models.precision @ y
    event = _largest(models, pulls, int(np.clip(n // 3, 2, 12)))
    n_models, n_events = event.shape
    each = np.arange(n_models)
    product = models.events[each[:, None], event]  # (n_models, n_events, n)
    weight = np.take_along_axis(
        _with_steps(product), np.broadcast_to(event[:, None], (n_models, n_events, n_events)), 2
    )
    pull = np.take_along_axis(_with_steps(pulls), event, 1)
    covariance = np.linalg.inv(weight)
    used = np.ones(event.shape, bool)
    while True:
        size = np.einsum("fij,fj->fi", covariance, pull)
        n_free = models.n_free - used.sum(1)
        square = (pulls @ y - (size * pull).sum(1)) / np.maximum(n_free, 1)
        variance = np.maximum(square, _ROUNDING_PX**2)
        own = np.where(used, np.einsum("fii->fi", covariance), 1.0)
        ratio = np.where(used, np.abs(size) / np.sqrt(own * variance[:, None]), np.inf)
        least = ratio.argmin(1)
        drop = np.flatnonzero(ratio[each, least] < _significant(n_free))
        if not len(drop):
            break
        k = least[drop]
        column = covariance[drop, :, k]
        covariance[drop] -= column[:, :, None] * column[:, None] / own[drop, k][:, None, None]
        covariance[drop, k], covariance[drop, :, k] = 0.0, 0.0
        used[drop, k] = False
    pulls = pulls - np.einsum("fi,fin->fn", size, product)
    weights = np.einsum("fnn->fn", models.precision) - np.einsum(
        "fin,fin->fn", product, covariance @ product
    )
    best = int(np.argmin(_costs(pulls, weights, used, event >= n) + models.price))
    of = np.flatnonzero(used[best])
    return _Events(
        event[best, of],
        size[best, of],
        covariance[best][np.ix_(of, of)] * variance[best],
        int(n_free[best]),
    )


def _largest(models: _Models, pulls: Array, n_events: int) -> NDArray[np.int64]:
    """Return the events of each model that explain most, one after the other."""
    each = np.arange(len(pulls))
    pull, weight = _with_steps(pulls), models.weight.copy()
    result = np.zeros((len(pulls), n_events), int)
    earlier = np.zeros((len(pulls), n_events, weight.shape[1]))  # products / square root of own
    for k in range(n_events):
        free = weight > 1e-6 * models.weight
        gain = np.where(free, pull**2 / np.where(free, weight, 1.0), -1.0)
        event = result[:, k] = gain.argmax(1)
        product = _with_steps(models.events[each, event])
        if k:
            product -= (earlier[each, :k, event][:, None] @ earlier[:, :k])[:, 0]
        product /= np.sqrt(weight[each, event])[:, None]
        earlier[:, k] = product
        pull = pull - product * (pull[each, event] / np.sqrt(weight[each, event]))[:, None]
        weight = weight - product**2
    return result


def _costs(pulls: Array, weights: Array, used: NDArray, is_step: NDArray) -> Array:
    """Return minus the log likelihood of each scan given all others, and the price of the events.

    Scans that an event makes independent of the others do not count, and the rest for them.
    """
    n, free = pulls.shape[1], weights > 1e-4
    n_free = np.maximum(free.sum(1), 1)
    of_free = np.where(free, weights, 1.0)
    square = np.where(free, pulls**2 / of_free, 0.0).sum(1) / n_free
    log_spread = np.log(np.maximum(square, _ROUNDING_PX**2)) / 2
    log_likelihood = -n * log_spread + np.log(of_free).sum(1) / 2 * n / n_free
    price = np.maximum(_EVENT - log_spread, _LEAST_EVENT) * used.sum(1)
    return np.asarray(price - _STEP * (used & is_step).sum(1) - log_likelihood)
