"""The CORs of the views of one file over time: a constant, or a line (`fix_cor.over_time`).

The constant is the median of the CORs, the line the robust one of `tomopipe.cor.series_line`, over
the numbers of the views. Its error is judged as that of `tomopipe.cor.fill`: by leaving out one
trusted COR after the other [1]_. Beyond its CORs a line is less certain [2]_.

References
----------
.. [1] M. Stone, "Cross-validatory choice and assessment of statistical predictions", J. R. Stat.
   Soc. B 36, 111 (1974), doi:10.1111/j.2517-6161.1974.tb00994.x.
.. [2] N. R. Draper, H. Smith, "Applied Regression Analysis", Wiley (1998), chapter 1.4.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tomopipe.cor.fill import BEYOND, Fill, Point, stated_error
from tomopipe.cor.outliers import Fix

if TYPE_CHECKING:
    from tomopipe.cor.series_line import Line  # with NumPy, which few tables need

_MANY = 200  # CORs of a model, evenly chosen of more, and judges: the work stays small
_STEP_PX = 0.05  # of CORs by the model: a further view does not move those of all others a little
_LEAST_OF_LINE = 3
_LEAST_FOR_SCATTER = 5  # as of `tomopipe.cor.series_line`

_Model = tuple[float, float]  # COR at number 0, and change per number


class OverTime:
    """Models the CORs of good scans of a file, and gives other scans theirs."""

    def __init__(self, points: Iterable[Point], kind: str) -> None:
        """`kind` is `fix_cor.over_time`; a line through fewer than three CORs is a constant."""
        good = [p for p in points if p.is_good and p.cor_px is not None]
        good.sort(key=lambda p: (p.index, p.scan))
        self._points, self._is_line = _evenly(good), kind == "line" and len(good) >= _LEAST_OF_LINE
        self._model, self._n = self._fit(self._points), len(good)
        self._errors_px: list[float] | None = None
        self._judges = _evenly([p for p in good if p.is_trusted])

    @property
    def name(self) -> str:
        """The name of the model."""
        return f"{'line' if self._is_line else 'constant'} over time"

    def at(self, index: float) -> float | None:
        """Return the COR by the model; None if there is no COR to model."""
        return self._model and self._model[0] + self._model[1] * index

    def line(self) -> "Line | None":
        """Return the model as a line, with the scatter of its CORs about it."""
        if self._model is None:
            return None
        from tomopipe.arrays import NORMAL_PER_MAD  # with NumPy, as below
        from tomopipe.cor.series_line import Line

        (start_px, slope_px), points = self._model, self._points
        away_px = [abs((p.cor_px or 0.0) - start_px - slope_px * p.index) for p in points]
        enough = len(points) >= _LEAST_FOR_SCATTER
        scatter_px = NORMAL_PER_MAD * statistics.median(away_px) if enough else None
        return Line(start_px, slope_px, scatter_px)

    def fill(self, point: Point, _: str = "") -> Fill | None:
        """Return the COR of a scan that does not count in the model, with its error."""
        if self._model is None:
            return None
        if self._errors_px is None:
            errors_px = map(self._error, self._judges)
            self._errors_px = [px for px in errors_px if px is not None]
        error_px, n = stated_error(self._errors_px), len(self._errors_px)
        stated_px = None if error_px is None else error_px * self._times(point.index)
        return Fill(_rounded(self._model, point), "time", stated_px, n, n_mean=self._n)

    def _fit(self, points: Sequence[Point]) -> _Model | None:
        cors_px = [p.cor_px or 0.0 for p in points]
        if self._is_line:
            from tomopipe.cor.series_line import robust_line  # with NumPy, which few tables need

            if line := robust_line([p.index for p in points], cors_px):
                return line.start_px, line.slope_px
        return (statistics.median(cors_px), 0.0) if cors_px else None

    def _error(self, judge: Point) -> float | None:
        """Return how far the model of the other scans, if there are any, is from the COR of one."""
        model = self._fit([p for p in self._points if p.scan != judge.scan])
        return abs(_rounded(model, judge) - (judge.cor_px or 0.0)) if model else None

    def _times(self, index: int) -> float:
        """Return how many times larger than among its CORs the error of the model is."""
        if not self._is_line:
            return 1.0
        at = [p.index for p in self._points]
        mean = statistics.fmean(at)
        spread = math.fsum((n - mean) ** 2 for n in at) or 1.0
        of_slope = math.sqrt(1 + 1 / len(at) + (index - mean) ** 2 / spread)
        return of_slope * (1.0 if at[0] <= index <= at[-1] else BEYOND)


def model_of(fixes: Iterable[Fix], kind: str) -> OverTime:
    """Return the model with which `fix_cor` has compared the CORs of a file."""
    return OverTime([Point(fix.scan, fix.index, cor_px=fix.before_px) for fix in fixes], kind)


def _rounded(model: _Model, point: Point) -> float:
    return round(round((model[0] + model[1] * point.index) / _STEP_PX) * _STEP_PX, 2)


def _evenly(points: Sequence[Point]) -> list[Point]:
    n = len(points)
    return [points[k * n // _MANY] for k in range(_MANY)] if n > _MANY else [*points]
