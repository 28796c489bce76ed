"""Scans for training: shown deaf to a kind of evidence, and what their figures are made of."""

import numpy as np
import pytest
from ai_scans import COR_PX, inputs_of, rows_with
from tomopipe_lab.train.data import Example, augmented, deaf, target_of
from tomopipe_lab.train.work import Truth

from tomopipe.cor.ai.network import RECIPE


@pytest.fixture(scope="module")
def example():
    inputs = inputs_of(rows_with())
    return Example(inputs, Truth("a", COR_PX), target_of(inputs, COR_PX))


def test_a_scan_deaf_to_a_kind_is_as_if_that_kind_had_seen_nothing(example):
    kind = RECIPE.kinds.index("wedge")
    n_kinds = len(RECIPE.kinds)
    inputs = deaf(example.inputs, kind)
    assert not inputs.grid[5 * kind : 5 * kind + 5].any()
    assert inputs.scan[kind - n_kinds] == 0
    lost = (example.inputs.grid[-5] - inputs.grid[-5]) * 6
    np.testing.assert_allclose(lost, example.inputs.grid[5 * kind + 1], atol=1e-5)


def test_the_target_of_a_scan_shown_in_a_mirror_stays_at_its_axis(example):
    shown = [augmented(example, np.random.default_rng(seed)) for seed in range(20)]
    targets = {round(example.target, 3) for example in shown}
    assert targets == {round(t, 3) for t in (example.target, 254 - example.target)}
    for mirrored in shown:
        assert abs(np.argmax(mirrored.inputs.grid[-5]) - mirrored.target) <= 2
