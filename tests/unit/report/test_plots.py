"""Positions in the plots of the report correspond to the values they stand for."""

from itertools import combinations

import numpy as np
import pytest

from tests.report_campaign import USUAL
from tomopipe.campaign.results import Curve, Prediction
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import Fix
from tomopipe.cor.series_line import Line, robust_line
from tomopipe.report.plots import curve_plot, make_axis, residual_plot, series_plot
from tomopipe.report.records import ScanRecord, SeriesRecord


def scan(name, index, cor_px, *, before_px=None, source="auto", **more):
    before_px = cor_px if before_px is None else before_px
    fix = Fix("a", 1, before_px, cor_px, source, False, "", 10.0, ())
    return ScanRecord(name=name, path="", series="s", index=index, decided=True,
                      cor_px=cor_px, source=source, fix=fix, **more, **USUAL)  # fmt: skip


def values_of(plot, series):
    """Read COR back from the drawing: the band's edges are median +- limit."""
    top, height = plot.band
    px_per_unit = 2 * series.limit_px / height
    return lambda y: series.median_px + series.limit_px - (y - top) * px_per_unit


SERIES = SeriesRecord(
    "s",
    (
        scan("a", 1, 500.0),
        scan("b", 2, 501.5, before_px=540.25, source="outlier"),
        scan("c", 5, 503.0, source="manual", manual=CorText("503")),
        scan("d", 9, None),
        scan("e", 11, 498.75),
    ),
    median_px=501.0,
    limit_px=10.0,
)


def test_marks_lie_at_their_values():
    plot = series_plot(SERIES)
    cor_px = values_of(plot, SERIES)
    # 0.01 units of rounding are less than 0.01 px here
    assert [cor_px(m.y) for m in plot.marks] == pytest.approx([500, 501.5, 503, 498.75], abs=0.01)
    assert cor_px(plot.marks[1].before_y) == pytest.approx(540.25, abs=0.02)
    assert [m.before_y for m in plot.marks if m.scan != "b"] == [None, None, None]
    assert cor_px(plot.median_y) == pytest.approx(501.0, abs=0.01)
    x = {m.scan: m.x for m in plot.marks} | {m.scan: m.x for m in plot.missing}
    steps = np.diff([x[name] for name in "abcde"]) / np.array([1, 3, 4, 2])
    assert steps == pytest.approx(steps[0], rel=1e-3)
    assert [m.state for m in plot.marks] == ["ok", "fixed", "manual", "ok"]


def test_everything_lies_inside_the_frame():
    plot = series_plot(SERIES)
    ys = [m.y for m in plot.marks] + [m.before_y for m in plot.marks if m.before_y is not None]
    ys += [y for y, _ in plot.y_ticks]  # what is wider, as the band, is cut there
    assert all(plot.top <= y <= plot.bottom for y in ys)
    xs = [m.x for m in plot.marks] + [x for x, _ in plot.x_ticks]
    assert all(plot.left < x < plot.right for x in xs)


def test_ticks_lie_at_their_labels():
    plot = series_plot(SERIES)
    cor_px = values_of(plot, SERIES)
    assert [cor_px(y) for y, _ in plot.y_ticks] == pytest.approx(
        [float(label) for _, label in plot.y_ticks], abs=0.02
    )
    x = {m.scan: m.x for m in plot.marks}
    per_index = (x["e"] - x["a"]) / 10
    assert [1 + (tick_x - x["a"]) / per_index for tick_x, _ in plot.x_ticks] == pytest.approx(
        [int(label) for _, label in plot.x_ticks], abs=0.01
    )


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (511.99, 512.01), (-3, 4000), (5, 5), (1e-7, 1.1e-7), (0, 1e9)]
)
def test_axis_ticks_are_round_and_few(low, high):
    axis = make_axis(low, high, 0.0, 100.0, n_ticks=5, pad=0.05)
    assert 1 <= len(axis.ticks) <= 7
    for position, label in axis.ticks:
        assert axis(float(label)) == pytest.approx(position, abs=0.011)
        assert 0 <= position <= 100


def test_a_model_over_time_is_drawn_through_its_cors():
    """CORs of 500 + 0.5 n, one of them 12 px off: on the line are all others, in the band too."""
    scans = [scan(name, 10 * n, 500.0 + 5 * n) for n, name in enumerate("abcde")]
    scans[2] = scan("c", 20, 522.0)
    series = SeriesRecord("s", tuple(scans), 505.0, 10.0, Line(500.0, 0.5, 0.1), "line over time")
    plot = series_plot(series)
    assert (plot.median_y, plot.band) == (None, None)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in plot.line.split())
    off = [mark.y - y0 - (y1 - y0) * (mark.x - x0) / (x1 - x0) for mark in plot.marks]
    assert off[:2] + off[3:] == pytest.approx([0, 0, 0, 0], abs=0.02)
    corners = [tuple(map(float, point.split(","))) for point in plot.line_band.split()]
    assert [x for x, _ in corners] == [x0, x1, x1, x0]
    px = abs(off[2]) / 12
    assert [y - line for (_, y), line in zip(corners, (y0, y1, y1, y0), strict=True)] == (
        pytest.approx([10 * px, 10 * px, -10 * px, -10 * px], abs=0.05)
    )


def test_labels_beyond_the_axis_do_not_overlap():
    beyond = {10: 20.0, 11: 21.0, 12: -20.0, 13: 22.0, 23: 20.0}
    scans = [scan(f"a_{i}", i, 500 + beyond.get(i, 0.1 * (i % 3))) for i in range(25)]
    plot = residual_plot(SeriesRecord("s", tuple(scans), 500.0, 10.0))
    labels = [(mark.x, mark.y, mark.level) for mark in plot.marks if mark.beyond]
    assert [level for _, _, level in labels] == [0, 1, 0, 2, 0]
    for (x, *place), (other_x, *other_place) in combinations(labels, 2):
        assert place != other_place or abs(x - other_x) > 70  # units: ten characters


def test_an_error_of_a_pixel_shows_beside_a_limit_of_ten():
    """Seven CORs on a line of 0.4 px per scan, one 1 px off it and one 30 px."""
    off = {"d": 1.0, "g": -30.0}
    scans = [scan(n, i, 500 + 0.4 * i + off.get(n, 0.0)) for i, n in enumerate("abcdefghi")]
    series = SeriesRecord("s", tuple(scans), 501.0, 10.0)
    assert series.lines == {
        scans[0].layout: robust_line([s.index for s in scans], [s.cor_px for s in scans])
    }
    plot = residual_plot(series)
    one_px = (plot.bottom - plot.top) / 10  # at most 5 px on each side
    marks = {mark.scan: mark for mark in plot.marks}
    assert plot.zero_y - marks["d"].y >= one_px - 0.5
    assert [marks[n].y for n in "abcefhi"] == pytest.approx([plot.zero_y] * 7, abs=0.02)
    assert (marks["g"].y, marks["g"].beyond, marks["d"].beyond) == (plot.bottom, "-30.00 px", "")
    assert residual_plot(SeriesRecord("s", tuple(scans[:2]), 500.2, 10.0)) is None  # no line
    close = series_plot(SeriesRecord("s", tuple(scans[:3]), 500.4, 10.0))
    assert abs(close.marks[2].y - close.marks[0].y) > 0.3 * (close.bottom - close.top)  # 0.8 px


@pytest.mark.parametrize(
    ("step_s", "unit", "unit_s"), [(0.5, "s", 1), (100, "min", 60), (5000, "h", 3600)]
)
def test_a_model_over_time_is_drawn_over_recorded_times(step_s, unit, unit_s):
    """Views at times of 0, 1, 2, 9 and 10 steps: there is the line, by their numbers, too."""
    at_s = [1.7e9 + step_s * k for k in (0, 1, 2, 9, 10)]
    times = [{"row": {"keep": "true", "time_s": str(time_s)}} for time_s in at_s]
    scans = [scan(s, n, 500.0 + n, **times[n]) for n, s in enumerate("abcde")]
    model = Line(500.0, 1.0, 0.1)
    series = SeriesRecord("s", tuple(scans), 502.0, 10.0, model, "line over time")
    plot = series_plot(series)
    assert plot.along == f"time / {unit}"
    x = [mark.x for mark in plot.marks]
    assert np.diff(x) / np.diff(at_s) == pytest.approx((x[-1] - x[0]) / (10 * step_s), rel=1e-3)
    last = max(plot.x_ticks)
    assert float(last[1]) * unit_s == pytest.approx(
        (last[0] - x[0]) / (x[-1] - x[0]) * 10 * step_s, rel=1e-3
    )
    points = [tuple(map(float, point.split(","))) for point in plot.line.split()]
    assert points == [(mark.x, mark.y) for mark in plot.marks]
    assert [mark.x for mark in residual_plot(series).marks] == x
    without = SeriesRecord("s", tuple(scans), 502.0, 10.0)
    assert series_plot(without).along == "index"
    scans[2] = scan("c", 2, 502.0)
    series = SeriesRecord("s", tuple(scans), 502.0, 10.0, model, "line over time")
    assert series_plot(series).along == "index"


def test_a_series_without_two_values_has_no_plot():
    series = SeriesRecord("s", (scan("a", 1, 500.0), scan("d", 2, None)), 500, 10)
    assert series_plot(series) is None


def test_equal_values_and_equal_indices_can_be_drawn():
    same = SeriesRecord("s", (scan("a", 0, 500.0), scan("b", 0, 500.0)), None, None)
    plot = series_plot(same)
    assert plot.band is None
    assert plot.median_y is None
    assert plot.marks[0].x == plot.marks[1].x == (plot.left + plot.right) / 2


def test_before_fixing_the_prediction_is_shown():
    def guess(name, index, cor_px, manual="", method="pairs"):
        prediction = Prediction(cor_px, cor_px, 0.9, "resolved", method, "")
        return ScanRecord(name=name, path="", series="s", index=index, manual=CorText(manual),
                          prediction=prediction, **USUAL)  # fmt: skip

    waiting = ScanRecord(name="d", path="", series="s", index=4, **USUAL)
    scans = (guess("a", 1, 500.0), guess("b", 2, 510.0, method="ai"), guess("c", 3, 1.0, "505"))
    plot = series_plot(SeriesRecord("s", (*scans, waiting), None, None))
    assert [m.state for m in plot.marks] == ["ok", "ok", "manual"]
    a, b, c = (m.y for m in plot.marks)
    assert (a + b) / 2 == pytest.approx(c, abs=0.01)  # 505 lies in the middle
    assert plot.missing == ()  # d has not been looked at


def test_curves_keep_their_peak_and_share_one_axis():
    x = np.linspace(450, 550, 2001)
    narrow = Curve("narrow", 487.35, 1.0, tuple(x), tuple(1.0 * (np.abs(x - 487.35) < 0.01)))
    other = Curve("other", None, None, (460.0, 540.0), (3.0, 3.0))
    plot = curve_plot([narrow, other], 512.5)
    lines = dict(plot.lines)
    points = np.array([p.split(",") for p in lines["narrow"].split()], dtype=float)
    ends = plot.ticks[0], plot.ticks[-1]
    (x0, label0), (x1, label1) = ends
    peak_px = np.interp(points[points[:, 1].argmin(), 0], [x0, x1], [float(label0), float(label1)])
    assert peak_px == pytest.approx(487.35, abs=0.05)
    chosen_px = np.interp(plot.chosen_x, [x0, x1], [float(label0), float(label1)])
    assert chosen_px == pytest.approx(512.5, abs=0.01)
    assert len(points) <= plot.width / 2 + 1
    assert plot.beyond == ""
    beyond = curve_plot([narrow], 700.0)
    assert (beyond.chosen_x, beyond.beyond[:11]) == (None, "COR 700.00:")
    assert curve_plot([Curve("short", None, None, (1.0,), (1.0,))], None) is None
