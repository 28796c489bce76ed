"""Evidence on one grid, and its refinement, against exact phantoms of known COR."""

import numpy as np
import pytest
from find_rows import THETA_180_DEG, curves_of, rows_of, scan
from phantoms import make_phantom

from tomopipe.cor.curves import KINDS, _region, refine, refine_wedge, wedge_metric
from tomopipe.cor.prepared import Prepared


@pytest.mark.parametrize("cor_px", [71.4, 85.2])
def test_the_double_wedge_agrees_with_algotom(cor_px):
    from algotom.prep.calculation import find_center_vo

    lines = scan(cor_px, n_rows=1, counts=20000)
    prepared = Prepared(rows_of(lines, THETA_180_DEG, n_kept=1, pairs=False))
    found_px = refine_wedge(prepared.sinograms, prepared.angles, cor_px + 3, 6)
    assert found_px == pytest.approx(cor_px, abs=0.5)
    theirs_px = find_center_vo(lines[:, 0], start=50, stop=110, ncore=1)
    assert found_px == pytest.approx(theirs_px, abs=0.5)


pytestmark = pytest.mark.slow

THETA_360_DEG = np.linspace(0, 360, 241)


def best(curves, kind):
    return curves.cor_px[np.argmax(curves.prominence[KINDS.index(kind)])]


@pytest.mark.parametrize(("n_cols", "binning"), [(160, 1), (161, 1), (500, 2)])
def test_every_kind_peaks_at_the_truth_on_a_whole_object(n_cols, binning):
    cor_px = (n_cols - 1) / 2 + 7.3
    rows = rows_of(scan(cor_px, n_cols=n_cols, counts=20000), THETA_180_DEG)
    assert curves_of(rows).binning == binning
    curves = curves_of(rows).measures
    there = [kind for kind, valid in zip(KINDS, curves.valid, strict=True) if valid]
    assert there == list(KINDS)
    # the whole detector, every half binned column, from the centre of the first binned one
    first_px = (binning - 1) / 2
    last_px = n_cols // binning * binning - 1 - first_px
    np.testing.assert_allclose(curves.cor_px, np.arange(first_px, last_px + 0.1, binning / 2))
    assert curves.raw.shape == curves.prominence.shape == (len(KINDS), len(curves.cor_px))
    for kind in there:
        assert best(curves, kind) == pytest.approx(cor_px, abs=binning), kind


@pytest.mark.parametrize("off_px", [0.0, 2.6, -3.3])
def test_each_refinement_finds_the_truth_within_four_pixels(off_px):
    rows = rows_of(scan(84.37, counts=20000), THETA_180_DEG)
    refined = refine(curves_of(rows), 84.37 + off_px)
    assert set(refined) == {"pairs", "rows", "difference", "moving", "wedge", "slices", "mass"}
    for kind, refined_px in refined.items():
        assert refined_px == pytest.approx(84.37, abs=0.25), kind
    assert np.median(list(refined.values())) == pytest.approx(84.37, abs=0.15)


def test_what_cannot_be_seen_is_not_valid_and_0():
    theta_deg = np.linspace(0, 140, 141)
    wide = make_phantom("rock", 260, 8, 0)
    rows = rows_of(scan(84.0, phantom=wide, theta_deg=theta_deg), theta_deg, pairs=False)
    curves = curves_of(rows).measures
    valid_kinds = {kind for kind, valid in zip(KINDS, curves.valid, strict=True) if valid}
    assert valid_kinds == {"entropy", "edges", "negativity"}
    assert not curves.raw[~curves.valid].any()
    assert not curves.prominence[~curves.valid].any()
    assert set(refine(curves_of(rows), 84.0)) == {"slices"}
    assert (curves.scan["short_turn"], curves.scan["air"]) == (1.0, 0.0)
    assert curves.scan["gap_deg"] == pytest.approx(39, abs=0.1)


@pytest.mark.parametrize("cor_px", [24.3, 135.8])
def test_half_acquisition_is_found_by_opposing_rows(cor_px):
    wide = make_phantom("rock", 280, 8, 0)
    projections = scan(cor_px, phantom=wide, theta_deg=THETA_360_DEG, counts=5000)
    rows = rows_of(projections, THETA_360_DEG)
    curves = curves_of(rows).measures
    assert best(curves, "rows") == pytest.approx(cor_px, abs=1)
    assert best(curves, "difference") == pytest.approx(cor_px, abs=1)
    assert refine(curves_of(rows), cor_px + 1.5)["rows"] == pytest.approx(cor_px, abs=0.25)
    assert curves.scan["full_turn"] == 1.0


@pytest.mark.parametrize("theta_deg", [THETA_180_DEG, np.linspace(0, 220, 221), THETA_360_DEG])
def test_what_moves_is_matched_whatever_stays_on_the_detector(theta_deg):
    rng = np.random.default_rng(5)
    dust = np.convolve(rng.normal(0, 0.6, 160), np.ones(9) / 9, "same")
    projections = scan(91.3, theta_deg=theta_deg, counts=5000) + dust.astype(np.float32)
    rows = rows_of(projections, theta_deg)
    assert best(curves_of(rows).measures, "moving") == pytest.approx(91.3, abs=1)
    assert refine(curves_of(rows), 90.0)["moving"] == pytest.approx(91.3, abs=0.25)


def test_all_texture_overlaps_about_the_middle_and_less_to_the_sides():
    curves = curves_of(rows_of(scan(80, n_rows=1), THETA_180_DEG)).measures
    assert np.interp(159 / 2, curves.cor_px, curves.texture) == pytest.approx(1.0, abs=0.01)
    assert (np.diff(curves.texture[: len(curves.texture) // 2]) >= -1e-6).all()


def test_next_to_no_angles_leave_nothing():
    theta_deg = np.linspace(0, 180, 5)
    rows = rows_of(scan(80, theta_deg=theta_deg), theta_deg)
    curves = curves_of(rows).measures
    assert not curves.valid.any()
    assert not curves.prominence.any()
    assert refine(curves_of(rows), 80.0) == {}


def test_a_constant_is_no_evidence():
    rows = rows_of(np.ones((181, 8, 160), np.float32), THETA_180_DEG)
    curves = curves_of(rows).measures
    assert np.isfinite(curves.prominence).all()
    assert np.abs(curves.prominence).max() < 3


@pytest.mark.parametrize("shifts", [np.arange(-5, 8), np.arange(3, 9), np.arange(-20, -9)])
def test_the_double_wedge_is_that_of_the_joined_sinogram(shifts):
    """Transform 360 degrees of which half is the mirrored copy, filled by the reversed half."""
    n, n_cols = 60, 48
    half = np.cumsum(np.random.default_rng(0).normal(size=(n, n_cols)), axis=1).astype(np.float32)
    v, k, weight = _region(n, n_cols, 1.5)
    expected = []
    for shift in shifts:
        mirror = n_cols - 1 + shift - np.arange(n_cols)
        has_copy = (mirror >= 0) & (mirror < n_cols)
        copy = np.where(has_copy, half[:, np.clip(mirror, 0, n_cols - 1)], half[::-1])
        spectrum = np.fft.fft2(np.concatenate([half, copy]))
        outside = np.abs(spectrum[v][:, k])
        expected.append(np.sum(weight * outside) / weight.sum())
    np.testing.assert_allclose(wedge_metric(half, shifts, 1.5), expected, rtol=1e-5)
