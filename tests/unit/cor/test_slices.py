"""Sharpness of slices made by the engine, against exact phantoms of known COR."""

import numpy as np
import pytest
from find_rows import THETA_180_DEG, rows_of, scan
from scipy.ndimage import gaussian_filter1d

from tests.phantoms import make_phantom
from tomopipe.cor.answer import prominence
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.slices import (
    SHORT,
    coarse_slices,
    minimum_total_variation,
    refine_slices,
    sharpness,
    total_variation_cost,
)

pytestmark = pytest.mark.slow


def find(projections, theta_deg=THETA_180_DEG, *, n_kept=2):
    """The deepest dip of both measures below their running medians, then finer slices."""
    prepared = Prepared(rows_of(projections, theta_deg, n_kept=n_kept, pairs=False))
    cor_px, measures = coarse_slices(prepared)
    each = measures[:, :2].reshape(-1, len(cor_px))
    score = np.mean([prominence(curve, len(cor_px) // 8) for curve in each], axis=0)
    reach_px = 1.5 * max(1, round(prepared.n_cols / 128))
    return refine_slices(prepared, cor_px[np.argmax(score)], reach_px)


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, 7.3])
def test_180_degrees_to_a_fifth_of_a_pixel(n_cols, offset_px):
    cor_px = (n_cols - 1) / 2 + offset_px
    assert find(scan(cor_px, n_cols=n_cols)) == pytest.approx(cor_px, abs=0.2)


@pytest.mark.parametrize(
    "theta_deg",
    [np.linspace(0, 360, 361), 20 - np.linspace(0, 172, 173), np.linspace(0, 178, 90)],
    ids=["360", "172 degrees, descending", "178 degrees"],
)
def test_other_turns_to_half_a_pixel(theta_deg):
    noisy = scan(72.8, theta_deg=theta_deg, phantom="foam", counts=20000)
    assert find(noisy, theta_deg) == pytest.approx(72.8, abs=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_wedge_of_150_degrees_to_a_pixel(seed):
    theta_deg = np.linspace(0, 150, 151)
    noisy = scan(72.8, theta_deg=theta_deg, counts=20000, seed=seed)
    assert find(noisy, theta_deg) == pytest.approx(72.8, abs=1)


def test_binned_search_of_a_wide_detector_ends_at_a_fraction_of_a_pixel():
    theta_deg = np.linspace(0, 180, 301)
    wide = scan(515.3, n_cols=1000, n_rows=1, theta_deg=theta_deg, counts=20000)
    assert find(wide, theta_deg, n_kept=1) == pytest.approx(515.3, abs=0.4)


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


SHORT_DEG = np.linspace(0, 140, 141)
COARSE, FINE = SHORT.coarse, SHORT.fine


def cut(cor_px, *, n_cols=128, counts=5000, theta_deg=SHORT_DEG, seed=0):
    """Rows of a rock of which the detector sees less than is there."""
    n_wide = 2 * n_cols
    whole = scan(
        cor_px + n_cols / 2, n_cols=n_wide, theta_deg=theta_deg, counts=counts, seed=seed,
        phantom=make_phantom("rock", n_wide, 8, seed),
    )  # fmt: skip
    return rows_of(whole[..., n_cols // 2 : -(n_cols // 2)], theta_deg, pairs=False)


# 63.5 over 140 degrees: test_the_excess_tells_how_much_worse_other_axes_are
@pytest.mark.parametrize(
    ("range_deg", "within_px", "cor_px"),
    [(140, 1.5, 49.3), (140, 1.5, 80.8), (180, 1.0, 49.3), (180, 1.0, 63.5), (180, 1.0, 80.8)],
)
def test_the_minimum_is_at_the_axis(cor_px, range_deg, within_px):
    theta_deg = np.arange(range_deg + 1.0)
    minimum = minimum_total_variation(Prepared(cut(cor_px, theta_deg=theta_deg)))
    assert minimum.best_px == pytest.approx(cor_px, abs=within_px)


def test_a_beam_that_drifts_does_not_move_it():
    small = make_phantom("rock", 96, 8, 0)
    whole = scan(58.2, n_cols=128, theta_deg=SHORT_DEG, phantom=small)
    drift = 0.5 * np.sin(np.linspace(0, 9, len(SHORT_DEG)))[:, None, None]
    rows = rows_of((whole + drift).astype(np.float32), SHORT_DEG, pairs=False)
    assert minimum_total_variation(Prepared(rows)).best_px == pytest.approx(58.2, abs=0.25)


def test_fixed_patterns_hardly_count_and_what_changes_does():
    whole = scan(58.2, n_cols=128, theta_deg=SHORT_DEG, phantom=make_phantom("rock", 96, 8, 0))
    rng = np.random.default_rng(0)
    smooth = gaussian_filter1d(rng.normal(0, 1, 128), 4)
    pattern = 0.1 * np.percentile(whole, 98) * smooth / smooth.std()
    flicker = pattern * rng.choice([-1, 1], (len(SHORT_DEG), 1, 1))

    def cost(added, assumed):
        prepared = Prepared(rows_of((whole + added).astype(np.float32), SHORT_DEG, pairs=False))
        lines, at_px = prepared.sinograms[0], np.array([58.2])
        return total_variation_cost(lines, prepared.angles, at_px, FINE, assumed)[0]

    clean, dusty, known = cost(0, (0.0, 1.0)), cost(pattern, (0.0, 1.0)), cost(pattern, (0.1, 8.0))
    assert known - clean < 0.2 * (dusty - clean)
    assert cost(flicker, (0.1, 8.0)) > dusty


def test_dust_is_measured_in_the_air():
    whole = scan(58.2, n_cols=128, theta_deg=SHORT_DEG, phantom=make_phantom("rock", 96, 8, 0))
    smooth = gaussian_filter1d(np.random.default_rng(1).normal(0, 1, 128), 4)
    dusty = whole + 0.1 * np.percentile(whole, 98) * smooth / smooth.std()
    rows = rows_of(dusty.astype(np.float32), SHORT_DEG, pairs=False)
    minimum = minimum_total_variation(Prepared(rows))
    assert minimum.best_px == pytest.approx(58.2, abs=0.5)
    both_px = np.array([minimum.cor_px[-1], minimum.best_px])
    prepared = Prepared(rows)
    plain_cost = total_variation_cost(prepared.sinograms[0], prepared.angles, both_px, COARSE)
    assert minimum.excess[-1] < 0.5 * (plain_cost[0] / plain_cost[1] - 1)


def test_the_excess_tells_how_much_worse_other_axes_are():
    minimum = minimum_total_variation(Prepared(cut(63.5)))
    assert minimum.best_px == pytest.approx(63.5, abs=1.5)
    assert (np.diff(minimum.cor_px) >= 0).all()
    assert minimum.cor_px[0] == pytest.approx(0.2 * 127)
    assert minimum.cor_px[-1] == pytest.approx(0.8 * 127)
    assert (minimum.excess >= 0).all()
    best = np.flatnonzero(minimum.excess == 0)
    assert np.abs(minimum.cor_px[best] - minimum.best_px).min() == 0
    assert minimum.excess[0] > 10 * np.median(minimum.excess[best[0] - 2 : best[-1] + 3])


def test_the_cost_rises_to_both_sides_and_prefers_no_part_of_a_column():
    prepared = Prepared(cut(63.5, counts=None))
    cor_px = 63.5 + np.arange(-12, 13, 3) * 1.1
    cost = total_variation_cost(prepared.sinograms[0], prepared.angles, cor_px, COARSE)
    assert np.argmin(cost) == 4
    assert (np.diff(cost)[:3] < 0).all()
    assert (np.diff(cost)[5:] > 0).all()


@pytest.mark.parametrize("first", [16, 50, 113])
def test_it_finds_the_axis_over_360_degrees_of_a_sample_that_is_seen_in_part(first):
    theta_deg = np.arange(0, 360, 2)
    wide = scan(127.3, n_cols=256, theta_deg=theta_deg, phantom=make_phantom("rock", 224, 8, 0))
    part = rows_of(wide[..., first : first + 128], theta_deg, pairs=False)
    minimum = minimum_total_variation(Prepared(part))
    assert minimum.best_px == pytest.approx(127.3 - first, abs=0.5)
    assert minimum.cor_px[0] < 0.04 * 127
    assert minimum.cor_px[-1] > 0.96 * 127


def test_there_is_none_of_a_whole_sample_over_360_degrees():
    theta_deg = np.arange(360)
    whole = scan(58.2, n_cols=128, theta_deg=theta_deg, phantom=make_phantom("rock", 96, 8, 0))
    assert minimum_total_variation(Prepared(rows_of(whole, theta_deg, pairs=False))) is None


def test_there_is_none_of_too_few_angles_or_at_the_end_of_what_it_looks_at():
    few = cut(63.5, theta_deg=np.linspace(0, 140, 6))
    assert minimum_total_variation(Prepared(few)) is None
    whole = scan(15.0, n_cols=128, theta_deg=SHORT_DEG, phantom=make_phantom("rock", 32, 8, 0))
    assert minimum_total_variation(Prepared(rows_of(whole, SHORT_DEG, pairs=False))) is None
