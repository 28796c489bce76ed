"""Registration of opposing projections against exact phantoms of known COR."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import THETA_180_DEG, curves_of, grid, rows_of, scan
from phantoms import make_phantom, sphere

from tomopipe.cor.cross_correlation import correlate
from tomopipe.cor.opposing import remove_fixed
from tomopipe.cor.registration import find_registration
from tomopipe.simulate.phantom import Phantom

pytestmark = pytest.mark.slow


def find(projections, theta_deg=THETA_180_DEG, *, width_px=30.0, **options):
    rows = rows_of(projections, theta_deg, **options)
    return find_registration(curves_of(rows), grid(projections.shape[2], width_px))


def assert_found(evidence, cor_px, tolerance_px):
    assert evidence.verdict == "resolved"
    assert evidence.confidence >= 0.5
    assert evidence.best_cor_px == pytest.approx(cor_px, abs=tolerance_px)


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, -0.25, 0.0, 0.5, 7.3])
def test_noise_free_to_a_twentieth_of_a_pixel(n_cols, offset_px):
    # a bias of half a pixel (pixel edges, n_cols / 2) is ten times the tolerance
    cor_px = (n_cols - 1) / 2 + offset_px
    found = find(scan(cor_px, n_cols=n_cols))
    assert_found(found, cor_px, 0.05)
    best = found.curve_cor_px[np.argmax(found.curve_score)]
    assert best == pytest.approx(cor_px, abs=0.51)


@pytest.mark.parametrize("phantom", ["rock", "foam", "capillary"])
@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "opposing rows"])
def test_with_photon_noise_to_a_quarter_pixel(phantom, pairs):
    noisy = scan(83.37, phantom=phantom, counts=3000, seed=1)
    assert_found(find(noisy, pairs=pairs), 83.37, 0.25)


@pytest.mark.parametrize(
    "theta_deg",
    [
        THETA_180_DEG[::-1],
        -37.0 - THETA_180_DEG,
        np.random.default_rng(0).permutation(THETA_180_DEG) + 200,
        np.linspace(10, 370, 361),
        np.linspace(0, 200, 201),
    ],
    ids=["descending", "negative", "shuffled", "360 degrees", "200 degrees"],
)
@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "opposing rows"])
def test_any_start_order_and_direction(theta_deg, pairs):
    assert_found(find(scan(72.8, theta_deg=theta_deg), theta_deg, pairs=pairs), 72.8, 0.1)


def test_without_the_end_point_the_ends_are_extrapolated():
    theta_deg = np.arange(0, 180, 0.5)
    found = find(scan(72.8, theta_deg=theta_deg), theta_deg, pairs=False)
    assert_found(found, 72.8, 0.25)


def test_pairs_that_are_a_degree_off_give_way_to_interpolated_rows():
    theta_deg = np.arange(0, 181, 2.0)
    projections = scan(72.8, theta_deg=theta_deg)
    rows = rows_of(projections, theta_deg)
    off = scan(72.8, theta_deg=[0.0, 181.0])
    rows = replace(rows, pairs=off[None], pair_theta_rad=np.deg2rad([[0.0, 181.0]]))
    assert_found(find_registration(curves_of(rows), grid(160)), 72.8, 0.1)


@pytest.mark.parametrize("seed", range(4))
def test_a_missing_step_that_spans_pixels_is_not_trusted_with_a_poor_match(seed):
    theta_deg = np.arange(0, 180, 4.0)
    wide = make_phantom("rock", 320, 8, seed)
    truncated = scan(72.8, theta_deg=theta_deg, phantom=wide, counts=5000, seed=seed)
    assert find(truncated, theta_deg, pairs=False).confidence < 0.5


def test_one_row_is_enough():
    assert_found(find(scan(84.2, n_rows=1, counts=5000), n_kept=1), 84.2, 0.25)


@pytest.mark.parametrize("cor_px", [46.3, 118.6])
def test_an_axis_far_from_the_middle(cor_px):
    assert_found(find(scan(cor_px, counts=5000), width_px=50), cor_px, 0.25)


@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_sample(seed):
    wide = make_phantom("rock", 320, 8, seed)
    assert_found(find(scan(86.4, phantom=wide, counts=10000)), 86.4, 0.25)


@pytest.mark.parametrize("shift", [-60, -13, 0, 8, 71])
def test_correlation_is_that_of_the_overlap(shift):
    direct, flipped = np.random.default_rng(0).normal(size=(2, 6, 80)).astype(np.float32)
    low, high = max(0, shift), 80 + min(0, shift)
    left, right = direct[:, low:high], flipped[:, low - shift : high - shift]
    expected = np.array(
        [np.sum(left**2) / np.sum(direct**2), np.sum(right**2) / np.sum(flipped**2)]
    )
    found, share = correlate(direct, flipped, np.array([0, 0, 0, 1, 1, 1]))
    assert share[-1, 79 + shift] == pytest.approx(np.sqrt(expected.prod()), rel=1e-5)
    floor = 0.1 * (high - low) / 80
    product = np.sum(left * right) / np.sqrt(np.sum(direct**2) * np.sum(flipped**2))
    assert found[-1, 79 + shift] == pytest.approx(
        product / np.sqrt((expected + floor).prod()), abs=1e-5
    )
    assert np.abs(found).max() < 1


@pytest.mark.parametrize("seed", range(3))
def test_dust_that_stays_does_not_pull(seed):
    """Spots of the detector as strong as the sample: flipped, they match each other elsewhere."""
    rng = np.random.default_rng(seed)
    dust = np.zeros((8, 160), np.float32)
    for row, column in zip(rng.integers(0, 8, 12), rng.integers(0, 160, 12), strict=True):
        dust[row, column : column + 6] += 1.2
    clean = scan(88.4, counts=20000, seed=seed)
    assert_found(find(clean + dust), 88.4, 0.25)


def test_a_fixed_pattern_is_removed_and_a_turning_one_kept():
    rng = np.random.default_rng(0)
    fixed, first, second = rng.normal(size=(3, 20, 200)).astype(np.float32)
    direct, flipped = remove_fixed(first + 3 * fixed, (second + 3 * fixed)[:, ::-1])
    assert abs(np.corrcoef(direct.ravel(), fixed.ravel())[0, 1]) < 0.6
    assert abs(np.corrcoef(direct.ravel(), flipped[:, ::-1].ravel())[0, 1]) < 0.3
    direct, flipped = remove_fixed(first, second[:, ::-1])
    np.testing.assert_array_equal(direct, first)
    np.testing.assert_array_equal(flipped, second[:, ::-1])


@pytest.mark.parametrize("cor_px", [50.0, 107.0])
def test_an_answer_outside_the_candidates_is_found_and_said(cor_px):
    found = find(scan(cor_px, counts=5000), width_px=10)
    assert found.verdict == "resolved"
    assert "outside of the candidates" in found.reason
    assert found.best_cor_px == pytest.approx(cor_px, abs=0.25)


def test_less_than_180_degrees_gives_no_answer():
    theta_deg = np.arange(0, 160.0)
    found = find(scan(80, theta_deg=theta_deg), theta_deg, pairs=False)
    assert (found.verdict, found.best_cor_px) == ("flat", None)
    assert "180 degrees apart" in found.reason


def test_made_up_angles_cost_confidence():
    rows = rows_of(scan(83.3), THETA_180_DEG)
    confidence = find_registration(curves_of(rows), grid(160)).confidence
    assert (
        find_registration(curves_of(replace(rows, theta_missing=True)), grid(160)).confidence
        < confidence
    )


def test_two_places_that_match_are_ambiguous():
    """A row of equal beads matches itself after a shift by the distance of two of them."""
    beads = Phantom("comb", tuple(sphere(16.0 * i, 0, 0, 3) for i in range(-30, 31)))
    theta_deg = np.linspace(0, 180, 61)
    found = find(scan(79.5, n_rows=1, phantom=beads, theta_deg=theta_deg), theta_deg)
    assert found.confidence < 0.5
