"""Estimates for a missing COR: which one is taken, and how well its error is stated."""

import numpy as np
import pytest

from tomopipe.cor.fill import Estimates, Point, stated_error

STACK_PX = [(1212.5, 1221.0, 1224.5), (1214.0, 1222.0, 1225.0), (1213.0, 1220.5, 1224.0)]


def stacks(cors_px, **more):
    """Return the scans of stacks, the middle one of which is the series at hand."""
    return [
        Point(
            f"s{order}_{number}",
            10 * order + number,
            order - len(cors_px) // 2,
            number,
            len(stack),
            cor_px=cor_px,
            **more,
        )
        for order, stack in enumerate(cors_px)
        for number, cor_px in enumerate(stack, start=1)
    ]


def series(cors_px, first=1):
    return [
        Point(f"s_{n:03d}", n, 0, n, len(cors_px), cor_px=px) for n, px in enumerate(cors_px, 1)
    ]


def hide(points, scan):
    """Return the scan without its COR, and the others."""
    point = next(p for p in points if p.scan == scan)
    return point, [p for p in points if p.scan != scan]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_axis_follows_the_stage_from_stack_to_stack(number):
    point, others = hide(stacks(STACK_PX), f"s1_{number}")
    fill = Estimates(others).fill(point)
    expected_px = (STACK_PX[0][number - 1] + STACK_PX[2][number - 1]) / 2
    assert (fill.source, fill.cor_px) == ("place", expected_px)
    assert fill.scans == (f"s0_{number}", f"s2_{number}")
    assert abs(fill.cor_px - STACK_PX[1][number - 1]) <= 1.25 <= fill.error_px + 0.5
    assert fill.error_px < 5  # that of the rules is 10 px and more
    assert fill.n_judges == 8


def test_a_line_through_alternating_positions_is_not_chosen():
    """It happens to err less than the mean of the series, by a fifth, where others are left out."""
    numbers, far = (1, 3, 4, 6, 7, 8, 10, 11, 13, 14, 16), (4, 6, 8, 10, 14, 16)
    points = [
        Point(f"s_{n}", n, position=k, length=11, cor_px=1028.2 if n in far else 1008.7)
        for k, n in enumerate(numbers, start=1)
    ]
    point, others = hide(points, "s_13")
    fill = Estimates(others).fill(point)
    assert (fill.source, round(fill.cor_px, 1)) == ("series-mean", 1020.4)


def test_a_stack_in_reversed_order_gives_the_same_place():
    reverse = [STACK_PX[0], STACK_PX[1], STACK_PX[2][::-1]]
    point, others = hide(stacks(reverse), "s1_1")
    fill = Estimates(others).fill(point)
    assert (fill.source, fill.cor_px) == ("place", (1212.5 + 1213.0) / 2)
    assert fill.scans == ("s0_1", "s2_3")


def test_the_recorded_height_counts_more_than_the_position():
    """The stage went up in one stack and down in the next, and twice to one height in the last."""
    heights_mm = [(0, 5, 10), (10, 5, 0), (0, 0.01, 10)]
    axis_px = {0: 1212.0, 5: 1221.0, 10: 1224.0, 0.01: 1212.0}
    points = [
        Point(f"s{k}_{n}", 10 * k + n, k - 1, n, 3, height=z, cor_px=axis_px[z] + 0.2 * k)
        for k, stack in enumerate(heights_mm)
        for n, z in enumerate(stack, start=1)
    ]
    point, others = hide(points, "s1_3")
    fill = Estimates(others).fill(point)
    assert fill.source == "place"
    assert fill.scans == ("s0_1", "s2_1", "s2_2")
    assert fill.cor_px == pytest.approx(1212.0 + 0.2 * 4 / 3)


@pytest.mark.parametrize("missing", [1, 6, 12])
def test_the_line_of_a_drift_is_better_than_its_mean(missing):
    rng = np.random.default_rng(7)
    truth_px = 1000 + 3.0 * np.arange(12)
    point, others = hide(series((truth_px + rng.normal(0, 0.1, 12)).tolist()), f"s_{missing:03d}")
    fill = Estimates(others).fill(point)
    assert abs(fill.cor_px - truth_px[missing - 1]) < 0.3
    assert fill.source == "line"
    assert 0.1 <= fill.error_px < 0.6


def test_many_scans_show_a_drift_that_is_hardly_more_than_the_scatter():
    rng = np.random.default_rng(8)
    truth_px = 1000 + 0.3 * np.arange(30)
    point, others = hide(series((truth_px + rng.normal(0, 0.2, 30)).tolist()), "s_001")
    fill = Estimates(others).fill(point)
    assert fill.source == "line"  # the mean of the series is 4.5 px away
    assert abs(fill.cor_px - truth_px[0]) <= 0.3


def test_a_line_through_a_short_walk_is_not_chosen():
    """Its mean error is a third of that of the rules; but four judges cannot tell it so well."""
    point, others = hide(series([2000.4, 1998.7, 1998.3, 1996.6, 1996.2, 1997.6]), "s_006")
    fill = Estimates(others).fill(point)
    assert (fill.source, round(fill.cor_px, 2)) == ("series-mean", 1998.04)
    assert abs(fill.cor_px - 1997.6) <= fill.error_px


@pytest.mark.slow
def test_the_line_beyond_its_scans_states_an_error_that_covers_a_course_that_bends():
    """Six scans of a sine of 1 to 40 px: the first and the last one are estimated."""
    covers = []
    for seed in range(100):
        rng = np.random.default_rng([6, seed])
        phase = np.arange(6) * 2 * np.pi / rng.uniform(4, 60)
        cors_px = 2000 + rng.uniform(1, 40) * np.sin(phase) + rng.normal(0, 0.1, 6)
        for scan, cor_px in (("s_001", cors_px[0]), ("s_006", cors_px[-1])):
            point, others = hide(series(cors_px.tolist()), scan)
            fill = Estimates(others).fill(point)
            if fill.source == "line":
                covers.append(abs(fill.cor_px - cor_px) <= fill.error_px)
    assert len(covers) > 40
    assert np.mean(covers) >= 0.9


def test_still_series_keep_the_rules():
    """On a tie, and where another estimate is hardly better."""
    rng = np.random.default_rng(3)
    point, others = hide(series((1000 + rng.normal(0, 0.05, 12)).tolist()), "s_001")
    fill = Estimates(others).fill(point)
    assert fill.source == "series-mean"
    assert fill.cor_px == pytest.approx(np.mean([p.cor_px for p in others]), abs=1e-9)


def test_others_give_no_cor_that_three_do_not_judge():
    """Two single scans: the COR of one says nothing about the other."""
    alone = [Point(f"s{k}", 1, k, 1, 1, cor_px=1000.0 + k) for k in (-2, -1, 1)]
    point = Point("s0", 1, 0, 1, 1)
    assert Estimates(alone[:2]).fill(point) is None
    assert Estimates(alone).fill(point).source == "place"


def test_a_wide_gap_is_judged_by_gaps_as_wide():
    rng = np.random.default_rng(11)
    walk_px = 1000 + np.cumsum(rng.normal(0, 1.0, 30))
    points = series(walk_px.tolist())
    narrow, others = hide(points, "s_015")
    wide = [p for p in points if not 10 <= p.index <= 20]
    error_px = Estimates(others).fill(narrow).error_px
    assert Estimates(wide).fill(narrow).error_px > 1.5 * error_px


def test_doubtful_scans_neither_judge_nor_fill_from_other_series():
    points = stacks(STACK_PX, is_trusted=False)
    point, others = hide(points, "s1_1")
    fill = Estimates(others).fill(point)
    assert (fill.source, fill.n_judges, fill.error_px) == ("series-mean", 0, None)


@pytest.mark.parametrize("n", [2, 3, 5, 11, 12, 20, 30])
def test_the_stated_error_covers_the_next_one(n):
    """Of normal errors 0.9 and more are covered, and not many more where there are twelve."""
    rng = np.random.default_rng(n)
    errors_px = np.abs(rng.normal(0, 2.0, (4000, n + 1)))
    covers = [row[-1] <= stated_error(row[:-1].tolist()) for row in errors_px]
    assert np.mean(covers) >= 0.9
    assert np.mean(covers) <= (0.995 if n < 12 else 0.98)


def test_no_error_is_stated_below_that_of_the_judges():
    assert stated_error([]) is None
    assert stated_error([0.0, 0.0, 0.0]) == 0.1
