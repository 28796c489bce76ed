"""A sample that jumps sideways in mid-scan is told: where, and by how far; others are not."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan
from tomopipe_lab.suite import make_case

from tomopipe.cor.jump import find_jump
from tomopipe.cor.prepared import Prepared

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


@pytest.mark.parametrize("shift_px", [-7.0, -3.4, 2.5, 7.0])
@pytest.mark.parametrize("after", [40, 100])
def test_a_jump_is_found_to_a_pixel_between_the_right_projections(shift_px, after):
    found = find_jump(Prepared(moved(shift_px, after)))
    assert found.after == after
    assert found.shift_px == pytest.approx(shift_px, abs=1)


@pytest.mark.parametrize("shift_px", [-4.0, 7.0])
@pytest.mark.parametrize("after", [0, 1, 177, 178])
def test_a_jump_next_to_either_end_is_found(shift_px, after):
    found = find_jump(Prepared(moved(shift_px, after)))
    assert found.after == after
    assert found.shift_px == pytest.approx(shift_px, abs=1)


def test_a_jump_is_told_in_the_order_in_which_the_projections_were_taken():
    found = find_jump(Prepared(moved(5.0, 60, theta_deg=360 - THETA_DEG)))
    assert (found.after, round(found.shift_px)) == (60, 5)


def test_of_two_jumps_the_larger_is_told():
    rows, second = moved(-3.0, 50), moved(3.0, 120)
    rows.sinograms[:, 121:] = second.sinograms[:, 121:]  # -3 px, then +6
    found = find_jump(Prepared(rows))
    assert (found.after, round(found.shift_px)) == (120, 6)


@pytest.mark.parametrize(
    "rows",
    [
        moved(),
        moved(counts=200),
        moved(6.0, until=102),  # one projection is elsewhere
        moved(6.0, after=0, until=2),
        moved(6.0, after=177, until=179),
        moved(theta_deg=np.arange(N_ANGLES) * 2.0),
        moved(theta_deg=np.delete(np.arange(N_ANGLES + 12), range(80, 92)) * 0.9),  # a gap
        moved(theta_deg=np.roll(THETA_DEG * 1.0, 77)),
        moved(theta_deg=THETA_DEG * 137.5 % 360),  # neighbours in time are none in angle
        moved(theta_deg=THETA_DEG[:15] * 12),
    ],
    ids=[
        "still",
        "noise",
        "one",
        "second",
        "last but one",
        "360",
        "gap",
        "elsewhere",
        "golden",
        "few",
    ],
)
def test_without_a_jump_none_is_told(rows):
    assert find_jump(Prepared(rows)) is None


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


@pytest.mark.parametrize("sigma_px", [0.7, 2.0, 4.0])
def test_projections_that_tremble_do_not_jump(sigma_px):
    off_px = np.random.default_rng(0).normal(0, sigma_px, N_ANGLES).round().astype(int)
    rows = moved()
    for frame, px in enumerate(off_px):
        rows.sinograms[:, frame] = np.roll(rows.sinograms[:, frame], px, axis=1)
    assert find_jump(Prepared(rows)) is None


@pytest.mark.parametrize("share", [-0.4, -0.25, 0.08, 0.15, 0.4])
@pytest.mark.parametrize("after", [20, 100, 160])
def test_a_jump_by_up_to_two_fifths_of_the_columns_is_found(share, after):
    """What leaves the field is gone, and air comes in on the other side."""
    found = find_jump(Prepared(moved(share * N_COLS, after)))
    assert found.after == after
    assert found.shift_px == pytest.approx(share * N_COLS, abs=2)


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
