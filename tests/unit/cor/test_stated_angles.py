"""Stated angles that the projections contradict."""

from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of, scan

from tomopipe.cor.prepared import Prepared
from tomopipe.cor.stated_angles import warn_of_angles, warn_of_slips
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project

pytestmark = pytest.mark.slow

COR_PX = 82.3


def doubt(true_deg, stated_deg, n_angles=181, *, accepted=True, order=None):
    lines = scan(COR_PX, counts=20000, theta_deg=np.linspace(0, true_deg, n_angles))
    order = np.arange(n_angles) if order is None else order
    theta_deg = np.linspace(0, stated_deg, n_angles)[order]
    prepared = Prepared(rows_of(lines[order], theta_deg, pairs=False))
    return warn_of_angles(prepared, COR_PX, accepted=accepted)


@pytest.mark.parametrize("stated_deg", [176, 172, 165, 150, -165, 200, 330])
def test_180_degrees_stated_as_no_multiple_of_it_are_told(stated_deg):
    told = doubt(180, stated_deg)
    assert "the projections show 180: if so, set" in told
    assert "lattice" not in told


def test_angles_for_a_part_of_the_projections_are_those_of_all():
    """Of 402 projections, a step of 0.5 degrees apart, every second one from number 40 on."""
    theta_deg = 20 + np.arange(181.0)
    rows = rows_of(scan(COR_PX, counts=20000, theta_deg=theta_deg), theta_deg * 165 / 180)
    told = doubt_of(replace(rows, numbers=40 + 2 * np.arange(181)))
    assert "show 180: if so, set input.angles: {start: -20, step: 0.5}" in told
    assert "set input.angles: {start: 0, stop: 180} (" in doubt_of(
        replace(rows, numbers=np.arange(181))
    )


def doubt_of(rows):
    return warn_of_angles(Prepared(rows), COR_PX)


def test_where_the_last_projection_is_a_step_before_the_end_its_angle_is_told():
    assert "show 179: if so, set input.angles: {start: 0, stop: 179}" in doubt(179, 165, 180)


@pytest.mark.parametrize("true_deg", [140, 165, 176, 178, 180, 200, 300, 360, 540])
@pytest.mark.parametrize("accepted", [True, False])
def test_angles_that_are_right_are_not_doubted(true_deg, accepted):
    assert doubt(true_deg, true_deg, accepted=accepted) == ""


def test_180_degrees_stated_as_360_are_told_where_no_axis_was_accepted():
    assert "cover 360 degrees, the projections show 180" in doubt(180, 360, accepted=False)
    assert doubt(180, 360) == ""  # not looked at


def test_angles_in_another_order_are_not_looked_at():
    assert doubt(180, 165, order=np.random.default_rng(0).permutation(181)) == ""


def half_acquisition(stated_deg, *, n_cols=160):
    """Rows of a full rotation whose axis is next to the edge, the last projection a step short."""
    theta_deg = np.arange(0, 360, 2.0)
    lines = scan((n_cols - 1) / 2, n_cols=n_cols, counts=20000, theta_deg=theta_deg)
    cut = rows_of(lines[..., : n_cols * 6 // 10], theta_deg * stated_deg / 360, pairs=False)
    return Prepared(cut), (n_cols - 1) / 2


@pytest.mark.parametrize("off_px", [0.0, -3.0, -20.0])
def test_half_acquisition_stated_as_180_degrees_is_told(off_px):
    prepared, cor_px = half_acquisition(180)
    told = warn_of_angles(prepared, cor_px + off_px)
    assert "cover 179 degrees, the projections show 360" in told
    assert "unless the sample is alike from several sides" in told
    assert warn_of_angles(*half_acquisition(360)) == ""


def test_an_object_that_looks_alike_from_both_ends_is_not_doubted():
    theta_deg = np.linspace(0, 180, 181)
    ellipse = Phantom("ellipse", (Ellipsoid(0, 0, 4, 60, 20, 60, 0.5, 0.01),))
    lines = project(ellipse, np.deg2rad(theta_deg), COR_PX, 8, 160).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.002, lines.shape).astype(np.float32)
    prepared = Prepared(rows_of(lines + noise, theta_deg, pairs=False))
    assert warn_of_angles(prepared, COR_PX) == ""


@pytest.fixture(scope="module")
def lines():
    """Projections of 181 angles over 180 degrees, and over 360."""
    return {
        stop_deg: scan(COR_PX, counts=20000, theta_deg=np.linspace(0, stop_deg, 181))
        for stop_deg in (180, 360)
    }


def slips(lines, theta_deg, used=slice(None)):
    return warn_of_slips(Prepared(rows_of(lines[used], theta_deg, n_kept=5, pairs=False)))


@pytest.mark.parametrize("stop_deg", [180, 360, -180])
@pytest.mark.parametrize("off_deg", [-45.0, -20.0, 8.0, 20.0, 45.0])
@pytest.mark.parametrize("first", [20, 90, 150])
def test_angles_that_jump_where_the_projections_go_on_are_told(lines, stop_deg, off_deg, first):
    theta_deg = np.linspace(0, stop_deg, 181)
    theta_deg[first:] += off_deg
    told = slips(lines[abs(stop_deg)], theta_deg)
    assert f"jump by {off_deg:+.1f} degrees between projections {first - 1} and {first}" in told
    assert f"input.angles: {{start: 0, stop: {stop_deg}}}" in told


@pytest.mark.parametrize("first", [0, 90])
def test_flats_among_the_projections_for_which_the_stage_stood_still_are_no_slip(lines, first):
    flats = np.random.default_rng(1).normal(0, 0.01, (10, *lines[180].shape[1:]))
    with_flats = np.insert(lines[180], [first] * 10, flats, axis=0)
    theta_deg = np.insert(np.linspace(0, 180, 181), [first] * 10, first)
    assert slips(with_flats, theta_deg) == ""
    theta_deg[140:] += 20  # where no flat is
    assert "jump by +20.0 degrees between projections 139 and 140" in slips(with_flats, theta_deg)


@pytest.mark.parametrize("n_stand", [5, 12, 30])
@pytest.mark.parametrize("first", [20, 90, 140])
def test_angles_that_stand_still_while_the_projections_go_on_are_told(lines, n_stand, first):
    theta_deg = np.linspace(0, 180, 181)
    last = first + n_stand
    theta_deg[first:last] = first
    told = slips(lines[180], theta_deg)
    assert f"stand still from projection {first} to {last - 1}" in told
    # the encoder counts again, from there on
    theta_deg[last:] = first + 1 + np.arange(181 - last)
    told = slips(lines[180], theta_deg)
    assert f"the angles stand still from projection {first} to {last - 1} of those" in told
    assert "stop: 180}" in told


@pytest.mark.parametrize("stop_deg", [180, 360])
@pytest.mark.parametrize("n_missing", [4, 10, 20, 45])
@pytest.mark.parametrize("first", [30, 80, 125])
def test_a_gap_in_the_angles_that_the_projections_have_too_is_right(
    lines, stop_deg, n_missing, first
):
    used = np.delete(np.arange(181), range(first, first + n_missing))
    assert slips(lines[stop_deg], np.linspace(0, stop_deg, 181)[used], used) == ""


def test_beside_a_gap_a_slip_is_told_without_a_range(lines):
    used = np.delete(np.arange(181), range(40, 60))
    theta_deg = np.linspace(0, 180, 181)[used]
    theta_deg[100:] += 15
    told = slips(lines[180], theta_deg, used)
    assert told.startswith("the angles jump by +15.0 degrees between projections 99 and 100 of ")
    assert told.endswith("give the right ones (input.angles)")


@pytest.mark.parametrize(
    "used",
    [
        np.arange(181),
        np.append(np.arange(0, 181, 2), np.arange(1, 181, 2)),  # interlaced
        np.append(np.arange(181), [180, 90, 0]),  # images taken once more
        np.random.default_rng(0).permutation(181),
    ],
    ids=["even", "interlaced", "return", "random"],
)
def test_right_angles_in_any_order_do_not_slip(lines, used):
    assert slips(lines[180], np.linspace(0, 180, 181)[used], used) == ""


@pytest.mark.parametrize("n_angles", [240, 360])
def test_angles_of_eight_passes_do_not_slip(n_angles):
    passes = [0, 4, 2, 6, 1, 5, 3, 7]
    theta_deg = np.concatenate([np.arange(n, n_angles, len(passes)) for n in passes])
    theta_deg = theta_deg * 180 / n_angles
    assert slips(scan(COR_PX, counts=20000, theta_deg=theta_deg), theta_deg) == ""


def test_a_stage_that_stands_with_its_angles_does_not_slip(lines):
    used = np.sort(np.append(np.arange(181), [90] * 20))
    again = lines[180][used] + np.random.default_rng(0).normal(0, 0.01, (201, 8, 160))
    assert slips(again, np.linspace(0, 180, 181)[used]) == ""
