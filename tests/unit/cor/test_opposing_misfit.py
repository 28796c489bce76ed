"""Opposing projections that do not mirror each other: wrong angles, or a sample that changed."""

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.opposing_misfit import opposing_misfit, warn_of_misfit
from tomopipe.cor.prepared import Prepared
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project

pytestmark = pytest.mark.slow

COR_PX, N_COLS = 82.3, 160
NONE = "", False


def prepared(true_deg, stated_deg=None, *, cor_px=COR_PX, counts=20000, used=slice(None), **more):
    lines = scan(cor_px, counts=counts, theta_deg=true_deg, **more)
    return Prepared(rows_of(lines[..., used], true_deg if stated_deg is None else stated_deg))


RIGHT = {
    "180": np.linspace(0, 180, 181),
    "a step short": np.arange(0, 180, 1.0),
    "backwards": np.linspace(90, -90, 181),
    "360": np.arange(0, 360, 1.0),
    "two turns": np.arange(0, 720, 2.0),
    "interlaced": np.r_[0:180:2, 1:180:2].astype(float),
    "few": np.linspace(0, 180, 37),
    "a gap": np.r_[0:150, 300:360].astype(float),
}


@pytest.mark.parametrize("counts", [20000, 300])
@pytest.mark.parametrize("name", RIGHT)
def test_projections_of_right_angles_mirror_each_other(name, counts):
    of_scan = prepared(RIGHT[name], counts=counts)
    assert opposing_misfit(of_scan, COR_PX).ratio < 3
    assert warn_of_misfit(of_scan, COR_PX + 0.4) == NONE


@pytest.mark.parametrize("theta_deg", [RIGHT["180"], RIGHT["360"]])
@pytest.mark.parametrize("used", [slice(30, 130), slice(70, 160)])
def test_a_sample_larger_than_the_field_is_right(theta_deg, used):
    """A region of interest, and half acquisition."""
    assert warn_of_misfit(prepared(theta_deg, used=used), COR_PX - used.start) == NONE


@pytest.mark.parametrize("beside_px", [3.0, 12.0])
@pytest.mark.parametrize("off_px", [0.0, 0.06, 0.12])
def test_a_rod_without_features_and_noise_beside_the_axis_is_right(beside_px, off_px):
    """From one projection to the next it changes less than by a small part of a column."""
    rod = Phantom("rod", (Ellipsoid(beside_px, 0.0, 1.0, 25.0, 25.0, 1e4, 0.0, 0.01),))
    lines = project(rod, np.deg2rad(RIGHT["180"]), COR_PX, 3, N_COLS)
    assert warn_of_misfit(Prepared(rows_of(lines, RIGHT["180"])), COR_PX + off_px) == NONE


def test_dust_that_stays_in_place_is_no_misfit():
    dust = np.random.default_rng(0).normal(0, 0.3, N_COLS)
    lines = scan(COR_PX, counts=20000) + np.convolve(dust, np.ones(5) / 5, "same")
    of_scan = Prepared(rows_of(lines.astype(np.float32), RIGHT["180"]))
    assert warn_of_misfit(of_scan, COR_PX) == NONE


@pytest.mark.parametrize(
    ("true_deg", "stated_deg"), [(90, 180), (135, 180), (180, 360), (360, 540), (165, 180)]
)
def test_a_stage_that_turned_by_another_angle_is_told(true_deg, stated_deg):
    true, stated = (np.linspace(0, stop_deg, 241) for stop_deg in (true_deg, stated_deg))
    for cor_px in (COR_PX - 6, COR_PX, COR_PX + 6):  # what registration finds is not the axis
        text, no_cor = warn_of_misfit(prepared(true, stated), cor_px)
        assert "do not mirror each other" in text
        assert no_cor


def test_a_small_slip_is_told_and_leaves_the_cor():
    true_deg = RIGHT["180"] + 4 * (np.arange(181) > 70)
    text, no_cor = warn_of_misfit(prepared(true_deg, RIGHT["180"]), COR_PX)
    assert ("do not mirror each other" in text, no_cor) == (True, False)


@pytest.mark.parametrize("slip_deg", [-12.0, 6.0, 12.0])
def test_the_misfit_of_a_slip_is_about_as_large_as_the_slip(slip_deg):
    true_deg = RIGHT["180"] + slip_deg * (np.arange(181) > 70)
    misfit = opposing_misfit(prepared(true_deg, RIGHT["180"]), COR_PX)
    assert 0.5 <= misfit.rotation_deg / abs(slip_deg) <= 2
    assert warn_of_misfit(prepared(true_deg, RIGHT["180"]), COR_PX)[0]


def test_another_sample_in_the_second_half_is_told():
    lines, others = (scan(COR_PX, counts=20000, seed=seed) for seed in (0, 1))
    lines[90:] = 0.5 * lines[90:] + 0.5 * others[90:]
    assert warn_of_misfit(Prepared(rows_of(lines, RIGHT["180"])), COR_PX)[0]


def test_columns_that_are_missing_are_told():
    lines = np.delete(scan(COR_PX, counts=20000), np.arange(100, 112), axis=2)
    assert warn_of_misfit(Prepared(rows_of(lines, RIGHT["180"])), COR_PX)[0]


@pytest.mark.parametrize(
    ("theta_deg", "cor_px"),
    [(np.linspace(0, 150, 151), COR_PX), (RIGHT["180"], 4.0), (np.zeros(181), COR_PX)],
    ids=["less than 180", "no overlap", "no angle"],
)
def test_without_opposing_projections_nothing_is_told(theta_deg, cor_px):
    of_scan = prepared(theta_deg)
    assert opposing_misfit(of_scan, cor_px) is None
    assert warn_of_misfit(of_scan, cor_px) == NONE
