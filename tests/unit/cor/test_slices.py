"""Sharpness of slices made by the engine, against exact phantoms of known COR."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import HALF_TURN_DEG, curves_of, grid, rows_of, scan
from phantoms import make_phantom

from tomopipe.cor.methods import ask, choose
from tomopipe.cor.sharpness import sharpness
from tomopipe.cor.slices import find_slices


def find(projections, theta_deg=HALF_TURN_DEG, *, width_px=30.0, n_kept=2):
    rows = rows_of(projections, theta_deg, n_kept=n_kept, pairs=False)
    return find_slices(curves_of(rows), grid(projections.shape[2], width_px))


def assert_found(evidence, cor_px, tolerance_px):
    assert evidence.verdict == "resolved"
    assert evidence.confidence >= 0.5
    assert evidence.best_cor_px == pytest.approx(cor_px, abs=tolerance_px)


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, 7.3])
def test_half_a_turn_to_a_fifth_of_a_pixel(n_cols, offset_px):
    cor_px = (n_cols - 1) / 2 + offset_px
    assert_found(find(scan(cor_px, n_cols=n_cols)), cor_px, 0.2)


def test_no_constant_bias():
    """Many objects average to the truth: a half pixel, or a quarter, would show."""
    errors = [
        find(scan(86.8, phantom=kind, seed=seed, n_rows=1), n_kept=1).best_cor_px - 86.8
        for kind in ("rock", "foam", "capillary")
        for seed in range(2)
    ]
    assert abs(np.mean(errors)) < 0.1


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
    found = find(noisy, theta_deg)
    assert found.best_cor_px == pytest.approx(72.8, abs=1)
    assert found.confidence < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_wedge_leaves_the_best_estimate_to_the_slices(seed):
    """Nothing is accepted, but a person starts from the estimate that may be right."""
    theta_deg = np.linspace(0, 160, 161)
    wide = make_phantom("rock", 260, 8, seed)
    noisy = scan(86.4, phantom=wide, theta_deg=theta_deg, counts=20000, seed=seed)
    rows = rows_of(noisy, theta_deg, n_kept=2, pairs=False)
    classical = [
        ask(name, curves_of(rows), grid(160)) for name in ("pairs", "wedge", "mass", "slices")
    ]
    decision = choose(classical, 0.5)
    assert decision.cor_px is None
    assert decision.best_cor_px == pytest.approx(86.4, abs=2)
    assert ask("ai", curves_of(rows), grid(160)).best_cor_px == pytest.approx(86.4, abs=1)


@pytest.mark.parametrize("seed", range(2))
def test_a_truncated_sample_to_half_a_pixel(seed):
    wide = make_phantom("rock", 300, 8, seed)
    assert_found(find(scan(86.4, phantom=wide, counts=20000, seed=seed)), 86.4, 0.5)


def test_few_photons_to_half_a_pixel():
    assert_found(find(scan(83.37, counts=500, seed=2)), 83.37, 0.5)


def test_binned_search_of_a_wide_detector_ends_at_a_fraction_of_a_pixel():
    theta_deg = np.linspace(0, 180, 301)
    wide = scan(515.3, n_cols=1000, n_rows=1, theta_deg=theta_deg, counts=20000)
    assert_found(find(wide, theta_deg, n_kept=1), 515.3, 0.4)


@pytest.mark.parametrize("cor_px", [56.0, 101.0])
def test_a_clear_answer_outside_the_candidates_is_found(cor_px):
    found = find(scan(cor_px, counts=5000), width_px=10)
    assert found.verdict == "resolved"
    assert found.best_cor_px == pytest.approx(cor_px, abs=0.5)
    assert "outside of the candidates" in found.reason


@pytest.mark.parametrize("cor_px", [56.0, 101.0])
def test_a_doubtful_answer_outside_the_candidates_is_an_edge(cor_px):
    theta_deg = np.linspace(0, 150, 151)
    found = find(scan(cor_px, theta_deg=theta_deg, counts=20000), theta_deg, width_px=10)
    assert (found.verdict, found.confidence) == ("edge", 0.0)
    assert found.best_cor_px == pytest.approx(cor_px, abs=1)


def test_a_smooth_object_is_not_resolved():
    column = np.arange(160) - 83.3
    blob = np.exp(-((column / 30) ** 2)) + 0.01 * np.random.default_rng(0).normal(size=(181, 4, 1))
    assert find(np.broadcast_to(blob, (181, 4, 160)).astype(np.float32)).confidence < 0.5


def test_made_up_angles_cost_confidence():
    rows = rows_of(scan(83.3, n_rows=1), HALF_TURN_DEG)
    sure = find_slices(curves_of(rows), grid(160)).confidence
    assert find_slices(curves_of(replace(rows, theta_missing=True)), grid(160)).confidence < sure


def test_too_few_angles_give_no_answer():
    theta_deg = np.linspace(0, 180, 5)
    assert find(scan(80, n_rows=1, theta_deg=theta_deg), theta_deg).verdict == "flat"


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
