"""Opposing lines: what stays in place is removed."""

import numpy as np

from tomopipe.cor.registration import remove_fixed


def test_a_fixed_pattern_is_removed_and_a_turning_one_kept():
    rng = np.random.default_rng(0)
    fixed, first, second = rng.normal(size=(3, 20, 200)).astype(np.float32)
    direct, flipped = remove_fixed(first + 3 * fixed, (second + 3 * fixed)[:, ::-1])
    assert abs(np.corrcoef(direct.ravel(), fixed.ravel())[0, 1]) < 0.6
    assert abs(np.corrcoef(direct.ravel(), flipped[:, ::-1].ravel())[0, 1]) < 0.3
    direct, flipped = remove_fixed(first, second[:, ::-1])
    np.testing.assert_array_equal(direct, first)
    np.testing.assert_array_equal(flipped, second[:, ::-1])
