"""The line of a series."""

import numpy as np
import pytest

from tomopipe.cor.series_line import robust_line


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
