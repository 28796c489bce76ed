"""Air, ring current and hardening: beams of known change."""

import numpy as np
import pytest

from tomopipe.errors import ScanError
from tomopipe.prep.intensity import correct_hardening, current_factors, normalise_to_air


def test_air_becomes_one_whatever_the_beam_does():
    random = np.random.default_rng(0)
    truth = np.ones((5, 3, 60))
    truth[:, :, 15:45] = random.uniform(0.2, 0.9, (5, 3, 30))
    left, right = random.uniform(0.7, 1.3, (2, 5, 3, 1))
    beam = left + (right - left) * np.linspace(0, 1, 60)
    corrected = normalise_to_air((truth * beam).astype(np.float32), 8)
    assert np.allclose(corrected, truth, atol=1e-6)


def test_air_is_the_published_line():
    """As tomopy.normalize_bg: the mean of the air on each side, and the line between them."""
    random = np.random.default_rng(1)
    row = random.uniform(0.5, 1, (1, 1, 30)).astype(np.float32)
    left, right = row[0, 0, :1].mean(), row[0, 0, -1:].mean()
    expected = row[0, 0] / (left + (right - left) * np.arange(30) / 29)
    assert np.allclose(normalise_to_air(row, 1)[0, 0], expected, rtol=1e-6)


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
