"""The sum of all evidence, against exact phantoms of known COR."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import THETA_180_DEG, curves_of, grid, rows_of, scan
from phantoms import make_phantom

from tomopipe.cor import evidence_sum
from tomopipe.cor.curves import KINDS
from tomopipe.cor.evidence_sum import add_up, find_sum, vote

pytestmark = pytest.mark.slow


def find(projections, theta_deg=THETA_180_DEG, *, width_px=30.0, **options):
    rows = rows_of(projections, theta_deg, **options)
    return find_sum(curves_of(rows), grid(projections.shape[2], width_px))


@pytest.mark.parametrize("n_cols", [160, 161])
@pytest.mark.parametrize("offset_px", [-11.6, 7.3])
def test_a_whole_object_to_a_tenth_of_a_pixel(n_cols, offset_px):
    cor_px = (n_cols - 1) / 2 + offset_px
    found = find(scan(cor_px, n_cols=n_cols, counts=20000))
    assert found.verdict == "resolved"
    assert found.confidence >= 0.5
    assert found.best_cor_px == pytest.approx(cor_px, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_truncated_object_to_a_quarter_pixel(seed):
    wide = make_phantom("rock", 260, 8, seed)
    found = find(scan(84.4, phantom=wide, counts=5000, seed=seed))
    assert found.best_cor_px == pytest.approx(84.4, abs=0.25)


@pytest.mark.parametrize("cor_px", [24.3, 135.8])
def test_half_acquisition_to_half_a_pixel(cor_px):
    theta_deg = np.linspace(0, 360, 241)
    wide = make_phantom("rock", 280, 8, 0)
    projections = scan(cor_px, phantom=wide, theta_deg=theta_deg, counts=5000)
    found = find(projections, theta_deg, width_px=74)
    assert found.best_cor_px == pytest.approx(cor_px, abs=0.5)


def test_noise_has_no_answer():
    noise = np.random.default_rng(0).normal(size=(181, 4, 160)).astype(np.float32)
    assert find(noise).verdict == "flat"


def test_where_nothing_can_be_refined_there_is_no_answer(monkeypatch):
    monkeypatch.setattr(evidence_sum, "refine", lambda curves, near_px: {})
    found = find(scan(84.4, n_rows=1), n_kept=1)
    assert (found.verdict, found.best_cor_px) == ("flat", None)


@pytest.mark.parametrize("cor_px", [50.0, 107.0])
def test_an_answer_outside_of_the_candidates_is_found_and_said(cor_px):
    found = find(scan(cor_px, counts=5000), width_px=10)
    assert found.verdict == "resolved"
    assert "outside of the candidates" in found.reason
    assert found.best_cor_px == pytest.approx(cor_px, abs=0.25)


def test_each_group_has_one_vote():
    """Three kinds of registration are one vote against the wedge and the mass, 0.7 each."""
    best_px, each_px = vote({"pairs": 50.0, "rows": 50.1, "wedge": 53.0, "mass": 53.2})
    assert best_px == 53.0
    np.testing.assert_allclose(each_px, [50.05, 53.0, 53.2])
    assert vote({"pairs": 50.0, "rows": 50.1, "difference": 49.9, "wedge": 53.0})[0] == 50.1
    assert vote({"slices": 50.0})[0] == 50.0


def test_the_sum_counts_only_what_is_valid_and_overlaps():
    curves = curves_of(rows_of(scan(84.4, counts=5000), THETA_180_DEG)).classical
    score = add_up(curves)
    assert curves.cor_px[np.argmax(score)] == pytest.approx(84.4, abs=1)
    assert not score[curves.overlap < 0.06].any()
    only = np.array([kind == "mass" for kind in KINDS])
    curves = replace(curves, valid=only)
    expected = curves.prominence[KINDS.index("mass")]
    np.testing.assert_allclose(add_up(curves)[80:240], expected[80:240])
