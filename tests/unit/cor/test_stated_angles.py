"""Stated angles that the projections contradict."""

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.stated_angles import warn_of_angles

pytestmark = pytest.mark.slow

COR_PX = 82.3


def doubt(true_deg, stated_deg, n_angles=181, *, accepted=True, order=None):
    lines = scan(COR_PX, counts=20000, theta_deg=np.linspace(0, true_deg, n_angles))
    order = np.arange(n_angles) if order is None else order
    theta_deg = np.linspace(0, stated_deg, n_angles)[order]
    prepared = Prepared(rows_of(lines[order], theta_deg, pairs=False))
    return warn_of_angles(prepared, COR_PX, accepted=accepted)


@pytest.mark.parametrize("stated_deg", [176, 172, 165, 150, -165, 200, 330])
def test_180_degrees_stated_as_no_multiple_of_it_are_told(stated_deg):
    assert "the projections show 180: if so, set" in doubt(180, stated_deg)


def test_where_the_last_projection_is_a_step_before_the_end_its_angle_is_told():
    assert "show 179: if so, set input.angles: {start: 0, stop: 179}" in doubt(179, 165, 180)


@pytest.mark.parametrize("true_deg", [140, 165, 176, 178, 180, 200, 300, 360, 540])
@pytest.mark.parametrize("accepted", [True, False])
def test_angles_that_are_right_are_not_doubted(true_deg, accepted):
    assert doubt(true_deg, true_deg, accepted=accepted) == ""


def test_180_degrees_stated_as_360_are_told_where_no_axis_was_accepted():
    assert "cover 360 degrees, the projections show 180" in doubt(180, 360, accepted=False)
    assert doubt(180, 360) == ""  # not looked at


def test_angles_in_another_order_are_not_looked_at():
    order = np.random.default_rng(0).permutation(181)
    assert doubt(180, 165, order=order) == ""
