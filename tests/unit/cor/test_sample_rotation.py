"""Projections 360 degrees apart, and a stage that stands still, or stops."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_rotation import (
    change_in_parts,
    unmatched,
    warn_of_changes,
    warn_of_standstill,
)

pytestmark = pytest.mark.slow

N_COLS, COR_PX = 160, 82.3


def turning(stop_deg=720.0, n_angles=361, *, counts=20000.0, moved_px=0.0, climb_rows=0, **more):
    """Rows of a scan of several turns whose sample climbs by rows, or moves sideways, meanwhile."""
    theta_deg = more.pop("theta_deg", np.linspace(0, stop_deg, n_angles))
    n_angles = len(theta_deg)
    geometry = {"n_cols": N_COLS, "theta_deg": theta_deg, "n_rows": 4 + climb_rows}
    lines = scan(COR_PX, counts=counts, **geometry, **more)
    columns = np.arange(N_COLS)
    seen = np.empty((n_angles, 4, N_COLS), np.float32)
    for i, part in enumerate(np.linspace(0, 1, n_angles)):
        first = int(part * climb_rows)
        for row in range(4):
            seen[i, row] = np.interp(columns - part * moved_px, columns, lines[i, first + row])
    return Prepared(rows_of(seen, theta_deg, pairs=False))


@pytest.mark.parametrize("stop_deg", [400, 720, -720])
def test_a_helical_scan_is_told(stop_deg):
    prepared = turning(stop_deg, climb_rows=60)
    assert warn_of_changes(prepared).startswith(
        "projections 360 degrees apart differ: a helical scan"
    )


def test_angles_of_the_wrong_scale_are_told():
    rows = turning(720).rows
    rows.theta_rad[:] *= 540 / 720
    assert warn_of_changes(Prepared(rows))


@pytest.mark.parametrize(
    "prepared",
    [
        turning(720),
        turning(560, 300),  # no projection is exactly 360 degrees later
        turning(400, 500, counts=100),
        turning(720, moved_px=4.0),
        turning(theta_deg=np.delete(np.linspace(0, 720, 361), range(100, 120))),
    ],
    ids=["still", "between", "noise", "drift", "gap"],
)
def test_a_still_sample_is_not_doubted(prepared):
    assert unmatched(prepared) is not None
    assert warn_of_changes(prepared) == ""


@pytest.mark.parametrize(
    "theta_deg",
    [
        np.linspace(0, 360, 181),
        np.arange(200) * 137.5,
        np.repeat(np.linspace(0, 720, 100), 2),
        np.linspace(0, 720, 20),
        np.array([0.0]),
        np.concatenate([np.linspace(0, 170, 86), np.linspace(600, 720, 61)]),
    ],
    ids=["one turn", "golden", "twice", "few", "one", "apart"],
)
def test_without_neighbours_and_a_second_turn_nothing_is_said(theta_deg):
    assert unmatched(turning(theta_deg=theta_deg, climb_rows=60)) is None


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
