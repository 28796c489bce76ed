"""The shift along the axis between the first and the last projection, in rows."""

from functools import cache

import numpy as np
import pytest
from phantoms import make_phantom
from scipy import ndimage

from tomopipe.cor.end_shift import end_shifts
from tomopipe.recon.angular_sampling import mirrored_ends
from tomopipe.simulate.phantom import project

N_ROWS, N_COLS, MARGIN, AXIS_PX = 48, 128, 8, 61.4
EXACT_ROWS = 0.15


@cache
def lines_at(*theta_deg):
    n_rows = N_ROWS + 2 * MARGIN
    phantom = make_phantom("rock", N_COLS, n_rows, 3)
    return project(phantom, np.deg2rad(theta_deg), AXIS_PX, n_rows, N_COLS)


def end_shift(*images):
    """The most likely of the shifts of images that are smoothed less and more."""
    return max(end_shifts(*images), key=lambda shift: shift.score, default=None)


def seen(lines, rows, counts=2000.0, seed=0):
    """What the detector sees of a projection that is moved down by some rows."""
    at = np.arange(N_ROWS) + MARGIN - rows
    moved = ndimage.map_coordinates(
        lines, np.meshgrid(at, np.arange(N_COLS), indexing="ij"), order=1
    )
    photons = np.random.default_rng(seed).poisson(counts * np.exp(-moved))
    return -np.log(np.maximum(photons, 0.5) / counts)


# columns: all, or the middle of a sample that is then larger than the field of view
@pytest.mark.parametrize("cols", [slice(0, 128), slice(36, 92)], ids=["whole", "truncated"])
@pytest.mark.parametrize("last_deg", [180, 360])
@pytest.mark.parametrize("rows", [0.0, 1.0, -2.6, 6.0])
def test_it_is_the_motion_of_the_sample(rows, last_deg, cols):
    first, last = lines_at(0, last_deg)
    images = seen(first, 0)[:, cols], seen(last, rows, seed=1)[:, cols]
    shift = end_shift(*images, AXIS_PX - cols.start if last_deg == 180 else None)
    assert shift.rows == pytest.approx(rows, abs=EXACT_ROWS)
    assert shift.error < 0.1
    assert shift.score > 7 if rows else shift.score < 4


@pytest.mark.parametrize(("rows", "is_shift"), [(2.0, True), (3.2, False)])
def test_it_is_near_the_whole_rows_at_which_the_images_correlate_best(rows, is_shift, monkeypatch):
    """Else least squares have gone to another place: here they begin at no shift."""
    monkeypatch.setattr("tomopipe.cor.end_shift._search", lambda a, b: (0.0, 0.0))
    first, last = lines_at(0, 180)
    shift = end_shift(seen(first, 0), seen(last, rows, seed=1), AXIS_PX)
    assert (shift is not None) == is_shift
    assert not is_shift or shift.rows == pytest.approx(rows, abs=EXACT_ROWS)


@pytest.mark.parametrize("rows", [1.0, 3.0, -3.0])
def test_of_sixteen_rows_all_smoothings_show_it(rows):
    first, last = lines_at(0, 180)
    images = seen(first, 0, 3000.0)[16:32], seen(last, rows, 3000.0, seed=1)[16:32]
    shifts = end_shifts(*images, AXIS_PX)
    assert len(shifts) == 3
    for shift in shifts:
        assert abs(shift.rows - rows) < 4 * shift.error


@pytest.mark.parametrize("counts", [600.0, 3000.0])
def test_a_shift_is_certain_in_noise_and_no_shift_is_not(counts):
    first, last = lines_at(0, 180)
    of_still, of_moved, away = [], [], []
    for seed in range(4):
        still, moved = (
            end_shift(seen(first, 0, counts, seed), seen(last, rows, counts, seed + 50), AXIS_PX)
            for rows in (0, 1.5)
        )
        of_still.append(still.score)
        of_moved.append(moved.score)
        away.append((moved.rows - 1.5) / moved.error)
    assert max(of_still) < 5
    assert min(of_moved) > 7
    assert 0.2 < np.sqrt(np.mean(np.square(away))) < 2.5


def test_static_dirt_of_a_full_turn_makes_a_shift_uncertain_instead_of_small():
    first, last = lines_at(0, 360)
    specks = np.random.default_rng(7).random((N_ROWS, N_COLS)) > 0.97
    dirt = 2 * ndimage.gaussian_filter(specks.astype(float), 1.0)
    clean = end_shift(seen(first, 0), seen(last, 1.5), None)
    dirty = end_shift(seen(first, 0) + dirt, seen(last, 1.5) + dirt, None)
    assert clean.score > 7
    assert dirty.score < 5
    assert dirty.error > 3 * clean.error  # the three smoothings differ


@pytest.mark.parametrize("roll", [0.05, 0.15])
def test_a_roll_is_fitted_up_to_a_tenth(roll):
    """A shift of a sample beside the axis can be a roll, too."""
    first, last = lines_at(0, 360)
    row, col = np.mgrid[:N_ROWS, :N_COLS].astype(float)
    at = row - roll * (col - (N_COLS - 1) / 2)
    cols = slice(24, 104)
    rolled = ndimage.map_coordinates(seen(last, 1.5), [at, col], order=1, mode="nearest")
    shifts = end_shifts(seen(first, 0)[:, cols], rolled[:, cols], None)
    assert (max(shift.score for shift in shifts) > 7.5) == (roll < 0.1)
    assert all(abs(shift.rows - 1.5) < 0.3 for shift in shifts)


def test_a_roll_that_noise_hides_takes_no_shift_along():
    """Of few columns, with a roll of any size: 2.7 rows."""
    first, last = lines_at(0, 180)
    away = []
    for seed in range(8):
        images = seen(first, 0, 300.0, seed), seen(last, 2.0, 300.0, seed + 50)
        shift = end_shift(*(image[:24, 50:74] for image in images), AXIS_PX - 50)
        away.append(shift.rows - 2)
    assert np.sqrt(np.mean(np.square(away))) < 2


def test_a_beam_that_moves_and_rings_are_no_shift():
    first, last = lines_at(0, 180)
    row = np.arange(N_ROWS)[:, None]
    rings = np.random.default_rng(3).normal(0, 0.2, N_COLS)
    shift = end_shift(
        seen(first, 0) + rings + 0.3 * np.sin(row / 3),
        seen(last, 2) + rings + np.cos(row / 5),
        AXIS_PX,
    )
    assert shift.rows == pytest.approx(2, abs=EXACT_ROWS)


@pytest.mark.parametrize("roll_deg", [-2.0, 2.0])
def test_a_rolled_detector_shears_the_images_and_shifts_them_no_more(roll_deg):
    first, last = (
        ndimage.rotate(lines, roll_deg, reshape=False, order=1, mode="nearest")
        for lines in lines_at(0, 180)
    )
    shift = end_shift(seen(first, 0), seen(last, 2), AXIS_PX)
    assert shift.rows == pytest.approx(2, abs=EXACT_ROWS)
    assert shift.score > 7


def test_another_sample_is_no_shift():
    first, last = lines_at(0, 90)
    shift = end_shift(seen(first, 0), seen(last, 0), AXIS_PX)
    assert shift is None or shift.score < 5


def test_too_few_rows_or_common_columns_have_none():
    first, last = (seen(lines, 0) for lines in lines_at(0, 180))
    assert end_shifts(first[:6], last[:6], AXIS_PX) == []
    assert end_shifts(first, last, 3.0) == []


@pytest.mark.parametrize(
    ("span_deg", "end_point", "mirrored"),
    [(180, True, True), (-180, True, True), (180, False, True), (360, False, False),
     (360, True, False), (720, True, False), (540, True, True), (170, True, None), (0, True, None)],
)  # fmt: skip
def test_which_ends_see_the_same(span_deg, end_point, mirrored):
    theta_rad = np.deg2rad(np.linspace(10, 10 + span_deg, 200, endpoint=end_point))
    assert mirrored_ends(theta_rad) is mirrored


def test_angles_in_another_order_need_not_end_where_they_begin():
    golden_rad = np.pi * (np.arange(200) * (5**0.5 - 1) / 2 % 1)
    assert mirrored_ends(golden_rad) is None
