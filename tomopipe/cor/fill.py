"""Fill a missing COR with the best of three estimates, and state the error of that one.

The estimates are that of the rules of a series (`tomopipe.cor.outliers`), the robust line of the
series [1]_, and the mean of scans at the same place: the axis follows the stage, so that it returns
when the stage does. Each is judged by leaving out one trusted COR after the other [2]_; the error
is the quantile of the errors at which new ones are covered with a probability of 0.9 [3]_, of fewer
than twelve errors the limit of Student's distribution if that is larger.

Pure functions on values in unbinned, uncropped detector pixels.

References
----------
.. [1] P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat.
   Assoc. 63, 1379 (1968), doi:10.1080/01621459.1968.10480934.
.. [2] M. Stone, "Cross-validatory choice and assessment of statistical predictions", J. R. Stat.
   Soc. B 36, 111 (1974), doi:10.1111/j.2517-6161.1974.tb00994.x.
.. [3] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer
   (2005), chapter 2.
"""

import math
import statistics
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tomopipe.cor.outliers import mean_px, neighbours_agree

LEAST_JUDGES = 3
N_SERIES = 4  # series compared with one, before it and after it
_N_NEAR = 30  # scans compared with one: a series may bend, or be remounted
_ENOUGH = 12  # errors from which the 0.9 quantile lies among them
_COVERAGE = 0.92  # more than 0.9, as the least of three errors is taken
_GAP = "gap"  # the rules for a gap
_LEAST_ERROR_PX = 0.1  # of the best CORs that judge
_BETTER, _BETTER_PX = 0.5, 0.1  # another estimate than that of the rules errs at most half as much
_NOISES = 1.0
_MANY = 20  # judges whose mean error alone tells whether a line is better
BEYOND = 1.6  # a line errs so much more beyond its scans than at those left out, if they bend
_N_PLACE = 2  # scans at the same place before and after that are averaged
_REVERSED = 0.5  # a series is taken as reversed if it then fits so much better
_SAME_HEIGHT = 0.02  # of the range of the heights
# limits of Student's distribution for 0.95 (two-sided), by degrees of freedom from 1: of few scans
# the least of three errors is so by chance more often
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Point:
    """A scan and its COR: where it is in its series, and where the series is in the campaign."""

    scan: str
    index: int
    order: int = 0  # of its series in file order: 0 that of the scan to fill, -1 the one before
    position: int = 1  # in its series, from 1
    length: int = 1  # scans of its series
    layout: tuple[int, str] = (0, "")  # columns and size of the pixels: equal ones are compared
    height: float | None = None  # of the stage, in any unit
    cor_px: float | None = None
    is_good: bool = True  # a neighbour by the rules
    is_in_mean: bool = True  # counts in the mean of the series
    is_trusted: bool = True  # by hand, or predicted without doubt: it judges


@dataclass(frozen=True)
class Fill:
    """The COR for a scan without one; `error_px` covers the truth in 0.9 of the cases."""

    cor_px: float
    source: str  # that of the rules, "line" or "place"
    error_px: float | None  # None: no trusted COR judges it
    n_judges: int
    scans: tuple[str, ...] = ()  # whose mean it is; none for that of the series
    n_mean: int = 0  # scans of the mean of the series


_Estimate = tuple[float, tuple[str, ...]]  # COR, and the scans whose mean it is


def stated_error(errors_px: Sequence[float]) -> float | None:
    """Return the error that covers the next one with a probability of 0.9; None for no errors."""
    n, ordered = len(errors_px), sorted(errors_px)
    if n == 0:
        return None
    if n >= _ENOUGH:
        return max(_LEAST_ERROR_PX, ordered[min(n, math.ceil(_COVERAGE * (n + 1))) - 1])
    rms_px = math.sqrt(math.fsum(error**2 for error in errors_px) / n)
    return max(_LEAST_ERROR_PX, ordered[-1], _STUDENT[max(n - 2, 0)] * rms_px)


def _error_if_better(
    errors: Mapping[str, float], rules: Sequence[Mapping[str, float]], times: float
) -> float | None:
    """Return the mean error of an estimate if it is smaller than that of each of the rules.

    Of few judges so must its stated error be, `times` as large.
    """
    if len(errors) < LEAST_JUDGES:
        return None
    for by_rule in rules:
        both = errors.keys() & by_rule.keys()
        if len(both) < LEAST_JUDGES:
            return None
        gains_px = [by_rule[scan] - errors[scan] for scan in both]
        rule_px = mean_px([by_rule[scan] for scan in both])
        noise_px = statistics.stdev(gains_px) / math.sqrt(len(both))
        if mean_px(gains_px) <= max((1 - _BETTER) * rule_px, _BETTER_PX, _NOISES * noise_px):
            return None
        stated_px = stated_error([errors[scan] for scan in both]) or 0.0
        if len(both) < _MANY and times * stated_px >= rule_px:
            return None
    return mean_px([*errors.values()])


class Estimates:
    """Estimates the CORs of scans from the others of their series, and of those around it.

    Of `points`, of equal columns and pixels, those with a COR count. A scan does not serve for its
    own estimate.
    """

    def __init__(self, points: Iterable[Point]) -> None:
        self._of: dict[int, list[Point]] = {}
        for point in sorted((p for p in points if p.cor_px is not None), key=_rank):
            self._of.setdefault(point.order, []).append(point)
        self._in_mean = {
            order: {p.scan: p.cor_px or 0.0 for p in own if p.is_in_mean}
            for order, own in self._of.items()
        }
        self._sum_px = {order: math.fsum(own.values()) for order, own in self._in_mean.items()}
        heights = [p.height for own in self._of.values() for p in own if p.height is not None]
        self._same = _SAME_HEIGHT * (max(heights) - min(heights)) if heights else 0.0
        self._cache: dict[tuple[str, str, int], _Estimate | None] = {}

    def fill(self, point: Point, rule: str = "") -> Fill | None:
        """Return the best estimate for a scan; None if there is none.

        `rule`: outlier, the mean of the nearest good scans; "" for that of a gap, by
        `tomopipe.cor.outliers`: neighbours that agree, else the mean of the series. Another
        estimate must err less than the rule, and than the rules for gaps where each applies; it
        needs three trusted CORs that judge it. Of a line that fewer than 20 judge even the
        stated error must be less.
        """
        good = [p for p in self._of.get(point.order, []) if p.is_good and p.scan != point.scan]
        gap = min((abs(p.index - point.index) for p in good), default=1)
        judges, in_gaps = self._judges(point), rule or _GAP
        rule = rule or self._rule(point, gap)
        own, errors = self._estimate(point, rule, gap), self._errors(judges, rule, gap)
        if rule == "neighbours" and len(errors) < LEAST_JUDGES:
            # of few scans the neighbours agree, as those of the one to fill do by chance
            errors = self._errors(judges, "outlier", gap)
        rules = [errors, self._errors(judges, in_gaps, gap)] if own else []
        result, least_px = (own, rule, errors, 1.0) if own else None, math.inf
        for source in ("line", "place"):
            estimate, errors = self._estimate(point, source, gap), self._errors(judges, source, gap)
            times = BEYOND if source == "line" and self._is_beyond(point) else 1.0
            sure = times if source == "line" else 0.0
            error_px = _error_if_better(errors, rules, sure) if estimate else None
            if estimate and error_px is not None and error_px < least_px:
                result, least_px = (estimate, source, errors, times), error_px
        if result is None:
            return None
        (cor_px, scans), source, errors, times = result
        error_px, n_mean = stated_error([*errors.values()]), len(self._in_mean.get(point.order, {}))
        stated_px = None if error_px is None else times * error_px
        return Fill(cor_px, source, stated_px, len(errors), scans, n_mean)

    def _is_beyond(self, point: Point) -> bool:
        """Tell whether all scans that serve for the line are on one side of a scan."""
        return len({_rank(p) > _rank(point) for p in self._nearest(point) if _is_donor(p)}) < 2

    def _judges(self, point: Point) -> list[Point]:
        """Return the trusted scans nearest to one; of other series if its own has few."""
        own = [p for p in self._nearest(point) if p.is_trusted]
        if len(own) >= _ENOUGH:
            return own
        others = [p for order, each in self._of.items() if order != point.order for p in each]
        alike = [p for p in others if p.is_trusted and p.length == point.length]
        alike.sort(key=lambda p: abs(p.order - point.order))
        return own + alike[: _N_NEAR - len(own)]

    def _errors(self, judges: Iterable[Point], source: str, gap: int) -> dict[str, float]:
        """Return the error of an estimate for each judge that has it."""
        results = {}
        for judge in judges:
            estimate = self._estimate(judge, source, gap)
            if estimate and judge.cor_px is not None:
                results[judge.scan] = abs(estimate[0] - judge.cor_px)
        return results

    def _estimate(self, point: Point, source: str, gap: int) -> _Estimate | None:
        """Return the COR that a source gives a scan, and the scans whose mean it is."""
        key = point.scan, source, gap
        if key not in self._cache:
            if source == "line":
                self._cache[key] = self._on_line(point, gap)
            elif source == "place":
                self._cache[key] = self._at_place(point)
            else:
                rule = self._rule(point, gap) if source == _GAP else source
                by_mean = rule == "series-mean"
                self._cache[key] = self._mean(point) if by_mean else self._near(point, rule, gap)
        return self._cache[key]

    def _rule(self, point: Point, gap: int) -> str:
        """Return the rule that fills a gap."""
        return "neighbours" if self._near(point, "neighbours", gap) else "series-mean"

    def _nearest(self, point: Point) -> list[Point]:
        """Return the scans of a series next to one, without it."""
        own = self._of.get(point.order, [])
        at = bisect_left(own, _rank(point), key=_rank)
        first = max(0, min(at - _N_NEAR // 2, len(own) - 1 - _N_NEAR))
        return [p for p in own[first : first + _N_NEAR + 1] if p.scan != point.scan]

    def _mean(self, point: Point) -> _Estimate | None:
        """Return the mean of the series."""
        own, sum_px = self._in_mean.get(point.order, {}), self._sum_px.get(point.order, 0.0)
        without = own.get(point.scan)
        n = len(own) - (without is not None)
        return ((sum_px - (without or 0.0)) / n, ()) if n else None

    def _near(self, point: Point, rule: str, gap: int) -> _Estimate | None:
        """Return the mean of the nearest good scan on each side."""
        near = [p for p in self._nearest(point) if p.is_good and _is_apart(p, point, gap)]
        at = bisect_left(near, _rank(point), key=_rank)
        sides = near[max(0, at - 1) : at + 1]
        cors_px = _cors_px(sides)
        if not cors_px or (rule == "neighbours" and not neighbours_agree(cors_px)):
            return None
        return mean_px(cors_px), tuple(p.scan for p in sides)

    def _on_line(self, point: Point, gap: int) -> _Estimate | None:
        """Return the COR on the robust line through the nearest scans."""
        from tomopipe.arrays import theil_sen  # with NumPy, which few tables need

        near = [p for p in self._nearest(point) if _is_donor(p) and _is_apart(p, point, gap)]
        away, cors_px = [float(p.index - point.index) for p in near], _cors_px(near)
        line = theil_sen(away, cors_px) if len(near) >= LEAST_JUDGES else None
        if line is None:
            return None
        on_line_px = [px - line[0] * n for n, px in zip(away, cors_px, strict=True)]
        return statistics.median(on_line_px), ()

    def _at_place(self, point: Point) -> _Estimate | None:
        """Return the mean of the nearest scans at the same place, two before and two after."""
        same = self._at_height(point) or self._at_position(point)
        before = [p for p in same if _rank(p) < _rank(point)][-_N_PLACE:]
        near = before + [p for p in same if _rank(p) > _rank(point)][:_N_PLACE]
        return (mean_px(_cors_px(near)), tuple(p.scan for p in near)) if near else None

    def _at_height(self, point: Point) -> list[Point]:
        if point.height is None or not self._same:
            return []
        return [
            p
            for order in sorted(self._of)
            for p in self._of[order]
            if _is_donor(p) and p.scan != point.scan and p.height is not None
            if abs(p.height - point.height) <= self._same
        ]

    def _at_position(self, point: Point) -> list[Point]:
        """Return the scans at the same position in series of equal length, reversed or not."""
        own = {p.position: p for p in self._of.get(point.order, []) if p.scan != point.scan}
        results = []
        for order in sorted(self._of):
            each = {p.position: p for p in self._of[order] if _is_donor(p)}
            if order == point.order or self._of[order][0].length != point.length:
                continue
            forward_px, reverse_px = (_misfit(own, each, reverse=way) for way in (False, True))
            is_reversed = reverse_px < _REVERSED * forward_px
            at = _reversed(point.position, point.length) if is_reversed else point.position
            results += [each[at]] if at in each else []
        return results


def _reversed(position: int, length: int) -> int:
    return length + 1 - position


def _misfit(own: dict[int, Point], other: dict[int, Point], *, reverse: bool) -> float:
    """Return how two series differ in shape, one of them reversed or not."""
    away_px = [
        (p.cor_px or 0.0) - (other[at].cor_px or 0.0)
        for p in own.values()
        if (at := _reversed(p.position, p.length) if reverse else p.position) in other
    ]
    if len(away_px) < 2:
        return math.inf if reverse else 0.0
    return statistics.pstdev(away_px)


def _is_donor(point: Point) -> bool:
    return point.is_good and point.is_trusted


def _cors_px(points: Iterable[Point]) -> list[float]:
    return [p.cor_px for p in points if p.cor_px is not None]


def _rank(point: Point) -> tuple[int, int, str]:
    return point.order, point.index, point.scan


def _is_apart(other: Point, point: Point, gap: int) -> bool:
    """Tell whether a scan is not within a gap as wide as that of the scan to fill."""
    return other.scan != point.scan and abs(other.index - point.index) >= gap
