"""Air beside the sample: its transmission, and where it is none."""

import re
from dataclasses import replace

import numpy as np
import pytest
from find_rows import rows_of

from tomopipe.cor.air_level import measure_air, warn_of_air

N_ANGLES, N_COLS, COR_PX, COUNTS = 181, 160, 81.3, 8000
THETA_DEG = np.arange(N_ANGLES, dtype=float)
TIME = np.linspace(0, 1, N_ANGLES)[:, None]
# x, y, radius (px), line integral through the middle
RODS = [(0, 0, 55, 0.9), (20, 15, 12, 0.5), (-25, 10, 8, 0.7), (5, -30, 10, -0.2)]


def shadow(rods, cor_px=COR_PX):
    """Line integrals (n_angles, n_cols) of discs."""
    theta, column = np.deg2rad(THETA_DEG)[:, None], np.arange(N_COLS) - cor_px
    lines = np.zeros((N_ANGLES, N_COLS))
    for x, y, radius, value in rods:
        away = column - (x * np.cos(theta) - y * np.sin(theta))
        lines += value * np.sqrt(np.clip(1 - (away / radius) ** 2, 0, None))
    return lines


def rows(lines, flats=1.0, beam=1.0, seed=0, first_col=0):
    """Rows of a scan whose flats have `flats` times the exposure; beam: of each projection."""
    rng = np.random.default_rng(seed)
    light = COUNTS * np.exp(-lines) * np.broadcast_to(beam, lines.shape)
    noisy = rng.poisson(light, (3, *lines.shape)) / (flats * COUNTS)
    images = -np.log(np.maximum(noisy, 1e-5)).transpose(1, 0, 2).astype(np.float32)
    return replace(rows_of(images, THETA_DEG, pairs=False), first_col=first_col)


@pytest.mark.parametrize("flats", [1.08, 1.25, 2, 4, 0.85])
def test_air_of_flats_of_another_exposure_has_its_transmission(flats):
    result = rows(shadow(RODS), flats, first_col=7)
    air = measure_air(result.sinograms)
    assert air.transmission == pytest.approx(1 / flats, rel=0.01)
    # the sample reaches from column 26.3 to 136.3
    assert 15 <= air.left_px <= 26
    assert 12 <= air.right_px <= 23
    (text,), is_far_off = warn_of_air(result)
    assert is_far_off == (flats >= 2)
    assert f"transmission {1 / flats:.2f} instead of 1" in text
    assert f"{'large' if flats > 1 else 'small'} by {abs(np.log(flats)):.2f} per line" in text
    assert ("that they lack (a" if flats > 1 else "that only they show (a") in text
    assert f"(columns 7 to {6 + air.left_px} and {167 - air.right_px} to 166, all" in text
    assert f"preprocess.air_px: {min(air.left_px, air.right_px)}" in text


def test_flats_of_the_right_exposure_give_no_warning():
    result = rows(shadow(RODS))
    assert measure_air(result.sinograms).transmission == pytest.approx(1, rel=0.005)
    assert warn_of_air(result) == ([], False)
    assert warn_of_air(replace(rows(shadow(RODS), 2), minus_log=False)) == ([], False)


@pytest.mark.parametrize(("begin", "end"), [(1, 0.7), (1, 0.9), (1.1, 0.9), (0.8, 1), (1, 1.3)])
def test_a_beam_that_decays_is_named_with_its_share_and_the_columns(begin, end):
    result = rows(shadow(RODS), beam=begin + (end - begin) * TIME)
    (text,), is_far_off = warn_of_air(result)
    share = 100 * abs(end / begin - 1)
    stated = re.match(r"the beam gets (\d+)% (\w+) during", text)
    assert float(stated[1]) == pytest.approx(share, abs=1)
    assert stated[2] == ("dimmer" if end < begin else "brighter")
    assert not is_far_off
    assert f"preprocess.air_px: {measure_air(result.sinograms).right_px}, if" in text


@pytest.mark.parametrize(
    ("levels", "positions", "cures"),
    [
        ([1, 1, 0.8, 0.8], [0, 0, N_ANGLES, N_ANGLES], True),
        ([1, 0.9, 0.8], [0, 90, N_ANGLES], True),
        ([1, 1, 0.8, 0.8], [np.nan] * 4, True),  # of DXchange
        ([1, 1, 1, 1], [0, 0, N_ANGLES, N_ANGLES], False),  # or they are interpolated already
        ([1, 1, 0.8, 0.8], [0] * 4, False),
        ([1], [np.nan], False),
    ],
)
def test_flats_on_both_sides_of_a_decay_are_to_be_interpolated(levels, positions, cures):
    parts = np.ones((1, 3, 40), np.float32) * np.array(levels, np.float32)[:, None, None]
    result = replace(
        rows(shadow(RODS), beam=1 - 0.2 * TIME),
        flat_parts=1000 * parts,
        flat_positions=np.array(positions, float),
    )
    (text,), _ = warn_of_air(result)
    assert ("Set preprocess.flat_method: interpolate" in text) == cures
    assert "preprocess.air_px: " in text


@pytest.mark.parametrize("n_angles", [1, 5, 15])
def test_air_of_few_projections(n_angles):
    result = measure_air(rows(shadow(RODS), 2.0).sinograms[:, :n_angles])
    assert result.transmission == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    ("lines", "beam"),
    [
        (shadow([*RODS, (0, 0, 150, 0.8)]), 1.0),  # resin, 1.9 times as wide as the field
        (shadow([*RODS, (6, 3, 220, 0.8)]), 1.0),
        (shadow([*RODS, (4, 0, 79, 0.3), (4, 0, 76, -0.2)]), 1.0),  # a tube at the edges
        (shadow([*RODS, (0, 0, 90, 0.6)], 40), 1.0),  # air on one side
        (shadow(RODS), 0.8 - 0.2 * TIME),  # a beam that decays, from another exposure
        (shadow(RODS), 0.85 + 0.15 * np.cos(2 * np.pi * TIME)),  # one that comes back
        (shadow(RODS), 0.8 + 0.1 * np.linspace(-1, 1, N_COLS)),  # one that moved since the flats
        (np.full((N_ANGLES, N_COLS), 0.5), 1.0),  # no sample at all
    ],
    ids=["resin", "eccentric resin", "tube", "one side", "decay", "back", "moved", "empty"],
)
def test_what_is_not_certainly_air_is_not_measured(lines, beam):
    result = rows(lines, beam=beam)
    assert warn_of_air(result) == ([], False)
    assert measure_air(result.sinograms) is None


def test_no_rows_have_no_air():
    assert measure_air(np.zeros((0, 0, 0), np.float32)) is None
    assert measure_air(np.zeros((2, 5, 9), np.float32)) is None


@pytest.mark.parametrize("n_cols", [2, 3, 15])
def test_next_to_no_columns_have_no_air(n_cols):
    assert measure_air(np.ones((2, 40, n_cols), np.float32)) is None
