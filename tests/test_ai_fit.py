"""Learning: the losses know what is right, and a stopped training goes on as if it had not been."""

import numpy as np
import pytest
import torch
from ai_scans import COR_PX, inputs_of, rows_with, shape_of

from tomopipe.find.ai.batch import collate
from tomopipe.find.ai.fit import Schedule, fit, loss_of
from tomopipe.find.ai.model import judge, new_net
from tomopipe.find.ai.nets import KINDS_OF_NET, Scores


@pytest.fixture(scope="module")
def inputs():
    return inputs_of(rows_with())


def target_of(inputs):
    return float((COR_PX - inputs.cor_px[0]) / (inputs.cor_px[1] - inputs.cor_px[0]))


def scores(inputs, index, *, none=0.0, rivals_only=False):
    """What a network says that is sure of one place."""
    grid = torch.zeros(1, inputs.grid.shape[1])
    if index is not None:
        grid[0, index] = 12.0
    rival = torch.full((1, len(inputs.rival_index)), -5.0)
    rival[0, np.flatnonzero(inputs.rival_index == index)] = 12.0
    level = torch.zeros_like(grid)
    return Scores(grid, rival, torch.tensor([none]), level, level, rivals_only)


@pytest.mark.parametrize("rivals_only", [False, True])
def test_the_right_place_costs_least(inputs, rivals_only):
    batch, right = collate([inputs]), int(inputs.rival_index[0])
    wrong = int(inputs.rival_index[1])
    target = torch.tensor([target_of(inputs)])

    def cost(*said, **more):
        return float(loss_of(scores(inputs, *said, rivals_only=rivals_only, **more), batch, target))

    assert cost(right) < cost(wrong) - 3
    assert cost(right) < cost(right, none=20.0)


@pytest.mark.parametrize("rivals_only", [False, True])
def test_without_an_answer_none_costs_least(inputs, rivals_only):
    batch, target = collate([inputs]), torch.tensor([torch.nan])
    place = int(inputs.rival_index[0])
    sure = loss_of(scores(inputs, place, rivals_only=rivals_only), batch, target)
    none = loss_of(scores(inputs, None, none=20.0, rivals_only=rivals_only), batch, target)
    assert float(none) < 0.01 < float(sure)


@pytest.mark.parametrize("net", KINDS_OF_NET)
def test_a_network_learns_where_one_axis_is_and_goes_on_where_it_stopped(inputs, net, tmp_path):
    def batches(rng):
        return [([inputs, inputs], [target_of(inputs)] * 2)] * 5

    def train(epochs, state, seed=3):
        network = new_net(net, shape_of(inputs), seed)
        return fit(network, batches, Schedule(epochs, seed=1), state, lambda done, of: None)

    whole = judge(train(10, tmp_path / "whole.safetensors"), [inputs])[0]
    assert inputs.cor_px[whole.index] == pytest.approx(COR_PX, abs=1)
    assert whole.score[whole.index] > 0
    # stopped half way: the state of epoch 5 of a training of 10
    part = tmp_path / "part.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(new_net(net, shape_of(inputs), 3), batches, Schedule(10, seed=1), part, stop_after(5))
    again = judge(train(10, part, seed=9), [inputs])[0]
    np.testing.assert_allclose(again.score, whole.score, atol=1e-4)


def stop_after(epochs):
    def progress(done, of):
        if done > epochs:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_passes_leave_a_network_that_is_not_empty(inputs, epochs, tmp_path):
    network = new_net("A", shape_of(inputs), 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(
        network,
        lambda rng: [([inputs], [target_of(inputs)])],
        Schedule(epochs, rate=1e-5),
        tmp_path / "state.safetensors",
        lambda done, of: None,
    )
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-3, rtol=0)
