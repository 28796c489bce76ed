"""Bad pixels and zingers: defects put where we know them."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from tomopipe.prep.bad_pixels import find_bad_pixels, plan_repair, remove_zingers
from tomopipe.prep.host_kernels import median_of_square

SHAPE = (24, 40)


def smooth_frames(n=3, noise=0.01):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = 0.6 + 0.2 * np.sin(x / 9) * np.cos(y / 7)
    return (image + np.random.default_rng(0).normal(0, noise, (n, *SHAPE))).astype(np.float32)


def flat_and_dark():
    random = np.random.default_rng(1)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flat = 1000 * np.exp(-((x - 20) ** 2 + (y - 12) ** 2) / 800) + random.normal(0, 5, SHAPE) + 100
    return flat.astype(np.float32), np.full(SHAPE, 100, np.float32)


def test_bad_pixels_are_found_and_no_others():
    flat, dark = flat_and_dark()
    truth = np.zeros(SHAPE, bool)
    for row, col, value in [(3, 5, 100), (7, 20, 5000), (12, 0, 90), (0, 39, np.nan)]:
        flat[row, col] = value
        truth[row, col] = True
    dark[20, 30] += 600  # hot, though its flat is as high
    flat[20, 30] += 600
    truth[20, 30] = True
    assert np.array_equal(find_bad_pixels(flat, dark, 0.3), truth)


def test_sound_detectors_have_no_bad_pixels():
    assert not find_bad_pixels(*flat_and_dark(), 0.3).any()


def test_bad_pixels_are_interpolated_in_any_block_of_rows():
    truth = smooth_frames(noise=0)
    bad = np.zeros(SHAPE, bool)
    bad[4, 10:13] = bad[9, :2] = bad[9, -1] = bad[15, 7] = True
    frames = truth.copy()
    frames[:, bad] = 50
    repair = plan_repair(bad)
    whole = frames.copy()
    repair.apply(whole, (0, SHAPE[0]))
    assert np.abs(whole - truth)[:, :, 2:-1].max() < 0.006  # a curve, cut short
    assert np.abs(whole - truth).max() < 0.06  # at the edge there is one side only
    assert np.array_equal(whole[:, ~bad], truth[:, ~bad])
    for rows in [(0, 5), (5, 10), (9, 16), (16, 24)]:
        part = frames[:, slice(*rows)].copy()
        repair.apply(part, rows)
        assert np.array_equal(part, whole[:, slice(*rows)])


def test_a_row_without_sound_pixels_is_left():
    bad = np.zeros(SHAPE, bool)
    bad[6] = True
    frames = smooth_frames()
    before = frames.copy()
    plan_repair(bad).apply(frames, (0, SHAPE[0]))
    assert np.array_equal(frames, before)


@pytest.mark.parametrize("size_px", [3, 5])
def test_zingers_go_and_nothing_else_changes(size_px):
    truth = smooth_frames()
    frames = truth.copy()
    positions = [(0, 3, 3), (1, 0, 39), (2, 23, 12), (0, 10, 20)]
    for position in positions:
        frames[position] += 1.0
    if size_px == 5:
        frames[1, 12:14, 30:33] += 2.0  # six of twenty-five
    cleaned = remove_zingers(frames, threshold=0.3, size_px=size_px)
    hit = frames != truth
    assert np.abs(cleaned - truth)[hit].max() < 0.08
    assert np.array_equal(cleaned[~hit], truth[~hit])


@pytest.mark.parametrize("size_px", [3, 5, 7])
def test_zingers_are_those_of_the_median(size_px):
    """The sums for CuPy, with SciPy's median."""
    frames = np.random.default_rng(5).normal(0.1, 0.3, (2, *SHAPE)).astype(np.float32)
    usual = median_filter(frames, (1, size_px, size_px), mode="nearest")
    expected = np.where(frames - usual > np.float32(0.4) * np.abs(usual), usual, frames)
    assert np.array_equal(remove_zingers(frames, threshold=0.4, size_px=size_px), expected)
    assert (expected != frames).mean() > 0.2


@pytest.mark.parametrize("size", [3, 5, 7])
def test_median_is_that_of_scipy(size):
    frames = smooth_frames(2)
    frames[1] = np.round(frames[1], 1)
    expected = median_filter(frames, (1, size, size), mode="nearest")
    assert np.array_equal(median_of_square(frames, size), expected)
