"""The centre of mass: exact for whole objects at any angles, silent about all others."""

import numpy as np
import pytest
from find_rows import THETA_180_DEG, rows_of, scan
from phantoms import make_phantom
from scipy.ndimage import gaussian_filter1d, uniform_filter

from tomopipe.cor.kernels import average_around
from tomopipe.cor.mass import centre_of_mass, subtract_air, subtract_drift, swing_px
from tomopipe.cor.prepared import Prepared

pytestmark = pytest.mark.slow


def find(projections, theta_deg=THETA_180_DEG, *, n_kept=3):
    prepared = Prepared(rows_of(projections, theta_deg, n_kept=n_kept, pairs=False))
    return centre_of_mass(prepared.plain, prepared.angles)


def assert_found(found, cor_px, tolerance_px):
    found_px, error_px = found
    assert found_px == pytest.approx(cor_px, abs=tolerance_px)
    assert error_px < 0.8


@pytest.mark.parametrize(
    "theta_deg",
    [
        THETA_180_DEG,
        np.linspace(20, 160, 141),
        np.linspace(0, 360, 361),
        -37.0 - np.linspace(0, 100, 101),
        np.random.default_rng(0).permutation(THETA_180_DEG) + 200,
        np.linspace(0, 180, 19),
    ],
    ids=["180", "wedge of 140", "360", "wedge of 100, descending", "shuffled", "19 angles"],
)
@pytest.mark.parametrize("n_cols", [160, 161])
def test_a_whole_object_at_any_angles_to_a_twentieth_of_a_pixel(theta_deg, n_cols):
    cor_px = (n_cols - 1) / 2 + 7.3
    assert_found(find(scan(cor_px, n_cols=n_cols, theta_deg=theta_deg), theta_deg), cor_px, 0.05)


def test_an_old_flat_field_does_not_move_it():
    slope = np.linspace(0.02, -0.03, 160, dtype=np.float32)
    assert_found(find(scan(83.37) + slope), 83.37, 0.1)


@pytest.mark.parametrize("size", [1.05, 1.2, 1.4, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_truncated_object_gives_no_answer(size, seed):
    wide = make_phantom("rock", round(size * 160 / 0.8), 8, seed)
    assert find(scan(80.4, phantom=wide, counts=20000, seed=seed)) is None


@pytest.mark.parametrize("off_px", [-40.0, 32.0])
def test_an_object_that_leaves_the_field_for_some_angles_gives_no_answer(off_px):
    assert find(scan(79.5 + off_px, counts=20000)) is None


def walk(seed, step=0.02):
    return step * np.cumsum(np.random.default_rng(seed).normal(size=181))[:, None, None]


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_drifts_and_tilts_does_not_move_it(seed):
    drift = walk(seed) * np.linspace(0.2, 1, 160) + walk(seed + 4)
    small = make_phantom("rock", 120, 8, seed)
    drifting = (scan(83.3, phantom=small, counts=20000) + drift).astype(np.float32)
    assert_found(find(drifting), 83.3, 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_a_background_that_bends_gives_no_wrong_answer(seed):
    bend = walk(seed, 0.05) * np.linspace(-1, 1, 160) ** 2
    found = find((scan(83.3) + bend).astype(np.float32))
    assert found is None or found[1] > 0.5 or found[0] == pytest.approx(83.3, abs=0.5)


def test_too_short_an_arc_gives_no_answer():
    theta_deg = np.linspace(0, 60, 61)
    assert find(scan(80, theta_deg=theta_deg), theta_deg) is None


@pytest.mark.parametrize("reach_px", [2.0, 8.0])
def test_dust_is_measured_beside_the_sample_and_noise_is_none(reach_px):
    rng = np.random.default_rng(0)
    clean = rng.normal(0, 0.05, (200, 1200))
    clean[:, 400:700] += 2
    white = rng.normal(0, 1, 1200)  # smoothed by sigma, alike over twice as many columns by 1/e
    smooth = gaussian_filter1d(white, reach_px / 2, mode="wrap")
    pattern = 0.06 * smooth / smooth.std()
    _, (rms, found_px) = subtract_drift((clean + pattern).astype(np.float32))
    assert rms == pytest.approx(0.03, rel=0.15)
    assert found_px == pytest.approx(reach_px, rel=0.15)
    assert subtract_drift(clean.astype(np.float32))[1][0] < 5e-4


def test_no_drift_is_taken_off_and_no_dust_is_told_where_there_is_no_air():
    full = np.random.default_rng(0).normal(1, 0.1, (60, 100)).astype(np.float32)
    steady, (rms, _) = subtract_drift(full)
    assert steady is full
    assert rms == 0


def test_without_an_object_or_air_beside_it_there_is_no_air():
    for value in (0.0, 0.7):
        assert subtract_air(np.full((60, 100), value, np.float32)) is None
    sinogram = np.zeros((60, 100), np.float32)
    sinogram[:, 30:60] = 1
    assert subtract_air(sinogram + np.float32(0.3)) is not None
    assert subtract_air(sinogram + np.float32(1.5)) is None


def chord(theta_deg, n_cols, cor_px, x_px, y_px, radius_px):
    """Line integrals of a uniform disk, shape (n_angles, n_cols)."""
    theta_rad = np.deg2rad(theta_deg)[:, None]
    away = np.arange(n_cols) - cor_px - x_px * np.cos(theta_rad) - y_px * np.sin(theta_rad)
    return 2 * np.sqrt(np.clip(radius_px**2 - away**2, 0, None))


@pytest.mark.parametrize("counts", [None, 20000])
def test_a_faint_part_of_the_sample_is_not_air(counts):
    """It has a twentieth of the height and lies beside the sample, over 140 degrees; counted as air
    it would tilt the level of all columns, and move the COR by more than 2 px."""
    theta_deg, n_cols, cor_px = np.linspace(0, 140, 281), 400, 205.3
    dense = chord(theta_deg, n_cols, cor_px, -20, 10, 60) / 120
    lines = dense + 0.05 * chord(theta_deg, n_cols, cor_px, 120, 60, 40) / 80
    if counts:
        measured = np.random.default_rng(0).poisson(counts * np.exp(-lines))
        lines = -np.log(measured / counts)
    rows = np.repeat(lines[:, None].astype(np.float32), 3, axis=1)
    assert_found(find(rows, theta_deg), cor_px, 0.1 if counts is None else 0.3)


def test_dust_as_wide_as_ten_columns_lowers_the_precision():
    """It is behind the sample, too; the stated error is as large as the true one."""
    theta_deg, n_cols, cor_px = np.linspace(0, 150, 301), 300, 152.4
    dense = chord(theta_deg, n_cols, cor_px, 15, -10, 80) / 160
    errors, stated = [], []
    for seed in range(40):
        dust = gaussian_filter1d(np.random.default_rng(seed).normal(size=n_cols), 4) * 0.1
        lines = (dense + dust).astype(np.float32)
        angles = Prepared(rows_of(lines[:, None], theta_deg, n_kept=1, pairs=False)).angles
        found_px, sigma_px = centre_of_mass([lines], angles)
        errors.append(found_px - cor_px)
        stated.append(sigma_px)
    share = np.abs(errors) / np.array(stated)
    assert np.sqrt(np.mean(np.square(errors))) > 0.5  # the dust matters
    assert 0.3 < np.sqrt(np.mean(share**2)) < 1.2


def test_the_swing_is_how_far_the_centre_of_mass_is_from_the_axis():
    theta_rad = np.deg2rad(THETA_180_DEG)
    column = np.arange(160)
    centre_px = 75 + 13 * np.cos(theta_rad + 0.4)
    row = np.exp(-(((column - centre_px[:, None]) / 9) ** 2)).astype(np.float32)
    assert swing_px(np.stack([row, row]), theta_rad) == pytest.approx(13, abs=0.2)


def test_the_swing_of_a_sample_that_leaves_the_field_of_view_is_half_of_the_field():
    theta_rad = np.deg2rad(THETA_180_DEG)
    everywhere = 1 + 0.1 * np.sin(np.arange(160) / 5 + theta_rad[:, None])
    assert swing_px(everywhere[None].astype(np.float32), theta_rad) == 80


def test_many_angles_and_columns_are_averaged_to_find_air_and_each_angle_loses_its_own_drift():
    theta_deg, n_cols = np.linspace(0, 180, 1100), 1300
    disk = chord(theta_deg, n_cols, 640.0, 60.0, -30.0, 350.0) / 700
    rng = np.random.default_rng(0)
    drift = 0.3 * np.sin(np.linspace(0, 9, 1100))[:, None] * np.linspace(0.5, 1, n_cols)
    noisy = (disk + drift + rng.normal(0, 0.02, disk.shape)).astype(np.float32)
    level, air = subtract_air(noisy)
    certain = ~(disk > 0).any(axis=0)
    assert not (air & ~certain).any()
    assert air.sum() > 0.85 * certain.sum()
    assert air[-1]  # of the last, 1300 = 3 * 433 + 1, no block is made
    left = (level - disk).astype(np.float64)
    assert np.abs(left.mean(axis=1)).max() < 0.005
    assert left.std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("size", [(1, 1), (5, 4), (12, 9), (2, 30)])
def test_means_around_are_those_of_windows_with_repeated_edges(size):
    values = np.random.default_rng(9).normal(5.0, 1.0, (13, 31)).cumsum(axis=0)
    means = np.empty_like(values)
    average_around(values, *size, np.empty(31), means)
    np.testing.assert_allclose(means, uniform_filter(values, size, mode="nearest"), rtol=1e-13)
