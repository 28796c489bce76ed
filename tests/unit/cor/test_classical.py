"""The method without a network, against exact phantoms of known COR."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import THETA_180_DEG, curves_of, grid, rows_of, scan
from phantoms import make_phantom, sphere

from tomopipe.cor.classical import find_classical
from tomopipe.simulate.phantom import Phantom

pytestmark = pytest.mark.slow

THETA_360_DEG = np.linspace(0, 360, 241)


def find(projections, theta_deg=THETA_180_DEG, *, width_px=30.0, **options):
    rows = rows_of(projections, theta_deg, **options)
    return find_classical(curves_of(rows), grid(projections.shape[2], width_px))


def assert_at(answer, cor_px, tolerance_px):
    assert answer.verdict == "resolved"
    assert answer.confidence >= 0.5
    assert answer.best_cor_px == pytest.approx(cor_px, abs=tolerance_px)


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, -0.25, 7.3])
def test_noise_free_to_a_tenth_of_a_pixel(n_cols, offset_px):
    # a bias of half a pixel (pixel edges, n_cols / 2) is five times the tolerance
    cor_px = (n_cols - 1) / 2 + offset_px
    answer = find(scan(cor_px, n_cols=n_cols))
    assert_at(answer, cor_px, 0.1)
    best = answer.curve_cor_px[np.argmax(answer.curve_score)]
    assert best == pytest.approx(cor_px, abs=1.01)


@pytest.mark.parametrize("phantom", ["rock", "foam", "capillary"])
@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "opposing rows"])
def test_with_photon_noise_to_a_quarter_pixel(phantom, pairs):
    noisy = scan(83.37, phantom=phantom, counts=3000, seed=1)
    assert_at(find(noisy, pairs=pairs), 83.37, 0.25)


@pytest.mark.parametrize(
    "theta_deg",
    [
        -37.0 - THETA_180_DEG,
        np.random.default_rng(0).permutation(THETA_180_DEG) + 200,
        np.linspace(0, 200, 201),
        np.arange(0, 180, 0.5),
    ],
    ids=["negative", "shuffled", "200 degrees", "no end point"],
)
def test_any_start_order_and_direction(theta_deg):
    assert_at(find(scan(72.8, theta_deg=theta_deg), theta_deg, pairs=False), 72.8, 0.25)


@pytest.mark.parametrize("cor_px", [46.3, 118.6])
def test_an_axis_far_from_the_middle_in_one_row(cor_px):
    assert_at(find(scan(cor_px, n_rows=1, counts=5000), width_px=50, n_kept=1), cor_px, 0.25)


@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_sample(seed):
    wide = make_phantom("rock", 320, 8, seed)
    assert_at(find(scan(86.4, phantom=wide, counts=10000)), 86.4, 0.25)


@pytest.mark.parametrize("cor_px", [14.3, 40.2, 86.2, 144.4])
def test_half_acquisition_and_a_centred_360_degree_scan(cor_px):
    """A body of 1.4 detector widths about the axis, or a whole one."""
    sample = "foam" if cor_px == 86.2 else make_phantom("rock", 280, 8, 0)
    projections = scan(cor_px, phantom=sample, theta_deg=THETA_360_DEG, counts=5000)
    assert_at(find(projections, THETA_360_DEG, width_px=74), cor_px, 0.25)


@pytest.mark.parametrize("seed", range(2))
def test_less_than_180_degrees(seed):
    theta_deg = np.arange(0, 150.0)
    projections = scan(84.6, theta_deg=theta_deg, counts=5000, seed=seed)
    assert_at(find(projections, theta_deg, pairs=False), 84.6, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_dust_that_stays_does_not_pull(seed):
    """Spots of the detector as strong as the sample: flipped, they match each other elsewhere."""
    rng = np.random.default_rng(seed)
    dust = np.zeros((8, 160), np.float32)
    for row, column in zip(rng.integers(0, 8, 12), rng.integers(0, 160, 12), strict=True):
        dust[row, column : column + 6] += 1.2
    clean = scan(88.4, counts=20000, seed=seed)
    assert_at(find(clean + dust), 88.4, 0.25)


@pytest.mark.parametrize("cor_px", [50.0, 107.0])
def test_an_answer_outside_of_the_candidates_is_named(cor_px):
    answer = find(scan(cor_px, counts=5000), width_px=10)
    assert_at(answer, cor_px, 0.25)
    assert "outside of the candidates" in answer.reason


def test_made_up_angles_cost_confidence():
    rows = rows_of(scan(83.3), THETA_180_DEG)
    with_angles, without = (
        find_classical(curves_of(replace(rows, theta_missing=missing)), grid(160)).confidence
        for missing in (False, True)
    )
    assert without < with_angles


def test_two_positions_that_match_are_ambiguous():
    """A row of equal beads matches itself after a shift by the distance of two of them."""
    beads = Phantom("comb", tuple(sphere(16.0 * i, 0, 0, 3) for i in range(-30, 31)))
    theta_deg = np.linspace(0, 180, 61)
    answer = find(scan(79.5, n_rows=1, phantom=beads, theta_deg=theta_deg), theta_deg)
    assert answer.confidence < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_360_degrees_of_drift_and_dust_give_no_answer(seed):
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.normal(size=241))[:, None, None] / 50
    dust = 0.2 * rng.normal(size=(8, 160)) * (rng.random((8, 160)) < 0.1)
    noise = 0.02 * rng.normal(size=(241, 8, 160))
    assert find((noise + dust + time).astype(np.float32), THETA_360_DEG).confidence < 0.5


def test_transmission_over_less_than_180_degrees_has_no_answer():
    theta_deg = np.arange(0, 150.0)
    rows = rows_of(np.exp(-scan(84.6, theta_deg=theta_deg)), theta_deg, pairs=False)
    answer = find_classical(curves_of(replace(rows, minus_log=False)), grid(160))
    assert (answer.verdict, answer.best_cor_px) == ("flat", None)
    assert "180 degrees apart" in answer.reason
