"""Scans over 360 degrees, the axis near an edge (half acquisition) or in the middle."""

import numpy as np
import pytest
from find_rows import curves_of, grid, rows_of, scan
from phantoms import make_phantom

from tomopipe.cor.registration import find_registration

pytestmark = pytest.mark.slow

THETA_360_DEG = np.linspace(0, 360, 241)


def wide_scan(cor_px, *, seed=0, counts=5000, theta_deg=THETA_360_DEG, n_rows=8):
    """A body of 1.4 detector widths about the axis."""
    wide = make_phantom("rock", 280, n_rows, seed)
    return scan(cor_px, phantom=wide, theta_deg=theta_deg, counts=counts, seed=seed, n_rows=n_rows)


def find(projections, theta_deg=THETA_360_DEG, *, n_kept=5):
    rows = rows_of(projections, theta_deg, n_kept=n_kept)
    return find_registration(curves_of(rows), grid(projections.shape[2], 74))


def assert_found(evidence, cor_px, tolerance_px):
    assert evidence.verdict == "resolved"
    assert evidence.confidence >= 0.5
    assert evidence.best_cor_px == pytest.approx(cor_px, abs=tolerance_px)


@pytest.mark.parametrize("cor_px", [14.3, 21.7, 40.2, 118.6, 144.4])
def test_half_acquisition_to_a_quarter_pixel(cor_px):
    assert_found(find(wide_scan(cor_px)), cor_px, 0.25)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_kept", [1, 5])
def test_few_photons_and_stripes_to_half_a_pixel(seed, n_kept):
    rng = np.random.default_rng(seed)
    stripes = 0.1 * rng.normal(size=160) * (rng.random(160) < 0.1)
    damaged = (wide_scan(131.8, seed=seed, counts=500) + stripes).astype(np.float32)
    assert_found(find(damaged, n_kept=n_kept), 131.8, 0.5)


@pytest.mark.parametrize(
    "theta_deg",
    [THETA_360_DEG[::-1], 40 + np.arange(0, 360, 1.5), THETA_360_DEG - 200],
    ids=["descending", "no end point", "negative"],
)
def test_any_start_and_direction(theta_deg):
    assert_found(find(wide_scan(22.6, theta_deg=theta_deg), theta_deg), 22.6, 0.25)


@pytest.mark.parametrize("cor_px", [75.3, 79.5, 86.2])
@pytest.mark.parametrize("size", [80, 160, 280], ids=["small", "whole", "truncated"])
def test_a_centred_360_degree_scan_is_not_mistaken(cor_px, size):
    phantom = make_phantom("foam", size, 8, 1)
    projections = scan(cor_px, phantom=phantom, theta_deg=THETA_360_DEG, counts=5000)
    assert_found(find(projections), cor_px, 0.25)


@pytest.mark.parametrize("seed", range(6))
def test_360_degrees_of_drift_and_dust_gives_no_answer(seed):
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.normal(size=241))[:, None, None] / 50
    dust = 0.2 * rng.normal(size=(8, 160)) * (rng.random((8, 160)) < 0.1)
    noise = 0.02 * rng.normal(size=(241, 8, 160))
    assert find((noise + dust + time).astype(np.float32)).confidence < 0.5
