"""Air, ring current and hardening: beams of known change."""

import numpy as np
import pytest

from tomopipe.errors import ScanError
from tomopipe.prep.intensity import (
    correct_hardening,
    current_factors,
    is_far_too_bright,
    normalise_to_air,
    warn_of_flats,
    warn_of_references,
)


def test_air_becomes_one_whatever_the_beam_does():
    random = np.random.default_rng(0)
    truth = np.ones((5, 3, 60))
    truth[:, :, 15:45] = random.uniform(0.2, 0.9, (5, 3, 30))
    left, right = random.uniform(0.7, 1.3, (2, 5, 3, 1))
    beam = left + (right - left) * np.linspace(0, 1, 60)
    corrected = normalise_to_air((truth * beam).astype(np.float32), 8)
    assert np.allclose(corrected, truth, atol=1e-6)


def test_rows_without_beam_stay():
    row = np.zeros((1, 2, 30), np.float32)
    row[0, 1] = 0.5
    corrected = normalise_to_air(row, 4)
    assert np.array_equal(corrected[0, 0], row[0, 0])
    assert np.allclose(corrected[0, 1], 1)


def test_ring_current():
    current = np.array([200.0, 198.0, 204.0])
    assert np.allclose(current_factors(current, 202.0), 202 / current)
    assert np.allclose(current_factors(current), current.mean() / current)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_no_ring_current_is_refused(value):
    with pytest.raises(ScanError, match="above 0"):
        current_factors(np.array([200.0, value]))


def test_hardening_of_two_energies():
    """A wedge seen with two energies: the polynomial fitted to it makes it straight."""
    thickness = np.linspace(0, 3, 50)
    measured = -np.log(0.5 * np.exp(-0.4 * thickness) + 0.5 * np.exp(-1.2 * thickness))
    powers = np.stack([measured, measured**2, measured**3], axis=1)
    coefficients = np.linalg.lstsq(powers, 0.8 * thickness, rcond=None)[0]
    corrected = correct_hardening(measured.astype(np.float32), coefficients.tolist())
    assert np.abs(corrected - 0.8 * thickness).max() < 0.01
    assert np.abs(measured - 0.8 * thickness).max() > 0.3
    assert corrected.dtype == np.float32


def test_hardening_is_the_polynomial():
    values = np.array([0.0, 0.5, 2.0], np.float32)
    expected = 1.5 * values - 0.25 * values**2 + 0.1 * values**3
    assert np.allclose(correct_hardening(values, [1.5, -0.25, 0.1]), expected, atol=1e-6)
    assert np.allclose(correct_hardening(values, [2.0]), 2 * values)


OFF, BEAM = 100.0, 30_000.0


def levels(*shares):
    return OFF + BEAM * np.array(shares, float)


@pytest.mark.parametrize(
    ("flats", "darks"),
    [
        ([1] * 10, [0] * 10),
        ([1], [0]),
        ([1] * 5 + [0.7] * 5, [0, 0]),  # a beam that decays
        ([1] * 50 + [0.68] * 10, [0]),
        ([1] * 10 + [0.68] * 50, [0]),
        ([1] * 10, [0.03] + [0] * 9),  # the afterglow of the scintillator
        ([1.0, 1.5, 0.9, 1.1], []),
        ([], [0, 0, 1]),
        ([0] * 10, [1] * 10),  # exchanged
        ([np.nan, 1, 1], [0]),
    ],
)
def test_sound_flats_and_darks_are_not_doubted(flats, darks):
    assert warn_of_references(levels(*flats), levels(*darks)) == []


def test_nor_are_the_darks_of_a_weak_beam_on_a_high_offset_that_drifts():
    assert warn_of_references(np.array([2060.0] * 5), np.array([2000, 2008.0, 2010])) == []
    assert warn_of_references(None, None) == []  # rows of an earlier version


@pytest.mark.parametrize(
    ("flats", "darks", "told"),
    [
        ([1] * 10, [0] * 4 + [1] + [0] * 5, ["1 of 10 darks is bright (number 5), up to 100 % "]),
        ([1] * 10, [0.3] + [0] * 9, ["1 of 10 darks is bright (number 1), up to 30 % "]),
        ([1] * 10, [1] * 3 + [0, 1] + [0] * 5, ["4 of 10 darks are bright (number 1 to 3, 5)"]),
        ([0] * 5 + [1] * 5, [0] * 10, ["5 of 10 flats are dark (number 1 to 5), down to 0 % "]),
        ([1, 0], [0, 0], ["1 of 2 flats is dark (number 2)"]),
        ([1] * 20 + [0.45], [0] * 10, ["1 of 21 flats is dark (number 21), down to 45 % "]),
        ([1, 1, 0], [], ["1 of 3 flats is dark"]),
        ([0] * 10 + [1] * 20, [1] * 10, ["10 of 10 darks are bright", "10 of 30 flats are dark"]),
    ],
)
def test_those_of_the_other_kind_are_told_with_their_numbers(flats, darks, told):
    found = warn_of_references(levels(*flats), levels(*darks))
    assert [text[: len(start)] for text, start in zip(found, told, strict=True)] == told


def lines(transmission, photons):
    """Line integrals of air, of as many photons."""
    noise = np.random.default_rng(0).poisson(photons, (5, 61, 128)) / photons
    return -np.log(np.clip(transmission * noise, 1e-5, None)).astype(np.float32)


def test_noise_fringes_and_a_beam_that_changes_are_not_far_too_bright():
    fringes = lines(1, 1e4)
    fringes[:, :, ::16] = -np.log(1.9)
    for found in (lines(1, 10), lines(1.2, 100), fringes, fringes[:, :, 1:4], fringes[:0]):
        assert not is_far_too_bright(found)
    assert is_far_too_bright(lines(1.5, 20))


def test_where_there_are_no_flats_line_integrals_are_asked_for():
    option = "(preprocess: {minus_log: false})"
    for flats in ([], [1.0, 1.0]):
        assert option in warn_of_flats(lines(2, 100), np.array(flats))[0]
    for known in (None, levels(1, 1)):
        assert option not in warn_of_flats(lines(2, 100), known)[0]
    assert warn_of_flats(lines(1, 100)) == []
