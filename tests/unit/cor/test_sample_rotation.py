"""Projections 360 degrees apart: alike for still samples, not of helical or changing ones."""

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_rotation import unmatched, warn_of_changes

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
