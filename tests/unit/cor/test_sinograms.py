"""Cleaning removes what is not the sample, and only that."""

import numpy as np
import pytest
from scipy import ndimage

from tests.find_rows import scan
from tomopipe.cor.sinograms import (
    band_pass,
    bin_columns,
    fill_dead_columns,
    opposing_rows,
    remove_stripes,
    remove_zingers,
    resample_180,
    rotating_share,
    sort_angles,
)

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def sinogram():
    return scan(83.3, n_rows=1)[:, 0]


def noisy(sinogram, sigma=0.01, seed=0):
    return (sinogram + RNG(seed).normal(0, sigma, sinogram.shape)).astype(np.float32)


def test_zingers_are_replaced_and_nothing_else(sinogram):
    before = noisy(sinogram)
    hit = before.copy()
    spots = RNG(1).permutation(before.size)[:60]
    hit.flat[spots] += np.where(np.arange(60) % 2, 1.0, -1.0).astype(np.float32)
    after = remove_zingers(hit)
    assert np.abs(after - before).flat[spots].max() < 0.3
    untouched = np.ones(before.size, bool)
    untouched[spots] = False
    assert np.mean((after != hit).flat[untouched]) < 1e-3


@pytest.mark.parametrize("column", [0, 1, 118, 119])
def test_a_zinger_at_the_border_is_replaced(column):
    before = noisy(np.zeros((50, 120), np.float32))
    hit = before.copy()
    hit[20, column] = -2.0
    assert np.abs(remove_zingers(hit) - before).max() < 0.1


def test_an_edge_that_moves_between_angles_and_two_angles_have_no_zinger():
    # 3 px per angle, as at the rim of a wide detector: far off the median of three angles
    edge = (np.arange(120) > 30 + 3 * np.arange(20)[:, None]).astype(np.float32)
    for lines in (noisy(edge, 1e-3), noisy(np.zeros((2, 20), np.float32))):
        np.testing.assert_array_equal(remove_zingers(lines), lines)


def test_dead_columns_are_interpolated_and_nothing_else(sinogram):
    np.testing.assert_array_equal(fill_dead_columns(sinogram), sinogram)
    dead = sinogram.copy()
    dead[:, [20, 50, 51]] = 5 * sinogram.max()
    filled = fill_dead_columns(dead)
    alive = np.delete(np.arange(sinogram.shape[1]), [20, 50, 51])
    np.testing.assert_array_equal(filled[:, alive], sinogram[:, alive])
    np.testing.assert_allclose(filled[:, 20], sinogram[:, [19, 21]].mean(axis=1), rtol=1e-5)
    slope = np.linspace(0, 1, 4)[1:3]
    between = sinogram[:, [49]] * (1 - slope) + sinogram[:, [52]] * slope
    np.testing.assert_allclose(filled[:, 50:52], between, rtol=1e-5, atol=1e-6)


def test_stripes_vanish_and_the_sample_stays(sinogram):
    stripes = np.zeros(sinogram.shape[1], np.float32)
    stripes[[20, 61, 62, 63, 120]] = [0.2, -0.1, -0.1, -0.1, 0.3]
    empty = noisy(np.zeros_like(sinogram)) + stripes
    assert np.abs(remove_stripes(empty).mean(axis=0)).max() < 0.01
    assert np.corrcoef(remove_stripes(sinogram).ravel(), sinogram.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("binning", [1, 3, 8, 83])
def test_binned_columns_have_the_mean_of_theirs(sinogram, binning):
    stack = np.stack([sinogram, 2 * sinogram])[..., ::-1]
    n_left = sinogram.shape[1] // binning
    blocks = stack[..., : n_left * binning].astype(float).reshape(2, -1, n_left, binning)
    binned = bin_columns(stack, binning)
    assert binned.dtype == np.float32
    np.testing.assert_allclose(binned, blocks.mean(axis=-1), atol=1e-6 * stack.max())


def test_band_pass_keeps_the_size_between_its_bounds():
    u = np.arange(400)
    waves = [np.sin(2 * np.pi * u / period).astype(np.float32) for period in (3, 20, 400)]
    kept = [band_pass(w, 10.0)[100:300].std() / w[100:300].std() for w in waves]
    assert kept[0] < 0.15
    assert kept[1] > 0.85
    assert kept[2] < 0.15


@pytest.mark.parametrize(("n_cols", "long_px"), [(7, 4.0), (65, 40.0), (341, 21.3125), (512, 6.0)])
def test_the_wide_gaussian_of_a_band_pass_repeats_edge_values(n_cols, long_px):
    lines = (500 + RNG(1).normal(size=(3, n_cols)).cumsum(axis=1)).astype(np.float32)
    smooth, wide = (
        ndimage.gaussian_filter1d(lines.astype(float), sigma, axis=-1, mode="nearest")
        for sigma in (1.0, long_px)
    )
    np.testing.assert_allclose(band_pass(lines, long_px), smooth - wide, atol=1e-4)


@pytest.mark.parametrize("kind", ["noise", "drift", "stripes", "fading beam", "constant", "zero"])
@pytest.mark.parametrize("seed", range(5))
def test_what_does_not_turn_is_no_sample(kind, seed):
    rng, shape = RNG(seed), (121, 160)
    time = np.cumsum(rng.normal(size=shape[0]))[:, None] / 10
    background = {
        "noise": 0,
        "drift": time,
        "stripes": rng.normal(size=shape[1]),
        "fading beam": time + time**2 * np.cos(np.arange(shape[1]) / 50),
        "constant": 3.0,
        "zero": 0,
    }[kind]
    image = np.zeros(shape) + background
    if kind not in ("constant", "zero"):
        image += rng.normal(0, 0.05, shape)
    assert rotating_share(image.astype(np.float32)) < 0.2


@pytest.mark.parametrize("kind", ["rock", "foam", "capillary"])
def test_a_sample_turns_even_in_noise(kind):
    assert rotating_share(scan(77.0, n_rows=1, phantom=kind, counts=300)[:, 0]) > 0.3


START = 0.7


def waves(theta_rad):
    """One slow wave per column: its value at any angle is known."""
    return np.cos(theta_rad[:, None] + np.arange(5)).astype(np.float32)


def theta_of(kind):
    half, full = np.linspace(0, np.pi, 181), np.linspace(0, 2 * np.pi, 361)
    return (
        START
        + {
            "ascending": half,
            "descending": -half,
            "shuffled": np.random.default_rng(0).permutation(half),
            "no end point": half[:-1],
            "full": full,
            "720 degrees": np.arange(720) * np.pi / 180,
        }[kind]
    )


KINDS = ["ascending", "descending", "shuffled", "no end point", "full", "720 degrees"]


@pytest.mark.parametrize("kind", KINDS)
def test_180_degrees_on_an_even_grid_without_its_end(kind):
    theta = theta_of(kind)
    angles = sort_angles(theta)
    half = resample_180(waves(theta)[angles.order], angles)
    assert len(half) == 180
    expected = waves(theta.min() + np.pi * np.arange(180) / 180)
    np.testing.assert_allclose(half, expected, atol=1e-3)


def test_a_dense_scan_is_averaged_to_the_rows_asked_for():
    theta = np.linspace(0, np.pi, 1801)
    half = resample_180(waves(theta), sort_angles(theta), n_max=300)
    assert len(half) == 300
    np.testing.assert_allclose(half, waves(np.pi * np.arange(300) / 300), atol=2e-3)


@pytest.mark.parametrize("kind", ["ascending", "descending", "shuffled", "full", "720 degrees"])
def test_opposing_rows_are_180_degrees_apart(kind):
    theta = theta_of(kind)
    angles = sort_angles(theta)
    assert angles.reaches_180
    first, second = opposing_rows(waves(theta)[angles.order], angles)
    assert len(first) == {"full": 96, "720 degrees": 96}.get(kind, 1)
    np.testing.assert_allclose(second, -first, atol=1e-3)


def test_one_missing_step_is_bridged_from_both_ends():
    theta = theta_of("no end point")
    angles = sort_angles(theta)
    assert not angles.reaches_180
    first, second = opposing_rows(waves(theta)[angles.order], angles)
    np.testing.assert_allclose(second, -first, atol=1e-3)
    np.testing.assert_allclose(first, waves(np.array([START - angles.step_rad / 2])), atol=1e-3)


def test_a_shorter_scan_has_no_opposing_rows_and_says_what_is_missing():
    theta = np.deg2rad(np.arange(0, 161))
    angles = sort_angles(theta)
    assert np.rad2deg(angles.gap_rad) == pytest.approx(19, abs=0.1)
    first, second = opposing_rows(waves(theta), angles)
    assert len(first) == len(second) == 0


@pytest.mark.parametrize("theta", [[1.0], [2.0, 2.0, 2.0]])
def test_a_single_angle_has_neither_step_nor_opposing_rows(theta):
    angles = sort_angles(np.array(theta))
    assert angles.step_rad == 0
    assert len(opposing_rows(waves(np.array(theta)), angles)[0]) == 0
