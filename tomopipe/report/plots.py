"""Geometry of the plots: positions of values in an SVG drawing, which the template draws."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from tomopipe.campaign.results import Curve
from tomopipe.campaign.state.facts import ACCEPTED, NOT_SELECTED
from tomopipe.campaign.state.signs import State, source_named
from tomopipe.cor.cor_value import same_cor, signed
from tomopipe.report.records import ScanRecord, SeriesRecord

#: Smallest range of CORs of a plot, in pixels: less is noise.
_LEAST_SPAN_PX = 2.0
#: The largest distance from the line on the axis, so that 0.5 px shows.
_MOST_REACH_PX = 5.0
_LABEL_WIDTH, _N_LINES = 72.0, 4  # of labels beyond the axis, in SVG units, and their lines
_UNITS_S = {"h": 3600, "min": 60, "s": 1}  # of a time axis, if it has three of them


@dataclass(frozen=True)
class Axis:
    """A linear map from values to SVG units, with round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]

    def __call__(self, value: float) -> float:
        """Map a value to its position, rounded to 0.01 units."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True)
class Along:
    """The horizontal axis of a series: indices, or times since the first scan."""

    name: str
    axis: Axis
    values: Mapping[str, float]  # by scan
    ends: tuple[ScanRecord, ...]  # scans by which a line is drawn: all, if it may bend

    def __call__(self, scan: ScanRecord) -> float:
        """Return the position of a scan."""
        return self.axis(self.values[scan.name])


@dataclass(frozen=True)
class Mark:
    """One scan in a series plot: a marker at its COR, and the earlier COR if it was changed."""

    scan: str
    x: float
    y: float
    state: str
    title: str
    before_y: float | None = None
    beyond: str = ""  # its value, where it lies beyond the axis
    level: int = 0  # of that label: lines from the edge, so that neighbours do not overlap


@dataclass(frozen=True)
class ResidualPlot:
    """A plot of COR minus the line of the series, on a scale of a few pixels."""

    width, height = 640, 156
    left, right, top, bottom = 64, 628, 12, 120
    along: str  # name of the horizontal axis
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    zero_y: float
    band: tuple[float, float] | None  # y and height of three times the scatter
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class SeriesPlot:
    """A plot of COR against index; all positions in SVG units of a width x height drawing."""

    width, height = 640, 240
    left, right, top, bottom = 64, 628, 12, 204
    along: str  # name of the horizontal axis
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    median_y: float | None
    band: tuple[float, float] | None  # y and height
    # instead of these two, of a model over time: SVG points of its line, and of the band
    line: str
    line_band: str
    marks: tuple[Mark, ...]
    missing: tuple[Mark, ...]  # scans without a COR, above the axis


@dataclass(frozen=True)
class CurvePlot:
    """Score curves of all methods of a scan, each scaled to the full height."""

    width, height = 480, 84
    lines: tuple[tuple[str, str], ...]  # method, SVG points
    chosen_x: float | None
    ticks: tuple[tuple[float, str], ...]
    beyond: str = ""  # remark on a COR beyond the axis


def series_plot(series: SeriesRecord) -> SeriesPlot | None:
    """Lay out the plot of one series; None if fewer than two scans have a COR."""
    shown = [(scan, cor_px) for scan in series.scans if (cor_px := scan.shown[0]) is not None]
    if len(shown) < 2:
        return None
    values = [cor_px for _, cor_px in shown]
    values += [px for scan, _ in shown if (px := _replaced_px(scan)) is not None]
    if (lacking_px := _LEAST_SPAN_PX - (max(values) - min(values))) > 0:
        values += [min(values) - lacking_px / 2, max(values) + lacking_px / 2]
    model, median_px, limit_px = series.model, series.median_px, series.limit_px or 0.0
    x, band_px = _along(series, SeriesPlot), None
    course = [(x(s), model.start_px + model.slope_px * s.index) for s in x.ends] if model else []
    if model:
        median_px = None
    elif median_px is not None and series.limit_px is not None:
        band_px = (median_px - limit_px, median_px + limit_px)
    bottom, top = SeriesPlot.bottom, SeriesPlot.top
    y = make_axis(min(values), max(values), bottom, top, n_ticks=7, pad=0.06)
    return SeriesPlot(
        along=x.name,
        x_ticks=x.axis.ticks,
        y_ticks=y.ticks,
        median_y=None if median_px is None else y(median_px),
        line=" ".join(f"{at},{y(px)}" for at, px in course),
        line_band=" ".join(
            f"{at},{y(px - side * limit_px)}" for side in (1, -1) for at, px in course[::side]
        ),
        band=None if band_px is None else (y(band_px[1]), round(y(band_px[0]) - y(band_px[1]), 2)),
        marks=tuple(_mark(scan, cor_px, x, y) for scan, cor_px in shown),
        missing=tuple(
            Mark(scan.name, x(scan), bottom - 9, scan.state, f"{scan.name}: no COR")
            for scan in series.scans
            if scan.shown[0] is None and scan.state not in (State.PENDING, *NOT_SELECTED)
        ),
    )


def residual_plot(series: SeriesRecord) -> ResidualPlot | None:
    """Lay out how far the CORs of a series are off its line; None without a line."""
    off_px = {
        scan.name: (scan, cor_px - line.start_px - line.slope_px * scan.index, line)
        for scan in series.scans
        if (cor_px := scan.shown[0]) is not None and (line := series.lines.get(scan.layout))
    }
    if not off_px:
        return None
    spread_px = max(line.spread_px or 0.0 for *_, line in off_px.values())
    trusted = [abs(px) for scan, px, _ in off_px.values() if scan.state in ACCEPTED]
    most_px = max(_MOST_REACH_PX, 3.5 * spread_px)  # of which 3 are the band
    reach_px = min(most_px, max(1.0, 5 * spread_px, 1.2 * max(trusted, default=0.0)))
    x = _along(series, ResidualPlot)
    y = make_axis(-reach_px, reach_px, ResidualPlot.bottom, ResidualPlot.top, n_ticks=4, pad=0.0)
    half = y(0.0) - y(min(3 * spread_px, reach_px))
    return ResidualPlot(
        along=x.name,
        x_ticks=x.axis.ticks,
        y_ticks=y.ticks,
        zero_y=y(0.0),
        band=(round(y(0.0) - half, 2), round(2 * half, 2)) if half else None,
        marks=_with_levels(
            Mark(
                scan=name,
                x=x(scan),
                y=y(max(-reach_px, min(reach_px, px))),
                state=scan.state,
                title=f"{name}: {signed(px)} px off the line",
                beyond=f"{signed(px)} px" if abs(px) > reach_px else "",
            )
            for name, (scan, px, _) in off_px.items()
        ),
    )


def _with_levels(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """Give each label a line of its own where one beside it, at the same edge, would overlap it."""
    lines: dict[float, list[float]] = {}  # where the last label of each line is, by edge

    def level_of(mark: Mark) -> int:
        last = lines.setdefault(mark.y, [])
        free = (level for level, x in enumerate(last) if mark.x - x > _LABEL_WIDTH)
        level = next(free, len(last)) % _N_LINES
        last[level : level + 1] = [mark.x]
        return level

    return tuple(
        replace(mark, level=level_of(mark)) if mark.beyond else mark
        for mark in sorted(marks, key=attrgetter("x"))
    )


def places_along(series: SeriesRecord) -> tuple[str, dict[str, float]]:
    """Return the name of the horizontal axis of a series, and the place of each scan on it.

    These are indices; of a model over time times since the first scan, if all are recorded.
    """
    scans = series.scans
    times_s = {scan.name: time_s for scan in scans if (time_s := scan.time_s) is not None}
    if not (series.model and len(times_s) == len(scans) and len({*times_s.values()}) > 1):
        return "index", {scan.name: float(scan.index) for scan in scans}
    first_s = min(times_s.values())
    span_s = max(times_s.values()) - first_s
    unit, unit_s = next((u, s) for u, s in _UNITS_S.items() if span_s >= 3 * s or s == 1)
    return f"time / {unit}", {scan: (time_s - first_s) / unit_s for scan, time_s in times_s.items()}


def _along(series: SeriesRecord, plot: type[SeriesPlot] | type[ResidualPlot]) -> Along:
    scans, (name, values) = series.scans, places_along(series)
    low, high, whole = min(values.values()), max(values.values()), name == "index"
    axis = make_axis(low, high, plot.left + 14, plot.right - 14, n_ticks=10, whole=whole, pad=0.0)
    return Along(name, axis, values, (scans[0], scans[-1]) if whole else tuple(scans))


def _replaced_px(scan: ScanRecord) -> float | None:
    """Return the COR of a scan that was replaced, or None."""
    if scan.fix is None or scan.fix.before_px is None:
        return None
    cor_px = scan.shown[0]
    is_unchanged = cor_px is None or same_cor(scan.fix.before_px, cor_px)
    return None if is_unchanged else scan.fix.before_px


def _mark(scan: ScanRecord, cor_px: float, x: Along, y: Axis) -> Mark:
    source = source_named(scan.shown[1]).label or "source unknown"
    before_px = _replaced_px(scan)
    was = "" if before_px is None else f", was {before_px:.2f}"
    return Mark(
        scan=scan.name,
        x=x(scan),
        y=y(cor_px),
        state=scan.state,
        title=f"{scan.name}: {cor_px:.2f} px{was} ({source})",
        before_y=None if before_px is None else y(before_px),
    )


def make_axis(
    low: float,
    high: float,
    start: float,
    end: float,
    *,
    n_ticks: int,
    pad: float,
    whole: bool = False,
) -> Axis:
    """Make an axis that shows `low` to `high` from `start` to `end` (SVG units).

    It has about `n_ticks` round ticks at most, at whole numbers only if `whole`, and at each end a
    margin of `pad` times the range; an empty range is widened by 1 on each side.
    """
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    room = pad * (high - low)
    low, high = low - room, high + room
    step = _round_step((high - low) / n_ticks)
    if whole:
        step = max(1.0, step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step - 1e-9)
    axis = Axis(low, high, start, end, ())
    values = [(first + k) * step for k in range(math.floor(high / step + 1e-9) - first + 1)]
    ticks = tuple((axis(value), f"{value + 0.0:.{digits}f}") for value in values)
    return Axis(low, high, start, end, ticks)


def _round_step(step: float) -> float:
    """Round a step up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def curve_range(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Return the lowest and highest COR (px) of the curves of a scan; None if there are none."""
    drawn = [c.cor_px for c in curves if len(c.cor_px) > 1]
    low, high = (
        min((px[0] for px in drawn), default=0.0),
        max((px[-1] for px in drawn), default=0.0),
    )
    return (low, high) if high > low else None


def curve_plot(curves: Sequence[Curve], cor_px: float | None) -> CurvePlot | None:
    """Lay out the score curves of a scan on one axis of COR; None if there are none."""
    limits_px = curve_range(curves)
    if limits_px is None:
        return None
    low, high = limits_px
    x = make_axis(low, high, 4, CurvePlot.width - 4, n_ticks=6, pad=0.0)
    beyond_px = cor_px if cor_px is not None and not low <= cor_px <= high else None
    return CurvePlot(
        lines=tuple(
            (c.method, _points(c, x, CurvePlot.height)) for c in curves if len(c.cor_px) > 1
        ),
        chosen_x=None if cor_px is None or beyond_px is not None else x(cor_px),
        ticks=x.ticks,
        beyond="" if beyond_px is None else f"COR {beyond_px:.2f}: beyond the sweep and its curves",
    )


def _points(curve: Curve, x: Axis, height: int) -> str:
    """Join the points of a curve, at most about one per two units, the visible resolution."""
    low, high = min(curve.score), max(curve.score)
    unit = (height - 24) / ((high - low) or 1.0)
    step, start = (x.end - x.start) / (x.high - x.low), x.start
    # The highest point of each interval is kept, so that narrow peaks remain visible.
    best: dict[float, tuple[float, float]] = {}
    for cor_px, score in zip(curve.cor_px, curve.score, strict=True):
        x_px = start + (cor_px - x.low) * step
        slot = x_px // 2
        if slot not in best or score > best[slot][1]:
            best[slot] = (x_px, score)
    points = ((x_px, height - 18 - (score - low) * unit) for x_px, score in best.values())
    numbers = [number for point in points for number in point]
    return " ".join(["%.1f,%.1f"] * len(best)) % tuple(numbers)
