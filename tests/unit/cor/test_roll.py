"""The change of the COR along the rows, on phantoms seen by a rolled detector."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of
from phantoms import make_phantom
from scipy import ndimage

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.roll import Roll, UsedRows, fit_line, measure_roll, roll_of, tilt_of
from tomopipe.simulate.phantom import project

pytestmark = pytest.mark.slow

N_ROWS, N_COLS, COR_PX = 128, 160, 83.4


def rolled(slope, *, seed=0, counts=20000.0, n_angles=61):
    """Rows of a scan whose axis crosses row r at COR_PX + slope * (r - middle), px per row."""
    phantom = make_phantom("rock", N_COLS, N_ROWS, seed)
    theta_deg = np.linspace(0, 180, n_angles)
    cor_px = COR_PX + slope * (np.arange(N_ROWS) - (N_ROWS - 1) / 2)
    scan = np.empty((n_angles, N_ROWS, N_COLS), np.float32)
    # every row of a projection depends on its own COR alone
    levels = np.round(cor_px / 0.01).astype(int)
    theta_rad, ends = np.deg2rad(theta_deg), [0, n_angles - 1]
    for level in np.unique(levels):
        picked = np.flatnonzero(levels == level)
        images = project(phantom, theta_rad[ends], level * 0.01, N_ROWS, N_COLS)
        scan[np.ix_(ends, picked)] = images[:, picked]
    for row in np.linspace(0, N_ROWS - 1, 5).round().astype(int):
        images = project(phantom, theta_rad, levels[row] * 0.01, N_ROWS, N_COLS)
        scan[:, row] = images[:, row]
    kept = rows_of(scan, theta_deg, n_kept=5)
    noisy = np.random.default_rng(seed).normal(size=kept.pairs.shape) / np.sqrt(counts * 0.4)
    return replace(kept, pairs=(kept.pairs + noisy).astype(np.float32))


def slope_of(rows):
    return measure_roll(Prepared(rows), COR_PX)[0]


@pytest.mark.parametrize("slope", [0.0, 0.004, -0.012])
def test_slope_of_projection_pairs_to_a_twentieth_of_a_pixel_per_100_rows(slope):
    assert slope_of(rolled(slope)) == pytest.approx(100 * slope, abs=0.05)


def turned(roll_deg, n_rows=N_ROWS, n_cols=N_COLS, cor_px=COR_PX):
    """Rows of a scan, of two projections, on a detector that is turned by so many degrees."""
    phantom = make_phantom("rock", n_cols, n_rows, 3)
    images = project(phantom, np.deg2rad([0, 180]), cor_px, n_rows, n_cols)
    images = ndimage.rotate(images, roll_deg, axes=(1, 2), reshape=False, order=1, mode="nearest")
    noise = np.random.default_rng(3).normal(0, 0.01, images.shape)
    return rows_of((images + noise).astype(np.float32), [0, 180])


@pytest.mark.parametrize("roll_deg", [1.5, -3.0, 5.0])
@pytest.mark.parametrize("off_px", [-0.6, 0.0, 1.0])
def test_a_roll_is_known_where_bands_are_far_from_the_cor(roll_deg, off_px):
    slope, error = measure_roll(Prepared(turned(roll_deg)), COR_PX + off_px)
    assert np.rad2deg(np.arctan(slope / 100)) == pytest.approx(roll_deg, abs=0.15)
    text, spoils = tilt_of((slope, error), UsedRows(), N_ROWS)
    assert text.startswith("the axis is tilted")
    assert spoils == (abs(roll_deg) > 2)  # 1.5 degrees are 1.7 px at the outermost rows


@pytest.mark.parametrize("off_px", [-4.0, 0.0, 4.0])
def test_a_wrong_cor_is_no_roll(off_px):
    found = measure_roll(Prepared(turned(0.0)), COR_PX + off_px)
    assert found is None or tilt_of(found, UsedRows(), N_ROWS) == ("", False)


@pytest.mark.parametrize("roll_deg", [0.0, 0.3, -1.5, 4.0])
@pytest.mark.parametrize("n_rows", [256, 384])  # of 384 two are averaged
def test_a_roll_is_measured_without_a_cor(roll_deg, n_rows):
    n_cols = 256
    roll = roll_of(turned(roll_deg, n_rows, n_cols, cor_px=137.4))
    assert roll.deg == pytest.approx(roll_deg, abs=0.04)
    assert roll.correction_deg(n_rows, n_cols) == pytest.approx(roll_deg, abs=0.04)
    assert (roll.correction_deg(n_rows, n_cols) == 0) == (roll_deg == 0)


@pytest.mark.parametrize("roll_deg", [0.0, 0.12, -0.8, 2.5])
def test_at_512_px_whole_images_make_a_roll_right_to_0_003_degrees(roll_deg):
    roll = roll_of(turned(roll_deg, 512, 512, cor_px=262.3))
    assert roll.correction_deg(512, 512) == pytest.approx(roll_deg, abs=0.003 if roll_deg else 0)


@pytest.mark.parametrize(
    ("deg", "error_deg", "corrected", "says"),
    [
        (0.09, 0.005, 0.09, ""),  # 0.57 px at the corner of 512 x 512
        (-0.09, 0.005, -0.09, ""),
        (0.07, 0.005, 0.0, ""),  # 0.44 px
        (0.09, 0.0185, 0.0, ""),  # 4.9 standard errors
        (-0.3, 0.03, 0.0, "a roll of -0.30 ± 0.03 degrees is not"),  # not within 0.02 degrees
        (2.0, 0.03, 2.0, ""),  # but in a twentieth
    ],
)
def test_a_roll_is_corrected_where_it_shows_and_is_sure(deg, error_deg, corrected, says):
    assert Roll(deg, error_deg).correction_deg(512, 512) == corrected
    assert Roll(deg, error_deg).remark(512, 512).startswith(says)
    assert bool(Roll(deg, error_deg).remark(512, 512)) == bool(says)


def test_without_opposing_projections_nothing_is_measured():
    rows = rows_of(np.random.default_rng(0).normal(size=(2, 64, 96)).astype(np.float32), [0, 90])
    assert roll_of(rows) is None


@pytest.mark.parametrize("cor_px", [1.0, 2.9, 92.5, 95.0])
def test_next_to_an_edge_too_few_columns_overlap_for_a_roll(cor_px):
    assert measure_roll(Prepared(turned(0.0, 64, 96, cor_px)), cor_px) is None


def test_slope_of_a_few_rows_without_pairs():
    rows = rolled(0.01)
    rows = replace(rows, pairs=rows.pairs[:0], pair_theta_rad=rows.pair_theta_rad[:0])
    assert slope_of(rows) == pytest.approx(1.0, abs=0.1)


def test_noise_and_few_rows_have_no_roll():
    rows = rolled(0.0)
    noise = np.random.default_rng(0).normal(size=rows.pairs.shape).astype(np.float32)
    assert measure_roll(Prepared(replace(rows, pairs=noise)), COR_PX) is None
    few = replace(rows, pairs=rows.pairs[:, :, :12], sinograms=rows.sinograms[:3], n_rows=12)
    assert measure_roll(Prepared(few), COR_PX) is None


def test_wrong_points_do_not_turn_the_line():
    row = np.arange(12.0)
    value = 5 + 0.02 * row + 0.001 * np.random.default_rng(0).normal(size=12)
    value[[0, 7, 11]] = [9.0, 1.0, 8.0]
    slope, error = fit_line(row, value)
    assert slope == pytest.approx(0.02, abs=0.001)
    assert error < 0.001
    assert fit_line(row, np.random.default_rng(1).normal(0, 5, 12)) is None


def test_of_a_few_points_all_are_on_the_line():
    row = np.array([10.0, 2, 17, 6, 13])
    value = np.array([50.37, 49.73, 50.95, 50.04, 50.62])
    slope, error = fit_line(row, value)
    assert (slope, error) == pytest.approx((0.082, 0.001), abs=0.002)
    value[3] += 0.57  # as noise had it, in a scan without a roll
    assert fit_line(row, value) is None
    value[3] -= 0.3
    assert fit_line(row, value)[1] > 0.01


@pytest.mark.parametrize(
    ("roll", "rows_in_use", "roll_deg", "text"),
    [
        ((2.6, 0.02), (0, 200), 0.0, "2.6 px|{roll_deg: 1.49}"),
        ((-2.6, 0.02), (0, 100), 0.3, "2.6 px|{roll_deg: -1.19}"),
        ((2.6, 0.02), (80, 140), 0.0, "1.0 px|{roll_deg: 1.49}"),
        ((2.6, 0.02), (90, 110), 0.0, ""),  # few rows
        ((0.4, 0.02), (0, 200), 0.0, ""),
        ((0.6, 0.13), (0, 200), 0.0, ""),  # not known well enough
    ],
)
def test_a_tilted_axis_is_told_with_the_whole_roll_that_corrects_it(
    roll, rows_in_use, roll_deg, text
):
    told, spoils = tilt_of(roll, UsedRows(roll_deg, rows_in_use), 201)
    off, _, whole = text.partition("|")
    expected = f"the axis is tilted: {off} off at the outermost rows; `preprocess: {whole}` "
    assert told.removesuffix(" (now 0.3)") == (f"{expected}corrects it" if text else "")
    assert told.endswith("(now 0.3)") == (roll_deg == 0.3)
    assert spoils == text.startswith("2.6")


def test_lines_that_served_for_the_cor_give_the_same_roll():
    rows = turned(1.5)
    before = Prepared(rows)
    _ = before.opposing["pairs"].fine
    assert measure_roll(before, COR_PX) == measure_roll(Prepared(rows), COR_PX)
