"""The networks' curves: those of the evidence, and that of minimum total variation."""

import numpy as np
import pytest
from find_rows import curves_of, rows_of, scan

from tomopipe.cor.ai.input_recipe import RECIPE, TOTAL_VARIATION
from tomopipe.cor.ai.inputs import all_curves

pytestmark = pytest.mark.slow


def test_over_360_degrees_minimum_total_variation_is_not_searched():
    theta_deg = np.arange(0, 360, 2)
    rows = rows_of(scan(58.2, n_cols=128, theta_deg=theta_deg), theta_deg)
    curves, evidence = all_curves(curves_of(rows)), curves_of(rows).classical
    assert RECIPE.kinds[-1] == TOTAL_VARIATION
    np.testing.assert_array_equal(curves.raw[:-1], evidence.raw)
    np.testing.assert_array_equal(curves.prominence[:-1], evidence.prominence)
    assert len(curves.valid) == len(RECIPE.kinds)
    assert not curves.valid[-1]
    assert not curves.raw[-1].any()
    assert not curves.prominence[-1].any()


@pytest.mark.parametrize("theta_deg", [np.linspace(0, 140, 141), np.linspace(0, 180, 181)])
def test_over_less_its_curve_peaks_at_the_axis(theta_deg):
    whole = scan(58.2, n_cols=128, theta_deg=theta_deg)
    curves = all_curves(curves_of(rows_of(whole, theta_deg, pairs=False)))
    assert curves.valid[-1]
    for curve in (curves.raw[-1], curves.prominence[-1]):
        assert curves.cor_px[np.argmax(curve)] == pytest.approx(58.2, abs=1)
        assert np.isfinite(curve).all()
    far = np.abs(curves.cor_px - 58.2) > 10
    assert curves.prominence[-1, far].max() < 0.2 * curves.prominence[-1].max()
