"""CORs that the others of their series contradict."""

import numpy as np
import pytest
from tomopipe_lab.suite.cor_series import KINDS, make_series

from tomopipe.cor.off_line import off_line

N_SERIES = 40


def named(kind, seed, **case):
    """Return how many wrong CORs are named, how many right ones, and how many there are of each."""
    series = make_series(kind, seed, **case)
    positions = set(off_line(series.index, series.cor_px))
    n_wrong = len(series.wrong)
    hits = len(positions & series.wrong)
    return np.array([hits, len(positions) - hits, n_wrong, len(series.index) - n_wrong])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_cor_off_by_5_px_is_named_whatever_the_course_of_the_series(kind):
    n_named, n_false, n_wrong, n_right = sum(named(kind, 700 + k) for k in range(N_SERIES))
    assert n_named / n_wrong >= 0.9
    assert n_false / n_right <= 0.01


@pytest.mark.slow
def test_twelve_scans_of_a_sine_are_enough():
    n_named, n_false, n_wrong, n_right = sum(named("sine", 20_000 + k, n=12) for k in range(150))
    assert n_named / n_wrong >= 0.92
    assert n_false / n_right <= 0.005


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_right_cors_are_hardly_ever_named(kind):
    cases = [{"n": 6 + k} for k in range(6)] + [{}] * N_SERIES
    counts = sum(named(kind, 700 + k, n_wrong=0, **case) for k, case in enumerate(cases))
    assert counts[1] / counts[3] <= 0.01


@pytest.mark.slow
def test_each_of_two_wrong_cors_is_named():
    counts = sum(named(kind, 700 + k, n_wrong=2) for kind in KINDS for k in range(8))
    assert counts[0] / counts[2] >= 0.9


@pytest.mark.parametrize("slope_px", [0.05, 1.0])
def test_missing_numbers_hide_no_wrong_cor(slope_px):
    """Three of fifteen scans are missing: their numbers tell, the order does not."""
    n_named = 0
    for seed in range(20):
        rng = np.random.default_rng([5, seed])
        index = np.sort(rng.permutation(15)[:12])
        cor_px = 1000 + slope_px * index + rng.normal(0, 0.02, 12)
        wrong = rng.integers(12)
        cor_px[wrong] += 0.35
        n_named += wrong in off_line(index, np.round(cor_px, 2))
    assert n_named >= 18


def test_alternating_positions_of_a_stage_name_the_scan_at_none_of_them():
    """CORs of a beamline: three heights of each sample, the axis follows the stage."""
    cor_px = [1212.5, 1221, 1224.5, 1212.5, 1221, 1224, 1212, 1220, 1224, 1214, 1222, 1224.5,
              1214.5, 1222, 1226]  # fmt: skip
    assert off_line(range(15), cor_px) == {}
    cor_px[7] = 1212.0
    assert [*off_line(range(15), cor_px)] == [7]
    del cor_px[4]  # a scan is missing, as its number tells
    assert [*off_line([0, 1, 2, 3, *range(5, 15)], cor_px)] == [6]


def test_recorded_heights_of_the_stage_tell_where_a_scan_belongs():
    """Three heights in no order, 10 px apart, with a jitter of 2 um: one COR is 5 px off."""
    n_named = {"with": 0, "without": 0}
    for seed in range(20):
        rng = np.random.default_rng([9, seed])
        place = rng.permutation(np.repeat([0, 1, 2], 5))
        cor_px = 1212 + 10 * place + rng.normal(0, 0.2, 15)
        wrong = int(rng.integers(15))
        cor_px[wrong] += 5
        heights_mm = 4 * place + rng.normal(0, 0.002, 15)
        n_named["with"] += [*off_line(range(15), cor_px, heights_mm)] == [wrong]
        n_named["without"] += wrong in off_line(range(15), cor_px)
        missing = [None, *heights_mm[1:]]
        assert off_line(range(15), cor_px, missing) == off_line(range(15), cor_px)
    assert n_named["with"] >= 18
    assert n_named["without"] <= 5


def test_the_distance_is_that_from_the_others_and_least_0_2_px():
    cor_px = 80 + 0.1 * np.arange(9) + 0.01 * np.array([1, -1, 0, 0, 1, -1, -1, 1, 0])
    for error_px, is_named in ((0.23, True), (0.17, False)):
        wrong = cor_px + error_px * (np.arange(9) == 4)
        off = off_line(range(9), wrong)
        assert [*off] == [4] * is_named
        if is_named:
            assert off[4].off_px == pytest.approx(error_px, abs=0.02)
            assert off[4].spread_px == pytest.approx(0.01, abs=0.003)
    far = cor_px + 3 * (np.arange(9) == 4)
    assert [*off_line(range(6), far[:6])] == [4]
    assert off_line(range(5), far[:5]) == {}


def test_a_scan_farther_from_the_others_than_these_span_is_not_judged():
    """An axis that drifts by 0.3 px a scan, with 90 numbers missing before the last scan."""
    rng = np.random.default_rng(3)
    for last, is_judged in ((102, False), (24, False), (16, True)):
        index = np.array([*range(1, 13), last])
        cor_px = 1000 + 0.3 * index + rng.normal(0, 0.05, 13)
        cor_px[-1] += 8 * is_judged
        assert [*off_line(index, cor_px)] == [12] * is_judged
        assert [*off_line(-index[::-1], cor_px[::-1])] == [0] * is_judged
        cor_px[5] += 5
        assert 5 in off_line(index, cor_px)


@pytest.mark.parametrize("gap", [6, 8, 10, 11])
def test_a_drift_goes_on_over_missing_numbers(gap):
    """Right CORs up to 11 numbers beyond 12 others, on drifts of 0.1 to 5 px a scan."""
    rng = np.random.default_rng(21)
    index = np.array([*range(12), 11 + gap])
    n_false = 0
    for drift_px in np.geomspace(0.1, 5, 30):
        cor_px = 1000 + drift_px * index + rng.normal(0, 0.2, 13)
        n_false += 12 in off_line(index, cor_px)
        n_false += 0 in off_line(-index[::-1], cor_px[::-1])
    assert n_false == 0


def test_quiet_scans_of_a_long_series_hide_no_wrong_cor():
    quiet = 512 + 0.02 * np.random.default_rng(59).standard_normal(96)
    assert off_line(range(96), quiet) == {}
    for scan in (0, 17, 40, 71, 95):
        off = off_line(range(96), quiet + 3 * (np.arange(96) == scan))
        assert [*off] == [scan]
        assert off[scan].off_px == pytest.approx(3, abs=0.1)


def test_two_scans_at_another_position_name_none():
    cor_px = 80 + 0.01 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0, 1])
    assert off_line(range(10), cor_px + 8 * (np.arange(10) >= 8)) == {}
    assert off_line(range(10), cor_px + 8 * np.isin(np.arange(10), (2, 7))) == {}
    unlike = cor_px + 8 * (np.arange(10) == 2) + 5 * (np.arange(10) == 7)
    assert [*off_line(range(10), unlike)] == [2, 7]


def test_a_wrong_cor_beside_a_step_is_off_the_nearer_side():
    rng = np.random.default_rng(4)
    cor_px = np.where(np.arange(16) < 8, 100.0, 160.0) + rng.normal(0, 0.1, 16)
    for scan, off_px in ((7, 5.0), (8, -5.0)):
        wrong = cor_px + off_px * (np.arange(16) == scan)
        off = off_line(range(16), wrong)
        assert [*off] == [scan]
        assert off[scan].off_px == pytest.approx(off_px, abs=0.4)


def test_every_scan_of_a_long_series_is_judged_once():
    rng = np.random.default_rng(8)
    cor_px = 500 + 0.02 * np.arange(100) + rng.normal(0, 0.05, 100)
    for scan in (0, 23, 24, 40, 75, 99):
        wrong = cor_px + 3 * (np.arange(100) == scan)
        assert [*off_line(range(100), wrong)] == [scan]


def test_numbers_may_be_dates_or_repeat_and_cors_may_be_equal():
    index = [20240101 + 10 * k for k in range(8)]
    cor_px = [64.0] * 8
    assert off_line(index, cor_px) == {}
    cor_px[3] = 65.0
    assert [*off_line(index, cor_px)] == [3]
    assert [*off_line([1, 1, 2, 3, 3, 4, 5, 6], cor_px)] == [3]
    assert [*off_line([4] * 8, cor_px)] == [3]


def test_of_two_scans_at_an_end_the_farther_is_named_and_both_if_they_are_as_far():
    """A step before the last two, one of which is wrong: nothing tells which."""
    rng = np.random.default_rng(12)
    scatter_px = rng.normal(0, 0.1, 14)
    for step_px, is_last, named in ((3, True, [13]), (3, False, [12]), (60, True, [12, 13])):
        cor_px = 900 + scatter_px + step_px * (np.arange(14) >= 12)
        cor_px[12 + is_last] += 5
        assert sorted(off_line(range(14), cor_px)) == named
        mirrored = off_line(range(14), cor_px[::-1])
        assert sorted(13 - scan for scan in mirrored) == named
    off = off_line(range(14), cor_px)
    assert (off[12].off_px, off[13].off_px) == pytest.approx((-5, 5), abs=0.4)
