"""A stage that stands still, or stops, is told by projections that do not change."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_rotation import change_in_parts, warn_of_standstill

THETA_DEG = np.linspace(0, 180, 181)


def recorded(turned_deg, *, theta_deg=THETA_DEG, counts=2000.0, **more):
    """Rows of a scan whose stage was at `turned_deg` where it is said to have been at theta."""
    return Prepared(rows_of(scan(82.3, theta_deg=turned_deg, counts=counts, **more), theta_deg))


def test_a_stage_that_stands_still_is_told():
    assert "from 0 to 180 degrees: did the stage rotate?" in warn_of_standstill(
        recorded(0 * THETA_DEG)
    )


def test_a_stage_that_stops_is_told_with_the_angles():
    assert "from 91 to 180 degrees" in warn_of_standstill(recorded(np.minimum(THETA_DEG, 90)))


GOLDEN_DEG = np.arange(300) * 111.246 % 180


@pytest.mark.parametrize(
    "prepared",
    [
        recorded(THETA_DEG),
        recorded(THETA_DEG / 2),  # of the wrong scale, but it turned
        recorded(THETA_DEG, counts=30.0),
        recorded(GOLDEN_DEG, theta_deg=GOLDEN_DEG),
        recorded(2 * THETA_DEG, theta_deg=2 * THETA_DEG),
        recorded(THETA_DEG[::-1], theta_deg=THETA_DEG[::-1]),
        recorded(THETA_DEG[::8], theta_deg=THETA_DEG[::8]),
    ],
    ids=["180", "half", "noise", "golden", "360", "backwards", "few"],
)
def test_what_turns_is_not(prepared):
    assert warn_of_standstill(prepared) == ""


@pytest.mark.parametrize("n_dark", [1, 3])
@pytest.mark.parametrize("turns", [True, False])
def test_dark_projections_do_not_hide_whether_the_stage_rotates(turns, n_dark):
    without = recorded(turns * THETA_DEG)
    rows = replace(without.rows, sinograms=without.rows.sinograms.copy())
    dark = np.array([50, 51, 120])[:n_dark]
    shape = rows.sinograms[:, dark].shape
    rows.sinograms[:, dark] = np.random.default_rng(0).normal(5.3, 0.7, shape)  # 0.5 % of the beam
    prepared = Prepared(replace(rows, bad_frames={"dark": tuple(dark)}))
    assert change_in_parts(prepared) == pytest.approx(change_in_parts(without), rel=0.25)
    told = warn_of_standstill(prepared)
    assert told.startswith("the projections do not change") == (not turns)


def test_the_change_is_that_of_noise_where_nothing_turns():
    assert change_in_parts(recorded(0 * THETA_DEG)) == pytest.approx(1, abs=0.04)
    assert change_in_parts(recorded(THETA_DEG)).min() > 3
