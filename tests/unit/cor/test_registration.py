"""Opposing lines: what stays in place is removed."""

import numpy as np
import pytest

from tomopipe.cor.registration import correlate, remove_fixed


def test_a_fixed_pattern_is_removed_and_a_turning_one_kept():
    rng = np.random.default_rng(0)
    fixed, first, second = rng.normal(size=(3, 20, 200)).astype(np.float32)
    direct, flipped = remove_fixed(first + 3 * fixed, (second + 3 * fixed)[:, ::-1])
    assert abs(np.corrcoef(direct.ravel(), fixed.ravel())[0, 1]) < 0.6
    assert abs(np.corrcoef(direct.ravel(), flipped[:, ::-1].ravel())[0, 1]) < 0.3
    direct, flipped = remove_fixed(first, second[:, ::-1])
    np.testing.assert_array_equal(direct, first)
    np.testing.assert_array_equal(flipped, second[:, ::-1])


@pytest.mark.parametrize("shift", [-60, -13, 0, 8, 71])
def test_correlation_is_that_of_the_overlap(shift):
    direct, flipped = np.random.default_rng(0).normal(size=(2, 6, 80)).astype(np.float32)
    low, high = max(0, shift), 80 + min(0, shift)
    left, right = direct[:, low:high], flipped[:, low - shift : high - shift]
    expected = np.array(
        [np.sum(left**2) / np.sum(direct**2), np.sum(right**2) / np.sum(flipped**2)]
    )
    found, share = correlate(direct, flipped, np.array([0, 0, 0, 1, 1, 1]))
    assert share[-1, 79 + shift] == pytest.approx(np.sqrt(expected.prod()), rel=1e-5)
    floor = 0.1 * (high - low) / 80
    product = np.sum(left * right) / np.sqrt(np.sum(direct**2) * np.sum(flipped**2))
    assert found[-1, 79 + shift] == pytest.approx(
        product / np.sqrt((expected + floor).prod()), abs=1e-5
    )
    assert np.abs(found).max() < 1
