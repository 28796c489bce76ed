"""Samples that shrink or swell during the scan, by opposing projections that differ in width."""

import numpy as np
import pytest
from find_rows import growing_scan, rows_of, scan

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.size_change import size_change, warn_of_size

pytestmark = pytest.mark.slow

COR_PX, N_COLS = 82.3, 160
WITHIN, LARGER = slice(None), slice(40, 130)
RIGHT = {
    "180": np.linspace(0, 180, 181),
    "a step short": np.arange(0, 180, 1.0),
    "360": np.arange(0, 360, 2.0),
    "few": np.linspace(0, 180, 37),
}


def changing(stop, theta_deg=RIGHT["180"], *, used=WITHIN, across=True):
    lines = growing_scan(COR_PX, stop, theta_deg=theta_deg, counts=20000, across=across)
    return Prepared(rows_of(lines[..., used], theta_deg))


@pytest.mark.parametrize("used", [WITHIN, LARGER], ids=["within", "larger"])
@pytest.mark.parametrize("stop", [0.85, 0.95, 1.1])
def test_the_change_of_size_is_measured_and_told(stop, used):
    of_scan, cor_px = changing(stop, used=used), COR_PX - (used.start or 0)
    for off_px in (-1.5, 0, 1.5):  # a wrong COR, as registration by a shift gives it
        assert size_change(of_scan, cor_px + off_px).share == pytest.approx(stop - 1, abs=0.025)
        text = warn_of_size(of_scan, cor_px + off_px)
        assert ("shrinks" if stop < 1 else "swells") in text
        assert "or columns near the axis are dead" in text


def test_over_360_degrees_opposing_projections_have_half_of_it():
    of_scan = changing(0.9, RIGHT["360"])
    assert size_change(of_scan, COR_PX).share == pytest.approx(-0.05, abs=0.02)
    assert warn_of_size(of_scan, COR_PX)


def test_a_change_along_one_direction_is_told():
    assert warn_of_size(changing(1.1, across=False, used=LARGER), COR_PX - LARGER.start)


@pytest.mark.parametrize("used", [WITHIN, LARGER], ids=["within", "larger"])
@pytest.mark.parametrize("counts", [20000, 300])
@pytest.mark.parametrize("name", RIGHT)
def test_a_still_sample_keeps_its_size(name, counts, used):
    lines = scan(COR_PX, counts=counts, theta_deg=RIGHT[name])[..., used]
    of_scan = Prepared(rows_of(lines, RIGHT[name]))
    assert warn_of_size(of_scan, COR_PX - (used.start or 0) + 0.4) == ""


def test_dust_that_stays_in_place_is_no_change():
    dust = np.random.default_rng(0).normal(0, 0.3, N_COLS)
    lines = scan(COR_PX, counts=20000) + np.convolve(dust, np.ones(5) / 5, "same")
    of_scan = Prepared(rows_of(lines.astype(np.float32), RIGHT["180"]))
    assert warn_of_size(of_scan, COR_PX) == ""


@pytest.mark.parametrize(
    ("theta_deg", "cor_px"),
    [(np.linspace(0, 150, 151), COR_PX), (RIGHT["180"], 4.0)],
    ids=["less than 180", "no overlap"],
)
def test_without_opposing_projections_nothing_is_measured(theta_deg, cor_px):
    rows = rows_of(scan(COR_PX, counts=20000, theta_deg=theta_deg), theta_deg, pairs=False)
    assert size_change(Prepared(rows), cor_px) is None
