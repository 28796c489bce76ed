"""A sample matches itself 180 degrees later, and only then; what fades matches at any angle."""

import numpy as np
import pytest
from find_rows import THETA_180_DEG, rows_of, scan
from phantoms import make_phantom
from scipy import ndimage

from tomopipe.cor.prepared import Prepared, rotation_gain, rotation_penalty
from tomopipe.cor.registration import opposing_sinograms

pytestmark = pytest.mark.slow


def fading(seed, theta_deg, n_blobs=5):
    """Blobs that stay in place and fade independently, and noise (n_angles, 4, 160)."""
    rng = np.random.default_rng(seed)
    column = np.arange(160)
    frames = 0.02 * rng.normal(size=(len(theta_deg), 4, 160))
    for _ in range(n_blobs):
        spot = np.exp(-(((column - rng.uniform(20, 140)) / rng.uniform(3, 12)) ** 2))
        course = 1 + 0.2 * np.cumsum(rng.normal(size=len(theta_deg))) / 5
        frames += (course[:, None] * spot)[:, None]
    return frames.astype(np.float32)


@pytest.mark.parametrize("size", [100, 260], ids=["whole", "truncated"])
@pytest.mark.parametrize(
    "theta_deg",
    [THETA_180_DEG, np.arange(0, 180, 1.5), np.linspace(20, -340, 241)],
    ids=["180", "no end point", "360"],
)
def test_a_sample_rotates(size, theta_deg):
    phantom = make_phantom("rock", size, 4, 0)
    projections = scan(84.3, n_rows=4, phantom=phantom, theta_deg=theta_deg, counts=2000)
    prepared = Prepared(rows_of(projections, theta_deg))
    assert rotation_penalty(prepared, 84.3) == 1.0
    assert rotation_penalty(prepared, 60.0) < 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("turn_deg", [180, 360])
def test_what_fades_in_place_does_not_rotate(seed, turn_deg):
    theta_deg = np.linspace(0, turn_deg, 121)
    prepared = Prepared(rows_of(fading(seed, theta_deg), theta_deg))
    penalties = [rotation_penalty(prepared, cor_px) for cor_px in np.arange(20, 140, 4.0)]
    assert np.mean(np.array(penalties) > 0.5) <= 0.07


def test_less_than_180_degrees_says_nothing():
    theta_deg = np.linspace(0, 150, 151)
    prepared = Prepared(rows_of(scan(84.3, theta_deg=theta_deg), theta_deg, pairs=False))
    assert rotation_gain(prepared, 84.3) is None
    assert rotation_penalty(prepared, 84.3) == 1.0


def test_an_axis_at_the_border_overlaps_too_little():
    prepared = Prepared(rows_of(scan(84.3), THETA_180_DEG))
    assert [rotation_gain(prepared, cor_px) for cor_px in (0.0, 1.0, 159.0)] == [None] * 3


@pytest.mark.parametrize(
    "theta_deg",
    [np.arange(0, 360, 1.0), np.linspace(0, -360, 8), np.arange(0, 700, 7.0)],
    ids=["dense", "fewer angles than are averaged", "almost twice"],
)
def test_lines_that_move_are_averaged_over_angles_as_if_all_were(theta_deg):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(len(theta_deg), 3, 90)).astype(np.float32)
    prepared = Prepared(rows_of(noise, theta_deg))
    assert prepared.angles.full_rotation
    smooth = [
        ndimage.gaussian_filter1d(s - s.mean(axis=0), 1.5, axis=0, mode="wrap")
        for s in prepared.sinograms
    ]
    expected, moving = opposing_sinograms(smooth, prepared.angles), prepared.opposing["moving"]
    assert len(moving.direct) > 0
    for side in ("direct", "flipped"):
        shown, truth = getattr(moving, side), getattr(expected, side)
        np.testing.assert_allclose(shown, truth, rtol=0, atol=1e-6 * np.abs(truth).max())
