"""The comparison of networks: paired, on the scans where the evidence is in doubt."""

import numpy as np
import pytest
from ai_scans import COR_PX, inputs_of, rows_with

from tomopipe.find.ai.recipe import RECIPE
from tomopipe.find.combine import add_up
from tomopipe.find.curves import evidence_curves
from tomopipe.train.compare import (
    EVIDENCE,
    Row,
    bootstrap,
    evidence_judgement,
    evidence_sum,
    in_doubt,
    simplest,
    table,
)
from tomopipe.train.data import Example, deaf, target_of
from tomopipe.train.run import auroc
from tomopipe.train.stages import reconstruct
from tomopipe.train.work import Truth


@pytest.fixture(scope="module")
def example():
    inputs = inputs_of(rows_with())
    return Example(inputs, Truth("a", COR_PX), target_of(inputs, COR_PX))


def test_the_evidence_alone_is_the_sum_of_the_finders(example):
    curves = evidence_curves(rows_with(), reconstruct)
    np.testing.assert_allclose(evidence_sum(example.inputs), add_up(curves), atol=1e-5)
    chosen = evidence_judgement(example).index
    assert example.inputs.cor_px[chosen] == pytest.approx(COR_PX, abs=1)


def test_in_doubt_are_wrong_and_weak_scans(example):
    assert not in_doubt([example], np.array([0.2]))[0]
    assert in_doubt([example], np.array([1.2]))[0]
    inputs = example.inputs
    for kind in range(1, len(RECIPE.kinds)):
        inputs = deaf(inputs, kind)
    weak = Example(inputs, example.truth, example.target)
    assert in_doubt([weak], np.array([0.2]))[0]


def test_a_scan_deaf_to_a_kind_is_as_if_that_kind_had_seen_nothing(example):
    kind = RECIPE.kinds.index("wedge")
    n_kinds = len(RECIPE.kinds)
    inputs = deaf(example.inputs, kind)
    assert not inputs.grid[5 * kind : 5 * kind + 5].any()
    assert inputs.scan[kind - n_kinds] == 0
    assert not inputs.rival[:, kind].any()
    lost = (example.inputs.grid[-5] - inputs.grid[-5]) * 6
    np.testing.assert_allclose(lost, example.inputs.grid[5 * kind + 1], atol=1e-5)


def test_the_interval_covers_the_true_gain_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        gain = rng.choice([-1.0, 0.0, 1.0], size=150, p=[0.05, 0.75, 0.2])
        low, high = bootstrap(gain, seed)
        inside += low <= 0.15 <= high
    assert inside >= 52


def row(name, low):
    return Row(name, 0.9, 0.5, 0.8, low + 0.05, low, low + 0.1, None)


def test_the_simplest_that_is_surely_better_is_chosen():
    base = row(EVIDENCE, 0.0)
    assert simplest([base, row("logistic", -0.01), row("A", 0.02), row("A+B", 0.1)]) == "A"
    assert simplest([base, row("logistic", -0.01)]) == EVIDENCE
    text = table([base, row("A", 0.02)], 100, 40)
    assert "n = 100" in text
    assert "| A | 0.900 | 0.800 | 0.500 | +0.070 (+0.020 to +0.120) |  |" in text


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    right = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.4, 0.5, 0.1]), right) == 0.75
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), right) == 0.5
    assert auroc(np.ones(4), np.ones(4, bool)) is None
