"""The double-wedge metric: against its definition, a public implementation and known CORs."""

import numpy as np
import pytest
from find_rows import THETA_180_DEG, rows_of, scan
from phantoms import make_phantom

from tomopipe.cor.answer import prominence
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.wedge import coarse_wedge, refine_wedge, wedge_metric

pytestmark = pytest.mark.slow


def find(projections, theta_deg=THETA_180_DEG, *, n_kept=3):
    prepared = Prepared(rows_of(projections, theta_deg, n_kept=n_kept, pairs=False))
    binning = max(1, round(prepared.n_cols / 384))
    cor_px, score = coarse_wedge(prepared.sinograms, prepared.angles, binning)
    near_px = cor_px[np.argmax(prominence(score.mean(axis=0), len(cor_px) // 8))]
    return refine_wedge(prepared.sinograms, prepared.angles, near_px, 4 * binning)


def assert_found(found_px, cor_px, tolerance_px):
    assert found_px == pytest.approx(cor_px, abs=tolerance_px)


def slow_metric(half, shift):
    """Build 360 degrees with the shifted, filled mirror copy; transform it; sum the region."""
    n, n_cols = half.shape
    source = n_cols - 1 + shift - np.arange(n_cols)
    inside = (source >= 0) & (source < n_cols)
    mirror = np.where(inside, half[:, np.clip(source, 0, n_cols - 1)], half[::-1])
    spectrum = np.abs(np.fft.fft2(np.vstack([half, mirror])))
    v, k = np.meshgrid(np.arange(2 * n), np.round(np.fft.fftfreq(n_cols) * n_cols), indexing="ij")
    weight = np.exp(-2 * (np.pi * 3 * v / (2 * n)) ** 2)
    weight *= np.abs(k) <= np.ceil(2 * v / np.pi)  # v / (2 pi R / n_cols), R = n_cols / 4
    weight *= (v > min(20, int(0.1 * n))) & (v < min(n, int(0.28 * n) + 8)) & (np.abs(k) >= 2)
    weight *= 2 * np.abs(k) < n_cols
    return np.sum(weight * spectrum) / np.sum(weight)


@pytest.mark.parametrize("shape", [(40, 31), (40, 32), (41, 33), (60, 20)])
@pytest.mark.parametrize("first", [-15, -3, 2])
def test_partial_sums_give_what_the_whole_transform_gives(shape, first):
    half = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    shifts = np.arange(first, first + 12)
    expected = [slow_metric(half.astype(float), shift) for shift in shifts]
    np.testing.assert_allclose(wedge_metric(half, shifts), expected, rtol=1e-4)


@pytest.mark.parametrize("cor_px", [71.4, 85.2])
def test_agrees_with_algotom(cor_px):
    from algotom.prep.calculation import find_center_vo

    sinogram = scan(cor_px, n_rows=1, counts=20000)
    theirs = find_center_vo(sinogram[:, 0], start=50, stop=110, ncore=1)
    ours = find(sinogram, n_kept=1)
    assert_found(ours, cor_px, 0.5)
    assert ours == pytest.approx(theirs, abs=0.5)


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, 0.0, 7.3])
def test_noise_free_to_a_fifth_of_a_pixel(n_cols, offset_px):
    cor_px = (n_cols - 1) / 2 + offset_px
    assert_found(find(scan(cor_px, n_cols=n_cols)), cor_px, 0.2)


def test_no_constant_bias():
    """Many objects average to the truth: a half pixel, or a quarter, would show."""
    errors = [
        find(scan(79.5 + 7.3, phantom=kind, seed=seed)) - 79.5 - 7.3
        for kind in ("rock", "foam", "capillary")
        for seed in range(3)
    ]
    assert abs(np.mean(errors)) < 0.1


@pytest.mark.parametrize("phantom", ["rock", "foam", "capillary"])
def test_with_photon_noise_to_half_a_pixel(phantom):
    assert_found(find(scan(83.37, phantom=phantom, counts=3000, seed=1)), 83.37, 0.5)


@pytest.mark.parametrize(
    "theta_deg",
    [
        THETA_180_DEG[:-1],
        -37.0 - THETA_180_DEG,
        np.random.default_rng(0).permutation(THETA_180_DEG) + 200,
        np.linspace(10, 370, 361),
    ],
    ids=["no end point", "descending", "shuffled", "360 degrees"],
)
def test_any_start_order_and_direction(theta_deg):
    assert_found(find(scan(72.8, theta_deg=theta_deg), theta_deg), 72.8, 0.5)


def test_binned_search_of_a_wide_detector_ends_at_full_size():
    theta_deg = np.linspace(0, 180, 241)
    sinogram = scan(420.3, n_cols=800, n_rows=1, theta_deg=theta_deg, counts=20000)
    assert_found(find(sinogram, theta_deg, n_kept=1), 420.3, 0.5)


@pytest.mark.parametrize("cor_px", [88.2, 100.3])
def test_stripes_and_a_drifting_beam_do_not_pull_to_the_middle(cor_px):
    rng = np.random.default_rng(5)
    stripes = 0.1 * rng.normal(size=160) * (rng.random(160) < 0.15)
    drift = np.cumsum(rng.normal(size=181)) / 10
    damaged = scan(cor_px, counts=10000) + stripes + drift[:, None, None]
    assert_found(find(damaged.astype(np.float32)), cor_px, 0.5)


def test_a_truncated_sample():
    wide = make_phantom("rock", 230, 8, 1)
    assert_found(find(scan(86.4, phantom=wide)), 86.4, 0.5)
