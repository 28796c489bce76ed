"""Distortion and roll: frames warped by a known lens, and Algotom."""

import numpy as np
import pytest

from tomopipe.prep.warp import Warp, apply_warp

N_ROWS, N_COLS = 50, 64
FACTORS = (1.0, 2e-4, -3e-6)


def pattern(x, y):
    return 0.5 + 0.3 * np.sin(x / 6) * np.cos(y / 5)


def frames(n=2):
    y, x = np.mgrid[:N_ROWS, :N_COLS].astype(float)
    return np.stack([pattern(x + 3 * i, y) for i in range(n)]).astype(np.float32)


def test_roll_is_that_of_a_detector_that_was_turned():
    """A vertical line through the middle leans to larger columns; after correction it stands."""
    roll_deg = 2.0
    y = np.arange(N_ROWS) - (N_ROWS - 1) / 2
    x = np.arange(N_COLS) - (N_COLS - 1) / 2
    lean = np.tan(np.deg2rad(roll_deg)) * y[:, None]
    taken = np.exp(-((x - 5 - lean) ** 2) / 18).astype(np.float32)[None]
    warp = Warp(N_ROWS, N_COLS, roll_deg=roll_deg)
    upright = apply_warp(taken, warp, (0, N_ROWS), (0, N_ROWS))[0]
    inner = upright[4:-4]
    middle = (inner * x).sum(axis=1) / inner.sum(axis=1)
    assert np.abs(middle - middle.mean()).max() < 0.02
    middle = (taken[0] * x).sum(axis=1) / taken[0].sum(axis=1)
    assert np.ptp(middle) > 1.4


@pytest.mark.slow
def test_distortion_is_that_of_algotom():
    from algotom.prep.correction import unwarp_projection

    images = frames()
    warp = Warp(N_ROWS, N_COLS, distortion=FACTORS, centre_px=(30.0, 26.5))
    straight = apply_warp(images, warp, (0, N_ROWS), (0, N_ROWS))
    for image, got in zip(images, straight, strict=True):
        assert np.allclose(got, unwarp_projection(image, 30.0, 26.5, FACTORS), atol=1e-5)


def test_a_distorted_pattern_becomes_straight():
    """The lens brought to (x, y) what belongs at a distance that solves the backward model."""
    factors = (1.0, 2e-3)
    warp = Warp(N_ROWS, N_COLS, distortion=factors)
    middle_x, middle_y = (N_COLS - 1) / 2, (N_ROWS - 1) / 2
    radius = np.linspace(0, 60, 4000)
    distorted_at = radius * np.polynomial.polynomial.polyval(radius, factors)
    y, x = np.mgrid[:N_ROWS, :N_COLS].astype(float)
    distorted = np.hypot(x - middle_x, y - middle_y)
    true = np.interp(distorted, distorted_at, radius) / np.maximum(distorted, 1e-9)
    taken = pattern(middle_x + true * (x - middle_x), middle_y + true * (y - middle_y))
    straight = apply_warp(taken.astype(np.float32)[None], warp, (0, N_ROWS), (0, N_ROWS))[0]
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(straight - pattern(x, y))[inner].max() < 0.01  # of linear interpolation
    assert np.abs(taken - pattern(x, y))[inner].max() > 0.03


def test_too_few_rows_are_refused():
    warp = Warp(N_ROWS, N_COLS, roll_deg=5.0)
    with pytest.raises(ValueError, match="come from"):
        apply_warp(frames()[:, 20:21], warp, (20, 21), (20, 21))
