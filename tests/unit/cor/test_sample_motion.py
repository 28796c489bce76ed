"""A sample that jumps sideways in mid-scan is told: where, and by how far; others are not."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from find_rows import rows_of, scan
from tomopipe_lab.suite import make_case

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_motion import (
    change_in_parts,
    find_jump,
    unmatched,
    warn_of_changes,
    warn_of_standstill,
)

pytestmark = pytest.mark.slow

N_COLS, N_ANGLES, COR_PX = 256, 180, 131.3
THETA_DEG = np.arange(N_ANGLES) * 1.0


def moved(shift_px=0.0, after=100, until=N_ANGLES, counts=20000, **options):
    """Rows of a scan whose axis is further right from the projection after `after` on."""
    theta_deg = options.pop("theta_deg", THETA_DEG)
    settings = {"n_cols": N_COLS, "theta_deg": theta_deg, "counts": counts, **options}
    still, shifted = scan(COR_PX, **settings), scan(COR_PX + shift_px, **settings)
    still[after + 1 : until] = shifted[after + 1 : until]
    return rows_of(still, theta_deg, pairs=False)


@pytest.mark.parametrize(
    ("shift_px", "after", "within_px"),
    [
        *product([-7.0, -3.4, 2.5, 7.0], [40, 100], [1]),
        *product([-4.0, 7.0], [0, 1, 177, 178], [1]),  # next to either end
        *product([-102.4, -64.0, 20.48, 38.4, 102.4], [20, 100, 160], [2]),  # 2/5 of the columns
    ],
)
def test_a_jump_is_found_between_the_right_projections(shift_px, after, within_px):
    found = find_jump(Prepared(moved(shift_px, after)))
    assert found.after == after
    assert found.shift_px == pytest.approx(shift_px, abs=within_px)


def test_a_jump_is_told_in_the_order_in_which_the_projections_were_taken():
    found = find_jump(Prepared(moved(5.0, 60, theta_deg=360 - THETA_DEG)))
    assert (found.after, round(found.shift_px)) == (60, 5)


def test_of_two_jumps_the_larger_is_told():
    rows, second = moved(-3.0, 50), moved(3.0, 120)
    rows.sinograms[:, 121:] = second.sinograms[:, 121:]  # -3 px, then +6
    found = find_jump(Prepared(rows))
    assert (found.after, round(found.shift_px)) == (120, 6)


WITHOUT_JUMP = {
    "still": {},
    "noise": {"counts": 200},
    "one": {"shift_px": 6.0, "until": 102},  # one projection is elsewhere
    "second": {"shift_px": 6.0, "after": 0, "until": 2},
    "last but one": {"shift_px": 6.0, "after": 177, "until": 179},
    "360": {"theta_deg": np.arange(N_ANGLES) * 2.0},
    "gap": {"theta_deg": np.delete(np.arange(N_ANGLES + 12), range(80, 92)) * 0.9},
    "elsewhere": {"theta_deg": np.roll(THETA_DEG * 1.0, 77)},
    "golden": {"theta_deg": THETA_DEG * 137.5 % 360},  # neighbours in time are none in angle
    "few": {"theta_deg": THETA_DEG[:15] * 12},
}


@pytest.mark.parametrize("options", WITHOUT_JUMP.values(), ids=WITHOUT_JUMP)
def test_without_a_jump_none_is_told(options):
    assert find_jump(Prepared(moved(**options))) is None


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_projections_without_a_picture_are_no_jump(value):
    rows = moved()
    rows.sinograms[:, 60:66] = value
    assert find_jump(Prepared(rows)) is None
    assert find_jump(Prepared(replace(rows, sinograms=0 * rows.sinograms))) is None


RETURN_DEG = np.array([180.0, 90.0, 0.0])


@pytest.mark.parametrize("shift_px", [0.0, 3.0, -5.0])
@pytest.mark.parametrize("theta_deg", [THETA_DEG, THETA_DEG[:-40]], ids=["180 last", "180 once"])
def test_images_taken_once_more_show_that_the_sample_moved_since(theta_deg, shift_px):
    n_scan = len(theta_deg)
    rows = moved(shift_px, n_scan - 1, None, theta_deg=np.append(theta_deg, RETURN_DEG))
    found = find_jump(Prepared(rows))
    if not shift_px:
        assert found is None
        return
    assert found.after in (n_scan - 1, n_scan)
    assert found.shift_px == pytest.approx(shift_px, abs=1)


@pytest.mark.parametrize("shift_px", [0.0, 3.0, -5.0])
@pytest.mark.parametrize(("last", "back"), [(95, 6), (95, 30), (50, 5)])
def test_a_scan_that_begins_again_some_steps_back(last, back, shift_px):
    """The beam was lost: projections of angles that both parts have show that the sample moved."""
    theta_deg = np.append(THETA_DEG[: last + 1], THETA_DEG[last + 1 - back :])
    result = find_jump(Prepared(moved(shift_px, last, None, theta_deg=theta_deg)))
    if not shift_px:
        assert result is None
        return
    assert result.after == last
    assert result.shift_px == pytest.approx(shift_px, abs=1)


@pytest.mark.parametrize("sigma_px", [0.7, 2.0, 4.0])
def test_projections_that_tremble_do_not_jump(sigma_px):
    off_px = np.random.default_rng(0).normal(0, sigma_px, N_ANGLES).round().astype(int)
    rows = moved()
    for frame, px in enumerate(off_px):
        rows.sinograms[:, frame] = np.roll(rows.sinograms[:, frame], px, axis=1)
    assert find_jump(Prepared(rows)) is None


def test_a_sample_that_moves_far_and_comes_back_has_jumped():
    found = find_jump(Prepared(moved(50.0, 60, until=110)))
    assert found.after in (60, 109)
    assert abs(found.shift_px) == pytest.approx(50, abs=2)


@pytest.mark.parametrize("shift_px", [-60.0, 30.0])
def test_a_far_jump_of_a_sample_larger_than_the_field_is_found(shift_px):
    rows = moved(shift_px)
    inside = replace(rows, sinograms=rows.sinograms[:, :, 64:192])
    found = find_jump(Prepared(inside))
    assert found.after == 100
    assert found.shift_px == pytest.approx(shift_px, abs=2)
    still = moved()
    assert find_jump(Prepared(replace(still, sinograms=still.sinograms[:, :, 64:192]))) is None


def test_rings_that_begin_during_a_scan_are_no_far_jump():
    """A smooth sample, larger than the field: rings alone match at a far shift (0.66)."""
    assert find_jump(Prepared(make_case("test", 70).rows.plain())) is None


ROTATION_THETA_DEG = np.linspace(0, 180, 181)
ROTATION_COLS, ROTATION_COR_PX = 160, 82.3


def turning(stop_deg=720.0, n_angles=361, *, counts=20000.0, moved_px=0.0, climb_rows=0, **more):
    """Rows of a scan of several turns whose sample climbs by rows, or moves sideways, meanwhile."""
    theta_deg = more.pop("theta_deg", np.linspace(0, stop_deg, n_angles))
    n_angles = len(theta_deg)
    geometry = {"n_cols": ROTATION_COLS, "theta_deg": theta_deg, "n_rows": 4 + climb_rows}
    lines = scan(ROTATION_COR_PX, counts=counts, **geometry, **more)
    columns = np.arange(ROTATION_COLS)
    seen = np.empty((n_angles, 4, ROTATION_COLS), np.float32)
    for i, part in enumerate(np.linspace(0, 1, n_angles)):
        first = int(part * climb_rows)
        for row in range(4):
            seen[i, row] = np.interp(columns - part * moved_px, columns, lines[i, first + row])
    return Prepared(rows_of(seen, theta_deg, pairs=False))


@pytest.mark.parametrize("stop_deg", [400, 720, -720])
def test_a_helical_scan_is_told(stop_deg):
    prepared = turning(stop_deg, climb_rows=60)
    assert warn_of_changes(prepared).startswith("projections 360 degrees apart differ: a helical")


def test_angles_of_the_wrong_scale_are_told():
    rows = turning(720).rows
    rows.theta_rad[:] *= 540 / 720
    assert warn_of_changes(Prepared(rows))


@pytest.mark.parametrize(
    "options",
    [
        {"stop_deg": 720},
        {"stop_deg": 560, "n_angles": 300},  # no projection is exactly 360 degrees later
        {"stop_deg": 400, "n_angles": 500, "counts": 100},
        {"stop_deg": 720, "moved_px": 4.0},
        {"theta_deg": np.delete(np.linspace(0, 720, 361), range(100, 120))},
    ],
    ids=["still", "between", "noise", "drift", "gap"],
)
def test_a_still_sample_is_not_doubted(options):
    prepared = turning(**options)
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


def recorded(turned_deg, *, theta_deg=ROTATION_THETA_DEG, counts=2000.0, **more):
    """Rows of a scan whose stage was at `turned_deg` where it is said to have been at theta."""
    return Prepared(rows_of(scan(82.3, theta_deg=turned_deg, counts=counts, **more), theta_deg))


@pytest.mark.parametrize(("stop_deg", "first_deg"), [(0, 0), (90, 92), (150, 159)])
def test_a_stage_that_stands_still_or_stops_is_told_with_the_angles(stop_deg, first_deg):
    told = warn_of_standstill(recorded(np.minimum(ROTATION_THETA_DEG, stop_deg)))
    assert f"from {first_deg} to 180 degrees" in told
    assert "did the stage rotate?" in told
    assert "a plate along the beam" in told


GOLDEN_DEG = np.arange(300) * 111.246 % 180


TURNS = {
    "180": (ROTATION_THETA_DEG, {}),
    "half": (ROTATION_THETA_DEG / 2, {}),  # of the wrong scale, but it turned
    "noise": (ROTATION_THETA_DEG, {"counts": 30.0}),
    "golden": (GOLDEN_DEG, {"theta_deg": GOLDEN_DEG}),
    "360": (2 * ROTATION_THETA_DEG, {"theta_deg": 2 * ROTATION_THETA_DEG}),
    "backwards": (ROTATION_THETA_DEG[::-1], {"theta_deg": ROTATION_THETA_DEG[::-1]}),
    "few": (ROTATION_THETA_DEG[::8], {"theta_deg": ROTATION_THETA_DEG[::8]}),
}


@pytest.mark.parametrize(("turned_deg", "options"), TURNS.values(), ids=TURNS)
def test_what_turns_is_not(turned_deg, options):
    assert warn_of_standstill(recorded(turned_deg, **options)) == ""


def ellipse(turned_deg, *, drift=0.0):
    """Rows in the middle of a wide, smooth ellipse, while the beam gets weaker."""
    turned_rad = np.deg2rad(turned_deg)[:, None, None]
    half_px = np.hypot(200 * np.cos(turned_rad), 170 * np.sin(turned_rad))
    away_px = np.arange(N_COLS) - COR_PX
    lines = 0.004 * 200 * 170 * np.sqrt(half_px**2 - away_px**2) / half_px**2
    lines = lines + drift * np.linspace(0, 1, len(turned_deg))[:, None, None]
    light = np.random.default_rng(0).poisson(900 * np.exp(-lines), (len(turned_deg), 6, N_COLS))
    return Prepared(rows_of(-np.log(light / 900), ROTATION_THETA_DEG, pairs=False))


def test_a_smooth_ellipse_wider_than_the_detector_does_not_stand_still():
    assert warn_of_standstill(ellipse(ROTATION_THETA_DEG, drift=0.1)) == ""
    assert change_in_parts(ellipse(ROTATION_THETA_DEG)).mean() < 1.04  # the total shows it alone
    assert "did the stage rotate?" in warn_of_standstill(ellipse(0 * ROTATION_THETA_DEG, drift=0.1))


@pytest.mark.parametrize("n_dark", [1, 3])
@pytest.mark.parametrize("turns", [True, False])
def test_dark_projections_do_not_hide_whether_the_stage_rotates(turns, n_dark):
    without = recorded(turns * ROTATION_THETA_DEG)
    rows = replace(without.rows, sinograms=without.rows.sinograms.copy())
    dark = np.array([50, 51, 120])[:n_dark]
    shape = rows.sinograms[:, dark].shape
    rows.sinograms[:, dark] = np.random.default_rng(0).normal(5.3, 0.7, shape)  # 0.5 % of the beam
    prepared = Prepared(replace(rows, bad_frames={"dark": tuple(dark)}))
    assert change_in_parts(prepared) == pytest.approx(change_in_parts(without), rel=0.5)
    told = warn_of_standstill(prepared)
    assert told.startswith("the projections do not change") == (not turns)
