"""The line of a series, and CORs that it contradicts."""

import numpy as np
import pytest

from tomopipe.cor.series_line import off_line, robust_line


def test_a_drift_is_found_in_spite_of_outliers():
    rng = np.random.default_rng(0)
    index = np.arange(40)
    cor_px = 512.3 + 0.045 * index + rng.normal(0, 0.1, 40)
    cor_px[rng.choice(40, 10, replace=False)] += rng.choice([-30, 25], 10)
    line = robust_line(index, cor_px)
    assert line.start_px + line.slope_px * index == pytest.approx(512.3 + 0.045 * index, abs=0.15)
    assert line.slope_px == pytest.approx(0.045, abs=0.005)
    assert line.spread_px == pytest.approx(0.1, abs=0.06)


def test_scans_of_one_index_and_too_few_scans():
    assert robust_line([1, 2], [5.0, 6.0]) is None
    assert robust_line([4, 4, 4], [5.0, 6.0, 7.0]) is None
    line = robust_line([4, 4, 6], [5.0, 5.0, 7.0])
    assert (line.start_px, line.slope_px) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("off_px", "spread_px"),
    [([0, 0, 0.2], None), ([0, 0, 0.2, 0], None), ([0.2, -0.2, 0, 0.2, -0.2], 0.148)],
)
def test_the_spread_of_few_scans_is_not_known(off_px, spread_px):
    index = np.arange(len(off_px))
    line = robust_line(index, 85.0 + np.array(off_px))
    assert line.spread_px == (spread_px and pytest.approx(spread_px, abs=0.01))


SCATTERS_PX = (0.02, 0.05, 0.1, 0.2)
ERRORS_PX = {0.35: 0.02, 2.0: 0.2}  # with the scatter of their series


def drift(rng, n, scatter_px):
    return rng.uniform(-0.1, 0.1) * np.arange(n) + rng.normal(0, scatter_px, n)


def step(rng, n, scatter_px):
    far_px = rng.choice([-1, 1]) * rng.uniform(1, 20)
    return drift(rng, n, scatter_px) + far_px * (np.arange(n) >= rng.integers(1, n))


def walk(rng, n, scatter_px):
    steps_px = rng.choice([-1, 1], n) * rng.uniform(0.1, 2)
    if rng.random() < 0.5:
        steps_px = rng.normal(0, rng.uniform(0.1, 2), n)
    return np.cumsum(steps_px) + rng.normal(0, scatter_px, n)


def turns(rng, n, scatter_px):
    """Two positions by turns, 1:1 to 4:1."""
    period = rng.integers(2, 6)
    is_other = (np.arange(n) + rng.integers(period)) % period == 0
    return drift(rng, n, scatter_px) + rng.choice([-1, 1]) * rng.uniform(1, 20) * is_other


SERIES = {"line": drift, "step": step, "random walk": walk, "positions by turns": turns}


@pytest.mark.slow
@pytest.mark.parametrize("model", SERIES)
def test_series_without_a_wrong_cor_name_hardly_any(model):
    rng = np.random.default_rng(44)
    lengths = rng.integers(6, 61, 100)
    named = [off_line(SERIES[model](rng, n, rng.choice(SCATTERS_PX))) for n in lengths]
    assert sum(map(len, named)) / lengths.sum() <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("where", ["anywhere", "at an end"])
@pytest.mark.parametrize("error_px", ERRORS_PX)
def test_a_single_wrong_cor_is_named(error_px, where):
    rng, n_named = np.random.default_rng(44), 0
    for n in rng.integers(6, 61, 200):
        cor_px = drift(rng, n, ERRORS_PX[error_px])
        wrong = rng.integers(n) if where == "anywhere" else rng.choice([0, n - 1])
        cor_px[wrong] += rng.choice([-1, 1]) * error_px
        n_named += wrong in off_line(cor_px)
    assert n_named / 200 >= 0.95


def test_the_residual_is_that_from_the_others_and_least_0_2_px():
    cor_px = 80 + 0.1 * np.arange(9) + 0.01 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0])
    for error_px, is_named in ((0.22, True), (0.18, False)):
        wrong = cor_px + error_px * (np.arange(9) == 4)
        assert [*off_line(wrong)] == [4] * is_named
        if is_named:
            assert off_line(wrong)[4].off_px == pytest.approx(error_px, abs=0.02)
            assert off_line(wrong)[4].spread_px == pytest.approx(0.01, abs=0.003)
    far = cor_px + 3 * (np.arange(9) == 4)
    assert [*off_line(far[:6])] == [4]
    assert off_line(far[:5]) == {}


def test_two_scans_at_another_position_name_none():
    cor_px = 80 + 0.01 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0, 1])
    assert off_line(cor_px + 8 * (np.arange(10) >= 8)) == {}
    assert off_line(cor_px + 8 * np.isin(np.arange(10), (2, 7))) == {}
