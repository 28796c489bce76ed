"""Sharpness of slices made by the engine, against exact phantoms of known COR."""

import numpy as np
import pytest
from find_rows import THETA_180_DEG, rows_of, scan

from tomopipe.cor.answer import prominence
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.slices import coarse_slices, reconstruct, refine_slices, sharpness

pytestmark = pytest.mark.slow


def find(projections, theta_deg=THETA_180_DEG, *, n_kept=2):
    """The deepest dip of both measures below their running medians, then finer slices."""
    prepared = Prepared(rows_of(projections, theta_deg, n_kept=n_kept, pairs=False))
    cor_px, measures = coarse_slices(prepared, reconstruct)
    each = measures[:, :2].reshape(-1, len(cor_px))
    score = np.mean([prominence(curve, len(cor_px) // 8) for curve in each], axis=0)
    reach_px = 1.5 * max(1, round(prepared.n_cols / 128))
    return refine_slices(prepared, cor_px[np.argmax(score)], reach_px, reconstruct)


def assert_found(found_px, cor_px, tolerance_px):
    assert found_px == pytest.approx(cor_px, abs=tolerance_px)


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, 7.3])
def test_180_degrees_to_a_fifth_of_a_pixel(n_cols, offset_px):
    cor_px = (n_cols - 1) / 2 + offset_px
    assert_found(find(scan(cor_px, n_cols=n_cols)), cor_px, 0.2)


@pytest.mark.parametrize(
    "theta_deg",
    [np.linspace(0, 360, 361), 20 - np.linspace(0, 172, 173), np.linspace(0, 178, 90)],
    ids=["360", "172 degrees, descending", "178 degrees"],
)
def test_other_turns_to_half_a_pixel(theta_deg):
    noisy = scan(72.8, theta_deg=theta_deg, phantom="foam", counts=20000)
    assert_found(find(noisy, theta_deg), 72.8, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_wedge_of_150_degrees_to_a_pixel(seed):
    theta_deg = np.linspace(0, 150, 151)
    noisy = scan(72.8, theta_deg=theta_deg, counts=20000, seed=seed)
    assert_found(find(noisy, theta_deg), 72.8, 1)


def test_binned_search_of_a_wide_detector_ends_at_a_fraction_of_a_pixel():
    theta_deg = np.linspace(0, 180, 301)
    wide = scan(515.3, n_cols=1000, n_rows=1, theta_deg=theta_deg, counts=20000)
    assert_found(find(wide, theta_deg, n_kept=1), 515.3, 0.4)


def test_sharpness_of_two_levels_and_of_a_ramp():
    """Two equal levels have the entropy log 2; every gradient of a ramp is alike: L1 = L2."""
    halves = np.zeros((100, 100), np.float32)
    halves[:, 50:] = 1
    slope = np.tile(np.arange(100, dtype=np.float32) / 99, (100, 1))
    entropy, ratio, _ = sharpness(np.stack([halves, slope]), (0.0, 1.0), 1e-3)
    assert -entropy[0] == pytest.approx(np.log(2), abs=0.01)
    assert -entropy[1] > 3
    assert -ratio[1] == pytest.approx(1, abs=1e-3)
    assert -ratio[0] < 0.2
